"""Commands about the sandboxes themselves: templates, what is left of them, the local server, an engine on trial."""

from __future__ import annotations

import argparse
import sys

from harness.cli.arguments import Commands, add_results, add_sandbox


def add_template(commands: Commands) -> None:
    """Add `harness template`."""
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
        add_sandbox(kind, "where (default: as pytest chooses)")
        add_results(kind)


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


def add_gc(commands: Commands) -> None:
    """Add `harness gc`."""
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
    add_results(command)
    command.set_defaults(run=_run_gc)


def _run_gc(parsed: argparse.Namespace) -> None:
    from harness.errors import UsageError
    from harness.records.reading import find_run
    from harness.runs.kept import remove_images, sweep

    if parsed.images:
        sys.stdout.write(remove_images())
        return
    run, unknown = parsed.run_name, None
    if run:
        try:
            run = find_run(parsed.results, run).id
        except UsageError as error:  # its sandboxes may be there all the same
            unknown = error
    sys.stdout.write(
        sweep(run, kept=parsed.kept, in_use=parsed.in_use, dry_run=parsed.dry_run, if_none=unknown)
    )


def add_sandboxd(commands: Commands) -> None:
    """Add `harness sandboxd`."""
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


def add_doctor(commands: Commands) -> None:
    """Add `harness doctor`."""
    command = commands.add_parser(
        "doctor",
        help="try all that harness needs of the engine and the model that the environment names",
        description="Make a few sandboxes on what the E2B_* variables name (or on this machine), try each thing that "
        "harness needs of it, and print a table. Exit code 1 when something does not work.",
    )
    add_sandbox(command, "default: auto")
    command.add_argument("--template", default="claude", metavar="NAME", help="default: claude")
    command.set_defaults(run=_run_doctor)


def _run_doctor(parsed: argparse.Namespace) -> int:
    from harness.runs.doctor import doctor

    text, is_well = doctor(parsed.sandbox, parsed.template)
    sys.stdout.write(text)
    return 0 if is_well else 1


def _say_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
