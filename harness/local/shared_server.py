"""A local server that outlives the runs that use it, so that sandboxes can be kept: one for each user of this machine.

Runs and their processes hold a lock while they use it. The last one that leaves stops it, unless it holds sandboxes.
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

from harness.local.launch import LocalServerError, child_environment, greeting

_ANSWER_S = 5.0
_STOP_S = 10.0


@dataclass
class LastingServer:
    """A running server that ends with none of its clients."""

    url: str
    api_key: str
    isolation: str
    enforces: frozenset[str]
    pid: int
    users: int | None = None
    """The lock that this process holds on it, as a descriptor."""

    def stop(self) -> None:
        """Use it no more; it ends when nobody else does and it holds no sandbox."""
        if self.users is None:
            return
        try:
            fcntl.flock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            if self._sandboxes() == 0:
                self._end()
        finally:
            os.close(self.users)
            self.users = None

    def _sandboxes(self) -> int | None:
        """How many sandboxes it holds, paused ones included; None when it does not answer."""
        request = urllib.request.Request(f"{self.url}/v2/sandboxes", headers={"X-API-KEY": self.api_key})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_ANSWER_S) as reply:
                return len(json.load(reply))
        except (urllib.error.URLError, OSError, ValueError):
            return None

    @property
    def answers(self) -> bool:
        """Whether it is there, and the one that we know."""
        return self._sandboxes() is not None

    def _end(self) -> None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_S
            while self.answers and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            os.close(pidfd)
        _file().unlink(missing_ok=True)


def find_lasting() -> LastingServer | None:
    """The user's lasting server, if it runs. It is not held."""
    try:
        said = json.loads(_file().read_text())
        server = _server(said)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return server if server.answers else None


def hold_lasting() -> LastingServer | None:
    """Hold the user's lasting server, if it runs. Raises `LocalServerError`."""
    if find_lasting() is None:
        return None
    return _held(find_lasting)


def join_lasting(isolation: str | None = None) -> LastingServer:
    """Hold the user's lasting server, started when there is none. Raises `LocalServerError`."""

    def fitting() -> LastingServer:
        server = find_lasting() or _start(isolation)
        if isolation not in (None, server.isolation):
            raise LocalServerError(
                f"The server that keeps sandboxes has the isolation {server.isolation}, not {isolation}",
                "End what it keeps: harness gc --kept",
            )
        return server

    server = _held(fitting)
    assert server
    return server


def _held(find: Callable[[], LastingServer | None]) -> LastingServer | None:
    """The server that is found or started while nobody else starts or stops one."""
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
        users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Whoever is about to stop it holds this alone, until it has gone.
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            server = find()
        except BaseException:
            os.close(users)
            raise
        if server:
            server.users = users
        else:
            os.close(users)
        return server
    finally:
        os.close(starting)


def _start(isolation: str | None) -> LastingServer:
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
        said = greeting(process, lambda: f"it died at its start; see {_folder() / 'server.log'}")
        _write(said)
        return _server(said)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stdout:
            process.stdout.close()


def _write(said: dict[str, object]) -> None:
    """Note how to reach it, for this user alone."""
    descriptor, name = tempfile.mkstemp(dir=_folder())
    with os.fdopen(descriptor, "w") as file:
        json.dump(said, file)
    Path(name).replace(_file())


def _server(said: dict[str, object]) -> LastingServer:
    enforces = said["enforces"]
    assert isinstance(enforces, list)
    return LastingServer(
        str(said["url"]),
        str(said["api_key"]),
        str(said["isolation"]),
        frozenset(map(str, enforces)),
        int(str(said["pid"])),
    )


def _folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "harness"


def _file() -> Path:
    return _folder() / "server.json"
