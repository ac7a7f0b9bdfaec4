"""The power of a design: the smallest effect that it finds, and the size that would settle an open question."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import nctdtrinc, stdtrit

from harness.stats.results import POWER, Difference, Needed, Number

_MOST_TASKS = 100_000


def detectable(difference: Difference) -> Number:
    """The smallest true difference that would have been found (no change excluded) with power 0.8.

    In points of a rate, or for a relative metric as the smallest increase, 0.25 for 25 %; the decrease of the same
    power is 1 / 1.25.
    """
    error = _standard_error(difference)
    if error is None:
        return Number(None, difference.reason)
    effect = _reach(difference.tasks, difference.level, POWER) * error
    if difference.relative:
        return Number(float(np.expm1(effect)))
    if effect >= 1:
        return Number(None, "not even a difference of 100 points would have been found")
    return Number(effect)


def needed(difference: Difference, margin: float) -> Needed:
    """The size that would settle it. `margin` is on the scale of the difference (see `verdict.half_width`)."""
    error, center = _standard_error(difference), difference.center
    if error is None or center is None:
        return Needed(Number(None, difference.reason), Number(None, difference.reason))
    spread = error**2 * difference.tasks

    def settles(tasks: int, variance: float) -> bool:
        return _settles(abs(center), margin, tasks, difference.level, float(np.sqrt(variance / tasks)))

    return Needed(_needed_trials(difference, spread, settles), _needed_tasks(difference, spread, settles))


def _needed_tasks(difference: Difference, spread: float, settles: Callable[[int, float], bool]) -> Number:
    if not settles(_MOST_TASKS, spread):
        return Number(None, f"more than {_MOST_TASKS} tasks: the difference seen is too close to the margin")
    low, high = difference.tasks, _MOST_TASKS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle, spread) else (middle, high)
    return Number(high)


def _needed_trials(difference: Difference, spread: float, settles: Callable[[int, float], bool]) -> Number:
    if difference.within_task_variance is None:
        return Number(None, "no task was tried twice: how much its trials differ is unknown")
    within = min(difference.within_task_variance, spread)
    between = spread - within
    if not settles(difference.tasks, between + 1e-4 * within):
        return Number(None, "the tasks themselves differ too much: only more tasks would settle it")
    low, high = 0.0, 1e4
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if settles(difference.tasks, between + within / middle) else (middle, high)
    return Number(max(int(difference.trials) + 1, int(np.ceil(high * difference.trials))))


def _settles(effect: float, margin: float, tasks: int, level: float, error: float) -> bool:
    """True if a true `effect` leads to a verdict with power 0.8: by excluding 0, or by fitting in the margin."""
    if tasks < 2:
        return False
    found = effect >= _reach(tasks, level, POWER) * error
    # Both sides of the margin can be missed, so each gets half of what may fail.
    return found or margin - effect >= _reach(tasks, level, (1 + POWER) / 2) * error


def _reach(tasks: int, level: float, power: float) -> float:
    """The true difference, in standard errors, that a two-sided t-test finds with this power."""
    freedom = tasks - 1
    return float(nctdtrinc(freedom, 1 - power, stdtrit(freedom, (1 + level) / 2)))


def _standard_error(difference: Difference) -> float | None:
    """The error that the interval amounts to, by its longer side."""
    if difference.center is None or difference.low is None or difference.high is None:
        return None
    quantile = float(stdtrit(difference.tasks - 1, (1 + difference.level) / 2))
    return max(difference.high - difference.center, difference.center - difference.low) / quantile
