"""Runs of tests with the fixtures `claude` and `sandbox`, and what came of them."""

from __future__ import annotations

import pytest

from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """A run of all tests, within this process, whose agent does nothing."""
    return pytester.runpytest("--agent", "nop", *(args or (".",)))


def records(pytester: pytest.Pytester) -> list[TrialRecord]:
    """The records of the last run, as they stand in its file: none may be there twice."""
    last = max(list_runs(pytester.path / "results"), key=lambda run: run.records_file.stat().st_mtime_ns)
    found = list(read_records(last.path).records)
    assert len((last.path / "records.jsonl").read_bytes().splitlines()) == len(found)
    return found


def outcomes(pytester: pytest.Pytester) -> dict[str, str]:
    """Outcomes by the trial's id."""
    return {record.trial_id: record.outcome for record in records(pytester)}


def ran(pytester: pytest.Pytester) -> list[str]:
    """What the tests' bodies wrote down as they ran, once."""
    file = pytester.path / "ran.txt"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    file.unlink(missing_ok=True)
    return lines
