"""The kinds of checks: files of `checks/`, commands, and tests. A new one is a class here, and a line in `KINDS`."""

from __future__ import annotations

import shlex
from dataclasses import replace

from harness.tasks.task import Check, Task
from harness.trials.check_plan import CheckKind, Ended, Plan, Verdict
from harness.trials.runners.tests_check import TestsCheck

_SCORE_BYTES = 100


class FileCheck:
    """A file of `checks/`."""

    def is_of(self, check: Check) -> bool:
        """True for the checks of this kind."""
        return check.file is not None

    def plan(self, check: Check, task: Task, home: str, token: str) -> Plan:
        """Its exit code decides."""
        return _plan_by_exit_code(f"exec ~/.harness/checks/{shlex.quote(check.file or '')}", home, token)


class CommandCheck:
    """A command of `[checks] run`."""

    def is_of(self, check: Check) -> bool:
        """True for the checks of this kind."""
        return check.command is not None

    def plan(self, check: Check, task: Task, home: str, token: str) -> Plan:
        """Its exit code decides."""
        return _plan_by_exit_code(check.command or "", home, token)


def _plan_by_exit_code(command: str, home: str, token: str) -> Plan:
    score = f"{home}/.harness/score-{token}"
    steps = f"export HARNESS_SCORE={shlex.quote(score)}"
    return Plan(command, _judge_exit_code, reports=score, report_bytes=_SCORE_BYTES, steps=steps)


def _judge_exit_code(ended: Ended) -> Verdict:
    text = (ended.report or b"").rstrip(b"\0").decode("utf-8", "replace").strip()
    return replace(judge_score(ended.exit_code, text), evidence={"score": text})


def judge_score(exit_code: int | None, text: str) -> Verdict:
    """The verdict on a check by its exit code, and what it wrote for a score."""
    passed = exit_code == 0
    if not text:
        return Verdict(passed, 1.0 if passed else 0.0)
    try:
        return Verdict(passed, _score(text))
    except ValueError as error:
        return Verdict(False, 0.0, str(error))


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"$HARNESS_SCORE holds {text!r}, not a number from 0 to 1")
    return value


KINDS: tuple[CheckKind, ...] = (FileCheck(), CommandCheck(), TestsCheck())


def plan_check(check: Check, task: Task, home: str, token: str) -> Plan:
    """How a check is run, as its kind says."""
    kind = next(kind for kind in KINDS if kind.is_of(check))
    return kind.plan(check, task, home, token)
