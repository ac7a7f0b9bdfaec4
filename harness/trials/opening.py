"""A trial's sandboxes: opened from the template or from the snapshot after setup, and gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Fault
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.cleanup import snapshot_name
from harness.sandboxes.platform import Network
from harness.sandboxes.sandbox import Sandbox
from harness.trials.attempt import Attempt
from harness.trials.context import RunContext
from harness.trials.enforcement import network_enforced
from harness.trials.seeding import seed


@dataclass(frozen=True)
class Start:
    """The template or snapshot from which a trial's sandboxes are opened.

    `is_set_up`: the repo is there, and the task's setup has run. `claude_version`: what the variant asks for.
    """

    template: str
    source: str
    is_set_up: bool = False
    claude_version: str | None = None


async def prepare_start(spec: TrialSpec, context: RunContext, attempt: Attempt) -> Start:
    """Build the template; where the task has a setup, run it once and keep what it made as a snapshot.

    Where the platform takes no snapshots, setup runs in each sandbox.

    Raises:
        Fault: when the template cannot be built, or the setup fails.
    """
    with attempt.phase("build"):
        template = await context.templates.ensure_built(
            spec.template, spec.task.path or Path.cwd(), setup_network(spec).allow, spec.task.sandbox.ca
        )
        if spec.task.has_own_env and spec.task.repo and spec.variant.template is None:
            template, notes = await context.templates.ensure_env(template, spec.task.repo)
            attempt.notes += notes
        version = None
        if spec.variant.claude_version:
            version = await context.templates.claude_version(spec.variant.claude_version)
            template = await context.templates.with_claude(template, version)
        attempt.network_enforced = await network_enforced(context, template)
    attempt.template = template
    if not spec.task.setup:
        return Start(template, template, claude_version=version)
    with attempt.phase("setup"):
        make = functools.partial(_take_snapshot, spec, context, template)
        snapshot = await context.snapshots.get(_snapshot_key(spec, template), make)
    return Start(template, snapshot or template, is_set_up=bool(snapshot), claude_version=version)


def _snapshot_key(spec: TrialSpec, template: str) -> str:
    parts = (spec.task.hash, str(spec.task.repo), template, repr(setup_network(spec)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


async def _take_snapshot(spec: TrialSpec, context: RunContext, template: str) -> str | None:
    start = Start(template, template)
    async with open_sandbox(
        spec, context, start, env=spec.task.sandbox.env, network=setup_network(spec), is_copied=True
    ) as sandbox:
        await context.remember_template_id(template, False, sandbox)
        await seed(sandbox, spec.task)
        return await sandbox.create_snapshot(snapshot_name(context.folder.id, _snapshot_key(spec, template)))


def setup_network(spec: TrialSpec) -> Network:
    """The network of setup and checks: what the task names. No model, and no key for one."""
    wanted = spec.task.sandbox.network
    if wanted == "open":
        return Network(open=True)
    return Network(allow=wanted if isinstance(wanted, tuple) else ())


@contextlib.asynccontextmanager
async def open_sandbox(
    spec: TrialSpec,
    context: RunContext,
    start: Start,
    *,
    env: Mapping[str, str],
    network: Network,
    mcp: Mapping[str, Any] | None = None,
    is_copied: bool = False,
) -> AsyncIterator[Sandbox]:
    """A fresh sandbox of the trial's, kept alive while this is open. It is killed at the end, unless it is kept.

    One that is copied has no bound on its disk: the local server's bounded disks cannot be.
    """
    tags = spec.task.sandbox.bounds(disk=not is_copied)
    create = functools.partial(_create, spec, context, start.source, env, network, mcp, tags)
    sandbox = await context.pacer.create(create)
    try:
        async with sandbox.kept_alive():
            yield sandbox
    finally:
        if not sandbox.is_kept:
            await _remove(sandbox)


async def _create(
    spec: TrialSpec,
    context: RunContext,
    source: str,
    env: Mapping[str, str],
    network: Network,
    mcp: Mapping[str, Any] | None,
    tags: Mapping[str, str],
    after_rate_limit: bool,
) -> Sandbox:
    return await Sandbox.open(
        context.platform,
        template=source,
        env={**env, "HARNESS_TRIAL": process_mark(context.folder.id, spec.id)},
        network=network,
        mcp=mcp,
        ca=spec.task.sandbox.ca,
        run=context.folder.id,
        trial=spec.id,
        tags=tags,
        after_rate_limit=after_rate_limit,
        user=spec.task.sandbox.user,
    )


async def _remove(sandbox: Sandbox) -> None:
    """Kill the sandbox, even when this trial is being cancelled.

    A sandbox that cannot be killed now ends with its lifetime, which nobody extends any more.
    """
    with contextlib.suppress(Fault):
        await asyncio.shield(sandbox.kill())


def process_mark(run_id: str, trial_id: str) -> str:
    """The trial's mark in the environment of its processes, as HARNESS_TRIAL."""
    return f"{run_id}-{trial_id}".replace("[", "-").replace("]", "")
