"""The power of a design before it is run: the smallest difference on these tasks that 80 of 100 runs would find.

By simulating the rule of `suite`: the score interval excludes no change, and so does the exact test. Tasks' rates are
drawn from what earlier trials leave open (Jeffreys' posterior); without such they are spread evenly from 50 to 95 %.
The variant takes the same share of every task's passes, or, where tasks mostly fail, of its failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from harness.stats.advice import student
from harness.stats.arrays import Floats
from harness.stats.population import too_few
from harness.stats.results import POWER
from harness.stats.suite import FEWEST_FLIPS, Tables, permutation_p

_RUNS = 1000
_STEP, _NEAREST = 8, 30
"""Of the runs nearest to the critical value every eighth has its exact test made: it fails in none of the others."""
_APART = 0.15
"""By so much tasks are taken to differ in what a variant does to them."""


@dataclass(frozen=True, slots=True)
class DesignPower:
    """A number of trials of each task, and the points that it finds; None: not even 100."""

    trials: int
    points: float | None


@dataclass(frozen=True, slots=True)
class Frontier:
    """Designs of growing cost on these tasks, and what doubling tasks or trials finds on tasks like these."""

    designs: tuple[DesignPower, ...]
    more_tasks: float | None
    more_trials: float | None

    def at(self, trials: int) -> float | None:
        """The points that one of the designs finds."""
        return next((design.points for design in self.designs if design.trials == trials), None)


def frontier(tasks: int, trials: int, seen: Sequence[tuple[int, int]] | None) -> Frontier:
    """The frontier around a design. `seen` are earlier passes and trials of its tasks."""
    sizes = sorted({max(2, -(-trials // 4)), max(2, -(-trials // 2)), trials, 2 * trials, 4 * trials})
    designs = tuple(DesignPower(size, smallest_points(tasks, size, seen)) for size in sizes)
    return Frontier(designs, _among_others(2 * tasks, trials, seen), _among_others(tasks, 2 * trials, seen))


def smallest_points(
    tasks: int, trials: int, seen: Sequence[tuple[int, int]] | None, level: float = 0.95
) -> float | None:
    """The smallest mean difference in points that is found in 80 of 100 runs; None where 100 points are not."""
    rates = _rates(tasks, seen)
    most = float(max(rates.mean(), 1 - rates.mean()))
    if _power(rates, 1.0, trials, level) < POWER:
        return None
    low, high = 0.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(rates, middle, trials, level) >= POWER else (middle, high)
    return 100 * high * most


def is_found(tasks: int, trials: int, points: float, level: float = 0.95) -> bool:
    """True if a design finds a mean difference of so many points in 80 of 100 runs."""
    rates = _rates(tasks, None)
    share = points / 100 / float(max(rates.mean(), 1 - rates.mean()))
    return share <= 1 and _power(rates, share, trials, level) >= POWER


def _rates(tasks: int, seen: Sequence[tuple[int, int]] | None) -> Floats:
    """Runs of the tasks' true rates; tasks that were not seen are like one of those that were."""
    rng = np.random.default_rng([30, tasks])
    if not seen:
        return np.tile(np.linspace(0.95, 0.5, tasks) if tasks > 1 else np.array([0.75]), (_RUNS, 1))
    passed, tried = np.array(seen, dtype=np.float64).T
    of = np.resize(np.arange(passed.size), tasks)
    return rng.beta(passed[of] + 0.5, tried[of] - passed[of] + 0.5, (_RUNS, tasks))


def _power(rates: Floats, share: float, trials: int, level: float) -> float:
    """The share of runs in which a change by `share` of the passes (or failures) is found."""
    rng = np.random.default_rng([31, trials])
    changed = rates * (1 - share) if rates.mean() >= 0.5 else rates + (1 - rates) * share
    base, own = (rng.binomial(trials, each).astype(np.float64) for each in (rates, changed))
    n = np.full(base.shape, float(trials))
    tables = Tables(own, n, base, n, np.ones(base.shape))
    error = tables.error(np.zeros((_RUNS, 1)), tables.observed())[:, 0]
    # Nothing could be found if no trial differs at all.
    ratio = np.abs(tables.difference) / np.where(error > 0, error, np.inf)
    critical = float(-ndtri((1 - level) / 2))
    found = ratio > critical
    if trials == 1:
        found &= (own != base).sum(1) >= FEWEST_FLIPS
    return float(found.mean()) - _only_by_score(tables, ratio, found, 1 - level)


def _only_by_score(tables: Tables, ratio: Floats, found: NDArray[np.bool_], error: float) -> float:
    """The share of runs that the score alone finds: by the exact test of those nearest to its critical value."""
    near = np.flatnonzero(found)[np.argsort(ratio[found])][: _STEP * _NEAREST : _STEP]
    exact = [
        permutation_p(
            Tables(tables.x[run], tables.n[run], tables.base_x[run], tables.base_n[run], tables.times[run])
        )
        for run in near
    ]
    return _STEP * sum(p > error for p in exact) / _RUNS


def _among_others(tasks: int, trials: int, seen: Sequence[tuple[int, int]] | None) -> float | None:
    """The points that are found on tasks like these, by a normal mean over tasks; None with too few of them."""
    if too_few(tasks, 0.95):
        return None
    rates = _rates(tasks, seen)
    within = 2 * float((rates * (1 - rates)).mean()) / trials
    reach = float(student(np.array([tasks]), 0.025)[0]) + float(ndtri(POWER))
    return 100 * reach * float(np.sqrt((_APART**2 + within) / tasks))
