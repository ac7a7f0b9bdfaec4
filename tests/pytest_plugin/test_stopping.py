"""A run that is stopped, and gone on with: signals to a real pytest process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.sandboxes.cleanup import kill_orphans
from tests.support.folders import task_folder

pytestmark = pytest.mark.usefixtures("as_e2b")

PATIENCE_S = 120
SLOW = "sleep 300\n"
TOLD_TO_ANOTHER_THREAD = """import signal
def pytest_collection_finish():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
"""
"""The system chooses the thread that a signal wakes. Python acts on it in the main thread, which may wait."""


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tasks",
        "--agent",
        "oracle",
        "-p",
        "no:cacheprovider",
        *options,
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_until_running(trials: int) -> None:
    """Until so many sandboxes are there."""
    deadline = time.monotonic() + PATIENCE_S
    while not kill_orphans(None, dry_run=True, in_use=True).endswith(f"{trials} sandboxes would be ended\n"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def records(folder: Path) -> Mapping[str, TrialRecord]:
    (run,) = list_runs(folder / "results")
    return {record.trial_id: record for record in read_records(run.path).records}


@pytest.mark.parametrize(
    ("signals", "options"),
    [
        pytest.param([signal.SIGINT], ["--grace", "0"], id="Ctrl-C and no grace"),
        pytest.param([signal.SIGINT, signal.SIGINT], [], id="Ctrl-C twice", marks=pytest.mark.slow),
        pytest.param([signal.SIGTERM], [], id="terminated", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_records_what_it_cut_off_and_goes_on_later(
    tmp_path: Path, as_e2b: LocalServer, signals: list[signal.Signals], options: list[str]
) -> None:
    """What ran has a record that says so, what waited has none; no sandbox is left; --resume does the rest."""
    if signals == [signal.SIGTERM]:
        (tmp_path / "conftest.py").write_text(TOLD_TO_ANOTHER_THREAD)
    folder = task_folder(tmp_path / "tasks", solution={"solve.sh": SLOW})
    pytest_run = start(tmp_path, "--trials", "3", "--concurrency", "2", *options)
    wait_until_running(2)
    for number in signals:
        os.killpg(pytest_run.pid, number)
        time.sleep(0.5)
    output, _ = pytest_run.communicate(timeout=PATIENCE_S)
    assert pytest_run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "2 trials were cut off when the run was stopped; --resume runs them again" in output
    assert "1 trial never started; --resume runs" in output
    (run,) = list_runs(tmp_path / "results")
    assert output.splitlines()[-1].startswith("go on with it: pytest tasks --agent oracle ")
    assert output.splitlines()[-1].endswith(f" --resume={run.id}")
    assert ".py:" not in output, "no place in our code"
    assert "harness.runs" not in output, "nor a class of ours"
    cut = records(tmp_path)
    assert set(cut) == {"answer[default-t1]", "answer[default-t2]"}
    assert {record.error.type for record in cut.values() if record.error} == {"interrupted"}
    assert kill_orphans(None, dry_run=True, in_use=True) == "0 sandboxes would be ended\n"

    (folder / "solution" / "solve.sh").write_text("echo 42 >answer.txt\n")
    again = start(tmp_path, "--trials", "3", "--resume")
    output, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, output
    assert "3 passed" in output
    assert {record.outcome for record in records(tmp_path).values()} == {"passed"}


def test_whoever_goes_on_pressing_ctrl_c_gets_the_summary_too(
    tmp_path: Path, as_e2b: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it comes at each line of the end: no traceback, the command that goes on, no sandbox left."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    task_folder(tmp_path / "tasks", solution={"solve.sh": SLOW})
    pytest_run = start(tmp_path, "--trials", "3", "--concurrency", "2")
    wait_until_running(2)
    os.killpg(pytest_run.pid, signal.SIGINT)
    output, stdout = "", pytest_run.stdout
    assert stdout
    while "go on with it: pytest tasks --agent oracle " not in output and (line := stdout.readline()):
        output += line
        if "stopping: 2 trials run" in output:
            os.killpg(pytest_run.pid, signal.SIGINT)
    output += stdout.read()
    assert pytest_run.wait(PATIENCE_S) == pytest.ExitCode.INTERRUPTED, output
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith("go on with it: pytest tasks --agent oracle ")
    assert kill_orphans(None, dry_run=True, in_use=True) == "0 sandboxes would be ended\n"
