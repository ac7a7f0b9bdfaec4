"""Files on their way into a sandbox: one tar archive, the same for the same content."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from harness.contents import NOT_CONTENT

_SMALL = 256 * 1024
"""Bytes that are sent sooner than a sandbox starts a gzip for them."""
_WITH_COMMAND = 64 * 1024
"""Bytes that fit into a command in base64: the kernel takes 128 KiB for one argument."""


def pack(files: Mapping[str, bytes], paths: Mapping[str, Path]) -> bytes:
    """A tar of `files` by name, and of `paths` (files, links, whole folders) by the name they get; zipped when large.

    `tar -xf` finds out by itself. The same input gives the same bytes. Raises OSError when something cannot be read.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in paths.items():
            archive.add(path, arcname=name, filter=_plain)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    packed = buffer.getvalue()
    return packed if len(packed) <= _SMALL else gzip.compress(packed, compresslevel=1, mtime=0)


def unpacking(archive: bytes) -> str | None:
    """A shell command that has a tar in it and unpacks it where it runs; None for one that is too large."""
    if len(archive) > _WITH_COMMAND:
        return None
    # On a pipe, tar does not find out by itself.
    unpack = "tar -xz" if archive.startswith(b"\x1f\x8b") else "tar -x"
    return f"printf %s {base64.b64encode(archive).decode()} | base64 -d | {unpack}"


@functools.lru_cache(maxsize=256)
def pack_folder(folder: Path, name: str = ".") -> bytes:
    """A folder's content under a name, kept for the trials to come. Raises OSError when it cannot be read."""
    return pack({}, {name: folder.resolve()})


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """An entry without what differs from machine to machine; None for what is no content."""
    if NOT_CONTENT.intersection(Path(info.name).parts):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 1735689600
    info.mode = (info.mode | 0o600) & 0o755 if not info.isdir() else 0o755
    return info
