"""The memory that a sandbox's processes hold beside their own and its folders, read in /proc from outside.

It is looked for where no control group and no disk of the sandbox's own counts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SHARED = re.compile(rb"^Pss_Shmem:\s*(\d+) kB$", re.MULTILINE)
_MOUNT = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)
_PIDFD_GETFD = 438
"""The number of the call, which is newer than libraries' tables and the same on all machines."""
_libc = ctypes.CDLL(None, use_errno=True)


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
        for status, name in _list_open_files(pid):
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                is_memory = name.startswith("/memfd:")
                if is_memory or not name.startswith("/dev/shm/"):
                    files[status.st_dev, status.st_ino] = is_memory, status.st_blocks * 512
    nameless, removed = (
        sum(size for kind, size in files.values() if kind is wanted) for wanted in (True, False)
    )
    return Held(mapped, nameless, removed)


def _list_open_files(pid: int) -> Iterator[tuple[os.stat_result, str]]:
    """Yield the status and name of what a process has open: of the files themselves, no path of its is followed."""
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        yield from _list_as_owner(pid)
        return
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):
            path = f"/proc/{pid}/fd/{entry}"
            yield os.stat(path), os.readlink(path)


def _list_as_owner(pid: int) -> Iterator[tuple[os.stat_result, str]]:
    """The same for a process of another id of this user's range.

    Only the id itself may enter its /proc/PID/fd. But whoever made a user namespace may trace what is in it, and who
    may trace a process may take its descriptors.
    """
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            for entry in os.listdir(f"/proc/{pid}/fdinfo"):
                with contextlib.suppress(OSError):
                    if _mount_of(pid, int(entry)) != _mount_of_sockets():
                        yield from _look_at(process, int(entry))
        finally:
            os.close(process)


def _look_at(process: int, number: int) -> Iterator[tuple[os.stat_result, str]]:
    fd = _libc.syscall(_PIDFD_GETFD, process, number, 0)
    if fd < 0:
        return
    try:
        status = os.fstat(fd)
        if stat.S_ISSOCK(
            status.st_mode
        ):  # one that has come in the place of a file: closing it must not wait
            with socket.socket(fileno=os.dup(fd)) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
        yield status, os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _mount_of(pid: int, number: int) -> bytes:
    with open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:
        found = _MOUNT.search(file.read())
    return found.group(1) if found else b""


@functools.cache
def _mount_of_sockets() -> bytes:
    """The kernel's own mount of all sockets."""
    with socket.socket(socket.AF_UNIX) as one:
        return _mount_of(os.getpid(), one.fileno())
