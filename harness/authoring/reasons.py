"""The reasons that checks give when nothing was done. They should miss the work, and not fail to look for it."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from harness.authoring.edits import language_of
from harness.authoring.findings import Finding
from harness.records.record_parts import CheckResult

_MISSING = (
    re.compile(r"No module named ['\"]?([\w.]+)"),
    re.compile(r"ImportError: cannot import name ['\"](\w+)['\"]"),
    re.compile(r"AttributeError: (?:module|type object) \S+ has no attribute ['\"](\w+)['\"]"),
    re.compile(r"Cannot find (?:module|package) ['\"]([^'\"]+)['\"]"),
    re.compile(r"does not provide an export named ['\"]?(\w+)"),
    re.compile(r"TypeError: (?:\S+\.)?(\w+) is not a (?:function|constructor)"),
    re.compile(r"can't open file ['\"]([^'\"]+)['\"]"),
    re.compile(r"Can't locate (\S+) in @INC"),
    re.compile(r"cannot load such file -- (\S+)"),
    re.compile(r"fatal error: (\S+): No such file or directory"),
    # A shell's own words, also of a command within a pipe.
    re.compile(
        r"^\S+: (?:line )?\d+: ([\w./-]+): (?:command not found|not found|No such file or directory)$", re.M
    ),
    re.compile(r"^\S+: (?:line )?\d+: \.: (?:cannot open |Can't open )?([\w./-]+)", re.M),
)
_NOT_FOUND = re.compile(r"(?:line \d+: |: )?([\w./-]+): (?:command not found|not found)\s*$", re.M)
_BROKEN = re.compile(r"^\s*(SyntaxError|IndentationError|TabError)\b.*", re.M)


def wrong_reason(result: CheckResult, prompts: str, made: Collection[str]) -> Finding | None:
    """The defect in the way in which a check fails, if there is one.

    `prompts` is all that the agent is told; `made` are names of files that only the solution brings. Who is told a
    name can be asked for it.
    """
    if result.timed_out:
        return _finding(result, "took too long and was stopped, so it asserted nothing")
    if result.exit_code is None:
        return _finding(result, "was killed, so it asserted nothing")
    text = result.output_tail
    if result.exit_code == 126:
        return _finding(result, f"could not be run: {_last_line(text)}")
    missing = _missing(result)
    if missing and not _is_told(missing, prompts):
        whose = (
            "which only the solution has and no prompt names: another right answer would fail, too"
            if _is_of_solution(missing, made)
            else "which is not there"
        )
        return _finding(result, f"needs {missing!r}, {whose}")
    broken = _BROKEN.search(text)
    if broken and not result.passed and "harness/checks" in text:
        return _finding(result, f"cannot be read: {broken.group().strip()}")
    return None


def _finding(result: CheckResult, what: str) -> Finding:
    remedy = "let it fail by an assertion that says what is missing"
    return Finding(
        "wrong_reason", f"with nothing done, check {result.name} {what}", remedy, check=result.name
    )


def _missing(result: CheckResult) -> str | None:
    """The name of what could not be found; the last one told is what ended it."""
    found = [match for pattern in _MISSING for match in pattern.finditer(result.output_tail)]
    if result.exit_code == 127:
        found += _NOT_FOUND.finditer(result.output_tail)
        if not found:
            return "a command"
    return str(max(found, key=lambda match: match.start()).group(1)) if found else None


def _is_told(name: str, prompts: str) -> bool:
    is_module = re.fullmatch(r"\w+(\.\w+)*", name) and language_of(name, "") == "text"
    words = {
        name,
        name.rpartition(".")[2] if is_module else "",
        PurePosixPath(name).name,
        PurePosixPath(name).stem,
    }
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", prompts) for word in words if word)


def _is_of_solution(name: str, made: Collection[str]) -> bool:
    path = name.replace(".", "/") if "/" not in name else name
    stems = {PurePosixPath(one).with_suffix("").as_posix() for one in made}
    return any(one.endswith((path, f"{path}/__init__")) for one in stems) or any(
        PurePosixPath(one).name == PurePosixPath(name).name for one in made
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
