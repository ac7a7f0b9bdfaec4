"""Another time of day for checks: a small library that moves the wall clock of the programs that load it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).parent / "clock.c"
_DAY, _HOUR = 86_400, 3_600
SHIFTS = tuple(
    days * _DAY + round(number * 3.4 * _HOUR) + 7
    for number, days in enumerate((1, 9, 38, 95, 201, 405, 4018), 1)
)
"""Seconds by which the clock is moved: to each day of the week, to other times of day, months, years."""
_COMPILERS = ("cc", "gcc", "clang")
_OPTIONS = ("-shared", "-fPIC", "-O1", "-nostdlib", "-ffreestanding", "-fno-builtin")
_READS_CLOCK = re.compile(
    r"\$\(date\b|`date\b|\btime\.time\(|datetime\.(now|today|utcnow)\(|date\.today\("
    r"|Date\.now\(|new Date\(\)|EPOCHSECONDS"
)


@functools.cache
def library() -> bytes | None:
    """The library for machines like this one; None where there is no compiler for it."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clock.so"
        try:
            subprocess.run(
                [compiler, *_OPTIONS, "-o", target, _SOURCE], check=True, capture_output=True, timeout=60
            )
            return target.read_bytes()
        except (OSError, subprocess.SubprocessError):
            return None


def reads_clock(text: str) -> bool:
    """True for the text of a check that asks what time it is."""
    return _READS_CLOCK.search(text) is not None
