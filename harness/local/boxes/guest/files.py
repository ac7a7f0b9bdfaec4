"""Files inside: describing, opening, moving, removing, measuring them."""

from __future__ import annotations

import errno
import os
import stat

from harness.local.boxes.guest.accounts import Account, read_table
from harness.local.boxes.guest.opening import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Names:
    """The names in one of the sandbox's tables of accounts, read again when the table has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.version: tuple[int, ...] = ()
        self.names: dict[str, str] = {}

    def find(self, number: int) -> str:
        """Return the name of an id; its digits where it has none."""
        try:
            status = os.stat(self.path)
            version: tuple[int, ...] = (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            version = ()
        if version != self.version:
            table = [fields for fields in read_table(self.path) if len(fields) > 2]
            self.version, self.names = version, {fields[2]: fields[0] for fields in reversed(table)}
        return self.names.get(str(number), str(number))


accounts, groups = Names("/etc/passwd"), Names("/etc/group")


def describe(path: str) -> dict[str, Any]:
    """Describe the entry at a path; a link is not followed."""
    status = os.lstat(path)
    entry: dict[str, Any] = {
        "path": path,
        "mode": status.st_mode,
        "size": status.st_size,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "owner": accounts.find(status.st_uid),
        "group": groups.find(status.st_gid),
        "mtime_ns": status.st_mtime_ns,
        "target": None,
        "target_mode": None,
        "metadata": {},
    }
    if stat.S_ISLNK(status.st_mode):
        entry["target"] = os.path.realpath(path)
        try:
            entry["target_mode"] = os.stat(path).st_mode
        except OSError:
            entry["target_mode"] = None  # a link to nothing is an entry too
    else:
        entry["metadata"] = metadata(path)
    return entry


def metadata(path: str | int) -> dict[str, str]:
    """Return the user's metadata of a file, which E2B keeps in extended attributes."""
    prefix = "user.e2b."
    try:
        follows = isinstance(path, int)  # a descriptor's file is no link
        names = [name for name in os.listxattr(path, follow_symlinks=follows) if name.startswith(prefix)]
        return {
            name.removeprefix(prefix): os.getxattr(path, name).decode("utf-8", "replace") for name in names
        }
    except OSError:
        return {}  # a file system without attributes, or a file that may not be read, has none to show


def set_metadata(fd: int, values: dict[str, str]) -> None:
    """Give an open file this metadata of the user's, and no other."""
    for name in metadata(fd):
        os.removexattr(fd, "user.e2b." + name)
    for name, value in values.items():
        os.setxattr(fd, "user.e2b." + name, value.encode())


def walk(path: str, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the entries below a folder by name. Entries that vanish meanwhile are left out."""
    for name in sorted(os.listdir(path)):
        below = path.rstrip("/") + "/" + name
        try:
            entry = describe(below)
        except FileNotFoundError:
            continue
        yield entry
        if depth > 1 and stat.S_ISDIR(entry["mode"]):
            try:
                yield from walk(below, depth - 1)
            except (PermissionError, FileNotFoundError):
                continue


def open_regular(path: str, flags: int, mode: int, parents: bool, owner: Account | None) -> int:
    """Open a regular file without blocking. Raises OSError for a FIFO or a device at the path.

    A file that is opened to be created is the owner's from then on, as on E2B.
    """
    if parents:
        make_folders(os.path.dirname(path), owner)
    fd = open_file(path, flags, mode)
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind):
        if owner and flags & os.O_CREAT:
            os.fchown(fd, owner.uid, owner.gid)
        if flags & os.O_TRUNC:
            set_metadata(fd, {})
        return fd
    os.close(fd)
    number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
    raise OSError(number, "Is a directory" if number == errno.EISDIR else "Not a regular file")


def make_folders(path: str, owner: Account | None) -> None:
    """Make a folder and those above it, as far as there are none, for their owner."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        os.mkdir(folder)
        if owner:
            os.chown(folder, owner.uid, owner.gid, follow_symlinks=False)


def make_dir(path: str, owner: Account | None) -> bool:
    """Make a folder and those above it. Returns False if it existed."""
    try:
        if os.path.lexists(path):
            raise FileExistsError
        make_folders(path, owner)
    except FileExistsError:
        if os.path.isdir(path):
            return False
        raise OSError(errno.ENOTDIR, "Not a directory") from None
    return True


def move(source: str, target: str, owner: Account | None) -> dict[str, Any]:
    """Move an entry, and describe it where it is then. Folders above it are made for their owner."""
    os.lstat(source)
    make_folders(os.path.dirname(target), owner)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        import shutil  # /usr and the rest are separate file systems here; on E2B they are one

        shutil.move(source, target, _copy_regular)
    return describe(target)


def _copy_regular(source: str, target: str) -> None:
    """Copy a regular file. Raises OSError for a device, which may have no end."""
    import shutil

    if not stat.S_ISREG(os.lstat(source).st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", source)
    shutil.copy2(source, target)


def remove(path: str) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        import shutil

        shutil.rmtree(path)
    else:
        os.unlink(path)


def measure_disk(paths: list[str]) -> int:
    """Return the bytes that the files below some folders take."""
    total = 0
    pending = list(paths)
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except (FileNotFoundError, PermissionError):
            continue
    return total
