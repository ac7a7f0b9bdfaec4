"""Copies of trees that share the files in which they are equal: `python equal_files.py COPY EARLIER`.

The steps of a build each leave a copy of all files, of which most are the step's before. A file that is equal in
content and in all that is known of it becomes another name of the earlier one, and takes no room. So nobody may write
into either tree: sandboxes get copies of it.

It imports nothing of the harness: a range of ids runs it as a program.
"""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

_CHUNK = 1 << 20
_MOST_NAMES = 30_000
"""File systems bound the names of one file: ext4 has 65,000."""


class _Pair(NamedTuple):
    """A file of the copy, and the one of the same path in the earlier tree."""

    path: str
    earlier: str
    inode: int
    earlier_inode: int
    links: int
    bytes: int


def share_equal_files(copy: str, earlier: str) -> int:
    """Replace files of a copy by links to equal ones of an earlier tree. Returns the bytes that are free again.

    Names of one file stay names of one file, and no others become so.
    """
    pairs = list(_list_pairs(copy, earlier))
    partners, owners = defaultdict(set), defaultdict(set)
    for pair in pairs:
        partners[pair.inode].add(pair.earlier_inode)
        owners[pair.earlier_inode].add(pair.inode)
    found = Counter(pair.inode for pair in pairs)
    freed: dict[int, int] = {}
    for pair in pairs:
        if (
            found[pair.inode] < pair.links
            or len(partners[pair.inode]) > 1
            or len(owners[pair.earlier_inode]) > 1
        ):
            continue
        if pair.inode in freed or _have_equal_content(pair.path, pair.earlier):
            _replace(pair.path, pair.earlier, copy)
            freed[pair.inode] = pair.bytes
    return sum(freed.values())


def _list_pairs(copy: str, earlier: str) -> Iterator[_Pair]:
    """Yield the files that may be equal. What cannot be looked at is not."""
    pending = [""]
    while pending:  # not os.walk, which calls itself for each folder below another
        folder = pending.pop()
        try:
            entries = list(os.scandir(copy + folder))
        except OSError:
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}"
            try:
                known, before = os.lstat(copy + path), os.lstat(earlier + path)
                if stat.S_ISDIR(known.st_mode) and stat.S_ISDIR(before.st_mode):
                    pending.append(path)
                elif _may_be_equal(copy + path, known, earlier + path, before):
                    size = known.st_blocks * 512
                    yield _Pair(
                        copy + path, earlier + path, known.st_ino, before.st_ino, known.st_nlink, size
                    )
            except OSError:
                continue


def _may_be_equal(path: str, known: os.stat_result, earlier: str, before: os.stat_result) -> bool:
    """True for two files of which all but the content is equal. A file with holes would take long to read."""
    if not stat.S_ISREG(known.st_mode) or known.st_blocks * 512 < known.st_size:
        return False
    if before.st_nlink + known.st_nlink > _MOST_NAMES or not os.access(
        os.path.dirname(path), os.W_OK | os.X_OK
    ):
        return False
    fields = ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_dev")
    if any(getattr(known, field) != getattr(before, field) for field in fields):
        return False
    return known.st_ino != before.st_ino and _read_attributes(path) == _read_attributes(earlier)


def _read_attributes(path: str) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _have_equal_content(path: str, earlier: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as one, open(earlier, "rb", buffering=0) as other:
            while piece := one.read(_CHUNK):
                if piece != other.read(_CHUNK):
                    return False
            return not other.read(1)
    except OSError:
        return False  # a file of mode 000 is kept twice


def _replace(path: str, earlier: str, copy: str) -> None:
    """Put a link to the earlier file at a path. The folder that it is in does not show it. Raises OSError."""
    folder = os.path.dirname(path)
    known = os.stat(folder)
    made = os.path.join(copy, ".link")
    os.link(earlier, made)
    os.replace(made, path)
    os.utime(folder, ns=(known.st_atime_ns, known.st_mtime_ns))


if __name__ == "__main__":
    sys.stdout.write(f"{share_equal_files(*sys.argv[1:])}\n")
