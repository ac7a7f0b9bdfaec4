"""The cost and duration of the next trials, from the means of the earlier trials that are most like them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord

RUNS = 20
"""The number of runs that are read, from the last on."""


@dataclass
class Mean:
    """A mean that grows; `value` is None as long as nothing is known."""

    total: float = 0.0
    count: int = 0

    @property
    def value(self) -> float | None:
        """The mean so far."""
        return self.total / self.count if self.count else None

    def add(self, number: float | None) -> None:
        """Take a number into account; None says nothing."""
        if number is not None:
            self.total += number
            self.count += 1


@dataclass
class _Samples:
    """The trials of one task and variant, of one task, or all."""

    cost_usd: Mean = field(default_factory=Mean)
    seconds: Mean = field(default_factory=Mean)
    passed: int = 0
    trials: int = 0


@dataclass
class History:
    """Learns from records whose model was really asked; a replay tells what a replay takes, and no cost.

    A forecast is the mean over earlier trials of the same task and variant; where there are none, of the task;
    where there are none either, of all. Retried attempts are in it, with what they cost.
    """

    _kin: dict[tuple[str, ...], _Samples] = field(default_factory=dict)
    _tokens: float = 0.0
    _token_cost: float = 0.0

    def add(self, record: TrialRecord) -> None:
        """Take a record into account; one that was cut off tells nothing."""
        if record.outcome not in ("passed", "failed"):
            return
        for key in ((record.task, record.variant), (record.task,), ()):
            kin = self._kin.setdefault(key, _Samples())
            kin.cost_usd.add(record.total_cost_usd)
            kin.seconds.add(_seconds(record))
            kin.passed += record.outcome == "passed"
            kin.trials += 1
        if record.cost_usd is not None and record.tokens.total:
            self._tokens += record.tokens.total
            self._token_cost += record.cost_usd

    def cost_usd(self, task: str, variant: str) -> float | None:
        """The expected cost of a trial in US dollars; None: nothing is known."""
        return self._forecast(task, variant, "cost_usd")

    def seconds(self, task: str, variant: str) -> float | None:
        """The seconds for which a trial will hold its sandbox; None: nothing is known."""
        return self._forecast(task, variant, "seconds")

    def knows(self, task: str) -> bool:
        """True if there are earlier trials of the very task."""
        return (task,) in self._kin

    def passes(self, tasks: Iterable[str]) -> list[tuple[int, int]]:
        """The passes and trials of those tasks that were tried before."""
        found = [self._kin[(task,)] for task in tasks if (task,) in self._kin]
        return [(kin.passed, kin.trials) for kin in found]

    @property
    def trials(self) -> int:
        """The number of earlier trials."""
        return self._kin[()].seconds.count if () in self._kin else 0

    def cost_of_tokens(self, tokens: int) -> float | None:
        """The cost of so many tokens, at the mean price so far; None: nothing is known."""
        return tokens * self._token_cost / self._tokens if self._tokens else None

    def _forecast(self, task: str, variant: str, what: str) -> float | None:
        for key in ((task, variant), (task,), ()):
            kin = self._kin.get(key)
            mean: Mean | None = getattr(kin, what) if kin else None
            if mean and mean.value is not None:
                return mean.value
        return None


def _seconds(record: TrialRecord) -> float | None:
    total = record.phases_ms.total
    if total is None:
        return None
    return (total + sum(attempt.duration_ms or 0 for attempt in record.attempts)) / 1000


def read_history(results: Path, agent: str, model_source: str) -> History:
    """Read the last runs of the same agent and source of replies."""
    history = History()
    for run in list_runs(results)[-RUNS:]:
        try:
            records = read_records(run.path).records
        except UsageError:
            continue  # a run without a record tells nothing
        add_all(history, records, agent, model_source)
    return history


def add_all(history: History, records: Iterable[TrialRecord], agent: str, model_source: str) -> None:
    """Learn from those records that are of this agent and source."""
    for record in records:
        if (record.agent, record.model_source) == (agent, model_source):
            history.add(record)


def wall_seconds(seconds: Sequence[float], concurrency: int) -> float:
    """The seconds until trials are done that start in this order, so many at once."""
    ends: list[float] = []
    for length in seconds:
        start = heapq.heappop(ends) if len(ends) >= concurrency else 0.0
        heapq.heappush(ends, start + length)
    return max(ends, default=0.0)
