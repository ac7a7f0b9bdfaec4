"""Patterns of files, as bash reads them with globstar and dotglob: one regular expression for Python and for find."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from harness.tasks.contents import files_in

_PARTS = re.compile(r"\*+|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)
_SPECIAL = frozenset("\\.^$*+?()[{|")
_WILDCARDS = re.compile(r"[*?[]")
_GOOD = re.compile(r"([^\\[\]]|\[[!^]?[A-Za-z0-9_.,+@-]+\])+")


def is_pattern(text: str) -> bool:
    """True for a pattern whose brackets hold letters, digits and `_.,+@-` alone, and that quotes nothing."""
    if not _GOOD.fullmatch(text):
        return False
    try:
        re.compile(glob_regex(text))
    except re.error:  # a range that ends before its start
        return False
    return True


def glob_regex(pattern: str) -> str:
    """A pattern as an expression for the whole of a relative path, in bytes.

    Python's `re` (with DOTALL) and the extended POSIX expressions of GNU find read it alike. `**` as a whole segment
    stands for any number of folders, as the last one for all that is below.
    """
    *folders, last = pattern.split("/")
    start = "".join("([^/]+/)*" if folder == "**" else f"{_segment(folder)}/" for folder in folders)
    return start + (".+" if last == "**" else _segment(last))


def any_glob_regex(patterns: Iterable[str]) -> str:
    """An expression for paths that one of the patterns fits."""
    return f"({'|'.join(glob_regex(pattern) for pattern in patterns)})"


def fixed_start(pattern: str) -> str:
    """A pattern up to its first wildcard."""
    found = _WILDCARDS.search(pattern)
    return pattern[: found.start()] if found else pattern


def _segment(segment: str) -> str:
    return "".join(_regex(part) for part in _PARTS.findall(segment))


def _regex(part: str) -> str:
    if part.startswith("*"):
        return "[^/]*"
    if part == "?":
        return "[^/]"
    if len(part) > 1:
        return f"[^/{part[2:]}" if part[1] in "!^" else part
    return f"\\{part}" if part in _SPECIAL else part


def matching_files(folder: Path, patterns: Iterable[str]) -> list[str]:
    """The files of a folder that one of the patterns fits, by relative path; links are files."""
    fits = re.compile(os.fsencode(any_glob_regex(patterns)), re.DOTALL)
    names = sorted(os.path.relpath(path, folder) for path in files_in(folder))
    return [name for name in names if fits.fullmatch(os.fsencode(name))]


def fits_stars(pattern: str, name: str) -> bool:
    """True if a name is what a pattern says, in which `*` is any text.

    No regular expression: names may be an agent's, made so that one takes hours.
    """
    first, *parts = pattern.split("*")
    if not parts or not name.startswith(first):
        return name == pattern
    *inner, last = parts
    at = len(first)
    for part in inner:
        at = name.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return name.endswith(last) and len(name) - len(last) >= at
