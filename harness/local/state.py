"""The server's directory on disk: made at the start, removed at the end, and a dead server's removed by the next one.

```
<root>/                     shared by all servers of this user
    server-XXXXXXXX/        one server's; `lock` in it is held (flock) for as long as that server lives
        lock
        sandboxes/<id>/
        snapshots/<id>/
```
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.local.boxes.file_tree import remove_tree

# Sandboxes run as other users than the server where it is root, and must be able to pass through to their own
# directory; nobody may list the names.
_PASS_THROUGH = 0o711

# From linux/fs.h: FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of 64-bit machines, FS_TOPDIR_FL.
_GET_FLAGS, _SET_FLAGS, _TOP_OF_HIERARCHIES = 0x80086601, 0x40086602, 0x00020000


class StartError(Exception):
    """The server cannot start: what is wrong, and what would help."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class StateDirectory:
    """One server's directory. Its lock lasts until `remove` or the end of the process, however that comes."""

    path: Path
    lock_fd: int

    @property
    def sandboxes(self) -> Path:
        """Where each sandbox has a directory by its id."""
        return self.path / "sandboxes"

    @property
    def snapshots(self) -> Path:
        """Where each snapshot has a directory by its id."""
        return self.path / "snapshots"

    def remove(self) -> None:
        """Remove everything; the sandboxes must be dead."""
        remove_tree(self.path)
        os.close(self.lock_fd)


def default_root() -> Path:
    """Where state is kept when nobody says otherwise: one directory per user among the temporary files."""
    return Path(tempfile.gettempdir()) / f"harness-local-{os.geteuid()}"


def open_state(root: Path) -> StateDirectory:
    """Make this server's directory under `root`, and remove those whose servers are dead.

    Raises `StartError` when `root` cannot be used, or could be tampered with by another user.
    """
    _check_root(root)
    with _lock_root(root):
        dead = _rename_dead(root)
        state = _make_directory(root)
    for path in dead:
        remove_tree(path)
    return state


def _check_root(root: Path) -> None:
    remedy = "Name a directory of your own with --state DIR."
    try:
        root.mkdir(mode=_PASS_THROUGH, parents=True, exist_ok=True)
        found = root.lstat()
    except OSError as error:
        raise StartError(f"The state directory {root} cannot be used: {error.strerror}", remedy) from error
    if not stat.S_ISDIR(found.st_mode):
        raise StartError(f"The state directory {root} is not a directory", remedy)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StartError(f"The state directory {root} can be written by other users", remedy)
    for folder in (root, *root.absolute().parents) if os.geteuid() == 0 else ():
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise StartError(
                f"The state directory {root} lies in {folder}, which may not be entered by other accounts, "
                "as those that a root server gives to sandboxes",
                f"Name another one with --state DIR, or: chmod o+x {folder}",
            )


@contextlib.contextmanager
def _lock_root(root: Path) -> Iterator[None]:
    """Hold the root's lock, so that no server sweeps away one that has not locked its own directory yet."""
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make_directory(root: Path) -> StateDirectory:
    path = Path(tempfile.mkdtemp(prefix="server-", dir=root))
    path.chmod(_PASS_THROUGH)
    lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    state = StateDirectory(path, lock_fd)
    state.sandboxes.mkdir(mode=_PASS_THROUGH)
    state.snapshots.mkdir(mode=0o700)
    spread_inodes(state.sandboxes)
    spread_inodes(state.snapshots)
    return state


def spread_inodes(folder: Path) -> None:
    """Ask the file system to lay out what is made in a folder far from each other, where it is one of the ext family.

    Without a journal, ext4 takes no inode that was deleted within the last minutes, and looks at each of those in a
    block group again for every file that it makes there. Sandboxes that come and go side by side would cost ever more.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # of another family, or not ours to say: it is only slower
            flags = int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(4)), sys.byteorder)
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _TOP_OF_HIERARCHIES).to_bytes(4, sys.byteorder))
    finally:
        os.close(fd)


def _rename_dead(root: Path) -> list[Path]:
    """The directories of servers that are gone, renamed so that nobody else takes them up."""
    dead = list(root.glob("dead-*"))
    for path in root.glob("server-*"):
        if _is_dead(path):
            dead.append(path.rename(path.with_name(path.name.replace("server-", "dead-", 1))))
    return dead


def _is_dead(path: Path) -> bool:
    try:
        fd = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
