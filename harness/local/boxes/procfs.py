"""Processes as this machine sees them, from /proc."""

import contextlib
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

KILL_TIMEOUT_S = 1.0
"""Seconds until what does not die is left to die later."""

_STATE_AND_UIDS = re.compile(rb"^State:\s*(\S).*^Uid:([\s\d]*)$", re.MULTILINE | re.DOTALL)
_MARK_VARIABLE = "HARNESS_SANDBOX_MARK"


def new_mark() -> str:
    """A random mark for the processes of one sandbox, by which `kill_marked` finds them.

    The sandbox's id would not do: users have it in their own environment.
    """
    return secrets.token_hex(16)


def mark_env(mark: str) -> dict[str, str]:
    """The mark, as all that is started in the sandbox has it in its environment."""
    return {_MARK_VARIABLE: mark}


def descendants(pid: int) -> set[int]:
    """The living processes below this one, zombies aside."""
    children: dict[int, list[int]] = {}
    zombies = set()
    for each, line in _read_each("stat"):
        state, parent = line.rpartition(b")")[2].split()[:2]
        children.setdefault(int(parent), []).append(each)
        if state in (b"Z", b"X"):
            zombies.add(each)
    found: set[int] = set()
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found.update(below)
        pending += below
    return found - zombies


def kill_marked(guest: int, account: int, mark: str) -> None:
    """Kill all processes of a sandbox that shares this machine's pid namespace: those below its guest, and
    those of its account; if that is ours, those that carry its mark in their environment.

    One that waits for a disk or a network mount ends when that answers, and is not waited for.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(guest, signal.SIGSTOP)  # else its children could be reaped, and their pids used anew
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while time.monotonic() < deadline:
        others = _find_by_mark(mark) if account == os.geteuid() else _find_by_account(account)
        found = (descendants(guest) | others) - {guest, os.getpid()}
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def has_processes(account: int) -> bool:
    """Whether any process has this uid, as its real one. The kernel knows it without a look at every process."""
    try:
        os.getpriority(os.PRIO_USER, account)
    except ProcessLookupError:
        return False
    return True


def _find_by_account(account: int) -> set[int]:
    """The living processes that have this uid: as real, effective, saved, or the file system's."""
    found = ((pid, _STATE_AND_UIDS.search(status)) for pid, status in _read_each("status"))
    return {
        pid
        for pid, fields in found
        if fields and fields[1] not in b"ZX" and account in map(int, fields[2].split())
    }


def _find_by_mark(mark: str) -> set[int]:
    wanted = f"{_MARK_VARIABLE}={mark}".encode()
    return {pid for pid, environ in _read_each("environ") if wanted in environ.split(b"\0")}


def _read_each(name: str) -> Iterator[tuple[int, bytes]]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield int(pid), Path("/proc", pid, name).read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended since it was listed, or not ours
