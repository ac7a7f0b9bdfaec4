"""Opening files by paths that the sandbox has made: of its own files alone."""

from __future__ import annotations

import errno
import os
import sys

OPENAT2, AT_FDCWD, RESOLVE_NO_MAGICLINKS = 437, -100, 2  # the call has the same number on every architecture


def open_file(path: str, flags: int, mode: int = 0) -> int:
    """Open a path like os.open, without waiting. Raises OSError, ELOOP for a path through a magic link.

    Those are the links of /proc that lead to what a process has, whatever has a path: /proc/self/exe would be this
    process's own program, a file of the machine's that the sandbox has no other way to.
    """
    import ctypes  # lazily: its import would take a tenth of a sandbox's start in the tiers without the launcher

    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, "a path has no NUL")
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    words = (flags, mode if flags & os.O_CREAT else 0, RESOLVE_NO_MAGICLINKS)
    how = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(OPENAT2, AT_FDCWD, name, how, len(how)))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number == errno.ENOSYS:  # before Linux 5.6, where there is no tier with walls
        return os.open(path, flags, mode)
    raise OSError(number, os.strerror(number))
