"""A run's verdicts, its gate and its rounds, through pytest's own doors: real trials in real sandboxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records.reading import list_runs, read_records
from tests.support.folders import task_folder, write_files

pytestmark = pytest.mark.usefixtures("as_e2b")

VARIANTS = {
    "variants.toml": '[plain]\n[good]\noverlay = "good"\n',
    "good/repo/answer.txt": "42\n",
}
"""`good` brings the answer along, so that an agent which does nothing passes with it, and fails without."""


def tasks(pytester: pytest.Pytester, number: int) -> None:
    for place in range(number):
        task_folder(pytester.path / "tasks", f"t{place}")
    write_files(pytester.path / "tasks", VARIANTS)


@pytest.fixture(params=["plain", pytest.param("-n2", marks=pytest.mark.slow)])
def way(request: pytest.FixtureRequest) -> list[str]:
    """In one process, and in two of xdist's."""
    return [] if request.param == "plain" else [request.param]


def test_trials_are_added_until_the_verdict_is_settled(pytester: pytest.Pytester, way: list[str]) -> None:
    """Those that are not needed any more are skipped; the report stands on the looks that were planned."""
    tasks(pytester, 4)
    result = pytester.runpytest(
        "tasks", "--agent", "nop", "--until-decided", "--max-trials", "5", "-rs", *way
    )
    result.assert_outcomes(passed=12, failed=12, skipped=16)
    result.stdout.fnmatch_lines(
        [
            "*not needed: *",
            "good is better than plain on these 4 tasks: pass rate +100 pts (*",
            "4 tasks, 3 trials each; 95% intervals, valid at each of up to 2 looks",
        ]
    )
    (run,) = list_runs(pytester.path / "results")
    assert {record.index for record in read_records(run.path).records} == {1, 2, 3}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--until-decided", "--trials", "9", "--max-trials", "5"], "--max-trials 5 is less than --trials 9"),
        (["--until-decided", "--shard", "1/2"], "do not go together"),
        (["--until-decided", "--variant", "good"], "needs two or more"),
        (["--until-decided", "--baseline", "nobody"], "neither one of the variants nor a run"),
        (["--variant", "good", "--fail-on", "regression"], "--fail-on needs something to compare"),
        (["--fail-on", "improvement"], "is not understood"),
    ],
)
def test_what_could_not_be_judged_is_refused_before_it_is_run(
    pytester: pytest.Pytester, options: list[str], says: str
) -> None:
    """As wrong use (4), in words."""
    tasks(pytester, 1)
    result = pytester.runpytest("tasks", "--agent", "nop", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says in result.stderr.str() + result.stdout.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert not list_runs(pytester.path / "results")


def test_the_gate_decides_the_exit_code(
    pytester: pytest.Pytester, way: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Trials that failed are data: only a regression fails the run. The job's summary has the verdicts."""
    tasks(pytester, 4)
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    gated = ("tasks", "--agent", "nop", "--trials", "2", "--fail-on", "regression", *way)
    better = pytester.runpytest(*gated)
    better.assert_outcomes(passed=8, failed=8)
    better.stdout.fnmatch_lines(["gate: holds", "trials that failed are data here*"])
    assert better.ret == 0

    worse = pytester.runpytest(*gated, "--baseline", "good")
    worse.stdout.fnmatch_lines(["gate: FAILED", "- pass rate of plain against good: regression, -100 pts*"])
    assert worse.ret == 1
    assert summary.read_text().count("## harness: comparison") == 2


def test_a_run_is_judged_by_an_earlier_one(pytester: pytest.Pytester) -> None:
    """--baseline RUN; a failure that is no trial's still fails the run."""
    tasks(pytester, 4)
    pytester.runpytest("tasks", "--agent", "oracle", "--variant", "plain").assert_outcomes(passed=4)
    (run,) = list_runs(pytester.path / "results")
    command = ("--agent", "oracle", "--variant", "plain", "--baseline", run.id, "--fail-on", "regression")
    result = pytester.runpytest("tasks", *command)
    result.stdout.fnmatch_lines(
        ["plain (new) may be better or worse than plain (base) on these 4 tasks: *", "gate: holds*"]
    )
    assert result.ret == 0

    pytester.makepyfile(test_other="def test_fails(): assert False")
    assert pytester.runpytest("tasks", "test_other.py", *command).ret == 1
