"""The summary in pytest's terminal. Colour only adds to what the words say."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.text import Text

from harness.records.metrics import variants_in_order
from harness.records.reading import read_records
from harness.records.record import TrialRecord
from harness.records.store import RunFolder
from harness.report.arms import ArmView, count_records
from harness.report.formatting import cost, count, percent, plural, seconds
from harness.report.notes import summary_notes
from harness.report.table import Column, as_text


@dataclass(frozen=True)
class SummaryRow:
    """One variant. The means are over its trials that count (passed or failed) and whose value is known."""

    arm: ArmView
    cost_usd: float | None
    tokens: float | None
    output_tokens: float | None
    total_ms: float | None


def summary_rows(records: Sequence[TrialRecord]) -> tuple[SummaryRow, ...]:
    """A row for each variant, in the order that the run had them in."""
    return tuple(
        _summary_row(name, [record for record in records if record.variant == name])
        for name in variants_in_order(records)
    )


def _summary_row(name: str, records: Sequence[TrialRecord]) -> SummaryRow:
    counted = [record for record in records if record.outcome in ("passed", "failed")]

    def mean(value: Callable[[TrialRecord], float | None]) -> float | None:
        known = [number for record in counted if (number := value(record)) is not None]
        return fmean(known) if known else None

    return SummaryRow(
        arm=count_records(name, records),
        cost_usd=mean(lambda record: record.cost_usd),
        tokens=mean(lambda record: None if record.tokens_partial else record.tokens.total),
        output_tokens=mean(lambda record: None if record.tokens_partial else record.tokens.output),
        total_ms=mean(lambda record: record.phases_ms.own),
    )


def write_summary(reporter: Any, run: RunFolder, *, not_started: int, reported: int | None = None) -> None:
    """Write the table by variant, its notes, the trials that were not run at all, and where the records are.

    `reported` is the number of verdicts that pytest tells of, where it stopped early (`-x`): trials run ahead of it.
    """
    reporter.section("harness")
    if not run.records_file.is_file():
        reporter.write_line(f"no trial ended; {_shown(run.path)} has no records")
        return
    found = read_records(run.path)
    rows = summary_rows(found.records)
    reporter.write(render(rows, width=reporter._tw.fullwidth, color=reporter._tw.hasmarkup))
    for bad in found.bad:
        reporter.write_line(f"{_shown(bad.file)}:{bad.number} is no whole record ({bad.reason})")
    for note in summary_notes(found.records, [row.arm for row in rows]):
        reporter.write_line(note)
    ahead = sum(row.arm.passed + row.arm.failed for row in rows) - reported if reported is not None else 0
    if ahead > 0:
        reporter.write_line(f"{plural(ahead, 'trial')} had ended too when pytest stopped: the table has them")
    if not_started:
        them = "it" if not_started == 1 else "them"
        reporter.write_line(f"{plural(not_started, 'trial')} never started; --resume runs {them}")
    kept = [record for record in found.records if record.kept]
    if kept:
        reporter.write_line(
            f"kept sandboxes: {len(kept)}; `harness attach --run {run.id} '{kept[0].trial_id}'` opens a shell in one, "
            f"`harness checks` runs its checks again, `harness gc --kept --run {run.id}` ends them"
        )
    reporter.write_line(f"records: {_shown(run.records_file)}")


_NUMBERS = ("passed", "failed", "excluded", "pass", "cost", "each", "tokens", "output", "time")


def render(rows: Sequence[SummaryRow], *, width: int, color: bool) -> str:
    """The table as text."""
    columns = [Column("variant"), *(Column(name, right=True) for name in _NUMBERS)]
    return as_text(columns, [_cells(row) for row in rows], width=max(width, 80), color=color)


def _cells(row: SummaryRow) -> list[str | Text]:
    arm = row.arm
    return [
        arm.name,
        str(arm.passed),
        Text(str(arm.failed), style="red" if arm.failed else ""),
        Text(str(arm.excluded_trials), style="yellow" if arm.excluded_trials else ""),
        percent(arm.pass_share),
        cost(arm.spent_usd),
        cost(row.cost_usd),
        count(row.tokens),
        count(row.output_tokens),
        seconds(row.total_ms),
    ]


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
