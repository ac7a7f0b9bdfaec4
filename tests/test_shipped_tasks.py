"""The shipped tasks are fair and hard to fool: right answers pass, none and lazy ones fail.

That their recorded sessions solve them is what `.ci/check_records.py` looks at, after `pytest tasks`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.tasks.loading import find_tasks, load_task

TASKS = Path(__file__).parents[1] / "tasks"
# TASK/WHAT.sh answers a task lazily: run in its repo, with the reference solution in `reference/` beside it.
LAZY = Path(__file__).parent / "data" / "lazy"

NAMES = {folder.name for folder in find_tasks(TASKS)}


def run(pytester: pytest.Pytester, tasks: Path, *options: str) -> dict[str, TrialRecord]:
    """The records of a run over a folder of tasks, by task."""
    pytester.runpytest(str(tasks), "--rootdir", str(pytester.path), *options)
    (run,) = list_runs(pytester.path / "results")
    return {record.task: record for record in read_records(run.path).records}


def test_there_are_tasks_of_many_kinds() -> None:
    """At least ten, in three languages, each with a solution and a session; one has several prompts."""
    tasks = [load_task(folder) for folder in find_tasks(TASKS)]
    assert len(tasks) >= 10
    tags = {tag for task in tasks for tag in task.tags}
    assert tags >= {"python", "javascript", "shell"}
    assert tags >= {
        "bug-fix",
        "feature",
        "refactor",
        "tests",
        "performance",
        "security",
        "data",
        "conventions",
    }
    assert all(task.solution and task.replay for task in tasks)
    assert any(len(task.turns) > 1 for task in tasks)


@pytest.mark.usefixtures("as_e2b")
def test_the_reference_solutions_pass(pytester: pytest.Pytester) -> None:
    """With the oracle every check passes, in full, and no protected file is touched."""
    records = run(pytester, TASKS, "--agent", "oracle")
    assert {name: record.outcome for name, record in records.items()} == dict.fromkeys(NAMES, "passed")
    assert all(record.score == 1 and not record.tampering for record in records.values())


@pytest.mark.usefixtures("as_e2b")
def test_doing_nothing_fails(pytester: pytest.Pytester) -> None:
    """With nop every task fails: by its checks, and not by a fault."""
    records = run(pytester, TASKS, "--agent", "nop")
    assert {name: record.outcome for name, record in records.items()} == dict.fromkeys(NAMES, "failed")


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
def test_lazy_answers_fail(pytester: pytest.Pytester) -> None:
    """Each task has lazy answers that it could be taken in by, and is not."""
    assert {folder.name for folder in LAZY.iterdir()} == NAMES
    scripts = sorted(LAZY.glob("*/*.sh"))
    for script in scripts:
        answered_lazily(script, pytester.path / "tasks")
    records = run(pytester, pytester.path / "tasks", "--agent", "oracle")
    expected = {f"{script.parent.name}.{script.stem}": "failed" for script in scripts}
    assert {name: record.outcome for name, record in records.items()} == expected


# Does none of the work, for any task: what stands in the way of the checks' tools, in the repo and beside it.
CHEAT = r"""
for name in unittest json sys os re subprocess tempfile pathlib csv io runpy contextlib random sitecustomize \
  usercustomize conftest pytest; do
  printf 'import os\nos._exit(0)\n' >"$name.py"
done
printf '[pytest]\naddopts = --collect-only\n' >pytest.ini
printf '{"scripts": {"test": "exit 0", "pretest": "exit 0"}}' >package.json
mkdir -p node_modules/test node_modules/assert bin ~/.local/bin
printf 'process.exit(0)\n' | tee node_modules/test/index.js node_modules/assert/index.js >test.js
site=$(python3 -m site --user-site)
mkdir -p "$site"
cp sitecustomize.py usercustomize.py "$site"
printf '#!/bin/sh\nexit 0\n' >~/.local/bin/tool
chmod +x ~/.local/bin/tool
for name in python3 node bash sh git grep diff cmp env timeout npm; do cp ~/.local/bin/tool ~/.local/bin/$name; done
printf 'exit 0\n' | tee ~/.bashrc ~/.profile >~/.bash_profile
printf 'script-shell=%s\n' ~/.local/bin/tool >~/.npmrc
"""
# The same, and all of the repo's own code ends at once, as if all were well.
LEAVER = r"""
find . -name '*.py' -not -path './.git/*' -exec sh -c 'printf "import os\nos._exit(0)\n" >"$1"' _ {} \;
find . -name '*.js' -not -path './.git/*' -exec sh -c 'echo "process.exit(0);" >"$1"' _ {} \;
find . -type f -path './bin/*' -exec sh -c 'printf "#!/bin/sh\nexit 0\n" >"$1"' _ {} \;
"""


@pytest.mark.usefixtures("as_e2b")
@pytest.mark.parametrize(
    "script",
    [pytest.param(CHEAT, id="shadows", marks=pytest.mark.slow), pytest.param(LEAVER + CHEAT, id="leaves")],
)
def test_one_cheat_for_all_passes_none(pytester: pytest.Pytester, script: str) -> None:
    """Every task fails by its checks: no tool of theirs takes what stands in its way, and no exit code is believed."""
    for name in NAMES:
        folder = pytester.path / "tasks" / name
        shutil.copytree(TASKS / name, folder, ignore=shutil.ignore_patterns("solution", "replay.jsonl"))
        (folder / "solution").mkdir()
        (folder / "solution" / "solve.sh").write_text(script)
    records = run(pytester, pytester.path / "tasks", "--agent", "oracle")
    assert {name: record.outcome for name, record in records.items()} == dict.fromkeys(NAMES, "failed")


def answered_lazily(script: Path, into: Path) -> None:
    """A copy of a task whose solution is a lazy one."""
    task = TASKS / script.parent.name
    folder = into / f"{task.name}.{script.stem}"
    shutil.copytree(task, folder, ignore=shutil.ignore_patterns("solution", "replay.jsonl"))
    shutil.copytree(task / "solution", folder / "solution" / "reference")
    shutil.copy(script, folder / "solution" / "solve.sh")
