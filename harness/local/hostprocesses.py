"""Processes as this machine sees them, from /proc."""

import contextlib
import os
import signal
from pathlib import Path


def descendants(pid: int) -> set[int]:
    """The living processes below this one, zombies aside."""
    children: dict[int, list[int]] = {}
    zombies = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended since it was listed
            state, parent = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()[:2]
            children.setdefault(int(parent), []).append(int(name))
            if state in (b"Z", b"X"):
                zombies.add(int(name))
    found: set[int] = set()
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found.update(below)
        pending += below
    return found - zombies


def end_descendants(pid: int) -> None:
    """Kill everything below a process, which is stopped first so that it makes nothing new."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        while below := descendants(pid):
            for each in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
