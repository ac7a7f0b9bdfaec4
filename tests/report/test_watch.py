"""A run that goes on, looked at from another terminal: `harness watch`, `ls`, `show` and `show --follow`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.records.redaction import NO_REDACTION
from harness.records.store import TRANSCRIPT, RunFolder
from harness.report.live import RunningTrial, RunStatus, write_status
from tests.support.records import a_record
from tests.support.runs import made_up_run

HARNESS = (sys.executable, "-c", "from harness.cli import program; program()")
NOW = RunningTrial("add-vat[brief-t4]", "add-vat", "brief", 4, 65.0, "agent", 0.25)
STATUS = RunStatus(20, 5, 2, 1, "$1.20 of $10.00 spent", 190.0, (NOW,))
SAYS = {"type": "text", "text": "I look at the rates."}
CALLS = {"type": "tool_use", "id": "1", "name": "Read", "input": {"file_path": "/home/user/repo/vat.py"}}


def said(*content: object) -> bytes:
    usage = {"input_tokens": 900, "output_tokens": 100}
    return json.dumps(
        {"type": "assistant", "message": {"id": "m", "model": "m", "content": content, "usage": usage}}
    ).encode()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run without a record, of which one trial is at work; before it one that ended, after it an empty one."""
    made_up_run(tmp_path, tasks=1, run_id="20260101-000000-aaaa")
    RunFolder.create(tmp_path, "20260303-000000-cccc", {}, NO_REDACTION)
    run = RunFolder.create(tmp_path, "20260202-000000-bbbb", {}, NO_REDACTION)
    write_status(run, STATUS)
    run.trial("add-vat", "brief", 4).line_writer(TRANSCRIPT).write(said(SAYS, CALLS))
    return run


def command(run: RunFolder, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HARNESS, *arguments, "--results", str(run.path.parent)], stdout=subprocess.PIPE, text=True
    )


def test_a_run_is_watched_to_its_end(run: RunFolder) -> None:
    """What its process says of it; the command ends when nobody works on the run any more."""
    lock = run.lock()
    watching = command(run, "watch")
    assert watching.stdout
    assert watching.stdout.readline() == (
        "run 20260202-000000-bbbb: 5/20 done · 2 failed · 1 error · 1 running · $1.20 of $10.00 spent · "
        "about 3:10 left\n"
    )
    lock.release()
    assert "does not go on: `harness show 20260202-000000-bbbb`" in watching.communicate()[0]
    assert watching.returncode == 0


def test_a_trial_is_followed_to_its_checks(run: RunFolder) -> None:
    """What is there, what comes, and the judgement once it has its record."""
    lock = run.lock()
    following = command(run, "show", run.id, "add-vat", "--follow")
    assert following.stdout
    assert following.stdout.readline() == "add-vat[brief-t4]  runs\n"
    assert following.stdout.readline() == "● I look at the rates.\n"
    assert following.stdout.readline() == "▸ Read  /home/user/repo/vat.py\n"
    with (run.trial("add-vat", "brief", 4).path / TRANSCRIPT).open("ab") as transcript:
        transcript.write(said({"type": "text", "text": "Now I write."}) + b"\n")
    assert following.stdout.readline() == "● Now I write.\n"
    run.append(a_record(run_id=run.id, task="add-vat", variant="brief", index=4, outcome="failed"))
    write_status(run, RunStatus(20, 6, 3, 1, None, None, ()))
    assert following.communicate()[0].endswith("add-vat[brief-t4]  FAILED\n")
    lock.release()


def test_what_goes_on_is_marked_and_shown(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` without a run takes the last one that has anything to show; a run and a trial may both be named."""
    results = ("--results", str(run.path.parent))

    def says(*arguments: str) -> str:
        assert main([*arguments, *results]) == 0
        return capsys.readouterr().out

    assert "(runs)" not in says("ls")
    assert "run 20260101-000000-aaaa" in says("show"), "the others have no record"
    lock = run.lock()
    assert "20260202-000000-bbbb (runs)" in says("ls")
    assert "5/20 done" in says("show")
    assert "run 20260101-000000-aaaa" in says("show", "20260101")
    assert says("show", "20260101", "fix-booking-overlap[default-t1]").startswith(
        "fix-booking-overlap[default-t1]"
    )
    lock.release()
    # A process that was killed leaves its last words behind, and they count for nothing.
    assert "5/20 done" not in says("show")
    assert main(["show", "a", "b", "c", *results]) == 2
    assert "harness show RUN TRIAL" in capsys.readouterr().err
