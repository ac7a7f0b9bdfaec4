"""Task by task: pass@k and pass^k, which tasks flipped, and which are flaky."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from harness.stats.arrays import Floats, Ints, TaskMeans
from harness.stats.results import AtK, TaskFlip, TaskResult


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


def flips(variant: TaskMeans, baseline: TaskMeans, tasks: tuple[str, ...]) -> tuple[TaskFlip, ...]:
    """The tasks whose majority flipped from the baseline to the variant. A tie is no majority."""
    both = variant.known & baseline.known
    now, before = np.where(both, variant.mean, 0.5), np.where(both, baseline.mean, 0.5)
    flipped = (now - 0.5) * (before - 0.5) < 0
    p_values = np.ones(len(tasks))
    p_values[both] = _fisher(variant.only(both), baseline.only(both))
    established = _holm(p_values, both, 0.05)
    return tuple(
        TaskFlip(
            tasks[i], "gained" if now[i] > before[i] else "lost", float(p_values[i]), bool(established[i])
        )
        for i in np.flatnonzero(flipped)
    )


def _fisher(variant: TaskMeans, baseline: TaskMeans) -> Floats:
    """Fisher's exact two-sided p-value for each task: the share of tables at most as probable as the one seen."""
    if not variant.n.size:
        return np.ones(0)
    seen = _passes(variant)[:, None]
    passes = seen + _passes(baseline)[:, None]
    n, m = variant.n[:, None], baseline.n[:, None]
    table = np.arange(int(variant.n.max()) + 1)[None, :]
    possible = (table <= n) & (table <= passes) & (passes - table <= m)
    log_p = np.where(possible, _log_choose(n, table) + _log_choose(m, passes - table), -np.inf)
    log_seen = _log_choose(n, seen) + _log_choose(m, passes - seen)
    weight = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    as_extreme = log_p <= log_seen + 1e-7
    return np.asarray(np.minimum(1.0, (weight * as_extreme).sum(1) / weight.sum(1)))


def _log_choose(n: Ints, k: Floats | Ints) -> Floats:
    """log C(n, k). A k outside of 0 to n is replaced by the nearest end, for the caller to mask."""
    within = np.minimum(np.maximum(k, 0), n)
    return np.asarray(gammaln(n + 1) - gammaln(within + 1) - gammaln(n - within + 1))


def _holm(p_values: Floats, tested: NDArray[np.bool_], alpha: float) -> NDArray[np.bool_]:
    """True for each tested hypothesis that falls, all tested together (Holm 1979)."""
    fall = np.zeros(p_values.size, dtype=bool)
    order = [int(i) for i in np.argsort(p_values, kind="stable") if tested[i]]
    for rank, place in enumerate(order):
        if p_values[place] > alpha / (len(order) - rank):
            break
        fall[place] = True
    return fall
