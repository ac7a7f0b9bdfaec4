"""Sandboxes of the suite's own server, for tests that are not async."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from harness.local.launch import LocalServer
from harness.runs.resources import local_platform
from harness.sandboxes.platform import Network
from harness.sandboxes.sandbox import Sandbox

T = TypeVar("T")


def with_sandbox(server: LocalServer, work: Callable[[Sandbox], Awaitable[T]]) -> T:
    """Do something in a fresh sandbox."""

    async def run() -> T:
        sandbox = await Sandbox.open(
            local_platform(server), template="base", env={}, network=Network(), run="run", trial="trial"
        )
        try:
            return await work(sandbox)
        finally:
            await sandbox.kill()

    return asyncio.run(run())


async def bash(sandbox: Sandbox, script: str) -> str:
    """What a script prints that is run in the repo, and must succeed."""
    done = await sandbox.run(f"cd ~/repo\n{script}")
    assert done.exit_code == 0, done.stderr
    return done.stdout
