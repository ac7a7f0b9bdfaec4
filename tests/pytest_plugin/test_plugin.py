"""The plugin, through pytest's own doors: real trials in real sandboxes, small tasks."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from tests.support.folders import by_hand, says, task_folder, uses

pytestmark = pytest.mark.usefixtures("as_e2b")


def records(pytester: pytest.Pytester) -> list[Any]:
    """The records of the only run."""
    (run,) = list_runs(pytester.path / "results")
    return list(read_records(run.path).records)


@pytest.fixture(params=["plain", "-n0", "-n2"])
def way(request: pytest.FixtureRequest) -> list[str]:
    """Without xdist's help, with it in one process, and with it in two."""
    return [] if request.param == "plain" else [request.param]


LOADED = """
import sys
from pathlib import Path
def pytest_sessionfinish(session):
    if worker := getattr(session.config, "workerinput", None):
        Path(f"{worker['workerid']}.loaded").write_text(str({"e2b", "harness.runs.engine"} & {*sys.modules}))
"""


def test_oracle_passes_and_nop_fails(pytester: pytest.Pytester, way: list[str]) -> None:
    """The same outcomes, ids, records and summary, however the work is shared; workers load no more than they need."""
    pytester.makeconftest(LOADED)
    for name in ("one", "two"):
        task_folder(pytester.path / "tasks", name)
    result = pytester.runpytest("tasks", "--agent", "oracle", "--trials", "2", "-v", *way)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*default*4*0*0*100%*", "records: results*records.jsonl*"])
    found = records(pytester)
    assert {r.trial_id for r in found} == {f"{t}[default-t{i}]" for t in ("one", "two") for i in (1, 2)}
    assert len(found) == 4
    assert all(r.outcome == "passed" and r.score == 1 for r in found)

    result = pytester.runpytest("tasks", "--agent", "nop", "--results", "nop", *way)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["_* one: 1 of 1 failed _*", "FAILED  answer (exit code 1): default t1", "*does not say 42*"]
    )
    loaded = [path.read_text() for path in pytester.path.glob("*.loaded")]
    assert loaded == (["set()"] * 2 if way == ["-n2"] else [])


def test_a_session_is_replayed_by_the_real_cli(pytester: pytest.Pytester) -> None:
    """Claude Code itself runs in the sandbox; tokens are the recording's, to the digit, and the record says replay."""
    session = by_hand(
        [says("I write it."), uses("Write", file_path="/home/user/repo/answer.txt", content="42\n")],
        [says("Done.")],
        usage={
            "input_tokens": 11,
            "output_tokens": 7,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 3,
        },
    )
    task_folder(pytester.path / "tasks", replay=session)
    result = pytester.runpytest("tasks")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["harness: agent claude, model replay, sandbox e2b*", "*measures the plumbing*"]
    )
    (record,) = records(pytester)
    assert (record.tokens.input, record.tokens.output) == (22, 14)
    assert (record.tokens.cache_read, record.tokens.cache_creation) == (10, 6)
    assert record.num_turns == 2
    assert record.tools["Write"].calls == 1
    assert record.model_source == "replay"
    assert record.replay_by_hand is True
    assert record.stop == "completed"
    (run,) = list_runs(pytester.path / "results")
    assert b"+42" in (run.path / record.diff).read_bytes()
    lines = (run.path / record.transcript).read_bytes().splitlines()
    assert json.loads(lines[-1])["type"] == "result"


def test_wrong_tasks_are_told_and_the_others_run(pytester: pytest.Pytester, way: list[str]) -> None:
    """All problems of a task at once, with file, field and remedy; nobody else is held up."""
    task_folder(pytester.path / "tasks", "good")
    task_folder(pytester.path / "tasks", "bad", toml="timeot = 5\n[checks]\ntimeout = -1\n", prompts={})
    result = pytester.runpytest("tasks", "--agent", "oracle", *way)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "*task.toml: timeot: is not a known key (did you mean 'timeout'?)*",
            "*task.toml: checks.timeout:*greater than 0*",
            "*task.toml: prompts.0: 'prompt.md' does not exist*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert result.ret == 1


def test_two_tasks_of_one_name_are_an_error(pytester: pytest.Pytester) -> None:
    """Their records could not be told apart."""
    task_folder(pytester.path / "tasks" / "a", "same")
    task_folder(pytester.path / "tasks" / "b", "same")
    result = pytester.runpytest("tasks", "--agent", "oracle")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*has the same name (rename one of the two)*"])


def test_selection_works_as_in_any_pytest(pytester: pytest.Pytester) -> None:
    """Ids, -k, -m with tags, --collect-only, and nothing of the starter repo is collected."""
    tests = {"tests/test_x.py": "def test_never(): raise Exception"}
    task_folder(pytester.path / "tasks", "one", toml='tags = ["quick"]\n', repo=tests)
    task_folder(pytester.path / "tasks", "two", repo=tests)
    result = pytester.runpytest("tasks", "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == [
        "tasks/one/task.toml::one[default-t1]",
        "tasks/two/task.toml::two[default-t1]",
    ]
    assert not (pytester.path / "results").exists()
    for selection in (["-k", "one"], ["-m", "quick"], ["tasks/one/task.toml::one[default-t1]"]):
        given = selection if "::" in selection[0] else ["tasks", *selection]
        result = pytester.runpytest(*given, "--agent", "nop", "--collect-only", "-q")
        assert [line for line in result.outlines if "::" in line] == ["tasks/one/task.toml::one[default-t1]"]


def test_last_failed_first_failure_and_junit(pytester: pytest.Pytester) -> None:
    """--lf runs what failed, -x stops at the first failure, and junit's XML has the numbers."""
    task_folder(pytester.path / "tasks", "bad", checks={"no.sh": "#!/bin/sh\nexit 1\n"})
    task_folder(pytester.path / "tasks", "good")
    pytester.runpytest("tasks", "--agent", "oracle", "--junitxml=out.xml").assert_outcomes(passed=1, failed=1)
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "out.xml").iter("testcase")}
    good = {p.get("name"): p.get("value") for p in cases["good[default-t1]"].iter("property")}
    assert good["outcome"] == "passed"
    assert cases["bad[default-t1]"].find("failure") is not None
    pytester.runpytest("tasks", "--agent", "oracle", "--lf").assert_outcomes(failed=1)
    pytester.runpytest("tasks", "--agent", "oracle", "-x", "--concurrency", "1").assert_outcomes(failed=1)


def test_a_fault_is_an_error_and_never_a_failure(pytester: pytest.Pytester, way: list[str]) -> None:
    """A template that does not exist is nobody's failed task."""
    task_folder(pytester.path / "tasks", toml='[sandbox]\ntemplate = "no-such"\n')
    result = pytester.runpytest("tasks", "--agent", "oracle", "--junitxml=out.xml", *way)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["yours to mend (sandbox, template):*no-such*", "*counts neither as passed nor as failed*"]
    )
    (record,) = records(pytester)
    assert (record.outcome, record.error.cause, record.error.type) == ("error", "sandbox", "template")
    assert record.score is None
    assert next(ET.parse(pytester.path / "out.xml").iter("testcase")).find("error") is not None


def test_a_projects_own_hooks_see_a_fault_as_an_error(pytester: pytest.Pytester) -> None:
    """A report is marked before a conftest.py gets it, so that nobody takes infrastructure for a test's failure."""
    pytester.makeconftest(
        """
        from pathlib import Path
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            if report.failed:
                Path("seen.txt").write_text(f"{report.when} {report.longrepr}")
            return report
        """
    )
    pytester.makepyfile(
        """
        def test_it(sandbox):
            sandbox._trial.call(sandbox._trial.prepared.agent_context.sandbox.kill())
            sandbox.run("true")
        """
    )
    pytester.runpytest("--agent", "oracle")
    seen = (pytester.path / "seen.txt").read_text()
    assert seen.startswith("setup infrastructure (sandbox, ")


def test_a_bare_pytest_leaves_tasks_alone(pytester: pytest.Pytester) -> None:
    """What may cost money runs only when it is named; neither are the starter repos' tests collected."""
    task_folder(pytester.path / "tasks", repo={"test_x.py": "def test_never(): raise Exception"})
    pytester.makepyfile(test_own="def test_own(): pass")
    pytester.runpytest().assert_outcomes(passed=1)
    assert not (pytester.path / "results").exists()


def test_a_plan_runs_nothing(pytester: pytest.Pytester, way: list[str]) -> None:
    """--plan starts no trial and no other test, and makes no run."""
    task_folder(pytester.path / "tasks")
    pytester.makepyfile(test_own="def test_own(): raise AssertionError('never comes to this')")
    result = pytester.runpytest("tasks", "test_own.py", "--agent", "oracle", "--plan", *way)
    result.assert_outcomes()
    if "-n2" not in way:  # Its controller collects nothing.
        result.stdout.fnmatch_lines(["harness: plan: 1 trial (1 task, 1 variant), * at once"])
    assert not (pytester.path / "results").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trials", "0"], "*--trials '0' is not a whole number*"),
        (["--trials", "100001"], "*give one from 1 to 100000*"),
        (["--seed", "9" * 5000], "*is not a whole number*"),
        (["--concurrency", "many"], "*--concurrency 'many' is not a whole number*"),
        (["--model-source", "api"], "*--model-source api needs a key*"),
        (["--replay", "nothing"], "*no runs in*"),
    ],
)
def test_wrong_options_are_told_without_a_traceback(
    pytester: pytest.Pytester, options: list[str], words: str
) -> None:
    """A usage error, with what would be right."""
    task_folder(pytester.path / "tasks")
    result = pytester.runpytest("tasks", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_ini_twins_stand_for_options(pytester: pytest.Pytester) -> None:
    """What a project always wants is said once, in its ini file."""
    task_folder(pytester.path / "tasks")
    pytester.makeini("[pytest]\nharness_agent = oracle\nharness_trials = 2\nharness_results = kept/here\n")
    pytester.runpytest("tasks").assert_outcomes(passed=2)
    assert len(list_runs(pytester.path / "kept" / "here")) == 1


PYTHON_TEST = """
import pytest

@pytest.mark.task("tasks/answer")
def test_folder(claude, sandbox):
    result = claude("Write 42 into answer.txt.")
    assert result.passed_checks
    assert sandbox.run("cat answer.txt").stdout == "42\\n"

@pytest.mark.task(repo="tasks/answer/repo", checks={"said": "grep -q 42 answer.txt"}, template="base")
def test_parts(sandbox):
    assert sandbox.read("question.txt") == b"6 x 7?\\n"
    sandbox.write("new/file.txt", "hello")
    assert sandbox.run("cat new/file.txt; exit 3").exit_code == 3

def test_wrong(sandbox):
    assert sandbox.run("true").exit_code == 1
"""


def test_python_tests_get_trials_and_records_too(pytester: pytest.Pytester, way: list[str]) -> None:
    """The fixtures run the same code, and their tests' verdicts stand in the same records."""
    session = by_hand(
        [uses("Write", file_path="/home/user/repo/answer.txt", content="42\n")], [says("Done.")]
    )
    task_folder(pytester.path / "tasks", replay=session)
    pytester.makepyfile(test_own=PYTHON_TEST)
    result = pytester.runpytest("test_own.py", *way)
    result.assert_outcomes(passed=2, failed=1)
    found = {record.task: record for record in records(pytester)}
    assert {name: record.outcome for name, record in found.items()} == {
        "test_own.py.test_folder": "passed",
        "test_own.py.test_parts": "passed",
        "test_own.py.test_wrong": "failed",
    }
    folder = found["test_own.py.test_folder"]
    assert folder.tokens.output == 40
    assert [check.name for check in folder.checks] == ["answer"]
    assert found["test_own.py.test_parts"].template == "base"


def test_a_repos_own_modules_do_not_reach_the_replay(pytester: pytest.Pytester) -> None:
    """A task may put its repo on Python's path, with names of the standard library in it."""
    session = by_hand(
        [uses("Write", file_path="/home/user/repo/answer.txt", content="42\n")], [says("Done.")]
    )
    toml = '[sandbox]\nenv = {PYTHONPATH = "/home/user/repo"}\n'
    repo = {"json.py": "raise RuntimeError('not this one')\n"}
    checks = {"no-json.sh": "#!/bin/sh\n! python3 -c 'import json'\n"}
    task_folder(pytester.path / "tasks", toml=toml, repo=repo, checks=checks, replay=session)
    pytester.runpytest("tasks").assert_outcomes(passed=1)


def test_a_run_can_be_replayed_from_an_earlier_one(pytester: pytest.Pytester) -> None:
    """Any transcript is a recording: no task needs one of its own. What was written by hand stays so."""
    session = by_hand(
        [uses("Write", file_path="/home/user/repo/answer.txt", content="42\n")], [says("Done.")]
    )
    folder = task_folder(pytester.path / "tasks", replay=session)
    pytester.runpytest("tasks").assert_outcomes(passed=1)
    (folder / "replay.jsonl").unlink()
    (run,) = list_runs(pytester.path / "results")
    result = pytester.runpytest("tasks", "--replay", run.id, "--results", "again")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: there are no runs in *again*"])
    pytester.runpytest("tasks", "--replay", str(run.path), "--results", "again").assert_outcomes(passed=1)
    again = read_records(list_runs(pytester.path / "again")[-1].path).records[0]
    (first,) = records(pytester)
    assert again.tokens == first.tokens
    assert again.replay_by_hand is True


def test_no_recording_is_said_clearly(pytester: pytest.Pytester) -> None:
    """Without a key and without a session there is nothing to run, and that is no failure."""
    task_folder(pytester.path / "tasks")
    result = pytester.runpytest("tasks")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'answer' has no recorded session to replay*", "*ANTHROPIC_API_KEY*"])


def test_header_and_results_are_named(pytester: pytest.Pytester, as_e2b: LocalServer) -> None:
    """Agent, model source, sandbox and results folder stand in the header."""
    task_folder(pytester.path / "tasks")
    result = pytester.runpytest("tasks", "--agent", "oracle")
    result.stdout.fnmatch_lines(
        [
            f"harness: agent oracle, model no model, sandbox e2b ({as_e2b.url}, {as_e2b.isolation})*results results*"
        ]
    )


@pytest.mark.usefixtures("as_e2b")
def test_no_result_becomes_a_part_of_the_task(pytester: pytest.Pytester) -> None:
    """pytest's root is the task itself, where it is named alone and there is no ini file."""
    folder = task_folder(pytester.path / "tasks")
    pytester.runpytest(folder, "--rootdir", folder, "--agent", "oracle").assert_outcomes(passed=1)
    assert not (folder / "results").exists()
    assert len(list_runs(folder.parent / "results")) == 1


def test_sandboxes_are_gone_when_the_run_is_over(
    pytester: pytest.Pytester, as_e2b: LocalServer, tmp_path: Path
) -> None:
    """Nothing is left to pay for."""
    from harness.sandboxes.cleanup import kill_orphans

    task_folder(pytester.path / "tasks", "one")
    pytester.runpytest("tasks", "--agent", "oracle")
    assert kill_orphans(None, kept=True, dry_run=True).splitlines()[-1] == "0 sandboxes would be ended"


def test_a_sandbox_in_the_making_does_not_outlive_a_run_that_stops(
    pytester: pytest.Pytester, as_e2b: LocalServer
) -> None:
    """-x cancels trials at any moment, also while E2B makes their sandbox; none is left to live out its lifetime."""
    from harness.sandboxes.cleanup import kill_orphans

    task_folder(pytester.path / "tasks", "a", checks={"no.sh": "#!/bin/sh\nexit 1\n"})
    for name in "bcdefgh":
        task_folder(pytester.path / "tasks", name)
    result = pytester.runpytest("tasks", "--agent", "oracle", "-x", "--concurrency", "2")
    result.assert_outcomes(failed=1)
    assert kill_orphans(None, kept=True, dry_run=True).splitlines()[-1] == "0 sandboxes would be ended"


def test_trials_that_ended_before_the_stop_are_told(pytester: pytest.Pytester) -> None:
    """With -x pytest tells of one, and the table has those that ran ahead of it too."""
    task_folder(pytester.path / "tasks", checks={"no.sh": "#!/bin/sh\nexit 1\n"})
    pytester.makeconftest(
        """
        import pathlib, time

        def pytest_runtest_logstart():
            found = pathlib.Path("results").glob
            while sum(path.read_text().count("\\n") for path in found("*/records.jsonl")) < 2:
                time.sleep(0.05)
        """
    )
    result = pytester.runpytest("tasks", "--agent", "oracle", "-x", "--trials", "2", "--concurrency", "2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*default*0*2*0*", "1 trial had ended too when pytest stopped: the table has them"]
    )
    assert "had ended too" not in pytester.runpytest("tasks", "--agent", "oracle").stdout.str()


def test_a_python_test_without_a_sandbox_is_an_error_with_a_record(pytester: pytest.Pytester) -> None:
    """Nothing is lost: the fault stands in the records too."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.task(template="no-such")
        def test_it(sandbox):
            raise AssertionError("never comes to this")
        """
    )
    pytester.runpytest("--agent", "oracle").assert_outcomes(errors=1)
    (record,) = records(pytester)
    assert (record.outcome, record.error.cause, record.error.type) == ("error", "sandbox", "template")
