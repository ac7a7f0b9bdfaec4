"""The numbers and verdicts that come out of the statistics. These are plain values: this module needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import expm1
from typing import Literal

from harness.stats.data import MetricName

Verdict = Literal["improvement", "regression", "equivalent", "inconclusive"]
Flip = Literal["gained", "lost"]

POWER = 0.8
"""The probability with which a design finds an effect that is called detectable, or needed trials settle a verdict."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, at a confidence `level` such as 0.95."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval. Where one of them is None, `reason` says why it could not be had."""

    value: float | None
    interval: Interval | None
    reason: str | None
    tasks: int
    trials: int


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or the reason why there is none."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant minus the baseline, over tasks.

    `center`, `low` and `high` are on the scale where the interval was made: points of a rate, or the logarithm of
    the ratio for a `relative` metric. `value` and `interval` are the numbers to show: points, or relative change
    (-0.2: 20 % less). Where one of them is None, `reason` says why it could not be had.

    `within_task_variance` is the part of one task's variance that comes from its trials' noise (None: no task was
    repeated). `trials` is the harmonic mean of the trials that a task has under each variant.
    """

    relative: bool
    tasks: int
    trials: float
    level: float
    center: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    within_task_variance: float | None = None

    @property
    def value(self) -> float | None:
        """Points of a rate, or the relative change."""
        return None if self.center is None else self._shown(self.center)

    @property
    def interval(self) -> Interval | None:
        """The interval of `value`."""
        if self.low is None or self.high is None:
            return None
        return Interval(self._shown(self.low), self._shown(self.high), self.level)

    def _shown(self, number: float) -> float:
        return expm1(number) if self.relative else min(1.0, max(-1.0, number))


@dataclass(frozen=True, slots=True)
class Needed:
    """The size at which a comparison is settled, with power `POWER`, if the true difference is the one seen.

    `trials` is the number of trials that each task then has under each variant, with the same tasks. `tasks` is the
    number of tasks, with the same trials for each. Both are totals, and either one suffices.
    """

    trials: Number
    tasks: Number


@dataclass(frozen=True, slots=True)
class AtK:
    """A mean over the tasks that have at least k trials. `value` is None when there is none, and `left_out`
    counts the others."""

    k: int
    value: float | None
    tasks: int
    left_out: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task under one variant. `passes` and `trials` leave out what does not count.

    `disagreement` is the unbiased estimate of how often two trials of the task differ (None below two trials).
    """

    task: str
    passes: int
    trials: int
    disagreement: float | None

    @property
    def flaky(self) -> bool:
        """Both passed and failed."""
        return 0 < self.passes < self.trials


@dataclass(frozen=True, slots=True)
class TaskFlip:
    """A task of which most trials passed under one variant and most failed under the other.

    `p_value` is Fisher's exact one for this task alone, two-sided; `established` says whether it stands at 5 % with
    all tasks corrected for (Holm). A flip that is not established may well be noise.
    """

    task: str
    flip: Flip
    p_value: float
    established: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric of one variant. `geometric_mean` is None for metrics that are not relative.

    `unknown` counts trials that count, but without a value of this metric.
    """

    mean: Estimate
    geometric_mean: Estimate | None
    unknown: int


@dataclass(frozen=True, slots=True)
class OneVariant:
    """A variant by itself. `errors` and `invalid` are the trials left out.

    `pass_at_k` and `pass_hat_k` are there for each k that at least one task has enough trials for.
    """

    name: str
    errors: int
    invalid: int
    metrics: Mapping[MetricName, Summary]
    pass_at_k: tuple[AtK, ...]
    pass_hat_k: tuple[AtK, ...]
    tasks: tuple[TaskResult, ...]


@dataclass(frozen=True, slots=True)
class IfExcluded:
    """The difference if the excluded trials had all gone against the variant, or all for it.

    Against it: its own excluded trials have failed, the baseline's have passed.
    """

    against: Difference
    verdict_against: Verdict
    favour: Difference
    verdict_favour: Verdict


@dataclass(frozen=True, slots=True)
class Contrast:
    """A variant against the baseline in one metric.

    `difference.interval` and `verdict` are corrected for `comparisons` variants compared at once. `margin` is in
    the units of `difference.value`. `if_excluded` is None where no trial was excluded, or where no bound exists,
    since the metric has no largest value. `needed` is None when the verdict is settled.
    """

    metric: MetricName
    variant: str
    baseline: str
    difference: Difference
    margin: float
    verdict: Verdict
    comparisons: int
    unpaired: int
    detectable: Number
    needed: Needed | None
    if_excluded: IfExcluded | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The statistics of all pairs. `flips` has an entry for each variant that was compared with a baseline."""

    level: float
    variants: tuple[OneVariant, ...]
    contrasts: tuple[Contrast, ...]
    flips: Mapping[str, tuple[TaskFlip, ...]]
