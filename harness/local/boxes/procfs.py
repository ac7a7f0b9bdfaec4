"""This machine's processes, read from /proc."""

import contextlib
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

KILL_TIMEOUT_S = 1.0
"""Seconds to wait for killed processes before giving up."""

_STATE_AND_UIDS = re.compile(rb"^State:\s*(\S).*^Uid:([\s\d]*)$", re.MULTILINE | re.DOTALL)
_MARK_VARIABLE = "HARNESS_SANDBOX_MARK"


def new_mark() -> str:
    """Return a random mark for the processes of one sandbox, by which `kill_marked` finds them.

    The sandbox's id would not do: users have it in their own environment.
    """
    return secrets.token_hex(16)


def mark_env(mark: str) -> dict[str, str]:
    """Return the variable that holds the mark in the environment of every process of the sandbox."""
    return {_MARK_VARIABLE: mark}


def find_descendants(pid: int) -> set[int]:
    """Return the find_descendants of a process, without zombies."""
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
    """Kill all processes of a sandbox that shares this machine's pid namespace, except its guest.

    These are the guest's descendants and the processes of its account. If that is the server's account, the processes
    with the sandbox's mark in their environment are killed in place of the latter. A process that waits for a disk or a
    network mount ends when that answers, and this does not wait for it.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(guest, signal.SIGSTOP)  # else its children could be reaped and their pids reused
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while time.monotonic() < deadline:
        others = _find_by_mark(mark) if account == os.geteuid() else _find_by_account(account)
        found = (find_descendants(guest) | others) - {guest, os.getpid()}
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def has_processes(account: int) -> bool:
    """True if any process has this real uid. This asks the kernel and does not read every process."""
    try:
        os.getpriority(os.PRIO_USER, account)
    except ProcessLookupError:
        return False
    return True


def _find_by_account(account: int) -> set[int]:
    """Return the living processes with this uid as their real, effective, saved or file system uid."""
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
            continue  # it has ended since it was listed, or it may not be read
