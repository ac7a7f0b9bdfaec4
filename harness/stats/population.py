"""A variant against the baseline on tasks like these: the tasks are the sample, and all else is in their spread.

Interval of a mean over tasks: the wider of Student's t and the means of subsets of the tasks (Hartigan 1969, "Using
subsample values as typical values", JASA 64), which is the exact sign-flip test turned into an interval. Both suppose
that the tasks' values lie evenly about their mean. At 95 % the second needs six tasks: with fewer there is no interval.

No interval from the data shows an effect on few tasks of which the sample has none. So `equivalent` also needs as many
tasks as bound the share of those unseen (`unseen`), and reports say below `ENOUGH_TASKS` that this is not promised.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from harness.stats.arrays import Floats, TaskMeans
from harness.stats.results import Difference

NO_SPREAD = 1e-12
"""The most that rounding leaves between numbers that are the same."""
_ALL_SUBSETS = 12
_SUBSETS = 4000


def too_few(tasks: int, level: float) -> str | None:
    """The reason why so many tasks have no interval at this level, None if they have."""
    fewest = next(number for number in range(2, 60) if _rank(number, level) >= 1)
    if tasks >= fewest:
        return None
    what = "one task" if tasks == 1 else f"{tasks} tasks"
    return f"{what}: fewer than {fewest} tell too little about others"


def _rank(tasks: int, level: float) -> int:
    return int((1 - level) / 2 * 2**tasks + 1e-9)


def mean_bounds(values: Floats, level: float) -> tuple[float, float]:
    """The interval of the mean of tasks' values, of which there are enough for the level."""
    center, reach = float(values.mean()), t_half_width(values, level)
    means = np.sort(_subsets(values.size) @ values / _subsets(values.size).sum(1))
    rank = max(1, int((1 - level) / 2 * (means.size + 1) + 1e-9))
    return min(center - reach, float(means[rank - 1])), max(center + reach, float(means[-rank]))


@lru_cache(maxsize=16)
def _subsets(tasks: int) -> Floats:
    """All subsets of few tasks, some at random of many; none is empty."""
    if tasks <= _ALL_SUBSETS:
        return ((np.arange(1, 2**tasks)[:, None] >> np.arange(tasks)) & 1).astype(np.float64)
    chosen = np.random.default_rng(tasks).random((_SUBSETS, tasks)) < 0.5
    return chosen[chosen.any(axis=1)].astype(np.float64)


def t_half_width(values: Floats, level: float) -> float:
    """Half the width of the t-interval for the mean of independent values."""
    quantile = float(stdtrit(values.size - 1, (1 + level) / 2))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(values.size))


def any_spread(values: Floats) -> bool:
    """True if values differ by more than rounding, so that they show how much tasks differ."""
    return float(values.std()) > NO_SPREAD * max(1.0, abs(float(values.mean())))


def unseen(tasks: int, level: float) -> float:
    """The largest share of tasks of which a sample may have none: the exact binomial bound at 0 of `tasks`."""
    return 1 - float(((1 - level) / 2) ** (1 / tasks))


def fewest_for(margin: float, level: float) -> int:
    """The fewest tasks of which the unseen share is below the margin."""
    return next((tasks for tasks in range(2, 100_000) if unseen(tasks, level) < margin), 100_000)


def rate_difference(variant: TaskMeans, baseline: TaskMeans, level: float) -> Difference:
    """The difference of pass rates or scores on tasks like these."""
    by_task = variant.mean - baseline.mean
    tasks, center = by_task.size, float(by_task.mean())
    trials = 2 / float((1 / variant.n + 1 / baseline.n).mean())
    found = Difference(False, tasks, trials, level, center)
    if reason := too_few(tasks, level):
        return found.without(reason)
    # A task that is none of those seen may differ by anything.
    hidden = unseen(tasks, level)
    least, most = center - hidden * (1 + center), center + hidden * (1 - center)
    if not any_spread(by_task):
        return found.with_bounds((least, most), (least, most))
    low, high = mean_bounds(by_task, 1 - 2 * (1 - level))
    return found.with_bounds(mean_bounds(by_task, level), (min(low, least), max(high, most)))
