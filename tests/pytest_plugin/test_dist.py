"""However xdist shares the work: the same ids, records, summary and exit code."""

from __future__ import annotations

import re

import pytest

from harness.records.reading import list_runs, read_records
from tests.support.folders import task_folder

pytestmark = pytest.mark.usefixtures("as_e2b")

# `load` is what -n2 alone means.
MODES = ["loadscope", "loadfile", "loadgroup", "worksteal", "each", "no"]
WAYS = [[], ["-n0"], ["-n2"], *(["-n2", "--dist", mode] for mode in MODES)]
FAST = (["-n2"],)
NEVER = {"no.sh": "#!/bin/sh\nexit 1\n"}
PYTHON_TEST = "def test_it(sandbox): assert sandbox.run('exit 3').exit_code == 3\n"


@pytest.mark.parametrize(
    "way",
    [pytest.param(w, id=" ".join(w) or "plain", marks=[] if w in FAST else [pytest.mark.slow]) for w in WAYS],
)
def test_every_way_of_sharing_comes_to_the_same(pytester: pytest.Pytester, way: list[str]) -> None:
    """One record a trial, though `--dist each` has every worker report it; one header, one summary."""
    task_folder(pytester.path / "tasks", "bad", checks=NEVER)
    task_folder(pytester.path / "tasks", "good")
    pytester.makepyfile(test_own=PYTHON_TEST)
    result = pytester.runpytest("tasks", "test_own.py", "--agent", "oracle", "--trials", "2", "-rs", *way)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    counted = result.parseoutcomes()
    if "each" in way:
        assert counted == {"passed": 6, "failed": 4, "skipped": 2}
        result.stdout.fnmatch_lines(["*another worker runs this trial (--dist each)*"])
    else:
        assert counted == {"passed": 4, "failed": 2}
    (run,) = list_runs(pytester.path / "results")
    lines = (run.path / "records.jsonl").read_bytes().splitlines()
    found = {record.trial_id: record.outcome for record in read_records(run.path).records}
    assert len(lines) == len(found) == 6
    assert found == {
        f"{task}[default-t{index}]": "failed" if task == "bad" else "passed"
        for task in ("bad", "good", "test_own.py.test_it")
        for index in (1, 2)
    }
    output = result.stdout.str()
    assert len(re.findall(r"^harness: agent oracle, .* results results/", output, re.MULTILINE)) == 1
    assert len(re.findall(r"^records: results/.*records.jsonl", output, re.MULTILINE)) == 1
