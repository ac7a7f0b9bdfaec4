"""The statistics: known answers by SciPy or by hand, what must hold for any data, and calibration at small samples."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pytest
import scipy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.stats import population, suite
from harness.stats.advice import Draws, normal, recommended_size, smallest
from harness.stats.arrays import TaskMeans, task_means
from harness.stats.compare import compare
from harness.stats.data import METRICS, MetricName, RoundsPlan, Trials
from harness.stats.frontier import is_found, smallest_points
from harness.stats.rates import geometric_mean, rate, skewed_mean
from harness.stats.ratios import Amounts, sum_on_suite, typical_on_population, typical_on_suite
from harness.stats.results import Comparison, Contrast, Difference, Estimate
from harness.stats.sequential import level_at
from harness.stats.taskwise import flips, pass_at_k, pass_hat_k, results
from harness.stats.verdict import family_level, verdict

fewer = settings(max_examples=60)


def rows(*by_task: list[float | None]) -> TaskMeans:
    """Tasks, each given by its trials' values."""
    task = [place for place, values in enumerate(by_task) for _ in values]
    value = [value for values in by_task for value in values]
    return task_means(np.array(task, dtype=np.int64), np.array(value, dtype=np.float64), len(by_task))


def counts(passes: list[int], trials: int) -> TaskMeans:
    """Tasks with so many passes of so many trials."""
    return rows(*([1.0] * k + [0.0] * (trials - k) for k in passes))


def logs(table: TaskMeans) -> TaskMeans:
    return TaskMeans(table.n, np.log(table.mean), table.within)


def a_run(passes: dict[str, list[list[int | None]]], **more: int) -> list[Trials]:
    """Trials of several variants: for each its tasks, each given by its trials' passes."""
    return [
        Trials(f"t{place}", variant, {"pass": list(values)}, **more)
        for variant, tasks in passes.items()
        for place, values in enumerate(tasks)
    ]


def against(comparison: Comparison, variant: str, metric: MetricName = "pass") -> Contrast:
    return next(c for c in comparison.contrasts if (c.variant, c.metric) == (variant, metric))


# Known answers


def test_one_trial_each_gives_the_exact_mid_p_interval() -> None:
    """At its ends, one tail and half of what was seen have 2.5 %."""
    interval = rate(counts([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], 1)).interval
    assert interval
    above = scipy.stats.binom.sf(3, 10, interval.low) + scipy.stats.binom.pmf(3, 10, interval.low) / 2
    below = scipy.stats.binom.cdf(2, 10, interval.high) + scipy.stats.binom.pmf(3, 10, interval.high) / 2
    assert (above, below) == pytest.approx((0.025, 0.025), abs=1e-6)


def test_a_typical_cost_is_the_geometric_mean_with_its_t_interval() -> None:
    """On the scale of logarithms, by SciPy."""
    table = rows([1.0], [2.0], [4.0], [10.0])
    found = geometric_mean(table, logs(table))
    expected = scipy.stats.ttest_1samp(np.log(table.mean), 0).confidence_interval(0.95)
    assert found.value == pytest.approx(scipy.stats.gmean(table.mean))
    assert found.interval
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(np.exp(expected)))
    assert skewed_mean(table, logs(table)).value == pytest.approx(4.25)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_at_k_counts_the_draws(k: int) -> None:
    """Of all ways to draw k of a task's trials: in how many does one pass, in how many all."""
    passes, trials = [0, 1, 2, 4, 3], 4
    drawn = [list(combinations([1] * c + [0] * (trials - c), k)) for c in passes]
    any_of = np.mean([sum(any(draw) for draw in draws) / comb(trials, k) for draws in drawn])
    all_of = np.mean([sum(all(draw) for draw in draws) / comb(trials, k) for draws in drawn])
    table = counts(passes, trials)
    assert pass_at_k(table, k).value == pytest.approx(any_of)
    assert pass_hat_k(table, k).value == pytest.approx(all_of)


def test_pass_at_k_leaves_out_tasks_with_fewer_trials_and_says_so() -> None:
    """A task with two trials says nothing about three."""
    found = pass_at_k(rows([1.0, 0.0], [1.0, 1.0, 1.0]), 3)
    assert (found.value, found.tasks, found.left_out) == (1.0, 1, 1)
    assert pass_at_k(rows([1.0]), 2).value is None


def test_a_task_is_flaky_when_it_did_both() -> None:
    """With how often two trials of it disagree, unbiased."""
    first, second, third = results(rows([1.0, 0.0, 1.0], [1.0, 1.0], [0.0]), ("a", "b", "c"))
    assert (first.flaky, second.flaky, third.flaky) == (True, False, False)
    assert first.disagreement == pytest.approx(2 / 3)
    assert (second.disagreement, third.disagreement) == (0.0, None)


def test_the_bounds_of_two_looks_spend_half_of_the_error_each() -> None:
    """By SciPy's bivariate normal; with so many tasks that t is normal."""
    tasks = 10**9
    assert RoundsPlan(5).looks == (3, 5)
    first, second = (scipy.stats.norm.ppf((1 + level_at(RoundsPlan(5), look, tasks)) / 2) for look in (3, 5))
    inside = scipy.stats.multivariate_normal([0, 0], [[1, np.sqrt(0.6)], [np.sqrt(0.6), 1]])
    both = inside.cdf([first, second], lower_limit=[-first, -second])
    assert 2 * scipy.stats.norm.sf(first) == pytest.approx(0.025, rel=1e-3)
    assert both == pytest.approx(0.95, abs=1e-4)


def test_a_plan_of_one_look_is_the_fixed_design() -> None:
    """There is nothing to correct for."""
    assert level_at(RoundsPlan(1), 1, 10) == pytest.approx(0.95)


# Verdicts


def judged(low: float, high: float, metric: MetricName = "pass", margin: float = 0.05) -> str:
    found = Difference(METRICS[metric].relative, 10, 3, 0.95, (low + high) / 2, low, high, within=(low, high))
    return verdict(found, METRICS[metric], margin)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.2, "improvement"),
        (-0.2, -0.01, "regression"),
        (-0.04, 0.04, "equivalent"),
        (0.01, 0.04, "equivalent"),
        (-0.04, 0.06, "inconclusive"),
    ],
)
def test_a_verdict_is_read_from_the_interval(low: float, high: float, expected: str) -> None:
    """All of it on one side of no change, all of it within the margin, or neither."""
    assert judged(low, high) == expected


def test_less_cost_is_an_improvement() -> None:
    """More of it a regression; the margin is a share of the baseline."""
    assert judged(np.log(0.5), np.log(0.8), "cost", 0.1) == "improvement"
    assert judged(np.log(1.2), np.log(1.5), "cost", 0.1) == "regression"
    assert judged(np.log(0.95), np.log(1.05), "cost", 0.1) == "equivalent"


def test_pairs_that_make_no_sense_are_refused() -> None:
    """With what is wrong."""
    run = a_run({"a": [[1]], "b": [[1]]})
    for pairs, says in (
        ([("b", "x")], "none of the variants"),
        ([("a", "a")], "its own baseline"),
        ([("b", "a"), ("b", "a")], "two pairs"),
    ):
        with pytest.raises(ValueError, match=says):
            compare(run, pairs)


# What holds for any data

passes_of_tasks = st.lists(st.integers(0, 3), min_size=4, max_size=12)


@fewer
@given(passes_of_tasks, st.integers(1, 3))
@example([1, 1, 1, 1], 3)
@example([1, 1, 1, 1], 2)
def test_a_rates_interval_holds_its_value_and_ends_at_0_and_1(passes: list[int], trials: int) -> None:
    """Also where nothing or everything passed."""
    found = rate(counts([min(k, trials) for k in passes], trials))
    assert found.interval
    assert found.value is not None
    assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1
    assert found.interval.low < found.interval.high


@fewer
@given(passes_of_tasks)
def test_failures_are_passes_seen_from_the_other_side(passes: list[int]) -> None:
    """The interval of the failure rate is that of the pass rate, mirrored."""
    one = rate(counts(passes, 3)).interval
    other = rate(counts([3 - k for k in passes], 3)).interval
    assert one
    assert other
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=2e-3)


@pytest.mark.parametrize("rounds", [5, 10, 20])
def test_no_look_of_a_plan_is_less_strict_than_the_fixed_design(rounds: int) -> None:
    """Looking again costs something at every look, the more the fewer tasks."""
    for tasks in (2, 5, 30):
        levels = [level_at(RoundsPlan(rounds), look, tasks) for look in range(1, rounds + 1)]
        assert min(levels) > 0.95
        assert levels == sorted(levels, reverse=True)


# Calibration. benchmarks/stats_calibration.py has the whole grid; these are cells where intervals use to break.


def draw(rng: np.random.Generator, rates: np.ndarray, trials: int) -> TaskMeans:
    return counts(rng.binomial(trials, rates).tolist(), trials)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "trials", "p", "spread"),
    [(5, 3, 0.05, 0.2), (5, 10, 0.5, 0.6), (10, 1, 0.9, 0), (30, 3, 0.95, 0.2)],
)
def test_intervals_of_a_rate_cover_it(tasks: int, trials: int, p: float, spread: float) -> None:
    """In at least 93 of 100 runs, less three standard errors of 600 simulated ones."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        size = 1 / spread - 1 if spread else 0
        rates = rng.beta(p * size, (1 - p) * size, tasks) if spread else np.full(tasks, p)
        interval = rate(draw(rng, rates, trials)).interval
        assert interval
        covered += interval.low <= p + 1e-9 and p - 1e-9 <= interval.high
    assert covered / 600 > 0.93 - 3 * np.sqrt(0.93 * 0.07 / 600)


# How wide an interval is


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_a_mean_costs_interval_is_that_of_a_lognormal_mean_by_mover(level: float) -> None:
    """By SciPy's t and chi-squared: location, variance between tasks, and the trials' share that it lacks."""
    table = [[1.0, 2.0, 1.5], [2.0, 2.5], [4.0], [10.0, 7.0, 8.0]]
    ends = [np.log(values) for values in table]
    whole = skewed_mean(rows(*table), rows(*(list(map(float, values)) for values in ends)), level)
    means = np.array([values.mean() for values in ends])
    quantile = scipy.stats.t.ppf((1 + level) / 2, 3)
    location = quantile * means.std(ddof=1) / np.sqrt(4)
    squares = sum(((values - values.mean()) ** 2).sum() for values in ends)
    pooled = squares / (2 + 1 + 2)
    parts = [(means.var(ddof=1), 3), (pooled * np.mean([1 - 1 / len(values) for values in ends]), 5)]
    down, up = location**2, location**2
    for variance, freedom in parts:
        low, high = scipy.stats.chi2.interval(level, freedom)
        down += (variance - variance * freedom / high) ** 2 / 4
        up += (variance * freedom / low - variance) ** 2 / 4
    center = np.mean([np.mean(values) for values in table])
    assert whole.value == pytest.approx(center)
    assert whole.interval
    expected = (center * np.exp(-np.sqrt(down)), center * np.exp(np.sqrt(up)))
    assert (whole.interval.low, whole.interval.high) == pytest.approx(expected)
    assert whole.interval.level == level


def test_a_mean_cost_of_tasks_tried_once_has_the_variance_between_them_only() -> None:
    """Nothing shows what trials vary by: the interval is that of single values."""
    costs = np.array([1.0, 1.5, 2.0, 2.5])
    found = skewed_mean(
        rows(*([cost] for cost in costs.tolist())), logs(rows(*([c] for c in costs.tolist())))
    )
    values = np.log(costs)
    variance, location = values.var(ddof=1), scipy.stats.t.ppf(0.975, 3) * scipy.stats.sem(values)
    low, high = scipy.stats.chi2.interval(0.95, 3)
    down = np.hypot(location, (variance - variance * 3 / high) / 2)
    up = np.hypot(location, (variance * 3 / low - variance) / 2)
    assert found.interval
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (1.75 * np.exp(-down), 1.75 * np.exp(up))
    )


@pytest.mark.parametrize("estimate", [geometric_mean, skewed_mean])
def test_equal_costs_have_a_value_and_no_interval(
    estimate: Callable[[TaskMeans, TaskMeans], Estimate],
) -> None:
    """An interval of no width would claim that every task costs the same."""
    table = rows([0.3], [0.1 + 0.2], [0.3, 0.3])
    found = estimate(table, logs(table))
    assert found.value == pytest.approx(0.3)
    assert found.interval is None
    assert found.reason == "all tasks have the same value: nothing shows how much tasks differ"


MOST_PASS = [20] * 50 + [19] * 30 + [18] * 20 + [15] * 20


@pytest.mark.parametrize(
    ("passes", "trials", "level", "rates", "likenesses"),
    [
        ([3, 3, 3, 3, 3, 2, 0, 3], 3, 0.95, (0.0, 1.0), (0.0, 1.0)),
        (MOST_PASS, 20, 0.95, (0.87, 0.99), (0.0, 0.25)),
        ([20 - k for k in MOST_PASS], 20, 0.8, (0.01, 0.13), (0.0, 0.25)),
    ],
)
def test_a_rates_interval_holds_so_much_of_the_posterior(
    passes: list[int],
    trials: int,
    level: float,
    rates: tuple[float, float],
    likenesses: tuple[float, float],
) -> None:
    """By SciPy's densities, summed up where they are not 0: the two tails have the same mass."""
    mu, rho = (np.linspace(*ends, cells + 1) for ends, cells in ((rates, 800), (likenesses, 150)))
    middle, like = (mu[1:] + mu[:-1])[:, None] / 2, (rho[1:] + rho[:-1])[None, :] / 2
    a, b = middle * (1 / like - 1), (1 - middle) * (1 / like - 1)
    likelihood = sum(scipy.stats.betabinom.logpmf(k, trials, a, b) * passes.count(k) for k in set(passes))
    mass = np.exp(likelihood - likelihood.max())
    mass *= scipy.stats.beta.pdf(middle, 0.5, 0.5) * scipy.stats.beta.pdf(like, 1, 0.25)
    below = np.concatenate([[0.0], np.cumsum(mass.sum(1))])
    low, high = np.interp([(1 - level) / 2, (1 + level) / 2], below / below[-1], mu)
    found = rate(counts(passes, trials), level).interval
    assert found
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.005 * (high - low))


def test_tasks_that_did_both_and_agree_have_the_sharper_t_interval() -> None:
    """By SciPy, at 4/5 of the error."""
    table = counts([4, 5, 6, 5, 4], 10)
    expected = scipy.stats.ttest_1samp(table.mean, 0).confidence_interval(1 - 0.8 * 0.05)
    found = rate(table).interval
    assert found
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_t_interval_that_is_the_wider_one_is_not_taken() -> None:
    """Tasks that differ much: what the likelihood allows lies within."""
    table = counts([2, 4, 6, 8, 5, 3], 10)
    wider = scipy.stats.ttest_1samp(table.mean, 0).confidence_interval(1 - 0.8 * 0.05)
    found = rate(table).interval
    assert found
    assert wider.low < found.low < found.high < wider.high


@pytest.mark.parametrize("passes", [[9, 9, 9, 9, 9, 10, 10, 10], [1, 1, 1, 1, 1, 0, 0, 0]])
def test_few_tasks_that_did_both_get_no_t_interval(passes: list[int]) -> None:
    """With fewer than four, or seven of ten, the t-interval would be too short."""
    table = counts(passes, 10)
    short = scipy.stats.ttest_1samp(table.mean, 0).confidence_interval(1 - 0.8 * 0.05)
    found = rate(table).interval
    assert found
    assert found.high - found.low > 1.1 * (short.high - short.low)


# Which k of pass@k


def test_each_k_that_a_task_has_trials_for_is_told() -> None:
    """From the list of usual ones; those that do not count are no trials."""
    run = a_run({"a": [[0, 1], [1, 0, 1, 1, 1, 0]], "b": [[1], [0]]}, errors=9)
    one, other = compare(run, [("b", "a")], metrics=["pass"]).variants
    assert [(at.k, at.tasks, at.left_out) for at in one.pass_at_k] == [
        (1, 2, 0),
        (2, 2, 0),
        (3, 1, 1),
        (5, 1, 1),
    ]
    assert [at.k for at in one.pass_hat_k] == [1, 2, 3, 5]
    assert [at.k for at in other.pass_at_k] == [at.k for at in other.pass_hat_k] == [1]
    assert one.pass_at_k[1].value == pytest.approx((1 + 14 / 15) / 2)
    assert one.pass_hat_k[1].value == pytest.approx((0 + 6 / 15) / 2)


# What a mutant has shown to be unchecked


@pytest.mark.parametrize(
    ("passes", "low", "high"), [(0, 0.0, 1 - 0.05 ** (1 / 8)), (8, 0.05 ** (1 / 8), 1.0)]
)
def test_none_or_all_of_single_trials_has_half_of_the_mid_p_tail(
    passes: int, low: float, high: float
) -> None:
    """By hand: (1 - p)^8 / 2 is 2.5 % at the upper end for none of 8."""
    interval = rate(counts([1] * passes + [0] * (8 - passes), 1)).interval
    assert interval
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_an_estimate_of_nothing_has_no_tasks_and_no_trials() -> None:
    """For rates and for costs."""
    nothing = rows([], [])
    for found in (rate(nothing), skewed_mean(nothing, nothing), geometric_mean(nothing, nothing)):
        assert (found.value, found.interval, found.tasks, found.trials) == (None, None, 0, 0)
        assert found.reason is not None
        assert found.reason.startswith("no trial")


@pytest.mark.parametrize("tasks", [2, 5, 20])
def test_few_tasks_spend_less_error_on_looking_twice(tasks: int) -> None:
    """By SciPy's bivariate normal: 5 % divided by 1 + 0.8 ln(looks) / (tasks - 1)."""
    first, second = (scipy.stats.norm.ppf((1 + level_at(RoundsPlan(5), look, tasks)) / 2) for look in (3, 5))
    inside = scipy.stats.multivariate_normal([0, 0], [[1, np.sqrt(0.6)], [np.sqrt(0.6), 1]])
    both = inside.cdf([first, second], lower_limit=[-first, -second])
    assert 1 - both == pytest.approx(0.05 / (1 + 0.8 * np.log(2) / (tasks - 1)), rel=2e-3)


# On these tasks


def test_one_tasks_interval_is_that_of_miettinen_and_nurminen() -> None:
    """Its ends are where their score is 1.96, with the likeliest rates of that difference found by brute force.

    The variance is the plain estimate where that is more.
    """
    own, base = counts([3], 10), counts([6], 12)
    found = suite.rate_difference(own, base, 0.95)
    p = np.linspace(0, 1, 200_001)
    for d in (found.low, found.high):
        assert d is not None
        q = p[(p + d >= 0) & (p + d <= 1)]
        likelihood = scipy.stats.binom.logpmf(3, 10, q + d) + scipy.stats.binom.logpmf(6, 12, q)
        best = q[likelihood.argmax()]
        variance = ((best + d) * (1 - best - d) / 10 + best * (1 - best) / 12) * 22 / 21
        variance = max(variance, 0.3 * 0.7 / 9 + 0.5 * 0.5 / 11)
        assert abs(0.3 - 0.5 - d) / np.sqrt(variance) == pytest.approx(scipy.stats.norm.ppf(0.975), abs=1e-3)
    surest = suite.tables_of(counts([5], 5), counts([0], 5))  # all passed, and none
    assert surest.error(np.array([1.0]), surest.observed()) == 0


def test_nothing_differs_and_all_pass_is_known_by_a_formula() -> None:
    """About z^2 / (nK + z^2), and twice as sure with twice the tasks as with twice the trials."""
    found = suite.rate_difference(counts([10] * 8, 10), counts([10] * 8, 10), 0.95)
    z = scipy.stats.norm.ppf(0.975) ** 2 * 20 / 19
    assert found.high == pytest.approx(z / (80 + z), abs=1e-4)
    assert found.low == -found.high  # type: ignore[operator]
    other = suite.rate_difference(counts([5] * 16, 5), counts([5] * 16, 5), 0.95)
    assert other.high == pytest.approx(found.high, rel=0.06)


@pytest.mark.parametrize(
    ("trials", "base_trials", "passes", "base_passes"),
    [
        *((own, base, (own, 1), (1, 0)) for own, base in ((3, 3), (4, 4), (7, 3), (11, 13))),
        # Too many steps for exact places: sums that are equal are counted in spite of how each was rounded.
        (53, 59, (30, 20), (20, 20)),
    ],
)
def test_the_permutation_counts_all_ways_to_deal_out_the_passes(
    trials: int, base_trials: int, passes: tuple[int, int], base_passes: tuple[int, int]
) -> None:
    """By SciPy's hypergeometric of two tasks: twice the smaller tail of the sum of their differences."""
    tables = suite.tables_of(counts(list(passes), trials), counts(list(base_passes), base_trials))
    seen = sum(k / trials - m / base_trials for k, m in zip(passes, base_passes, strict=True))
    above = below = 0.0
    totals = [k + m for k, m in zip(passes, base_passes, strict=True)]
    of = [scipy.stats.hypergeom(trials + base_trials, total, trials) for total in totals]
    for i in range(totals[0] + 1):
        for j in range(totals[1] + 1):
            chance = of[0].pmf(i) * of[1].pmf(j)
            value = (i + j) / trials - (sum(totals) - i - j) / base_trials
            above += chance * (value >= seen - 1e-9)
            below += chance * (value <= seen + 1e-9)
    assert suite.permutation_p(tables) == pytest.approx(min(1.0, 2 * min(above, below)), abs=1e-9)


def test_single_trials_need_six_flips_one_way() -> None:
    """Five have a p-value of 0.0625, and say so; six have 0.031."""
    for flipped, judged_ in ((5, None), (6, "regression")):
        base, own = counts([1] * 12, 1), counts([0] * flipped + [1] * (12 - flipped), 1)
        found = suite.rate_difference(own, base, 0.95)
        assert (found.reason == suite.ONE_TRIAL) == (judged_ is None)
        assert verdict(found, METRICS["pass"], 0.05) == (judged_ or "inconclusive")


def test_three_trials_against_three_are_no_verdict() -> None:
    """The exact test has p = 0.1; the interval ends at no change and is called exact."""
    found = suite.rate_difference(counts([0], 3), counts([3], 3), 0.95)
    assert (found.exact, found.high) == (True, 0.0)


def test_the_guard_keeps_tasks_that_differ_from_passing_for_a_difference() -> None:
    """20 trials against 2, half of the tasks 1 > 0.5 and half 0 > 0.5: the mean is 0; few false directions."""
    rng, false = np.random.default_rng(1), 0
    for _ in range(200):
        base = counts(rng.binomial(2, [0.5] * 8).tolist(), 2)
        own = counts([20, 0] * 4, 20)
        false += verdict(suite.rate_difference(own, base, 0.95), METRICS["pass"], 1e-9) != "inconclusive"
    assert false / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@fewer
@given(st.data(), passes_of_tasks)
def test_swapping_variant_and_baseline_turns_both_answers_around(
    data: st.DataObject, base: list[int]
) -> None:
    """Nothing prefers one of them, also with unequal trials."""
    own = data.draw(st.lists(st.integers(0, 4), min_size=len(base), max_size=len(base)))
    for answer in (suite.rate_difference, population.rate_difference):
        there, back = (
            answer(counts(own, 4), counts(base, 3), 0.95),
            answer(counts(base, 3), counts(own, 4), 0.95),
        )
        assert (there.reason is None) == (back.reason is None)
        if there.low is not None and there.high is not None:
            assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-6)  # type: ignore[operator]


def test_scores_vary_less_than_rates_and_have_shorter_intervals() -> None:
    """Scores near 0.5 that hardly vary, and passes of the same mean."""
    scores = rows(*([0.5, 0.52, 0.48] for _ in range(8)))
    even = suite.rate_difference(scores, scores, 0.95)
    passes = suite.rate_difference(counts([5] * 8, 10), counts([5] * 8, 10), 0.95)
    assert even.high is not None
    assert passes.high is not None
    assert even.high < 0.2 * passes.high
    reach = scipy.stats.t.ppf([0.975, 0.95], 8 * 2 * 2) * np.sqrt(2 * 0.02**2 / 3 / 8)
    assert (-even.low, even.high) == pytest.approx((reach[0],) * 2, rel=1e-6)  # type: ignore[operator]
    assert even.within == pytest.approx((-reach[1], reach[1]), rel=1e-6)


# Tasks established as lost


def test_a_lost_task_has_fishers_p_value_and_those_that_always_pass_cost_nothing() -> None:
    """SciPy's one-sided p-value; two tasks that can have one as small are corrected for."""
    base, own = counts([10] * 8, 10), counts([0] + [10] * 7, 10)
    (flip,) = flips(own, base, tuple("abcdefgh"))
    alone = scipy.stats.fisher_exact([[10, 0], [0, 10]], alternative="greater").pvalue
    assert (flip.task, flip.flip, flip.established) == ("a", "lost", True)
    assert flip.p_value == pytest.approx(alone)
    (one, other) = flips(counts([0, 4], 10), counts([10, 6], 10), ("a", "b"))
    assert one.p_value == pytest.approx(1 - (1 - alone) * (1 - alone))
    assert (other.flip, other.established) == ("lost", False)


def test_a_task_lost_from_five_of_five_is_established_and_from_three_of_three_is_not() -> None:
    """At 2.5 %, with seven more tasks that always pass."""
    for trials, established in ((5, True), (3, False)):
        base, own = counts([trials] * 8, trials), counts([0] + [trials] * 7, trials)
        assert [flip.established for flip in flips(own, base, tuple("abcdefgh"))] == [established]
        back = flips(base, own, tuple("abcdefgh"))
        assert [(flip.flip, flip.established) for flip in back] == [("gained", established)]


@pytest.mark.parametrize("rate_", [0.5, 0.9])
def test_no_task_is_falsely_lost_too_often(rate_: float) -> None:
    """Of eight tasks any, in at most 2.5 % of 400 runs, plus three standard errors."""
    rng, false = np.random.default_rng(2), 0
    for _ in range(400):
        own, base = (counts(rng.binomial(8, rate_, 8).tolist(), 8) for _ in range(2))
        false += any(flip.established and flip.flip == "lost" for flip in flips(own, base, tuple("abcdefgh")))
    assert false / 400 < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)


# On tasks like these


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 5])
def test_fewer_than_six_tasks_have_no_direction(tasks: int) -> None:
    """However clear it looks; six of the same kind have one."""
    for number, known in ((tasks, False), (6, True)):
        by_task = [0, 1, 0, 2, 1, 0][:number]
        found = population.rate_difference(counts(by_task, 10), counts([10] * number, 10), 0.95)
        assert (verdict(found, METRICS["pass"], 0.05) == "regression") == known
        assert (found.reason is None) == known


def test_the_interval_over_tasks_is_the_wider_of_t_and_the_subsets_means() -> None:
    """Of six tasks the least and the greatest of 63 means of subsets, or SciPy's t where that is wider."""
    values = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.15])
    means = sorted(
        float(np.mean(chosen)) for size in range(1, 7) for chosen in combinations(values.tolist(), size)
    )
    plain = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    low, high = population.mean_bounds(values, 0.95)
    assert (low, high) == pytest.approx((min(plain.low, means[0]), max(plain.high, means[-1])))


def test_no_task_that_differs_is_bounded_by_their_number() -> None:
    """What hides behind n tasks without any difference is the exact binomial bound at 0 of n."""
    same = counts([3, 0, 1, 3, 2, 3, 0, 1], 3)
    found = population.rate_difference(same, same, 0.95)
    assert found.high == pytest.approx(scipy.stats.binomtest(0, 8).proportion_ci(0.95, "exact").high)
    assert found.low == -found.high  # type: ignore[operator]


def test_a_little_noise_is_no_proof_that_no_task_hides() -> None:
    """One trial of 80 failed: its spread is small, and still eight tasks are not equivalent to all others."""
    found = population.rate_difference(counts([9] + [10] * 7, 10), counts([10] * 8, 10), 0.95)
    assert verdict(found, METRICS["pass"], 0.05) == "inconclusive"


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [6, 7, 8, 20])
def test_tasks_that_do_nothing_on_average_are_rarely_a_direction(tasks: int) -> None:
    """In at most 5 of 100 runs, plus three standard errors of 600 simulated ones."""
    rng, false = np.random.default_rng(3), 0
    for _ in range(600):
        own, base = (counts(rng.binomial(10, rng.beta(0.5, 0.5, tasks)).tolist(), 10) for _ in range(2))
        found = population.rate_difference(own, base, 0.95)
        false += verdict(found, METRICS["pass"], 1e-9) != "inconclusive"
    assert false / 600 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


# Cost


def amounts_of(table: TaskMeans, log_table: TaskMeans) -> Amounts:
    return Amounts(table, log_table)


def costs(
    rng: np.random.Generator, tasks: int, trials: int, factor: float = 1.0
) -> tuple[TaskMeans, TaskMeans]:
    values = np.exp(rng.normal(0, 0.4, (tasks, trials)) + np.linspace(-1, 1, tasks)[:, None]) * factor
    return rows(*values.tolist()), rows(*np.log(values).tolist())


def test_the_typical_trial_on_these_tasks_has_the_pooled_t_interval() -> None:
    """By hand: the variance of the logarithms within tasks and arms, pooled."""
    rng = np.random.default_rng(4)
    (_, own), (_, base) = costs(rng, 5, 4, 1.5), costs(rng, 5, 4)
    found = typical_on_suite(own, base, 0.95)
    pooled = float(np.mean(np.concatenate([own.within, base.within])))
    reach = scipy.stats.t.ppf(0.975, 30) * np.sqrt(pooled * 2 / 4 / 5)
    assert found.center is not None
    assert (found.low, found.high) == pytest.approx((found.center - reach, found.center + reach))


def test_the_bill_is_the_ratio_of_sums_and_dear_tasks_make_it() -> None:
    """Cheap tasks become cheaper, a dear one dearer: the typical trial and the bill go apart."""
    base_values = [[0.1, 0.11, 0.09]] * 9 + [[4.0, 4.1, 3.9]]
    own_values = [[0.07, 0.075, 0.065]] * 9 + [[6.0, 6.1, 5.9]]
    own, base = rows(*own_values), rows(*base_values)
    own_logs, base_logs = (
        rows(*(np.log(v).tolist() for v in values)) for values in (own_values, base_values)
    )
    bill = sum_on_suite(amounts_of(own, own_logs), amounts_of(base, base_logs), 0.95)
    typical = typical_on_suite(own_logs, base_logs, 0.95)
    assert bill.value == pytest.approx((9 * 0.07 + 6) / (9 * 0.1 + 4) - 1)
    assert verdict(bill, METRICS["bill"], 0.1) == "regression"
    assert verdict(typical, METRICS["cost"], 0.1) == "improvement"


def test_a_task_with_a_heavy_tail_that_makes_the_bill_leaves_no_interval() -> None:
    """One trial of it costs a hundred times the others: whether it comes again decides, and nothing tells that."""
    values = [[0.1, 0.12, 0.11, 0.1]] * 7 + [[0.1, 0.12, 0.11, 20.0]]
    wild, logs_ = rows(*values), rows(*(np.log(v).tolist() for v in values))
    found = sum_on_suite(amounts_of(wild, logs_), amounts_of(wild, logs_), 0.95)
    assert found.interval is None
    assert "one task makes more than half of it" in str(found.reason)


def test_one_trial_of_each_task_has_no_cost_interval_on_these_tasks() -> None:
    """But one on tasks like these, by SciPy's t where the tasks are spread as normal values are."""
    rng = np.random.default_rng(5)
    (own, own_logs), (base, base_logs) = costs(rng, 12, 1, 1.4), costs(rng, 12, 1)
    assert typical_on_suite(own_logs, base_logs, 0.95).reason
    assert sum_on_suite(amounts_of(own, own_logs), amounts_of(base, base_logs), 0.95).reason
    found = typical_on_population(own_logs, base_logs, 0.95)
    plain = scipy.stats.ttest_rel(own_logs.mean, base_logs.mean).confidence_interval(0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= plain.low + 1e-12 < plain.high - 1e-12 <= found.high
    assert found.within == population.mean_bounds(own_logs.mean - base_logs.mean, 0.9)


def a_priced_run(prices: dict[str, list[list[float]]], passes: dict[str, list[list[int]]]) -> list[Trials]:
    return [
        Trials(f"t{i}", name, {"pass": passes[name][i], "cost": values})
        for name, tasks in prices.items()
        for i, values in enumerate(tasks)
    ]


def test_a_pass_costs_the_bill_divided_by_the_rate() -> None:
    """Half the price and half the passes is the same price for a pass."""
    prices = {"a": [[1.0, 1.2], [2.0, 2.2]] * 3, "b": [[0.5, 0.6], [1.0, 1.1]] * 3}
    passes = {"a": [[1, 1], [1, 1]] * 3, "b": [[1, 0], [0, 1]] * 3}
    found = against(compare(a_priced_run(prices, passes), [("b", "a")]), "b", "pass_cost")
    assert found.suite.difference.value == pytest.approx(0.0)
    assert found.suite.difference.interval
    none = {"a": passes["a"], "b": [[0, 0], [0, 0]] * 3}
    lost = against(compare(a_priced_run(prices, none), [("b", "a")]), "b", "pass_cost")
    assert lost.suite.difference.reason == "the sum is 0, or nothing passed: there is no ratio"
    once = {"a": passes["a"], "b": [[1, 0]] + [[0, 0]] * 5}
    dear = against(compare(a_priced_run(prices, once), [("b", "a")]), "b", "pass_cost")
    assert dear.suite.difference.value == pytest.approx(12 * 0.5 - 1)
    next_to_nothing = {"a": [[1e-320, 1e-310]] * 6, "b": prices["b"]}
    free = against(compare(a_priced_run(next_to_nothing, passes), [("b", "a")]), "b", "pass_cost")
    assert free.suite.difference.reason == lost.suite.difference.reason


def test_dear_failures_make_the_price_of_a_pass_less_sure() -> None:
    """Cost and passes that go apart add up in it; those that go together take from each other."""
    passes = {name: [[1, 0, 1, 0], [1, 0, 1, 1]] * 3 for name in ("a", "b")}
    reach = {}
    for dear, cheap in ((1.1, 1.0), (1.0, 1.1)):
        own = [[dear if passed else cheap for passed in task] for task in passes["a"]]
        found = against(compare(a_priced_run({"a": own, "b": own}, passes), [("b", "a")]), "b", "pass_cost")
        difference = found.suite.difference
        assert difference.low is not None
        assert difference.high is not None
        reach[dear] = difference.high - difference.low
    assert reach[1.0] > 1.1 * reach[1.1]


def test_no_interval_is_shown_that_says_nothing() -> None:
    """Two tasks, one of 1 s and one of 1,000,000 s; a difference between -100 and +100 points."""
    found = Difference(True, 2, 1, 0.95, 0.0).with_bounds((-9.0, 9.0), (-8.0, 8.0))
    assert (found.low, found.reason) == (
        None,
        "the interval says nothing: its ends are more than a hundredfold apart",
    )
    rates = Difference(False, 2, 1, 0.95, 0.0).with_bounds((-1.0, 1.0), (-1.0, 1.0))
    assert rates.reason == "the interval says nothing: any difference at all may be true"
    for values in ([1755.0, 997.0], [1.0, 1e6]):
        table = rows(*([value] for value in values))
        for of in (skewed_mean, geometric_mean):
            assert of(table, logs(table)).interval is None
    few_pass = {"a": [[1, 1], [1, 1]] + [[0, 0]] * 4}
    own = compare(a_priced_run({"a": [[0.11, 0.12]] * 6}, few_pass), [])
    ((of_a,), reason) = own.variants, "the interval says nothing: its ends are more than a hundredfold apart"
    found_each = of_a.metrics["pass_cost"].estimate
    assert (found_each.interval, found_each.reason) == (None, reason)


def test_values_of_0_have_a_sum_and_no_typical_trial() -> None:
    """A 0 has no logarithm: that is said, with how many there are."""
    prices = {"a": [[0.0], [1.0], [2.0]], "b": [[0.0], [0.0], [3.0]]}
    passes = {"a": [[1]] * 3, "b": [[1]] * 3}
    found = compare(a_priced_run(prices, passes), [("b", "a")])
    typical, bill = against(found, "b", "cost").difference, against(found, "b", "bill").difference
    assert typical.reason == "3 values are 0: a typical trial's difference needs values above 0"
    assert bill.value == pytest.approx(0.0)


# Both questions


def test_each_question_has_its_answer_and_these_tasks_come_first() -> None:
    """One of eight tasks is lost: on these tasks a regression; on tasks like these open."""
    run = a_run({"a": [[1] * 10] * 8, "b": [[0] * 10] + [[1] * 10] * 7})
    found = against(compare(run, [("b", "a")]), "b")
    assert (found.question, found.suite.verdict, found.population.verdict) == (
        "suite",
        "regression",
        "inconclusive",
    )
    once = a_run({"a": [[1]] * 8, "b": [[1]] * 8})
    assert against(compare(once, [("b", "a")]), "b").question == "population"


def test_equivalent_never_stands_beside_a_lost_task() -> None:
    """One of 50 is 2 points, within the margin; it is lost all the same."""
    run = a_run({"a": [[1] * 10] * 50, "b": [[0] * 10] + [[1] * 10] * 49})
    found = compare(run, [("b", "a")])
    for metric in ("pass",):
        contrast = against(found, "b", metric)  # type: ignore[arg-type]
        assert "equivalent" not in (contrast.suite.verdict, contrast.population.verdict)
    assert [flip.task for flip in found.flips["b"]] == ["t0"]


def test_all_that_passes_gets_the_exact_size() -> None:
    """72 tasks for tasks like these; on these tasks the trials by the score interval, in a row of suites."""
    for tasks, trials in ((3, 18), (5, 11), (8, 7), (15, 4)):
        run = a_run({name: [[1] * 2] * tasks for name in "ab"})
        answer = against(compare(run, [("b", "a")]), "b").suite
        assert answer.needed
        assert (answer.needed.value, answer.needed.low) == (trials, None)
        for number, verdict_ in ((trials, "equivalent"), (trials - 1, "inconclusive")):
            again = a_run({name: [[1] * number] * tasks for name in "ab"})
            assert against(compare(again, [("b", "a")]), "b").suite.verdict == verdict_
    eight = against(compare(a_run({name: [[1] * 10] * 8 for name in "ab"}), [("b", "a")]), "b").population
    assert eight.needed
    assert eight.needed.value == 72


def test_a_noisy_pilot_gets_a_size_with_its_range() -> None:
    """The range holds the size, and both are more than there were."""
    run = a_run({"a": [[1, 0, 1, 0, 1]] * 8, "b": [[1, 1, 1, 0, 0]] * 8})
    for answer in (against(compare(run, [("b", "a")]), "b").suite,):
        assert answer.needed
        assert answer.needed.value
        assert answer.needed.low
        assert 5 < answer.needed.low <= answer.needed.value
        assert answer.smallest.value
        assert 0 < answer.smallest.value < 1


def test_the_size_settles_that_nothing_is_there_or_finds_what_is() -> None:
    """By hand: of nothing 90 runs in 100 are equivalent and 5 a difference; half find the difference that is there."""
    error = 0.05 / (2 * scipy.stats.norm.ppf(0.95))
    for effect, least in ((0.0, 0.5 / error**2), (0.2, 0.5 * (scipy.stats.norm.ppf(0.975) / 0.2) ** 2)):
        found = recommended_size(Draws(np.full(400, effect), np.full(400, 0.5), normal), 0.05, 0.95, 5)
        assert found.value is not None
        assert least <= found.value < least * 1.04


def test_the_smallest_difference_is_found_in_80_of_100_runs() -> None:
    """By SciPy: the sum of two quantiles times the standard error."""
    found = smallest(Draws(np.zeros(400), np.full(400, 0.5), normal), 0.9, 50)
    assert found.value == pytest.approx((scipy.stats.norm.ppf(0.95) + scipy.stats.norm.ppf(0.8)) * 0.1)


def test_several_comparisons_widen_the_intervals() -> None:
    """So that all hold together with the confidence named."""
    run = a_run({"a": [[0, 1], [0, 0], [1, 1], [0, 1]], "b": [[1, 1], [0, 1], [1, 1], [0, 1]]})
    more = [Trials(cell.task, "c", cell.values) for cell in run if cell.variant == "b"]
    alone = against(compare(run, [("b", "a")]), "b").suite.difference
    among = against(compare([*run, *more], [("b", "a"), ("c", "a")]), "b").suite.difference
    assert family_level(0.95, 2) ** 2 == pytest.approx(0.95)
    assert among.level == pytest.approx(family_level(0.95, 2))
    assert among.low is not None
    assert alone.low is not None
    assert among.low < alone.low


def test_what_does_not_count_is_bounded_both_ways() -> None:
    """The difference if all that was left out had gone against the variant, and if all had gone for it."""
    run = [
        Trials("t0", "a", {"pass": [1, 0]}, errors=1),
        Trials("t1", "a", {"pass": [0, 0]}),
        Trials("t0", "b", {"pass": [1, 1]}),
        Trials("t1", "b", {"pass": [1]}, invalid=3),
    ]
    found = compare(run, [("b", "a")], metrics=["pass", "cost"])
    ends = against(found, "b").suite.if_excluded
    assert ends
    # a: (1 + 1) / 3 against 1 / 3; b: 1 / 4 against 4 / 4.
    assert ends.against.value == pytest.approx((1 + 1 / 4) / 2 - (2 / 3 + 0) / 2)
    assert ends.favour.value == pytest.approx((1 + 1) / 2 - (1 / 3 + 0) / 2)
    assert against(found, "b", "cost").suite.if_excluded is None


def test_a_task_of_which_all_was_left_out_could_be_lost() -> None:
    """It cannot be compared; had its trials failed, it would be established as lost."""
    run = [Trials(f"t{i}", "a", {"pass": [1] * 10}) for i in range(4)]
    run += [Trials(f"t{i}", "b", {"pass": [1] * 10 if i else []}, errors=0 if i else 10) for i in range(4)]
    found = compare(run, [("b", "a")])
    assert found.breakable["b"] == ("t0",)
    assert found.flips["b"] == ()


def test_looks_about_these_tasks_share_the_error_in_equal_parts() -> None:
    """Of 20 rounds after 3, 5, 10 and 20, by the bounds of Brownian motion."""
    z = [scipy.stats.norm.ppf((1 + level_at(RoundsPlan(20), look)) / 2) for look in RoundsPlan(20).looks]
    assert z == pytest.approx([2.498, 2.382, 2.373, 2.360], abs=5e-3)


def test_what_a_plan_promises_its_runs_find() -> None:
    """In 80 of 100 runs, to within 8 points, of a suite whose tasks were seen to pass 8 of 10."""
    points = smallest_points(8, 5, [(8, 10)] * 8)
    assert points
    rng, found = np.random.default_rng(6), 0
    for _ in range(300):
        rates = rng.beta(8.5, 2.5, 8)
        own = rates * (1 - points / 100 / rates.mean())
        base_run, own_run = (counts(rng.binomial(5, r).tolist(), 5) for r in (rates, own))
        found += (
            verdict(suite.rate_difference(own_run, base_run, 0.95), METRICS["pass"], 1e-9) == "regression"
        )
    assert found / 300 == pytest.approx(0.8, abs=0.08)
    assert smallest_points(1, 2, None) is None


def test_what_a_plan_promises_is_the_least_that_it_finds() -> None:
    """To a part in 512 of what could be lost of 72.5 %; tasks that mostly fail are no other than those that pass."""
    least = smallest_points(4, 4, None)
    assert least
    assert is_found(4, 4, least)
    assert not is_found(4, 4, least - 72.5 / 512)
    failing, passing = (smallest_points(4, 4, [(k, 10)] * 4) for k in (2, 8))
    assert failing == pytest.approx(passing, rel=0.05)
