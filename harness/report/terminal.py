"""The summary in pytest's terminal. Colour only adds to what the words say."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.report.text import cost, count, percent, seconds
from harness.report.view import RunView, view
from harness.store import RunFolder, read_records


def write_summary(reporter: Any, run: RunFolder) -> None:
    """The table by variant, and where the records are."""
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
    reporter.write_line(f"records: {_shown(run.records_file)}")


def render(run: RunView, *, width: int, color: bool) -> str:
    """The table as text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("variant", overflow="fold")
    for name in ("passed", "failed", "error", "pass", "cost", "a trial", "tokens", "output", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in run.variants:
        table.add_row(
            row.name,
            str(row.passed),
            f"[red]{row.failed}[/red]" if row.failed else "0",
            f"[yellow]{row.errors + row.invalid}[/yellow]" if row.errors + row.invalid else "0",
            percent(row.pass_rate),
            cost(row.cost_usd),
            cost(row.cost_mean_usd),
            count(row.tokens_mean),
            count(row.tokens_output_mean),
            seconds(row.total_ms_mean),
        )
    buffer = io.StringIO()
    Console(
        file=buffer, width=max(width, 80), force_terminal=color, no_color=not color, highlight=False
    ).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def notes(run: RunView) -> list[str]:
    """What a reader must know to read the table rightly."""
    lines = ["pass, tokens, output and time are means a trial, over those that passed or failed"]
    excluded = sum(row.errors + row.invalid for row in run.variants)
    if excluded:
        lines.append(f"{excluded} of {len(run.records)} trials broke on infrastructure and count for nobody")
    if run.replayed:
        how = "sessions, some written by hand" if run.by_hand else "sessions"
        lines.append(f"replayed {how}: this measures the plumbing, not a model, and nothing was spent")
    return lines


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
