"""Sandboxes that outlived their run: found by their tags, and ended."""

from __future__ import annotations

import asyncio

from harness.sandbox import Leftover, Platform, e2b_platform, end_leftover, find_leftovers


def collect_garbage(run: str | None, *, dry_run: bool, in_use: bool = False) -> str:
    """End the sandboxes on E2B that runs (one, or any) have left behind, and say which.

    Those of runs that still go on are left alone, unless `in_use` asks for them too.

    Raises:
        UsageError: without a key for E2B.
        SandboxFault: when E2B cannot be asked.
    """
    platform = e2b_platform()
    return asyncio.run(_collect(run, dry_run=dry_run, in_use=in_use, params=dict(platform.params)))


async def _collect(run: str | None, *, dry_run: bool, in_use: bool, params: dict[str, object]) -> str:
    found = await find_leftovers(run, params)
    left = [leftover for leftover in found if in_use or not leftover.in_use]
    if not dry_run:
        await asyncio.gather(*(end_leftover(leftover, params) for leftover in left))
    lines = [_line(leftover) for leftover in left]
    lines.append(f"{_sandboxes(len(left))} {'would be ended' if dry_run else 'ended'}")
    if len(left) < len(found):
        lines.append(
            f"{_sandboxes(len(found) - len(left))} left alone: the run goes on (--in-use ends these too)"
        )
    return "".join(f"{line}\n" for line in lines)


def _sandboxes(count: int) -> str:
    return f"{count} sandbox{'' if count == 1 else 'es'}"


def _line(leftover: Leftover) -> str:
    return f"{leftover.sandbox_id}  {leftover.state:<8} since {leftover.started_at}  {leftover.run}  {leftover.trial}"


async def sweep(run: str, platform: Platform) -> None:
    """End the running sandboxes of one run, which nobody works in any more; what is kept on purpose is paused.

    Raises:
        SandboxFault: when the platform cannot be asked, or does not end one.
    """
    params = dict(platform.params)
    left = [leftover for leftover in await find_leftovers(run, params) if leftover.state == "running"]
    await asyncio.gather(*(end_leftover(leftover, params) for leftover in left))
