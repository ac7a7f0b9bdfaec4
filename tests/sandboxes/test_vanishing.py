"""A sandbox that vanishes or does not answer is at fault itself: no command took too long."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from harness.errors import SandboxFault
from harness.local.launch import LocalServer
from harness.runs.resources import local_platform
from harness.sandboxes import sandbox as room
from harness.sandboxes.platform import Network
from harness.sandboxes.sandbox import Sandbox
from tests.support.chaos_proxy import STALL_S, ChaosProxy
from tests.support.sandboxes import with_sandbox


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


def test_a_command_that_does_not_start_did_not_take_too_long(server: LocalServer) -> None:
    """The platform kept it waiting: that is a fault, and no verdict on what was to be run."""

    async def story() -> SandboxFault:
        sandbox = await Sandbox.open(
            platform, template="base", env={}, network=Network(), run="run", trial="trial"
        )
        with pytest.raises(SandboxFault) as caught:
            await sandbox.run("true # stalled", timeout=STALL_S / 3)
        await sandbox.kill()
        return caught.value

    with ChaosProxy(server.url, ["stall"], only=[b"# stalled"]) as proxy:
        direct = local_platform(server)
        platform = replace(direct, params={**direct.params, "api_url": proxy.url, "sandbox_url": proxy.url})
        fault = asyncio.run(story())
    assert (fault.kind, fault.retry) == ("timeout", True)
