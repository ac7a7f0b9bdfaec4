"""What a run says on the screen: while it goes on, and at its end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.cli import main
from harness.records.reading import list_runs
from harness.runs.controller import EXIT_BUDGET
from tests.support.folders import ANSWER_CHECK, task_folder, write_files

pytestmark = pytest.mark.usefixtures("as_e2b")

PLAIN_AND_GOOD = {
    "variants.toml": '[plain]\n[good]\noverlay = "good"\n',
    "good/repo/answer.txt": "42\n",
}
SECOND_CHECK = '#!/bin/sh\nseq 1 9; test "$(cat answer.txt)" = 42 || exit 3\n'


def test_failures_are_grouped_and_the_verdict_is_last(pytester: pytest.Pytester) -> None:
    """Each check of a task once, its name first; -v, junit and --durations have a trial's own numbers."""
    task_folder(pytester.path / "tasks", "one", checks={"answer.sh": ANSWER_CHECK, "count.sh": SECOND_CHECK})
    task_folder(pytester.path / "tasks", "two")
    write_files(pytester.path / "tasks", PLAIN_AND_GOOD)
    run = pytester.runpytest(
        "tasks", "--agent", "nop", "--trials", "2", "-v", "--junitxml=out.xml", "--durations=3", "--tb=short"
    )
    run.assert_outcomes(passed=4, failed=4)
    (folder,) = list_runs(pytester.path / "results")
    run.stdout.fnmatch_lines(
        [
            "*one?plain-t1? FAILED (* s)*",
            "*= FAILURES of trials =*",
            "_* one: 2 of 4 failed _*",
            "FAILED  answer (exit code 1): plain t1-t2",
            "        answer.txt does not say 42",
            f"        log: results/{folder.id}/trials/one/plain-t1/checks/answer.txt",
            "FAILED  count (exit code 3): plain t1-t2",
            "        8",
            f"all of it: harness show {folder.id} 'one?plain-t1?'",
            "FAILED tasks/one/task.toml::one?plain-t1?*",
            "*4 failed, 4 passed*",
            "*= harness =*",
            "*= verdict =*",
            "good may be better or worse than plain*",
        ]
    )
    assert run.outlines.count("        answer.txt does not say 42") == 2
    assert "        6" not in run.outlines
    times = [float(case.get("time") or 0) for case in ET.parse(pytester.path / "out.xml").iter("testcase")]
    assert all(times), "also of those for which nobody had to wait"


@pytest.mark.parametrize(
    ("style", "told"),
    [("line", "answer[default-t1]: failed: answer (0 of 1 checks passed)"), ("no", None)],
)
def test_tb_is_as_in_any_pytest(pytester: pytest.Pytester, style: str, told: str | None) -> None:
    """One line each, or none; a failure of another test is pytest's own to write."""
    task_folder(pytester.path / "tasks")
    pytester.makepyfile(test_own="def test_own(): assert 1 == 2")
    run = pytester.runpytest("tasks", "test_own.py", "--agent", "nop", f"--tb={style}")
    run.assert_outcomes(failed=2)
    assert [line for line in run.outlines if line.startswith("answer[")] == ([told] if told else [])
    assert ("does not say 42" in run.stdout.str()) is False
    assert run.stdout.str().count("test_own.py:1: assert 1 == 2") == (1 if told else 0)


@pytest.mark.parametrize("place", ["CI", None])
def test_the_short_summary_is_one_line_a_trial_in_ci_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str | None
) -> None:
    """In CI pytest writes all of a message into its short summary; what the grouped entries say is not said twice."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    if place:
        monkeypatch.setenv(place, "true")
    task_folder(pytester.path / "tasks")
    run = pytester.runpytest("tasks", "--agent", "nop")
    run.assert_outcomes(failed=1)
    assert run.stdout.str().count("answer.txt does not say 42") == 1
    run.stdout.fnmatch_lines(["FAILED tasks/answer/task.toml::answer?default-t1? - failed: answer (0 of 1*"])


def test_a_users_own_mistake_is_not_infrastructure(pytester: pytest.Pytester) -> None:
    """A setup that fails is said once for all its trials, and a variant of which none counts has one line."""
    task_folder(pytester.path / "tasks", toml='[setup]\nrun = ["echo no such package; exit 9"]\n')
    write_files(pytester.path / "tasks", PLAIN_AND_GOOD)
    run = pytester.runpytest("tasks", "--agent", "nop", "--concurrency", "1")
    run.assert_outcomes(errors=2)
    said = run.stdout.str()
    assert sum(line.startswith("yours to mend (task, setup_failed): ") for line in run.outlines) == 1
    assert "infrastructure (" not in said
    assert "broke on infrastructure" not in said
    run.stdout.fnmatch_lines(
        [
            "2 of 2 trials could not be run as asked: yours to mend; *",
            "plain, good: no verdict, since no trial of them counts (1 error: task:",
        ]
    )
    assert said.count("no trial of") == 1
    assert "smallest difference" not in said


def test_a_shard_has_no_verdict_and_merge_takes_results_folders(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each shard tells its counts and what to do; a folder as CI downloads it stands for the runs in it."""
    for name in ("one", "two"):
        task_folder(pytester.path / "tasks", name)
    write_files(pytester.path / "tasks", PLAIN_AND_GOOD)
    for part in ("1/2", "2/2"):
        results = f"artifacts/shard-{part[0]}/results"
        options = ("--agent", "nop", "--shard", part, "--results", results, "--fail-on", "regression")
        run = pytester.runpytest("tasks", *options)
        assert run.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        assert "= verdict =" not in run.stdout.str()
        run.stdout.fnmatch_lines([f"shard {part}: no verdict, *harness merge*"])
    capsys.readouterr()
    assert main(["merge", "artifacts/shard-1", "artifacts/shard-2", "--into", "whole"]) == 0
    assert main(["show", "whole"]) == 0
    assert capsys.readouterr().out.count("-t1]") == 4


def test_the_code_for_spent_money_is_none_of_pytests() -> None:
    """pytest has taken 6 for its own."""
    assert EXIT_BUDGET not in set(pytest.ExitCode)


def test_the_live_line_is_seen_under_capture(tmp_path: Path) -> None:
    """On a terminal, while pytest captures what tests print: done, running, and the phase of each trial."""
    task_folder(tmp_path / "tasks", solution={"solve.sh": "sleep 2; echo 42 >answer.txt\n"})
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "pytest", "tasks", "--agent", "oracle", "-p", "no:cacheprovider"]
    run = subprocess.Popen(
        command, cwd=tmp_path, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"}
    )
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:
        pass  # The other end is closed.
    assert run.wait() == 0, seen.decode()
    assert "\x1b[2m0/1 done · 1 running · answer[default-t1] agent 0:0" in seen.decode()
    (folder,) = list_runs(tmp_path / "results")
    assert not (folder.path / "status.json").exists()


def test_folders_with_hostile_names_and_a_crash_steer_nothing_and_show_no_secret(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ids of tasks, in the line of what cannot be collected, in INTERNALERROR; too many folders are told."""
    monkeypatch.setenv("HF_TOKEN", "hf_canaryOfTheCrash7")
    task_folder(pytester.path / "tasks" / "up\x1b[2J\u202e", toml="nope = 1\n")
    (pytester.path / "tasks" / "x").joinpath(*"d" * 110).mkdir(parents=True)
    write_files(
        pytester.path,
        {
            "conftest.py": "import os\ndef pytest_collection_finish():\n"
            "    raise ValueError(os.environ['HF_TOKEN'] + '\\x1b[2J')",
        },
    )
    run = pytester.runpytest_subprocess("tasks", "--color=no", "--continue-on-collection-errors")
    told = run.outlines + run.errlines
    assert not [line for line in told if "\x1b" in line or "\u202e" in line or "hf_canaryOf" in line]
    assert [line for line in told if "INTERNALERROR" in line and "[redacted:HF_TOKEN]" in line]
    listed = pytester.runpytest_subprocess("tasks", "--color=no", "-p", "no:conftest", "--noconftest")
    listed.stdout.fnmatch_lines(["*ERROR collecting tasks/up*task.toml*"])
    assert "folders within more than 100 folders are not collected" in str(listed.stdout)
    assert not [line for line in listed.outlines if "\x1b" in line or "\u202e" in line]


def test_a_link_in_a_circle_brings_no_task_again(pytester: pytest.Pytester) -> None:
    """pytest would follow it forty times, and each time the tasks' names were taken."""
    folder = task_folder(pytester.path / "tasks")
    (folder.parent / "again").symlink_to("../tasks")
    (folder.parent / "also").symlink_to(pytester.path)
    listed = pytester.runpytest("tasks", "--collect-only", "-q")
    assert listed.ret == 0
    listed.stdout.fnmatch_lines(["1 test collected*"])
