"""Commands that do something with what runs have left: trials and their sandboxes, evidence and records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli.arguments import Commands, add_results, add_run, add_sandbox, add_trial


def add_apply(commands: Commands) -> None:
    """Add `harness apply`."""
    command = commands.add_parser(
        "apply",
        help="lay a trial's diff over a checkout",
        description="Apply what a trial's agent changed to a clean git checkout, staged. Where the checkout has "
        "moved on since, the two are merged (git apply --3way).",
    )
    add_trial(command)
    command.add_argument(
        "--to",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the folder in a checkout that the starter repo was made from (default: this one)",
    )
    command.set_defaults(run=_run_apply)


def _run_apply(parsed: argparse.Namespace) -> None:
    from harness.records.patch import apply_diff

    sys.stdout.write(apply_diff(parsed.results, parsed.run_name, parsed.trial, parsed.to))


def add_attach(commands: Commands) -> None:
    """Add `harness attach`."""
    command = commands.add_parser(
        "attach",
        help="open a shell in a kept sandbox",
        description="Wake the sandbox of a trial that was run with --keep, and open a shell in its repo. When the "
        "shell ends, the sandbox is paused again.",
    )
    add_trial(command)
    command.set_defaults(run=_run_attach)


def _run_attach(parsed: argparse.Namespace) -> None:
    from harness.runs.kept import attach

    sys.stdout.write(attach(parsed.results, parsed.run_name, parsed.trial))


def add_checks(commands: Commands) -> None:
    """Add `harness checks`."""
    command = commands.add_parser(
        "checks",
        help="run a trial's checks again in its kept sandbox",
        description="Run the checks of a trial's task, as they are now, in the sandbox that --keep has kept. "
        "Exits with 1 when one fails. The record stays as it is.",
    )
    add_trial(command)
    command.set_defaults(run=_run_checks)


def _run_checks(parsed: argparse.Namespace) -> int:
    from harness.runs.kept import check_again

    text, passed = check_again(parsed.results, parsed.run_name, parsed.trial)
    sys.stdout.write(text)
    return 0 if passed else 1


def add_verify(commands: Commands) -> None:
    """Add `harness verify`."""
    command = commands.add_parser(
        "verify",
        help="recompute what a run's report says from its evidence",
        description="Recompute tokens, costs, outcomes and verdicts of a run from its transcripts, the checks' "
        "evidence and the stored work, and compare each file with the manifest that was written at the run's end. "
        "Exit code 0: nothing contradicts the records; 1: something does, and is named; 2: cannot be verified.",
    )
    add_run(command)
    command.add_argument("--json", action="store_true", help="print it as JSON")
    add_results(command)
    command.set_defaults(run=_run_verify)


def _run_verify(parsed: argparse.Namespace) -> int:
    from harness.runs.verify import verify

    found = verify(parsed.results, parsed.run_name)
    sys.stdout.write(found.as_json() if parsed.json else found.text())
    return 1 if found.findings else 0


def add_regrade(commands: Commands) -> None:
    """Add `harness regrade`."""
    command = commands.add_parser(
        "regrade",
        help="judge a run's trials again, by today's checks",
        description="Judge the work that was kept of a run's trials again, in fresh sandboxes, by the checks as they "
        "are now. No agent runs and no model is asked. The new records are a run of their own.",
    )
    command.add_argument("run_name", metavar="RUN", help="a run's name or folder")
    command.add_argument(
        "tasks", nargs="*", type=Path, metavar="TASK", help="folders of tasks (default: all in tasks/)"
    )
    add_sandbox(command, "where")
    command.add_argument("--concurrency", type=int, metavar="N", help="how many at once")
    add_results(command)
    command.set_defaults(run=_run_regrade)


def _run_regrade(parsed: argparse.Namespace) -> None:
    from harness.runs.options import Options
    from harness.runs.regrade import regrade
    from harness.tasks.loading import find_tasks

    options = Options(sandbox=parsed.sandbox, concurrency=parsed.concurrency)
    folders = parsed.tasks or list(find_tasks(Path("tasks")))
    sys.stdout.write(regrade(parsed.results, parsed.run_name, folders, options))


def add_merge(commands: Commands) -> None:
    """Add `harness merge`."""
    command = commands.add_parser(
        "merge",
        help="put runs together, such as the shards of a CI matrix",
        description="Make a new run of the records and files of others, which stay as they are.",
    )
    command.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run's name or folder, or a folder of runs (a shard's results)",
    )
    command.add_argument("--into", metavar="NAME", help="the new run's name (default: one made of the time)")
    add_results(command)
    command.set_defaults(run=_run_merge)


def _run_merge(parsed: argparse.Namespace) -> None:
    from harness.records.merge import merge
    from harness.report.statement import seal_run

    merged, notes = merge(parsed.results, parsed.runs, parsed.into)
    seal_run(merged)
    sys.stdout.write("".join(f"{note}\n" for note in notes) + f"{merged.path}\n")
