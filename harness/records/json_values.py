"""Values of JSON that somebody else has written: each as what it should be, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

_MAX_SAFE_INT = 2**53


def as_mapping(value: object) -> Mapping[str, Any]:
    """An object; an empty one for anything else."""
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def as_dicts(value: object) -> tuple[Mapping[str, Any], ...]:
    """The objects of a list; none for anything else."""
    return tuple(one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def as_names(value: object) -> tuple[str, ...]:
    """The texts of a list; none for anything else."""
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def as_str(value: object) -> str | None:
    """A text; None for anything else."""
    return value if isinstance(value, str) else None


def as_int(value: object) -> int | None:
    """A whole number that can be true; None for anything else, since an agent can write into its own stream."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _MAX_SAFE_INT else None


def as_count(value: object) -> int:
    """A whole number that can be true; 0 for anything else."""
    return as_int(value) or 0


def as_float(value: object) -> float | None:
    """A number that can be true; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MAX_SAFE_INT else None


def as_bounded(value: object, *, most_chars: int, most_levels: int) -> Any:
    """Any value that a record can hold; None for one that is longer or deeper, or has a number that is none of JSON's.

    A record that is too large is not read, and one that is too deep cannot even be written.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value if len(text) <= most_chars and not _is_deeper(value, most_levels) else None


def _is_deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(one, levels - 1) for one in inner)


_Number = TypeVar("_Number", int, float)


def total_of(values: Iterable[_Number | None]) -> _Number | None:
    """The sum, None when there is nothing to sum or a part is unknown."""
    known = list(values)
    return sum(cast(list[_Number], known)) if known and None not in known else None
