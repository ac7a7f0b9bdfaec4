"""Files on their way into a sandbox: one tar archive, the same for the same content."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.tasks.contents import IGNORED_NAMES

_GZIP_THRESHOLD = 256 * 1024
"""Bytes that are sent sooner than a sandbox starts a gzip for them."""
MAX_INLINE_CHARS = 107 * 1024
"""Characters that fit into a command, beside what else it does: the kernel takes 128 KiB for one argument."""
_NEEDS_ESCAPE = re.compile(rb"\x00+|[^\n -$&(-\[\]-~]")
"""Bytes that a format in single quotes cannot have in it, or that mean something there: all but plain text without
`%`, `'` and `\\`."""
_OCTAL = tuple(b"%d" % digit for digit in range(8))
_FOLDERS = 16
"""Starter repos and the like that are kept packed, and files beside them: a task's trials run one after another."""

_NO_VERSIONS: Mapping[str, str] = {}


@dataclass(frozen=True)
class _TarPart:
    """Entries of a tar, without its end; zipped by themselves when they are large."""

    data: bytes
    zipped: bool

    @classmethod
    def of(cls, entries: bytes) -> _TarPart:
        large = len(entries) > _GZIP_THRESHOLD
        return cls(_zip(entries) if large else entries, large)


def pack(
    files: Mapping[str, bytes],
    paths: Mapping[str, Path],
    versions: Mapping[str, str] = _NO_VERSIONS,
    *,
    is_readable: bool = False,
) -> bytes:
    """A tar of `files` by name, and of `paths` (files, links, whole folders) by the name they get; zipped when large.

    A name of `files` that ends with a slash is a folder's, and comes before all else. A path whose name has one of the
    `versions`, as the hash of a task, is read once for it, so that the trials to come get the same, and a link to a
    folder is that folder. With `is_readable` every account may read what is in it, and run what can be run. `tar -xf`
    finds out by itself. The same input gives the same bytes. Raises OSError when something cannot be read.
    """
    entry = _readable if is_readable else _plain
    parts = [
        _of_version(entry, name, path, versions[name]) if name in versions else _of_path(entry, name, path)
        for name, path in paths.items()
    ]
    folders = tuple(name for name in files if name.endswith("/"))
    if folders:
        parts.insert(0, _of_files(tuple((name, b"") for name in folders)))
    parts.append(_of_files(tuple(item for item in files.items() if item[0] not in folders)))
    end = _TarPart(bytes(2 * tarfile.BLOCKSIZE), zipped=False)
    if any(part.zipped for part in parts) or sum(len(part.data) for part in parts) > _GZIP_THRESHOLD:
        # Concatenated gzip members are one valid gzip file.
        return b"".join(part.data if part.zipped else _zip(part.data) for part in (*parts, end))
    return b"".join(part.data for part in (*parts, end))


@functools.lru_cache(maxsize=_FOLDERS)
def unpack_command(archive: bytes) -> str | None:
    """A bash command that has a tar in it and unpacks it where it runs; None for one that is too large.

    Its last part is tar's own, which more options may follow.
    """
    told = print_command(archive)
    # On a pipe, tar does not find out by itself.
    unpack = "tar -xz" if archive.startswith(b"\x1f\x8b") else "tar -x"
    return told and f"{told} | {unpack}"


def print_command(data: bytes, room: int = MAX_INLINE_CHARS) -> str | None:
    """A bash command that prints `data`; None where it would have more than about `room` characters."""
    if len(data) > room:
        return None
    told = _printf_escape(data)
    if len(told) <= room:
        return f"printf -- '{told}'"
    told = base64.b64encode(data).decode()
    return f"printf %s {told} | base64 -d" if len(told) <= room else None


def _printf_escape(data: bytes) -> str:
    """The format for which bash's `printf` prints `data`, between single quotes. No program has to decode it."""

    def escape(match: re.Match[bytes]) -> bytes:
        found = match[0]
        if found[0]:
            return b"\\x%02x" % found[0]
        # A zero takes the octal digits that follow it for its own.
        short = data[match.end() : match.end() + 1] not in _OCTAL
        return b"\\0" * (len(found) - 1) + (b"\\0" if short else b"\\000")

    return _NEEDS_ESCAPE.sub(escape, data).decode("ascii")


@functools.lru_cache(maxsize=_FOLDERS)
def _of_files(files: tuple[tuple[str, bytes], ...]) -> _TarPart:
    return _TarPart.of(_entries(functools.partial(_add_files, files)))


def _of_path(entry: _Entry, name: str, path: Path) -> _TarPart:
    return _TarPart.of(_entries(functools.partial(_add_path, entry, name, path)))


@functools.lru_cache(maxsize=_FOLDERS)
def _of_version(entry: _Entry, name: str, path: Path, version: str) -> _TarPart:
    return _of_path(entry, name, path.resolve() if path.is_dir() else path)


def _entries(add: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        add(archive)
        return buffer.getvalue()


def _add_files(files: Iterable[tuple[str, bytes]], archive: tarfile.TarFile) -> None:
    for name, data in files:
        info = tarfile.TarInfo(name.rstrip("/"))
        if name.endswith("/"):
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        else:
            info.size, info.mode = len(data), 0o644
        archive.addfile(info, io.BytesIO(data))


_Entry = Callable[[tarfile.TarInfo], tarfile.TarInfo | None]


def _add_path(entry: _Entry, name: str, path: Path, archive: tarfile.TarFile) -> None:
    archive.add(path, arcname=name, filter=entry)


def _zip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """An entry without what differs from machine to machine; None for what is no content."""
    if IGNORED_NAMES.intersection(Path(info.name).parts):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 1735689600
    info.mode = (info.mode | 0o600) & 0o755 if not info.isdir() else 0o755
    return info


def _readable(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A plain entry for all accounts."""
    if (plain := _plain(info)) is not None:
        plain.mode |= 0o555 if plain.mode & 0o100 else 0o444
    return plain
