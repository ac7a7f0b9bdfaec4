"""The statistics: known answers by SciPy or by hand, what must hold for any data, and calibration at small samples."""

from __future__ import annotations

from collections.abc import Callable
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


# What would settle it: checked by the noncentral t, and by simulated runs of that size


def power_of(tasks: float, effect: float, error: float) -> float:
    """How often a two-sided t-test at 5 % over so many tasks finds a true effect, by SciPy's noncentral t."""
    return float(stats.nct.sf(stats.t.ppf(0.975, tasks - 1), tasks - 1, effect / error))


PILOT_ERROR = 0.2 / float(stats.t.ppf(0.975, 9))
"""The standard error of a pilot of 10 tasks whose interval reaches 0.2 to its longer side."""


def a_pilot(center: float, inside: float | None, *, tasks: int = 10, trials: float = 4) -> Difference:
    """A pilot with that error, whose upper side is the shorter one."""
    reach = PILOT_ERROR * float(stats.t.ppf(0.975, tasks - 1))
    return Difference(True, tasks, trials, 0.95, center, center - reach, center + reach / 2, None, inside)


def trials_error(trials: float, inside: float) -> float:
    """The error with so many trials in place of the pilot's 4: only the part that comes from trials shrinks."""
    between = 10 * PILOT_ERROR**2 - inside
    return float(np.sqrt((between + inside * 4 / trials) / 10))


@pytest.mark.parametrize("sign", [1, -1])
def test_so_many_trials_find_the_effect_seen_in_80_of_100_runs(sign: int) -> None:
    """With one trial less the power is below 0.8; the trials' noise shrinks, what tasks differ by does not."""
    inside = 9 * PILOT_ERROR**2
    trials = needed(a_pilot(sign * 0.15, inside), 0.02).trials.value
    assert trials is not None
    assert power_of(10, 0.15, trials_error(trials, inside)) >= 0.8
    assert power_of(10, 0.15, trials_error(trials - 1, inside)) < 0.8


def test_so_many_trials_or_tasks_show_that_nothing_changed() -> None:
    """Each side of the margin may be missed in 10 of 100 runs: together they are the 20 that fail."""
    inside, center, margin = 9.5 * PILOT_ERROR**2, 0.02, 0.15
    found = needed(a_pilot(center, inside), margin)
    trials, tasks = found.trials.value, found.tasks.value
    assert trials is not None
    assert tasks is not None
    assert power_of(10, margin - center, trials_error(trials, inside)) >= 0.9
    assert power_of(10, margin - center, trials_error(trials - 1, inside)) < 0.9
    errors = [PILOT_ERROR * np.sqrt(10 / n) for n in (tasks, tasks - 1)]
    assert (
        power_of(tasks, margin - center, errors[0]) >= 0.9 > power_of(tasks - 1, margin - center, errors[1])
    )


def test_a_pilots_trials_that_are_no_whole_number_are_scaled_as_they_are() -> None:
    """Unequal numbers of trials have a harmonic mean, from which the need is counted."""
    inside = 9 * PILOT_ERROR**2
    whole = needed(a_pilot(0.15, inside, trials=4), 0.02).trials.value
    scaled = needed(a_pilot(0.15, inside, trials=2.5), 0.02).trials.value
    assert whole is not None
    assert scaled is not None
    # Trials are rounded up: 2.5 / 4 of what lies between the one number and the one before it.
    assert np.ceil((whole - 1) * 2.5 / 4) <= scaled <= np.ceil(whole * 2.5 / 4)


def test_what_is_nearly_settled_needs_one_trial_more() -> None:
    """Where the power is there already, the next whole number of trials is named, and not fewer than there are."""
    found = needed(a_pilot(0.6, 9 * PILOT_ERROR**2), 0.02)
    assert found.trials.value == 5
    assert found.tasks.value == 11


@pytest.mark.parametrize(("reach", "found"), [(0.2, True), (0.8, False)])
def test_an_effect_beyond_100_points_is_none(reach: float, found: bool) -> None:
    """A rate cannot change by more; what is seen can be told as points, else why it cannot."""
    rates = Difference(False, 10, 3, 0.95, 0.0, -reach, reach)
    effect = detectable(rates)
    assert (effect.value is not None) == found
    assert (effect.reason is None) == found
    if effect.value is not None:
        assert power_of(10, effect.value, reach / float(stats.t.ppf(0.975, 9))) == pytest.approx(
            0.8, abs=1e-4
        )


def test_what_cannot_be_settled_says_so() -> None:
    """Without repeated trials, where the tasks themselves differ, and where the effect lies at the margin."""
    assert needed(a_pilot(0.15, None), 0.02).trials.reason == (
        "no task was tried twice: how much its trials differ is unknown"
    )
    stubborn = needed(a_pilot(0.15, 1 * PILOT_ERROR**2), 0.02)
    assert stubborn.trials.value is None
    assert stubborn.trials.reason == "the tasks themselves differ too much: only more tasks would settle it"
    assert stubborn.tasks.value is not None
    lost = needed(a_pilot(0.0001, 9 * PILOT_ERROR**2), 0.0001)
    assert lost.tasks.value is None
    assert lost.tasks.reason is not None
    assert lost.tasks.reason.startswith("more than 100000 tasks")
    one = Difference(False, 1, 3, 0.95, 0.5, reason="one task only")
    assert needed(one, 0.05).trials.reason == needed(one, 0.05).tasks.reason == "one task only"


def test_more_noise_within_tasks_than_between_them_is_all_taken_as_noise() -> None:
    """Chance can show that; then enough trials settle anything."""
    at_most = needed(a_pilot(0.15, 10 * PILOT_ERROR**2), 0.02).trials.value
    assert needed(a_pilot(0.15, 90 * PILOT_ERROR**2), 0.02).trials.value == at_most
    assert at_most is not None
    assert power_of(10, 0.15, trials_error(at_most, 10 * PILOT_ERROR**2)) >= 0.8


def with_spread(means: np.ndarray, trials: int, within: float) -> TaskMeans:
    """Tasks with these means, so many trials each, and this variance between the trials."""
    return TaskMeans(np.full(means.size, trials), means, np.full(means.size, within))


def settled(center: float, tasks: int, noise: float, margin: float) -> float:
    """The share of 10,000 simulated runs with the right verdict, their intervals by SciPy.

    Tasks differ by N(center, 0.02), and trials add N(0, noise) to each.
    """
    rng = np.random.default_rng(4)
    by_task = rng.normal(center, np.sqrt(0.02), (10_000, tasks))
    seen = by_task + rng.normal(0, np.sqrt(noise), by_task.shape)
    interval = stats.ttest_1samp(seen, 0, axis=1).confidence_interval(0.95)
    right = interval.low > 0 if center else np.maximum(-interval.low, interval.high) < np.log1p(margin)
    return float(np.asarray(right).mean())


def spread_as_normal(count: int) -> np.ndarray:
    """Values as normal ones are spread, with mean 0 and sample variance 1."""
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return np.asarray(values / values.std(ddof=1))


@pytest.mark.parametrize(("center", "margin"), [(0.16, 0.05), (0.0, 0.18)], ids=["an effect", "no effect"])
def test_simulated_runs_of_the_needed_size_are_settled_in_80_of_100(center: float, margin: float) -> None:
    """Whichever is added, trials or tasks; with a quarter less of them it is less.

    The pilot (12 tasks; 2 trials of the variant, 4 of the baseline) shows exactly what the runs are drawn with: trials
    that vary by 0.1.
    """
    noise = 0.1 / 2 + 0.1 / 4
    base, by_task = np.linspace(-1, 1, 12), center + spread_as_normal(12) * np.sqrt(0.02 + noise)
    pilot = difference(with_spread(base + by_task, 2, 0.1), with_spread(base, 4, 0.1), relative=True)
    assert (pilot.within_task_variance, pilot.trials) == (pytest.approx(noise), pytest.approx(8 / 3))
    found = needed(pilot, float(np.log1p(margin)))
    trials, tasks = found.trials.value, found.tasks.value
    assert trials is not None
    assert tasks is not None
    assert 0.79 < settled(center, 12, 0.1 / trials + 0.1 / trials, margin) < 0.83
    assert 0.79 < settled(center, int(tasks), noise, margin) < 0.83
    fewer_trials, fewer_tasks = 0.75 * trials, int(0.75 * tasks)
    assert settled(center, 12, 0.1 / fewer_trials + 0.1 / fewer_trials, margin) < 0.79
    assert settled(center, fewer_tasks, noise, margin) < 0.79


def test_only_tasks_that_were_repeated_under_both_tell_of_the_trials_noise() -> None:
    """By hand: the second task's trials vary by 0.5 and by 0.125, and the others were tried once somewhere."""
    own = rows([1.0], [1.0, 2.0], [5.0, 9.0])
    base = rows([2.0, 4.0], [1.5, 1.0], [3.0])
    found = difference(own, base, relative=True)
    assert found.within_task_variance == pytest.approx(0.5 / 2 + 0.125 / 2)
    assert found.trials == pytest.approx(2 / np.mean([1 / 1 + 1 / 2, 1 / 2 + 1 / 2, 1 / 2 + 1 / 1]))
    assert difference(rows([1.0], [2.0]), rows([1.0], [3.0]), relative=True).within_task_variance is None


# How wide an interval is


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_mean_costs_interval_is_that_of_a_lognormal_mean_by_mover(level: float) -> None:
    """By SciPy's t and chi-squared: location, variance between tasks, and the trials' share that it lacks."""
    table = [[1.0, 2.0, 1.5], [2.0, 2.5], [4.0], [10.0, 7.0, 8.0]]
    ends = [np.log(values) for values in table]
    whole = skewed_mean(rows(*table), rows(*(list(map(float, values)) for values in ends)), level)
    means = np.array([values.mean() for values in ends])
    quantile = stats.t.ppf((1 + level) / 2, 3)
    location = quantile * means.std(ddof=1) / np.sqrt(4)
    squares = sum(((values - values.mean()) ** 2).sum() for values in ends)
    pooled = squares / (2 + 1 + 2)
    parts = [(means.var(ddof=1), 3), (pooled * np.mean([1 - 1 / len(values) for values in ends]), 5)]
    down, up = location**2, location**2
    for variance, freedom in parts:
        low, high = stats.chi2.interval(level, freedom)
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
    costs = np.array([1.0, 2.0, 4.0, 10.0])
    found = skewed_mean(
        rows(*([cost] for cost in costs.tolist())), logs(rows(*([c] for c in costs.tolist())))
    )
    values = np.log(costs)
    variance, location = values.var(ddof=1), stats.t.ppf(0.975, 3) * stats.sem(values)
    low, high = stats.chi2.interval(0.95, 3)
    down = np.hypot(location, (variance - variance * 3 / high) / 2)
    up = np.hypot(location, (variance * 3 / low - variance) / 2)
    assert found.interval
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (4.25 * np.exp(-down), 4.25 * np.exp(up))
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


def test_equal_factors_have_a_difference_and_no_interval() -> None:
    """A variant that costs exactly twice as much on every task has shown no spread."""
    base = rows([1.0], [3.0], [7.0])
    own = rows([2.0], [6.0], [14.0])
    found = difference(logs(own), logs(base), relative=True)
    assert found.value == pytest.approx(1.0)
    assert found.interval is None
    assert found.reason == "all tasks differ by the same factor: nothing shows how much tasks differ"


def test_costs_of_0_have_a_mean_and_no_geometric_mean() -> None:
    """A 0 has no logarithm, so that neither has an interval."""
    cells = [Trials(f"t{i}", "a", {"pass": [1], "cost": [cost]}) for i, cost in enumerate([0.0, 1.0, 2.0])]
    summary = compare(cells, [], metrics=["cost"]).variants[0].metrics["cost"]
    assert summary.geometric_mean
    assert (summary.mean.value, summary.geometric_mean.value) == (pytest.approx(1.0), None)
    assert summary.mean.interval is summary.geometric_mean.interval is None
    assert summary.mean.reason == summary.geometric_mean.reason == "some values are 0, and have no logarithm"


def test_tasks_that_did_both_and_agree_have_the_sharper_t_interval() -> None:
    """By SciPy, at 4/5 of the error."""
    table = counts([4, 5, 6, 5, 4], 10)
    expected = stats.ttest_1samp(table.mean, 0).confidence_interval(1 - 0.8 * 0.05)
    found = rate(table).interval
    assert found
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_t_interval_that_is_the_wider_one_is_not_taken() -> None:
    """Tasks that differ much: what the likelihood allows lies within."""
    table = counts([2, 4, 6, 8, 5, 3], 10)
    wider = stats.ttest_1samp(table.mean, 0).confidence_interval(1 - 0.8 * 0.05)
    found = rate(table).interval
    assert found
    assert wider.low < found.low < found.high < wider.high


@pytest.mark.parametrize("passes", [[5, 5, 6], [9, 9, 9, 9, 9, 10, 10, 10], [1, 1, 1, 1, 1, 0, 0, 0]])
def test_few_tasks_that_did_both_get_no_t_interval(passes: list[int]) -> None:
    """With fewer than four, or seven of ten, the t-interval would be too short."""
    table = counts(passes, 10)
    short = stats.ttest_1samp(table.mean, 0).confidence_interval(1 - 0.8 * 0.05)
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
