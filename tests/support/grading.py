"""The two sandboxes of a trial by themselves: an agent that is a script, its work, and what grading finds in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from harness.local.launch import LocalServer
from harness.records.trial_spec import TrialSpec
from harness.runs.resources import local_platform
from harness.sandboxes.platform import Network
from harness.sandboxes.sandbox import Sandbox
from harness.tasks.loading import load_task
from harness.tasks.task import Task
from harness.trials.checks import Place
from harness.trials.grading import Grade, lay_work
from harness.trials.seeding import Baseline, seed
from harness.trials.work import Store, Work, collect_work
from harness.variants.variant import DEFAULT
from tests.support.folders import task_folder

T = TypeVar("T")

STARTER = {
    "src/app.py": "print('app')\n",
    "tests/test_app.py": "assert True\n",
    "tests/data/in.txt": "in\n",
    "conftest.py": "# starter\n",
}
PROTECT = 'protect = ["tests/**", "conftest.py", "deep/er/*.txt"]'


def protecting_task(root: Path, toml: str = "", protect: str = PROTECT) -> Task:
    """A task whose repo is STARTER. `protect` stands in `[checks]`, with what else that table is to have."""
    return load_task(task_folder(root, toml=f"[checks]\n{protect}\n{toml}", repo=STARTER))


@contextlib.asynccontextmanager
async def open_fresh(server: LocalServer, mark: str = "mark") -> AsyncIterator[Sandbox]:
    """A fresh sandbox."""
    sandbox = await Sandbox.open(
        local_platform(server),
        template="base",
        env={"HARNESS_TRIAL": mark},
        network=Network(),
        run="run",
        trial="trial",
    )
    try:
        yield sandbox
    finally:
        await sandbox.kill()


@contextlib.asynccontextmanager
async def open_place(server: LocalServer, task: Task, mark: str = "mark") -> AsyncIterator[Place]:
    """A fresh sandbox with the task's starter in it."""
    async with open_fresh(server, mark) as sandbox:
        baseline = (await seed(sandbox, task)).baseline
        yield Place(sandbox, baseline, server.isolation == "namespaces", mark)


def with_place(server: LocalServer, task: Task, do: Callable[[Place], Awaitable[T]]) -> T:
    """Do something in a fresh sandbox with the task's starter in it."""

    async def run() -> T:
        async with open_place(server, task) as place:
            return await do(place)

    return asyncio.run(run())


def store_in(folder: Path) -> Store:
    """Keeps a work's tars in a folder."""

    async def store(name: str, data: bytes) -> Path:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target

    return store


async def work_after(sandbox: Sandbox, task: Task, baseline: Baseline, script: str, folder: Path) -> Work:
    """The work of an agent that ran a script in the repo."""
    done = await sandbox.run(f"cd ~/repo\n{script}", timeout=120)
    assert done.exit_code == 0, done.stderr
    return await collect_work(sandbox, task, baseline, store_in(folder))


def collected(server: LocalServer, task: Task, script: str, folder: Path) -> Work:
    """The work of an agent that ran a script in the repo of a sandbox of its own."""

    async def run(place: Place) -> Work:
        return await work_after(place.sandbox, task, place.baseline, script, folder)

    return with_place(server, task, run)


def laid(server: LocalServer, task: Task, work: Work, look: str = "true") -> tuple[Grade, str]:
    """What grading tells of a work before any check, and what a script in the repo prints then."""

    async def run() -> tuple[Grade, str]:
        async with open_fresh(server) as sandbox:
            _, grade = await lay_work(sandbox, TrialSpec(task, DEFAULT, 1, "oracle"), work)
            done = await sandbox.run(f"cd ~/repo\n{look}")
            assert done.exit_code == 0, done.stderr
            return grade, done.stdout

    return asyncio.run(run())
