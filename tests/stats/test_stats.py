"""The statistics: known answers by SciPy or by hand, what must hold for any data, and calibration at small samples."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.arrays import TaskMeans, task_means
from harness.stats.compare import compare
from harness.stats.data import METRICS, MetricName, Plan, Trials
from harness.stats.paired import difference
from harness.stats.power import detectable, needed
from harness.stats.rates import geometric_mean, rate, skewed_mean
from harness.stats.results import Comparison, Contrast, Difference
from harness.stats.sequential import level_at
from harness.stats.taskwise import flips, pass_at_k, pass_hat_k, results
from harness.stats.verdict import family_level, verdict

fewer = settings(max_examples=60)


def rows(*by_task: list[float | None]) -> TaskMeans:
    """A tally of tasks, each given by its trials' values."""
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


def test_a_difference_of_costs_is_the_paired_t_interval_of_the_logarithms() -> None:
    """SciPy's own: the ratio of geometric means, as relative change."""
    base, own = [1.0, 2.0, 4.0, 3.0, 8.0], [1.3, 2.1, 3.0, 4.4, 9.0]
    found = difference(logs(rows(*([x] for x in own))), logs(rows(*([x] for x in base))), relative=True)
    expected = stats.ttest_rel(np.log(own), np.log(base)).confidence_interval(0.95)
    interval = found.interval
    assert interval
    assert (interval.low, interval.high) == pytest.approx((np.expm1(expected.low), np.expm1(expected.high)))
    assert found.value == pytest.approx(np.exp(np.mean(np.log(own) - np.log(base))) - 1)


def test_a_difference_of_rates_is_the_paired_t_interval_where_tasks_differ_evenly() -> None:
    """No task jumps: nothing has a longer tail, and SciPy's interval stands."""
    base, own = counts([2, 4, 6, 8, 5], 10), counts([3, 5, 8, 10, 7], 10)
    found = difference(own, base, relative=False)
    expected = stats.ttest_rel(own.mean, base.mean).confidence_interval(0.95)
    assert found.high == pytest.approx(expected.high)
    assert found.low is not None
    assert found.low <= expected.low + 1e-12


@pytest.mark.parametrize(("jump", "further"), [(1, True), (5, True), (6, False), (15, False)])
def test_a_difference_on_few_tasks_reaches_further_than_the_t_interval(jump: int, further: bool) -> None:
    """Tasks that jump are the longer tail, while they are few: the next one has not been seen yet."""
    base = counts([0] * 30, 10)
    own = counts([3] * jump + [0] * (30 - jump), 10)
    found = difference(own, base, relative=False)
    expected = stats.ttest_rel(own.mean, base.mean).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low)
    assert found.high is not None
    assert (found.high > expected.high + 1e-9) == further


def test_one_trial_each_gives_the_exact_mid_p_interval() -> None:
    """At its ends, one tail and half of what was seen have 2.5 %."""
    interval = rate(counts([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], 1)).interval
    assert interval
    above = stats.binom.sf(3, 10, interval.low) + stats.binom.pmf(3, 10, interval.low) / 2
    below = stats.binom.cdf(2, 10, interval.high) + stats.binom.pmf(3, 10, interval.high) / 2
    assert (above, below) == pytest.approx((0.025, 0.025), abs=1e-6)


def test_no_task_that_differs_is_bounded_by_their_number() -> None:
    """What hides behind n tasks without any difference is the exact binomial bound at 0 of n."""
    same = counts([3, 0, 1, 3, 2, 3, 0, 1], 3)
    found = difference(same, same, relative=False)
    assert found.center == 0
    assert found.high == pytest.approx(stats.binomtest(0, 8).proportion_ci(0.95, "exact").high)
    assert found.low == -found.high  # type: ignore[operator]


def test_a_typical_cost_is_the_geometric_mean_with_its_t_interval() -> None:
    """On the scale of logarithms, by SciPy."""
    table = rows([1.0], [2.0], [4.0], [10.0])
    found = geometric_mean(table, logs(table))
    expected = stats.ttest_1samp(np.log(table.mean), 0).confidence_interval(0.95)
    assert found.value == pytest.approx(stats.gmean(table.mean))
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


def test_a_flip_has_fishers_p_value_and_is_established_only_with_all_tasks_corrected_for() -> None:
    """SciPy's p-value; Holm's correction over the tasks."""
    base, own = counts([0, 10, 6, 4], 10), counts([10, 9, 4, 6], 10)
    found = {flip.task: flip for flip in flips(own, base, ("a", "b", "c", "d"))}
    assert found["a"].p_value == pytest.approx(stats.fisher_exact([[10, 0], [0, 10]]).pvalue)
    assert found["c"].p_value == pytest.approx(stats.fisher_exact([[4, 6], [6, 4]]).pvalue)
    assert {task: (flip.flip, flip.established) for task, flip in found.items()} == {
        "a": ("gained", True),
        "c": ("lost", False),
        "d": ("gained", False),
    }


def test_a_task_is_flaky_when_it_did_both() -> None:
    """With how often two trials of it disagree, unbiased."""
    first, second, third = results(rows([1.0, 0.0, 1.0], [1.0, 1.0], [0.0]), ("a", "b", "c"))
    assert (first.flaky, second.flaky, third.flaky) == (True, False, False)
    assert first.disagreement == pytest.approx(2 / 3)
    assert (second.disagreement, third.disagreement) == (0.0, None)


def test_the_smallest_detectable_effect_has_power_80_by_the_noncentral_t() -> None:
    """SciPy's distribution finds it in 80 of 100 runs."""
    found = Difference(True, tasks=10, trials=3, level=0.95, center=0.0, low=-0.3, high=0.3)
    effect = detectable(found)
    assert effect.value
    critical = stats.t.ppf(0.975, 9)
    error = 0.3 / critical
    assert stats.nct.sf(critical, 9, np.log1p(effect.value) / error) == pytest.approx(0.8, abs=1e-4)


def test_what_would_settle_it_does() -> None:
    """With that many tasks the power is 80 %, with one less it is not."""
    found = Difference(False, tasks=10, trials=1, level=0.95, center=0.2, low=-0.1, high=0.5)
    tasks = needed(found, 0.05).tasks.value
    assert tasks
    spread = 0.3 / stats.t.ppf(0.975, 9) * np.sqrt(10)

    def power(n: float) -> float:
        return float(stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, 0.2 / (spread / np.sqrt(n))))

    assert power(tasks) >= 0.8 > power(tasks - 1)


def test_the_bounds_of_two_looks_spend_half_of_the_error_each() -> None:
    """By SciPy's bivariate normal; with so many tasks that t is normal."""
    tasks = 10**9
    assert Plan(5).looks == (3, 5)
    first, second = (stats.norm.ppf((1 + level_at(Plan(5), look, tasks)) / 2) for look in (3, 5))
    inside = stats.multivariate_normal([0, 0], [[1, np.sqrt(0.6)], [np.sqrt(0.6), 1]])
    both = inside.cdf([first, second], lower_limit=[-first, -second])
    assert 2 * stats.norm.sf(first) == pytest.approx(0.025, rel=1e-3)
    assert both == pytest.approx(0.95, abs=1e-4)


def test_a_plan_of_one_look_is_the_fixed_design() -> None:
    """There is nothing to correct for."""
    assert level_at(Plan(1), 1, 10) == pytest.approx(0.95)


# Verdicts


def judged(low: float, high: float, metric: MetricName = "pass", margin: float = 0.05) -> str:
    found = Difference(METRICS[metric].relative, 10, 3, 0.95, (low + high) / 2, low, high)
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


def test_no_interval_is_no_verdict() -> None:
    """One task shows nothing about others."""
    (contrast,) = compare(
        a_run({"a": [[0, 0, 0]], "b": [[1, 1, 1]]}), [("b", "a")], metrics=["pass"]
    ).contrasts
    assert contrast.verdict == "inconclusive"
    assert contrast.difference.value == 1
    assert contrast.difference.reason


def test_several_comparisons_widen_the_intervals() -> None:
    """So that all hold together with the confidence named."""
    run = a_run({"a": [[0, 1], [0, 0], [1, 1], [0, 1]], "b": [[1, 1], [0, 1], [1, 1], [0, 1]]})
    more = [Trials(cell.task, "c", cell.values) for cell in run if cell.variant == "b"]
    alone = against(compare(run, [("b", "a")]), "b").difference
    among = against(compare([*run, *more], [("b", "a"), ("c", "a")]), "b").difference
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
    ends = against(found, "b").if_excluded
    assert ends
    # a: (1 + 1) / 3 against 1 / 3; b: 1 / 4 against 4 / 4.
    assert ends.against.value == pytest.approx((1 + 1 / 4) / 2 - (2 / 3 + 0) / 2)
    assert ends.favour.value == pytest.approx((1 + 1) / 2 - (1 / 3 + 0) / 2)
    assert against(found, "b", "cost").if_excluded is None


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

passes_of_tasks = st.lists(st.integers(0, 3), min_size=2, max_size=12)


@fewer
@given(st.data(), passes_of_tasks)
def test_swapping_variant_and_baseline_turns_the_difference_around(
    data: st.DataObject, base: list[int]
) -> None:
    """Nothing prefers one of them."""
    own = data.draw(st.lists(st.integers(0, 3), min_size=len(base), max_size=len(base)))
    there = difference(counts(own, 3), counts(base, 3), relative=False)
    back = difference(counts(base, 3), counts(own, 3), relative=False)
    assert there.low == pytest.approx(-back.high, abs=1e-9)  # type: ignore[operator]
    assert there.high == pytest.approx(-back.low, abs=1e-9)  # type: ignore[operator]


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
@given(st.integers(2, 12), st.integers(2, 5), st.data())
def test_tasks_that_happen_to_agree_prove_nothing_to_the_point(
    tasks: int, trials: int, data: st.DataObject
) -> None:
    """Each passes once of three under one variant and twice under the other: chance does that, at four tasks."""
    base, own = (data.draw(st.integers(0, trials)) for _ in range(2))
    found = difference(counts([own] * tasks, trials), counts([base] * tasks, trials), relative=False)
    assert found.center is not None
    assert found.low is not None
    assert found.high is not None
    assert max(-1.0, found.low) <= found.center <= min(1.0, found.high)
    assert found.high - found.low > 0.2 / tasks


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
        levels = [level_at(Plan(rounds), look, tasks) for look in range(1, rounds + 1)]
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


@pytest.mark.slow
@pytest.mark.parametrize(("tasks", "trials", "p"), [(5, 3, 0.1), (10, 1, 0.5), (30, 3, 0.9)])
def test_variants_that_do_nothing_are_rarely_told_apart(tasks: int, trials: int, p: float) -> None:
    """In at most 5 of 100 runs, plus three standard errors of 600 simulated ones."""
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(600):
        rates = rng.beta(p * 4, (1 - p) * 4, tasks)
        found = difference(draw(rng, rates, trials), draw(rng, rates, trials), relative=False)
        false += verdict(found, METRICS["pass"], 1e-9) in ("improvement", "regression")
    assert false / 600 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


@pytest.mark.slow
def test_looking_again_and_again_raises_no_more_false_alarms() -> None:
    """Every look of twenty rounds: in at most 5 of 100 runs any is wrong (plus three standard errors of 300)."""
    rng, plan, tasks, false = np.random.default_rng(3), Plan(20), 10, 0
    levels = {look: level_at(plan, look, tasks) for look in plan.looks}
    for _ in range(300):
        rates = rng.beta(2, 2, tasks)
        own, base = (rng.random((tasks, 20)) < rates[:, None] for _ in range(2))
        for look, level in levels.items():
            sums = (counts(x[:, :look].sum(1).tolist(), look) for x in (own, base))
            found = difference(*sums, relative=False, level=level)
            if verdict(found, METRICS["pass"], 1e-9) != "inconclusive":
                false += 1
                break
    assert false / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
