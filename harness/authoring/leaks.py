"""Leaks: the text of the solution or of a check, where the agent could read it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.authoring.edits import language_of
from harness.authoring.mutants import Change
from harness.authoring.packed import unpacked

_SHARE = 0.6
"""A file that holds so much of a secret's telling lines gives it away."""
_TELLING = 12
"""A shorter line tells nothing by itself."""
_TELLING_ALONE = 24
"""A secret of one line tells something only if it is as long as this."""
_BY_ITSELF, _BY_ITSELF_CHARS = 3, 60
"""A piece of code of so many telling lines, or characters, is no coincidence; of a shorter one what stands beside it in
the solution has to be there too."""
_LONG = 8
"""A piece of code as long as this may be written a little differently elsewhere, and tells all the same."""
_MARKS = re.compile(r"^[\s#/*+>|;-]+")
_REMARK = re.compile(r"\s*(?:#|//|/?\*+(?![\w,(\[{])|--|;)")
_COMMON = re.compile(
    r"(from\s+\S+\s+)?import\b|#include\b|(const|let|var)\s[^=]+=\s*require\("
    r"|(use|package|export|return|else|end|raise|pass|break|continue)\b.{0,28}$"
    r"|\w+(: [\w .|\[\]]+)?( ?= ?[\w.()]+)?,$|@[\w.]+|except\b|if __name__\b|def main\("
)
"""What many files have: what they need of others, what a call or a signature lists, and the frames of blocks."""
_NO_PROGRAM = frozenset({"text", "json", "toml", "settings"})


@dataclass(frozen=True)
class Secret:
    """Lines that the agent should not find: a hunk of the solution, or a file of `checks/`.

    `origin` says whose they are; `at_home` names the files of the repo that may have them: where they come from.
    `piece` is a hunk as one line, `ends` are its first and last line with what stands beside them.
    """

    origin: str
    lines: frozenset[str]
    at_home: frozenset[str] = frozenset()
    piece: str = ""
    ends: tuple[str, ...] = ()


def secrets_of_solution(changes: Mapping[str, Change]) -> list[Secret]:
    """The hunks that the solution adds. Code that it only moves stands in the files that it changes."""
    touched = frozenset(changes)
    found = []
    for change in changes.values():
        found += [
            Secret(f"solution's {change.path}", telling, touched, _flat(block), ends)
            for block, ends in _added_blocks(change)
            if (telling := _telling(block))
        ]
    return found


def secrets_of_checks(files: Mapping[str, bytes], starter: Mapping[str, bytes]) -> list[Secret]:
    """The files of `checks/`, without what the starter has in a file of that name, or as that file's next version.

    Tests that are moved are at home where they come from: in another of these files.
    """
    found = []
    replaced = frozenset(
        other for other in starter if any(f"/{name}".endswith(f"/{other}") for name in files)
    )
    for name, content in files.items():
        same_name = [other for other in starter if PurePosixPath(other).name == PurePosixPath(name).name]
        known = {_bare(line) for other in same_name for line in _lines(starter[other])}
        telling = _telling(line for line in _lines(content) if _bare(line) not in known)
        if telling:
            found.append(Secret(f"checks/{name}", telling, replaced.union(same_name)))
    return found


def found_in(secrets: Iterable[Secret], path: str, content: bytes) -> Iterator[Secret]:
    """The secrets that a file gives away; one where they are at home, only by its remarks."""
    written = [line for text in unpacked(content) for line in _lines(_unescaped(text))]
    text = _flat(written)
    remarks = _flat(line for line in written if _REMARK.match(line))
    is_program = language_of(path, text) not in _NO_PROGRAM
    for secret in secrets:
        if _has(remarks, secret) or (
            path not in secret.at_home
            and _has(text, secret)
            and not (is_program and _may_be_coincidence(text, secret))
        ):
            yield secret


def _has(text: str, secret: Secret) -> bool:
    """As part of a line, too: a sentence may say it all."""
    return sum(_flat([line]) in text for line in secret.lines) >= _SHARE * len(secret.lines)


def _may_be_coincidence(code: str, secret: Secret) -> bool:
    """True if code that has a secret's lines has them as much code has: one by one, or a line or two elsewhere."""
    if not secret.piece or len(secret.lines) >= _LONG:
        return False
    is_long = len(secret.lines) >= _BY_ITSELF or len(secret.piece) >= _BY_ITSELF_CHARS
    return not (secret.piece in code and (is_long or all(end in code for end in secret.ends)))


def _added_blocks(change: Change) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """Each with its first and last line as they stand beside what is around it."""
    old, new = _lines(change.before or b""), _lines(change.after or b"")
    for tag, _, _, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag in ("insert", "replace"):
            before = next((new[at] for at in range(start - 1, -1, -1) if new[at].strip()), "")
            after = next((new[at] for at in range(end, len(new)) if new[at].strip()), "")
            first, last = [before, new[start]], [new[end - 1], after]
            yield new[start:end], (_flat(first), _flat(last))


def _telling(lines: Iterable[str]) -> frozenset[str]:
    """The lines by which one would know a text again; none where they are too few."""
    found = {
        bare
        for line in lines
        if len(bare := _bare(line)) >= _TELLING
        and re.search(r"[A-Za-z]{3}", bare)
        and not _COMMON.match(bare)
    }
    return (
        frozenset(found)
        if len(found) > 1 or any(len(line) >= _TELLING_ALONE for line in found)
        else frozenset()
    )


def _bare(line: str) -> str:
    """A line without what would put it into a comment, a list, a quotation or a diff."""
    return _MARKS.sub("", line).rstrip()


def _flat(lines: Iterable[str]) -> str:
    """Lines as one, whatever room is between their words."""
    return " ".join(" ".join(_bare(line) for line in lines).split())


def _unescaped(content: bytes) -> bytes:
    """A text as it was before it was written into a string of JSON or of a program."""
    return content.replace(b"\\n", b"\n").replace(b'\\"', b'"')


def _lines(content: bytes) -> list[str]:
    return [] if b"\0" in content else content.decode("utf-8", "replace").splitlines()
