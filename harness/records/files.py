"""Files of a run's folder, which others may have made: only regular ones below it are read, and in bounded pieces."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from harness.errors import UsageError

MAX_FILE = 2 * 1024**3
"""A larger file is refused unread: a sparse one takes no room, and hours to read."""
MAX_LINE = 64 * 1024 * 1024
"""A longer line is skipped, and told."""
_PIECE = 1024 * 1024
_BUFFER = 256 * 1024


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, without waiting for anybody.

    Raises:
        OSError: when it cannot be opened, has more than `MAX_FILE` bytes, or is a FIFO, a device, a folder or a socket.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(0, "it is no regular file", str(path))
        if about.st_size > MAX_FILE:
            raise OSError(0, f"it has more than {MAX_FILE // 2**20} MiB", str(path))
        return os.fdopen(descriptor, "rb", _BUFFER)
    except BaseException:
        os.close(descriptor)
        raise


def bounded_lines(file: BinaryIO, limit: int = MAX_LINE) -> Iterator[bytes | None]:
    """The lines of a file, with their ends; None for one that is longer than `limit` bytes."""
    while line := file.readline(limit + 1):
        if len(line) <= limit:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_PIECE)
        yield None


def read_bounded(path: Path, limit: int = MAX_LINE) -> bytes:
    """A whole file.

    Raises:
        OSError: when it cannot be read, is no regular file, or has more than `limit` bytes.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(0, f"it has more than {limit // 2**20} MiB", str(path))
    return data


def file_below(folder: Path, relative: str) -> Path:
    """The file of that path in a folder.

    Raises:
        UsageError: when the path leads out of the folder, also by a link.
    """
    path = folder / relative
    # Not `resolve`, which raises at links that lead round in a circle: opening them tells.
    if "\0" in relative or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise UsageError(
            f"{relative!r} leads out of {folder}", remedy="nothing outside of a run's folder is read"
        )
    return path


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal, read piece by piece.

    Raises:
        OSError: when it cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
