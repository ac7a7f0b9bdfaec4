"""Runs in a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.records.store import RunFolder, list_runs, read_records
from harness.report.arms import count_records
from harness.report.formatting import cost, percent
from harness.report.live import is_running
from harness.report.table import Column, as_text


def list_of_runs(results: Path) -> str:
    """The runs in a folder, oldest first, with their agents, models and outcomes."""
    runs = list_runs(results)
    if not runs:
        return f"no runs in {results}; `pytest tasks` makes one\n"
    columns = [Column("run"), Column("agent"), Column("model"), *(Column(n, right=True) for n in _NUMBERS)]
    return as_text(columns, [_row(run) for run in runs])


_NUMBERS = ("trials", "passed", "failed", "error", "pass", "cost")


def _row(run: RunFolder) -> list[str]:
    about = _about(run)
    try:
        records = read_records(run.path).records
    except UsageError:
        records = ()
    arm = count_records(run.id, records)
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


def _about(run: RunFolder) -> dict[str, Any]:
    try:
        about = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}
