"""Mutants of a solution: the same files with one thing wrong, which checks that are sharp notice."""

from __future__ import annotations

import difflib
import hashlib
import json
import random
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import PurePosixPath

from harness.authoring import mutants_of_python, mutants_of_text
from harness.authoring.edits import Edit, language_of

ANOTHER_CONTENT = "the file has another content"
"""A mutant that checks which only ask whether there is a file do not notice."""


@dataclass(frozen=True)
class Change:
    """A solution's change of one file: its content before and after; None where there is none."""

    path: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Mutant:
    """A solution with one thing wrong: the content that a file gets (None: the file is gone).

    `turn` is the prompt after which the work that it is made of was carried; None: the last.
    """

    path: str
    how: str
    solved: bytes | None
    content: bytes | None
    turn: int | None = None

    @property
    def diff(self) -> str:
        """The mutation, as a diff from the solution."""
        return "".join(
            difflib.unified_diff(
                _lines(self.solved),
                _lines(self.content),
                f"solution/{self.path}",
                f"mutant/{self.path}",
                n=2,
            )
        )


def mutants(changes: Sequence[Change], *, seed: str) -> Iterator[Mutant]:
    """Mutants of a solution, the same ones in the same order for the same seed; most kinds and files come early."""
    files = [change for change in changes if change.before != change.after]
    code = [change for change in files if not is_prose(change.path)] or files
    undone = _unique(
        [
            *(one for change in files for one in (*_reverted(change), *_something_else(change))),
            *(one for change in code for one in _hunks_dropped(change)),
        ]
    )
    inside = [_shuffled(_unique(_changed_inside(change)), f"{seed} {change.path}") for change in code]
    mixed = _interleaved(inside)
    yield from _in_turns(undone, mixed)


def _in_turns(undone: Sequence[Mutant], mixed: Sequence[Mutant]) -> Iterator[Mutant]:
    """One of the first, one of the others: whoever takes the first N has some of both."""
    for pair in zip_longest(undone, mixed):
        yield from (one for one in pair if one)


def _interleaved(lists: Sequence[Sequence[Mutant]]) -> list[Mutant]:
    return [one for row in zip_longest(*lists) for one in row if one]


def _shuffled(found: list[Mutant], seed: str) -> list[Mutant]:
    random.Random(hashlib.sha256(seed.encode()).digest()).shuffle(found)
    return found


def _unique(found: Iterable[Mutant]) -> list[Mutant]:
    """Each content once, and none that means what the solution means, or does not parse."""
    seen: set[tuple[str, bytes | None]] = set()
    kept = []
    for mutant in found:
        key = (mutant.path, mutant.content)
        if key not in seen and _is_another_program(mutant):
            seen.add(key)
            kept.append(mutant)
    return kept


def _reverted(change: Change) -> Iterator[Mutant]:
    how = "the file is not there" if change.before is None else "the file as it was before"
    yield Mutant(change.path, how, change.after, change.before)


def _something_else(change: Change) -> Iterator[Mutant]:
    """A new file of which only the name is right."""
    if change.before is None and change.after and not _is_text(change.after):
        yield Mutant(change.path, ANOTHER_CONTENT, change.after, b"harness\n")
    elif change.before is None and change.after:
        language = language_of(change.path, change.after.decode())
        says = {"python": "pass\n", "json": '"harness"\n', "text": "harness\n"}.get(language)
        remark = "// harness\n" if language in ("javascript", "typescript", "c-like") else "# harness\n"
        yield Mutant(change.path, ANOTHER_CONTENT, change.after, (says or remark).encode())


def _hunks_dropped(change: Change) -> Iterator[Mutant]:
    if change.before is None or change.after is None or not (_is_text(change.before, change.after)):
        return
    old, new = _lines(change.before), _lines(change.after)
    blocks = [
        code
        for code in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if code[0] != "equal"
    ]
    if len(blocks) < 2:
        return  # it would be the file as it was before
    for _, old_start, old_end, new_start, new_end in blocks:
        text = "".join([*new[:new_start], *old[old_start:old_end], *new[new_end:]])
        yield Mutant(change.path, "a hunk is dropped", change.after, _bytes(text))


def _changed_inside(change: Change) -> Iterator[Mutant]:
    if change.after is None or not _is_text(change.after):
        return
    text = change.after.decode()
    touched = _touched_lines(change)
    in_test = is_test(change.path)
    if in_test:
        # Only lines that assert: a test seldom stands on all that it does before.
        lines = text.splitlines()
        touched = {line for line in touched if re.search(r"assert|expect|raises", lines[line - 1], re.I)}
    for edit in _edits(text, change.path):
        if edit.line in touched and not (in_test and _leaves_a_right_test(edit, text)):
            yield Mutant(change.path, edit.how, change.after, _bytes(edit.apply(text)))


def _leaves_a_right_test(edit: Edit, text: str) -> bool:
    """True for a test that asserts less, or that asserts the same with another name: no check can fail that."""
    is_text = not re.fullmatch(r"[\w.]+", text[edit.start : edit.end])
    return edit.how == "a statement is dropped" or (edit.how == "a constant is changed" and is_text)


def _edits(text: str, path: str) -> Iterable[Edit]:
    if language_of(path, text) == "python":
        return mutants_of_python.edits(text)
    return mutants_of_text.edits(text, language_of(path, text))


def _touched_lines(change: Change) -> set[int]:
    """The lines (from 1) that the solution has written."""
    assert change.after is not None, "there is a file"
    new = _lines(change.after)
    old = _lines(change.before)
    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return {line + 1 for tag, _, _, start, end in codes if tag != "equal" for line in range(start, end)}


def _is_another_program(mutant: Mutant) -> bool:
    if mutant.content is None or mutant.solved is None:
        return mutant.content != mutant.solved
    if not _is_text(mutant.content, mutant.solved):
        return mutant.content != mutant.solved
    solved, text = mutant.solved.decode(), mutant.content.decode()
    language = language_of(mutant.path, solved)
    if language == "python":
        return mutants_of_python.meaning(text) not in (None, mutants_of_python.meaning(solved))
    if not _parses(text, language):
        return False
    return mutants_of_text.meaning(text, language) != mutants_of_text.meaning(solved, language)


def _parses(text: str, language: str) -> bool:
    """False for data that cannot be read; of programs, their interpreter in the sandbox says so."""
    try:
        if language == "json":
            json.loads(text)
        elif language == "toml":
            tomllib.loads(text)
    except ValueError:
        return False
    return True


def syntax_command(path: str, content: bytes | None) -> str | None:
    """The command that tells, in a sandbox, whether a mutant parses; None where that is known or cannot be told."""
    if content is None or not _is_text(content):
        return None
    programs = {"javascript": "node --check", "shell": "bash -n", "ruby": "ruby -c", "perl": "perl -c"}
    program = programs.get(language_of(path, content.decode()))
    # Without the interpreter nobody can tell.
    return f"! command -v {program.split()[0]} >/dev/null || {program} {_quoted(path)}" if program else None


def _quoted(path: str) -> str:
    return "./'" + path.replace("'", "'\\''") + "'"


def at_turn(found: Iterable[Mutant], turn: int | None) -> Iterator[Mutant]:
    """The mutants, of the work that was carried after a turn."""
    return (replace(one, turn=turn) for one in found)


def judged_changes(changes: Mapping[str, Change], named: str) -> list[Change]:
    """The changes that checks are there to judge.

    Prose counts if the checks name it (`named` is their text), and tests that the solution adds to its code do not:
    nobody runs them.
    """
    code = [
        one for one in changes.values() if not is_prose(one.path) or PurePosixPath(one.path).name in named
    ]
    without_tests = [one for one in code if not is_test(one.path)]
    return sorted(without_tests or code, key=lambda one: one.path)


def is_prose(path: str) -> bool:
    """True for documents that people read."""
    return PurePosixPath(path).suffix.lower() in (".md", ".rst", ".adoc")


def is_test(path: str) -> bool:
    """True for a file that is, by its name, tests or part of them."""
    pure = PurePosixPath(path)
    stem = pure.stem.lower()
    in_tests = bool(
        {"test", "tests", "__tests__", "spec", "specs"} & {part.lower() for part in pure.parts[:-1]}
    )
    return (
        in_tests
        or stem.startswith("test_")
        or stem.endswith(("_test", ".test", ".spec", "_spec"))
        or stem in ("conftest",)
    )


def _is_text(*contents: bytes | None) -> bool:
    try:
        return all(b"\0" not in content and content.decode() is not None for content in contents if content)
    except UnicodeDecodeError:
        return False


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "replace").splitlines(keepends=True)


def _bytes(text: str) -> bytes:
    return text.encode()
