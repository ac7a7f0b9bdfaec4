"""The plan and the verdict of a check, as its kind makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.records.record_parts import TestVerdict
from harness.tasks.task import Check, Task


@dataclass(frozen=True)
class Ended:
    """A check all of whose processes have ended.

    `exit_code` is the one that the sandbox's daemon saw, None where it had to be stopped or was killed. `report` is
    what the check left in the files that its plan names, each ended by NUL; None without any.
    """

    exit_code: int | None
    report: bytes | None


@dataclass(frozen=True)
class Verdict:
    """The verdict of a check. `words` say what a reader of its output would not see there.

    `evidence` is what it was judged by beside the exit code, so that it can be judged again.
    """

    passed: bool
    score: float
    words: str = ""
    tests: tuple[TestVerdict, ...] | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckPlan:
    """The way in which a check is run, and judged then.

    `command` is for bash, in the repo, as are the `steps` before it, which put in place what it needs. `stdin` is what
    it reads. `reports` is a pattern of the files that are read when it has ended, up to `report_bytes` together.
    """

    command: str
    judge: Callable[[Ended], Verdict]
    reports: str = ""
    report_bytes: int = 0
    steps: str = "true"
    stdin: str = ""


class CheckKind(Protocol):
    """A kind of checks."""

    def is_of(self, check: Check) -> bool:
        """True for the checks of this kind."""

    def plan(self, check: Check, task: Task, home: str, token: str) -> CheckPlan:
        """Plan how a check is run. `token` is a word that nobody in the sandbox knows before; `home` is the user's."""
