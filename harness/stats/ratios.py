"""Cost, tokens, duration and turns of a variant as a ratio to the baseline's, on these tasks and on tasks like these.

- The typical trial: the ratio of geometric means. A dear task weighs as much as a cheap one.
- The sum (of costs: the bill): the ratio of the sums of the tasks' means. Dear tasks make it.
- The cost of a pass: the bill divided by the pass rate.

All are made on the logarithmic scale, where swapping the two variants turns the sign.

On these tasks. The typical trial's error is pooled from the trials' logarithms. The sum's is the largest of three:
coefficients of variation pooled over tasks, those of a lognormal with the pooled variance of logarithms, and each
task's own variance. With few trials the tasks' own variances are too uncertain, and pooled ones overlook a task that
varies more. One trial of each task shows none of them.

On tasks like these. Each task's logarithmic difference, or its part in the sum's (by how much the sum's logarithm
changes without the task: the jackknife), is one value. Tasks of different sizes count as so many equal ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from harness.stats.arrays import Floats, TaskMeans
from harness.stats.population import NO_SPREAD, any_spread, mean_bounds, too_few
from harness.stats.results import SAYS_NOTHING, WIDEST, Difference

ONE_TRIAL = "one trial of each task: nothing shows how much trials differ"
SAME_FACTOR = "all tasks differ by the same factor: nothing shows how much tasks differ"
FEW_MAKE_IT = "few tasks make most of it: that tells too little about other tasks"
WILD_TASK = "one task makes more than half of it, and its trials differ too much for any interval to hold"
_FEWEST = 2.0
"""The fewest tasks of equal size that a sum may be worth (1 / sum of squared shares)."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """One arm's amounts by task, for tasks that have values: of the values, and of their logarithms.

    `passes` are the same trials' pass rates where the cost of a pass is asked for, and `joint` the trials' parts in it.
    """

    of: TaskMeans
    logs: TaskMeans
    passes: TaskMeans | None = None
    joint: TaskMeans | None = None

    @property
    def share(self) -> Floats:
        """Each task's share in the sum."""
        return _share(self.of)

    @property
    def worth(self) -> float:
        """The number of tasks of equal size that would make the sum, and the passes, as evenly."""
        return min(1 / float((_share(means) ** 2).sum()) for means in (self.of, self.passes) if means)

    @property
    def is_one_wild_task(self) -> bool:
        """True if one task of several makes most of the sum, and its trials differ by more than their mean."""
        largest = int(self.share.argmax())
        wild = self.of.within[largest] > self.of.mean[largest] ** 2
        return bool(self.share.size > 1 and self.share[largest] > 0.5 and wild)

    @property
    def log_sum(self) -> float:
        """The logarithm of the mean amount, or of the cost of a pass."""
        passes = float(self.passes.mean.mean()) if self.passes else 1.0
        return float(np.log(self.of.mean.mean() / passes))

    @property
    def parts(self) -> Floats:
        """Each task's part in the error of the logarithm, by the jackknife; their mean is 0."""
        parts = -np.log1p(-self.share)
        if self.passes:
            parts = parts + np.log1p(-_share(self.passes))
        return np.asarray((parts - parts.mean()) * (parts.size - 1))


def _share(means: TaskMeans) -> Floats:
    return np.asarray(means.mean / means.mean.sum())


def _start(own: TaskMeans, base: TaskMeans, level: float, center: float) -> Difference:
    return Difference(True, own.n.size, 2 / float((1 / own.n + 1 / base.n).mean()), level, center)


def _pooled(arms: Sequence[TaskMeans]) -> tuple[float, float]:
    """The pooled variance within tasks, and its degrees of freedom."""
    repeated = [arm.only(arm.n > 1) for arm in arms]
    degrees = sum(float((arm.n - 1).sum()) for arm in repeated)
    if not degrees:
        return 0.0, 0.0
    return sum(float((arm.within * (arm.n - 1)).sum()) for arm in repeated) / degrees, degrees


def _variation(own: TaskMeans, base: TaskMeans, trials: float) -> tuple[float, float]:
    """The squared coefficient of variation, pooled over tasks and arms, and its degrees of freedom.

    An arm's own mean of few trials is high where their spread is, and hides rare dear trials. So it is also taken by
    both arms' mean, less what the uncertainty of that one takes, and the larger counts.
    """
    size = (own.mean / own.mean.mean() + base.mean / base.mean.mean()) / 2
    by_arm, degrees = _pooled([_relative(arm, arm.mean) for arm in (own, base)])
    by_both, _ = _pooled([_relative(arm, size * arm.mean.mean()) for arm in (own, base)])
    return max(by_arm, by_both / (1 - min(0.5, by_both / trials))), degrees


def _relative(arm: TaskMeans, size: Floats) -> TaskMeans:
    """The variances relative to the tasks' sizes; that of nothing is 0."""
    return TaskMeans(arm.n, arm.mean, arm.within / np.where(size > 0, size, 1.0) ** 2)


def typical_on_suite(own: TaskMeans, base: TaskMeans, level: float) -> Difference:
    """The typical trial on these tasks; of logarithms."""
    found = _start(own, base, level, float((own.mean - base.mean).mean()))
    variance, degrees = _pooled((own, base))
    if not degrees or variance <= NO_SPREAD**2:
        return found.without(ONE_TRIAL if not degrees else SAME_FACTOR.replace("tasks", "trials"))
    error = float(np.sqrt(variance * (1 / own.n + 1 / base.n).sum())) / own.n.size
    return _around(found, lambda tail: float(stdtrit(degrees, 1 - tail)) * error)


def typical_on_population(own: TaskMeans, base: TaskMeans, level: float) -> Difference:
    """The typical trial on tasks like these; of logarithms."""
    by_task = own.mean - base.mean
    return _over_tasks(_start(own, base, level, float(by_task.mean())), by_task)


def sum_on_suite(own: Amounts, base: Amounts, level: float) -> Difference:
    """The sum, or the cost of a pass, on these tasks."""
    found = _start(own.of, base.of, level, own.log_sum - base.log_sum)
    variation, degrees = _variation(own.of, base.of, found.trials)
    if not degrees or variation <= NO_SPREAD**2:
        return found.without(ONE_TRIAL if not degrees else SAME_FACTOR.replace("tasks", "trials"))
    if any(arm.is_one_wild_task for arm in (own, base)):
        return found.without(WILD_TASK)
    logs = _pooled((own.logs, base.logs))[0] if own.logs.known.all() and base.logs.known.all() else 0.0
    weights = sum(float((arm.share**2 / arm.of.n).sum()) for arm in (own, base))
    by_task = sum(
        float(np.nansum(arm.of.within / arm.of.n)) / float(arm.of.mean.sum()) ** 2 for arm in (own, base)
    )
    passes = sum(_relative_variance(arm.passes) for arm in (own, base) if arm.passes)
    joint = sum(
        float(np.nansum(arm.joint.within / arm.joint.n)) / arm.joint.n.size**2
        for arm in (own, base)
        if arm.joint
    )

    def reach(tail: float) -> float:
        pooled = max(variation, float(np.expm1(logs))) * weights
        return float(stdtrit(degrees, 1 - tail) * np.sqrt(max(max(pooled, by_task) + passes, joint)))

    return _around(found, reach)


def _relative_variance(passes: TaskMeans) -> float:
    """The relative variance of the mean pass rate, with half a pass and half a failure added: none is certain."""
    rate = (passes.n * passes.mean + 0.5) / (passes.n + 1)
    return float((rate * (1 - rate) / passes.n).sum()) / float(passes.mean.sum()) ** 2


def sum_on_population(own: Amounts, base: Amounts, level: float) -> Difference:
    """The sum, or the cost of a pass, on tasks like these."""
    found = _start(own.of, base.of, level, own.log_sum - base.log_sum)
    if reason := too_few(found.tasks, level):
        return found.without(reason)
    if (worth := min(own.worth, base.worth)) < _FEWEST:
        return found.without(FEW_MAKE_IT)
    assert found.center is not None
    return _over_tasks(found, found.center + _wider(own.parts - base.parts, worth, level))


def _wider(parts: Floats, worth: float, level: float) -> Floats:
    """The parts, spread as Student's t of so many equal tasks is wider than that of all."""
    few, all_of_them = (float(stdtrit(size - 1, (1 + level) / 2)) for size in (worth, parts.size))
    return parts * max(1.0, few / all_of_them)


def _over_tasks(found: Difference, by_task: Floats) -> Difference:
    if reason := too_few(found.tasks, found.level):
        return found.without(reason)
    if not any_spread(by_task):
        return found.without(SAME_FACTOR)
    return found.with_bounds(mean_bounds(by_task, found.level), mean_bounds(by_task, 2 * found.level - 1))


def _around(found: Difference, reach: Callable[[float], float]) -> Difference:
    assert found.center is not None
    error = 1 - found.level
    wide, narrow = reach(error / 2), reach(error)
    center = found.center
    return found.with_bounds((center - wide, center + wide), (center - narrow, center + narrow))


def cost_of_a_pass(amounts: Amounts, level: float) -> tuple[float, tuple[float, float] | None, str | None]:
    """One arm's cost for each pass: the value, its interval about tasks like these, or the reason for none."""
    center, tasks = amounts.log_sum, amounts.of.n.size
    value = float(np.exp(center))
    if reason := too_few(tasks, level):
        return value, None, reason
    if amounts.worth < _FEWEST:
        return value, None, FEW_MAKE_IT
    low, high = mean_bounds(center + _wider(amounts.parts, amounts.worth, level), level)
    if high - low > WIDEST:
        return value, None, SAYS_NOTHING
    return value, (float(np.exp(low)), float(np.exp(high))), None
