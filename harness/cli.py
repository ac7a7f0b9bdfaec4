"""The `harness` command: parsing only. Each subcommand's work is in the room it belongs to."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from harness import __version__
from harness.errors import HarnessError
from harness.report.sanitize import sanitize


def program() -> NoReturn:
    """The command `harness`. It ends the process with the exit code."""
    ended: list[int] = []

    def end(number: int, frame: object) -> None:
        ended.append(number)
        signal.raise_signal(signal.SIGINT)

    # In order, as by Ctrl-C: sandboxes are ended and folders removed.
    signal.signal(signal.SIGTERM, end)
    code = main()
    code = 128 + signal.SIGTERM if ended and code == 128 + signal.SIGINT else code
    # The SDK's HTTP client has threads of its own. One of them that calls into an interpreter that is being taken
    # down aborts the process, after all has been done and said; so nothing is taken down.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code = int(parsed.run(parsed) or 0)
        sys.stdout.flush()
        return code
    except HarnessError as error:
        # It may quote what is in a results folder of somebody else.
        sys.stderr.write(sanitize(f"harness: {error}\n"))
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone; a traceback would tell nobody anything.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Make tasks, prove them, and look at runs. Trials are run by pytest: `pytest tasks`. "
        "New here? `harness demo`.",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _demo(commands)
    _ls(commands)
    _show(commands)
    _watch(commands)
    _compare(commands)
    _report(commands)
    _export(commands)
    _apply(commands)
    _attach(commands)
    _checks(commands)
    _verify(commands)
    _regrade(commands)
    _merge(commands)
    _new(commands)
    _mine(commands)
    _validate(commands)
    _template(commands)
    _gc(commands)
    _sandboxd(commands)
    _import(commands)
    _doctor(commands)
    return parser


_Commands = argparse._SubParsersAction  # the type has no public name


def _demo(commands: _Commands[argparse.ArgumentParser]) -> None:
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


def _ls(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("ls", help="list the runs", description="List the runs, newest last.")
    _results(command)
    command.set_defaults(run=_run_ls)


def _run_ls(parsed: argparse.Namespace) -> None:
    from harness.report.listing import list_of_runs

    sys.stdout.write(list_of_runs(parsed.results))


def _show(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    _results(command)
    command.set_defaults(run=_run_show)


def _run_show(parsed: argparse.Namespace) -> None:
    from harness.report.show import run_and_trial, show

    run_name, trial = run_and_trial(parsed.results, parsed.names, parsed.run_name)
    if parsed.follow:
        from harness.report.watch import follow

        follow(parsed.results, run_name, trial, full=parsed.full)
        return
    sys.stdout.write(
        show(
            parsed.results,
            run_name,
            trial,
            full=parsed.full,
            as_json=parsed.json,
            color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
            # What goes into a file or a pipe keeps its lines.
            width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        )
    )


def _watch(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "watch",
        help="look at a run that goes on, from another terminal",
        description="Show how a run is doing, and each trial that runs: its phase, its last tool, its tokens and "
        "cost. It ends with the run.",
    )
    command.add_argument(
        "run_name", nargs="?", metavar="RUN", help="a run's name or folder (default: the last)"
    )
    _results(command)
    command.set_defaults(run=_run_watch)


def _run_watch(parsed: argparse.Namespace) -> None:
    from harness.report.watch import watch

    watch(parsed.results, parsed.run_name)


def _compare(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    _results(command)
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


def _report(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    _results(command)
    command.set_defaults(run=_run_report)


def _run_report(parsed: argparse.Namespace) -> None:
    from harness.report.html.render import write_report

    written = write_report(parsed.results, parsed.run_names, parsed.output, parsed.baseline)
    sys.stdout.write(
        f"{written.path} ({written.trials} trial{'s' * (written.trials != 1)}, {written.size / 1e6:.1f} MB)\n"
    )


def _export(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    _results(command)
    command.set_defaults(run=_run_export)


def _run_export(parsed: argparse.Namespace) -> None:
    from harness.report.export import export_command

    said = export_command(parsed.results, parsed.source, parsed.to, parsed.push_to_hub, public=parsed.public)
    sys.stdout.write(said)


def _apply(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "apply",
        help="lay a trial's diff over a checkout",
        description="Apply what a trial's agent changed to a clean git checkout, staged. Where the checkout has "
        "moved on since, the two are merged (git apply --3way).",
    )
    _trial(command)
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


def _attach(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "attach",
        help="open a shell in a kept sandbox",
        description="Wake the sandbox of a trial that was run with --keep, and open a shell in its repo. When the "
        "shell ends, the sandbox is paused again.",
    )
    _trial(command)
    command.set_defaults(run=_run_attach)


def _run_attach(parsed: argparse.Namespace) -> None:
    from harness.runs.kept import attach

    sys.stdout.write(attach(parsed.results, parsed.run_name, parsed.trial))


def _checks(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "checks",
        help="run a trial's checks again in its kept sandbox",
        description="Run the checks of a trial's task, as they are now, in the sandbox that --keep has kept. "
        "Exits with 1 when one fails. The record stays as it is.",
    )
    _trial(command)
    command.set_defaults(run=_run_checks)


def _run_checks(parsed: argparse.Namespace) -> int:
    from harness.runs.kept import check_again

    text, passed = check_again(parsed.results, parsed.run_name, parsed.trial)
    sys.stdout.write(text)
    return 0 if passed else 1


def _verify(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "verify",
        help="recompute what a run's report says from its evidence",
        description="Recompute tokens, costs, outcomes and verdicts of a run from its transcripts, the checks' "
        "evidence and the stored work, and compare each file with the manifest that was written at the run's end. "
        "Exit code 0: nothing contradicts the records; 1: something does, and is named; 2: cannot be verified.",
    )
    command.add_argument(
        "run_name", nargs="?", metavar="RUN", help="a run's name or folder (default: the last)"
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")
    _results(command)
    command.set_defaults(run=_run_verify)


def _run_verify(parsed: argparse.Namespace) -> int:
    from harness.runs.verify import verify

    found = verify(parsed.results, parsed.run_name)
    sys.stdout.write(found.as_json() if parsed.json else found.text())
    return 1 if found.findings else 0


def _merge(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    _results(command)
    command.set_defaults(run=_run_merge)


def _run_merge(parsed: argparse.Namespace) -> None:
    from harness.records.merge import merge
    from harness.report.statement import seal_run

    merged, notes = merge(parsed.results, parsed.runs, parsed.into)
    seal_run(merged)
    sys.stdout.write("".join(f"{note}\n" for note in notes) + f"{merged.path}\n")


def _template(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "template",
        help="build, list and remove templates",
        description="Templates of sandboxes, on E2B or on this machine. A run builds those that its tasks "
        "name by a file.",
    )
    kinds = command.add_subparsers(title="commands", required=True, metavar="COMMAND")
    build = kinds.add_parser("build", help="build a template from its file")
    build.add_argument(
        "template", metavar="FILE", help="FILE.py:NAME (an E2B Template()) or a path to a Dockerfile"
    )
    build.set_defaults(run=_run_template, kind="build")
    kinds.add_parser("list", help="list what harness has built").set_defaults(run=_run_template, kind="list")
    remove = kinds.add_parser("rm", help="remove templates")
    named = remove.add_mutually_exclusive_group(required=True)
    named.add_argument("names", nargs="*", default=[], metavar="NAME", help="a template's name")
    named.add_argument("--all", action="store_true", help="all that harness has built")
    remove.set_defaults(run=_run_template, kind="rm")
    for kind in kinds.choices.values():
        kind.add_argument(
            "--sandbox",
            choices=("auto", "e2b", "local"),
            default="auto",
            help="where (default: as pytest chooses)",
        )
        _results(kind)


def _run_template(parsed: argparse.Namespace) -> None:
    from harness.runs.options import Options
    from harness.runs.resources import platform_of
    from harness.sandboxes import templates

    with platform_of(Options(sandbox=parsed.sandbox)) as platform:
        if parsed.kind == "build":
            logs = parsed.results / "templates"
            name = templates.build_now(platform, parsed.template, logs, _say_line)
            text = f"{name} is built\n"
        elif parsed.kind == "list":
            text = templates.list_built(platform)
        else:
            text = templates.remove_built(platform, parsed.names, every=parsed.all)
    sys.stdout.write(text)


def _say_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _regrade(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    command.add_argument("--sandbox", choices=("auto", "e2b", "local"), default="auto", help="where")
    command.add_argument("--concurrency", type=int, metavar="N", help="how many at once")
    _results(command)
    command.set_defaults(run=_run_regrade)


def _run_regrade(parsed: argparse.Namespace) -> None:
    from harness.runs.options import Options
    from harness.runs.regrade import regrade
    from harness.tasks.loading import find_tasks

    options = Options(sandbox=parsed.sandbox, concurrency=parsed.concurrency)
    folders = parsed.tasks or list(find_tasks(Path("tasks")))
    sys.stdout.write(regrade(parsed.results, parsed.run_name, folders, options))


def _new(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    command.add_argument(
        "--sandbox", choices=("auto", "e2b", "local"), default="auto", help="where a commit is proven"
    )
    _results(command)
    command.set_defaults(run=_run_new)


def _run_new(parsed: argparse.Namespace) -> None:
    from harness.authoring.new import new
    from harness.runs.options import Options

    options = Options(sandbox=parsed.sandbox, results=parsed.results)
    sys.stdout.write(new(parsed.name, parsed.into, parsed.repo, parsed.from_commit, options, _say_progress))


def _mine(commands: _Commands[argparse.ArgumentParser]) -> None:
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
    command.add_argument(
        "--sandbox", choices=("auto", "e2b", "local"), default="auto", help="where they are proven"
    )
    _mutants(command)
    command.add_argument("--concurrency", type=_whole, metavar="N", help="how many sandboxes at once")
    _results(command)
    command.set_defaults(run=_run_mine)


def _run_mine(parsed: argparse.Namespace) -> None:
    from harness.authoring.mine import mine
    from harness.runs.options import Options

    options = Options(sandbox=parsed.sandbox, concurrency=parsed.concurrency, results=parsed.results)
    done = mine(parsed.repo, parsed.into, options, parsed.since, _say_progress, mutants=parsed.mutants)
    sys.stdout.write(done.told())


def _mutants(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mutants", type=int, default=20, metavar="N", help="mutants of each solution (default: 20; 0: none)"
    )


def _validate(commands: _Commands[argparse.ArgumentParser]) -> None:
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
        type=_whole,
        default=8,
        metavar="N",
        help="how often the checks judge the solution (default: 8)",
    )
    _mutants(command)
    command.add_argument("--json", action="store_true", help="print the findings as JSON instead")
    command.add_argument("--sandbox", choices=("auto", "e2b", "local"), default="auto", help="where")
    command.add_argument("--concurrency", type=_whole, metavar="N", help="how many sandboxes at once")
    _results(command)
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


def _say_progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _gc(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "gc",
        help="end sandboxes that a run left behind",
        description="Find sandboxes that harness started and whose run is over or was killed, on E2B and on the "
        "server of this machine that keeps some, and end them.",
    )
    command.add_argument("--kept", action="store_true", help="also those that --keep has kept")
    command.add_argument("--run", dest="run_name", metavar="RUN", help="only those of this run")
    command.add_argument(
        "--in-use", action="store_true", help="also those of runs that still go on, which fail by it"
    )
    command.add_argument(
        "--images",
        action="store_true",
        help="instead, remove unpacked images and built templates of this machine",
    )
    command.add_argument("--dry-run", action="store_true", help="only list them")
    command.set_defaults(run=_run_gc)


def _run_gc(parsed: argparse.Namespace) -> None:
    from harness.runs.kept import remove_images, sweep

    if parsed.images:
        sys.stdout.write(remove_images())
        return
    text = sweep(parsed.run_name, kept=parsed.kept, in_use=parsed.in_use, dry_run=parsed.dry_run)
    sys.stdout.write(text)


def _import(commands: _Commands[argparse.ArgumentParser]) -> None:
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


def _doctor(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "doctor",
        help="try all that harness needs of the engine and the model that the environment names",
        description="Make a few sandboxes on what the E2B_* variables name (or on this machine), try each thing that "
        "harness needs of it, and print a table. Exit code 1 when something does not work.",
    )
    command.add_argument("--sandbox", choices=("auto", "e2b", "local"), default="auto", help="default: auto")
    command.add_argument("--template", default="claude", metavar="NAME", help="default: claude")
    command.set_defaults(run=_run_doctor)


def _run_doctor(parsed: argparse.Namespace) -> int:
    from harness.runs.doctor import doctor

    text, is_well = doctor(parsed.sandbox, parsed.template)
    sys.stdout.write(text)
    return 0 if is_well else 1


def _sandboxd(commands: _Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "sandboxd",
        help="serve E2B-compatible sandboxes on this machine",
        description="Serve E2B's protocol on loopback, for E2B's SDK and CLI, until interrupted.",
    )
    command.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    command.add_argument(
        "--isolation",
        choices=("namespaces", "landlock", "unsafe", "bubblewrap"),
        help="default: the best there is (bubblewrap is the old name of namespaces)",
    )
    command.set_defaults(run=_run_sandboxd)


def _run_sandboxd(parsed: argparse.Namespace) -> int:
    from harness.local.__main__ import TextReporter
    from harness.local.__main__ import main as serve

    options = ["--port", str(parsed.port)]
    if parsed.isolation:
        options += ["--isolation", parsed.isolation]
    return serve(options, TextReporter())


def _trial(command: argparse.ArgumentParser) -> None:
    command.add_argument("trial", metavar="TRIAL", help="TASK[VARIANT-tN], or its unique beginning")
    command.add_argument(
        "--run", dest="run_name", metavar="RUN", help="a run's name or folder (default: the last)"
    )
    _results(command)


def _results(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where the runs are (default: results)",
    )
