"""Everything that the statistics say about a run: each variant by itself, and each against the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from harness.stats.advice import Draws, smallest
from harness.stats.arrays import Table
from harness.stats.data import METRIC_NAMES, METRICS, Metric, MetricName, RoundsPlan, Trials
from harness.stats.rates import geometric_mean, rate, skewed_mean
from harness.stats.ratios import cost_of_a_pass
from harness.stats.results import (
    Answer,
    Comparison,
    Contrast,
    Difference,
    Estimate,
    IfExcluded,
    Interval,
    OneVariant,
    Question,
    Range,
    Summary,
    TaskFlip,
)
from harness.stats.sequential import level_at
from harness.stats.sides import Side, amounts_of, rates_side, side_of
from harness.stats.taskwise import BROKEN_ERROR, flips, pass_at_k, pass_hat_k, results
from harness.stats.verdict import family_level, half_width, verdict

QUESTIONS: tuple[Question, Question] = ("suite", "population")
KS = (1, 2, 3, 5, 10, 20, 50, 100)


def compare(
    trials: Iterable[Trials],
    pairs: Sequence[tuple[str, str]],
    *,
    metrics: Sequence[MetricName] = METRIC_NAMES,
    margins: Mapping[MetricName, float] | None = None,
    level: float = 0.95,
    plan: RoundsPlan | None = None,
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
    found = {variant: design.flips(variant, baseline) for variant, baseline in pairs}
    broken = {
        variant: any(flip.flip == "lost" and flip.established for flip in of) for variant, of in found.items()
    }
    return Comparison(
        level,
        tuple(_one_variant(table, variant, metrics, level) for variant in table.variants),
        tuple(
            design.contrast(
                variant,
                baseline,
                METRICS[name],
                (margins or {}).get(name, METRICS[name].margin),
                broken=broken[variant],
            )
            for name in metrics
            for variant, baseline in pairs
        ),
        found,
        {variant: design.breakable(variant, baseline) for variant, baseline in pairs},
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
    plan: RoundsPlan | None

    def contrast(
        self, variant: str, baseline: str, metric: Metric, margin: float, *, broken: bool
    ) -> Contrast:
        side = side_of(self.table, variant, baseline, metric)
        suite, population = (
            self._answer(question, side, margin, broken=broken and not metric.relative)
            for question in QUESTIONS
        )
        own, base = (self.table.task_means(name, metric.of) for name in (variant, baseline))
        return Contrast(
            metric=metric.name,
            variant=variant,
            baseline=baseline,
            margin=margin,
            comparisons=self.comparisons,
            unpaired=int(np.count_nonzero(own.known != base.known)),
            suite=suite,
            population=population,
            largest_share=side.largest_share,
        )

    def flips(self, variant: str, baseline: str) -> tuple[TaskFlip, ...]:
        own, base = (self.table.task_means(name, "pass") for name in (variant, baseline))
        return flips(own, base, self.table.tasks, self._broken_error())

    def breakable(self, variant: str, baseline: str) -> tuple[str, ...]:
        """The tasks that are established as lost if all excluded trials went against the variant."""
        if not any(self.table.excluded(name).any() for name in (variant, baseline)):
            return ()
        own, base = (
            self.table.task_means(name, "pass").with_imputed(self.table.excluded(name), value)
            for name, value in ((variant, 0.0), (baseline, 1.0))
        )
        found = flips(own, base, self.table.tasks, self._broken_error())
        return tuple(flip.task for flip in found if flip.flip == "lost" and flip.established)

    def _broken_error(self) -> float:
        """The error of a task falsely established as lost: of all looks and comparisons together as of one."""
        looks = len(self.plan.looks) if self.plan else 1
        return BROKEN_ERROR * (1 - self.level) / 0.05 / self.comparisons / looks

    def _answer(self, question: Question, side: Side, margin: float, *, broken: bool) -> Answer:
        metric = side.metric
        found = self._difference(question, side)
        judged = verdict(found, metric, margin, broken=broken)
        draws = side.draws(question, found)
        width = half_width(metric, margin)
        return Answer(
            difference=found,
            verdict=judged,
            smallest=_smallest(draws, found, question),
            needed=side.needed(question, found, draws, width) if judged == "inconclusive" else None,
            if_excluded=self._if_excluded(question, side, margin, broken=broken),
        )

    def _difference(self, question: Question, side: Side) -> Difference:
        level = self._level(question, side)
        found = side.difference(question, level or self.level)
        if level is None:
            return found.without("no round is complete yet, or there are more than were planned")
        return found

    def _level(self, question: Question, side: Side) -> float | None:
        """The level of one interval; None when the plan allows no look yet."""
        tasks = None if question == "suite" else side.tasks
        if self.plan is None or (tasks is not None and tasks < 2):
            return family_level(self.level, self.comparisons)
        rounds = int(np.minimum(*(self.table.planned(name) for name in side.pair)).min())
        planned = 1 <= rounds <= self.plan.rounds
        return level_at(self.plan, rounds, tasks, self.comparisons) if planned else None

    def _if_excluded(
        self, question: Question, side: Side, margin: float, *, broken: bool
    ) -> IfExcluded | None:
        excluded, base_excluded = (self.table.excluded(name) for name in side.pair)
        if side.metric.relative or not (excluded.any() or base_excluded.any()):
            return None
        against, favour = (
            self._difference(
                question,
                rates_side(
                    side.pair,
                    side.metric,
                    self.table.task_means(side.pair[0], side.metric.of).with_imputed(excluded, value),
                    self.table.task_means(side.pair[1], side.metric.of).with_imputed(
                        base_excluded, 1 - value
                    ),
                ),
            )
            for value in (0.0, 1.0)
        )
        return IfExcluded(
            against,
            verdict(against, side.metric, margin, broken=broken),
            favour,
            verdict(favour, side.metric, margin, broken=broken),
        )


def _smallest(draws: Draws | None, found: Difference, question: Question) -> Range:
    if draws is None or found.low is None:
        return Range(None, reason=found.reason)
    effect = smallest(draws, found.level, found.trials if question == "suite" else found.tasks)
    if not found.relative and (effect.value or 0) >= 1:
        return Range(None, reason="not even a difference of 100 points would have been found")
    return effect


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
    by_task, unknown = table.task_means(variant, metric.of), table.unknown(variant, metric.of)
    if metric.form == "rate":
        return Summary(rate(by_task, level), unknown)
    if metric.form == "per_pass":
        return Summary(_cost_of_a_pass(table, variant, metric, level), unknown)
    logs = table.task_means(variant, metric.of, log=True)
    of = geometric_mean if metric.form == "typical" else skewed_mean
    return Summary(of(by_task, logs, level), unknown)


def _cost_of_a_pass(table: Table, variant: str, metric: Metric, level: float) -> Estimate:
    known = table.task_means(variant, metric.of).known
    tasks, trials = int(known.sum()), int(table.task_means(variant, metric.of).n.sum())
    amounts = amounts_of(table, variant, metric, known) if tasks else None
    if amounts is None:
        reason = "no trial that counts has a known value, or none of those passed"
        return Estimate(None, None, reason, tasks, trials)
    value, bounds, why_not = cost_of_a_pass(amounts, level)
    return Estimate(value, Interval(*bounds, level) if bounds else None, why_not, tasks, trials)
