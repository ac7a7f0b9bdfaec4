"""The server's directory on disk. It is made at the start and removed at the end.

The directory of a server that was killed is removed by the next server.

```
<root>/                     shared by all servers of this user
    server-XXXXXXXX/        of one server; `lock` in it is held (flock) while that server lives
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
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.local.boxes.file_tree import remove_tree

# If the server is root, sandboxes run as other users. They must be able to pass through to their own directory,
# but nobody may list the names.
_PASS_THROUGH = 0o711

# From linux/fs.h: FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of 64-bit machines, FS_TOPDIR_FL.
_GET_FLAGS, _SET_FLAGS, _TOP_OF_HIERARCHIES = 0x80086601, 0x40086602, 0x00020000


class StartError(Exception):
    """The server cannot start. `remedy` says what would help."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class StateDirectory:
    """The directory of one server. Its lock lasts until `remove`, or until the process ends in any way."""

    path: Path
    lock_fd: int

    @property
    def sandboxes(self) -> Path:
        """The folder with one directory for each sandbox, named by its id."""
        return self.path / "sandboxes"

    @property
    def snapshots(self) -> Path:
        """The folder with one directory for each snapshot, named by its id."""
        return self.path / "snapshots"

    def remove(self) -> None:
        """Remove everything. The sandboxes must be dead."""
        remove_tree(self.path)
        os.close(self.lock_fd)


def default_root() -> Path:
    """Return the default state directory: one per user below the folder for temporary files."""
    return Path(tempfile.gettempdir()) / f"harness-local-{os.geteuid()}"


def open_state(root: Path, trim: Callable[[Path], None] | None = None) -> StateDirectory:
    """Make this server's directory under `root`, and remove those whose servers are dead.

    If no other server lives, `trim` is called with a folder, into which it may move what shall be removed.
    Raises `StartError` if `root` cannot be used, or if another user can write to it.
    """
    _check_root(root)
    with _lock_root(root):
        dead = _rename_dead(root)
        if trim and not any(root.glob("server-*")):
            dead.append(Path(tempfile.mkdtemp(prefix="dead-", dir=root)))
            trim(dead[-1])
        state = _make_directory(root)
    remove_beside(dead)
    return state


def remove_beside(paths: list[Path]) -> None:
    """Remove folders beside the server's work: it may be so much that nobody would wait for the start.

    The next server goes on where this one is stopped.
    """
    if paths:
        threading.Thread(target=_remove_all, args=(paths,), daemon=True).start()


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        remove_tree(path)


BUILT = ("images*", "templates*")
"""What servers have unpacked and built below the root, and make anew when it is gone."""


def remove_built(root: Path) -> list[Path]:
    """Remove the images and templates of all servers of this user, and return their folders.

    Raises `StartError` while a server lives, whose sandboxes may stand on them.
    """
    if not root.is_dir():
        return []
    _check_root(root)
    with _lock_root(root):
        if not all(_is_dead(path) for path in root.glob("server-*")):
            raise StartError(
                "A server of sandboxes is running on this machine", "Wait until its run is over."
            )
        found = [path for pattern in BUILT for path in sorted(root.glob(pattern))]
        for path in found:
            remove_tree(path)
    return found


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
    """Hold the root's lock, so that no server removes another one that has not locked its directory yet."""
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
    """Ask an ext file system to spread the directories made in a folder over its block groups.

    Without a journal, ext4 does not reuse an inode that was deleted within the last minutes. For each new file it
    examines all of them in the block group again. So sandboxes in one block group would become slower and slower.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # another file system, or no permission: it is only slower
            flags = int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(4)), sys.byteorder)
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _TOP_OF_HIERARCHIES).to_bytes(4, sys.byteorder))
    finally:
        os.close(fd)


def _rename_dead(root: Path) -> list[Path]:
    """Return the directories of dead servers, renamed so that no other server removes them too."""
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
