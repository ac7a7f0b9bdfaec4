"""Other people's tasks, collected as they stand."""

from __future__ import annotations

import pytest

from tests.tasks.test_task_formats import HARBOR, write


def test_a_folder_of_harbor_is_run_and_its_tests_never_here(pytester: pytest.Pytester) -> None:
    """Oracle passes, nop does not; what has no counterpart is a skip with its reason."""
    verdict = (
        'mkdir -p /logs/verifier\n[ "$(cat /app/count.txt)" = 3 ] && echo 1 >/logs/verifier/reward.txt || '
        "echo 0 >/logs/verifier/reward.txt\n"
    )
    write(pytester.path / "them/count", {**HARBOR, "tests/test.sh": verdict})
    write(pytester.path / "them/gpu", {**HARBOR, "task.toml": 'version = "1.0"\n[environment]\ngpus = 1\n'})
    done = pytester.runpytest("them", "--agent", "oracle", "-rs")
    done.assert_outcomes(passed=1, skipped=1)
    done.stdout.fnmatch_lines(["*it needs a GPU*"])
    pytester.runpytest("them/count", "--agent", "nop").assert_outcomes(failed=1)
    # A bare pytest runs neither the tasks nor the tests in them.
    pytester.runpytest().assert_outcomes()
