"""Text that is too long for its place. What is cut says so, and the redactor looks at its edge."""

from __future__ import annotations

CUT_BEFORE = "[what came before is cut] "
CUT_AFTER = " [what comes after is cut]"


def keep_end(text: str, limit: int) -> str:
    """The last `limit` characters of a text; a mark stands where what came before is cut."""
    return text if len(text) <= limit else CUT_BEFORE + text[-limit:]


def keep_start(text: str, limit: int) -> str:
    """The first `limit` characters of a text; a mark stands where what comes after is cut."""
    return text if len(text) <= limit else text[:limit] + CUT_AFTER


def decode_end(data: bytes, limit: int) -> str:
    """The text of the last `limit` bytes; more than that many mean that what came before is cut, between characters."""
    if len(data) <= limit:
        return data.decode("utf-8", "replace")
    start = len(data) - limit
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return CUT_BEFORE + data[start:].decode("utf-8", "replace")
