"""One place in a text changed, and the languages of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

_BY_SUFFIX = {
    ".py": "python",
    **dict.fromkeys((".js", ".mjs", ".cjs"), "javascript"),
    **dict.fromkeys((".ts", ".tsx", ".jsx", ".mts", ".cts"), "typescript"),
    **dict.fromkeys(
        (".go", ".rs", ".java", ".c", ".h", ".cc", ".cpp", ".cs", ".kt", ".swift", ".php"), "c-like"
    ),
    **dict.fromkeys((".sh", ".bash"), "shell"),
    ".rb": "ruby",
    ".pl": "perl",
    ".json": "json",
    ".toml": "toml",
    **dict.fromkeys((".yml", ".yaml", ".ini", ".cfg"), "settings"),
}
_BY_PROGRAM = {
    "python": "python",
    "node": "javascript",
    "bash": "shell",
    "sh": "shell",
    "ruby": "ruby",
    "perl": "perl",
}


@dataclass(frozen=True)
class Edit:
    """The text from `start` to `end` replaced; `line` (from 1) is where that begins."""

    start: int
    end: int
    text: str
    line: int
    how: str

    def apply(self, text: str) -> str:
        """The text with the edit."""
        return text[: self.start] + self.text + text[self.end :]


def language_of(path: str, text: str) -> str:
    """The language of a file, by its name or its first line; "text" for none that is known."""
    known = _BY_SUFFIX.get(PurePosixPath(path).suffix.lower())
    if known:
        return known
    first = text.partition("\n")[0]
    if first.startswith("#!"):
        for program, language in _BY_PROGRAM.items():
            if program in first:
                return language
    return "text"
