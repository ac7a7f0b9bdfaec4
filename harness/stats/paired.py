"""A variant against the baseline, task by task: the difference over the tasks that both have.

Pass rate and score. The difference is the mean over tasks of the difference of their rates, in points. The t-interval
over the tasks' differences is right by itself where these are symmetric, as they are when there is no effect,
whatever the correlation. An effect on few tasks makes them skewed: the sample may lack the next task that goes from 0
to 1. So while at most `_MAX_SKEWED_TASKS` tasks differ, the interval's side with the longer tail reaches at least as
far as that of a second interval, which respects that rates end at 0 and 1. That one combines the intervals of the two
rates by MOVER, with the correlation of the tasks' rates (Zou and Donner 2008, "Construction of confidence limits about
effect measures", Statistics in Medicine 27; after Newcombe 1998). Where more tasks differ it would only make the
interval too wide.

Cost, tokens, duration, turns. The difference is the mean over tasks of the difference of their mean logarithms, that
is the ratio of geometric means, given as relative change. These metrics are skewed and tasks differ by factors. On the
logarithmic scale the t-interval is right at few tasks, an expensive task does not dominate the others, and swapping
the two variants gives the reciprocal. The mean of the logarithms has no bias from unequal numbers of trials; the
logarithm of the mean would have one.
"""

from __future__ import annotations

import numpy as np

from harness.stats.arrays import Floats, TaskMeans
from harness.stats.rates import NO_SPREAD, ONE_TASK, any_spread, rate_bounds, t_half_width
from harness.stats.results import Difference

_MAX_SKEWED_TASKS = 5
"""While at most so many tasks differ, and at most half of all, the t-interval of skewed differences is too short. Found
by simulation: of 30 tasks, 10 trials, 0.05 against 0.15, correlation 0.6, 4 gave a false `equivalent` in 5.8 +- 0.7 %,
and 10 a coverage of 99.3 %."""
NO_TASK = "no task has trials that count, with a known value, under both variants"


def difference(variant: TaskMeans, baseline: TaskMeans, *, relative: bool, level: float = 0.95) -> Difference:
    """Compare the task means of the same tasks; for a `relative` metric, those of the logarithms."""
    both = variant.known & baseline.known
    variant, baseline = variant.only(both), baseline.only(both)
    tasks = int(both.sum())
    if tasks == 0:
        return Difference(relative, 0, 0.0, level, None, reason=NO_TASK)
    by_task = variant.mean - baseline.mean
    center = float(by_task.mean())
    trials = 2 / float((1 / variant.n + 1 / baseline.n).mean())
    bounds: tuple[float, float] | None = None
    reason: str | None = None
    if tasks == 1:
        reason = ONE_TASK
    elif relative and not any_spread(by_task):
        reason = "all tasks differ by the same factor: nothing shows how much tasks differ"
    elif relative:
        reach = t_half_width(by_task, level)
        bounds = center - reach, center + reach
    else:
        bounds = _rate_difference(variant, baseline, by_task, level)
    low, high = bounds or (None, None)
    return Difference(
        relative, tasks, trials, level, center, low, high, reason, _within_task_variance(variant, baseline)
    )


def _within_task_variance(variant: TaskMeans, baseline: TaskMeans) -> float | None:
    """The mean over repeated tasks of the variance that their difference owes to the noise of trials."""
    repeated = (variant.n >= 2) & (baseline.n >= 2)
    if not repeated.any():
        return None
    variant, baseline = variant.only(repeated), baseline.only(repeated)
    return float((variant.within / variant.n + baseline.within / baseline.n).mean())


def _rate_difference(
    variant: TaskMeans, baseline: TaskMeans, by_task: Floats, level: float
) -> tuple[float, float]:
    if not by_task.any():
        return _no_task_differs(by_task.size, level)
    center = float(by_task.mean())
    if not any_spread(by_task):
        return _mover(variant, baseline, level, correlation=0.0)
    reach = t_half_width(by_task, level)
    differing = np.count_nonzero(by_task)
    if differing > min(_MAX_SKEWED_TASKS, by_task.size / 2):
        return center - reach, center + reach
    low, high = _mover(variant, baseline, level, _correlation(variant.mean, baseline.mean))
    tail = float(((by_task - center) ** 3).mean())
    if tail < -NO_SPREAD:
        return min(low, center - reach), center + reach
    if tail > NO_SPREAD:
        return center - reach, max(high, center + reach)
    return center - reach, center + reach


def _no_task_differs(tasks: int, level: float) -> tuple[float, float]:
    """The bounds of the mean difference when none of `tasks` tasks shows any.

    The mean is at most the share of tasks that show a difference, which has an exact binomial bound at 0 of `tasks`.
    """
    bound = 1 - float(((1 - level) / 2) ** (1 / tasks))
    return -bound, bound


def _mover(variant: TaskMeans, baseline: TaskMeans, level: float, correlation: float) -> tuple[float, float]:
    (low, high), (base_low, base_high) = rate_bounds(variant, level), rate_bounds(baseline, level)
    mean, base = float(variant.mean.mean()), float(baseline.mean.mean())
    down = _side(mean - low, base_high - base, correlation)
    up = _side(high - mean, base - base_low, correlation)
    return mean - base - down, mean - base + up


def _side(own: float, other: float, correlation: float) -> float:
    return float(np.sqrt(max(0.0, own**2 - 2 * correlation * own * other + other**2)))


def _correlation(a: Floats, b: Floats) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else 0.0
