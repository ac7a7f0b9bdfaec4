"""Sandboxes that outlived their run are found by their tags, and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import e2b
from e2b import AsyncSandbox

from harness.errors import SandboxFault
from harness.sandboxes.faults import raising_faults
from harness.sandboxes.owner import is_in_use, is_owner_alive
from harness.sandboxes.platform import Platform, e2b_platform
from harness.sandboxes.sandbox import LIFETIME_S, OWNER_TAG, RUN_TAG, TRIAL_TAG

_RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0)


def kill_orphans(
    run: str | None,
    *,
    dry_run: bool,
    in_use: bool = False,
    kept: bool = False,
    local: Platform | None = None,
    if_none: Exception | None = None,
) -> str:
    """End the sandboxes that runs (one, or any) have left behind, and say which.

    Those of runs that still go on, or that somebody is attached to, are left alone, unless `in_use` asks for them too,
    and so are those that were kept on purpose (which are paused), unless `kept` does. `local` is the server of this
    machine that keeps sandboxes, if there is one; E2B is looked at where there is a key for it. `if_none` is raised
    where nothing is found.

    Raises:
        SandboxFault: when one of them cannot be asked.
    """
    platforms = [local] if local else []
    if os.environ.get("E2B_API_KEY"):
        platforms.append(e2b_platform())
    if not platforms:
        if if_none:
            raise if_none
        return "nothing to look at: E2B_API_KEY is not set, and no server of this machine keeps sandboxes\n"
    spared = {"kept": not kept, "in use": not in_use}
    return asyncio.run(_collect(run, dry_run=dry_run, spared=spared, platforms=platforms, if_none=if_none))


async def _collect(
    run: str | None,
    *,
    dry_run: bool,
    spared: Mapping[str, bool],
    platforms: list[Platform],
    if_none: Exception | None,
) -> str:
    found: list[tuple[OrphanSandbox, Mapping[str, Any]]] = []
    for platform in platforms:
        found += [(orphan, platform.params) for orphan in await list_orphans(run, platform.params)]
    asleep = [orphan for orphan, _ in found if orphan.state == "paused"]
    kept = asleep if spared["kept"] else []
    # No run goes on with a sandbox that it has paused.
    busy = [orphan for orphan, _ in found if spared["in use"] and orphan.in_use and orphan not in asleep]
    left = [(orphan, params) for orphan, params in found if orphan not in kept and orphan not in busy]
    if not dry_run:
        await asyncio.gather(*(kill_orphan(orphan, params) for orphan, params in left))
    snapshots = await _collect_snapshots(run, platforms, {one.run for one in (*kept, *busy)}, dry_run=dry_run)
    if if_none and not found and not snapshots:
        raise if_none
    lines = [_line(orphan) for orphan in (*(orphan for orphan, _ in left), *kept)]
    lines.append(f"{_sandboxes(len(left))} {'would be ended' if dry_run else 'ended'}")
    if snapshots:
        count = f"{snapshots} snapshot{'' if snapshots == 1 else 's'}"
        lines.append(f"{count} {'would be deleted' if dry_run else 'deleted'}")
    if busy:
        lines.append(f"{_sandboxes(len(busy))} left alone: in use (--in-use ends these too)")
    if kept:
        lines.append(f"{_sandboxes(len(kept))} paused and kept on purpose (--kept ends these too)")
    return "".join(f"{line}\n" for line in lines)


async def _collect_snapshots(
    run: str | None, platforms: list[Platform], in_use: set[str], *, dry_run: bool
) -> int:
    """Delete the snapshots of runs (one, or any) of which no sandbox is in use; their number."""
    deleted = 0
    for platform in platforms:
        for snapshot_id, name in await list_snapshots(platform.params):
            owner = name.removeprefix(_SNAPSHOT_PREFIX).rpartition("-")[0]
            if owner in in_use or (run and owner != run):
                continue
            deleted += dry_run or await _delete_snapshot(snapshot_id, platform.params)
    return deleted


def _sandboxes(count: int) -> str:
    return f"{count} sandbox{'' if count == 1 else 'es'}"


def _line(orphan: OrphanSandbox) -> str:
    return f"{orphan.sandbox_id}  {orphan.state:<8} since {orphan.started_at}  {orphan.run}  {orphan.trial}"


async def kill_run_sandboxes(run: str, platform: Platform) -> None:
    """Kill the running sandboxes of a run that has ended. Those that are kept on purpose are paused, or in use.

    Raises:
        SandboxFault: when after several tries the platform cannot be asked, or does not end one.
    """
    params = dict(platform.params)
    for wait in (*_RETRY_DELAYS_S, None):
        try:
            found = await list_orphans(run, params)
            left = [
                orphan for orphan in found if orphan.state == "running" and not is_in_use(orphan.sandbox_id)
            ]
            ended = await asyncio.gather(
                *(kill_orphan(orphan, params) for orphan in left), return_exceptions=True
            )
            for problem in filter(None, ended):
                raise problem
        except SandboxFault as fault:
            if wait is None or not fault.retry:
                raise
            await asyncio.sleep(wait)
        else:
            return


@dataclass(frozen=True)
class OrphanSandbox:
    """A sandbox that carries harness's tags."""

    sandbox_id: str
    state: str
    started_at: str
    run: str
    trial: str
    in_use: bool


def _in_use(info: e2b.SandboxInfo) -> bool:
    """True if the process that opened it lives, or another works in it after that.

    For a sandbox of another machine: if its lifetime was just extended.
    """
    if is_in_use(info.sandbox_id):
        return True
    lives = is_owner_alive((info.metadata or {}).get(OWNER_TAG, ""))
    left = (info.end_at - datetime.now(UTC)).total_seconds()
    return left > LIFETIME_S * 2 / 3 - 10 if lives is None else lives


async def list_orphans(run: str | None, params: Mapping[str, Any]) -> list[OrphanSandbox]:
    """All sandboxes on the platform that harness started, in one run or in any.

    Raises:
        SandboxFault: when the platform cannot be asked.
    """
    found: list[OrphanSandbox] = []
    query = e2b.SandboxQuery(metadata={RUN_TAG: run}) if run else None
    with raising_faults("list sandboxes"):
        pages = AsyncSandbox.list(query=query, **params)
        while pages.has_next:
            for info in await pages.next_items():
                tags = info.metadata or {}
                if RUN_TAG in tags:
                    started = info.started_at.isoformat(timespec="seconds")
                    trial = tags.get(TRIAL_TAG, "")
                    state = str(getattr(info.state, "value", info.state))
                    run_id, in_use = tags[RUN_TAG], _in_use(info)
                    found.append(OrphanSandbox(info.sandbox_id, state, started, run_id, trial, in_use))
    return found


async def kill_orphan(orphan: OrphanSandbox, params: Mapping[str, Any]) -> None:
    """End a sandbox by its id; one that is gone already is fine."""
    with raising_faults(f"end sandbox {orphan.sandbox_id}"):
        await AsyncSandbox.kill(orphan.sandbox_id, **params)


_SNAPSHOT_PREFIX = "harness-"


def snapshot_name(run: str, key: str) -> str:
    """The name of a snapshot that a run takes."""
    return f"{_SNAPSHOT_PREFIX}{run}-{key}"


async def delete_snapshots(run: str, platform: Platform) -> None:
    """Delete the snapshots of a run that has ended. One that a kept sandbox still needs stays, for `harness gc`.

    Raises:
        SandboxFault: when the platform cannot be asked.
    """
    for snapshot_id, name in await list_snapshots(platform.params):
        if name.startswith(snapshot_name(run, "")):
            await _delete_snapshot(snapshot_id, platform.params)


async def _delete_snapshot(snapshot_id: str, params: Mapping[str, Any]) -> bool:
    """Delete a snapshot; False where the platform does not, since a sandbox that was made from it is there."""
    with contextlib.suppress(SandboxFault), raising_faults(f"delete snapshot {snapshot_id}"):
        await AsyncSandbox.delete_snapshot(snapshot_id, **params)
        return True
    return False


async def list_snapshots(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Ids and names of the platform's snapshots that runs have taken.

    Raises:
        SandboxFault: when the platform cannot be asked.
    """
    found: list[tuple[str, str]] = []
    with raising_faults("list snapshots"):
        pages = AsyncSandbox.list_snapshots(**params)
        while pages.has_next:
            for one in await pages.next_items():
                names = [str(name).rpartition("/")[2].partition(":")[0] for name in one.names or ()]
                found += [(one.snapshot_id, name) for name in names if name.startswith(_SNAPSHOT_PREFIX)]
    return found
