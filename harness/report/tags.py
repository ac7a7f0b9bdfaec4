"""Pass rate and cost by tag: each variant's over the tasks that have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.arms import Arm
from harness.report.setup import TaskWords
from harness.stats.data import MetricName

_METRICS: tuple[MetricName, ...] = ("pass", "bill", "pass_cost")


@dataclass(frozen=True)
class TagCell:
    """A variant's numbers over a tag's tasks; None is unknown. The rate is the tasks' mean, as everywhere."""

    arm: str
    passed: int
    counted: int
    rate: float | None
    bill_usd: float | None
    pass_cost_usd: float | None


@dataclass(frozen=True)
class TagRow:
    """A tag, how many of the tasks have it, and each variant's numbers."""

    tag: str
    tasks: int
    cells: tuple[TagCell, ...]


def by_tag(arms: Sequence[Arm], words: Mapping[str, TaskWords]) -> tuple[TagRow, ...]:
    """A row for each tag that tasks share, by name. Too few have most of them for a verdict: there are no intervals."""
    present = {record.task for arm in arms for record in arm.records}
    of_tag: dict[str, set[str]] = {}
    for task in present & words.keys():
        for tag in words[task].tags:
            of_tag.setdefault(tag, set()).add(task)
    return tuple(_row(tag, tasks, arms) for tag, tasks in sorted(of_tag.items()) if len(tasks) > 1)


def _row(tag: str, tasks: set[str], arms: Sequence[Arm]) -> TagRow:
    # NumPy and SciPy take half a second to load, and only a comparison needs them.
    from harness.stats.compare import compare

    trials = [cell for arm in arms for cell in arm.cells() if cell.task in tasks]
    found = {one.name: one.metrics for one in compare(trials, [], metrics=_METRICS).variants}
    cells = []
    for arm in arms:
        outcomes = [record.outcome for record in arm.records if record.task in tasks and record.is_counted]
        values = [found[arm.name][name].estimate.value if arm.name in found else None for name in _METRICS]
        cells.append(TagCell(arm.name, outcomes.count("passed"), len(outcomes), *values))
    return TagRow(tag, len(tasks), tuple(cells))
