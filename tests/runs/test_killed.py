"""A harness that is killed in the middle: what was finished is there, whole, and nothing of it runs on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from harness.sandboxes.cleanup import kill_orphans
from tests.support.folders import task_folder

MARK = f"hangs-for-{os.getpid()}"
HANGS = {"hangs.sh": f"#!/bin/bash\nexec -a {MARK} tail -f /dev/null\n"}


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    """Return as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


@contextmanager
def harness_in_the_middle(root: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run of which two trials have ended, and two others hang in a check."""
    tasks = root / "tasks"
    for name in ("a-done", "b-done"):
        task_folder(tasks, name)
    for name in ("c-hangs", "d-hangs"):
        task_folder(tasks, name, checks=HANGS)
    command = [sys.executable, "-m", "pytest", "tasks", "--agent", "oracle", "--concurrency", "4", *options]
    environ = {**os.environ, "TMPDIR": str(root)}
    with subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: records_of(root) == 2 and hanging() == 2, 90)
            yield process
        finally:
            process.kill()


def records_of(root: Path) -> int:
    """How many whole records the only run has; no line may be anything else."""
    runs = list_runs(root / "results")
    if not runs or not runs[0].records_file.is_file():
        return 0
    found = read_records(runs[0].path)
    assert not found.bad
    return len(found.records)


def hanging() -> int:
    """How many checks of such runs hang in their sandboxes."""
    return sum(told.startswith(MARK.encode()) for told in map(command_of, Path("/proc").glob("[0-9]*")))


def command_of(process: Path) -> bytes:
    """A process's command line; empty when it has just gone."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def what_is_left(root: Path, server: int) -> list[str]:
    """Processes that were started for the run, files of its server, mounts and control groups."""
    left = [str(path) for path in root.glob("harness-local-*/server-*")]
    left += [line for line in Path("/proc/mounts").read_text().splitlines() if str(root) in line]
    left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/harness-{server}-*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(root).encode() in told:
            left.append(f"{process.name}: {told!r}")
    return left


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as the sandboxes' own must be able to."""
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_nothing_of_a_killed_run_is_left_on_this_machine(open_folder: Path) -> None:
    """Every finished trial is in the file, whole; sandboxes, processes, mounts and folders go by themselves."""
    with harness_in_the_middle(open_folder, "--sandbox", "local") as process:
        (server,) = children(process.pid)
        assert what_is_left(open_folder, server)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not what_is_left(open_folder, server), 60)

    (run,) = list_runs(open_folder / "results")
    records = read_records(run.path)
    assert {record.task: record.outcome for record in records.records} == {
        "a-done": "passed",
        "b-done": "passed",
    }
    assert not records.bad


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]


def test_what_a_killed_run_has_left_on_e2b_is_collected(open_folder: Path, as_e2b: LocalServer) -> None:
    """Its sandboxes are found by their tags and ended; while the run lived they were left alone."""
    with harness_in_the_middle(open_folder, "--sandbox", "e2b") as process:
        (run,) = list_runs(open_folder / "results")
        said = kill_orphans(run.id, dry_run=False)
        assert said == ("0 sandboxes ended\n2 sandboxes left alone: in use (--in-use ends these too)\n")
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert kill_orphans(run.id, dry_run=False).splitlines()[-1] == "2 sandboxes ended"
    assert kill_orphans(run.id, dry_run=True) == "0 sandboxes would be ended\n"
