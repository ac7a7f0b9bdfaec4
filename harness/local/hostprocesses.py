"""Processes as this machine sees them, from /proc."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 1.0
"""Seconds until what does not die is left to die later."""


def descendants(pid: int) -> set[int]:
    """The living processes below this one, zombies aside."""
    children: dict[int, list[int]] = {}
    zombies = set()
    for each, line in _read_all("stat"):
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


def hunt(guest: int, account: int, sandbox_id: str) -> None:
    """Kill all processes of a sandbox that shares this machine's pid namespace: those below its guest, and
    those of its account; if that is ours, those that carry the sandbox's id in their environment.

    One that waits for a disk or a network mount ends when that answers, and is not waited for.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(guest, signal.SIGSTOP)  # else its children could be reaped, and their pids used anew
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        others = _marked(sandbox_id) if account == os.geteuid() else _of_account(account)
        found = (descendants(guest) | others) - {guest, os.getpid()}
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _of_account(account: int) -> set[int]:
    wanted = str(account).encode()
    return {pid for pid, status in _read_all("status") if _is_alive_as(status, wanted)}


def _is_alive_as(status: bytes, account: bytes) -> bool:
    fields = dict(line.split(b":", 1) for line in status.splitlines() if b":" in line)
    return account in fields[b"Uid"].split() and fields[b"State"].split()[0] not in (b"Z", b"X")


def _marked(sandbox_id: str) -> set[int]:
    mark = f"E2B_SANDBOX_ID={sandbox_id}".encode()
    return {pid for pid, environ in _read_all("environ") if mark in environ.split(b"\0")}


def _read_all(name: str) -> Iterator[tuple[int, bytes]]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield int(pid), Path("/proc", pid, name).read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended since it was listed, or not ours
