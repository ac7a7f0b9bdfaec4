"""What the processes of a sandbox hold that neither their own memory nor its folders show, read in /proc from outside.

It is looked for where no control group and no disk of the sandbox's own counts it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

_SHARED = re.compile(rb"^Pss_Shmem:\s*(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Held:
    """Bytes, each counted once however many processes hold them."""

    mapped: int
    """Memory that processes share with each other."""
    nameless: int
    """Memory in open files that have no name (memfd_create)."""
    removed: int
    """What open files take on the disk that have been removed."""


def measure_held(pids: Iterable[int]) -> Held:
    """Measure what these processes hold. Those that end meanwhile, or may not be looked into, are left out."""
    mapped = 0
    files: dict[tuple[int, int], tuple[bool, int]] = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            mapped += sum(int(size) << 10 for size in _SHARED.findall(file.read()))
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat()  # of the open file itself: no path of the sandbox's is followed
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                        name = os.readlink(entry.path)
                        is_memory = name.startswith("/memfd:")
                        if is_memory or not name.startswith("/dev/shm/"):
                            files[status.st_dev, status.st_ino] = is_memory, status.st_blocks * 512
    nameless, removed = (
        sum(size for kind, size in files.values() if kind is wanted) for wanted in (True, False)
    )
    return Held(mapped, nameless, removed)
