"""A local server that outlives the runs that use it, so that sandboxes can be kept. Each user has at most one.

Runs and their processes hold a shared lock while they use it. The last one stops it, unless it still has sandboxes.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.local.launch import LocalServerError, child_environment, read_start_message

_ANSWER_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 10.0


@dataclass
class SharedServer:
    """A running server that does not end with its clients."""

    url: str
    api_key: str
    isolation: str
    enforces: frozenset[str]
    shortcoming: str | None
    pid: int
    lock_fd: int | None = None
    """The descriptor of the lock that this process holds on the server; None if it holds none."""

    def stop(self) -> None:
        """Release the lock. Stop the server if nobody else uses it and it has no sandboxes."""
        if self.lock_fd is None:
            return
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            if self._count_sandboxes() == 0:
                self._terminate()
        finally:
            os.close(self.lock_fd)
            self.lock_fd = None

    def _count_sandboxes(self) -> int | None:
        """Return the number of its sandboxes, paused ones included; None if it does not answer."""
        request = urllib.request.Request(f"{self.url}/v2/sandboxes", headers={"X-API-KEY": self.api_key})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_ANSWER_TIMEOUT_S) as reply:
                return len(json.load(reply))
        except (urllib.error.URLError, OSError, ValueError):
            return None

    @property
    def is_running(self) -> bool:
        """True if the server answers at this address and accepts this key."""
        return self._count_sandboxes() is not None

    def _terminate(self) -> None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            while self.is_running and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            os.close(pidfd)
        _address_file().unlink(missing_ok=True)


def find() -> SharedServer | None:
    """Return the user's shared server if it runs, without acquiring it."""
    try:
        address = json.loads(_address_file().read_text())
        server = _parse_address(address)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return server if server.is_running else None


def acquire() -> SharedServer | None:
    """Acquire the user's shared server; None if it does not run. Raises `LocalServerError`."""
    if find() is None:
        return None
    return _acquire(find)


def acquire_or_start(isolation: str | None = None) -> SharedServer:
    """Acquire the user's shared server, and start it if there is none. Raises `LocalServerError`."""

    def find_or_start() -> SharedServer:
        server = find() or _start(isolation)
        if isolation not in (None, server.isolation):
            raise LocalServerError(
                f"The server that keeps sandboxes has the isolation {server.isolation}, not {isolation}",
                "End what it keeps: harness gc --kept",
            )
        return server

    server = _acquire(find_or_start)
    assert server
    return server


def _acquire(find_server: Callable[[], SharedServer | None]) -> SharedServer | None:
    """Call `find_server` while nobody else starts or stops a server, and lock the server that it returns."""
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        starting = os.open(folder / "starting.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalServerError(
            f"{_folder()} cannot be used: {error.strerror or error}", "Set XDG_STATE_HOME to another folder."
        ) from error
    try:
        fcntl.flock(starting, fcntl.LOCK_EX)
        lock_fd = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # A process that stops the server holds this lock exclusively until the server has ended.
        fcntl.flock(lock_fd, fcntl.LOCK_SH)
        try:
            server = find_server()
        except BaseException:
            os.close(lock_fd)
            raise
        if server:
            server.lock_fd = lock_fd
        else:
            os.close(lock_fd)
        return server
    finally:
        os.close(starting)


def _start(isolation: str | None) -> SharedServer:
    command = [sys.executable, "-P", "-m", "harness.local", "--port", "0"]
    if isolation is not None:
        command += ["--isolation", isolation]
    with (_folder() / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=child_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = read_start_message(process, lambda: f"it died at its start; see {_folder() / 'server.log'}")
        _write_address(address)
        return _parse_address(address)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stdout:
            process.stdout.close()


def _write_address(address: dict[str, object]) -> None:
    """Save the server's address and key, readable by this user only."""
    descriptor, name = tempfile.mkstemp(dir=_folder())
    with os.fdopen(descriptor, "w") as file:
        json.dump(address, file)
    Path(name).replace(_address_file())


def _parse_address(address: dict[str, object]) -> SharedServer:
    enforces = address["enforces"]
    assert isinstance(enforces, list)
    return SharedServer(
        str(address["url"]),
        str(address["api_key"]),
        str(address["isolation"]),
        frozenset(map(str, enforces)),
        None if address["shortcoming"] is None else str(address["shortcoming"]),
        int(str(address["pid"])),
    )


def _folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "harness"


def _address_file() -> Path:
    return _folder() / "server.json"
