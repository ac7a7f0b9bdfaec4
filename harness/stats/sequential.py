"""Looking again and again: levels that stay valid when trials are added until the verdict is settled.

A group-sequential test with one look for each round, a round being one more trial of every task under every variant
compared. The error is spent in equal parts over the planned rounds (Lan and DeMets 1983, "Discrete sequential
boundaries for clinical trials", Biometrika 70; the power family of Kim and DeMets 1987 with exponent 1, which stops
early like Pocock's bounds). Each look gives a repeated confidence interval (Jennison and Turnbull 1989, "Interim
analyses: the repeated confidence interval approach", JRSS B 51): all of them together hold the true difference with
the planned confidence, so a verdict may be read from any of them, and looking less often only errs on the safe side.

The bounds are those of Brownian motion, turned into levels for the t-intervals over tasks (the significance level
approach for t-tests of Jennison and Turnbull 2000, "Group Sequential Methods"). With few tasks the spread over tasks
itself changes from look to look, which adds error; simulation puts that at 0.8 ln(rounds) / (tasks - 1) of it, and
that much less is spent. Where an effect differs from task to task, looks resemble each other more than the bounds
assume, and the error is smaller. benchmarks/stats_calibration.py measures all this.

A group-sequential test rather than an e-process: its intervals are the same as those of the report, about tasks as
clusters. An e-process over trials would have to speak about these tasks only.

How to run it: fix a Plan, and after each round ask `compare(..., plan=plan).undecided(metric)`. A verdict once given
stays: end the trials of a variant that has one, and do not ask again for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

from harness.stats.data import Floats
from harness.stats.verdict import family_level

_GRID = 401


@dataclass(frozen=True, slots=True)
class Plan:
    """Up to `rounds` rounds, fixed before the first: raising it later voids the error that was promised."""

    rounds: int
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"a plan needs at least one round, not {self.rounds}")

    def level_at(self, look: int, tasks: int, comparisons: int = 1) -> float:
        """The level of an interval after `look` complete rounds, with this many tasks and comparisons.

        Raises ValueError when the look is not planned, or there are fewer than two tasks.
        """
        if not 1 <= look <= self.rounds:
            raise ValueError(f"look {look} is not one of the {self.rounds} planned")
        if tasks < 2:
            raise ValueError(f"looking again needs two tasks or more, not {tasks}")
        error = 1 - family_level(self.level, comparisons)
        spent = error / (1 + 0.8 * float(np.log(self.rounds)) / (tasks - 1))
        return 2 * float(ndtr(_boundary(self.rounds, round(spent, 12))[look - 1])) - 1


@lru_cache(maxsize=64)
def _boundary(looks: int, error: float) -> tuple[float, ...]:
    """The two-sided bounds for the standardized sum of independent standard normals, equal error at each look.

    By recursion over the density of the sums that have not yet left the bounds (Armitage, McPherson and Rowe 1969).
    """
    part = error / looks
    bounds = [-float(ndtri(part / 2))]
    sums, weights = _simpson(bounds[0])
    density = np.exp(-(sums**2) / 2) / np.sqrt(2 * np.pi)
    for look in range(2, looks + 1):
        limit = _leaves(sums, density * weights, part)
        bounds.append(limit / float(np.sqrt(look)))
        wider, next_weights = _simpson(limit)
        steps = np.exp(-((wider[:, None] - sums[None, :]) ** 2) / 2) / np.sqrt(2 * np.pi)
        sums, density, weights = wider, steps @ (density * weights), next_weights
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
