"""Tests with the fixtures `claude` and `sandbox` are part of the run: its money, its resume, its one record a trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.runs.controller import EXIT_BUDGET
from tests.support.messages_api import Forever, MessagesApi, Say, Usage

pytestmark = pytest.mark.usefixtures("as_e2b")


def records(pytester: pytest.Pytester) -> list[TrialRecord]:
    """The records of the only run, as they stand in its file."""
    (run,) = list_runs(pytester.path / "results")
    return list(read_records(run.path).records)


def of(found: list[TrialRecord]) -> dict[str, str]:
    """Outcomes by the test's name."""
    return {record.task.rpartition(".")[2]: record.outcome for record in found}


PAID = """
def test_first(claude):
    claude("Say it.")

def test_second(claude):
    claude("Say it.")
"""


@pytest.mark.parametrize("way", [[], ["-n2", "--dist", "loadfile"]], ids=["plain", "-n2"])
def test_spent_money_keeps_python_tests_from_starting(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, way: list[str]
) -> None:
    """What the first has cost counts; the second is skipped with the reason, and the exit code says so."""
    pytester.makepyfile(test_own=PAID)
    with MessagesApi([Forever(Say("Said.", Usage(100_000, 10_000)))]) as api:
        for name, value in api.env("sk-ant-scripted").items():
            monkeypatch.setenv(name, value)
        result = pytester.runpytest("test_own.py", "-rs", "--max-cost", "0.1", *way)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*--max-cost 0.1 is reached: 0.* USD are spent*"])
    assert result.ret == EXIT_BUDGET
    # Said where the verdict would be, too, with the way on.
    assert " did not run: " in result.outlines[-2]
    assert f"(exit code {EXIT_BUDGET})" in result.outlines[-2]
    assert result.outlines[-1].endswith(" --max-cost USD")
    (record,) = records(pytester)
    assert record.cost_usd
    assert record.cost_usd > 0.1


THREE = """
from pathlib import Path

def count(name):
    with Path("runs.txt").open("a") as file:
        file.write(name + "\\n")

def test_good(sandbox):
    count("good")

def test_bad(sandbox):
    count("bad")
    assert sandbox.run("exit 1").exit_code == 0

def test_broken(sandbox):
    count("broken")
    import os
    if not os.path.exists("mended"):
        sandbox._trial.call(sandbox._trial.prepared.agent_context.sandbox.kill())
        sandbox.run("true")
"""


@pytest.mark.parametrize(
    "way", [pytest.param([], id="plain"), pytest.param(["-n2"], id="-n2", marks=pytest.mark.slow)]
)
def test_a_resume_runs_only_python_tests_without_a_verdict(pytester: pytest.Pytester, way: list[str]) -> None:
    """Valid records report for their tests, passed or failed, and the body is not run again; an error is."""
    pytester.makepyfile(test_own=THREE)
    first = pytester.runpytest("--agent", "oracle", "test_own.py", *way)
    first.assert_outcomes(passed=1, failed=1, errors=1)
    assert of(records(pytester)) == {"test_good": "passed", "test_bad": "failed", "test_broken": "error"}
    Path(pytester.path, "mended").touch()
    again = pytester.runpytest("--agent", "oracle", "test_own.py", *way, "--resume")
    again.assert_outcomes(passed=2, failed=1)
    again.stdout.fnmatch_lines(["*the test itself has failed*"])
    assert of(records(pytester)) == {"test_good": "passed", "test_bad": "failed", "test_broken": "passed"}
    (broken,) = [record for record in records(pytester) if record.task.endswith("broken")]
    assert [attempt.error.cause for attempt in broken.attempts] == ["sandbox"]
    runs = Path(pytester.path, "runs.txt").read_text().split()
    assert sorted(runs) == ["bad", "broken", "broken", "good"]


def test_a_changed_python_test_runs_again(pytester: pytest.Pytester) -> None:
    """What it asks and wants stands in its file: a record of other content says nothing about it."""
    pytester.makepyfile(test_own="def test_it(sandbox): assert sandbox.run('exit 3').exit_code == 0\n")
    pytester.runpytest("--agent", "oracle", "test_own.py").assert_outcomes(failed=1)
    pytester.makepyfile(test_own="def test_it(sandbox): assert sandbox.run('exit 3').exit_code == 3\n")
    pytester.runpytest("--agent", "oracle", "test_own.py", "--resume").assert_outcomes(passed=1)
    assert of(records(pytester)) == {"test_it": "passed"}


CRASH = """
import os

def test_crash(sandbox):
    os._exit(3)

def test_other(sandbox):
    pass
"""


def test_a_worker_that_dies_leaves_a_record(pytester: pytest.Pytester) -> None:
    """It is an error of the harness's, which counts for nobody; the others go on, and nobody waits for the dead."""
    pytester.makepyfile(test_own=CRASH)
    result = pytester.runpytest("--agent", "oracle", "test_own.py", "-n1")
    result.assert_outcomes(passed=1, failed=1)
    assert of(records(pytester)) == {"test_crash": "error", "test_other": "passed"}
    (dead,) = [record.error for record in records(pytester) if record.error]
    assert (dead.cause, dead.type) == ("harness", "worker_died")


SKIPS = """
import pytest

def test_body(sandbox):
    pytest.skip("no such tool here")

@pytest.fixture
def tool(sandbox):
    pytest.skip("no tool")

def test_fixture(tool): ...

@pytest.fixture
def broken(sandbox):
    raise ValueError("no database")

def test_broken(broken): ...

@pytest.fixture
def asked(claude):
    claude("do it")
    raise ValueError("not done")

def test_asked(asked): ...

@pytest.mark.xfail(reason="known")
def test_expected(sandbox):
    assert sandbox.run("exit 3").exit_code == 0
"""


def test_a_test_that_does_not_judge_counts_for_nobody(pytester: pytest.Pytester) -> None:
    """Its record says why. One that is expected to fail has failed, and so has one whose fixture judged an agent."""
    pytester.makepyfile(test_own=SKIPS)
    pytester.runpytest("test_own.py", "--agent", "nop").assert_outcomes(skipped=2, xfailed=1, errors=2)
    found = records(pytester)
    failed = dict.fromkeys(("test_asked", "test_expected"), "failed")
    assert of(found) == {**dict.fromkeys(("test_body", "test_fixture", "test_broken"), "error"), **failed}
    assert [(record.error.type, record.error.message) for record in found if record.error] == [
        ("skipped", "the test skipped itself: no such tool here"),
        ("skipped", "the test skipped itself: no tool"),
        ("test_setup", "a fixture of the test failed: ValueError: no database"),
    ]
