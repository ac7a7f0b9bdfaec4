"""Sandboxes that `--keep` has kept: open a shell in one, or run its checks again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UsageError
from harness.records.files import file_below, read_bounded
from harness.records.reading import find_record, find_run
from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult
from harness.records.redaction import Redactor
from harness.records.store import RunFolder
from harness.report.sanitize import sanitize
from harness.runs.resources import (
    acquire_shared_server,
    local_platform,
    remove_built_images,
    shared_platform,
)
from harness.runs.secrets import redactor_of_run
from harness.sandboxes.attach import open_shell
from harness.sandboxes.cleanup import kill_orphans
from harness.sandboxes.layout import REPO
from harness.sandboxes.owner import hold_in_use, is_last_user
from harness.sandboxes.platform import Platform, e2b_platform
from harness.sandboxes.sandbox import Sandbox
from harness.tasks.loading import load_tasks
from harness.trials.checks import Place, run_checks
from harness.trials.opening import process_mark
from harness.trials.seeding import take_baseline
from harness.trials.trial import KEPT

T = TypeVar("T")


@dataclass(frozen=True)
class Kept:
    """A trial's sandbox that was kept: where it is, the folder of its task (None: a Python test's) and the task's name,
    and the account and folder in which its agent worked.

    `redact` takes out of what is shown of it what its variant has put into it.
    """

    run: str
    trial: str
    platform: Platform
    sandbox_id: str
    task: Path | None
    name: str
    user: str | None
    folder: str
    redact: Redactor


def attach(results: Path, run: str | None, trial: str) -> str:
    """Open a shell in a trial's kept sandbox, and keep it again; returns the message for its end.

    Raises:
        UsageError: when there is no such sandbox, or no terminal here.
        SandboxFault: when the sandbox is lost.
    """
    kept = find_kept(results, run, trial)
    _use_sandbox(kept, lambda sandbox: open_shell(sandbox, kept.folder))
    return f"{kept.trial}: its sandbox {kept.sandbox_id} is kept on; `harness gc --kept` ends it\n"


def check_again(results: Path, run: str | None, trial: str) -> tuple[str, bool]:
    """Run the checks of a trial's task, as they are now, in its kept sandbox. Those of the session are not asked.

    Returns their results as text, and whether all passed.

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
    task = next((one for one in load_tasks(kept.task) if one.name == kept.name), None)
    if task is None:
        raise UsageError(f"{kept.task} has no task {kept.name} any more", remedy="put its row back")
    asked = [check for check in task.checks if not check.is_of_session]

    async def checks(sandbox: Sandbox) -> tuple[CheckResult, ...]:
        baseline, mark = await take_baseline(sandbox), process_mark(kept.run, kept.trial)
        place = Place(sandbox, baseline, kept.platform.has_own_processes, mark)
        return await run_checks(place, task, asked)

    checked = _use_sandbox(kept, checks)
    passed = sum(check.passed for check in checked)
    lines = [line for check in checked for line in _lines(check, kept.redact)]
    lines += [f"not asked   {check.name}: of the session" for check in task.checks if check.is_of_session]
    text = "\n".join([*lines, f"{passed} of {len(checked)} checks passed (the record stays as it is)"])
    return sanitize(f"{text}\n"), passed == len(checked)


def _lines(check: CheckResult, redact: Redactor) -> list[str]:
    failed = f"failed ({check.tests_passed or check.exit_code})"
    verdict = "passed" if check.passed else "timed out" if check.timed_out else failed
    return [
        f"{verdict:<11} {check.name}",
        *(f"    {line}" for line in redact.text(check.output_tail).strip().splitlines()),
    ]


def sweep(
    run: str | None, *, kept: bool, dry_run: bool, in_use: bool = False, if_none: Exception | None = None
) -> str:
    """Kill sandboxes that were left behind, on E2B and on this machine, as `kill_orphans` does."""
    server = acquire_shared_server()
    try:
        local = local_platform(server) if server else None
        return kill_orphans(run, dry_run=dry_run, in_use=in_use, kept=kept, local=local, if_none=if_none)
    finally:
        if server:
            server.stop()


def remove_images() -> str:
    """Remove what servers on this machine have unpacked and built.

    Raises:
        UsageError: while one of them runs.
    """
    removed = remove_built_images()
    return "".join(f"removed {path}\n" for path in removed) or "there are none\n"


def find_kept(results: Path, run: str | None, trial: str) -> Kept:
    """A trial's kept sandbox.

    Raises:
        UsageError: when there is no such trial, or nothing of it was kept.
    """
    folder = find_run(results, run)
    record = find_record(folder, trial)
    if not record.kept or record.sandbox_id is None:
        raise UsageError(
            f"no sandbox of {record.trial_id} was kept",
            remedy="run it again with --keep failed or --keep all",
        )
    platform = e2b_platform() if record.sandbox.kind == "e2b" else shared_platform()
    about = _about(folder, record)
    return Kept(
        folder.id,
        record.trial_id,
        platform,
        record.sandbox_id,
        Path(about["task"]) if about.get("task") else None,
        record.task,
        about.get("user"),
        about.get("folder") or REPO,
        redactor_of_run(os.environ, folder),
    )


def _about(folder: RunFolder, record: TrialRecord) -> Mapping[str, Any]:
    file = file_below(
        folder.path, f"{folder.trial(record.task, record.variant, record.index).relative}/{KEPT}"
    )
    try:
        about = json.loads(read_bounded(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}", remedy="run the trial again with --keep"
        ) from error
    return (
        {key: value for key, value in about.items() if isinstance(value, str)}
        if isinstance(about, dict)
        else {}
    )


def _use_sandbox(kept: Kept, work: Callable[[Sandbox], Awaitable[T]]) -> T:
    """Do something in the sandbox. It is paused again also after a signal, such as that of a closed window."""

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
    """Resume the sandbox, and pause it again when its last user leaves, whatever happened."""
    with hold_in_use(kept.sandbox_id) as use:
        sandbox = await Sandbox.connect(kept.platform, kept.sandbox_id, kept.user)
        try:
            async with sandbox.kept_alive():
                yield sandbox
        finally:
            if is_last_user(use):
                await asyncio.shield(sandbox.pause())
