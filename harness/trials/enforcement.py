"""The enforcement of the network that trials are given: the server's word, else tried once a run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

from harness.errors import Fault, SandboxFault
from harness.sandboxes.canary import Run, try_network
from harness.sandboxes.platform import Network
from harness.sandboxes.sandbox import Sandbox
from harness.trials.context import RunContext

_COMMAND_S = 30.0


async def network_enforced(context: RunContext, template: str) -> bool | None:
    """True if sandboxes are kept to what they may reach; None where that cannot be told.

    It is tried with sandboxes of its own: a command in the agent's would be seen there.
    """
    if context.platform.enforces is not None:
        return "network" in context.platform.enforces
    return await context.ask_once(context.networks, "", functools.partial(_try, context, template))


async def _try(context: RunContext, template: str) -> bool | None:
    opened = functools.partial(_opened, context, template)
    try:
        return (await try_network(opened, is_here=context.platform.is_here)).answer
    except SandboxFault:
        return None


@contextlib.asynccontextmanager
async def _opened(context: RunContext, template: str, network: Network) -> AsyncIterator[Run]:
    create = functools.partial(_create, context, template, network)

    async def run(command: str) -> str:
        return (await sandbox.run(command, timeout=_COMMAND_S)).stdout

    sandbox = await context.pacer.create(create)
    try:
        yield run
    finally:
        with contextlib.suppress(Fault):
            await asyncio.shield(sandbox.kill())


async def _create(context: RunContext, template: str, network: Network, after_rate_limit: bool) -> Sandbox:
    return await Sandbox.open(
        context.platform,
        template=template,
        env={},
        network=network,
        run=context.folder.id,
        trial="network",
        after_rate_limit=after_rate_limit,
    )
