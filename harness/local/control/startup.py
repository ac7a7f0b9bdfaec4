"""A template's start command: run it in a fresh sandbox, and wait until the sandbox is ready."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

from harness.local.boxes.box import Box
from harness.local.boxes.process import BoxProcess
from harness.local.boxes.types import BoxError, ExitStatus

READY_TIMEOUT_S = 300.0
"""E2B's timeout for a template to become ready."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_SLEEP_COMMAND = re.compile(r"\s*sleep\s+[\d.]+\s*")

OnLine = Callable[[str], None]


class StartUpError(Exception):
    """The start command failed, or the sandbox did not become ready."""


async def start_up(box: Box, on_line: OnLine) -> None:
    """Run the template's start command, and return once its ready command succeeds. The start command keeps running.

    `on_line` is called with each line that it prints until then. Raises StartUpError, BoxError.
    """
    start = box.spec.template.start
    if start is None:
        return
    process = await spawn(box, start.command) if start.command else None
    listening = asyncio.create_task(_listen(process, on_line)) if process else None
    output: list[str] = []
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await _wait_until_ready(box, start.ready, process, output)
    except TimeoutError as error:
        message = (
            f"not ready within {READY_TIMEOUT_S:.0f} s: the ready command did not succeed: {start.ready}"
        )
        raise StartUpError(" ".join([message, *output[-3:]])) from error
    finally:
        if listening and process:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
            process.release()


async def spawn(box: Box, command: str) -> BoxProcess:
    """Start a command as the template's user in the template's working directory."""
    template = box.spec.template
    return await box.spawn(["/bin/bash", "-l", "-c", command], user=template.user, cwd=template.workdir)


async def forward_lines(process: BoxProcess, on_line: OnLine) -> None:
    """Call `on_line` with each line that a process prints, until it has ended and all output has been passed on."""
    partial_lines = {"stdout": "", "stderr": "", "pty": ""}
    while (chunk := await process.read()) is not None:
        channel, data = chunk
        text = partial_lines[channel] + data.decode("utf-8", "replace")
        *lines, partial_lines[channel] = text.split("\n")
        for line in lines:
            on_line(line)
    for partial in filter(None, partial_lines.values()):
        on_line(partial)
    process.release()  # daemons that it started may still write


async def _listen(process: BoxProcess, on_line: OnLine) -> None:
    with suppress(BoxError):
        await forward_lines(process, on_line)


async def _wait_until_ready(
    box: Box, ready: str | None, process: BoxProcess | None, output: list[str]
) -> None:
    """Run the ready command until it succeeds. `output` receives the lines of its last attempt."""
    pause = _FIRST_PAUSE_S
    while ready is not None:
        output.clear()
        check = asyncio.create_task(_run_ready_command(box, ready, output.append))
        ended = asyncio.create_task(process.wait()) if process else None
        try:
            # A ready command that only sleeps need not finish if the start command has ended.
            waits_for = {check, ended} if ended and _SLEEP_COMMAND.fullmatch(ready) else {check}
            await asyncio.wait(waits_for, return_when=asyncio.FIRST_COMPLETED)
            if ended and ended.done():
                _check_start_status(ended.result())
                if ended in waits_for:
                    return
            if await check:
                return
        finally:
            check.cancel()
            if ended:
                ended.cancel()
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _check_start_status(status: ExitStatus) -> None:
    if status.exit_code != 0:
        raise StartUpError(f"the start command ended with exit code {status.exit_code}")


async def _run_ready_command(box: Box, command: str, on_line: OnLine) -> bool:
    process = await spawn(box, command)
    await forward_lines(process, on_line)
    return (await process.wait()).exit_code == 0
