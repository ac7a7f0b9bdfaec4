"""A disk that fills up under a run, from the command line to what is left on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.records.reading import list_runs, read_records
from tests.support.folders import task_folder

TRIALS = 25


@pytest.fixture
def small_disk(pytester: pytest.Pytester) -> Iterator[Path]:
    """A file system for the results that holds some trials, about 40 kB each, and not all of them.

    It holds more than the trials that run side by side: they write at the same time, so that a smaller one may be full
    before the first of them has ended.
    """
    place = pytester.path / "results"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "harness-test", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
def test_a_full_disk_ends_the_run_in_clear_words(pytester: pytest.Pytester, small_disk: Path) -> None:
    """An error of the harness with its remedy, told once a trial at most, no traceback; what was written is whole."""
    task_folder(pytester.path / "tasks")
    result = pytester.runpytest_subprocess(
        "tasks", "--agent", "oracle", "--trials", str(TRIALS), "--concurrency", "4", timeout=90
    )
    assert result.ret == 1
    (run,) = list_runs(small_disk)
    found = read_records(run.path)
    assert not found.bad
    passed = result.parseoutcomes().get("passed", 0)
    assert 0 < passed < TRIALS
    assert result.parseoutcomes().get("failed", 0) == 0
    assert sum(record.outcome == "passed" for record in found.records) == passed
    assert {record.error.type for record in found.records if record.error} <= {"disk", "interrupted"}
    result.stdout.fnmatch_lines(["*cannot be written: No space left on device*", "*make room*--results*"])
    said = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said
