"""The numbers and verdicts that come out of the statistics. These are plain values: this module needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import expm1, log
from typing import Literal

from harness.stats.data import MetricName

Verdict = Literal["improvement", "regression", "equivalent", "inconclusive"]
Flip = Literal["gained", "lost"]
Question = Literal["suite", "population"]
"""What a verdict speaks of: these very tasks, or tasks like these."""

POWER = 0.8
"""The probability with which a design finds an effect that is called detectable, or needed trials settle a verdict."""

ENOUGH_TASKS = 30
"""With fewer tasks than this, an effect on a tenth of all tasks may well be missing from the sample."""


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
class Range:
    """A number to go by, and the ends between which it lies; None where an end, or the number, cannot be told.

    `reason` says why there is no number. A number without ends is exact.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


WIDEST = log(100)
SAYS_NOTHING = "the interval says nothing: its ends are more than a hundredfold apart"


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant minus the baseline, over tasks.

    `center`, `low` and `high` are on the scale where the interval was made: points of a rate, or the logarithm of
    the ratio for a `relative` metric. `value` and `interval` are the numbers to show: points, or relative change
    (-0.2: 20 % less). Where one of them is None, `reason` says why it could not be had. `within` are the bounds of two
    one-sided tests at the interval's error each. `exact`: the interval was extended to no change by an exact test.
    `trials` is the harmonic mean of the trials that a task has under each variant.
    """

    relative: bool
    tasks: int
    trials: float
    level: float
    center: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    within: tuple[float, float] | None = None
    exact: bool = False

    def without(self, reason: str) -> Difference:
        """The same without an interval, for a reason."""
        return replace(self, low=None, high=None, within=None, reason=reason)

    def with_bounds(
        self, bounds: tuple[float, float], within: tuple[float, float], *, exact: bool = False
    ) -> Difference:
        """The same with an interval, or the reason why it says nothing."""
        low, high = bounds
        within = within[0], within[1]
        if self.relative and high - low > WIDEST:
            return self.without(SAYS_NOTHING)
        if not self.relative and low <= -0.99 and high >= 0.99:
            return self.without("the interval says nothing: any difference at all may be true")
        return replace(self, low=low, high=high, within=within, exact=exact)

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
    """A task of which at least half of the trials passed under one variant and most failed under the other.

    `p_value` is Fisher's one-sided one with all tasks corrected for (step-down min-P); `established` says whether it
    stands. A task established as lost is broken. A flip that is not established may well be noise.
    """

    task: str
    flip: Flip
    p_value: float
    established: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric of one variant, with the interval about tasks like these.

    `unknown` counts trials that count, but without a value of this metric.
    """

    estimate: Estimate
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
class Answer:
    """A variant against the baseline in one metric, on these tasks or on tasks like these.

    `difference.interval` and `verdict` are corrected for all comparisons. `smallest` is the smallest true difference
    that the design finds, `needed` (None when the verdict is settled) the trials of each task, or the tasks, that would
    settle it. `if_excluded` is None where no trial was excluded, or where no bound exists, since the metric has no
    largest value.
    """

    difference: Difference
    verdict: Verdict
    smallest: Range
    needed: Range | None
    if_excluded: IfExcluded | None


@dataclass(frozen=True, slots=True)
class Contrast:
    """A variant against the baseline in one metric, by both questions.

    `margin` is in the units of a difference's value. `largest_share` is that of one task in a sum.
    """

    metric: MetricName
    variant: str
    baseline: str
    margin: float
    comparisons: int
    unpaired: int
    suite: Answer
    population: Answer
    largest_share: float | None = None

    @property
    def question(self) -> Question:
        """The question that is answered first: these tasks, if their trials allow it."""
        tasks_like_these_only = (
            self.suite.difference.low is None and self.population.difference.low is not None
        )
        return "population" if tasks_like_these_only else "suite"

    def by(self, question: Question) -> Answer:
        """The answer to one of the questions."""
        return self.suite if question == "suite" else self.population

    @property
    def difference(self) -> Difference:
        """That of the question answered first."""
        return self.by(self.question).difference

    @property
    def verdict(self) -> Verdict:
        """That of the question answered first."""
        return self.by(self.question).verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """The statistics of all pairs. `flips` has an entry for each variant that was compared with a baseline.

    `breakable` has the tasks that would be established as lost, had all excluded trials gone against the variant.
    """

    level: float
    variants: tuple[OneVariant, ...]
    contrasts: tuple[Contrast, ...]
    flips: Mapping[str, tuple[TaskFlip, ...]]
    breakable: Mapping[str, tuple[str, ...]]
