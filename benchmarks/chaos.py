"""Trials with every fifth call faulty, killed (-9) three times and resumed: one final record each, no sandbox left.

    python -m benchmarks.chaos [--trials 500] [--faulty 0.2]

`pytest tasks` in a process of its own, against the stub server behind a proxy that breaks calls at random.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stub_run import small_task, stub_server
from harness.records.reading import list_runs, read_records
from tests.support.chaos_proxy import FAULTS, ChaosProxy, Fault

KILLS = 3


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--faulty", type=float, default=0.2)
    parser.add_argument("--concurrency", type=int, default=50)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, stub_server(0.5) as server:
        folder = Path(name)
        small_task(folder / "tasks" / "answer")
        with ChaosProxy(server.url, _faults(asked.faulty)) as proxy:
            for kill in range(1, KILLS + 1):
                _run(folder, proxy.url, asked, until=asked.trials * kill // (KILLS + 1), resume=kill > 1)
            code = _run(folder, proxy.url, asked, until=None, resume=True)
        (run,) = list_runs(folder / "results")
        found = read_records(run.path)
        left, made = server.saw()["now"], server.saw()["made"]
    outcomes = Counter(
        record.outcome if record.error is None else record.error.type for record in found.records
    )
    calls, broken = sum(proxy.met.values()), sum(proxy.met.values()) - proxy.met["pass"]
    print(
        f"{calls} calls, {broken} of them faulty ({broken / calls:.0%}); {KILLS} kills; {made} sandboxes made"
    )
    print(
        f"final records {len(found.records)} of {asked.trials}, ratio {len(found.records) / asked.trials:.3f}"
    )
    print(f"outcomes {dict(outcomes)}; unreadable lines {len(found.bad)}; pytest's last exit code {code}")
    print(f"sandboxes left {left}; {time.monotonic() - began:.0f} s")
    return 0 if len(found.records) == asked.trials and left == 0 and not found.bad else 1


def _faults(rate: float) -> Iterator[Fault]:
    draw = random.Random(1)
    kinds = [fault for fault in FAULTS if fault not in ("pass", "stall")]
    while True:
        yield draw.choice(kinds) if draw.random() < rate else "pass"


def _run(folder: Path, url: str, asked: argparse.Namespace, *, until: int | None, resume: bool) -> int:
    """Run pytest to its end, or until so many trials have a record; then it is killed."""
    env = {**os.environ, "E2B_API_KEY": "e2b_stub", "E2B_API_URL": url, "E2B_SANDBOX_URL": url}
    options = ["--agent", "oracle", "--trials", str(asked.trials), "--concurrency", str(asked.concurrency)]
    command = [sys.executable, "-m", "pytest", "tasks", "-q", "-p", "no:cacheprovider", *options]
    process = subprocess.Popen(
        [*command, *(["--resume"] if resume else [])],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and (until is None or _records(folder) < until):
        time.sleep(0.05)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    return process.wait()


def _records(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in (folder / "results").glob("*/records.jsonl"))


if __name__ == "__main__":
    sys.exit(main())
