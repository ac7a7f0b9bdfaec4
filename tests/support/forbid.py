"""Run a program with system calls forbidden, as containers and hardened systems forbid them.

    python forbid.py namespaces landlock -- PROGRAM ARGS...

`namespaces` refuses what Docker's default profile refuses: unshare(2), and clone(2) with a new namespace.
`landlock` makes Landlock's calls unknown, as on a kernel that does not have it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NEW_NAMESPACES = 0x7E020000
CALLS = {"x86_64": {"clone": 56, "unshare": 272}, "aarch64": {"clone": 220, "unshare": 97}}
CLONE3 = 435
LANDLOCK = (444, 445, 446)


def filter_of(what: set[str]) -> bytes:
    """A program for the kernel's filter: compare the call's number, and refuse or allow."""
    calls = CALLS[os.uname().machine]
    lines: list[tuple[int, int, int, int]] = [(LOAD, 0, 0, NUMBER)]

    def refuse(number: int, error: int) -> None:
        lines.extend([(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | error)])

    if "landlock" in what:
        for number in LANDLOCK:
            refuse(number, errno.ENOSYS)
    if "namespaces" in what:
        refuse(calls["unshare"], errno.EPERM)
        refuse(CLONE3, errno.ENOSYS)  # its flags are in memory, where a filter cannot look
        lines.extend([(EQUAL, 0, 3, calls["clone"]), (LOAD, 0, 0, FIRST_ARGUMENT)])
        lines.extend([(ANY_BIT, 0, 1, NEW_NAMESPACES), (RETURN, 0, 0, REFUSE | errno.EPERM)])
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def forbid(what: set[str]) -> None:
    """Forbid for this process and its children, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = filter_of(what)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if os.geteuid() != 0:
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, ctypes.create_string_buffer(header), 0, 0) != 0:  # PR_SET_SECCOMP, filter
        raise OSError(ctypes.get_errno(), "the filter cannot be set")


if __name__ == "__main__":
    at = sys.argv.index("--")
    forbid(set(sys.argv[1:at]))
    os.execv(sys.argv[at + 1], sys.argv[at + 1 :])
