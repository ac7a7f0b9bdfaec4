"""The range of ids that an ordinary user of this machine may give to sandboxes: /etc/subuid, /etc/subgid, newuidmap.

Root of a sandbox is the user, and all other accounts inside are ids of the range. All sandboxes of one user share it: a
process of one that got out could write the files of another.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.local.boxes.accounts import IDS

_WAIT_AND_RUN = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
os.write(1, b"y")
os.read(0, 1)
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
os.setgroups([])
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class SubordinateRange:
    """Arguments of newuidmap and newgidmap: triples of the first id inside, the first one here, and their number."""

    tools: tuple[str, str]
    """Where the two are. The launcher has no PATH."""
    uids: tuple[int, ...]
    gids: tuple[int, ...]

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command as root of this range; what it printed. Raises OSError with its words if it fails."""
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WAIT_AND_RUN, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if env is None else dict(env),
        )
        assert process.stdout
        if process.stdout.read(1):
            for tool, ids in zip(self.tools, (self.uids, self.gids), strict=True):
                subprocess.run([tool, str(process.pid), *map(str, ids)], check=False, capture_output=True)
        printed, said = process.communicate(b"y")
        if process.returncode != 0:
            raise OSError(f"{command[0]} failed: {said.decode('utf-8', 'replace').strip()}")
        return printed.decode("utf-8", "replace")


class NoRange(Exception):
    """An account cannot give ids of a range. The message says why, and what would help."""


def find_range() -> SubordinateRange:
    """Return the range of this process's account, which is not root's. Raises NoRange."""
    tools = shutil.which("newuidmap"), shutil.which("newgidmap")
    if tools[0] is None or tools[1] is None:
        raise NoRange("newuidmap and newgidmap are not installed (Debian, Ubuntu: package uidmap)")
    uids, gids = _find("/etc/subuid"), _find("/etc/subgid")
    return SubordinateRange(
        (tools[0], tools[1]), (0, os.geteuid(), 1, 1, *uids), (0, os.getegid(), 1, 1, *gids)
    )


def _find(path: str) -> tuple[int, int]:
    """Return the first id and the number of this account's range, which are enough for a distribution."""
    names = {str(os.geteuid())}
    with contextlib.suppress(KeyError):  # an account without a name may have a range by its number
        names.add(pwd.getpwuid(os.geteuid()).pw_name)
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise NoRange(f"{path} cannot be read: {error.strerror}") from error
    for name, _, rest in (line.partition(":") for line in lines):
        first, _, count = rest.partition(":")
        if name in names and first.isdecimal() and count.isdecimal() and int(count) >= IDS - 1:
            return int(first), IDS - 1
    raise NoRange(
        f"{path} gives this account no {IDS - 1:,} ids (as root: usermod --add-subuids, --add-subgids)"
    )
