"""The section of tasks: the outcome of every trial, task by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.records.record import TrialRecord
from harness.report.formatting import UNKNOWN, cost, seconds
from harness.report.html.page_data import ArmRow, NumberedRecord, PageData
from harness.report.setup import TaskWords
from harness.stats.results import TaskFlip


@dataclass(frozen=True)
class Mark:
    """One trial in the grid."""

    number: int
    outcome: str
    label: str


@dataclass(frozen=True)
class Cell:
    """One task under one variant. `shade` is its pass rate in tenths, None when nothing counts."""

    marks: tuple[Mark, ...]
    passed: int
    counted: int
    shade: int | None


@dataclass(frozen=True)
class MatrixRow:
    """One task under all variants, and what it says of itself.

    `kinds` are the filters that keep it; `gap` says how much its variants differ.
    """

    task: str
    words: TaskWords
    cells: tuple[Cell, ...]
    kinds: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    rate: float
    gap: float


@dataclass(frozen=True)
class TasksSection:
    """A row for each task, and the filters: each one's kind, its label, and how many tasks it keeps."""

    grid: tuple[MatrixRow, ...]
    filters: tuple[tuple[str, str, int], ...]


def tasks_section(data: PageData) -> TasksSection:
    """The section, with the tasks by name."""
    rows = tuple(_rows(data))
    return TasksSection(rows, tuple(_filters(rows)))


def _rows(data: PageData) -> Iterator[MatrixRow]:
    places: dict[tuple[str, str], list[NumberedRecord]] = {}
    for name, found in data.trials.items():
        for trial in found:
            places.setdefault((trial.record.task, name), []).append(trial)
    flips = {pair.arm: {flip.task: flip for flip in pair.flips} for pair in data.view.pairs}
    for task in sorted(data.view.tasks):
        cells = [_cell(arm, places.get((task, arm.view.name), ())) for arm in data.arms]
        words = data.view.words.get(task, TaskWords())
        yield _matrix_row(task, words, cells, _flip_tags(task, data.arms, flips))


def _flip_tags(
    task: str, arms: Sequence[ArmRow], flips: Mapping[str, Mapping[str, TaskFlip]]
) -> list[tuple[str, str]]:
    """The flips of a task in words. Variants with the same flip, as surely established, share one tag."""
    keys: dict[tuple[str, bool], list[str]] = {}
    for arm in arms:
        flip = flips.get(arm.view.name, {}).get(task)
        if flip:
            keys.setdefault((flip.flip, flip.established), []).append(arm.key)
    return [
        (kind, f"{kind} by {', '.join(of)}{'' if sure else ', maybe noise'}")
        for (kind, sure), of in keys.items()
    ]


def _matrix_row(
    task: str, words: TaskWords, cells: Sequence[Cell], tags: Sequence[tuple[str, str]]
) -> MatrixRow:
    rates = [cell.passed / cell.counted for cell in cells if cell.counted]
    outcomes = {mark.outcome for cell in cells for mark in cell.marks}
    kinds = [
        kind
        for kind, holds in (
            ("flipped", bool(tags)),
            ("flaky", any(0 < cell.passed < cell.counted for cell in cells)),
            ("failed", "failed" in outcomes),
            ("excluded", bool(outcomes & {"error", "invalid"})),
        )
        if holds
    ]
    flaky = [("flaky", "flaky")] if "flaky" in kinds else []
    return MatrixRow(
        task=task,
        words=words,
        cells=tuple(cells),
        kinds=tuple(kinds),
        tags=(*tags, *flaky),
        rate=round(sum(rates) / len(rates), 4) if rates else -1,
        gap=round(max(rates) - min(rates), 4) if rates else -1,
    )


def _cell(arm: ArmRow, trials: Sequence[NumberedRecord]) -> Cell:
    ordered = sorted(trials, key=lambda trial: trial.record.index)
    passed = sum(trial.record.outcome == "passed" for trial in ordered)
    counted = sum(trial.counts for trial in ordered)
    return Cell(
        marks=tuple(Mark(trial.number, trial.record.outcome, _label(arm, trial.record)) for trial in ordered),
        passed=passed,
        counted=counted,
        shade=round(10 * passed / counted) if counted else None,
    )


def _label(arm: ArmRow, record: TrialRecord) -> str:
    about = [f"{record.task}, {arm.view.name}, trial {record.index}: {record.outcome}"]
    if record.score is not None:
        about.append(f"score {record.score:.2f}")
    about += [seconds(record.phases_ms.own), cost(record.cost_usd)]
    return ", ".join(part for part in about if part != UNKNOWN)


_FILTERS = (
    ("flipped", "Flipped"),
    ("flaky", "Flaky"),
    ("failed", "With failures"),
    ("excluded", "With excluded"),
)


def _filters(rows: Sequence[MatrixRow]) -> Iterator[tuple[str, str, int]]:
    yield "all", "All tasks", len(rows)
    for kind, label in _FILTERS:
        yield kind, label, sum(kind in row.kinds for row in rows)
