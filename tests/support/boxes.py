"""Boxes for tests: stories told in a fresh one, in the tiers that work on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from harness.local.boxes.box import Box
from harness.local.boxes.cgroups import Cgroups
from harness.local.boxes.isolation import Isolation, IsolationError
from harness.local.boxes.process import BoxProcess
from harness.local.boxes.types import BoxSpec, ExitStatus
from harness.local.template import base_template

T = TypeVar("T")

TIMEOUT_S = 90.0
"""No story waits longer than this; it is a bound for what hangs, not a measure of speed."""

TIERS = ("namespaces", "landlock", "unsafe")


@functools.cache
def isolation(tier: str) -> Isolation:
    """The tier, or a skipped test that says why this machine cannot have it."""
    try:
        return Isolation.probe(tier)
    except IsolationError as error:
        pytest.skip(str(error))


def without_cgroups(tier: str) -> Isolation:
    """The tier on a machine where no control group can be written."""
    return replace(isolation(tier), cgroups=Cgroups())


@dataclass(frozen=True)
class Output:
    """What a command left."""

    status: ExitStatus
    stdout: str
    stderr: str

    @property
    def exit_code(self) -> int:
        return self.status.exit_code


async def run(box: Box, command: str, **options: Any) -> Output:
    """Run a command as E2B does, to its end."""
    process = await box.spawn(["/bin/bash", "-l", "-c", command], **options)
    stdout, stderr = await read_all(process)
    return Output(await process.wait(), stdout.decode(), stderr.decode())


async def read_all(process: BoxProcess) -> tuple[bytes, bytes]:
    """Everything that a process says, terminal output as stdout."""
    said = {"stdout": b"", "stderr": b"", "pty": b""}
    while (chunk := await process.read()) is not None:
        said[chunk[0]] += chunk[1]
    return said["stdout"] + said["pty"], said["stderr"]


async def read_until(process: BoxProcess, wanted: bytes) -> bytes:
    """Read until this has been said."""
    said = b""
    while wanted not in said:
        chunk = await process.read()
        assert chunk is not None, f"ended before saying {wanted!r}: {said!r}"
        said += chunk[1]
    return said


@contextlib.contextmanager
def state_folder() -> Iterator[Path]:
    """A folder for boxes' state, which other accounts may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="harness-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def fresh_box(where: Isolation, folder: Path, name: str = "box1", **options: Any) -> AsyncIterator[Box]:
    """A box, destroyed at the end."""
    box = await Box.start(BoxSpec(name, folder / name, **{"template": base_template(), **options}), where)
    try:
        yield box
    finally:
        await box.destroy()


def tell(story: Callable[[Box], Awaitable[T]], where: Isolation, **options: Any) -> T:
    """Run a story in a fresh box."""

    async def main(folder: Path) -> T:
        async with fresh_box(where, folder, **options) as box:
            return await asyncio.wait_for(story(box), TIMEOUT_S)

    with state_folder() as folder:
        return asyncio.run(main(folder))


def tell_in(story: Callable[[Path], Awaitable[T]]) -> T:
    """Run a story that starts its own boxes in a folder."""

    async def main(folder: Path) -> T:
        return await asyncio.wait_for(story(folder), TIMEOUT_S)

    with state_folder() as folder:
        return asyncio.run(main(folder))


def on_disk(box: Box, path: str) -> Path:
    """Where this machine keeps a file that the sandbox has written. Only a test may look."""
    if box.tier == "namespaces":
        return box.spec.state / "upper/root" / path.lstrip("/")
    return Path(box.paths.outside(path))


async def eventually(true: Callable[[], bool]) -> None:
    """Wait until this holds; the test's own patience bounds it."""
    while not true():  # noqa: ASYNC110  # what is waited for is another process's doing
        await asyncio.sleep(0.005)


def marked_processes(mark: str) -> set[int]:
    """This machine's living processes that have a mark among their arguments."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark.encode() in Path("/proc", pid, "cmdline").read_bytes().split(b"\0"):
                found.add(int(pid))
    return found
