"""Runs in a list."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import UsageError
from harness.records.metrics import TrialMetrics
from harness.records.reading import Records, bad_line_notes, list_runs, read_about, read_measured
from harness.records.store import RunFolder
from harness.report.arms import count_measured
from harness.report.formatting import cost, percent
from harness.report.live import is_running
from harness.report.table import Column, as_text, printable


def list_of_runs(results: Path) -> str:
    """The runs in a folder, oldest first, with their agents, models and outcomes."""
    runs = list_runs(results)
    if not runs:
        return f"no runs in {results}; `pytest tasks` makes one\n"
    columns = [Column("run"), Column("agent"), Column("model"), *(Column(n, right=True) for n in _NUMBERS)]
    notes: list[str] = []
    table = as_text(columns, [_row(run, notes) for run in runs])
    return table + "".join(f"{printable(note)}\n" for note in notes)


_NUMBERS = ("trials", "passed", "failed", "excluded", "pass", "cost")


def _row(run: RunFolder, notes: list[str]) -> list[str]:
    about = read_about(run.path)
    found: Records[TrialMetrics] = Records((), ())
    if os.path.lexists(run.records_file):
        try:
            found = read_measured(run.path)
        except UsageError as error:
            notes.append(error.message)
    notes += bad_line_notes(found.bad)
    arm = count_measured(run.id, found.records)
    return [
        f"{arm.name} (runs)" if is_running(run) else arm.name,
        str(about.get("agent", "")),
        str(about.get("model_source", "")),
        str(arm.trials),
        str(arm.passed),
        str(arm.failed),
        str(arm.excluded_trials),
        percent(arm.pass_share),
        cost(arm.spent_usd),
    ]
