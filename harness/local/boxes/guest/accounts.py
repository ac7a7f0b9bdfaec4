"""The accounts inside: who a request acts for."""

from __future__ import annotations

import errno
import os
import stat

from harness.local.boxes.guest.opening import open_file
from harness.local.boxes.guest.replies import RequestError

fixed_accounts: dict[str, tuple[int, int]] = {"root": (0, 0)}
"""Accounts that do not depend on what the sandbox makes of its files. The first request adds `user`."""


class Account:
    """An account of the sandbox's own /etc/passwd, with its groups."""

    def __init__(self, name: str) -> None:
        if name in fixed_accounts:
            self.uid, self.gid = fixed_accounts[name]
        else:
            self._find(name)
        groups = [fields for fields in read_table("/etc/group") if len(fields) > 3 and fields[2].isdecimal()]
        self.groups = [self.gid, *(int(each[2]) for each in groups if name in each[3].split(","))][:64]

    def _find(self, name: str) -> None:
        for fields in read_table("/etc/passwd"):
            if fields[0] == name and len(fields) > 6 and fields[2].isdecimal() and fields[3].isdecimal():
                self.uid, self.gid, self.home = int(fields[2]), int(fields[3]), fields[5]
                return
        raise RequestError("user", errno.ENOENT, f"there is no user {name!r} in the sandbox")

    def __enter__(self) -> None:
        """Be this account, until the end of the block. What is started in it keeps nothing of root.

        The saved uid stays root's, so that this can be undone; exec replaces it.
        """
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, 0)
        os.setresuid(self.uid, self.uid, 0)

    def __exit__(self, *_: object) -> None:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups([])


class SingleAccount:
    """The one account of the tiers without user namespaces."""

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


def read_table(path: str) -> list[list[str]]:
    """Return the lines of a file like /etc/passwd. The sandbox may have made anything of it."""
    try:
        fd = open_file(path, os.O_RDONLY)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = os.read(fd, 1 << 20).decode("utf-8", "replace")
    finally:
        os.close(fd)
    return [line.split(":") for line in text.splitlines()]
