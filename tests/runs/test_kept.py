"""Sandboxes that are kept: paused at the trial's end, and there again for a shell and for the checks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UsageError
from harness.local import shared_server
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.runs.kept import attach, check_again, find_kept, sweep
from tests.support.folders import task_folder, write_files
from tests.support.typist import Typist

WRONG = {"answer.txt": "41\n"}


def run(pytester: pytest.Pytester, *options: str, apart: bool = False) -> dict[str, TrialRecord]:
    """The records of a run in which one task passes and one fails; `apart` in a process of its own."""
    task_folder(pytester.path / "tasks", "right")
    task_folder(pytester.path / "tasks", "wrong", solution=WRONG)
    start = pytester.runpytest_subprocess if apart else pytester.runpytest
    result = start("tasks", "--agent", "oracle", *options)
    result.assert_outcomes(passed=1, failed=1)
    (found,) = list_runs(pytester.path / "results")
    return {record.task: record for record in read_records(found.path).records}


@pytest.fixture
def results(pytester: pytest.Pytester) -> Path:
    return pytester.path / "results"


@pytest.fixture
def _swept(as_e2b: object) -> Iterator[None]:
    """The suite's server has no paused sandboxes afterwards, nor snapshots that another test has left before."""
    sweep(None, kept=True, dry_run=False)
    yield
    sweep(None, kept=True, dry_run=False)


@pytest.fixture
def own_server(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A lasting server of the test's own, which is gone afterwards."""
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    yield
    if shared_server.find():
        sweep(None, kept=True, in_use=True, dry_run=False)
    assert shared_server.find() is None


@pytest.mark.usefixtures("_swept")
@pytest.mark.parametrize(("keep", "kept"), [("failed", {"wrong"}), ("all", {"right", "wrong"})])
def test_what_is_kept(pytester: pytest.Pytester, results: Path, keep: str, kept: set[str]) -> None:
    """What was asked for; the records say so, and nothing else is left."""
    records = run(pytester, "--keep", keep)
    assert {name for name, record in records.items() if record.kept} == kept
    lines = sweep(None, kept=False, dry_run=False).splitlines()
    ids = {record.sandbox_id for record in records.values() if record.kept}
    assert {line.split()[0] for line in lines if " paused   since" in line} == ids
    assert (
        sweep(None, kept=True, dry_run=False).splitlines()[-1]
        == f"{len(kept)} sandbox{'es' * (len(kept) != 1)} ended"
    )
    with pytest.raises(UsageError, match="is gone"):
        check_again(results, None, "wrong")
    if keep == "failed":
        with pytest.raises(UsageError, match="no sandbox of"):
            find_kept(results, None, "right")


@pytest.mark.usefixtures("_swept")
def test_the_checks_run_again(
    pytester: pytest.Pytester, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they are now, on what the agent left; the sandbox sleeps again afterwards, and the record stays."""
    before = run(pytester, "--keep", "failed", apart=True)["wrong"]
    check = pytester.path / "tasks" / "wrong" / "checks" / "answer.sh"
    check.write_text(check.read_text().replace("42", "41"))
    assert main(["checks", "wrong", "--results", str(results)]) == 0
    assert "1 of 1 checks passed" in capsys.readouterr().out
    assert " paused " in sweep(None, kept=False, dry_run=True)
    (found,) = list_runs(results)
    assert {r.task: r for r in read_records(found.path).records}["wrong"] == before


@pytest.mark.usefixtures("_swept")
def test_a_shell_in_it(pytester: pytest.Pytester, results: Path) -> None:
    """In the repo, with Ctrl-C its own, and its end is the sandbox's sleep; so is that of the window.
    While it is open, checks leave it awake, and gc leaves it alone."""
    run(pytester, "--keep", "failed")
    typist = Typist("attach", "wrong", "--results", str(results))
    typist.until(b"~/repo")
    # Bash passes over a Ctrl-C that comes while it is about to start a command: this one says when it runs.
    typist.type(b"sh -c 'echo run\"\"ning; exec sleep 1000'\n")
    typist.until(b"running\r\n")
    typist.type(b"\x03")
    typist.until(b"^C")
    typist.until(b"~/repo")
    typist.type(b"cat answer.txt; echo 42 >answer.txt; echo do''ne\n")
    typist.until(b"41\r\n")
    typist.until(b"done\r\n")
    typist.type(b"exit\n")
    typist.until(b"is kept on")
    assert typist.end() == 0
    assert check_again(results, None, "wrong")[1]
    typist = Typist("attach", "wrong", "--results", str(results))
    typist.until(b"~/repo")
    assert check_again(results, None, "wrong")[1]
    said = sweep(None, kept=True, dry_run=False)
    assert said.startswith("0 sandboxes ended\n1 sandbox left alone: in use")
    typist.process.terminate()
    assert typist.end() == 130
    assert " paused " in sweep(None, kept=False, dry_run=True)


@pytest.mark.usefixtures("_swept")
def test_a_system_is_looked_at_as_its_agent_saw_it(pytester: pytest.Pytester, results: Path) -> None:
    """The checks and the shell have the account and the folder that the task names."""
    task_folder(
        pytester.path / "tasks",
        "wrong",
        toml='sandbox = { user = "root", workdir = "/app" }\n[checks]\nsandbox = "agent"\n'
        "[checks.run]\nseen = 'test \"$(id -u):$(pwd):$(cat made):$(cat ~/made)\" = 0:/app:yes:no'\n",
        checks={},
        solution={"solve.sh": "#!/bin/sh\ncd /app && echo yes >made && echo yes >~/made\n"},
    )
    shutil.rmtree(pytester.path / "tasks/wrong/repo")
    (pytester.path / "tasks/wrong/solution/solve.sh").chmod(0o755)
    pytester.runpytest("tasks", "--agent", "oracle", "--keep", "failed").assert_outcomes(failed=1)
    typist = Typist("attach", "wrong", "--results", str(results))
    typist.until(b"/app")
    typist.type(b"echo no >~/made; exit\n")
    typist.until(b"is kept on")
    assert typist.end() == 0
    assert check_again(results, None, "wrong")[1]


@pytest.mark.usefixtures("_swept")
def test_what_is_demanded_of_the_session_is_not_asked_of_a_sandbox(
    pytester: pytest.Pytester, results: Path
) -> None:
    """Checks of the answer and the tools are named as not asked; the others are run again."""
    toml = '[checks.answer]\nequals = "42"\n[checks.run]\nthere = "test -e question.txt"\n'
    task_folder(pytester.path / "tasks", toml=toml, checks={})
    pytester.runpytest("tasks", "--agent", "nop", "--keep", "all")
    said, has_passed = check_again(results, None, "answer")
    assert said.splitlines() == [
        "passed      there",
        "not asked   answer: of the session",
        "1 of 1 checks passed (the record stays as it is)",
    ]
    assert has_passed


@pytest.mark.usefixtures("_swept")
def test_a_row_that_is_gone_has_no_checks(pytester: pytest.Pytester, results: Path) -> None:
    """Another row of the table is not taken for it."""
    toml = 'schema = 1\nrows = "rows.jsonl"\n[checks.run]\nbad = "false"\n'
    folder = pytester.path / "tasks/sums"
    write_files(folder, {"task.toml": toml, "prompt.md": "{{ q }}?\n", "rows.jsonl": '{"id": "a", "q": 1}\n'})
    pytester.runpytest("tasks", "--agent", "nop", "--keep", "failed").assert_outcomes(failed=1)
    assert not check_again(results, None, "sums.a")[1]
    write_files(folder, {"rows.jsonl": '{"id": "b", "q": 1}\n'})
    with pytest.raises(UsageError, match=r"has no task sums\.a any more"):
        check_again(results, None, "sums.a")


@pytest.mark.usefixtures("_swept")
def test_a_shell_needs_a_terminal(pytester: pytest.Pytester, results: Path) -> None:
    run(pytester, "--keep", "failed")
    with pytest.raises(UsageError, match="a shell needs a terminal"):
        attach(results, None, "wrong")
    assert " paused " in sweep(None, kept=False, dry_run=True)


@pytest.mark.usefixtures("own_server")
def test_this_machine_keeps_them_too(pytester: pytest.Pytester, results: Path) -> None:
    """By a server that outlives the run, for as long as it has something to keep."""
    records = run(pytester, "--sandbox", "local", "--keep", "failed", "-n2")
    assert records["wrong"].kept
    server = shared_server.find()
    assert server
    state = pytester.path / "state" / "harness" / "server.json"
    assert state.stat().st_mode & 0o77 == 0
    assert server.api_key == json.loads(state.read_text())["api_key"]
    text, passed = check_again(results, None, "wrong")
    assert not passed
    assert "failed (1)  answer" in text
    assert "answer.txt does not say 42" in text
    assert "1 sandbox paused and kept" in sweep(None, kept=False, dry_run=False)
    assert shared_server.find()
    assert "1 sandbox ended" in sweep(None, kept=True, dry_run=False)
    assert shared_server.find() is None
    with pytest.raises(UsageError, match="has ended"):
        find_kept(results, None, "wrong")


@pytest.mark.usefixtures("own_server")
def test_a_server_with_nothing_to_keep_ends(pytester: pytest.Pytester) -> None:
    """When its last run does."""
    task_folder(pytester.path / "tasks", "right")
    pytester.runpytest(
        "tasks", "--agent", "oracle", "--sandbox", "local", "--keep", "failed"
    ).assert_outcomes(passed=1)
    assert shared_server.find() is None


@pytest.mark.usefixtures("own_server")
def test_gc_says_when_there_is_nothing_to_look_at() -> None:
    assert sweep(None, kept=False, dry_run=False).startswith("nothing to look at: E2B_API_KEY is not set")


@pytest.mark.usefixtures("own_server")
def test_gc_of_a_run_that_there_is_not_is_an_error(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--run", "nope", "--results", str(results)]) == 2
    assert "there are no runs" in capsys.readouterr().err


PYTHON_TEST = """
import pytest

@pytest.mark.task(repo="starter", checks={"ok": "true"})
def test_it(claude, sandbox):
    sandbox.write("made", "here")
    assert False
"""


@pytest.mark.usefixtures("_swept")
def test_a_python_test_is_kept_as_it_was_judged(pytester: pytest.Pytester, results: Path) -> None:
    """By the test; and its checks are its own."""
    (pytester.path / "starter").mkdir()
    pytester.makepyfile(PYTHON_TEST)
    pytester.runpytest("--agent", "nop", "--keep", "all")
    (found,) = list_runs(results)
    (record,) = read_records(found.path).records
    assert record.kept
    with pytest.raises(UsageError, match="is of a Python test"):
        check_again(results, None, record.trial_id)
