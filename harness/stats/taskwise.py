"""Task by task: pass@k and pass^k, which tasks flipped, and which are flaky."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from harness.stats.arrays import Floats, Ints, TaskMeans
from harness.stats.results import AtK, Flip, TaskFlip, TaskResult

BROKEN_ERROR = 0.025
"""The error of any task that is falsely established as lost. The same again is the error of a false regression, so that
a gate which fails on either is wrong in at most 5 of 100 runs."""


def pass_at_k(by_task: TaskMeans, k: int) -> AtK:
    """The rate at which at least one of k trials passes.

    Unbiased: 1 - C(n - c, k) / C(n, k) for c passes of n (Chen et al. 2021, "Evaluating large language models
    trained on code").
    """
    return _at_k(by_task, k, any_of_them=True)


def pass_hat_k(by_task: TaskMeans, k: int) -> AtK:
    """The rate at which all of k trials pass: pass^k.

    Unbiased: C(c, k) / C(n, k) for c passes of n (Yao et al. 2024, "tau-bench").
    """
    return _at_k(by_task, k, any_of_them=False)


def _at_k(by_task: TaskMeans, k: int, *, any_of_them: bool) -> AtK:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    enough = by_task.n >= k
    left_out = int(np.count_nonzero(by_task.known & ~enough))
    if not enough.any():
        return AtK(k, None, 0, left_out)
    n, passes = by_task.n[enough], _passes(by_task)[enough]
    all_of_k = _share_of_draws(n - passes if any_of_them else passes, n, k)
    shares = 1 - all_of_k if any_of_them else all_of_k
    # Rounded so that pass@1 and pass^1, which are the same number, are shown as the same.
    return AtK(k, round(float(shares.mean()), 12), int(enough.sum()), left_out)


def _passes(by_task: TaskMeans) -> Floats:
    return np.rint(np.where(by_task.known, by_task.n * np.nan_to_num(by_task.mean), 0.0))


def _share_of_draws(chosen: Floats, n: Ints, k: int) -> Floats:
    """C(chosen, k) / C(n, k)."""
    steps = np.arange(k)[:, None]
    return np.asarray(np.prod(np.maximum(chosen - steps, 0) / (n - steps), axis=0))


def results(by_task: TaskMeans, tasks: tuple[str, ...]) -> tuple[TaskResult, ...]:
    """The tasks that have trials that count, in the table's order."""
    passes = _passes(by_task)
    pairs = np.maximum(by_task.n * (by_task.n - 1), 1)
    disagreement = 2 * passes * (by_task.n - passes) / pairs
    rows = zip(tasks, passes.tolist(), by_task.n.tolist(), disagreement.tolist(), strict=True)
    return tuple(
        TaskResult(task, int(passed), trials, differ if trials > 1 else None)
        for task, passed, trials, differ in rows
        if trials
    )


def flips(
    variant: TaskMeans, baseline: TaskMeans, tasks: tuple[str, ...], error: float = BROKEN_ERROR
) -> tuple[TaskFlip, ...]:
    """The tasks that flipped from the baseline to the variant, and whether each is established at this error."""
    both = np.flatnonzero(variant.known & baseline.known)
    own, base = variant.only(both), baseline.only(both)
    found: list[tuple[int, TaskFlip]] = []
    kinds: tuple[tuple[Flip, TaskMeans, TaskMeans], ...] = (("lost", base, own), ("gained", own, base))
    for kind, more, less in kinds:
        p_values = _step_down(more, less)
        # Of a loss half of the trials passed before, of a gain half of them failed.
        flipped = (
            (base.mean >= 0.5) & (own.mean < 0.5) if kind == "lost" else (base.mean <= 0.5) & (own.mean > 0.5)
        )
        found += [
            (int(both[i]), TaskFlip(tasks[both[i]], kind, float(p_values[i]), bool(p_values[i] <= error)))
            for i in np.flatnonzero(flipped)
        ]
    return tuple(flip for _, flip in sorted(found, key=lambda entry: entry[0]))


def _step_down(more: TaskMeans, less: TaskMeans) -> Floats:
    """Fisher's one-sided p-values that `more` passes more often, corrected for all tasks.

    Step-down min-P with the p-values that each task can have at all (Westfall and Wolfinger 1997, "Multiple tests with
    discrete distributions", American Statistician 51): 1 - prod_j (1 - F_j(p)) over the tasks still open, where F_j(p)
    is the largest p-value not above p that task j can have. A task that passed or failed always can have none below 1.
    """
    if not more.n.size:
        return np.ones(0)
    counts = np.stack([_passes(more), more.n, _passes(less), less.n]).astype(np.int64)
    distinct, place = np.unique(counts, axis=1, return_inverse=True)
    place = place.ravel()
    attainable = [_attainable(*map(int, table)) for table in distinct.T]
    p_values = np.array([own for own, _ in attainable])
    open_tables = np.bincount(place, minlength=p_values.size).astype(np.float64)
    adjusted, highest = np.ones(p_values.size), 0.0
    for table in np.argsort(p_values, kind="stable"):
        below = np.array([_largest(steps, p_values[table]) for _, steps in attainable])
        still = open_tables > 0
        chance = 1 - float(np.prod((1 - np.minimum(below, 1.0))[still] ** open_tables[still]))
        highest = max(highest, chance)
        if highest > 1 - 1e-9:
            break
        adjusted[table] = highest
        open_tables[table] = 0.0
    return adjusted[place]


def _attainable(x: int, n: int, base_x: int, base_n: int) -> tuple[float, Floats]:
    """The one-sided p-value of a table, and all that its margins allow, the smallest first."""
    total = x + base_x
    could = np.arange(max(0, total - base_n), min(n, total) + 1)
    weight = np.exp(_log_choose(n, could) + _log_choose(base_n, total - could))
    tails = np.cumsum((weight / weight.sum())[::-1])
    return float(tails[could[-1] - x]), tails


def _largest(steps: Floats, p: float) -> float:
    place = int(np.searchsorted(steps, p * (1 + 1e-9), side="right"))
    return float(steps[place - 1]) if place else 0.0


def _log_choose(n: int, k: Ints) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
