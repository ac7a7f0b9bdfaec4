"""`harness regrade`, by its command line: old trials, judged again by today's checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.records.store import RunFolder
from tests.support.folders import task_folder

THERE = "[checks.run]\nthere = 'test -f answer.txt'\n"
RIGHT = "right = 'grep -qx 42 answer.txt'\n"


def run_of(pytester: pytest.Pytester, *options: str) -> RunFolder:
    """A run of an oracle that writes 41 in each of three tasks."""
    for name in ("strict", "same", "other"):
        solution = {"solve.sh": "echo 41 >answer.txt"}
        task_folder(pytester.path / "tasks", name, toml=THERE, checks={}, solution=solution)
    pytester.runpytest("tasks", "--agent", "oracle", *options).assert_outcomes(passed=3)
    (run,) = list_runs(pytester.path / "results")
    return run


def by_task(run: RunFolder) -> dict[str, TrialRecord]:
    return {record.task: record for record in read_records(run.path).records}


def test_todays_checks_judge_the_work_of_old_trials(
    pytester: pytest.Pytester, as_e2b: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new records stand in a run beside the old one, which stays as it is; what changed is told, and compared."""
    old = run_of(pytester, "--keep-work", "all")
    before = old.records_file.read_bytes()
    task_folder(pytester.path / "tasks", "strict", toml=THERE + RIGHT, checks={}, solution={})
    capsys.readouterr()
    assert main(["regrade", old.id[:-1], "tasks/strict", "tasks/same"]) == 0
    told = capsys.readouterr().out
    (new,) = (run for run in list_runs(pytester.path / "results") if run.id != old.id)
    lines = told.splitlines()
    assert sorted(lines[:2]) == [
        "passed            same[default-t1]",
        "passed -> failed  strict[default-t1]  (right is new and fails)",
    ]
    assert lines[2:] == [
        "2 of 2 trials judged again, 1 with another outcome",
        f"records: {Path('results') / new.id / 'records.jsonl'}",
        f"compare: harness compare {old.id} {new.id}",
    ]
    assert old.records_file.read_bytes() == before
    found = by_task(new)
    assert {task: (one.outcome, one.regraded_from) for task, one in found.items()} == {
        "same": ("passed", old.id),
        "strict": ("failed", old.id),
    }
    assert found["same"].task_hash == by_task(old)["same"].task_hash
    assert found["strict"].task_hash != by_task(old)["strict"].task_hash
    assert found["strict"].diff
    assert "+41" in (new.path / found["strict"].diff).read_text()
    assert main(["compare", old.id, new.id]) == 0
    assert "now fails in most trials (may be noise): strict" in capsys.readouterr().out


@pytest.mark.usefixtures("as_e2b")
def test_what_cannot_be_judged_again_is_told(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, with exit code 2, and no run is left of it."""
    old = run_of(pytester, "--keep-work", "none")
    task_folder(pytester.path, "stranger", toml=THERE, checks={})
    for words, told in {
        ("nothing", "tasks/same"): "no run begins with 'nothing'",
        (old.id, "stranger"): f"run {old.id} has no trial of stranger",
        (old.id, "results"): "task 'results' cannot be used",
        (old.id, "tasks/same"): "same[default-t1]: its work was not kept (--keep-work)",
    }.items():
        capsys.readouterr()
        assert main(["regrade", *words]) == 2
        said = capsys.readouterr()
        assert (told in said.err, said.out) == (True, ""), said
    assert [run.id for run in list_runs(pytester.path / "results")] == [old.id]
