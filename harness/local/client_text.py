"""Texts of clients that are measured before they are parsed, since they could be made to harm the parser.

JSON parsers recurse. The one of the RPC library has no limit, and a text of a few kilobytes ends the process by its
depth. Python's own refuses numbers of more than 4300 digits with an error that other numbers do not cause.
"""

from __future__ import annotations

import re

MAX_DEPTH = 64
"""Far more than any valid request has."""

_MOST_DIGITS = 18
_OPENING = (b"[", b"{")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def nests_too_deeply(data: bytes | bytearray) -> bool:
    """True if arrays and objects are nested more than MAX_DEPTH deep. The text need not be valid JSON."""
    if sum(map(data.count, _OPENING)) <= MAX_DEPTH:
        return False
    depth = 0
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token in _OPENING:
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token in (b"]", b"}"):
            depth -= 1
    return False


def parse_count(digits: str) -> int:
    """Parse decimal digits. What is larger than any size or time becomes 10 ** 18."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _MOST_DIGITS else 10**_MOST_DIGITS
