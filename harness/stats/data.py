"""Metrics, trials and looks: the values that go into the statistics. This module needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

MetricName = Literal[
    "pass",
    "score",
    "cost",
    "bill",
    "pass_cost",
    "tokens",
    "all_tokens",
    "duration",
    "all_duration",
    "start",
    "retry_wait",
    "mcp_wait",
    "turns",
]
Form = Literal["rate", "typical", "sum", "per_pass"]
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
WAITS: tuple[MetricName, ...] = ("start", "retry_wait", "mcp_wait")
"""Waits that a trial may not have had, or that older records do not tell."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, and the way in which it is compared.

    `form`: a rate (from 0 to 1) is compared by difference, the others (positive, skewed) by ratio: of the typical
    trial, of the sum over tasks, of the sum for each pass. `of` is the metric whose values it is made from. `margin`
    is the default for the smallest change worth speaking of: in points of the rate (0.05 is 5 points), or as a
    share of the baseline (0.1 is 10 %).
    """

    name: MetricName
    form: Form
    of: MetricName
    margin: float

    @property
    def relative(self) -> bool:
        """True if it is compared by ratio."""
        return self.form != "rate"

    @property
    def higher_is_better(self) -> bool:
        """True for rates; of all else, less is better."""
        return self.form == "rate"


METRICS: Mapping[MetricName, Metric] = {
    metric.name: metric
    for metric in (
        Metric("pass", "rate", "pass", 0.05),
        Metric("score", "rate", "score", 0.05),
        Metric("cost", "typical", "cost", 0.1),
        Metric("bill", "sum", "cost", 0.1),
        Metric("pass_cost", "per_pass", "cost", 0.1),
        Metric("tokens", "typical", "tokens", 0.1),
        Metric("all_tokens", "sum", "tokens", 0.1),
        Metric("duration", "typical", "duration", 0.1),
        Metric("all_duration", "sum", "duration", 0.1),
        Metric("start", "typical", "start", 0.1),
        Metric("retry_wait", "typical", "retry_wait", 0.1),
        Metric("mcp_wait", "typical", "mcp_wait", 0.1),
        Metric("turns", "typical", "turns", 0.1),
    )
}
MEASURED: tuple[MetricName, ...] = tuple(dict.fromkeys(metric.of for metric in METRICS.values()))
"""The metrics of which a trial has values of its own."""


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
class RoundsPlan:
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
