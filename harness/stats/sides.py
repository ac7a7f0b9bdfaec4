"""A variant beside its baseline in one metric: which method answers which question."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from harness.stats import population, ratios, suite
from harness.stats.advice import Draws, draws_of_mean, draws_of_rates, normal, recommended_size, student
from harness.stats.arrays import Table, TaskMeans
from harness.stats.data import Metric
from harness.stats.ratios import Amounts
from harness.stats.results import Difference, Question, Range

NO_TASK = "no task has trials that count, with a known value, under both variants"


@dataclass(frozen=True, slots=True)
class Side:
    """The tasks that both have, in one metric: means (of logarithms for the typical trial), and amounts for sums.

    `reason` says why there is nothing to compare.
    """

    pair: tuple[str, str]
    metric: Metric
    own: TaskMeans
    base: TaskMeans
    amounts: tuple[Amounts, Amounts] | None = None
    reason: str | None = None

    @property
    def tasks(self) -> int:
        """The number of tasks that both have."""
        return self.own.n.size

    @property
    def largest_share(self) -> float | None:
        """The largest share of one task in a sum of several."""
        if self.amounts is None or self.tasks < 2:
            return None
        return float(max(arm.share.max() for arm in self.amounts))

    def difference(self, question: Question, level: float) -> Difference:
        """The difference by one question."""
        relative = self.metric.relative
        if self.tasks == 0 or self.reason:
            return Difference(relative, self.tasks, 0.0, level, None, reason=self.reason or NO_TASK)
        if self.metric.form == "rate":
            of_rates = suite.rate_difference if question == "suite" else population.rate_difference
            return of_rates(self.own, self.base, level)
        if self.amounts:
            of_sums = ratios.sum_on_suite if question == "suite" else ratios.sum_on_population
            return of_sums(*self.amounts, level)
        typical = ratios.typical_on_suite if question == "suite" else ratios.typical_on_population
        return typical(self.own, self.base, level)

    def draws(self, question: Question, found: Difference) -> Draws | None:
        """The possible truths, for advice; None without an interval."""
        if found.center is None or found.low is None or found.high is None:
            return None
        rates = self.metric.form == "rate" and suite.is_binary(self.own) and suite.is_binary(self.base)
        if question == "suite" and rates:
            return draws_of_rates(self.own, self.base)
        tail = (1 + found.level) / 2
        if question == "suite":
            degrees = max(1.0, float(self.own.n.sum() + self.base.n.sum() - 2 * self.tasks))
            error = (found.high - found.low) / 2 / float(ndtri(tail))
            return draws_of_mean(found.center, error, degrees, found.trials, normal)
        error = (found.high - found.low) / 2 / float(stdtrit(found.tasks - 1, tail))
        if not self.metric.relative and not population.any_spread(self.own.mean - self.base.mean):
            error = 0.0
        return draws_of_mean(found.center, error, found.tasks - 1, found.tasks, student)

    def needed(self, question: Question, found: Difference, draws: Draws | None, width: float) -> Range:
        """The trials of each task, or the tasks, that would settle it."""
        if draws is None:
            return Range(None, reason=found.reason)
        if question == "suite":
            exact = self._trials_if_nothing_varies(found.level, width)
            return exact or recommended_size(draws, width, found.level, found.trials)
        fewest = 2 if self.metric.relative else population.fewest_for(width, found.level)
        return recommended_size(draws, width, found.level, found.tasks, fewest)

    def _trials_if_nothing_varies(self, level: float, width: float) -> Range | None:
        """The exact number where each task always passes, or always fails, in both: then it is no chance."""
        if (
            self.metric.relative
            or not np.isin(self.own.mean, (0, 1)).all()
            or (self.own.mean != self.base.mean).any()
        ):
            return None
        rate = self.own.mean

        def suffices(trials: int) -> bool:
            arm = TaskMeans(np.full(rate.size, trials), rate, np.zeros(rate.size))
            ((low, high),) = suite.score_bounds(suite.tables_of(arm, arm), [-ndtri(1 - level)])
            return bool(-width < low and high < width)

        # With more trials each difference is less likely by chance, so that the interval only shrinks.
        numbers = range(2, 1_000)
        place = bisect_left(numbers, True, key=suffices)
        return Range(numbers[place]) if place < len(numbers) else Range(None, reason="more than 1,000")


def rates_side(pair: tuple[str, str], metric: Metric, own: TaskMeans, base: TaskMeans) -> Side:
    """Rates or scores, or logarithms of a typical trial, of the tasks that both have."""
    both = own.known & base.known
    return Side(pair, metric, own.only(both), base.only(both))


def side_of(table: Table, variant: str, baseline: str, metric: Metric) -> Side:
    """The two arms of a table in one metric."""
    pair = variant, baseline
    own, base = (table.task_means(name, metric.of) for name in pair)
    if metric.form == "rate":
        return rates_side(pair, metric, own, base)
    both = own.known & base.known
    if metric.form == "typical":
        if zeros := sum(table.zeros(name, metric.of) for name in pair):
            reason = f"{zeros} values are 0: a typical trial's difference needs values above 0"
            return Side(pair, metric, own.only(both), base.only(both), reason=reason)
        return rates_side(pair, metric, *(table.task_means(name, metric.of, log=True) for name in pair))
    if not both.any():
        return Side(pair, metric, own.only(both), base.only(both))
    amounts = [amounts_of(table, name, metric, both) for name in pair]
    if amounts[0] is None or amounts[1] is None:
        reason = "the sum is 0, or nothing passed: there is no ratio"
        return Side(pair, metric, own.only(both), base.only(both), reason=reason)
    return Side(pair, metric, own.only(both), base.only(both), (amounts[0], amounts[1]))


def amounts_of(table: Table, variant: str, metric: Metric, tasks: NDArray[np.bool_]) -> Amounts | None:
    """The amounts of some tasks, all of which have values; None where there is no ratio to be had."""
    of = table.task_means(variant, metric.of).only(tasks)
    logs = table.task_means(variant, metric.of, log=True).only(tasks)
    if of.mean.sum() <= 0:
        return None
    if metric.form == "sum":
        return Amounts(of, logs)
    passes, products = (means.only(tasks) for means in table.with_passes(variant, metric.of))
    if not passes.known.all() or passes.mean.sum() <= 0:
        return None
    cost, rate = float(of.mean.mean()), float(passes.mean.mean())
    shared = (products.mean - of.mean * passes.mean) * of.n / np.where(of.n > 1, of.n - 1, np.nan)
    spread = of.within / cost**2 + passes.within / rate**2 - 2 * shared / (cost * rate)
    return Amounts(of, logs, passes, TaskMeans(of.n, of.mean, spread))
