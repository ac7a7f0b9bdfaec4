"""Sandboxes that outlived their run: found by their tags, and ended."""

from __future__ import annotations

import asyncio

from harness.sandbox import Leftover, e2b_platform, end_leftover, find_leftovers


def collect_garbage(run: str | None, *, dry_run: bool) -> str:
    """End all sandboxes on E2B that carry harness's tags (of one run, or of any), and say which.

    Raises:
        UsageError: without a key for E2B.
        SandboxFault: when E2B cannot be asked.
    """
    platform = e2b_platform()
    return asyncio.run(_collect(run, dry_run=dry_run, params=dict(platform.params)))


async def _collect(run: str | None, *, dry_run: bool, params: dict[str, object]) -> str:
    found = await find_leftovers(run, params)
    if not dry_run:
        await asyncio.gather(*(end_leftover(leftover, params) for leftover in found))
    lines = [_line(leftover) for leftover in found]
    what = "would be ended" if dry_run else "ended"
    return "".join(f"{line}\n" for line in [*lines, f"{len(found)} sandboxes {what}"])


def _line(leftover: Leftover) -> str:
    return f"{leftover.sandbox_id}  {leftover.state:<8} since {leftover.started_at}  {leftover.run}  {leftover.trial}"
