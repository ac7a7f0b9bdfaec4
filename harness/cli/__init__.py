"""The `harness` command: parsing only. Each subcommand's work is in the sub-package it belongs to.

It is imported when the subcommand runs, so that no other waits for it.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from harness import __version__
from harness.cli import reading, sandboxes, tasks, trials
from harness.errors import HarnessError
from harness.report.sanitize import sanitize

_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}
"""What a disk answers, wherever it is met: nothing is wrong with the program."""


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
        _drop_output()
        return 141
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        where = f" ({error.filename})" if error.filename else ""
        sys.stderr.write(
            sanitize(
                f"harness: {error.strerror}{where}\n  the work is not complete: mend that, and do it again\n"
            )
        )
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return 2


def _drop_output() -> None:
    """Let what is still to be written go nowhere, so that the process can end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Make tasks, prove them, and look at runs. Trials are run by pytest: `pytest tasks`. "
        "New here? `harness demo`.",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    tasks.add_demo(commands)
    reading.add_ls(commands)
    reading.add_show(commands)
    reading.add_watch(commands)
    reading.add_compare(commands)
    reading.add_report(commands)
    reading.add_export(commands)
    trials.add_apply(commands)
    trials.add_attach(commands)
    trials.add_checks(commands)
    trials.add_verify(commands)
    trials.add_regrade(commands)
    trials.add_merge(commands)
    tasks.add_new(commands)
    tasks.add_mine(commands)
    tasks.add_validate(commands)
    sandboxes.add_template(commands)
    sandboxes.add_gc(commands)
    sandboxes.add_sandboxd(commands)
    tasks.add_import(commands)
    sandboxes.add_doctor(commands)
    return parser
