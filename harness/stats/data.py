"""Metrics, trials and looks: the values that go into the statistics. This module needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

MetricName = Literal[
    "pass", "score", "cost", "tokens", "duration", "start", "retry_wait", "mcp_wait", "turns"
]
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
WAITS: tuple[MetricName, ...] = ("start", "retry_wait", "mcp_wait")
"""Waits that a trial may not have had, or that older records do not tell."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, and the way in which it is compared.

    `relative` metrics (positive, skewed) are compared by ratio, the others (from 0 to 1) by difference. `margin`
    is the default for the smallest change worth speaking of: in points of the rate (0.05 is 5 points), or as a
    share of the baseline (0.1 is 10 %).
    """

    name: MetricName
    higher_is_better: bool
    relative: bool
    margin: float


METRICS: Mapping[MetricName, Metric] = {
    metric.name: metric
    for metric in (
        Metric("pass", higher_is_better=True, relative=False, margin=0.05),
        Metric("score", higher_is_better=True, relative=False, margin=0.05),
        Metric("cost", higher_is_better=False, relative=True, margin=0.1),
        Metric("tokens", higher_is_better=False, relative=True, margin=0.1),
        Metric("duration", higher_is_better=False, relative=True, margin=0.1),
        Metric("start", higher_is_better=False, relative=True, margin=0.1),
        Metric("retry_wait", higher_is_better=False, relative=True, margin=0.1),
        Metric("mcp_wait", higher_is_better=False, relative=True, margin=0.1),
        Metric("turns", higher_is_better=False, relative=True, margin=0.1),
    )
}


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of one task under one variant.

    `values` holds, for each metric, one value for each trial that counts (None: unknown): 0 or 1 for `pass`, 0 to
    1 for `score`, not negative for the others, in any unit. `errors` and `invalid` count the trials left out.
    """

    task: str
    variant: str
    values: Mapping[MetricName, Sequence[float | None]]
    errors: int = 0
    invalid: int = 0

    @property
    def excluded(self) -> int:
        """The trials that count for nobody."""
        return self.errors + self.invalid


_FIRST_LOOK = 3
"""The first look's round at the earliest: an earlier one finds little, and takes its share of the error."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Up to `rounds` rounds, fixed before the first: raising it later voids the error that was promised."""

    rounds: int
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"a plan needs at least one round, not {self.rounds}")

    @property
    def looks(self) -> tuple[int, ...]:
        """The rounds after which a verdict may be given."""
        looks = [self.rounds]
        while (half := -(-looks[0] // 2)) >= _FIRST_LOOK and half < looks[0]:
            looks.insert(0, half)
        return tuple(looks)
