"""`python -m harness.local --port N`: an E2B-compatible server on this machine.

It prints one line of JSON when it is ready: `{"url", "api_key", "isolation", "enforces", "shortcoming", "pid"}`. If it
cannot start, it prints `{"error", "remedy"}` and exits with 1. `harness sandboxd` is the same server with output for a
terminal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from harness.local.state import StartError, default_root

if TYPE_CHECKING:
    from harness.local.server import Ready, Settings


def main(arguments: Sequence[str] | None = None, reporter: StartReporter | None = None) -> int:
    """Run a server until SIGTERM, SIGINT or the end of its parent. Returns the exit code."""
    reporter = reporter or JsonReporter()
    options = _parser().parse_args(arguments)
    _skip_sdk_client()
    from harness.local.server import Settings

    settings = Settings(
        port=options.port,
        host=options.host,
        isolation=options.isolation,
        state=options.state,
        max_sandboxes=options.max_sandboxes,
    )
    # This logger warns of malformed uploads, which are reported to their senders anyway.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("asyncio").addFilter(_is_not_lost_client)
    try:
        with asyncio.Runner(loop_factory=_uvloop_factory()) as runner:
            runner.run(_run(settings, options.parent_pipe, reporter))
    except StartError as error:
        reporter.report_failure(error)
        return 1
    return 0


def _uvloop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory, or None (asyncio's own loop, which needs more CPU) if uvloop is not installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


def _is_not_lost_client(record: logging.LogRecord) -> bool:
    """Drop asyncio's warning about writes to a client that has disconnected a moment before."""
    return record.getMessage() != "socket.send() raised exception."


class StartReporter(Protocol):
    """Reports the result of the server's start."""

    def report_ready(self, ready: Ready) -> None:
        """Report that the server is up."""

    def report_failure(self, error: StartError) -> None:
        """Report that the server cannot start, and the reason."""


class JsonReporter:
    """Reports to the program that started the server: one line of JSON."""

    def report_ready(self, ready: Ready) -> None:
        """Print the server's address, its key, and the isolation of its sandboxes."""
        self._print(
            {
                "url": ready.url,
                "api_key": ready.api_key,
                "isolation": ready.isolation.tier,
                "enforces": sorted(ready.isolation.enforces),
                "shortcoming": ready.isolation.shortcoming,
                "pid": os.getpid(),
            }
        )

    def report_failure(self, error: StartError) -> None:
        """Print the error and the remedy."""
        self._print({"error": error.message, "remedy": error.remedy})

    def _print(self, message: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


class TextReporter:
    """Reports to a person at a terminal, in lines that can be pasted into another terminal."""

    def report_ready(self, ready: Ready) -> None:
        """Print the variables that E2B's SDK and tools read, and the isolation of the sandboxes."""
        lines = [
            f"# E2B-compatible sandboxes on {ready.url}, {_isolation_summary(ready)}. Ctrl-C ends them all.",
            "# For E2B's SDK and tools, in another terminal:",
            f"export E2B_API_KEY={ready.api_key} E2B_API_URL={ready.url} E2B_SANDBOX_URL={ready.url}",
        ]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def report_failure(self, error: StartError) -> None:
        """Print the error and the remedy."""
        sys.stderr.write(f"harness: {error.message}\n  {error.remedy}\n")


def _isolation_summary(ready: Ready) -> str:
    """Return the tier in use, and for each better tier the reason why it is not used."""
    summary = f"isolation {ready.isolation.tier}"
    for other in ready.isolation.unavailable:
        summary += f" (not {other.tier}: {other.cause}" + (f"; {other.remedy})" if other.remedy else ")")
    if ready.isolation.one_account:
        summary += f" (`user` is root: {ready.isolation.one_account})"
    return summary


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.local", description="An E2B-compatible local server."
    )
    parser.add_argument("--port", type=int, required=True, help="0 for any free one")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--isolation", metavar="TIER", help="namespaces, landlock or unsafe")
    parser.add_argument(
        "--state", type=Path, default=default_root(), metavar="DIR", help="where files are kept"
    )
    parser.add_argument("--max-sandboxes", type=int, metavar="N", help="how many may run at once")
    parser.add_argument(
        "--parent-pipe", action="store_true", help="end when stdin does, or the parent process"
    )
    return parser


def _skip_sdk_client() -> None:
    """Make the wheel's protocol modules importable without the SDK's client.

    The package `e2b` imports all of that client, which takes a third of a second and a third of the server's
    memory. None of it is needed here. If it is imported already, nothing can be saved.
    """
    if "e2b" in sys.modules:
        return
    spec = PathFinder.find_spec("e2b")
    if spec is not None and spec.submodule_search_locations is not None:
        package = ModuleType("e2b")
        package.__path__ = spec.submodule_search_locations
        sys.modules["e2b"] = package


async def _run(settings: Settings, parent_pipe: bool, reporter: StartReporter) -> None:
    from harness.local.server import serve

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent_pipe:
        _stop_with_parent(stop)
    await serve(settings, reporter.report_ready, stop)


def _stop_with_parent(stop: asyncio.Event) -> None:
    """Stop at the end of stdin, or at the end of the parent if another process holds the pipe open.

    PR_SET_PDEATHSIG would not do: it fires at the end of the *thread* that started this process.
    """
    loop = asyncio.get_running_loop()

    def read_stdin() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, read_stdin)
    if parent := os.getppid():  # 0: in a pid namespace whose parent is outside
        pidfd = os.pidfd_open(parent)
        loop.add_reader(pidfd, stop.set)


if __name__ == "__main__":
    sys.exit(main())
