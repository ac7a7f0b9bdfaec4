"""Everything that the statistics say about a run: each variant by itself, and each against the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from harness.stats.arrays import Table, TaskMeans
from harness.stats.data import METRIC_NAMES, METRICS, Metric, MetricName, Plan, Trials
from harness.stats.paired import difference
from harness.stats.power import detectable, needed
from harness.stats.rates import geometric_mean, rate, skewed_mean
from harness.stats.results import Comparison, Contrast, Difference, IfExcluded, OneVariant, Summary
from harness.stats.sequential import level_at
from harness.stats.taskwise import flips, pass_at_k, pass_hat_k, results
from harness.stats.verdict import family_level, half_width, verdict

KS = (1, 2, 3, 5, 10, 20, 50, 100)


def compare(
    trials: Iterable[Trials],
    pairs: Sequence[tuple[str, str]],
    *,
    metrics: Sequence[MetricName] = METRIC_NAMES,
    margins: Mapping[MetricName, float] | None = None,
    level: float = 0.95,
    plan: Plan | None = None,
    comparisons: int | None = None,
) -> Comparison:
    """Compare variants with baselines.

    `pairs` are of a variant and its baseline; no variant comes twice, a baseline may.
    For each metric the pairs are one family: with confidence `level` all of its intervals hold together. With a
    `plan` (whose level then counts) they hold at all of its looks too. `comparisons` is the family's size where it is
    more than these pairs. `margins` replaces the metrics' defaults.
    Raises ValueError for impossible values, margins or looks, and for pairs of variants without trials.
    """
    table = Table(trials)
    _refuse_impossible_pairs(table, pairs)
    level = plan.level if plan else level
    design = _Design(table, comparisons or len(pairs), level, plan)
    return Comparison(
        level,
        tuple(_one_variant(table, variant, metrics, level) for variant in table.variants),
        tuple(
            design.contrast(variant, baseline, METRICS[name], (margins or {}).get(name, METRICS[name].margin))
            for name in metrics
            for variant, baseline in pairs
        ),
        {
            variant: flips(table.task_means(variant, "pass"), table.task_means(baseline, "pass"), table.tasks)
            for variant, baseline in pairs
        },
    )


def _refuse_impossible_pairs(table: Table, pairs: Sequence[tuple[str, str]]) -> None:
    for name in chain.from_iterable(pairs):
        if name not in table.variants:
            raise ValueError(f"{name!r} is none of the variants: {', '.join(table.variants) or 'none'}")
    if len({variant for variant, _ in pairs}) < len(pairs):
        raise ValueError("a variant comes in two pairs")
    if any(variant == baseline for variant, baseline in pairs):
        raise ValueError("a variant is its own baseline")


@dataclass(frozen=True, slots=True)
class _Design:
    """The design of a comparison, which all its contrasts share."""

    table: Table
    comparisons: int
    level: float
    plan: Plan | None

    def contrast(self, variant: str, baseline: str, metric: Metric, margin: float) -> Contrast:
        own, base = (
            self.table.task_means(name, metric.name, log=metric.relative) for name in (variant, baseline)
        )
        found = self._difference((variant, baseline), own, base, metric)
        judged = verdict(found, metric, margin)
        return Contrast(
            metric=metric.name,
            variant=variant,
            baseline=baseline,
            difference=found,
            margin=margin,
            verdict=judged,
            comparisons=self.comparisons,
            unpaired=int(np.count_nonzero(own.known != base.known)),
            detectable=detectable(found),
            needed=needed(found, half_width(metric, margin)) if judged == "inconclusive" else None,
            if_excluded=self._if_excluded((variant, baseline), own, base, metric, margin),
        )

    def _difference(
        self, pair: tuple[str, str], own: TaskMeans, base: TaskMeans, metric: Metric
    ) -> Difference:
        level = self._level(pair, int(np.count_nonzero(own.known & base.known)))
        found = difference(own, base, relative=metric.relative, level=level or self.level)
        reason = None if level else "no round is complete yet, or there are more than were planned"
        if metric.relative and (zeros := sum(self.table.zeros(name, metric.name) for name in pair)):
            reason = f"{zeros} values are 0: a relative difference needs values above 0"
            return Difference(True, found.tasks, found.trials, found.level, None, reason=reason)
        if reason:
            return Difference(
                metric.relative, found.tasks, found.trials, found.level, found.center, reason=reason
            )
        return found

    def _level(self, pair: tuple[str, str], tasks: int) -> float | None:
        """The level of one interval; None when the plan allows no look yet."""
        if self.plan is None or tasks < 2:
            return family_level(self.level, self.comparisons)
        rounds = int(np.minimum(*(self.table.planned(name) for name in pair)).min())
        planned = 1 <= rounds <= self.plan.rounds
        return level_at(self.plan, rounds, tasks, self.comparisons) if planned else None

    def _if_excluded(
        self, pair: tuple[str, str], own: TaskMeans, base: TaskMeans, metric: Metric, margin: float
    ) -> IfExcluded | None:
        excluded, base_excluded = (self.table.excluded(name) for name in pair)
        if metric.relative or not (excluded.any() or base_excluded.any()):
            return None
        ends = [
            self._difference(
                pair, own.with_imputed(excluded, value), base.with_imputed(base_excluded, 1 - value), metric
            )
            for value in (0.0, 1.0)
        ]
        against, favour = ends
        return IfExcluded(against, verdict(against, metric, margin), favour, verdict(favour, metric, margin))


def _one_variant(table: Table, variant: str, metrics: Sequence[MetricName], level: float) -> OneVariant:
    errors, invalid = table.errors_and_invalid(variant)
    passes = table.task_means(variant, "pass")
    ks = [k for k in KS if k <= passes.n.max(initial=0)]
    return OneVariant(
        variant,
        errors,
        invalid,
        {name: _summary(table, variant, METRICS[name], level) for name in metrics},
        tuple(pass_at_k(passes, k) for k in ks),
        tuple(pass_hat_k(passes, k) for k in ks),
        results(passes, table.tasks),
    )


def _summary(table: Table, variant: str, metric: Metric, level: float) -> Summary:
    by_task, unknown = table.task_means(variant, metric.name), table.unknown(variant, metric.name)
    if not metric.relative:
        return Summary(rate(by_task, level), None, unknown)
    logs = table.task_means(variant, metric.name, log=True)
    return Summary(skewed_mean(by_task, logs, level), geometric_mean(by_task, logs, level), unknown)
