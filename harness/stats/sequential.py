"""Looking again and again: levels that stay valid when trials are added until the verdict is settled.

A round is one more trial of every task under every variant compared. A group-sequential test looks at the last of the
planned rounds, at half as many, at a quarter, and so on down to three. So successive looks have much new data between
them, and each gets a large share of the error. With few tasks the t-distribution makes small shares costly: of 20
rounds, a look after each needs up to a quarter more trials for the same power. The error is spent in equal parts over
the looks (Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials", Biometrika 70). Each look gives a
repeated confidence interval (Jennison and Turnbull 1989, "Interim analyses: the repeated confidence interval approach",
JRSS B 51). All of them together hold the true difference with the planned confidence. So a verdict may be read from any
of them, and looking less often only errs on the safe side.

The bounds are those of Brownian motion, turned into levels for the intervals (the significance level approach of
Jennison and Turnbull 2000, "Group Sequential Methods"); about these tasks they are the levels of the exact test too.
For intervals about tasks like these there is more to it. With few tasks the spread over tasks
itself changes from look to look, which adds error. Simulation puts that at 0.8 ln(looks) / (tasks - 1) of the error,
and that much less is spent. Where an effect differs from task to task, looks resemble each other more than the bounds
assume, and the error is smaller. benchmarks/stats_calibration.py measures all this.

To use it: fix a RoundsPlan, and after each of its `looks` call `compare(..., plan=plan)`. A verdict once given stays:
end the trials of a variant that has one, and do not ask again for it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.special import ndtr, ndtri

from harness.stats.arrays import Floats
from harness.stats.data import RoundsPlan
from harness.stats.verdict import family_level

_GRID = 401


def level_at(plan: RoundsPlan, rounds: int, tasks: int | None = None, comparisons: int = 1) -> float:
    """The level of an interval after so many complete rounds.

    `tasks` is their number where they are the sample; None for an interval about these tasks only.

    A run may end between two looks for another reason. Its level is that of the next look, which is the safe side: its
    own bound would be lower, being nearer to the look before.
    Raises ValueError when the round is not planned, or there are fewer than two tasks.
    """
    if not 1 <= rounds <= plan.rounds:
        raise ValueError(f"round {rounds} is not one of the {plan.rounds} planned")
    if tasks is not None and tasks < 2:
        raise ValueError(f"looking again needs two tasks or more, not {tasks}")
    looks = plan.looks
    error = 1 - family_level(plan.level, comparisons)
    spent = error / (1 + (0.8 * float(np.log(len(looks))) / (tasks - 1) if tasks else 0.0))
    place = next(place for place, look in enumerate(looks) if look >= rounds)
    return 2 * float(ndtr(_boundary(looks, round(spent, 12))[place])) - 1


@lru_cache(maxsize=64)
def _boundary(looks: tuple[int, ...], error: float) -> tuple[float, ...]:
    """The two-sided bounds for the standardized sums of independent standard normals, equal error at each look.

    `looks` are the numbers of normals summed up. By recursion over the density of the sums that have not yet left
    the bounds (Armitage, McPherson and Rowe 1969).
    """
    part = error / len(looks)
    bounds = [-float(ndtri(part / 2))]
    # Sums are in units of the last step's standard deviation.
    scale = float(np.sqrt(looks[0]))
    sums, weights = _simpson(bounds[0])
    mass = weights * np.exp(-(sums**2) / 2) / np.sqrt(2 * np.pi)
    for before, look in pairwise(looks):
        step = float(np.sqrt(look - before))
        sums, scale = sums * scale / step, step
        limit = _leaves(sums, mass, part)
        bounds.append(limit * step / float(np.sqrt(look)))
        wider, weights = _simpson(limit)
        steps = np.exp(-((wider[:, None] - sums[None, :]) ** 2) / 2) / np.sqrt(2 * np.pi)
        sums, mass = wider, weights * (steps @ mass)
    return tuple(bounds)


def _leaves(sums: Floats, mass: Floats, part: float) -> float:
    """The limit beyond which the next sum lies with probability `part`."""
    low, high = 0.0, float(sums[-1]) + 12.0
    for _ in range(60):
        middle = (low + high) / 2
        outside = float((mass * (ndtr(sums - middle) + ndtr(-middle - sums))).sum())
        low, high = (middle, high) if outside > part else (low, middle)
    return (low + high) / 2


def _simpson(limit: float) -> tuple[Floats, Floats]:
    points = np.linspace(-limit, limit, _GRID)
    weights = np.where(np.arange(_GRID) % 2 == 1, 4.0, 2.0)
    weights[0] = weights[-1] = 1.0
    return points, weights * (points[1] - points[0]) / 3
