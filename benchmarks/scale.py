"""Many trials in flight in one process: wall time against the ideal, memory, and CPU a trial.

    python -m benchmarks.scale [--trials 1000] [--wait 30]

Side by side with a loop on the SDK alone that creates a sandbox, runs one command and kills it. The ideal wall time
is the wait of one trial, since all are in flight at once. The stub server runs in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import sys

from benchmarks.stub_run import away_from_removed, run_trials, sdk_loop, stub_server

WALL_RATIO, MEMORY_MB, CPU_MS = 1.15, 600, 25


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--wait", type=float, default=30.0)
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with away_from_removed() as folder:
        with stub_server(asked.wait) as server:
            own = run_trials(server, folder, asked.trials, asked.trials)
        with stub_server(asked.wait) as server:
            wall, cpu = sdk_loop(server, asked.trials, asked.wait)
    ideal, loop = own.wall_s / asked.wait, wall / asked.wait
    sdk_ms = 1000 * cpu / own.trials
    print(f"{own.trials} trials, {own.most} sandboxes at once, {own.outcomes}")
    print(f"{'':12}{'harness':>10}{'SDK loop':>10}{'ratio':>8}{'limit':>8}")
    print(f"{'wall/ideal':12}{ideal:10.3f}{loop:10.3f}{own.wall_s / wall:8.2f}{WALL_RATIO:8}")
    print(f"{'CPU ms/trial':12}{own.cpu_ms:10.1f}{sdk_ms:10.1f}{own.cpu_ms / sdk_ms:8.2f}{CPU_MS:8}")
    print(f"{'peak MB':12}{own.peak_mb:10.0f}{'':18}{MEMORY_MB:8}")
    kept = ideal <= WALL_RATIO and own.cpu_ms < CPU_MS and own.peak_mb < MEMORY_MB
    return 0 if kept and own.outcomes == {"passed": own.trials} else 1


if __name__ == "__main__":
    sys.exit(main())
