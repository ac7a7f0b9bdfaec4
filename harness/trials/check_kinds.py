"""The kinds of checks: files of `checks/`, commands, and tests. A new one is a class here, and a line in `KINDS`."""

from __future__ import annotations

import shlex
from dataclasses import replace

from harness.tasks.task import Check, Task
from harness.trials.check_plan import CheckKind, CheckPlan, Ended, Verdict
from harness.trials.runners.tests_check import TestsCheck

_SCORE_NAME = 100
_SCORE_BYTES = 4_000


class FileCheck:
    """A file of `checks/`."""

    def is_of(self, check: Check) -> bool:
        """True for the checks of this kind."""
        return check.file is not None

    def plan(self, check: Check, task: Task, home: str, token: str) -> CheckPlan:
        """Its exit code decides."""
        return _plan_by_exit_code(f'exec "$HARNESS_CHECKS"/{shlex.quote(check.file or "")}', home, token)


class CommandCheck:
    """A command of `[checks] run`."""

    def is_of(self, check: Check) -> bool:
        """True for the checks of this kind."""
        return check.command is not None

    def plan(self, check: Check, task: Task, home: str, token: str) -> CheckPlan:
        """Its exit code decides."""
        return _plan_by_exit_code(check.command or "", home, token)


def _plan_by_exit_code(command: str, home: str, token: str) -> CheckPlan:
    score = f"{home}/.harness/score-{token}"
    steps = f"export HARNESS_SCORE={shlex.quote(score)}"
    return CheckPlan(command, _judge_exit_code, reports=score, report_bytes=_SCORE_BYTES, steps=steps)


def _judge_exit_code(ended: Ended) -> Verdict:
    text = (ended.report or b"").rstrip(b"\0").decode("utf-8", "replace").strip()
    return replace(judge_score(ended.exit_code, text), evidence={"score": text})


def judge_score(exit_code: int | None, text: str) -> Verdict:
    """The verdict on a check by its exit code, and what it wrote for a score."""
    passed = exit_code == 0
    if not text:
        return Verdict(passed, 1.0 if passed else 0.0)
    try:
        return _scored(passed, text)
    except ValueError as error:
        return Verdict(False, 0.0, str(error))


def _scored(passed: bool, text: str) -> Verdict:
    """A number, or lines `NAME = NUMBER` for several scores, of which the mean is the check's."""
    named: dict[str, float] = {}
    score: float | None = None
    for line in text.splitlines():
        name, equals, number = line.partition("=")
        if equals:
            named[name.strip()[:_SCORE_NAME]] = _number(number.strip(), text)
        elif line.strip():
            score = _number(line.strip(), text)
    mean = sum(named.values()) / len(named) if named else 0.0
    return Verdict(passed, score if score is not None else mean, scores=named)


def _number(word: str, text: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"$HARNESS_SCORE holds {text[:100]!r}, not a number from 0 to 1")
    return value


KINDS: tuple[CheckKind, ...] = (FileCheck(), CommandCheck(), TestsCheck())


def plan_check(check: Check, task: Task, home: str, token: str) -> CheckPlan:
    """Plan how a check is run, as its kind says."""
    kind = next(kind for kind in KINDS if kind.is_of(check))
    return kind.plan(check, task, home, token)
