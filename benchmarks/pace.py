"""How fast this machine is while something else runs on it.

Machines that others use, too, are up to twice as slow for some seconds or minutes. What is measured then is comparable
by what the same small loop takes meanwhile, again and again, in a process of its own: its CPU time, so that it does not
matter how long it waits for a core.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean

_PAUSE_S = 0.05


class Pace:
    """`loop_ms`: milliseconds of CPU that the loop took on average; known once the measurement is over."""

    loop_ms: float


@contextmanager
def pace() -> Iterator[Pace]:
    """The machine's pace while this is open, which is long enough for the loop to run at least once."""
    found = Pace()
    command = [sys.executable, "-I", "-S", __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield found
        finally:
            process.kill()
            *told, _ = process.stdout.read().split("\n")  # the last line may have been cut off
    found.loop_ms = 1000 * fmean(map(float, told))


def _tell() -> None:
    while True:
        began, value = time.process_time(), 0
        for number in range(30_000):
            value += number * number % 7
        print(time.process_time() - began, flush=True)
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    _tell()
