"""The content of a folder: its files and links, and a hash of them."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

IGNORED_NAMES = frozenset({"__pycache__", ".git", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store"})
"""Names of no part of a task, wherever in its folder they are. They go into no sandbox, and change no hash."""

MAX_FILE_BYTES = 1024**3
"""A larger file, which may be sparse, is no part of a task: it goes into no sandbox in reasonable time."""
MAX_TEXT_BYTES = 16 * 1024**2
"""A larger text, such as a prompt or a manifest, is refused: nobody's memory has to hold it."""
MAX_RECORDING_BYTES = 256 * 1024**2
_PIECE_BYTES = 1024 * 1024


def open_regular(path: Path, limit: int = MAX_FILE_BYTES) -> BinaryIO:
    """Open a file of others for reading, without waiting for anybody.

    Raises:
        OSError: when it cannot be opened, is a FIFO, a socket or a device, or has more than `limit` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if about.st_size > limit:
            words = f"it may have at most {limit // 2**20} MiB, and has {about.st_size // 2**20}"
            raise OSError(errno.EFBIG, words, str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_text(path: Path, limit: int = MAX_TEXT_BYTES, *, errors: str = "strict") -> str:
    """A text in UTF-8, with its line ends as "\\n" and without an editor's byte order mark.

    Raises:
        OSError: as `open_regular` does.
        UnicodeDecodeError: when it is something else.
    """
    with (
        open_regular(path, limit) as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", errors=errors) as text,
    ):
        return text.read()


def files_in(folder: Path) -> Iterator[Path]:
    """All files and links of a folder that are its content. Raises OSError for a folder that cannot be read."""

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        folders[:] = [name for name in folders if name not in IGNORED_NAMES]
        yield from (Path(parent, name) for name in (*names, *links) if name not in IGNORED_NAMES)


def escapes_folder(link: Path, folder: Path) -> bool:
    """True if a link leads out of its folder, also if only on its way, or by an absolute path."""
    target = os.readlink(link)
    written = os.path.normpath(os.path.join(os.path.dirname(os.path.relpath(link, folder)), target))
    real, root = os.path.realpath(link), os.path.realpath(folder)
    return os.path.isabs(target) or written.split(os.sep)[0] == ".." or not f"{real}/".startswith(f"{root}/")


def is_executable(path: Path) -> bool:
    """True if a file's owner may run it, as the sandbox's user will. Root's rights here do not count."""
    return bool(path.stat().st_mode & stat.S_IXUSR)


def folder_hash(folder: Path, *, but: frozenset[str] = frozenset()) -> str:
    """SHA-256 over names, executable bits and contents of all files of a folder, in hexadecimal.

    `but` names files right in the folder that do not count: a task's README does not change a result.

    Raises:
        OSError: when something in it cannot be read.
    """
    digest = hashlib.sha256()
    named = {os.fsencode(path.relative_to(folder).as_posix()): path for path in files_in(folder)}
    for name, path in sorted(named.items()):
        if os.fsdecode(name) in but:
            continue
        if path.is_symlink():
            kind, content = b"l", os.fsencode(os.readlink(path))
        elif path.is_file():
            kind, content = b"x" if is_executable(path) else b"f", None
        else:
            continue
        for part in (name, kind) if content is None else (name, kind, content):
            digest.update(len(part).to_bytes(8, "big") + part)
        if content is None:
            _add_file(digest, path)
    return digest.hexdigest()


def _add_file(digest: hashlib._Hash, path: Path) -> None:
    """Add a file's size and content, piece by piece. Raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            limit = f"a task's file has at most {MAX_FILE_BYTES // 2**20} MiB, this one has {size // 2**20}"
            raise OSError(errno.EFBIG, limit, str(path))
        digest.update(size.to_bytes(8, "big"))
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)


def file_hash(path: Path | None) -> str | None:
    """SHA-256 of a file's content, in hexadecimal, read piece by piece; None for no file. Raises OSError."""
    if path is None:
        return None
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
