"""Trials that tests run themselves, in whatever process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InternalFault, UsageError
from harness.records.record import TrialRecord
from harness.records.record_parts import AttemptRecord
from harness.records.trial_spec import TrialSpec
from harness.runs.budget import NotStartedError
from harness.runs.engine import Engine
from harness.trials.attempt import Attempt
from harness.trials.runner import TrialRunner


@dataclass
class ExternalTrial:
    """A trial that a test runs itself.

    `spent` is its known cost so far, and its tokens whose cost is not known; `doing` its phase.
    """

    spec: TrialSpec
    earlier: Sequence[AttemptRecord]
    spent: tuple[float, int] = (0.0, 0)
    doing: str = ""


def record_orphan(external: ExternalTrial, engine: Engine) -> TrialRecord:
    """Store the record of a trial whose owner has died. Nothing is known of it but that.

    Raises:
        InternalFault: when it cannot be stored.
    """
    attempt = Attempt.begin(external.spec, engine.context, len(external.earlier) + 1)
    attempt.fault = InternalFault("worker_died", "the process that ran this test has died")
    attempt.end()
    trial = TrialRunner(external.spec, engine.context, tuple(external.earlier), [attempt])
    record = trial.record()
    engine.loop.call(trial.store(record))
    return record


def refuse_second(spec: TrialSpec, first: str | None, owner: str) -> None:
    """Raise an error where a trial has an owner already: there is one record of it in a run."""
    if first == owner:
        raise UsageError(
            f"{spec.id} was run already, and its record stands: a trial is not run again by running its test again",
            remedy="--trials N gives more trials; --retries N answers faults of the infrastructure",
        )
    if first is not None:
        raise NotStartedError("another worker runs this trial (--dist each)")
