"""Start a local server as a child process that lives no longer than this one."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_TAIL_BYTES = 4096


class LocalServerError(Exception):
    """The local server did not start. `remedy` says what would help."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}\n  {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


@dataclass
class LocalServer:
    """A running server. It ends with `stop`, or when this process ends in any way."""

    url: str
    """The value for E2B_API_URL and E2B_SANDBOX_URL."""
    api_key: str
    isolation: str
    """The isolation tier of its sandboxes."""
    enforces: frozenset[str]
    """The limits that sandboxes of this tier cannot escape: of files, processes, network, memory, pids, cpu."""
    shortcoming: str | None
    """Why its sandboxes are not kept apart better; None where nothing better was tried."""
    process: subprocess.Popen[bytes]
    _log: IO[bytes] = field(repr=False)
    _final_log: str = field(default="", repr=False)

    def log_tail(self) -> str:
        """Return the end of the server's log, which contains unexpected errors, if any."""
        return self._final_log if self._log.closed else _tail(self._log)

    def stop(self) -> None:
        """End the server and all its sandboxes, and wait until they are gone."""
        _close_pipes(self.process)  # the server stops at the end of its stdin
        _wait(self.process)
        self._final_log = self.log_tail()
        self._log.close()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class StartingServer:
    """A server on its way: its process runs, and nobody has waited for it yet."""

    def __init__(self, isolation: str | None = None, max_sandboxes: int | None = None) -> None:
        command = [sys.executable, "-P", "-m", "harness.local", "--port", "0", "--parent-pipe"]
        if isolation is not None:
            command += ["--isolation", isolation]
        if max_sandboxes is not None:
            command += ["--max-sandboxes", str(max_sandboxes)]
        self._is_over = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the server that writes to it
        # A session of its own: Ctrl-C in a terminal is for the user of the server, who may still need it to clean up.
        self._process = subprocess.Popen(
            command,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def ready(self) -> LocalServer:
        """Wait until it answers. It is the caller's then.

        Raises:
            LocalServerError: when it does not start.
        """
        try:
            message = read_start_message(
                self._process, lambda: f"The local server died at its start: {_tail(self._log)}"
            )
        except BaseException:
            self._process.kill()
            self.cancel()
            raise
        self._is_over = True
        return LocalServer(
            url=message["url"],
            api_key=message["api_key"],
            isolation=message["isolation"],
            enforces=frozenset(message["enforces"]),
            shortcoming=message["shortcoming"],
            process=self._process,
            _log=self._log,
        )

    def cancel(self) -> None:
        """End it, unless it is somebody's already. It has no sandboxes yet."""
        if self._is_over:
            return
        self._is_over = True
        assert self._process.stdin
        self._process.stdin.close()  # its end, once it is up; it may want to print its address before
        _wait(self._process)
        _close_pipes(self._process)
        self._log.close()


def start_server(isolation: str | None = None, max_sandboxes: int | None = None) -> LocalServer:
    """Start a server on a free port and wait until it answers.

    `isolation` names a tier; None takes the best that works here. Raises `LocalServerError`.
    """
    return StartingServer(isolation, max_sandboxes).ready()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process, which has been told to end; kill it if that takes too long."""
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def child_environment() -> dict[str, str]:
    """Return this environment with this package first on PYTHONPATH: the child must not run another copy of it."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def read_start_message(process: subprocess.Popen[bytes], describe_death: Callable[[], str]) -> dict[str, Any]:
    """Return the address that a starting server prints.

    Raises `LocalServerError`. Its message comes from `describe_death` if the server ends without printing anything.
    """
    message = _read_first_line(process)
    if message is None or "error" in message:
        raise LocalServerError(
            message["error"] if message else describe_death(), message["remedy"] if message else ""
        )
    return message


def _read_first_line(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """Read the server's first line of JSON; None if it ends without printing one. Raises `LocalServerError`."""
    assert process.stdout
    descriptor = process.stdout.fileno()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + _START_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise LocalServerError(f"The local server did not start within {_START_TIMEOUT_S:.0f} s", "")
        data = os.read(descriptor, 1 << 16)
        if not data:
            return None
        line += data
    message: dict[str, Any] = json.loads(line)
    return message


def _tail(log: IO[bytes]) -> str:
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode("utf-8", "replace").strip()
