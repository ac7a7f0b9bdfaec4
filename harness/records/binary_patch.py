"""New and changed binary files in a git patch. Git packs them, so that a secret in one is not to be seen as text."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator

from harness.records.redaction import Redactor

_START = b"diff --git "
_PACKED = b"\nGIT binary patch\n"
_PIECE_BYTES = 1024 * 1024
_MAX_BYTES = 64 * 1024 * 1024
"""What unpacks to more was made to, and is not kept."""
_NAMES = re.compile(rb"diff --git (?:a/|\"a/)(.*?)\"? (?:b/|\"b/)")


def without_secret_binaries(patch: bytes, redact: Redactor) -> tuple[bytes, tuple[str, ...]]:
    """The patch without the binary files that hold a secret, and a note for each of them."""
    if _PACKED not in patch:
        return patch, ()
    kept, notes = [], []
    for section in re.split(rb"^(?=diff --git )", patch, flags=re.MULTILINE):
        if section.startswith(_START) and _PACKED in section and _holds_secret(section, redact):
            found = _NAMES.match(section)
            name = found[1].decode("utf-8", "replace") if found else "a file"
            notes.append(f"{name} is left out of the diff: it holds a secret of the run")
        else:
            kept.append(section)
    return b"".join(kept), tuple(notes)


def _holds_secret(section: bytes, redact: Redactor) -> bool:
    """True if what is packed in a section holds a secret, or cannot be looked at."""
    lines = section.split(_PACKED, 1)[1].split(b"\n")
    try:
        return any(_is_secret(packed, redact) for packed in _packed(lines))
    except (ValueError, zlib.error):
        return True


def _packed(lines: list[bytes]) -> Iterator[bytes]:
    """The packed bytes of each of git's hunks: the first byte of a line tells its length, the rest is base 85."""
    data = b""
    for line in lines:
        if not line or line.startswith((b"literal ", b"delta ")):
            if data:
                yield data
            data = b""
            continue
        size = line[0] - 64 if line[0] <= ord("Z") else line[0] - 70
        data += base64.b85decode(line[1:])[:size]
    if data:
        yield data


def _is_secret(packed: bytes, redact: Redactor) -> bool:
    unpacker, seen, kept = zlib.decompressobj(), 0, b""
    while packed and not unpacker.eof:
        piece = unpacker.decompress(packed, _PIECE_BYTES)
        packed = unpacker.unconsumed_tail
        seen += len(piece)
        data = kept + piece
        if seen > _MAX_BYTES or redact(data) != data:
            return True
        kept = data[-redact.longest :] if redact.longest else b""
    return False
