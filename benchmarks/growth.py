"""Runs of 100, 1,000 and 10,000 stub trials: time and memory a trial must not grow.

    python -m benchmarks.growth [--sizes 100,1000,10000] [--concurrency 100] [--rounds 3] [--pytest]

Each size runs in a process of its own, so that its peak of memory is its own: the engine by itself, or `pytest tasks`
as a whole, whose start counts too (a second, most of a small run's CPU). The sizes take turns, small ones as often in
each round as makes 1,000 trials, and the rounds' medians are printed. A run of 100 takes a second, in which a machine
may be a third faster or slower than in the next: the ratio is that of CPU times at the same pace (see pace.py). All
files stay until the end: file systems without a journal make new ones slowly for minutes after many were removed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.pace import Pace, pace
from benchmarks.stub_run import Measured, away_from_removed, run_trials, small_task, stub_server
from harness.records.reading import list_runs, read_records

MEMORY_MB, GROWTH = 700, 1.2
ROUND = 1_000


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pytest", action="store_true", help="all of `pytest tasks`, not just the engine")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(_one(asked.one, asked.concurrency, asked.place)))
        return 0
    run = _pytest if asked.pytest else _apart
    sizes = [int(size) for size in asked.sizes.split(",")]
    with away_from_removed() as place:
        rounds = [
            [
                [run(size, asked.concurrency, str(place)) for _ in range(max(1, ROUND // size))]
                for size in sizes
            ]
            for _ in range(asked.rounds)
        ]
    print(f"{'trials':>8}{'wall ms/trial':>15}{'CPU ms/trial':>14}{'peak MB':>9}{'ratio to first':>16}")
    kept, first = True, 0.0
    for size, found in zip(sizes, zip(*rounds, strict=True), strict=True):
        wall, cpu, paced = (
            median(fmean(one[name] for one in runs) for runs in found)
            for name in ("wall_s", "cpu_ms", "paced")
        )
        peak = max(one["peak_mb"] for runs in found for one in runs)
        first = first or paced
        print(f"{size:8}{1000 * wall / size:15.1f}{cpu:14.1f}{peak:9.0f}{paced / first:16.2f}")
        kept = kept and peak < MEMORY_MB and paced <= GROWTH * first
        for one in (one for runs in found for one in runs):
            if set(one["outcomes"]) != {"passed"}:
                print(f"  not all passed: {one['outcomes']}")
                kept = False
    print(f"limits: {MEMORY_MB} MB, CPU a trial {GROWTH} of the first's: {'kept' if kept else 'NOT KEPT'}")
    return 0 if kept else 1


def _apart(size: int, concurrency: int, place: str) -> dict[str, Any]:
    options = ["--one", str(size), "--concurrency", str(concurrency), "--place", place]
    command = [sys.executable, "-m", "benchmarks.growth", *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _one(size: int, concurrency: int, place: Path) -> dict[str, Any]:
    with stub_server(0) as server, pace() as meanwhile:
        measured = run_trials(server, Path(tempfile.mkdtemp(dir=place)), size, concurrency)
    return _told(measured, meanwhile)


def _told(measured: Measured, meanwhile: Pace) -> dict[str, Any]:
    """`paced`: the CPU time of a trial in loops that the machine does in it."""
    return {**asdict(measured), "cpu_ms": measured.cpu_ms, "paced": measured.cpu_ms / meanwhile.loop_ms}


def _pytest(size: int, concurrency: int, place: str) -> dict[str, Any]:
    options = ["--agent", "oracle", "--trials", str(size), "--concurrency", str(concurrency)]
    command = [sys.executable, "-m", "pytest", "tasks", "-q", "-p", "no:cacheprovider", *options]
    with stub_server(0) as server:
        folder = Path(tempfile.mkdtemp(dir=place))
        small_task(folder / "tasks" / "answer")
        env = {
            **os.environ,
            "E2B_API_KEY": "e2b_stub",
            "E2B_API_URL": server.url,
            "E2B_SANDBOX_URL": server.url,
        }
        began = time.monotonic()
        with pace() as meanwhile:
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
        (run,) = list_runs(folder / "results")
        outcomes = dict(Counter(str(record.outcome) for record in read_records(run.path).records))
        measured = Measured(size, wall, cpu, used.ru_maxrss / 1024, outcomes, server.saw()["most"])
    return _told(measured, meanwhile)


if __name__ == "__main__":
    sys.exit(main())
