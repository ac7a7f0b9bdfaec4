"""What a sandbox of the local server costs: its creation, and its memory and disk while nothing is done in it.

    python benchmarks/sandbox_cost.py [--old CHECKOUT] [--rounds 20] [--idle 20]

With `--old`, rounds alternate with the server of another checkout, in its own .venv: the times of one run can be
compared, and no others. Memory is what a sandbox's processes have for themselves; disk, what its state takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from e2b import Sandbox

HERE = Path(__file__).parents[1]


class Server:
    """A server of a checkout's, which ends with its stdin."""

    def __init__(self, checkout: Path) -> None:
        command = [str(checkout / ".venv/bin/python"), "-m", "harness.local", "--port", "0", "--parent-pipe"]
        self.state = tempfile.mkdtemp(prefix="sandbox-cost-", dir="/var/tmp")
        os.chmod(self.state, 0o711)
        command += ["--state", self.state]
        self.process = subprocess.Popen(
            command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        assert self.process.stdout
        ready = json.loads(self.process.stdout.readline())
        self.options = {
            "api_key": ready["api_key"],
            "api_url": ready["url"],
            "sandbox_url": ready["url"],
        }
        self.create_ms: list[float] = []

    def create(self) -> None:
        """Create one, note how long it took, run a command, and kill it."""
        start = time.perf_counter()
        sandbox = Sandbox.create("base", **self.options)
        self.create_ms.append((time.perf_counter() - start) * 1000)
        sandbox.commands.run("true")
        sandbox.kill()

    def idle(self, number: int) -> tuple[float, float]:
        """MiB of memory and disk that each of some idle sandboxes takes."""
        memory, disk = self.measure()
        sandboxes = [Sandbox.create("base", **self.options) for _ in range(number)]
        more_memory, more_disk = self.measure()
        for sandbox in sandboxes:
            sandbox.kill()
        return (more_memory - memory) / number, (more_disk - disk) / number

    def measure(self) -> tuple[float, float]:
        """MiB of the private memory of all processes below the server, and of its state on disk."""
        told = subprocess.run(
            ["ps", "-eo", "pid=,ppid="], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, told.splitlines())}
        below = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in below} - below:
            below |= more
        private = 0
        for pid in below - {self.process.pid}:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                private += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
        used = subprocess.run(["du", "-sk", self.state], stdout=subprocess.PIPE, check=False).stdout
        return private / 1024, int(used.split()[0]) / 1024

    def stop(self) -> None:
        """End it and all it has."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.state, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--idle", type=int, default=20)
    options = parser.parse_args()
    servers = {"here": Server(HERE), **({"old": Server(options.old)} if options.old else {})}
    for _ in range(3 + options.rounds):
        for server in servers.values():
            server.create()
    for name, server in servers.items():
        times = sorted(server.create_ms[3:])  # the first ones warm the caches
        memory, disk = server.idle(options.idle)
        tail = times[int(len(times) * 0.9)]
        print(f"{name}: create p50 {median(times):.1f} ms, p90 {tail:.1f} ms; ", end="")
        print(f"idle {memory:.2f} MiB of memory, {disk:.2f} MiB of disk each")
        server.stop()


if __name__ == "__main__":
    main()
