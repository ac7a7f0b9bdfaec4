"""`harness demo`: a first verdict for nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.records.reading import list_runs, read_records


@pytest.mark.slow
def test_a_demo_ends_with_a_verdict_a_report_and_what_is_next(tmp_path: Path) -> None:
    """Whatever pytest settings surround its folder; a key that is set is not used."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n", encoding="utf-8")
    command = [sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main(['demo']))"]
    env = {"ANTHROPIC_API_KEY": "never-sent", "E2B_API_KEY": "never-sent", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = list_runs(tmp_path / "harness-demo" / "results")
    records = read_records(run.path).records
    failed = {(record.task, record.variant) for record in records if record.outcome == "failed"}
    edits = ("cli-monthly-report", "fix-async-cache", "fix-booking-overlap", "shell-snapshot-keep")
    assert failed == {(task, "no-edit") for task in edits}
    assert {record.model_source for record in records} == {"replay"}
    assert "\nno-edit is worse than plain on these 6 tasks: pass rate -67 pts" in done.stdout
    assert f"report:        harness-demo/results/{run.id}/report.html" in done.stdout
    assert (run.path / "report.html").is_file()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be somebody's."""
    assert main(["demo", str(tmp_path)]) == 2
    assert f"harness: {tmp_path} is there already" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
