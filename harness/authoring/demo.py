"""`harness demo`: a first verdict for nothing, from shipped tasks whose sessions are replayed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import harness
from harness.errors import UsageError
from harness.records.reading import find_run, read_records
from harness.records.record import TrialRecord
from harness.report.html.render import write_report
from harness.tasks.tomlfile import display_path

# Six: fewer have no verdict on tasks like these. The sessions of four of them use the tool Edit.
_TASKS = (
    "clean-contacts",
    "cli-monthly-report",
    "fix-async-cache",
    "fix-booking-overlap",
    "refactor-report",
    "shell-snapshot-keep",
)
_VARIANTS = """\
# What is compared. The first variant is the baseline: Claude Code as it is.
[plain]

# The same with one line of settings.
[no-edit]
settings = { permissions = { deny = ["Edit"] } }
"""
# Its own settings, so that those of a project around the folder have no part in it.
_PYTEST = """\
[pytest]
harness_model_source = replay
harness_sandbox = local
harness_trials = 2
"""
_ABOUT = """\
harness demo: six small tasks, each tried twice with Claude Code as it is and twice with its tool Edit denied.
Claude Code is real, and so are the sandboxes and the checks. The model's replies are recorded: nothing is sent, nothing
is spent.
"""


def demo(folder: Path) -> int:
    """Make a folder with tasks and two variants, run them, and write the report; the exit code.

    Raises:
        UsageError: when the folder cannot be made.
    """
    _write(folder)
    _say(_ABOUT)
    code = _run_pytest(folder)
    if code not in (0, 1):
        return code
    run = find_run(folder / "results", None)
    broken = [record for record in read_records(run.path).records if record.outcome in ("error", "invalid")]
    report = write_report(folder / "results", [run.id], None)
    _say("\n" + "\n".join(_next_steps(display_path(folder.absolute()), report.path, broken)) + "\n")
    return 1 if broken else 0


def _shipped_tasks() -> Path:
    """The shipped tasks: in a wheel beside the package's modules, in a clone beside the package."""
    package = Path(harness.__file__).parent
    within = package / "shipped_tasks"
    return within if within.is_dir() else package.parent / "tasks"


def _write(folder: Path) -> None:
    """Raises UsageError."""
    try:
        folder.mkdir(parents=True)
        for name in _TASKS:
            shutil.copytree(_shipped_tasks() / name, folder / "tasks" / name)
        (folder / "tasks" / "variants.toml").write_text(_VARIANTS, encoding="utf-8")
        (folder / "pytest.ini").write_text(_PYTEST, encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(
            f"{folder} is there already",
            remedy=f"run it again: cd {folder} && pytest tasks; or name another folder: harness demo FOLDER",
        ) from error
    except OSError as error:
        # A copy of many files tells of each.
        first = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        raise UsageError(f"{folder} cannot be made: {first}") from error


def _run_pytest(folder: Path) -> int:
    """Run the tasks, as a user would; pytest's exit code."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    command = [sys.executable, "-m", "pytest", "tasks", "--tb=line"]
    with subprocess.Popen(command, cwd=folder, env=environ) as tests:
        # Both are pytest's to answer, which ends the run in order. Ctrl-C reaches it by itself; a handler, unlike
        # SIG_IGN, is not handed down.
        handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: lambda *_: tests.terminate()}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            return tests.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _next_steps(folder: str, report: Path, broken: Sequence[TrialRecord]) -> list[str]:
    """Lines on what there is to look at, and how to get to a verdict of one's own."""
    if broken:
        return [
            f"{len(broken)} trials broke, which no demo should: `harness doctor` tells what does not work here",
            f"report: {report}",
        ]
    return [
        "The replayed model goes on asking for Edit, so whatever needs it fails. A live model would try another way.",
        "",
        f"report:        {display_path(report.absolute())} (open it in a browser)",
        f"one trial:     harness show 'fix-booking-overlap[no-edit-t1]' --results {folder}/results",
        f"the variants:  {folder}/tasks/variants.toml; change it, then: cd {folder} && pytest tasks",
        "your own task: harness new first --repo PATH/TO/YOUR/REPO",
        "               put a variants.toml beside it, set ANTHROPIC_API_KEY, then: pytest tasks --trials 5",
    ]


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
