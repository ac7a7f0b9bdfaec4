"""One trial to its one record: attempt after attempt, until one ends without an infrastructure fault."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import Fault
from harness.records.record import TrialRecord
from harness.records.record_parts import AttemptRecord
from harness.records.trial_spec import TrialSpec
from harness.trials.attempt import Attempt, trial_record
from harness.trials.context import RunContext
from harness.trials.trial import run_attempt


@dataclass(frozen=True)
class Retries:
    """The number of new attempts after a fault, and the wait before each: base * 2^k seconds, with jitter."""

    limit: int = 2
    base_s: float = 1.0
    cap_s: float = 60.0

    def wait(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after attempt number `attempt` (from 1)."""
        return min(self.base_s * 2.0 ** (attempt - 1), self.cap_s) * (0.5 + draw())


@dataclass
class TrialRunner:
    """A trial that runs, here or in a test's fixtures.

    `earlier` are attempts of a run that is resumed. They count in the record, but not as retries.
    """

    spec: TrialSpec
    context: RunContext
    earlier: tuple[AttemptRecord, ...] = ()
    attempts: list[Attempt] = field(default_factory=list)

    async def run(self, retries: Retries) -> tuple[TrialRecord, Fault | None]:
        """Run it to its record, which is stored before this returns; a failed task is never tried again.

        When it is cancelled, the attempts so far become the record, an error of type `interrupted`.
        Returns the fault behind an error, too.

        Raises:
            InternalFault: when the record cannot be stored.
            CancelledError: when it was cancelled before it had begun.
        """
        try:
            while attempt := await self.next_attempt(retries):
                await run_attempt(self.spec, self.context, attempt)
        except asyncio.CancelledError:
            if not self.attempts:
                raise
        record = self.record()
        await self.store(record)
        return record, self.attempts[-1].fault

    async def next_attempt(self, retries: Retries) -> Attempt | None:
        """Begin the first attempt, or after a wait another; None when the last one is not to be repeated."""
        if self.attempts:
            last = self.attempts[-1]
            if last.is_sandbox_lost and sum(attempt.is_sandbox_lost for attempt in self.attempts) > 1:
                last.judge_lost_sandbox(self.spec.task.checks)
            # Nothing is paid twice: the work is there, and grading it has its own tries.
            if (
                not last.fault
                or not last.fault.retry
                or last.is_collected
                or len(self.attempts) > retries.limit
            ):
                return None
            await asyncio.sleep(retries.wait(len(self.attempts)))
            last.archive_transcript()
        attempt = Attempt.begin(self.spec, self.context, len(self.earlier) + len(self.attempts) + 1)
        self.attempts.append(attempt)
        return attempt

    def record(self) -> TrialRecord:
        """The record that the attempts come to."""
        return trial_record(self.spec, self.context, self.attempts, self.earlier)

    async def store(self, record: TrialRecord) -> None:
        """Append the record to the run's. A cancellation waits until that is done.

        Raises:
            InternalFault: when it cannot be stored.
        """
        storing = asyncio.ensure_future(self._store(record))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            await storing

    async def _store(self, record: TrialRecord) -> None:
        folder, disk = self.context.folder, self.context.disk
        await disk.run(functools.partial(folder.write_copy, record))
        await disk.run(folder.prepare_append(record))

    @property
    def doing(self) -> str:
        """The phase that it is in, in a word or two."""
        return self.attempts[-1].doing if self.attempts else ""

    def spent(self) -> tuple[float, int]:
        """The known cost so far in US dollars, and the tokens whose cost is not known."""
        cost, tokens = 0.0, 0
        for attempt in self.attempts:
            session = attempt.session
            # Also by a price that Claude Code has guessed: a limit is better kept by that than by nothing.
            if session.cost_usd is not None:
                cost += session.cost_usd
            else:
                tokens += session.tokens.total
        return cost, tokens
