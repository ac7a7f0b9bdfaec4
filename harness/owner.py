"""Which process a run's sandboxes belong to, told by a mark on each; and whether that process still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def own_mark() -> str:
    """This process's mark: its machine, its id, and when it started, since ids are used again."""
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


def owner_lives(mark: str) -> bool | None:
    """Whether the process with this mark lives; None where it cannot be told, as of another machine's."""
    machine, _, rest = mark.partition(" ")
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
