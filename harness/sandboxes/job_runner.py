"""A job in a sandbox, followed: started, picked up again where the connection was lost, and ended."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import e2b

from harness.errors import SandboxFault
from harness.records.events import Lines
from harness.sandboxes.archive import pack, unpack_command
from harness.sandboxes.faults import raising_faults
from harness.sandboxes.job import JOB, Job, Tail
from harness.sandboxes.layout import HOME
from harness.sandboxes.sandbox import (
    CALL_S,
    PROBE_S,
    START_S,
    CommandTimeoutError,
    Sandbox,
    bypass_profile,
    with_retries,
)

MAX_REATTACHES = 5
"""The number of times in a row that a stream is picked up again without a line in between."""
_SHELL_VARIABLES = frozenset({"HOME", "PWD", "OLDPWD", "SHLVL", "_"})


class JobRunner:
    """Runs jobs in a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def login_environment(self) -> dict[str, str]:
        """The variables of a login shell here, for `Job.login_env`; to be taken before an agent has been here.

        Raises:
            SandboxFault: when they cannot be had.
        """
        try:
            result = await self._sandbox.run("env -0 | base64 -w0")
        except CommandTimeoutError as error:
            raise SandboxFault("timeout", f"ask for the login environment: {error}") from error
        pairs = base64.b64decode(result.stdout).decode("utf-8", "replace").split("\0")
        env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        return {name: value for name, value in env.items() if name not in _SHELL_VARIABLES}

    async def start(self, job: Job) -> AsyncGenerator[bytes]:
        """Start a job, and yield its output line by line until it ends.

        The job runs on by itself when the connection is lost, or what follows it in the sandbox is killed; it is picked
        up again after the last whole line.

        Raises:
            SandboxFault: when the sandbox is gone, or cannot be reached again.
        """
        seen, tries, login = 0, 0, job.login_env
        hand_over = await self._hand_over(job)
        script = job.run_script(hand_over) if self._sandbox.keeps_output else job.start_script(hand_over)
        while True:
            # A server that keeps the output tells all of it again.
            lines, skip = Lines(), seen if self._sandbox.keeps_output else 0
            try:
                async for chunk in self._output(script, job, login):
                    for line in lines.feed(chunk):
                        if skip:
                            skip -= 1
                            continue
                        seen, tries = seen + 1, 0
                        yield line
                if not job.is_left:
                    for line in lines.finish():
                        yield line
                    return
                tries += 1
                if tries > MAX_REATTACHES:
                    return
            except SandboxFault as fault:
                tries += 1
                if tries > MAX_REATTACHES or fault.fatal or not await self._sandbox.is_running():
                    raise
                if self._sandbox.keeps_output and job.pid is None:
                    job.pid = await self._find_job(job)
                    if job.pid is None:
                        raise
            await asyncio.sleep(min(0.1 * 2**tries, 5))
            script = job.follow_script(from_line=seen + 1)
            # By now the agent may have written into the start-up files.
            login = login or {}

    async def _find_job(self, job: Job) -> int | None:
        """The process of a job whose start was not confirmed."""
        with contextlib.suppress(SandboxFault), raising_faults("look for the agent"):
            async with asyncio.timeout(CALL_S):
                running = await self._sandbox.sdk.commands.list()
            return next((one.pid for one in running if one.envs.get(JOB) == job.token), None)
        return None

    async def kill(self, job: Job) -> None:
        """End a job. What it started goes with the rest of the agent's processes.

        Raises:
            SandboxFault: when the sandbox is lost.
        """
        if self._sandbox.keeps_output and job.pid is not None:
            await with_retries("end the agent", lambda: self._sandbox.sdk.commands.kill(job.pid or 0), CALL_S)
            return
        script, env = bypass_profile(job.kill_script(), {})
        with contextlib.suppress(CommandTimeoutError):
            await self._sandbox.run(script, timeout=CALL_S, cwd=HOME, env=env)

    async def _hand_over(self, job: Job) -> str:
        """A command that puts a job's files in place, below the home; large ones are written before."""
        if not job.files:
            return "true"
        files = {f"{job.folder}/{name}": data for name, data in job.files.items()}
        command = unpack_command(pack(files, {}))
        if command is None:
            for path, data in files.items():
                await self._sandbox.write(path, data)
        return f"( cd ~ && {command} )" if command else "true"

    async def _output(self, script: str, job: Job, login: Mapping[str, str] | None) -> AsyncGenerator[bytes]:
        """A job's output as it comes; at its end the job knows how it ended."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        stderr = Tail()
        hear: dict[str, Any] = {
            "retain_output": False,
            "on_stdout": lambda text: queue.put_nowait(text.encode("utf-8", "surrogatepass")),
            "on_stderr": stderr.add,
        }
        with raising_faults("follow the agent's output"):
            async with asyncio.timeout(START_S):
                handle = await self._follow(script, job, login, hear)
        waiter = asyncio.ensure_future(_exit_code(handle))
        waiter.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while True:
                try:
                    async with asyncio.timeout(PROBE_S):
                        chunk = await queue.get()
                except TimeoutError:
                    if await self._sandbox.is_running():
                        continue
                    raise SandboxFault("sandbox_gone", "the sandbox is gone") from None
                if chunk is None:
                    break
                yield chunk
            with raising_faults("follow the agent's output"):
                code = await waiter
            if self._sandbox.keeps_output:
                job.exit_code, job.stderr = (code if code >= 0 else None), stderr.text
        finally:
            if not self._sandbox.keeps_output:
                job.take_report(stderr.text)
            waiter.cancel()
            await asyncio.gather(waiter, handle.disconnect(), return_exceptions=True)

    async def _follow(
        self, script: str, job: Job, login: Mapping[str, str] | None, hear: Mapping[str, Any]
    ) -> e2b.AsyncCommandHandle[str | None]:
        handle: e2b.AsyncCommandHandle[str | None]
        if self._sandbox.keeps_output and job.pid is not None:
            handle = await self._sandbox.sdk.commands.connect(job.pid, timeout=0, **hear)
            return handle
        env = {**job.env, **job.marks} if self._sandbox.keeps_output else dict(job.env)
        if login is not None:
            script, env = bypass_profile(script, {**login, **env})
        handle = await self._sandbox.sdk.commands.run(
            script,
            background=True,
            timeout=0,
            cwd=HOME,
            envs=dict(env),
            user=cast(Any, self._sandbox.user),
            **hear,
        )
        if self._sandbox.keeps_output:
            job.pid = handle.pid
        return handle


async def _exit_code(handle: e2b.AsyncCommandHandle[str | None]) -> int:
    """A command's exit code, once it has ended; -1 when it was killed."""
    try:
        return (await handle.wait()).exit_code
    except e2b.CommandExitException as error:
        return error.exit_code
