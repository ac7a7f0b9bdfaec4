"""A solution that is a patch."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ProblemsError
from harness.records.reading import list_runs, read_records
from harness.tasks.loading import load_task
from tests.support.folders import task_folder

PATCH = """\
--- a/question.txt
+++ /dev/null
@@ -1 +0,0 @@
-6 x 7?
--- /dev/null
+++ b/answer.txt
@@ -0,0 +1 @@
+42
"""


@pytest.mark.usefixtures("as_e2b")
def test_a_patch_is_applied(pytester: pytest.Pytester) -> None:
    """It can change, add and remove files."""
    folder = task_folder(pytester.path / "tasks", solution={})
    (folder / "solution.patch").write_text(PATCH)
    gone = "#!/bin/sh\ntest ! -e question.txt\n"
    (folder / "checks/gone.sh").write_text(gone)
    (folder / "checks/gone.sh").chmod(0o755)
    pytester.runpytest("tasks", "--agent", "oracle").assert_outcomes(passed=1)
    (run,) = list_runs(pytester.path / "results")
    assert [check.passed for check in read_records(run.path).records[0].checks] == [True, True]


def test_one_solution_is_enough(tmp_path: Path) -> None:
    """A patch and a folder are a mistake."""
    folder = task_folder(tmp_path)
    (folder / "solution.patch").write_text(PATCH)
    with pytest.raises(ProblemsError, match="there is solution/ too"):
        load_task(folder)
