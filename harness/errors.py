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

A fault is raised with its kind and a message. `FAULTS`, the table below, says what follows from each kind.
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
    """The trial did not run with what its variant asks for. The outcome is `invalid` and counts for nobody."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__("; ".join(differences))
        self.differences = tuple(differences)


@dataclass(frozen=True)
class FaultPolicy:
    """The consequences of a fault.

    `retry`: a new attempt in a fresh sandbox may help. `fatal`: every other trial of the run would meet it too, so that
    nothing new should be started. `is_gone`: no call to this sandbox can succeed any more. `is_refusal`: the platform
    asks to be called less often.
    """

    retry: bool = False
    fatal: bool = False
    remedy: str | None = None
    is_gone: bool = False
    is_refusal: bool = False


GIVE_UP = FaultPolicy()
RETRY = FaultPolicy(retry=True)

FAULTS: Mapping[Cause, Mapping[str, FaultPolicy]] = {
    "sandbox": {
        # From errors of the SDK; `harness.sandboxes.faults` maps these to the kinds.
        "api_level": FaultPolicy(
            fatal=True,
            remedy="the e2b SDK from 2.51 on needs it: update the engine; `harness doctor` tries the rest",
        ),
        "auth": FaultPolicy(fatal=True, remedy="check E2B_API_KEY (and E2B_DOMAIN, E2B_API_URL)"),
        "build": GIVE_UP,
        "busy": RETRY,
        "connection": RETRY,
        "disk_full": GIVE_UP,
        "file_not_found": GIVE_UP,
        "git": GIVE_UP,
        "git_auth": GIVE_UP,
        "invalid_request": GIVE_UP,
        "not_found": GIVE_UP,
        "protocol": RETRY,
        "rate_limit": FaultPolicy(retry=True, remedy="lower --concurrency", is_refusal=True),
        "sandbox": RETRY,
        "sandbox_gone": FaultPolicy(retry=True, is_gone=True),
        "secret": GIVE_UP,
        "template": GIVE_UP,
        "timeout": RETRY,
        "unreachable": RETRY,
        "unresponsive": RETRY,
        "upload": RETRY,
        "volume": GIVE_UP,
        # From harness's own steps in a sandbox.
        "apply": RETRY,
        "checks": RETRY,
        "grade": RETRY,
        "prove": RETRY,
        "seed": RETRY,
        "trial_timeout": RETRY,
    },
    "provider": {
        "api_error": RETRY,
        "auth": FaultPolicy(fatal=True, remedy="check the model's key (ANTHROPIC_API_KEY or its kin)"),
        "bad_recording": FaultPolicy(remedy="name another run with --replay, or record the session again"),
        "bad_request": GIVE_UP,
        "no_recording": FaultPolicy(
            remedy="set a model key (ANTHROPIC_API_KEY), name a run with --replay, or give the task a replay.jsonl"
        ),
        "no_way": FaultPolicy(remedy='use "model" (the API alone), or run with --model-source replay'),
        "not_found": FaultPolicy(remedy="check the model's name"),
        "overloaded": RETRY,
        "rate_limit": FaultPolicy(retry=True, remedy="lower --concurrency"),
        "replay": FaultPolicy(remedy="a replay needs python3 (3.9 or later) in the template"),
        "silent": RETRY,
        "too_large": GIVE_UP,
    },
    "agent": {
        "did_not_start": GIVE_UP,
        "died": RETRY,
        "error_result": RETRY,
        "not_installed": FaultPolicy(remedy="use a template that has `claude`"),
    },
    "check": {
        "no_solution": FaultPolicy(remedy="add one, or leave the task out with -k"),
        "solution_failed": GIVE_UP,
    },
    "task": {
        "claude_version": GIVE_UP,
        "env": GIVE_UP,
        "repo_git": GIVE_UP,
        "repo_not_found": FaultPolicy(remedy="check the URL"),
        "repo_ref": FaultPolicy(remedy="give a tag, a branch, or all 40 digits of a commit's id"),
        "repo_refused": GIVE_UP,
        "repo_subdir": FaultPolicy(remedy="check [repo] subdir"),
        "repo_token": GIVE_UP,
        "repo_unreachable": RETRY,
        "setup_failed": GIVE_UP,
        "skipped": GIVE_UP,
        # Mostly a download, which may do better another time.
        "setup_timeout": FaultPolicy(
            retry=True, remedy="give it more with [setup] timeout, or put what it makes into the template"
        ),
        "test_setup": GIVE_UP,
        "template_build": FaultPolicy(remedy="its log says more"),
        "template_file": GIVE_UP,
    },
    "harness": {
        "bug": GIVE_UP,
        "disk": FaultPolicy(
            fatal=True, remedy="make room or choose another folder with --results, then run again"
        ),
        "interrupted": GIVE_UP,
        "killed": FaultPolicy(remedy="make room and write the report again"),
        "worker_died": RETRY,
    },
}
"""By cause and kind. Records carry both, so neither is renamed."""

_USERS_OWN: Mapping[Cause, frozenset[str]] = {
    "sandbox": frozenset({"auth", "git_auth", "secret", "template", "volume"}),
    "provider": frozenset({"auth", "bad_recording", "no_recording", "no_way", "not_found"}),
    "agent": frozenset({"not_installed"}),
    "check": frozenset({"no_solution", "solution_failed"}),
    "task": frozenset(FAULTS["task"]) - {"repo_refused", "repo_unreachable", "skipped"},
}


def is_users_own(cause: Cause, kind: str) -> bool:
    """Tell whether a fault is in what the user gave, such as a setup or a template's name: nothing broke then."""
    return kind in _USERS_OWN.get(cause, ())


class Fault(HarnessError):
    """Infrastructure broke: the trial's outcome is `error` and counts for nobody.

    `policy` takes the place of the table's row, and `remedy` that of its remedy, where they depend on the moment.

    Raises:
        KeyError: when the table has no row for the kind.
    """

    cause: ClassVar[Cause]

    def __init__(
        self, kind: str, message: str, *, policy: FaultPolicy | None = None, remedy: str | None = None
    ) -> None:
        self.kind = kind
        self.policy = policy or FAULTS[self.cause][kind]
        super().__init__(message, remedy=remedy or self.policy.remedy)

    @property
    def retry(self) -> bool:
        """A new attempt in a fresh sandbox may help."""
        return self.policy.retry

    @property
    def fatal(self) -> bool:
        """Every other trial of the run would meet it too."""
        return self.policy.fatal


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
    """A task cannot have what it needs before its agent starts, such as a repository to clone or its setup."""

    cause = "task"


class InternalFault(Fault):
    """A defect of harness, or of the machine it runs on (a full disk)."""

    cause = "harness"


FAULT_BY_CAUSE: Mapping[Cause, type[Fault]] = {
    kind.cause: kind
    for kind in (SandboxFault, ProviderFault, AgentFault, CheckFault, TaskFault, InternalFault)
}
