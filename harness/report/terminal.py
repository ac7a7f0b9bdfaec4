"""The summary in pytest's terminal. Colour only adds to what the words say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.text import Text

from harness.records.store import RunFolder, read_records
from harness.report.formatting import cost, count, percent, seconds, several
from harness.report.table import Column, as_text
from harness.report.view import RunView, VariantView, view


def write_summary(reporter: Any, run: RunFolder, *, not_started: int) -> None:
    """The table by variant, what was not run at all, and where the records are."""
    if not run.records_file.is_file():
        reporter.section("harness")
        reporter.write_line(f"no trial ended; {_shown(run.path)} has no records")
        return
    found = read_records(run.path)
    seen = view(found.records)
    reporter.section("harness")
    reporter.write(render(seen, width=reporter._tw.fullwidth, color=reporter._tw.hasmarkup))
    for bad in found.bad:
        reporter.write_line(f"{_shown(bad.file)}:{bad.number} is no whole record ({bad.reason})")
    for note in notes(seen):
        reporter.write_line(note)
    if not_started:
        them = "it" if not_started == 1 else "them"
        reporter.write_line(f"{several(not_started, 'trial')} never started; --resume runs {them}")
    kept = [record for record in found.records if record.kept]
    if kept:
        reporter.write_line(
            f"kept sandboxes: {len(kept)}; `harness attach '{kept[0].trial_id}'` opens a shell in one, "
            "`harness checks` runs its checks again, `harness gc --kept` ends them"
        )
    reporter.write_line(f"records: {_shown(run.records_file)}")


_NUMBERS = ("passed", "failed", "error", "pass", "cost", "each", "tokens", "output", "time")


def render(run: RunView, *, width: int, color: bool) -> str:
    """The table as text."""
    columns = [Column("variant"), *(Column(name, right=True) for name in _NUMBERS)]
    return as_text(columns, [_row(variant) for variant in run.variants], width=max(width, 80), color=color)


def _row(variant: VariantView) -> list[str | Text]:
    broken = variant.errors + variant.invalid
    return [
        variant.name,
        str(variant.passed),
        Text(str(variant.failed), style="red" if variant.failed else ""),
        Text(str(broken), style="yellow" if broken else ""),
        percent(variant.pass_rate),
        cost(variant.cost_usd),
        cost(variant.cost_mean_usd),
        count(variant.tokens_mean),
        count(variant.tokens_output_mean),
        seconds(variant.total_ms_mean),
    ]


def notes(run: RunView) -> list[str]:
    """What a reader must know to read the table rightly."""
    lines = [
        "means are a trial's, over those that passed or failed; each: what one cost",
        "time: of the whole trial, with sandbox and checks",
    ]
    stopped = sum(record.error is not None and record.error.type == "interrupted" for record in run.records)
    if stopped:
        lines.append(f"{stopped} trials were cut off when the run was stopped; --resume runs them again")
    errors = sum(row.errors for row in run.variants) - stopped
    if errors:
        lines.append(f"{errors} of {len(run.records)} trials broke on infrastructure and count for nobody")
    invalid = sum(row.invalid for row in run.variants)
    if invalid:
        lines.append(
            f"{invalid} of {len(run.records)} trials are invalid (under error): their variant was not really "
            "applied; they count for nobody"
        )
    cut = sum(record.tokens_partial for record in run.records if record.outcome in ("passed", "failed"))
    if cut:
        lines.append(f"{cut} of those were cut off: their tokens are lower bounds, their cost is unknown")
    if run.replayed:
        how = "sessions, some written by hand" if run.by_hand else "sessions"
        lines.append(f"replayed {how}: this measures the plumbing, not a model")
        lines.append("nothing was spent: the costs are those of the recordings, at list prices")
    return lines


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
