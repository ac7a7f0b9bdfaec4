"""A sandbox that vanishes while a command says nothing is noticed, without waiting for the command's own limit."""

from __future__ import annotations

import asyncio

import pytest
from support.sandboxes import with_sandbox

from harness import sandbox as room
from harness.errors import SandboxFault
from harness.local.launch import LocalServer
from harness.sandbox import Sandbox


def test_the_limits_add_up() -> None:
    """Silence, and then three questions with their waits: within 30 s."""
    assert room.PROBE_S + 3 * 5 + 0.2 + 1.0 + 2.0 <= 30


def test_a_killed_sandbox_ends_a_silent_command(server: LocalServer) -> None:
    """The command could take ten minutes; the fault comes when the sandbox has gone, and may be retried."""

    async def story(sandbox: Sandbox) -> SandboxFault:
        running = asyncio.create_task(sandbox.run("sleep 600", timeout=600))
        await sandbox.run("true")
        await sandbox.kill()
        with pytest.raises(SandboxFault) as caught:
            await asyncio.wait_for(running, 60)
        return caught.value

    assert with_sandbox(server, story).retry
