"""Arguments that several commands have, and the type of what a command is added to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # the type has no public name


def add_trial(command: argparse.ArgumentParser) -> None:
    """Add the trial that a command is about."""
    command.add_argument("trial", metavar="TRIAL", help="TASK[VARIANT-tN], or its unique beginning")
    command.add_argument(
        "--run", dest="run_name", metavar="RUN", help="a run's name or folder (default: the last)"
    )
    add_results(command)


def add_run(command: argparse.ArgumentParser) -> None:
    """Add the run that a command is about: the last one, unless another is named."""
    command.add_argument(
        "run_name", nargs="?", metavar="RUN", help="a run's name or folder (default: the last)"
    )


def add_sandbox(command: argparse.ArgumentParser, help: str) -> None:
    """Add `--sandbox`."""
    command.add_argument("--sandbox", choices=("auto", "e2b", "local"), default="auto", help=help)


def add_results(command: argparse.ArgumentParser) -> None:
    """Add `--results`."""
    command.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where the runs are (default: results)",
    )


def whole_number(text: str) -> int:
    """A number from 1 on, as an argument's `type`."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
