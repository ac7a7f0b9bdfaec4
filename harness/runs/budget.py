"""`--max-cost`: what a run may spend, kept by not starting what could go beyond it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.records.history import History
from harness.records.record import TrialRecord
from harness.records.trial_spec import TrialSpec

ASSUMED_USD = 0.50
"""The assumed cost of a trial while nothing is known. It is high: too few are started rather than too many."""
_REFRESH_S = 1.0

Spent = Callable[[], tuple[float, int]]
"""A running trial's known cost so far, and its tokens whose cost is not known yet."""


class NotStartedError(HarnessError):
    """A trial was not started, for the reason given. Its test is skipped."""


@dataclass
class _Running:
    """A running trial: what it was expected to cost, what it has used, and what it is counted with."""

    expected: float
    spent: Spent
    counted: float


@dataclass
class Budget:
    """Counts what ended trials cost, and of running ones what they have used or, if more, what they are expected to.

    `limit` None: there is none. `spent` begins with what a resumed run has spent already. `rejected` counts the trials
    that were not started for the money.
    """

    limit: float | None
    history: History
    spent: float = 0.0
    reached: str | None = None
    rejected: int = 0
    clock: Callable[[], float] = time.monotonic
    _running: dict[str, _Running] = field(default_factory=dict)
    _refreshed_at: float = -math.inf

    def can_start(self, spec: TrialSpec) -> bool:
        """Tell whether a trial may start now; if not, ask again when one has ended.

        Raises:
            NotStartedError: when it may not start at all any more.
        """
        if self.limit is None:
            return True
        if self.reached:
            self.rejected += 1
            raise NotStartedError(self.reached)
        expected, known = self._expected(spec)
        if self.committed_usd() + expected <= self.limit:
            return True
        if self._running:
            return False
        if not known and not self.spent:
            return True  # One trial must be the first. Its cost is known afterwards.
        self.reached = self._reason(expected, known=known)
        self.rejected += 1
        raise NotStartedError(self.reached)

    def started(self, spec: TrialSpec, spent: Spent) -> None:
        """Note that a trial runs."""
        expected, _ = self._expected(spec)
        self._running[spec.id] = _Running(expected, spent, expected)

    def ended(self, spec_id: str, record: TrialRecord | None) -> None:
        """Note that a trial has ended; one that was cut off counts with the worth of its tokens."""
        running = self._running.pop(spec_id)
        known = record.total_cost_usd if record and not record.tokens_partial else None
        self.spent += self._used(running) if known is None else known
        if record and record.model_source == "api":
            self.history.add(record)

    def committed_usd(self) -> float:
        """US dollars that are spent, or may be when all that runs has ended; refreshed once a second."""
        now = self.clock()
        if now >= self._refreshed_at + _REFRESH_S:
            self._refreshed_at = now
            for running in self._running.values():
                running.counted = max(running.expected, self._used(running))
        return self.spent + sum(running.counted for running in self._running.values())

    def used_usd(self, spec_id: str | None = None) -> float:
        """US dollars that a running trial has used so far, or the whole run; expectations do not count."""
        if spec_id is not None:
            running = self._running.get(spec_id)
            return self._used(running) if running else 0.0
        # Other threads ask this too, while trials start and end.
        return self.spent + sum(self._used(running) for running in list(self._running.values()))

    def _expected(self, spec: TrialSpec) -> tuple[float, bool]:
        """The expected cost of a trial, and whether earlier trials tell it."""
        forecast = self.history.cost_usd(spec.task.name, spec.variant.name)
        expected = ASSUMED_USD if forecast is None else forecast
        return min(expected, spec.task.limits.max_cost_usd or expected), forecast is not None

    def _used(self, running: _Running) -> float:
        cost, tokens = running.spent()
        return cost + (self.history.cost_of_tokens(tokens) or 0.0)

    def _reason(self, expected: float, *, known: bool) -> str:
        assert self.limit is not None
        text = f"--max-cost {self.limit:g} is reached: {self.spent:.2f} USD are spent"
        if self.spent < self.limit:
            text += f", and the next trial would cost {'' if known else 'perhaps '}{expected:.2f}"
        return text


def spent_before(records: Iterable[TrialRecord]) -> float:
    """US dollars that a run has spent by its records."""
    return sum(record.total_cost_usd or 0.0 for record in records)
