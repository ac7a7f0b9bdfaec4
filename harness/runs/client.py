"""The door to a run's trials, the same in the process that runs them and in the workers of pytest-xdist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.errors import UsageError
    from harness.records.record import TrialRecord
    from harness.records.record_parts import AttemptRecord
    from harness.records.redaction import Redactor
    from harness.records.trial_spec import TrialSpec
    from harness.runs.request import RunRequest
    from harness.sandboxes.platform import Platform


@dataclass(frozen=True)
class RunAddress:
    """An open run, as another process of it needs to know it."""

    run_id: str
    results: Path
    platform: Platform


class RunClient(Protocol):
    """Asks for the trials of a run. `RunController` is one, and says what is raised; a worker of xdist has a proxy.

    An external trial is one that a test runs itself, through its fixtures. Its owner is the process of that test,
    which has one at a time.
    """

    def open(self, request: RunRequest) -> None:
        """Start what the run needs, once."""

    def refuse(self, error: UsageError) -> None:
        """Have the run end with this error before it starts."""

    def address(self) -> RunAddress:
        """Tell how another process joins the open run."""

    def note(self, text: str) -> None:
        """Have the run's header say this, once, however many processes find it."""

    def redactor(self) -> Redactor:
        """Give what takes the run's secrets out of whatever is shown or kept."""

    def start(self, specs: Sequence[TrialSpec]) -> None:
        """Have trials run ahead of those who ask for their results."""

    def result(self, spec: TrialSpec) -> TrialRecord:
        """Wait for a trial, which is started if it was not."""

    def has_record(self, spec: TrialSpec) -> bool:
        """Tell whether the run that is resumed has a valid record of a trial."""

    def expect_external(self, trials: Sequence[str]) -> None:
        """Tell the ids of external trials that will begin, so that what is left to do can be told."""

    def begin_external(self, owner: str, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """Wait until an external trial may start, and return the attempts at it that a resumed run has."""

    def report_external(self, owner: str, spent: tuple[float, int], doing: str) -> None:
        """Tell of the owner's external trial its known cost so far, its tokens whose cost is not known, its phase."""

    def end_external(self, owner: str, record: TrialRecord | None) -> None:
        """Tell that the owner's external trial, if any, has ended; without a record, its owner has died."""


METHODS = frozenset(name for name in vars(RunClient) if not name.startswith("_"))
"""The names that a worker may call."""
