"""One trial to its one record: attempt after attempt, until one ends without an infrastructure fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.errors import Fault
from harness.records.record import AttemptRecord, TrialRecord, TrialSpec
from harness.trials.attempt import Attempt, trial_record
from harness.trials.context import RunContext
from harness.trials.trial import run_attempt


@dataclass(frozen=True)
class Retries:
    """How often a fault is answered by a new attempt, and how long to wait before: base * 2^k, with jitter."""

    limit: int = 2
    base_s: float = 1.0
    cap_s: float = 60.0

    def wait(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after attempt number `attempt` (from 1)."""
        return min(self.base_s * 2.0 ** (attempt - 1), self.cap_s) * (0.5 + draw())


@dataclass
class TrialRunner:
    """A trial that runs. `earlier` are attempts of a run that is resumed: they count in the record, not as retries."""

    spec: TrialSpec
    context: RunContext
    earlier: tuple[AttemptRecord, ...] = ()
    attempts: list[Attempt] = field(default_factory=list)

    async def run(self, retries: Retries) -> tuple[TrialRecord, Fault | None]:
        """Run it to its record, which is stored before this returns; a failed task is never tried again.

        When it is cancelled, what there is so far becomes the record, an error of type `interrupted`.
        Returns the fault behind an error, too.

        Raises:
            InternalFault: when the record cannot be stored.
            CancelledError: when it was cancelled before it had begun.
        """
        try:
            await self._attempts(retries)
        except asyncio.CancelledError:
            if not self.attempts:
                raise
        record = trial_record(self.spec, self.context, self.attempts, self.earlier)
        await self._store(record)
        return record, self.attempts[-1].fault

    async def _store(self, record: TrialRecord) -> None:
        """Append the record, to the end whatever happens."""
        storing = asyncio.ensure_future(self.context.disk.run(self.context.folder.prepare_append(record)))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            await storing

    async def _attempts(self, retries: Retries) -> None:
        while True:
            attempt = Attempt.begin(self.spec, self.context, len(self.earlier) + len(self.attempts) + 1)
            self.attempts.append(attempt)
            await run_attempt(self.spec, self.context, attempt)
            if not attempt.fault or not attempt.fault.retry or len(self.attempts) > retries.limit:
                return
            await asyncio.sleep(retries.wait(len(self.attempts)))
            attempt.archive_transcript()

    def spent(self) -> tuple[float, int]:
        """The known cost so far in US dollars, and the tokens whose cost is not known."""
        return spent_by(self.attempts)


def spent_by(attempts: Iterable[Attempt]) -> tuple[float, int]:
    """What attempts have cost so far in US dollars, as far as known, and their tokens whose cost is not."""
    cost, tokens = 0.0, 0
    for attempt in attempts:
        session = attempt.session
        if session.cost_usd is not None and not session.partial:
            cost += session.cost_usd
        else:
            tokens += session.tokens.total
    return cost, tokens
