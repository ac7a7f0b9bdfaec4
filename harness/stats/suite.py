"""A variant against the baseline on these very tasks: the tasks are fixed, and chance is in their trials only.

The difference is the mean over tasks of p_variant - p_baseline, each task weighing the same whatever its trials. That
tasks differ in what the variant does to them is part of the truth, and not noise.

Interval: the equal-weight stratified score interval (Miettinen and Nurminen 1985, "Comparative analysis of two rates",
Statistics in Medicine 4): all d with (D - d)^2 <= z^2 sum V(d) / K^2. V(d) is a task's variance at the rates that are
likeliest where they differ by d. It supposes that all tasks differ by the same d. Where they do not, and the arms have
unequal numbers of trials, that may be too little; so V is at least the plain estimate p(1-p)/(n-1) of both arms.

Test: exact permutation within tasks, with each task's number of passes fixed. A direction needs both: where only the
test fails, the interval is extended to no change, and is called exact.

Scores from 0 to 1 vary less than rates of the same mean: their variance is scaled by what was seen (quasi-binomial),
with Student's t in place of the normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np
from scipy.special import gammaln, ndtri, stdtrit

from harness.stats.arrays import Floats, Ints, TaskMeans
from harness.stats.results import Difference

FEWEST_FLIPS = 6
"""With one trial of a task only those count whose outcome flipped: five, all one way, have p = 2 / 2^5 = 0.0625."""
ONE_TRIAL = "one trial of each task, and fewer than six tasks flipped: chance alone could have done that"
_MOST_MIXED = 50
"""With more tasks of mixed outcomes the score interval needs no exact test beside it."""
_FINEST = 2520
"""The steps of the permutation's lattice for 100 points; a multiple of all numbers to 10."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Different 2 x 2 tables of tasks, with the number of tasks that have each. `x` are passes, or sums of scores.

    `scale` is the share of a rate's variance that the values show (1 for rates). The arrays' last axis is that of the
    tables; those before it are of data sets, for simulation.
    """

    x: Floats
    n: Floats
    base_x: Floats
    base_n: Floats
    times: Floats
    scale: float = 1.0

    @property
    def difference(self) -> Floats:
        """The mean over tasks."""
        by_table = (self.x / self.n - self.base_x / self.base_n) * self.times
        return np.asarray(by_table.sum(-1) / self.times.sum(-1))

    def error(self, d: Floats, observed: Floats) -> Floats:
        """The standard error of the difference, were it each of `d`, whose last axis is one of its own.

        `observed` is what `observed` says, which is the same for all of them.
        """
        variance = np.maximum(self.scale * self._score_variance(d[..., None]), observed[..., None, :])
        total = (variance * self.times[..., None, :]).sum(-1)
        return np.asarray(np.sqrt(total) / self.times.sum(-1)[..., None])

    def _score_variance(self, d: Floats) -> Floats:
        """Each table's variance at the likeliest rates that differ by `d`: the root of a cubic, in closed form."""
        x, n, base_x, base_n = (column[..., None, :] for column in (self.x, self.n, self.base_x, self.base_n))
        total, passes = n + base_n, x + base_x
        a = ((n + 2 * base_n) * d - total - passes) / (3 * total)
        b = ((base_n * d - total - 2 * base_x) * d + passes) / (3 * total)
        q = a**3 - 1.5 * a * b + base_x * d * (1 - d) / (2 * total)
        p = np.copysign(np.sqrt(np.maximum(a**2 - b, 0.0)), q)
        cube = p**3
        ratio = np.divide(q, cube, out=np.ones_like(q), where=cube != 0)
        base = 2 * p * np.cos((np.pi + np.arccos(np.clip(ratio, -1.0, 1.0))) / 3) - a
        base = np.clip(base, np.maximum(0.0, -d), np.minimum(1.0, 1 - d))
        own = np.clip(base + d, 0.0, 1.0)
        return np.asarray((own * (1 - own) / n + base * (1 - base) / base_n) * total / (total - 1))

    def observed(self) -> Floats:
        """Each table's variance by what was seen in it."""
        p, q = self.x / self.n, self.base_x / self.base_n
        own, base = _variance_of_mean(p, self.n, q), _variance_of_mean(q, self.base_n, p)
        return np.where((self.n == 1) & (self.base_n == 1), 0.0, self.scale * (own + base))


def _variance_of_mean(p: Floats, n: Floats, other: Floats) -> Floats:
    return np.where(n > 1, p * (1 - p) / np.maximum(n - 1, 1), (p - other) ** 2)


def tables_of(variant: TaskMeans, baseline: TaskMeans, scale: float = 1.0) -> Tables:
    """The different tables of tasks that both have."""
    sums = np.stack(
        [variant.n * variant.mean, variant.n, baseline.n * baseline.mean, baseline.n], dtype=np.float64
    )
    distinct, times = np.unique(np.round(sums, 9), axis=1, return_counts=True)
    x, n, base_x, base_n = distinct
    return Tables(x, n, base_x, base_n, times.astype(np.float64), scale)


def score_bounds(tables: Tables, quantiles: Sequence[float]) -> Floats:
    """For each quantile the lowest and the highest difference that the tables do not exclude, on the last two axes."""
    reach = np.repeat(np.asarray(quantiles, dtype=np.float64), 2)
    center = tables.difference[..., None]
    inside = np.broadcast_to(center, (*center.shape[:-1], reach.size)).copy()
    outside = np.broadcast_to(np.tile([-1.0, 1.0], len(quantiles)), inside.shape).copy()
    observed = tables.observed()
    # The search runs into the very end if that is not excluded.
    for _ in range(32):
        middle = (inside + outside) / 2
        excluded = np.abs(center - middle) > reach * tables.error(middle, observed)
        outside = np.where(excluded, middle, outside)
        inside = np.where(excluded, inside, middle)
    return outside.reshape(*inside.shape[:-1], -1, 2)


def permutation_p(tables: Tables) -> float:
    """The exact two-sided p-value: twice the smaller tail of all ways to deal out each task's passes to the arms.

    By the product of the tasks' characteristic functions on a lattice. Where the numbers of trials have no common one,
    values are rounded to it, and what lies within the rounding counts as at least as extreme.
    """
    passes, total = tables.x + tables.base_x, tables.n + tables.base_n
    mixed = (passes > 0) & (passes < total)
    if not mixed.any():
        return 1.0
    x, n, base_x, base_n = (
        column[mixed].astype(np.int64) for column in (tables.x, tables.n, tables.base_x, tables.base_n)
    )
    times = tables.times[mixed]
    steps = _lattice(np.concatenate([n, base_n]))
    reach = int(steps * times.sum()) + int(times.sum())
    size = 1 << int(2 * reach + 1).bit_length()
    frequencies = np.ones(size // 2 + 1, dtype=np.complex128)
    seen = 0
    for k, m, base_k, base_m, often in zip(x, n, base_x, base_n, times, strict=True):
        own = np.arange(max(0, k + base_k - base_m), min(m, k + base_k) + 1)
        weight = np.exp(_log_choose(m, own) + _log_choose(base_m, k + base_k - own))
        place = np.rint(steps * (own / m - (k + base_k - own) / base_m)).astype(np.int64)
        mass = np.bincount(place % size, weight / weight.sum(), minlength=size)
        frequencies *= np.fft.rfft(mass) ** often
        seen += int(often) * int(place[own == k][0])
    share = np.roll(np.fft.irfft(frequencies, size), size // 2)
    slack = 0 if all(steps % int(number) == 0 for number in np.concatenate([n, base_n])) else int(times.sum())
    at = seen + size // 2
    above, below = share[max(at - slack, 0) :].sum(), share[: at + slack + 1].sum()
    return float(min(1.0, max(0.0, 2 * min(above, below))))


def _lattice(numbers: Ints) -> int:
    """The steps for 100 points on which all shares of these numbers of trials lie, if they are not too many."""
    steps = 1
    for number in np.unique(numbers):
        steps = lcm(steps, int(number))
        if steps > _FINEST:
            return _FINEST
    return steps


def _log_choose(n: int, k: Ints) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def rate_difference(variant: TaskMeans, baseline: TaskMeans, level: float) -> Difference:
    """The difference of pass rates or scores on these tasks, which all have trials under both."""
    tasks, center = variant.n.size, float((variant.mean - baseline.mean).mean())
    trials = 2 / float((1 / variant.n + 1 / baseline.n).mean())
    found = Difference(False, tasks, trials, level, center)
    binary = is_binary(variant) and is_binary(baseline)
    once = variant.n.max() == 1 and baseline.n.max() == 1
    if once and (not binary or np.count_nonzero(variant.mean != baseline.mean) < FEWEST_FLIPS):
        return found.without(
            ONE_TRIAL if binary else "one trial of each task: nothing shows how much trials differ"
        )
    if binary:
        return _rates(tables_of(variant, baseline), found)
    return _scores(variant, baseline, found)


def _rates(tables: Tables, found: Difference) -> Difference:
    error = 1 - found.level
    (low, high), within = score_bounds(tables, [-ndtri(error / 2), -ndtri(error)]).tolist()
    mixed = (tables.x + tables.base_x > 0) & (tables.x + tables.base_x < tables.n + tables.base_n)
    if (low > 0 or high < 0) and tables.times[mixed].sum() <= _MOST_MIXED and permutation_p(tables) > error:
        return found.with_bounds((min(low, 0.0), max(high, 0.0)), within, exact=True)
    return found.with_bounds((low, high), within)


def _scores(variant: TaskMeans, baseline: TaskMeans, found: Difference) -> Difference:
    degrees = sum(float((arm.n[arm.n > 1] - 1).sum()) for arm in (variant, baseline))
    if degrees < 1:
        return found.without("one trial of each task: nothing shows how much trials differ")
    tables = tables_of(variant, baseline, _spread_of_scores(variant, baseline))
    error = 1 - found.level
    bounds, within = score_bounds(
        tables, [float(stdtrit(degrees, 1 - tail)) for tail in (error / 2, error)]
    ).tolist()
    return found.with_bounds(bounds, within)


def _spread_of_scores(variant: TaskMeans, baseline: TaskMeans) -> float:
    """The share of a rate's variance that scores show: at most 1, and 1 at fewer than three tasks."""
    if variant.n.size < 3:
        return 1.0
    seen = most = 0.0
    for arm in (variant, baseline):
        arm = arm.only(arm.n > 1)
        seen += float(arm.within.sum())
        most += float((arm.mean * (1 - arm.mean) * arm.n / (arm.n - 1)).sum())
    return min(1.0, seen / most) if most > 0 and seen > 0 else 1.0


def is_binary(arm: TaskMeans) -> bool:
    """True if all values were 0 or 1."""
    sums = arm.n * arm.mean
    if np.abs(sums - np.rint(sums)).max() > 1e-9:
        return False
    repeated = arm.only(arm.n > 1)
    expected = repeated.mean * (1 - repeated.mean) * repeated.n / np.maximum(repeated.n - 1, 1)
    return bool(np.allclose(np.nan_to_num(repeated.within, nan=-1.0), expected, atol=1e-9))
