"""Another time of day for checks: a small library that moves the wall clock of the programs that load it."""

from __future__ import annotations

import calendar
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_SOURCE = Path(__file__).parent / "clock.c"
_DAYS = (
    *((2, 29), (12, 31), (1, 1), (3, 31), (4, 30), (5, 10)),
    *((6, 15), (7, 4), (8, 31), (9, 30), (10, 25), (11, 5)),
)
_YEARS = 12
_COMPILERS = ("cc", "gcc", "clang")
_OPTIONS = ("-shared", "-fPIC", "-O1", "-nostdlib", "-ffreestanding", "-fno-builtin")
_READS_CLOCK = re.compile(
    r"\$\(date\b|`date\b|\btime\.time\(|datetime\.(now|today|utcnow)\(|date\.today\("
    r"|Date\.now\(|new Date\(\)|EPOCHSECONDS"
)


def moments_to_try(now: datetime) -> Iterator[tuple[int, datetime]]:
    """Moments of the years to come, and the seconds until then: a leap day, the end of a year and of months, each
    month, each day of the week, other times of day.
    """
    for number, (month, day) in enumerate(_DAYS):
        years = [
            year
            for year in range(now.year + 1, now.year + 1 + _YEARS)
            if (month, day) != (2, 29) or calendar.isleap(year)
        ]
        found = [datetime(year, month, day, 2 * number, 7, tzinfo=UTC) for year in years]
        moment = next((one for one in found if one.weekday() == number % 7), found[0])
        yield round((moment - now).total_seconds()), moment


@functools.cache
def build_clock_library() -> bytes | None:
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
