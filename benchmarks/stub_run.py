"""What the engine's benchmarks share: a stub server in a process of its own, and trials of one small task on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.local.state import spread_inodes
from harness.models.model import NO_MODEL
from harness.records.history import History
from harness.records.record import TrialRecord
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.records.trial_spec import TrialSpec
from harness.runs.budget import Budget
from harness.runs.engine import Engine
from harness.sandboxes.platform import Platform
from harness.sandboxes.templates import Templates
from harness.tasks.gitrepo import Repos
from harness.tasks.loading import load_task
from harness.trials.context import RunContext
from harness.trials.runner import Retries
from harness.variants.variant import Variant
from tests.support.stub_e2b import AGENT

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Server:
    """The stub, as the SDK reaches it."""

    url: str

    @property
    def platform(self) -> Platform:
        return Platform("e2b", {"api_url": self.url, "sandbox_url": self.url, "api_key": "e2b_stub"})

    def saw(self) -> dict[str, int]:
        """How many sandboxes there are, were at once, and were made, and how often somebody asked about one."""
        with urllib.request.urlopen(f"{self.url}/stub") as reply:
            return dict(json.load(reply))


@contextlib.contextmanager
def stub_server(wait_s: float) -> Iterator[Server]:
    """A stub whose agents take so many seconds."""
    command = [sys.executable, "-m", "tests.support.stub_e2b", "--wait", str(wait_s)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield Server(f"http://127.0.0.1:{process.stdout.readline().strip()}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def away_from_removed() -> Iterator[Path]:
    """A folder that goes afterwards, and was laid out where no files were removed lately: see `spread_inodes`."""
    with tempfile.TemporaryDirectory() as parent:
        spread_inodes(Path(parent))
        folder = Path(parent) / "bench"
        folder.mkdir()
        yield folder


def small_task(folder: Path) -> Path:
    """A task with one check and a solution."""
    for name, text in {
        "task.toml": "schema = 1\n",
        "prompt.md": "Write 42 into answer.txt.\n",
        "repo/question.txt": "6 x 7?\n",
        "checks/answer.sh": "#!/bin/sh\ngrep -qx 42 answer.txt\n",
        "solution/answer.txt": "42\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "checks/answer.sh").chmod(0o755)
    return folder


@dataclass(frozen=True)
class Measured:
    """One run of the engine."""

    trials: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    outcomes: dict[str, int]
    most: int

    @property
    def cpu_ms(self) -> float:
        """The harness's CPU milliseconds a trial."""
        return 1000 * self.cpu_s / self.trials


def run_trials(server: Server, folder: Path, trials: int, concurrency: int) -> Measured:
    """Have the engine run trials of one task with the agent `oracle`."""
    task = load_task(small_task(folder / "tasks" / "answer"))
    run = RunFolder.create(folder / "results", f"bench-{trials}", {}, NO_REDACTION)
    templates = Templates(server.platform, run.path / "templates")
    context = RunContext(server.platform, NO_MODEL, run, Repos(run.path / "repos"), templates)
    engine = Engine(context, concurrency=concurrency, retries=Retries(), budget=Budget(None, History()))
    began, cpu = time.monotonic(), _cpu()
    futures = [
        engine.submit(TrialSpec(task, Variant("default"), index, "oracle")) for index in range(1, trials + 1)
    ]
    outcomes: dict[str, int] = {}
    for future in futures:
        record: TrialRecord = future.result()
        key = record.outcome if record.error is None else f"error/{record.error.type}"
        outcomes[key] = outcomes.get(key, 0) + 1
    wall, cpu = time.monotonic() - began, _cpu() - cpu
    engine.finish(0)
    engine.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(trials, wall, cpu, peak, outcomes, server.saw()["most"])


def sdk_loop(server: Server, trials: int, wait_s: float) -> tuple[float, float]:
    """The least that could be: create, one command that waits, kill, on the SDK alone. Wall and CPU seconds."""
    from e2b import AsyncSandbox

    async def one() -> None:
        sandbox = await AsyncSandbox.create("base", **server.platform.params)
        await sandbox.commands.run(f"true # {AGENT}", timeout=wait_s + 60)
        await sandbox.kill()

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(trials)))

    began, cpu = time.monotonic(), _cpu()
    asyncio.run(all_of_them())
    return time.monotonic() - began, _cpu() - cpu


def _cpu() -> float:
    times = os.times()
    return times.user + times.system
