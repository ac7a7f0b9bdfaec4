"""The size that would settle an open question, and the smallest difference that a design finds.

What was seen is no truth: a point that noise made is no advice. So the truth is drawn from what the trials leave open
(assurance: O'Hagan, Stevens and Campbell 2005, "Assurance in clinical trial design", Pharmaceutical Statistics 4). The
range of the size is that of the sizes that 80 % of the draws would need by themselves.

A variant that does nothing needs most: an interval within the margin, and no prior knowledge rules it out after a small
pilot. So while that is likely at all (the Bayes factor of a point at 0 against a normal of `_EFFECTS`, and
`_ODDS_OF_NOTHING`), the size is what settles it. Only where it is not, the size is the least at which half of the draws
are settled: trials that left a difference open that is there have seen less of it than there is.

These numbers were chosen by simulation, on one half of the designs of benchmarks/stats_calibration.py, so that the
advised size settles neither too seldom nor always; the other half, and larger differences, tell how well it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, ndtr, ndtri, stdtrit

from harness.stats.arrays import Floats, TaskMeans
from harness.stats.results import POWER, Range

_DRAWS = 400
_EFFECTS = 0.15
"""The spread of what variants do that do something: in points of 1, or as a logarithm."""
_ODDS_OF_NOTHING = -1.0
"""The logarithm of the odds, beforehand, that a variant does nothing."""
_LIKELY = 0.2
"""From this probability on, that a variant does nothing has to be settled."""
_POWER_OF_NOTHING, _POWER_OF_DRAWS = 0.95, 0.5
"""The first is more than 0.8: some pilots of a variant that does nothing seem to show something, and get less."""
_SIZES = np.unique(
    np.rint(np.concatenate([np.arange(2, 100), np.geomspace(100, 10_000, 140)])).astype(np.int64)
)
Critical = Callable[[Floats, float], Floats]


@dataclass(frozen=True, slots=True)
class Draws:
    """Possible truths: effects, and the variance of the difference times the size (trials of a task, or tasks)."""

    effect: Floats
    unit: Floats
    critical: Critical


def normal(size: Floats, tail: float) -> Floats:
    """The quantile that a design of any size uses, where chance is in many trials."""
    return np.full(np.shape(size), float(-ndtri(tail)))


def student(size: Floats, tail: float) -> Floats:
    """The quantile where tasks are the sample."""
    return np.asarray(stdtrit(np.asarray(size, dtype=np.float64) - 1, 1 - tail))


def draws_of_rates(variant: TaskMeans, baseline: TaskMeans) -> Draws:
    """The rates of these tasks, by Jeffreys' posterior of each."""
    rng = np.random.default_rng(20)
    own, base = (
        rng.beta(arm.n * arm.mean + 0.5, arm.n * (1 - arm.mean) + 0.5, (_DRAWS, arm.n.size))
        for arm in (variant, baseline)
    )
    variance = (own * (1 - own) + base * (1 - base)).sum(1) / variant.n.size**2
    return Draws((own - base).mean(1), variance, normal)


def draws_of_mean(center: float, error: float, degrees: float, size: float, critical: Critical) -> Draws:
    """A mean with its standard error, as it was seen at a size."""
    rng = np.random.default_rng(21)
    variance = error**2 * degrees / rng.chisquare(degrees, _DRAWS)
    return Draws(center + np.sqrt(variance) * rng.standard_normal(_DRAWS), variance * size, critical)


def recommended_size(draws: Draws, margin: float, level: float, now: float, fewest: int = 2) -> Range:
    """The recommended size, and its range; `equivalent` not below `fewest`."""
    nothing, draws = _with_nothing(draws)
    sizes = _SIZES[now < _SIZES]
    error = np.sqrt(draws.unit[:, None] / sizes)
    tail = 1 - level
    wide, narrow = draws.critical(sizes, tail / 2) * error, draws.critical(sizes, tail) * error
    effect = draws.effect[:, None]
    step = np.maximum(error, 1e-12)
    # A difference of nothing, without any error, is none that was found.
    found = ndtr((effect - wide - 1e-9) / step) + ndtr((-effect - wide - 1e-9) / step)
    room = np.where(sizes >= fewest, margin - narrow, -1.0)
    inside = np.where(room > 0, ndtr((room - effect) / step) - ndtr((-room - effect) / step), 0.0)
    settled = np.where(room >= wide, 1.0, np.minimum(1.0, found + inside))
    enough = settled.mean(0) >= _POWER_OF_DRAWS
    if nothing > _LIKELY * _DRAWS:
        enough &= settled[:nothing].mean(0) >= _POWER_OF_NOTHING
    alone = settled >= POWER
    own = np.where(alone.any(1), sizes[alone.argmax(1)], 10 * _SIZES[-1])
    low, high = np.quantile(own, (0.1, 0.9), method="nearest")
    most = int(high) if high <= _SIZES[-1] else None
    if not enough.any():
        return Range(None, int(low) if low <= _SIZES[-1] else None, most, f"more than {_SIZES[-1]:,}")
    size = int(sizes[enough.argmax()])
    return Range(size, min(size, int(low)), None if most is None else max(size, most))


def _with_nothing(draws: Draws) -> tuple[int, Draws]:
    """The draws, the first so many of them at no effect as that is likely."""
    center, variance = float(draws.effect.mean()), max(float(draws.effect.var()), 1e-12)
    wider = variance + _EFFECTS**2
    log_odds = 0.5 * np.log(wider / variance) - center**2 / 2 * (1 / variance - 1 / wider)
    nothing = round(_DRAWS * float(expit(log_odds + _ODDS_OF_NOTHING)))
    return nothing, replace(draws, effect=np.where(np.arange(_DRAWS) < nothing, 0.0, draws.effect))


def smallest(draws: Draws, level: float, size: float) -> Range:
    """The smallest true difference that a design of this size finds in 80 of 100 runs."""
    reach = float(draws.critical(np.array([size]), (1 - level) / 2)[0]) + float(ndtri(POWER))
    effects = reach * np.sqrt(draws.unit / size)
    low, high = np.quantile(effects, (0.1, 0.9))
    return Range(float(np.mean(effects)), float(low), float(high))
