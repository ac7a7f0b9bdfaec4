"""Giving up power for good: prctl, and Landlock in the tier that has it."""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 36, 38


def prctl(option: int, value: int) -> None:
    """Call prctl(2) without the ctypes package, whose import would take a tenth of a sandbox's start."""
    import _ctypes

    number = type("Int", (_ctypes._SimpleCData,), {"_type_": "i"})
    call = {"_flags_": _ctypes.FUNCFLAG_CDECL, "_restype_": number}
    function = type("Function", (_ctypes.CFuncPtr,), call)
    here = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # None is what is loaded already
    if function(_ctypes.dlsym(here, "prctl"))(option, value, 0, 0, 0):
        raise OSError(errno.EPERM, f"prctl {option} was refused")


class Landlock:
    """The kernel's Landlock through its system calls. It limits file access by folder, and signals to the sandbox."""

    CREATE, ADD, RESTRICT = 444, 445, 446  # the same numbers on every architecture
    READ_FOLDER, READ_FILE = 0b1101, 0b0101  # execute, read files, list
    WRITE_FILE, TRUNCATE = 0b0010, 1 << 14
    RIGHTS = (13, 14, 15)  # the number of file rights in versions 1, 2, and from 3 on; ioctl stays allowed
    SCOPES = 0b11  # abstract sockets, signals

    def __init__(self, libc: Any) -> None:
        import ctypes

        self.libc = libc
        self.errno = ctypes.get_errno
        self.version = libc.syscall(self.CREATE, None, 0, 1)
        if self.version < 1:
            raise OSError(self.errno(), f"Landlock is not available: {os.strerror(self.errno())}")
        self.handled = (1 << self.RIGHTS[min(self.version, 3) - 1]) - 1

    def confine(self, readable: list[str], writable: list[str], devices: list[str]) -> int:
        """Deny this process and its children all other paths permanently."""
        ruleset = self._create()
        for path in readable:
            self._allow(ruleset, path, self.READ_FOLDER if os.path.isdir(path) else self.READ_FILE)
        for path in writable:
            self._allow(ruleset, path, self.handled)
        for path in devices:
            self._allow(ruleset, path, (self.READ_FILE | self.WRITE_FILE | self.TRUNCATE) & self.handled)
        self.libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        self._check(self.libc.syscall(self.RESTRICT, ruleset, 0))
        os.close(ruleset)
        return int(self.version)

    def _create(self) -> int:
        scopes = self.SCOPES if self.version >= 6 else 0
        words = (self.handled, 0, scopes)[: 3 if self.version >= 6 else 2 if self.version >= 4 else 1]
        attributes = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
        return self._check(self.libc.syscall(self.CREATE, attributes, len(attributes), 0))

    def _allow(self, ruleset: int, path: str, access: int) -> None:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = access.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
        self._check(self.libc.syscall(self.ADD, ruleset, 1, rule, 0))
        os.close(fd)

    def _check(self, result: int) -> int:
        if result < 0:
            raise OSError(self.errno(), f"Landlock: {os.strerror(self.errno())}")
        return result
