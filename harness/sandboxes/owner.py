"""The owner of a sandbox: the process whose tag it carries. A sandbox that was kept may have other users."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from harness.sandboxes.userstate import state_folder


def process_tag() -> str:
    """This process's tag: its machine, its id, and when it started, since ids are used again."""
    return f"{socket.gethostname()} {' '.join(process_identity())}"


def process_identity() -> tuple[str, str]:
    """This process's id, and when it started, in clock ticks since the kernel's start; `-` where there is no /proc."""
    return _identity(os.getpid())


@functools.cache
def _identity(pid: int) -> tuple[str, str]:
    """Kept, since each sandbox gets it: the files of a process are slow to read while it has many."""
    return str(pid), _started(pid)


def is_owner_alive(tag: str) -> bool | None:
    """True if the process with this tag lives; None if that is unknown, as for another machine's."""
    machine, _, rest = tag.partition(" ")
    pid, _, started = rest.partition(" ")
    if machine != socket.gethostname() or not pid.isdigit():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # Another user's: it is there, but it may be a later process of the same id.
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """In clock ticks since the kernel's start; the same for all processes where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]
    except OSError:
        return "-"


@contextlib.contextmanager
def hold_in_use(sandbox_id: str) -> Iterator[IO[bytes]]:
    """Mark a kept sandbox as in use, for this user's other processes on this machine.

    Its sign is a shared lock on a file, which the system releases when the process dies. `is_last_user` takes the file.
    """
    path = _lock_file(sandbox_id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file


def is_last_user(lock: IO[bytes]) -> bool:
    """Try to make the shared lock exclusive. True: this is the last user, and the sandbox counts as unused then."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    Path(lock.name).unlink(missing_ok=True)
    return True


def is_in_use(sandbox_id: str) -> bool:
    """True if a process of this user on this machine works in a kept sandbox."""
    try:
        with _lock_file(sandbox_id).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock_file(sandbox_id: str) -> Path:
    return state_folder() / "visited" / sandbox_id
