"""Commands that look at runs."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from harness.cli.arguments import Commands, add_results, add_run


def add_ls(commands: Commands) -> None:
    """Add `harness ls`."""
    command = commands.add_parser("ls", help="list the runs", description="List the runs, newest last.")
    add_results(command)
    command.set_defaults(run=_run_ls)


def _run_ls(parsed: argparse.Namespace) -> None:
    from harness.report.listing import list_of_runs

    sys.stdout.write(list_of_runs(parsed.results))


def add_show(commands: Commands) -> None:
    """Add `harness show`."""
    command = commands.add_parser(
        "show",
        help="print a trial as a person would read it",
        description="Print a trial's transcript, diff and checks. Without TRIAL: the run's trials.",
        usage="harness show [options] [RUN] [TRIAL]",
    )
    command.add_argument(
        "names",
        nargs="*",
        metavar="RUN TRIAL",
        help="a run's name or folder (default: the last), and TASK[VARIANT-tN] or its unique beginning",
    )
    command.add_argument("--run", dest="run_name", metavar="RUN", help="the same as RUN before TRIAL")
    command.add_argument(
        "--follow", action="store_true", help="of a trial that runs: print its transcript as it comes"
    )
    command.add_argument("--full", action="store_true", help="cut nothing short")
    command.add_argument("--json", action="store_true", help="print the record as JSON instead")
    add_results(command)
    command.set_defaults(run=_run_show)


def _run_show(parsed: argparse.Namespace) -> None:
    from harness.report.show import run_and_trial, show

    run_name, trial = run_and_trial(parsed.results, parsed.names, parsed.run_name)
    if parsed.follow:
        from harness.report.watch import follow

        follow(parsed.results, run_name, trial, full=parsed.full)
        return
    show(
        parsed.results,
        run_name,
        trial,
        sys.stdout,
        full=parsed.full,
        as_json=parsed.json,
        color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        # Lines are kept whole in a file or a pipe.
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
    )


def add_watch(commands: Commands) -> None:
    """Add `harness watch`."""
    command = commands.add_parser(
        "watch",
        help="look at a run that goes on, from another terminal",
        description="Show how a run is doing, and each trial that runs: its phase, its last tool, its tokens and "
        "cost. It ends with the run.",
    )
    add_run(command)
    add_results(command)
    command.set_defaults(run=_run_watch)


def _run_watch(parsed: argparse.Namespace) -> None:
    from harness.report.watch import watch

    watch(parsed.results, parsed.run_name)


def add_compare(commands: Commands) -> None:
    """Add `harness compare`."""
    command = commands.add_parser(
        "compare",
        help="say whether one variant or run is better than another, and how sure that is",
        description="Compare two sets of records, or the variants of one. Each is a run, a records file, or "
        "git:REF:PATH. Exit code 0: compared, and the gate holds; 1: the gate failed; 2: cannot be compared.",
    )
    command.add_argument("base", nargs="?", metavar="BASE", help="what to compare with")
    command.add_argument(
        "new", nargs="?", metavar="NEW", help="what is new (default: the other variants of BASE)"
    )
    command.add_argument(
        "--baseline", metavar="VARIANT", help="the variant of BASE that all others are compared with"
    )
    command.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="CONDITION",
        help="end with 1 on regression[@population][=METRIC[:MARGIN]] (of the pass rate: or a lost task), "
        "inconclusive, broken, or excluded[:SHARE]; may be given again",
    )
    command.add_argument("--format", choices=("terminal", "markdown", "json"), default="terminal")
    add_results(command)
    command.set_defaults(run=_run_compare)


def _run_compare(parsed: argparse.Namespace) -> int:
    from harness.report.compare_command import compare_command

    text, failed = compare_command(
        parsed.results,
        parsed.base,
        parsed.new,
        baseline=parsed.baseline,
        fail_on=",".join(parsed.fail_on),
        form=parsed.format,
        color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
    )
    sys.stdout.write(text)
    return 1 if failed else 0


def add_report(commands: Commands) -> None:
    """Add `harness report`."""
    command = commands.add_parser(
        "report",
        help="write runs as one HTML file",
        description="Write one HTML file that needs no network: verdicts, tasks, costs, and every trial's "
        "transcript, diff and checks. It holds what the agents wrote: share it as you would share the records.",
    )
    command.add_argument(
        "run_names", nargs="*", metavar="RUN", help="runs' names or folders (default: the last)"
    )
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="default: report.html in the last run's folder"
    )
    command.add_argument("--baseline", metavar="VARIANT", help="what the others are compared with")
    add_results(command)
    command.set_defaults(run=_run_report)


def _run_report(parsed: argparse.Namespace) -> None:
    from harness.report.html.render import write_report

    written = write_report(parsed.results, parsed.run_names, parsed.output, parsed.baseline)
    sys.stdout.write(
        f"{written.path} ({written.trials} trial{'s' * (written.trials != 1)}, {written.size / 1e6:.1f} MB)\n"
    )


def add_export(commands: Commands) -> None:
    """Add `harness export`."""
    command = commands.add_parser(
        "export",
        help="write records as Parquet, CSV or a Hugging Face dataset",
        description="Write the records of runs or records files (default: the last run) for other tools.",
    )
    command.add_argument("source", nargs="*", metavar="RUN", help="a run's name or folder, or a records file")
    command.add_argument(
        "--to", type=Path, metavar="FILE", help="FILE.parquet, FILE.csv, or a folder for a datasets.Dataset"
    )
    command.add_argument(
        "--push-to-hub", metavar="USER/NAME", help="push to this dataset on the Hugging Face Hub"
    )
    command.add_argument("--public", action="store_true", help="make a new dataset on the Hub public")
    add_results(command)
    command.set_defaults(run=_run_export)


def _run_export(parsed: argparse.Namespace) -> None:
    from harness.report.export import export_command

    said = export_command(parsed.results, parsed.source, parsed.to, parsed.push_to_hub, public=parsed.public)
    sys.stdout.write(said)
