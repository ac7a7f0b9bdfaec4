"""A record that would be too large to be read, cut down: what an agent brings about has no bound of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from harness.text import keep_start

_STEPS = ((1000, 1000), (300, 200), (100, 50))
"""How many entries each list and object keeps, and how many characters each text in one, from step to step."""
_TOP_CHARS = 4000
_OF_THE_TASK = ("asked", "tags", "prices")
"""Lists and objects that no agent has a say in."""
NOTE = "the record was too large to be read: its longest lists and texts are cut"
STEPS = range(len(_STEPS))


def cut_record(record: Mapping[str, Any], step: int) -> dict[str, Any]:
    """A record's line with its lists and texts cut, and a note that says so; each step cuts more than the one before.

    Its outcome, its own numbers and what it is called stay as they are.
    """
    entries, chars = _STEPS[step]
    line = {
        name: value
        if name in _OF_THE_TASK
        else _cut(value, entries, _TOP_CHARS if isinstance(value, str) else chars)
        for name, value in record.items()
    }
    return {**line, "notes": [*line["notes"], NOTE]}


def _cut(value: Any, entries: int, chars: int) -> Any:
    if isinstance(value, str):
        return keep_start(value, chars)
    if isinstance(value, list):
        return [_cut(one, entries, chars) for one in value[:entries]]
    if isinstance(value, dict):
        kept = itertools.islice(value.items(), entries)
        return {keep_start(name, chars): _cut(one, entries, chars) for name, one in kept}
    return value
