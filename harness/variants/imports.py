"""The files that a text of instructions imports (`@docs/guide.md`), as Claude Code's documentation says it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_IMPORT = re.compile(r"(?:^|(?<=[\s(*_\"']))@((?:[^\s\\@`]|\\ )+)", re.MULTILINE)
_NOT_READ = re.compile(
    r"^(?P<fence>`{3,}|~{3,}).*?(?:^(?P=fence)|\Z)|<!--.*?-->|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)",
    re.MULTILINE | re.DOTALL,
)
"""Code and comments, in which there are no imports."""
_INDENTED = re.compile(r"(?:\A|^[^\s*+\-\d>][^\n]*\n\s*?\n)(?:(?: {4}|\t)[^\n]*\n?)+", re.MULTILINE)
"""Code by its indent: after an empty line, and not below a list."""
_AFTER = ".,;:!?)*_\"'"
"""What may follow a name. Claude Code takes some of it for a part of the name, and loads nothing then."""
_TEXT = re.compile(r"\.(md|mdc|mdx|markdown|txt|rst|adoc|json|ya?ml|toml)$", re.IGNORECASE)
_SOURCE = re.compile(
    r"\.(py|[cm]?[jt]sx?|sh|go|rs|java|kt|rb|php|c|h|cc|cpp|hpp|cs|swift|sql|html|css|xml|ini|csv)$"
)
_FOLDER = re.compile(r"(\.{1,2}|~|docs?|src|lib|\.[a-z][\w-]*|)/")
_KNOWN = re.compile(r"(README|LICENSE|CHANGELOG|CONTRIBUTING|AGENTS|CLAUDE|Makefile|Dockerfile)$")


def imports_in(text: str) -> tuple[str, ...]:
    """The names as they are written, each once, without what is code, a comment, or no name of a file.

    `@types/node`, `@alice` and a mail's address are none: nothing but such a file's absence tells them from imports.
    """
    return tuple(dict.fromkeys(_names(_INDENTED.sub("\n", _NOT_READ.sub("", text)))))


def _names(text: str) -> Iterator[str]:
    for found in _IMPORT.findall(text):
        name = found.replace("\\ ", " ").partition("#")[0].rstrip(_AFTER)
        is_file = _TEXT.search(name) or ("/" in name and _SOURCE.search(name))
        if is_file or _FOLDER.match(name) or _KNOWN.match(name):
            yield name
