"""Text from an agent, without characters that steer a terminal or mislead a reader."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # an operating system command: titles, links
    r"|\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_SUSPECT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_BIDI = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def sanitize_json(text: str) -> str:
    """The text of a JSON document, with what steers a terminal or misleads a reader escaped: it means the same."""
    return _SUSPECT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def sanitize(text: str) -> str:
    """The text without control characters; those that turn its direction or end a line are written out (`\\u202e`).

    Escape sequences are removed whole, so that a terminal's colours leave nothing behind. Tabs and line ends stay.
    """
    if not _SUSPECT.search(text):
        return text
    return _BIDI.sub(lambda found: f"\\u{ord(found[0]):04x}", _CONTROL.sub("", text))
