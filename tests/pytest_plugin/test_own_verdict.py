"""A trial behind fixtures comes to what pytest says of its test: nothing else passes, fails or counts."""

from __future__ import annotations

import pytest

from harness.cli import main
from harness.records.reading import list_runs
from tests.support.folders import write_files
from tests.support.python_tests import outcomes, ran, records, run

pytestmark = pytest.mark.usefixtures("as_stub")

SORTS = """
import pytest

def test_subtest_fails(sandbox, subtests):
    with subtests.test("a"):
        assert False
    with subtests.test("b"):
        pass

def test_subtest_skips(sandbox, subtests):
    with subtests.test("a"):
        pytest.skip("no matter")

def test_subtest_xfails(sandbox, subtests):
    with subtests.test("a"):
        pytest.xfail("no matter")

def test_fails_and_skips(sandbox, subtests):
    with subtests.test("a"):
        assert False
    pytest.skip("too late")

def test_skips(sandbox):
    pytest.skip("early")

@pytest.mark.xfail
def test_xfails(sandbox):
    assert False

@pytest.mark.xfail(strict=True)
def test_xpasses(sandbox):
    pass

@pytest.fixture
def broken(sandbox):
    raise RuntimeError("broken")

def test_setup_fails(sandbox, broken):
    pass

@pytest.mark.xfail
def test_setup_xfails(sandbox, broken):
    pass

@pytest.fixture
def skipping(sandbox):
    pytest.skip("early")

def test_setup_skips(sandbox, skipping):
    pass

def test_exits(sandbox):
    raise SystemExit(0)
"""


def test_a_record_says_what_pytest_says(pytester: pytest.Pytester) -> None:
    """Failed subtests fail it, theirs alone is a skip of theirs; what a fixture broke is no failure of the agent."""
    write_files(pytester.path, {"test_it.py": SORTS})
    run(pytester)
    found = {
        record.task.removeprefix("test_it.py.test_"): record.error.type if record.error else record.outcome
        for record in records(pytester)
    }
    assert found == {
        "subtest_fails": "failed",
        "subtest_skips": "passed",
        "subtest_xfails": "passed",
        "fails_and_skips": "failed",
        "skips": "skipped",
        "xfails": "failed",
        "xpasses": "failed",
        "setup_fails": "test_setup",
        "setup_xfails": "test_setup",
        "setup_skips": "skipped",
        "exits": "failed",
    }
    (run_folder,) = list_runs(pytester.path / "results")
    assert main(["verify", str(run_folder.path)]) == 0
    result = run(pytester, ".", "--resume", "-k", "subtest")
    result.assert_outcomes(passed=2, failed=1, deselected=8)
    result.stdout.no_fnmatch_line("*stopped: None*")


@pytest.mark.parametrize(
    "stop",
    ["os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", "pytest.exit('enough')"],
    ids=["SIGINT", "exit"],
)
def test_a_test_that_was_stopped_has_not_failed(pytester: pytest.Pytester, stop: str) -> None:
    """It was stopped in its own lines, and not in one of ours; a resume runs it again."""
    test = (
        "import os, signal, time, pytest\ndef test_it(sandbox):\n    with open('ran.txt', 'a') as file:\n"
        f"        file.write('it\\n')\n    if not os.path.exists('mended'):\n        {stop}\n"
    )
    write_files(pytester.path, {"test_it.py": test})
    pytester.runpytest_subprocess("--agent", "nop", "test_it.py")
    (record,) = records(pytester)
    assert record.error
    assert (record.outcome, record.error.type) == ("error", "interrupted")
    write_files(pytester.path, {"mended": ""})
    run(pytester, ".", "--resume").assert_outcomes(passed=1)
    assert ran(pytester) == ["it", "it"]


@pytest.mark.parametrize("option", ["--setup-only", "--setup-plan"])
def test_no_setup_alone(pytester: pytest.Pytester, option: str) -> None:
    """A trial would be paid for, and come to nothing."""
    write_files(pytester.path, {"test_it.py": "def test_it(sandbox): pass\n"})
    result = run(pytester, ".", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{option}* do*not go with trials*", "*--plan tells*"])
    assert not (pytester.path / "results").exists()


@pytest.mark.parametrize("options", [[], ["-n1"]])
def test_an_options_value_renames_no_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """pytest looks for its root before it knows that a path is an option's value, and names tests from there."""
    write_files(pytester.path, {"results/x": "", "tests/test_it.py": "def test_it(sandbox): pass\n"})
    monkeypatch.chdir(pytester.path / "tests")
    run(pytester, ".", "--results", str(pytester.path / "results"), *options).assert_outcomes(passed=1)
    assert outcomes(pytester) == {"test_it.py.test_it[default-t1]": "passed"}


@pytest.mark.parametrize("command", ["show", "report", "compare", "merge"])
def test_a_name_that_no_file_can_have_is_no_run(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The system's refusal to look for it is no traceback."""
    write_files(pytester.path, {"results/20260101-000000-aaaa/run.json": "{}"})
    assert main([command, "x" * 300, "--results", "results"]) == 2
    assert capsys.readouterr().err.startswith("harness: ")
