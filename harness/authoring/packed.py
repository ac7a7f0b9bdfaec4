"""The texts that a file holds in another form: compressed, in an archive, as base64."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_MOST = 8 << 20
"""Bytes that are looked at of one file; what gives a solution away is small."""
_DEEPEST = 3
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/_-]{20,}[ \t\r\n]*)+={0,2}")
_COMPRESSED: Mapping[bytes, Callable[[io.BytesIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    lzma.LZMAError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def unpacked(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """A file's content, and what can be unpacked from it. What is broken is no form of anything."""
    yield content
    if depth < _DEEPEST and len(content) <= _MOST:
        for inner in _inner(content):
            yield from unpacked(inner, depth + 1)


def _inner(content: bytes) -> Iterator[bytes]:
    try:
        for mark, opener in _COMPRESSED.items():
            if content.startswith(mark):
                with opener(io.BytesIO(content)) as file:
                    yield file.read(_MOST)
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for info in archive.infolist():
                    with archive.open(info) as entry:
                        yield entry.read(_MOST)
        elif content[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                files = (tar.extractfile(entry) for entry in tar if entry.isfile())
                yield from (file.read(_MOST) for file in files if file)
    except _BROKEN:
        return
    for found in _BASE64.findall(content):
        try:
            text = b"".join(found.split()).rstrip(b"=")
            yield base64.b64decode(
                text + b"=" * (-len(text) % 4), altchars=b"-_" if b"-" in text or b"_" in text else None
            )
        except binascii.Error:
            continue
