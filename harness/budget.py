"""`--max-cost`: what a run may spend, kept by not starting what could go beyond it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.history import History
from harness.record import TrialRecord, TrialSpec

DEFAULT_USD = 10.0
"""What a run may spend unless it is told otherwise."""
ASSUMED_USD = 0.50
"""What a trial is taken to cost while nothing is known: high, so that too few are started rather than too many."""

Spent = Callable[[], tuple[float, int]]
"""A running trial's known cost so far, and its tokens whose cost is not known yet."""


class NotStartedError(HarnessError):
    """A trial was not started, for the reason given: its test is skipped."""


@dataclass
class Budget:
    """Counts what ended trials cost, and of running ones what they have used or, if more, what they are expected to.

    `limit` None: there is none. `spent` begins with what a resumed run has spent already.
    """

    limit: float | None
    history: History
    spent: float = 0.0
    reached: str | None = None
    _running: dict[str, tuple[float, Spent]] = field(default_factory=dict)

    def admits(self, spec: TrialSpec) -> bool:
        """Whether a trial may start now; if not, ask again when one has ended.

        Raises:
            NotStartedError: when it may not start at all any more.
        """
        if self.limit is None:
            return True
        if self.reached:
            raise NotStartedError(self.reached)
        forecast = self.history.cost_usd(spec)
        if self.committed() + (ASSUMED_USD if forecast is None else forecast) <= self.limit:
            return True
        if self._running:
            return False
        if forecast is None and not self.spent:
            return True  # somebody must be the first; what it costs will be known then
        self.reached = self._reason(forecast)
        raise NotStartedError(self.reached)

    def started(self, spec: TrialSpec, spent: Spent) -> None:
        """A trial runs."""
        forecast = self.history.cost_usd(spec)
        self._running[spec.id] = (ASSUMED_USD if forecast is None else forecast, spent)

    def ended(self, spec_id: str, record: TrialRecord | None) -> None:
        """A trial has ended; one cut off counts with what its tokens are worth."""
        _, spent = self._running.pop(spec_id, (0.0, _nothing))
        if record is None:
            return
        known = record.total_cost_usd
        self.spent += known if known is not None and not record.tokens_partial else self._used(spent)
        if record.model_source == "api":
            self.history.learn(record)

    def committed(self) -> float:
        """US dollars that are spent or may be, when all that runs has ended."""
        return self.spent + sum(
            max(expected, self._used(spent)) for expected, spent in self._running.values()
        )

    def used(self) -> float:
        """US dollars that are spent by now, running trials included."""
        return self.spent + sum(self._used(spent) for _, spent in self._running.values())

    def _used(self, spent: Spent) -> float:
        cost, tokens = spent()
        return cost + (self.history.cost_of_tokens(tokens) or 0.0)

    def _reason(self, forecast: float | None) -> str:
        said = f"--max-cost {self.limit:g} is reached: {self.spent:.2f} USD are spent"
        if self.limit is not None and self.spent < self.limit:
            next_one = f"{forecast:.2f}" if forecast is not None else f"perhaps {ASSUMED_USD:.2f}"
            said += f", and the next trial would cost {next_one}"
        return said


def _nothing() -> tuple[float, int]:
    return 0.0, 0


def spent_before(records: Mapping[str, TrialRecord]) -> float:
    """What the records of a run that is resumed say was spent."""
    return sum(record.total_cost_usd or 0.0 for record in records.values())
