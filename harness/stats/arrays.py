"""The trials as NumPy arrays: task means of a metric, and the table that they are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from harness.stats.data import MetricName, Trials

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_SMALLEST = 1e-100
"""Less than that of anything is none of it: the square of such a number is 0, and nothing can be divided by it."""


@dataclass(frozen=True, slots=True)
class TaskMeans:
    """One metric of one variant, by task: arrays with a place for each task, in the table's order.

    `within` is the sample variance between a task's trials. `mean` is NaN where `n` is 0, `within` where `n` is
    less than 2.
    """

    n: Ints
    mean: Floats
    within: Floats

    @property
    def known(self) -> NDArray[np.bool_]:
        """True for each task that has a value."""
        return self.n > 0

    def only(self, tasks: NDArray[np.bool_] | NDArray[np.intp]) -> TaskMeans:
        """The chosen tasks."""
        return TaskMeans(self.n[tasks], self.mean[tasks], self.within[tasks])

    def with_imputed(self, count: Ints, value: float) -> TaskMeans:
        """As if each task had `count` further trials, all with this value."""
        seen = np.nan_to_num(self.mean)
        squares = np.nan_to_num(self.within) * np.maximum(self.n - 1, 0) + self.n * seen**2
        n = self.n + count
        mean = _ratio(self.n * seen + count * value, n)
        spread = np.maximum(squares + count * value**2 - n * np.nan_to_num(mean) ** 2, 0.0)
        return TaskMeans(n, mean, _ratio(spread, n - 1))


def task_means(task: Ints, value: Floats, tasks: int) -> TaskMeans:
    """Sum up values that belong to tasks 0 to `tasks` - 1. NaN values are unknown, and left out."""
    seen = ~np.isnan(value)
    task, value = task[seen], value[seen]
    n = np.bincount(task, minlength=tasks)
    mean = _ratio(np.bincount(task, value, minlength=tasks), n)
    squares = np.bincount(task, (value - mean[task]) ** 2, minlength=tasks)
    return TaskMeans(n, mean, _ratio(squares, n - 1))


def _ratio(numerator: NDArray[np.number], denominator: Ints) -> Floats:
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


class Table:
    """The trials of a run as arrays: for each variant and metric, values with the tasks that they belong to.

    Raises ValueError when a task and variant come twice, or a value is impossible for its metric.
    """

    def __init__(self, trials: Iterable[Trials]) -> None:
        cells: dict[str, dict[str, Trials]] = {}
        for cell in trials:
            of_variant = cells.setdefault(cell.variant, {})
            if cell.task in of_variant:
                raise ValueError(f"task {cell.task!r} of variant {cell.variant!r} comes twice")
            of_variant[cell.task] = cell
        self.tasks: tuple[str, ...] = tuple(dict.fromkeys(chain.from_iterable(cells.values())))
        self.variants: tuple[str, ...] = tuple(cells)
        self._place = {task: place for place, task in enumerate(self.tasks)}
        self._cells = cells
        self._counted = {
            variant: {task: _length(cell) for task, cell in of_variant.items()}
            for variant, of_variant in cells.items()
        }
        self._columns: dict[tuple[str, MetricName], tuple[Ints, Floats]] = {}
        self._means: dict[tuple[str, MetricName, bool], TaskMeans] = {}

    def task_means(self, variant: str, metric: MetricName, *, log: bool = False) -> TaskMeans:
        """One metric of one variant by task, of the values or of their logarithms (of 0: unknown)."""
        key = (variant, metric, log)
        if key not in self._means:
            task, value = self._values(variant, metric)
            if log:
                value = np.log(value, out=np.full(value.shape, np.nan), where=value > 0)
            self._means[key] = task_means(task, value, len(self.tasks))
        return self._means[key]

    def with_passes(self, variant: str, metric: MetricName) -> tuple[TaskMeans, TaskMeans]:
        """The passes of the trials whose value of a metric is known, and the products of both."""
        task, value = self._values(variant, metric)
        passed = self._values(variant, "pass")[1]
        passed = np.where(np.isnan(value), np.nan, passed) if passed.size == value.size else value * np.nan
        tasks = len(self.tasks)
        return task_means(task, passed, tasks), task_means(task, passed * value, tasks)

    def zeros(self, variant: str, metric: MetricName) -> int:
        """The number of values that are 0, and so have no logarithm."""
        return int(np.count_nonzero(self._values(variant, metric)[1] == 0))

    def unknown(self, variant: str, metric: MetricName) -> int:
        """The number of trials that count, but without a value of this metric."""
        return sum(self._counted[variant].values()) - int(self.task_means(variant, metric).n.sum())

    def excluded(self, variant: str) -> Ints:
        """The number of trials that do not count, by task."""
        return self._by_task({task: cell.excluded for task, cell in self._cells[variant].items()})

    def planned(self, variant: str) -> Ints:
        """The number of trials, by task, whether they count or not."""
        return self._by_task(self._counted[variant]) + self.excluded(variant)

    def errors_and_invalid(self, variant: str) -> tuple[int, int]:
        """The numbers of the two kinds of trials that do not count."""
        cells = self._cells[variant].values()
        return sum(cell.errors for cell in cells), sum(cell.invalid for cell in cells)

    def _by_task(self, numbers: Mapping[str, int]) -> Ints:
        return np.array([numbers.get(task, 0) for task in self.tasks], dtype=np.int64)

    def _values(self, variant: str, metric: MetricName) -> tuple[Ints, Floats]:
        key = (variant, metric)
        if key not in self._columns:
            self._columns[key] = self._read(variant, metric)
        return self._columns[key]

    def _read(self, variant: str, metric: MetricName) -> tuple[Ints, Floats]:
        cells = list(self._cells[variant].values())
        columns = [cell.values.get(metric, ()) for cell in cells]
        value = np.array(list(chain.from_iterable(columns)), dtype=np.float64)
        places = np.array([self._place[cell.task] for cell in cells], dtype=np.int64)
        task = np.repeat(places, np.array([len(column) for column in columns], dtype=np.int64))
        _refuse_impossible(metric, value)
        value[value < _SMALLEST] = 0
        return task, value


def _length(cell: Trials) -> int:
    return max((len(column) for column in cell.values.values()), default=0)


def _refuse_impossible(metric: MetricName, value: Floats) -> None:
    known = value[~np.isnan(value)]
    if metric == "pass":
        wrong = known[(known != 0) & (known != 1)]
    elif metric == "score":
        wrong = known[(known < 0) | (known > 1)]
    else:
        wrong = known[(known < 0) | np.isinf(known)]
    if wrong.size:
        raise ValueError(f"{wrong[0]} is no value of {metric!r}")
