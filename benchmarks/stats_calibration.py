"""How often the statistics are right: coverage of the 95 % intervals and false verdicts, by simulation.

    python benchmarks/stats_calibration.py [--part rates|paired|effects|costs|family|sequential] [--reps 300]

Prints one line for each design of a grid. The targets: coverage from 93 % to 98 % where the design allows an
interval; a false `improvement` or `regression` in at most 5 % of runs, also under looking again and again; with a
true difference of 30 points, 10 tasks and up to 20 trials at least 40 % fewer trials than the fixed design of the
same power.

Behind each number stand three standard errors of the simulation (+-0.010). A design is flagged only when it is off
target by more than that, and (in the parts of hundreds of designs) still so when drawn anew with ten times the data
sets: "NARROW" (coverage from below), "FALSE" (verdicts), "SAVES TOO LITTLE", and then the exit code is 1; "wide"
(coverage from above) errs on the safe side, and is told. What is off target by less is "unsure": more data sets would
tell. Where too much coverage cannot be had otherwise, it is said why:

- "lattice": one trial for each task gives so few outcomes that no interval at all covers from 93 to 98 %;
- "nothing": in more than 1 % of data sets no task differs at all, so that there is nothing to make an interval from
  but the number of tasks.

Tasks are drawn from a population: a task's rate is Beta with the mean given and the correlation rho between two
trials of a task. The variant's tasks are the same ("same": equal quantiles of its own Beta, so that without an
effect each task's rate is unchanged), or as different as can be ("other": independent, so that the effect is
different on every task and only zero on average).
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit
from scipy.stats import binom

from harness.stats.arrays import Floats, Ints, TaskMeans, task_means
from harness.stats.compare import compare
from harness.stats.data import Plan, Trials
from harness.stats.paired import difference
from harness.stats.rates import rate_bounds, skewed_mean
from harness.stats.results import Difference
from harness.stats.sequential import level_at

TASKS, TRIALS, RATES, RHOS = (5, 10, 30), (1, 3, 10), (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95), (0.0, 0.2, 0.6)
LOW, HIGH, FALSE, SAVED = 0.93, 0.98, 0.05, 0.4


@dataclass(frozen=True)
class Line:
    """One design: what was seen, and whether it is as it must be. `why` excuses coverage above the band."""

    design: str
    seen: str
    misses: tuple[str, ...] = ()
    why: str = ""

    @property
    def failed(self) -> bool:
        return any(miss not in ("wide", "unsure") for miss in self.misses)

    def __str__(self) -> str:
        return f"{self.design:<34} {self.seen:<66} {' '.join((*self.misses, self.why))}".rstrip()


def noise(share: float, reps: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * float(np.sqrt(max(share * (1 - share), 1e-3) / reps))


def told(share: float, reps: int) -> str:
    return f"{share:.3f} +-{noise(share, reps):.3f}"


def coverage_misses(coverage: float, reps: int, why: str) -> tuple[str, ...]:
    if coverage < LOW:
        return ("NARROW",) if coverage < LOW - noise(LOW, reps) else ("unsure",)
    if coverage > HIGH and not why:
        return ("wide",) if coverage > HIGH + noise(HIGH, reps) else ("unsure",)
    return ()


def false_misses(share: float, reps: int) -> tuple[str, ...]:
    if share <= FALSE:
        return ()
    return ("FALSE",) if share > FALSE + noise(FALSE, reps) else ("unsure",)


def looked_at(design: Callable[[int, int], Line], reps: int) -> Line:
    """A design by so many data sets. One that is off target is drawn anew, ten times as often, and that counts: among
    hundreds of designs one or two are off by three standard errors without any reason."""
    line = design(reps, 0)
    return design(10 * reps, 1) if any(miss != "unsure" for miss in line.misses) else line


# Drawing


def task_rates(rng: np.random.Generator, u: Floats, rate: float, rho: float) -> Floats:
    """The quantiles `u` of the tasks' rates."""
    if rho == 0:
        return np.full(u.shape, rate)
    size = 1 / rho - 1
    return np.asarray(betaincinv(rate * size, (1 - rate) * size, u))


def draw_pair(
    rng: np.random.Generator, shape: tuple[int, int], rates: tuple[float, float], rho: float, same: bool
) -> tuple[Floats, Floats]:
    """The tasks' true rates under the baseline and under the variant."""
    u = rng.random(shape)
    v = u if same else rng.random(shape)
    return task_rates(rng, u, rates[0], rho), task_rates(rng, v, rates[1], rho)


def means_of_one(means: Floats, trials: int) -> TaskMeans:
    return TaskMeans(np.full(means.size, trials), means, np.full(means.size, np.nan))


# One variant's rate


def rates(reps: int) -> Iterator[Line]:
    """Coverage of one variant's pass rate."""
    for design in product(TASKS, TRIALS, RATES, RHOS):
        if design[1] > 1 or not design[3]:
            yield looked_at(partial(one_rate, *design), reps)


def one_rate(tasks: int, trials: int, rate: float, rho: float, reps: int, again: int) -> Line:
    rng = np.random.default_rng([1, tasks, trials, int(100 * rate), int(100 * rho), again])
    passes = rng.binomial(trials, task_rates(rng, rng.random((reps, tasks)), rate, rho))
    sets, times = np.unique(np.sort(passes, axis=1), axis=0, return_counts=True)
    bounds = np.array([rate_bounds(means_of_one(row / trials, trials), 0.95) for row in sets])
    covered = float(times[(bounds[:, 0] <= rate + 1e-12) & (rate - 1e-12 <= bounds[:, 1])].sum() / reps)
    width = float((bounds[:, 1] - bounds[:, 0]) @ times / reps)
    why = "lattice" if trials == 1 and not attainable(tasks, rate) else ""
    return Line(
        f"{tasks:>2} tasks x {trials:>2}  rate {rate:<4} rho {rho}",
        f"coverage {told(covered, reps)}  width {width:.2f}",
        coverage_misses(covered, reps, why),
        why,
    )


def attainable(tasks: int, rate: float) -> bool:
    """Whether some range of passes, out of `tasks`, has a probability in the band."""
    p = binom.pmf(np.arange(tasks + 1), tasks, rate)
    total = np.concatenate([[0.0], np.cumsum(p)])
    return any(LOW <= total[j] - total[i] <= HIGH for i in range(tasks + 1) for j in range(i + 1, tasks + 2))


# A variant against the baseline


@dataclass(frozen=True)
class Seen:
    """Shares of data sets."""

    covered: float
    above: float
    below: float
    inside: float
    nothing: float


def compare_many(base: Floats, own: Floats, trials: int, true: float, margin: float) -> Seen:
    """Compare data sets of task means, one a row."""
    found = [
        difference(means_of_one(b, trials), means_of_one(a, trials), relative=False)
        for a, b in zip(base, own, strict=True)
    ]
    low, high = np.array([(d.low, d.high) for d in found], dtype=np.float64).T
    return Seen(
        covered=float(((low <= true + 1e-12) & (true - 1e-12 <= high)).mean()),
        above=float((low > 0).mean()),
        below=float((high < 0).mean()),
        inside=float(((-margin < low) & (high < margin)).mean()),
        nothing=float((base == own).all(axis=1).mean()),
    )


@dataclass(frozen=True)
class Pair:
    """A design of two variants, with the tasks' rates under each on average."""

    tasks: int
    trials: int
    rates: tuple[float, float]
    rho: float
    same: bool

    def __str__(self) -> str:
        kind = "same" if self.same else "other"
        return f"{self.tasks:>2} x {self.trials:>2}  {self.rates[0]:<4} > {self.rates[1]:<4} rho {self.rho} {kind}"

    def seen(self, reps: int, again: int, margin: float) -> Seen:
        settings = *(int(100 * rate) for rate in self.rates), int(100 * self.rho), int(self.same)
        rng = np.random.default_rng([2, self.tasks, self.trials, *settings, again])
        a, b = draw_pair(rng, (reps, self.tasks), self.rates, self.rho, self.same)
        base = rng.binomial(self.trials, a) / self.trials
        own = rng.binomial(self.trials, b) / self.trials
        return compare_many(base, own, self.trials, self.rates[1] - self.rates[0], margin)


def pairs(rates: tuple[float, float]) -> Iterator[Pair]:
    for tasks, trials, rho, same in product(TASKS, TRIALS, RHOS, (True, False)):
        if (rho or same) and not (trials == 1 and rho == 0.2):
            yield Pair(tasks, trials, rates, rho, same)


def paired(reps: int) -> Iterator[Line]:
    """No effect: coverage of the paired difference, and false verdicts."""
    for rate in RATES:
        for pair in pairs((rate, rate)):
            yield looked_at(partial(without_effect, pair), reps)


def without_effect(pair: Pair, reps: int, again: int) -> Line:
    seen = pair.seen(reps, again, margin=0.05)
    why = "nothing" if seen.nothing > 0.01 else ""
    return Line(
        str(pair),
        f"coverage {told(seen.covered, reps)}  improvement {seen.above:.3f}  regression {seen.below:.3f}",
        coverage_misses(seen.covered, reps, why) + false_misses(seen.above + seen.below, reps),
        why,
    )


def effects(reps: int) -> Iterator[Line]:
    """A true effect: coverage, false `regression`, and false `equivalent` for a margin as large as the effect."""
    for change in ((0.05, 0.15), (0.45, 0.55), (0.85, 0.95), (0.05, 0.35), (0.35, 0.65), (0.65, 0.95)):
        for pair in pairs(change):
            yield looked_at(partial(with_effect, pair), reps)


def with_effect(pair: Pair, reps: int, again: int) -> Line:
    seen = pair.seen(reps, again, margin=pair.rates[1] - pair.rates[0])
    why = "nothing" if seen.nothing > 0.01 else ""
    return Line(
        str(pair),
        f"coverage {told(seen.covered, reps)}  regression {seen.below:.3f}  equivalent {seen.inside:.3f}",
        coverage_misses(seen.covered, reps, why)
        + false_misses(seen.below, reps)
        + false_misses(seen.inside, reps),
        why,
    )


# Skewed metrics


def costs(reps: int) -> Iterator[Line]:
    """Lognormal costs: coverage of the mean's interval and of the relative difference's, and false verdicts."""
    for tasks, trials, spread, shift in product(TASKS, TRIALS, (0.3, 0.6, 1.0), (0.0, 0.3)):
        rng = np.random.default_rng([3, tasks, trials, int(10 * spread), int(10 * shift)])
        within, varying = 0.4, 0.15
        task = np.repeat(np.arange(tasks), trials)
        level = rng.normal(0, spread, (reps, tasks, 1))
        effect = shift + rng.normal(0, varying, (reps, tasks, 1))
        base = level + rng.normal(0, within, (reps, tasks, trials))
        own = level + effect + rng.normal(0, within, (reps, tasks, trials))
        mean = float(np.exp((spread**2 + within**2) / 2))
        yield cost_line(
            f"{tasks:>2} x {trials:>2}  spread {spread} change {np.expm1(shift):.2f}",
            task,
            base,
            own,
            mean,
            shift,
        )


def cost_line(design: str, task: Ints, base: Floats, own: Floats, mean: float, shift: float) -> Line:
    reps, tasks, _ = base.shape
    mean_covered = covered = above = below = 0
    for a, b in zip(base.reshape(reps, -1), own.reshape(reps, -1), strict=True):
        logs = task_means(task, a, tasks)
        of_mean = skewed_mean(task_means(task, np.exp(a), tasks), logs).interval
        found = difference(task_means(task, b, tasks), logs, relative=True)
        assert of_mean is not None
        assert found.low is not None
        assert found.high is not None
        mean_covered += of_mean.low <= mean <= of_mean.high
        covered += found.low <= shift <= found.high
        above += found.low > 0
        below += found.high < 0
    false = below / reps + (above / reps if shift == 0 else 0.0)
    return Line(
        design,
        f"mean {mean_covered / reps:.3f}  ratio {told(covered / reps, reps)}  false {false:.3f}",
        coverage_misses(mean_covered / reps, reps, "")
        + coverage_misses(covered / reps, reps, "")
        + false_misses(false, reps),
    )


# Several comparisons at once


def family(reps: int) -> Iterator[Line]:
    """Three variants that do nothing: how often any of them gets a false verdict."""
    for tasks, trials, rate in product(TASKS, (3, 10), (0.1, 0.5)):
        rng = np.random.default_rng([4, tasks, trials, int(100 * rate)])
        any_false = 0
        for _ in range(reps // 2):
            by_task = task_rates(rng, rng.random(tasks), rate, 0.2)
            cells = [
                Trials(f"t{i}", variant, {"pass": rng.binomial(1, p, trials).tolist()})
                for variant in "abcd"
                for i, p in enumerate(by_task)
            ]
            result = compare(cells, [(v, "a") for v in "bcd"], metrics=("pass",))
            any_false += any(c.verdict in ("improvement", "regression") for c in result.contrasts)
        share = any_false / (reps // 2)
        yield Line(
            f"{tasks:>2} x {trials:>2}  rate {rate} rho 0.2, 3 variants",
            f"any false verdict {told(share, reps // 2)}",
            false_misses(share, reps // 2),
        )


# Looking again and again


ROUNDS = 20
FINER = 10
"""So many times the data sets: they are quickly looked at, and both targets are shares near an end."""


def sequential(reps: int) -> Iterator[Line]:
    """Looks after 3, 5, 10 and 20 rounds: false verdicts of all looks together; then power and trials saved."""
    reps *= FINER
    for tasks, rate, rho, same in product(TASKS, (0.05, 0.25, 0.5, 0.9), RHOS, (True, False)):
        if rho == 0 and not same:
            continue
        kind = "same" if same else "other"
        rng = np.random.default_rng([5, tasks, int(100 * rate), int(100 * rho), int(same)])
        a, b = draw_pair(rng, (reps, tasks), (rate, rate), rho, same)
        stops = first_looks(draw_rounds(rng, a, b, ROUNDS), Plan(ROUNDS), relative=False)
        share = float((stops <= ROUNDS).mean())
        yield Line(
            f"{tasks:>2} tasks  rate {rate:<4} rho {rho} {kind}",
            f"no effect: false {told(share, reps)} within {ROUNDS} rounds",
            false_misses(share, reps),
        )
    for tasks, varying in product(TASKS, (0.0, 0.2)):
        rng = np.random.default_rng([6, tasks, int(10 * varying)])
        noise_ = rng.normal(0, 0.6, (reps, tasks, ROUNDS)) + rng.normal(0, varying, (reps, tasks, 1))
        share = float((first_looks(noise_, Plan(ROUNDS), relative=True) <= ROUNDS).mean())
        yield Line(
            f"{tasks:>2} tasks  log cost, varying {varying}",
            f"no effect: false {told(share, reps)} within {ROUNDS} rounds",
            false_misses(share, reps),
        )
    for rates, rho in product(((0.35, 0.65), (0.05, 0.35), (0.65, 0.95)), (0.0, 0.2)):
        yield saved(reps, rates, rho)


def draw_rounds(rng: np.random.Generator, a: Floats, b: Floats, rounds: int) -> Floats:
    """Variant minus baseline for each data set, task and round."""
    shape = (*a.shape, rounds)
    return (rng.random(shape) < b[..., None]).astype(float) - (rng.random(shape) < a[..., None])


def first_looks(differences: Floats, plan: Plan, *, relative: bool) -> Ints:
    """The first look that excludes no change; one more than the plan's rounds where none does."""
    _, tasks, rounds = differences.shape
    levels = np.array([level_at(plan, look, tasks) for look in range(1, rounds + 1)])
    planned = np.isin(np.arange(1, rounds + 1), plan.looks)
    candidates = excludes_zero(differences, levels) & planned
    return np.array(
        [
            next(
                (int(i) + 1 for i in np.flatnonzero(row) if decides(data, int(i) + 1, levels[i], relative)),
                plan.rounds + 1,
            )
            for data, row in zip(differences, candidates, strict=True)
        ]
    )


def excludes_zero(differences: Floats, levels: Floats) -> NDArray[np.bool_]:
    """Where the t-interval excludes no change: the interval proper holds it, and so need be made only there."""
    _, tasks, rounds = differences.shape
    means = differences.cumsum(2) / np.arange(1, rounds + 1)
    reach = stdtrit(tasks - 1, (1 + levels) / 2) * means.std(axis=1, ddof=1) / np.sqrt(tasks)
    excluded: NDArray[np.bool_] = np.abs(means.mean(axis=1)) > reach - 1e-9
    return excluded


def decides(data: Floats, look: int, level: float, relative: bool) -> bool:
    found = compare_rounds(data[:, :look], level, relative)
    return found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)


def compare_rounds(data: Floats, level: float, relative: bool) -> Difference:
    """Only differences were drawn, so a rate is put together that has them: of each difference, the parts."""
    look = data.shape[1]
    own = np.maximum(data, 0).mean(axis=1) if not relative else data.mean(axis=1)
    base = np.maximum(-data, 0).mean(axis=1) if not relative else np.zeros(data.shape[0])
    return difference(means_of_one(own, look), means_of_one(base, look), relative=relative, level=level)


def saved(reps: int, rates: tuple[float, float], rho: float) -> Line:
    """Ten tasks, a true difference of 30 points: the trials that stopping early needs, and the fixed design.

    The fixed design has the fewest trials with which one look at 95 %, by the same interval, has the same power, seen
    on the same data sets. Near a power of 1 that is known badly: so the designs are told between which it lies, whose
    power differs from the other's by no more than three standard errors.
    """
    rng = np.random.default_rng([7, int(100 * rates[0]), int(100 * rho)])
    a, b = draw_pair(rng, (reps, 10), rates, rho, same=True)
    rounds = np.arange(1, ROUNDS + 1)
    base, own = (np.cumsum(rng.random((*p.shape, ROUNDS)) < p[..., None], axis=2) / rounds for p in (a, b))
    plan = Plan(ROUNDS)
    looks = {look: level_at(plan, look, 10) for look in plan.looks}
    stops = np.array([stop(base[i], own[i], looks) for i in range(reps)])
    found, trials = stops <= ROUNDS, float(np.minimum(stops, ROUNDS).mean())

    @cache
    def ahead(n: int) -> tuple[float, float]:
        """By how much a fixed design of `n` trials has more power, and three standard errors of that."""
        more = found_by(base[..., n - 1], own[..., n - 1], n).astype(float) - found
        # One data set more that differs, so that where none does the error is not 0.
        return float(more.mean()), 3 * float(np.sqrt((more.var() + 1 / reps) / reps))

    fewest = first(lambda n: sum(ahead(n)) >= 0)
    fixed = first(lambda n: ahead(n)[0] >= 0)
    most = first(lambda n: ahead(n)[0] >= ahead(n)[1])
    low, share, high = (1 - trials / n for n in (fewest, fixed, most))
    return Line(
        f"10 tasks  {rates[0]} > {rates[1]} rho {rho}",
        f"power {found.mean():.3f}, {trials:.1f} trials; fixed {fixed} ({fewest} to {most}): "
        f"saves {share:.0%} ({low:.0%} to {high:.0%})",
        ("SAVES TOO LITTLE",) if high < SAVED else ("unsure",) if low < SAVED else (),
    )


def first(holds: Callable[[int], bool]) -> int:
    """The fewest trials for which it holds, as it then does for all more of them; at most all rounds."""
    return 1 + bisect_left(range(1, ROUNDS), True, key=holds)


def stop(base: Floats, own: Floats, looks: dict[int, float]) -> int:
    """The first look that excludes no change; one more than the rounds where none does."""
    for look, level in looks.items():
        if no_zero(base[:, look - 1], own[:, look - 1], look, level):
            return look
    return max(looks) + 1


def found_by(base: Floats, own: Floats, trials: int) -> NDArray[np.bool_]:
    return np.array([no_zero(b, a, trials, 0.95) for b, a in zip(base, own, strict=True)])


def no_zero(base: Floats, own: Floats, trials: int, level: float) -> bool:
    found = difference(means_of_one(own, trials), means_of_one(base, trials), relative=False, level=level)
    return found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)


PARTS: dict[str, Callable[[int], Iterator[Line]]] = {
    part.__name__: part for part in (rates, paired, effects, costs, family, sequential)
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Coverage and false verdicts of harness.stats, by simulation."
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given again")
    parser.add_argument("--reps", type=int, default=300, help="data sets for each design (2000: an hour)")
    options = parser.parse_args()
    failed = 0
    for name in options.part or PARTS:
        start = time.monotonic()
        print(f"\n{name}: {PARTS[name].__doc__}")
        lines = []
        for line in PARTS[name](options.reps):
            print(line, flush=True)
            lines.append(line)
        count = Counter(miss for line in lines for miss in set(line.misses))
        excused = sum(bool(line.why) for line in lines)
        print(
            f"{len(lines)} designs, {excused} of them beyond what data allow. Off target by more than the simulation's "
            f"error: {count['wide']} wide, {count['NARROW']} narrow, {count['FALSE']} with false verdicts, "
            f"{count['SAVES TOO LITTLE']} that save too little; by less: {count['unsure']} "
            f"({time.monotonic() - start:.0f} s)"
        )
        failed += sum(line.failed for line in lines)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
