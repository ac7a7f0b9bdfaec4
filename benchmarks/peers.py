"""The verdict beside other tools' and textbook methods', on the same simulated data sets.

    pip install --no-deps --target /tmp/peers ablate-cli placebo-cli harness-ablate
    PYTHONPATH=/tmp/peers python benchmarks/peers.py [--reps 200]

The peers are called by their own functions, with fewer bootstrap samples than they draw (400), for time. A peer that is
not there is left out. Shown is how often each says that a variant is worse or better: where nothing differs that is
false, where a task is lost it is found. They ask different questions: about these tasks, or about tasks like these.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
from scipy import stats

from harness.stats import population, suite
from harness.stats.arrays import Ints, TaskMeans
from harness.stats.taskwise import flips

Method = Callable[[Ints, Ints, int], bool]
"""True for a direction, of the variant's and the baseline's passes of each task, and the trials of each."""


def arm(passes: Ints, trials: int) -> TaskMeans:
    mean = passes / trials
    within = mean * (1 - mean) * trials / (trials - 1) if trials > 1 else np.full(mean.shape, np.nan)
    return TaskMeans(np.full(passes.size, trials), mean, within)


def these_tasks(own: Ints, base: Ints, trials: int) -> bool:
    found = suite.rate_difference(arm(own, trials), arm(base, trials), 0.95)
    return bool((found.low or 0) > 0 or (found.high or 0) < 0)


def gate(own: Ints, base: Ints, trials: int) -> bool:
    """`--fail-on regression`: worse on these tasks, or a lost task."""
    found = suite.rate_difference(arm(own, trials), arm(base, trials), 0.95)
    of = flips(arm(own, trials), arm(base, trials), tuple(map(str, range(own.size))))
    return bool((found.high or 0) < 0 or any(flip.established and flip.flip == "lost" for flip in of))


def tasks_like_these(own: Ints, base: Ints, trials: int) -> bool:
    found = population.rate_difference(arm(own, trials), arm(base, trials), 0.95)
    return bool((found.low or 0) > 0 or (found.high or 0) < 0)


def paired_t(own: Ints, base: Ints, trials: int) -> bool:
    by_task = (own - base) / trials
    if np.ptp(by_task) < 1e-9:
        return bool(by_task[0] != 0)
    return bool(stats.ttest_1samp(by_task, 0).pvalue < 0.05)


def mcnemar(own: Ints, base: Ints, trials: int) -> bool:
    """On the tasks' majorities."""
    now, before = own * 2 > trials, base * 2 > trials
    gained, lost = int((now & ~before).sum()), int((~now & before).sum())
    return gained + lost > 0 and stats.binomtest(gained, gained + lost).pvalue < 0.05


def cluster_bootstrap(own: Ints, base: Ints, trials: int) -> bool:
    rng = np.random.default_rng(int(own.sum() + 1000 * base.sum()))
    means = ((own - base) / trials)[rng.integers(0, own.size, (400, own.size))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return bool(low > 0 or high < 0)


def pooled_z(own: Ints, base: Ints, trials: int) -> bool:
    """All trials as if independent and of one task."""
    n = own.size * trials
    table = [[own.sum(), n - own.sum()], [base.sum(), n - base.sum()]]
    if min(map(sum, zip(*table, strict=True))) == 0:
        return False
    return bool(stats.chi2_contingency(table, correction=False).pvalue < 0.05)


def ablate(own: Ints, base: Ints, trials: int) -> bool:
    from ablate.stats import PairedSample, bootstrap_delta  # type: ignore[import-not-found]

    pairs = {
        str(task): tuple([1.0] * int(k) + [0.0] * (trials - int(k)) for k in both)
        for task, both in enumerate(zip(own, base, strict=True))
    }
    found = bootstrap_delta(PairedSample.from_pairs(pairs), n_resamples=400, seed=1)
    return found.lo is not None and bool(found.lo > 0 or found.hi < 0)


def placebo(own: Ints, base: Ints, trials: int) -> bool:
    from placebo_cli.stats import Trial, compare  # type: ignore[import-not-found]

    made = [
        Trial(task=str(task), arm=name, passed=index < int(k))
        for name, passes in (("treatment", own), ("baseline", base))
        for task, k in enumerate(passes)
        for index in range(trials)
    ]
    found = compare(made, "treatment", "baseline", n_boot=400)
    return bool(found.ci95.low > 0 or found.ci95.high < 0)


def harness_ablate(own: Ints, base: Ints, trials: int) -> bool:
    from harness_ablate.scoring import (  # type: ignore[import-not-found]
        HARMFUL,
        KEEP,
        noise_band,
        variant_stats,
        verdict,
    )

    rng = np.random.default_rng(int(own.sum() + 1000 * base.sum()))
    rows = []
    for passes in (own, base):
        made = []
        for task, k in enumerate(passes):
            order = rng.permutation(trials)
            numbers = dict.fromkeys(("tokens_in", "tokens_out", "cost_usd", "wall_s", "turns"), 1)
            made += [
                {"task": str(task), "repeat": r, "passed": bool(order[r] < k), **numbers}
                for r in range(trials)
            ]
        rows.append(variant_stats("x", None, made, [str(task) for task in range(own.size)]))
    delta = rows[0].pass_rate - rows[1].pass_rate
    return verdict(delta, noise_band(rows[1], own.size), 0.0, 0.0) in (HARMFUL, KEEP)


METHODS: dict[str, Method] = {
    "gate": gate,
    "these tasks": these_tasks,
    "like these": tasks_like_these,
    "paired t": paired_t,
    "McNemar": mcnemar,
    "bootstrap": cluster_bootstrap,
    "pooled": pooled_z,
    "ablate-cli": ablate,
    "placebo-cli": placebo,
    "harness-ablate": harness_ablate,
}
NEEDS = {"ablate-cli": "ablate", "placebo-cli": "placebo_cli", "harness-ablate": "harness_ablate"}


def designs() -> Iterator[tuple[str, int, Callable[[np.random.Generator], tuple[Ints, Ints]]]]:
    """The name, the trials, and what draws the passes of variant and baseline."""
    for tasks, trials in ((3, 5), (8, 3), (8, 10), (20, 5)):
        for name, rates in (
            ("nothing differs, rates 0.5", np.full(tasks, 0.5)),
            ("nothing differs, healthy", np.full(tasks, 0.95)),
            (
                "nothing differs, bimodal",
                np.select([np.arange(tasks) % 3 == 0, np.arange(tasks) % 3 == 1], [0, 1], 0.5),
            ),
        ):
            yield (
                f"{tasks} x {trials} {name}",
                trials,
                lambda rng, rates=rates, n=trials: (rng.binomial(n, rates), rng.binomial(n, rates)),  # type: ignore[misc]
            )
    for tasks, lost, trials in ((8, 1, 10), (15, 3, 10), (20, 2, 5)):
        base = np.full(tasks, 0.95)
        own = np.where(np.arange(tasks) < lost, 0.05, 0.95)
        yield (
            f"{tasks} x {trials} {lost} lost",
            trials,
            lambda rng, own=own, base=base, n=trials: (rng.binomial(n, own), rng.binomial(n, base)),  # type: ignore[misc]
        )
    for tasks, trials in ((8, 10), (20, 5)):
        yield (
            f"{tasks} x {trials} all lose 20 points",
            trials,
            lambda rng, k=tasks, n=trials: (
                rng.binomial(n, np.full(k, 0.5)),
                rng.binomial(n, np.full(k, 0.7)),
            ),  # type: ignore[misc]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="The verdict beside peers', on the same data sets.")
    parser.add_argument("--reps", type=int, default=200)
    options = parser.parse_args()
    methods = {name: of for name, of in METHODS.items() if name not in NEEDS or find_spec(NEEDS[name])}
    print(f"| share of {options.reps} data sets with a direction | {' | '.join(methods)} |")
    print("|---|" + "---|" * len(methods))
    for place, (name, trials, draw) in enumerate(designs()):
        rng = np.random.default_rng([40, place])
        drawn = [draw(rng) for _ in range(options.reps)]
        shares = [np.mean([of(own, base, trials) for own, base in drawn]) for of in methods.values()]
        print(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
