"""Commands that make tasks, prove them, and show what they are for."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from harness.cli.arguments import Commands, add_results, add_sandbox, whole_number


def add_demo(commands: Commands) -> None:
    """Add `harness demo`."""
    command = commands.add_parser(
        "demo",
        help="see a first verdict within a minute, without a key",
        description="Make a folder with six small tasks and two variants, run them in sandboxes on this machine, and "
        "write the report. The model's replies are recorded: no key is needed, and nothing is spent.",
    )
    command.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("harness-demo"),
        metavar="FOLDER",
        help="a new folder (default: harness-demo)",
    )
    command.set_defaults(run=_run_demo)


def _run_demo(parsed: argparse.Namespace) -> int:
    from harness.authoring.demo import demo

    return demo(parsed.folder)


def add_new(commands: Commands) -> None:
    """Add `harness new`."""
    command = commands.add_parser(
        "new",
        help="make a task that validates at once",
        description="Make a task to start from: a small example, a job in a repository of yours (--repo), or a commit "
        "of it (--from-commit): its parent is the starter, its tests are the checks, its change is the solution.",
    )
    command.add_argument("name", metavar="NAME", help="the task's name")
    command.add_argument(
        "--repo", type=Path, metavar="REPO", help="a clone on this machine that the task is about"
    )
    command.add_argument(
        "--from-commit", metavar="SHA", help="the commit of REPO (default: of this one) to make it of"
    )
    command.add_argument(
        "--into", type=Path, default=Path("tasks"), metavar="DIR", help="where (default: tasks)"
    )
    add_sandbox(command, "where a commit is proven")
    add_results(command)
    command.set_defaults(run=_run_new)


def _run_new(parsed: argparse.Namespace) -> None:
    from harness.authoring.new import new
    from harness.runs.options import Options

    options = Options(sandbox=parsed.sandbox, results=parsed.results)
    sys.stdout.write(new(parsed.name, parsed.into, parsed.repo, parsed.from_commit, options, _say_progress))


def add_mine(commands: Commands) -> None:
    """Add `harness mine`."""
    command = commands.add_parser(
        "mine",
        help="make tasks of a repository's history",
        description="Make a task of each commit that changes source and tests, and keep those in which validating "
        "them finds no errors. What was tried before is not tried again. No model is asked.",
    )
    command.add_argument(
        "repo", nargs="?", type=Path, default=Path(), metavar="REPO", help="a clone (default: this one)"
    )
    command.add_argument("--since", metavar="COMMIT|DATE", help="only commits after this one")
    command.add_argument(
        "--into", type=Path, default=Path("tasks"), metavar="DIR", help="where (default: tasks)"
    )
    add_sandbox(command, "where they are proven")
    _add_mutants(command)
    command.add_argument("--concurrency", type=whole_number, metavar="N", help="how many sandboxes at once")
    add_results(command)
    command.set_defaults(run=_run_mine)


def _run_mine(parsed: argparse.Namespace) -> None:
    from harness.authoring.mine import mine
    from harness.runs.options import Options

    options = Options(sandbox=parsed.sandbox, concurrency=parsed.concurrency, results=parsed.results)
    done = mine(parsed.repo, parsed.into, options, parsed.since, _say_progress, mutants=parsed.mutants)
    sys.stdout.write(done.told())


def _add_mutants(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mutants", type=int, default=20, metavar="N", help="mutants of each solution (default: 20; 0: none)"
    )


def add_validate(commands: Commands) -> None:
    """Add `harness validate`."""
    command = commands.add_parser(
        "validate",
        help="prove tasks: their checks, their solutions, and what is in the agent's reach",
        description="Run tasks with their solution, with nothing done, and with mutants of the solution, and tell what "
        "is wrong with them. No model is asked. Exit code 0: no errors; 1: some; 2: it could not be done.",
    )
    command.add_argument(
        "tasks",
        nargs="*",
        type=Path,
        metavar="TASKS",
        help="folders of tasks, or that they are in (default: tasks)",
    )
    command.add_argument(
        "--times",
        type=whole_number,
        default=8,
        metavar="N",
        help="how often the checks judge the solution (default: 8)",
    )
    _add_mutants(command)
    command.add_argument("--json", action="store_true", help="print the findings as JSON instead")
    add_sandbox(command, "where")
    command.add_argument("--concurrency", type=whole_number, metavar="N", help="how many sandboxes at once")
    add_results(command)
    command.set_defaults(run=_run_validate)


def _run_validate(parsed: argparse.Namespace) -> int:
    from harness.authoring.findings import as_json, as_table
    from harness.authoring.validate import Effort, validate
    from harness.runs.options import Options

    options = Options(sandbox=parsed.sandbox, concurrency=parsed.concurrency, results=parsed.results)
    effort = Effort(parsed.times, parsed.mutants)
    reports = validate(parsed.tasks or [Path("tasks")], options, effort, _say_progress)
    if parsed.json:
        sys.stdout.write(as_json(reports))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        sys.stdout.write(as_table(reports, width=width, color=color))
    return 0 if all(report.is_clean for report in reports) else 1


def add_import(commands: Commands) -> None:
    """Add `harness import`."""
    command = commands.add_parser(
        "import",
        help="keep other people's tasks as folders of yours",
        description="Write tasks of Harbor, Exercism and datasets as task folders. To run them once, none of this is "
        "needed: `pytest FOLDER` and `pytest --dataset NAME` take them as they are.",
    )
    command.add_argument(
        "source", metavar="WHAT", help="a folder with tasks, or a dataset: a file or the Hub's name"
    )
    command.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder that they go into")
    command.add_argument("--limit", type=int, metavar="N", help="how many rows of a dataset")
    command.add_argument("--sample", type=int, metavar="SEED", help="draw them by this seed")
    command.set_defaults(run=_run_import)


def _run_import(parsed: argparse.Namespace) -> None:
    from harness.tasks.formats.importing import import_tasks

    sys.stdout.write(import_tasks(parsed.source, parsed.to, Path.cwd(), parsed.limit, parsed.sample))


def _say_progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
