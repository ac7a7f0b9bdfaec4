"""Watching a folder for changes."""

from __future__ import annotations

import os
import select
import stat
import sys

from harness.local.boxes.guest.replies import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Inotify:
    """inotify through the C library, since Python's standard library does not have it."""

    MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = (
        0x2,
        0x4,
        0x8,
        0x40,
        0x80,
        0x100,
        0x200,
    )
    ISDIR, OVERFLOW, IGNORED = 0x40000000, 0x4000, 0x8000
    KINDS = (
        *((CREATE, "create"), (MODIFY, "write"), (DELETE, "remove")),
        *((MOVED_FROM, "rename"), (MOVED_TO, "create"), (ATTRIB, "chmod")),
    )

    def __init__(self, root: str, recursive: bool) -> None:
        import ctypes

        self.libc = ctypes.CDLL(None, use_errno=True)
        self.errno = ctypes.get_errno
        self.fd = self.libc.inotify_init1(os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(self.errno(), os.strerror(self.errno()))
        self.root = root
        self.recursive = recursive
        self.names: dict[int, str] = {}
        self.read = 0
        self.mask = sum(mask for mask, _ in self.KINDS)
        self._add("")

    def _add(self, name: str) -> list[str]:
        """Watch a folder, and those below if recursive. Returns the entries found in them."""
        path = os.path.join(self.root, name)
        watch = self.libc.inotify_add_watch(self.fd, os.fsencode(path), self.mask | 0x01000000)  # IN_ONLYDIR
        if watch < 0:
            raise OSError(self.errno(), os.strerror(self.errno()))
        self.names[watch] = name
        found = []
        if self.recursive:
            with os.scandir(path) as entries:
                for entry in list(entries):
                    below = os.path.join(name, entry.name)
                    found.append(below)
                    if entry.is_dir(follow_symlinks=False):
                        found += self._add_if_there(below)
        return found

    def _add_if_there(self, name: str) -> list[str]:
        try:
            return self._add(name)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []  # it has vanished, or may not be read

    def waiting(self) -> int:
        """The bytes of the changes that wait to be read."""
        import fcntl

        return int.from_bytes(fcntl.ioctl(self.fd, 0x541B, bytes(4)), sys.byteorder)  # FIONREAD

    def events(self) -> Iterator[tuple[str, str]]:
        """Yield the changes that can be read now: kinds and names."""
        data = os.read(self.fd, 1 << 16)
        self.read += len(data)
        at = 0
        while at < len(data):
            watch = int.from_bytes(data[at : at + 4], sys.byteorder, signed=True)
            mask = int.from_bytes(data[at + 4 : at + 8], sys.byteorder)
            size = int.from_bytes(data[at + 12 : at + 16], sys.byteorder)
            name = os.fsdecode(data[at + 16 : at + 16 + size].rstrip(b"\0"))
            at += 16 + size
            if mask & self.OVERFLOW:
                yield "overflow", ""
            if mask & self.IGNORED:
                self.names.pop(watch, None)
            elif watch in self.names:
                yield from self._named(
                    os.path.join(self.names[watch], name) if name else self.names[watch], mask
                )

    def _named(self, name: str, mask: int) -> Iterator[tuple[str, str]]:
        yield from ((kind, name) for bit, kind in self.KINDS if mask & bit)
        if self.recursive and mask & self.ISDIR and mask & (self.CREATE | self.MOVED_TO):
            # entries made in the new folder before it was watched have caused no events
            for below in self._add_if_there(name):
                yield "create", below
                if mask & self.CREATE and _has_content(os.path.join(self.root, below)):
                    yield "write", below


def _has_content(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def watch(path: str, recursive: bool, out: int) -> None:
    """Report changes until the reader closes its end. Each byte from it is answered after all changes before it."""
    inotify = Inotify(path, recursive)
    report(out, {"ok": None})
    poller = select.poll()
    poller.register(inotify.fd, select.POLLIN)
    poller.register(out, select.POLLIN)
    while True:
        asked = b""
        if out in [fd for fd, _ in poller.poll()]:
            asked = os.read(out, 64)
            if not asked:
                return
        end = inotify.read + inotify.waiting()
        while inotify.read < end:
            for kind, name in inotify.events():
                report(out, {"type": kind, "name": name})
        for _ in asked:
            report(out, {"type": "synced", "name": ""})
