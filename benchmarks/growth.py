"""Runs of 100, 1,000 and 10,000 stub trials: time and memory a trial must not grow.

    python -m benchmarks.growth [--sizes 100,1000,10000] [--concurrency 100] [--rounds 3] [--pytest]

Each size runs in a process of its own, so that its peak of memory is its own: the engine by itself, or `pytest tasks`
as a whole, whose start counts too (a second, most of a small run's CPU). The sizes take turns, and the medians are
printed: a run of 100 takes a second, in which a machine may be a quarter faster or slower than in the next.
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
from statistics import median
from typing import Any

from benchmarks.stub_run import Measured, run_trials, small_task, stub_server
from harness.store import list_runs, read_records

MEMORY_MB, GROWTH = 700, 1.2


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pytest", action="store_true", help="all of `pytest tasks`, not just the engine")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(_one(asked.one, asked.concurrency)))
        return 0
    run = _pytest if asked.pytest else _apart
    sizes = [int(size) for size in asked.sizes.split(",")]
    rounds = [[run(size, asked.concurrency) for size in sizes] for _ in range(asked.rounds)]
    print(f"{'trials':>8}{'wall ms/trial':>15}{'CPU ms/trial':>14}{'peak MB':>9}{'ratio to first':>16}")
    kept, first = True, median(found[0]["cpu_ms"] for found in rounds)
    for size, found in zip(sizes, zip(*rounds, strict=True), strict=True):
        wall = 1000 * median(one["wall_s"] for one in found) / size
        cpu, peak = median(one["cpu_ms"] for one in found), max(one["peak_mb"] for one in found)
        print(f"{size:8}{wall:15.1f}{cpu:14.1f}{peak:9.0f}{cpu / first:16.2f}")
        kept = kept and peak < MEMORY_MB and cpu <= GROWTH * first
        for one in found:
            if set(one["outcomes"]) != {"passed"}:
                print(f"  not all passed: {one['outcomes']}")
                kept = False
    print(f"limits: {MEMORY_MB} MB, CPU a trial {GROWTH} of the first's: {'kept' if kept else 'NOT KEPT'}")
    return 0 if kept else 1


def _apart(size: int, concurrency: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.growth",
        "--one",
        str(size),
        "--concurrency",
        str(concurrency),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _one(size: int, concurrency: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, stub_server(0) as server:
        measured = run_trials(server, Path(folder), size, concurrency)
    return {**asdict(measured), "cpu_ms": measured.cpu_ms}


def _pytest(size: int, concurrency: int) -> dict[str, Any]:
    options = ["--agent", "oracle", "--trials", str(size), "--concurrency", str(concurrency)]
    command = [sys.executable, "-m", "pytest", "tasks", "-q", "-p", "no:cacheprovider", *options]
    with tempfile.TemporaryDirectory() as folder, stub_server(0) as server:
        small_task(Path(folder, "tasks", "answer"))
        env = {
            **os.environ,
            "E2B_API_KEY": "e2b_stub",
            "E2B_API_URL": server.url,
            "E2B_SANDBOX_URL": server.url,
        }
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
        (run,) = list_runs(Path(folder, "results"))
        outcomes = dict(Counter(str(record.outcome) for record in read_records(run.path).records))
        measured = Measured(size, wall, cpu, used.ru_maxrss / 1024, outcomes, server.saw()["most"])
    return {**asdict(measured), "cpu_ms": measured.cpu_ms}


if __name__ == "__main__":
    sys.exit(main())
