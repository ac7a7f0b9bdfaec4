"""One variant's numbers with their intervals: pass rate, score, and the mean of a skewed metric.

Pass rate. Trials of one task resemble each other, by an unknown correlation rho, and rates near 0 or 1 are skewed. So
the interval comes from the beta-binomial likelihood: task rates vary as Beta with mean mu, and rho is integrated out.
The prior is Jeffreys' for mu and Beta(1, 1/4) for rho. That leans to "tasks differ", the safe side when few tasks say
little about it. Where most tasks have shown both outcomes the t-interval over tasks is good too, and at few tasks it is
the sharper one. Then the part common to both is taken, with the t-interval at 4/5 of the error. If all tasks happen to
have the same rate, the t-interval would be a point, and is not used. With one trial for each task there is no
correlation to know, and the interval is the exact mid-P binomial one.

These are choices for coverage: benchmarks/stats_calibration.py measures it.

Skewed metrics (cost, tokens, time) have two values: the mean, which makes the bill, and the geometric mean, which the
comparison of variants uses. Both intervals take logarithms as normal, with tasks as a random effect. The mean's
interval is by MOVER (Zou, Huo and Taleban 2009, "Simple confidence intervals for lognormal means and their differences
with environmental applications", Environmetrics 20).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betainc, betaln, chdtri

from harness.stats.arrays import Floats, TaskMeans
from harness.stats.population import any_spread, t_half_width
from harness.stats.results import SAYS_NOTHING, WIDEST, Estimate, Interval

ONE_TASK = "one task only: nothing shows how much tasks differ"
_FEWEST_TASKS = 4
"""At three tasks the interval covers 86 to 91 % where rates pile up at 0 and 1."""
FEW_TASKS = "fewer than 4 tasks tell too little about others"
_GRID = (96, 16)


def rate(by_task: TaskMeans, level: float = 0.95) -> Estimate:
    """The mean over tasks of their pass rates (or scores from 0 to 1), each task weighing the same."""
    by_task = by_task.only(by_task.known)
    tasks, trials = by_task.n.size, int(by_task.n.sum())
    if tasks == 0:
        return Estimate(None, None, "no trial counts", 0, 0)
    value = round(float(by_task.mean.mean()), 12)
    if tasks < _FEWEST_TASKS:
        return Estimate(value, None, ONE_TASK if tasks == 1 else FEW_TASKS, tasks, trials)
    return Estimate(value, Interval(*rate_bounds(by_task, level), level), None, tasks, trials)


def rate_bounds(by_task: TaskMeans, level: float) -> tuple[float, float]:
    """The interval of `rate`, for two or more tasks that all have trials."""
    mean = float(by_task.mean.mean())
    if by_task.n.max() == 1:
        low, high = _mid_p(float(by_task.mean.sum()), by_task.n.size, level)
    else:
        low, high = _beta_binomial(*_counts(by_task), level)
    if _shows_both_outcomes(by_task) and any_spread(by_task.mean):
        reach = t_half_width(by_task.mean, 1 - 0.8 * (1 - level))
        low, high = max(low, mean - reach), min(high, mean + reach)
    return min(low, mean), max(high, mean)


def _shows_both_outcomes(by_task: TaskMeans) -> bool:
    """True if most tasks have both passed and failed, so that their rates do not pile up at 0 or 1."""
    fewest = min(np.count_nonzero(by_task.mean > 0), np.count_nonzero(by_task.mean < 1))
    return bool(fewest >= max(4, 0.7 * by_task.n.size))


def _mid_p(passes: float, n: int, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low = 0.0 if passes <= 0 else _solve_mid_p(passes, n, tail)
    high = 1.0 if passes >= n else _solve_mid_p(passes, n, 1 - tail)
    return low, high


def _solve_mid_p(passes: float, n: int, target: float) -> float:
    """The rate at which P(more than `passes`) + P(exactly `passes`) / 2 is `target`."""

    def exceeds(p: float) -> float:
        at_least = float(betainc(passes, n - passes + 1, p)) if passes > 0 else 1.0
        more = float(betainc(passes + 1, n - passes, p)) if passes < n else 0.0
        return (at_least + more) / 2

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if exceeds(middle) < target else (low, middle)
    return (low + high) / 2


def _counts(by_task: TaskMeans) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Distinct (passes, trials) with the number of tasks that have them.

    A score that is no whole number of passes is split between its two neighbours.
    """
    passes = np.clip(by_task.n * by_task.mean, 0, by_task.n)
    below = np.floor(passes + 1e-9)
    share = np.clip(passes - below, 0, 1)
    pairs = np.concatenate(
        [np.stack([below, by_task.n]), np.stack([np.minimum(below + 1, by_task.n), by_task.n])], 1
    )
    weights = np.concatenate([1 - share, share])
    pairs, weights = pairs[:, weights > 1e-9], weights[weights > 1e-9]
    distinct, place = np.unique(pairs, axis=1, return_inverse=True)
    tasks = np.bincount(place.ravel(), weights)
    return (
        tuple(distinct[0].astype(int).tolist()),
        tuple(distinct[1].astype(int).tolist()),
        tuple(tasks.tolist()),
    )


@lru_cache(maxsize=4096)
def _beta_binomial(
    passes: tuple[int, ...], trials: tuple[int, ...], tasks: tuple[float, ...], level: float
) -> tuple[float, float]:
    """The equal-tailed interval of mu. No passes at all leave the lower end at 0, no failures the upper at 1."""
    k, n, weight = (np.array(column, dtype=np.float64) for column in (passes, trials, tasks))
    box = ((0.0, 1.0), (0.0, 1.0))
    for _ in range(3):
        mass = _posterior(k, n, weight, box)
        smaller = _support(mass.sum(1), box[0]), _support(mass.sum(0), box[1])
        if all(
            inner[1] - inner[0] > 0.6 * (outer[1] - outer[0])
            for inner, outer in zip(smaller, box, strict=True)
        ):
            break
        box = smaller
    edges = np.linspace(*box[0], _GRID[0] + 1)
    below = np.concatenate([[0.0], np.cumsum(mass.sum(1))])
    low, high = (
        np.sin(np.pi / 2 * np.interp([(1 - level) / 2, (1 + level) / 2], below / below[-1], edges)) ** 2
    )
    return 0.0 if not k.any() else float(low), 1.0 if (k == n).all() else float(high)


def _posterior(k: Floats, n: Floats, weight: Floats, box: tuple[tuple[float, float], ...]) -> Floats:
    """The posterior's mass on a grid over `box`, where mu = sin^2(pi x / 2) and rho = sin^2(pi y / 2)."""
    x, y = (
        low + (high - low) * (np.arange(size) + 0.5) / size
        for (low, high), size in zip(box, _GRID, strict=True)
    )
    mu, rho = np.sin(np.pi / 2 * x)[:, None] ** 2, np.sin(np.pi / 2 * y)[None, :] ** 2
    a, b = mu * (1 / rho - 1), (1 - mu) * (1 / rho - 1)
    by_count = betaln(a[..., None] + k, b[..., None] + n - k)
    log_likelihood = by_count @ weight - weight.sum() * betaln(a, b)
    mass = np.exp(log_likelihood - log_likelihood.max()) * np.sqrt(rho) * (1 - rho) ** -0.25
    return np.asarray(mass / mass.sum())


def _support(mass: Floats, span: tuple[float, float]) -> tuple[float, float]:
    """The part of `span` that holds nearly all of the mass, and a cell more on each side."""
    cells = np.flatnonzero(mass > 1e-9 * mass.max())
    width = (span[1] - span[0]) / mass.size
    return max(0.0, span[0] + width * (cells[0] - 1)), min(1.0, span[0] + width * (cells[-1] + 2))


def skewed_mean(by_task: TaskMeans, logs: TaskMeans, level: float = 0.95) -> Estimate:
    """The mean over tasks of a positive metric. `logs` are the same values' logarithms."""
    return _skewed(by_task, logs, level, geometric=False)


def geometric_mean(by_task: TaskMeans, logs: TaskMeans, level: float = 0.95) -> Estimate:
    """The geometric mean (the median if the metric is log-normal). `logs` are the same values' logarithms."""
    return _skewed(by_task, logs, level, geometric=True)


def _skewed(by_task: TaskMeans, logs: TaskMeans, level: float, *, geometric: bool) -> Estimate:
    by_task = by_task.only(by_task.known)
    tasks, trials = by_task.n.size, int(by_task.n.sum())
    if tasks == 0:
        return Estimate(None, None, "no trial that counts has a known value", 0, 0)
    whole = int(logs.n.sum()) == trials
    logs = logs.only(logs.known)
    value: float | None = float(by_task.mean.mean())
    if geometric:
        value = float(np.exp(logs.mean.mean())) if whole else None
    reason = _why_no_interval(logs, whole)
    if reason is not None or value is None:
        return Estimate(value, None, reason, tasks, trials)
    reach = t_half_width(logs.mean, level)
    down, up = (reach, reach) if geometric else _lognormal_reach(logs, reach, level)
    if down + up > WIDEST:
        return Estimate(value, None, SAYS_NOTHING, tasks, trials)
    return Estimate(
        value, Interval(value * float(np.exp(-down)), value * float(np.exp(up)), level), None, tasks, trials
    )


def _why_no_interval(logs: TaskMeans, whole: bool) -> str | None:
    if not whole:
        return "some values are 0, and have no logarithm"
    if logs.n.size == 1:
        return ONE_TASK
    if not any_spread(logs.mean):
        return "all tasks have the same value: nothing shows how much tasks differ"
    return None


def _lognormal_reach(logs: TaskMeans, reach: float, level: float) -> tuple[float, float]:
    """The interval's sides for the logarithm of a lognormal mean: location and half the variance, by MOVER."""
    between = float(logs.mean.var(ddof=1))
    below, above = _variance_reach(between, logs.n.size - 1, level)
    repeated = logs.n >= 2
    freedom = int((logs.n[repeated] - 1).sum())
    if freedom:
        pooled = float((logs.within[repeated] * (logs.n[repeated] - 1)).sum()) / freedom
        within = pooled * float((1 - 1 / logs.n).mean())
        below_within, above_within = _variance_reach(within, freedom, level)
        below, above = np.hypot(below, below_within), np.hypot(above, above_within)
    return float(np.hypot(reach, below / 2)), float(np.hypot(reach, above / 2))


def _variance_reach(variance: float, freedom: int, level: float) -> tuple[float, float]:
    """The interval's sides, below and above the estimate of a normal sample's variance."""
    upper, lower = chdtri(freedom, (1 - level) / 2), chdtri(freedom, (1 + level) / 2)
    return variance * (1 - freedom / float(upper)), variance * (freedom / float(lower) - 1)
