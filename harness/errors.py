"""The tree of errors. The type says whose fault it is, and with that what the harness does about it.

```
HarnessError                  anything that harness raises on purpose
├── UsageError                the user gave something that cannot be used: file, field, what, remedy
│   └── ProblemsError         several of them at once (a task folder, a variants file)
├── NotAppliedError           the variant is not what the trial ran with: outcome `invalid`
└── Fault                     something outside the measured agent broke: outcome `error`, never `failed`
    ├── SandboxFault          the sandbox or the way to it
    ├── ProviderFault         the model's API
    ├── AgentFault            Claude Code itself did not start or died
    ├── CheckFault            a check could not be run at all
    ├── TaskFault             what a task needs first (a repository, a template, its setup) cannot be had
    └── InternalFault         harness's own doing
```

A fault's `retry` says whether a new attempt in a fresh sandbox may help; `fatal` that every other trial of the
run would meet it too, so that nothing new should be started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Cause = Literal["agent", "sandbox", "provider", "check", "task", "harness"]


class HarnessError(Exception):
    """Base of all errors that harness raises on purpose."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # From process to process; pickle would call the type with the message alone.
        return _restored, (type(self), self.args, vars(self))


def _restored(type_: type[HarnessError], args: tuple[Any, ...], fields: Mapping[str, Any]) -> HarnessError:
    error = type_.__new__(type_, *args)
    vars(error).update(fields)
    return error


class UsageError(HarnessError):
    """Something the user gave (an option, a file, an environment variable) cannot be used."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file: where, what, and what would be right."""

    file: str
    field: str | None
    what: str
    remedy: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return f"{where}: {self.what}" + (f" ({self.remedy})" if self.remedy else "")


class ProblemsError(UsageError):
    """All problems of one task folder or one variants file, reported together."""

    def __init__(self, subject: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join([subject, *(f"  {problem}" for problem in problems)]))
        self.problems = tuple(problems)


class NotAppliedError(HarnessError):
    """What a trial ran with is not what its variant asks for: the outcome is `invalid` and counts for nobody."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__("; ".join(differences))
        self.differences = tuple(differences)


class Fault(HarnessError):
    """Infrastructure broke: the trial's outcome is `error` and counts for nobody."""

    cause: ClassVar[Cause] = "harness"

    def __init__(
        self, kind: str, message: str, *, retry: bool, fatal: bool = False, remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind
        self.retry = retry
        self.fatal = fatal


class SandboxFault(Fault):
    """The sandbox, its platform or the connection to it."""

    cause = "sandbox"


class ProviderFault(Fault):
    """The model's API refused, failed or fell silent."""

    cause = "provider"


class AgentFault(Fault):
    """Claude Code did not start, or died without a result."""

    cause = "agent"


class CheckFault(Fault):
    """A check or a solution could not be run at all (unlike one that ran and said no)."""

    cause = "check"


class TaskFault(Fault):
    """What a task needs before its agent can start, such as a repository to clone or its setup, cannot be had."""

    cause = "task"


class InternalFault(Fault):
    """A defect of harness, or of the machine it runs on (a full disk)."""

    cause = "harness"


FAULT_BY_CAUSE: Mapping[Cause, type[Fault]] = {
    kind.cause: kind
    for kind in (SandboxFault, ProviderFault, AgentFault, CheckFault, TaskFault, InternalFault)
}
