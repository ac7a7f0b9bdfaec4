"""Patterns of files, as bash reads them with globstar and dotglob, for where there is no bash."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from harness.tasks.contents import files_in

_PARTS = re.compile(r"\*\*/|\*+|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)


def glob_regex(pattern: str) -> str:
    """A pattern as a regular expression for the whole of a relative path."""
    return "".join(_regex(part) for part in _PARTS.findall(pattern))


def _regex(part: str) -> str:
    if part == "**/":
        return "(?:[^/]+/)*"
    if part == "*":
        return "[^/]*"
    if part.startswith("*"):
        return ".*"
    if part == "?":
        return "[^/]"
    if len(part) > 1:
        negated = "^" if part[1] in "!^" else ""
        inside = part[1 + len(negated) : -1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[{negated}{inside}]"
    return re.escape(part)


def matching_files(folder: Path, patterns: Iterable[str]) -> list[str]:
    """The files of a folder that one of the patterns fits, by relative path; links are files."""
    fits = [re.compile(glob_regex(pattern)) for pattern in patterns]
    names = sorted(os.path.relpath(path, folder) for path in files_in(folder))
    return [name for name in names if any(one.fullmatch(name) for one in fits)]
