"""Sandboxes that `--keep` has kept: a shell in one, its checks once more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UsageError
from harness.records.record import CheckResult, TrialRecord
from harness.records.store import RunFolder, find_record, find_run, read_records
from harness.runs.resources import hold_local, lasting_platform, local_platform
from harness.sandboxes.attach import open_shell
from harness.sandboxes.cleanup import kill_orphans
from harness.sandboxes.owner import hold_in_use, is_last_user
from harness.sandboxes.platform import Platform, e2b_platform
from harness.sandboxes.sandbox import Sandbox
from harness.tasks.loading import load_task
from harness.trials.checks import run_checks
from harness.trials.trial import KEPT

T = TypeVar("T")


@dataclass(frozen=True)
class Kept:
    """A trial's sandbox that was kept: where it is, and the folder of its task (None: a Python test's)."""

    trial: str
    platform: Platform
    sandbox_id: str
    task: Path | None


def attach(results: Path, run: str | None, trial: str) -> str:
    """Open a shell in a trial's kept sandbox, and keep it again; returns what is to be said at the end.

    Raises:
        UsageError: when there is no such sandbox, or no terminal here.
        SandboxFault: when the sandbox is lost.
    """
    kept = find_kept(results, run, trial)
    _awake(kept, open_shell)
    return f"{kept.trial}: its sandbox {kept.sandbox_id} is kept on; `harness gc --kept` ends it\n"


def check_again(results: Path, run: str | None, trial: str) -> tuple[str, bool]:
    """Run the checks of a trial's task, as they are now, in its kept sandbox; what they said, and whether all passed.

    Raises:
        UsageError: when there is no such sandbox, or no task any more.
        SandboxFault: when the sandbox is lost.
    """
    kept = find_kept(results, run, trial)
    if kept.task is None:
        raise UsageError(
            f"{kept.trial} is of a Python test, whose checks are run by itself",
            remedy="open a shell with `harness attach`",
        )
    task = load_task(kept.task)

    async def checks(sandbox: Sandbox) -> tuple[CheckResult, ...]:
        return await run_checks(sandbox, task)

    found = _awake(kept, checks)
    passed = sum(check.passed for check in found)
    lines = [line for check in found for line in _lines(check)]
    text = "\n".join([*lines, f"{passed} of {len(found)} checks passed (the record stays as it is)"])
    return f"{text}\n", passed == len(found)


def _lines(check: CheckResult) -> list[str]:
    verdict = "passed" if check.passed else "timed out" if check.timed_out else f"failed ({check.exit_code})"
    return [f"{verdict:<12}{check.name}", *(f"    {line}" for line in check.output_tail.strip().splitlines())]


def sweep(run: str | None, *, kept: bool, dry_run: bool, in_use: bool = False) -> str:
    """End sandboxes that were left behind, on E2B and on this machine, as `kill_orphans` does."""
    server = hold_local()
    try:
        local = local_platform(server) if server else None
        return kill_orphans(run, dry_run=dry_run, in_use=in_use, kept=kept, local=local)
    finally:
        if server:
            server.stop()


def find_kept(results: Path, run: str | None, trial: str) -> Kept:
    """A trial's kept sandbox.

    Raises:
        UsageError: when there is no such trial, or nothing of it was kept.
    """
    folder = find_run(results, run)
    record = find_record(folder, read_records(folder.path).records, trial)
    if not record.kept or record.sandbox_id is None:
        raise UsageError(
            f"no sandbox of {record.trial_id} was kept",
            remedy="run it again with --keep failed or --keep all",
        )
    platform = e2b_platform() if record.sandbox.kind == "e2b" else lasting_platform()
    return Kept(record.trial_id, platform, record.sandbox_id, _task(folder, record))


def _task(folder: RunFolder, record: TrialRecord) -> Path | None:
    file = folder.trial(record.task, record.variant, record.index).path / KEPT
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}", remedy="run the trial again with --keep"
        ) from error
    return Path(about["task"]) if about.get("task") else None


def _awake(kept: Kept, work: Callable[[Sandbox], Awaitable[T]]) -> T:
    """Do something in the sandbox. A signal, such as that of a closed window, does not leave it awake to expire."""

    async def run() -> T:
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        assert this
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, this.cancel)
        async with _resumed(kept) as sandbox:
            return await work(sandbox)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextlib.asynccontextmanager
async def _resumed(kept: Kept) -> AsyncIterator[Sandbox]:
    """The sandbox, awake; asleep again when the last one who is in it leaves, whatever happened."""
    with hold_in_use(kept.sandbox_id) as visit:
        sandbox = await Sandbox.connect(kept.platform, kept.sandbox_id)
        try:
            async with sandbox.kept_alive():
                yield sandbox
        finally:
            if is_last_user(visit):
                await asyncio.shield(sandbox.pause())
