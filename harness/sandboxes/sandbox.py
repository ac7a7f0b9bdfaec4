"""A sandbox of any server that speaks E2B's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import e2b
from e2b import AsyncSandbox, exceptions

from harness.errors import SandboxFault, TaskFault, UsageError
from harness.records.egress import EgressSight
from harness.sandboxes.creating import create, create_error
from harness.sandboxes.egress import ask_proxy
from harness.sandboxes.faults import raising_faults
from harness.sandboxes.layout import HOME, REPO
from harness.sandboxes.owner import process_tag
from harness.sandboxes.platform import Network, Platform
from harness.sandboxes.terminal import Terminal

T = TypeVar("T")

LIFETIME_S = 300
"""The time that a sandbox outlives a harness that vanished. It is extended while the sandbox is needed."""
_CREATE_S = 120.0
"""The most that a sandbox may take to be there: a new one, one that is woken, a copy."""
START_S = 60.0
"""The most that a command or a terminal may take to start."""
_COMMAND_S = 60.0
"""The most that a command may take, unless it is given another time."""
CALL_S = 30.0
_PAUSE_S = 60.0
_TRANSFER_S = 600.0
_IS_RUNNING_S = 5.0
_LATE_S = 15.0
"""The time after a command's own limit in which the server should say that the limit was reached."""
_RETRIES = 3
_RETRY_DELAYS_S = (0.2, 1.0, 3.0)
_SNAPSHOT_S = 1200.0
PROBE_S = 11.0
"""The silence of a stream after which the sandbox is asked whether it is still there.

11 and not 10: commands often take round times, and probes should not fall on the moment when many end.
"""
MAX_READ_BYTES = 64 * 1024 * 1024
"""The most that is read of a file into memory: a sparse file of an agent's has no end."""
MAX_OUTPUT_CHARS = 16 * 1024 * 1024
"""The most that a command may print, since an agent may have a say in it. Ours print far less."""

PLAIN_USER = "user"
"""The account of templates that say nothing else; layout.py has its home."""
_NO_ACCOUNT = 97
_MOVE_HOME = f"""
home=
while IFS=: read -r name _ _ _ _ place _; do [ "$name" != %(user)s ] || {{ home=$place; break; }}; done </etc/passwd
[ -n "$home" ] || exit {_NO_ACCOUNT}
if [ "$home" = %(home)s ] || [ "$(readlink %(home)s)" = "$home" ]; then exit 0; fi
[ -d "$home" ] || {{ mkdir -p "$home" && chown %(user)s "$home"; }} || exit
rm -rf %(home)s && ln -s "$home" %(home)s
"""
RUN_TAG = "harness_run"
TRIAL_TAG = "harness_trial"
OWNER_TAG = "harness_owner"


async def with_retries(doing: str, call: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Do a call that may safely be repeated, again after a fault of the connection, within `seconds` each time.

    Raises:
        SandboxFault: the last of them, or one that another try cannot help.
    """
    for wait in (*_RETRY_DELAYS_S, None):
        try:
            with raising_faults(doing):
                async with asyncio.timeout(seconds):
                    return await call()
        except SandboxFault as fault:
            if wait is None or not fault.retry or fault.policy.is_gone:
                raise
            await asyncio.sleep(wait)
    raise AssertionError("the last try returns or raises")


@dataclass(frozen=True)
class CommandResult:
    """The output and the exit code of a command."""

    stdout: str
    stderr: str
    exit_code: int


class CommandTimeoutError(Exception):
    """The command was stopped: it took longer than it was given, or printed more than it may."""


class TooLargeError(Exception):
    """A file of a sandbox has more bytes than are taken from it."""


def bypass_profile(script: str, env: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Keep the login shell from reading profile files, which the agent may have changed; returns script and variables.

    The platform's shell is a login shell, which reads those of $HOME. One line in them could forge any verdict. So the
    shell gets a home without such files, and the script has the directory that it starts in as its home. A PATH among
    the variables is set by the script, since a login shell makes its own.
    """
    path = f"export PATH={shlex.quote(env['PATH'])}\n" if "PATH" in env else ""
    return f"export HOME=$PWD\n{path}{script}", {**env, "HOME": "/"}


class Sandbox:
    """One running sandbox. `mcp_token` lets one into its MCP gateway; None without one. `is_kept`: nobody ends it.

    `keeps_output`: its server keeps a job's output. `user` is the account that does all that names no other; None: the
    platform's own. Whoever it is, its home is the one of layout.py.
    """

    def __init__(self, sdk: AsyncSandbox, *, keeps_output: bool = False, user: str | None = None) -> None:
        self.sdk = sdk
        self.user = user
        self.keeps_output = keeps_output
        self.mcp_token: str | None = None
        self.is_kept = False
        self.id: str = sdk.sandbox_id

    @classmethod
    async def open(
        cls,
        platform: Platform,
        *,
        template: str,
        env: Mapping[str, str],
        network: Network,
        run: str,
        trial: str,
        tags: Mapping[str, str] = MappingProxyType({}),
        after_rate_limit: bool = False,
        mcp: Mapping[str, Any] | None = None,
        ca: str = "",
        timeout: float = _CREATE_S,
        user: str | None = None,
    ) -> Sandbox:
        """Create a sandbox, tagged with its run and trial so that it can be found again, and with `tags`.

        `after_rate_limit`: the platform has refused this sandbox or another just now (429). Then a further refusal is
        answered as it asks for (Retry-After). Otherwise it is raised at once, so that all others that wait know.

        With `mcp` the sandbox has E2B's MCP gateway, which runs these servers. `ca` is a file with certificates that
        programs in it trust too.

        Raises:
            SandboxFault: when there is none to be had within `timeout` seconds.
        """
        with raising_faults("create a sandbox"):
            try:
                sdk = await create(
                    timeout,
                    template,
                    timeout=LIFETIME_S,
                    metadata={**tags, RUN_TAG: run, TRIAL_TAG: trial, OWNER_TAG: process_tag()},
                    envs=dict(env),
                    **network.options(is_own_server=platform.keeps_output),
                    **({} if mcp is None else {"mcp": mcp}),
                    **{**platform.params_with(ca=ca), "retries": _RETRIES if after_rate_limit else 0},
                )
                made = cls(sdk, keeps_output=platform.keeps_output, user=user)
            except Exception as error:
                fault = create_error(error, template)
                if fault is None:
                    raise
                raise fault from error
        try:
            if mcp is not None:
                with raising_faults("ask for the MCP gateway's token"):
                    made.mcp_token = await sdk.get_mcp_token()
            await made.move_home()
        except BaseException:
            with contextlib.suppress(SandboxFault):
                await asyncio.shield(made.kill())
            raise
        return made

    async def move_home(self) -> None:
        """Make the home of layout.py another name of that of the account which the task names, as the template has it.

        Raises:
            TaskFault: when the template has no such account.
            SandboxFault: when the sandbox does not do it.
        """
        if self.user in (None, PLAIN_USER):
            return
        script = _MOVE_HOME % {"user": shlex.quote(str(self.user)), "home": HOME}
        done = await self.run(script, cwd="/", user="root")
        if done.exit_code == _NO_ACCOUNT:
            remedy = "name one of the template's, or make it there (RUN useradd)"
            raise TaskFault(
                "template_file", f"[sandbox] user: the template has no {self.user}", remedy=remedy
            )
        if done.exit_code:
            raise SandboxFault(
                "seed", f"the home of {self.user} cannot be used: {done.stderr.strip()[-500:]}"
            )

    @classmethod
    async def connect(cls, platform: Platform, sandbox_id: str, user: str | None = None) -> Sandbox:
        """A sandbox that is there already; a paused one is woken.

        Raises:
            UsageError: when it is gone.
            SandboxFault: when it cannot be reached.
        """
        with raising_faults("wake the sandbox"):
            try:
                async with asyncio.timeout(_CREATE_S):
                    sdk = await AsyncSandbox.connect(sandbox_id, timeout=LIFETIME_S, **platform.params)
                    return cls(sdk, keeps_output=platform.keeps_output, user=user)
            except exceptions.NotFoundException as error:
                raise UsageError(
                    f"the sandbox {sandbox_id} is gone", remedy="run the trial again with --keep"
                ) from error

    async def template_id(self) -> str:
        """The id of the template that the platform made it from, whatever it was asked for by."""
        return (await with_retries("ask for the sandbox's template", self.sdk.get_info, CALL_S)).template_id

    async def egress(self) -> EgressSight | None:
        """Return the network use that the proxy outside of the sandbox saw; None where there is none that tells.

        Raises:
            SandboxFault: when it cannot be asked.
        """
        if not self.keeps_output:  # no server of the harness's own
            return None
        config = self.sdk.connection_config
        with raising_faults("ask the sandbox's proxy"):
            return await ask_proxy(config.api_url, config.api_key or "", self.id)

    async def kill(self) -> None:
        """End the sandbox; one that is gone already is fine."""
        await with_retries("kill the sandbox", self.sdk.kill, CALL_S)

    async def pause(self) -> None:
        """Keep it, asleep, until somebody connects to it."""
        with raising_faults("pause the sandbox"):
            async with asyncio.timeout(_PAUSE_S):
                await self.sdk.pause()

    async def resume(self) -> None:
        """Wake it from a pause.

        Raises:
            SandboxFault: when it does not wake.
        """
        with raising_faults("wake the sandbox"):
            async with asyncio.timeout(_CREATE_S):
                await self.sdk.connect(timeout=LIFETIME_S)

    async def create_snapshot(self, name: str) -> str | None:
        """Keep the files as they are now, as something that sandboxes can be opened from; None: the platform cannot.

        Raises:
            SandboxFault: when the sandbox is lost on the way.
        """
        try:
            with raising_faults("take a snapshot"):
                async with asyncio.timeout(_SNAPSHOT_S):
                    made = await self.sdk.create_snapshot(name, request_timeout=_SNAPSHOT_S)
        except SandboxFault as fault:
            if fault.policy.is_gone or fault.fatal:
                raise
            return None
        return made.snapshot_id

    @contextlib.asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """While this is open, the sandbox's lifetime is extended, step by step."""
        task = asyncio.create_task(self._extend())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(LIFETIME_S / 3)
            # A failure here needs no answer: a sandbox that is really gone shows in whatever is done with it next.
            with contextlib.suppress(SandboxFault), raising_faults("extend the sandbox's lifetime"):
                await self.sdk.set_timeout(LIFETIME_S)

    def _place(self, path: str, user: str | None = None) -> tuple[str, Any]:
        """A file's path and the account that reads or writes it. A relative path is below the home of layout.py."""
        if self.user and not user and not path.startswith("/"):
            path = f"{HOME}/{path}"
        return path, user or self.user

    async def write(self, path: str, data: bytes) -> None:
        """Write a file, making its folders. A relative path is below the home."""
        where, user = self._place(path)
        write = functools.partial(self.sdk.files.write, where, data, user=user, use_octet_stream=True)
        await with_retries(f"write {path}", write, _TRANSFER_S)

    async def download(self, path: str, target: Path, limit: int, *, user: str | None = None) -> None:
        """Write a file's content to a file of this machine, piece by piece.

        Raises:
            TooLargeError: when it has more than `limit` bytes.
            SandboxFault: when it cannot be read, or the sandbox is lost.
        """
        with target.open("wb") as file:
            await self._read_pieces(path, file.write, limit, user)

    async def read(self, path: str, limit: int = MAX_READ_BYTES) -> bytes:
        """A file's content, whole. Raises as `download` does."""

        async def read() -> bytes:
            content = bytearray()
            await self._read_pieces(path, content.extend, limit, None)
            return bytes(content)

        return await with_retries(f"read {path}", read, _TRANSFER_S)

    async def _read_pieces(
        self, path: str, take: Callable[[bytes], object], limit: int, user: str | None
    ) -> None:
        size = 0
        where, user = self._place(path, user)
        with raising_faults(f"read {path}"):
            async with asyncio.timeout(_TRANSFER_S):
                async for piece in await self.sdk.files.read(where, format="stream", user=cast(Any, user)):
                    size += len(piece)
                    if size > limit:
                        raise TooLargeError(f"it has more than {limit} bytes")
                    take(piece)

    async def upload(self, path: str, source: Path) -> None:
        """Write a file of this machine into the sandbox. A relative path is below the home."""

        where, user = self._place(path)

        async def write() -> None:
            with source.open("rb") as file:
                await self.sdk.files.write(where, file, user=user, use_octet_stream=True)

        await with_retries(f"write {path}", write, _TRANSFER_S)

    async def run(
        self,
        command: str,
        *,
        timeout: float = _COMMAND_S,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> CommandResult:
        """Run a shell command to its end; a non-zero exit is a result.

        Raises:
            CommandTimeoutError: when it has not ended after `timeout` seconds.
            SandboxFault: when it could not be started, or was lost.
        """
        envs = dict(env or {})
        who = cast(Any, user or self.user)
        with raising_faults("run a command"):
            running = self._run(command, timeout=timeout, cwd=cwd, envs=envs, user=who)
            try:
                # The SDK enforces no limit of its own when the server is silent.
                async with asyncio.timeout(timeout + _LATE_S):
                    done = await self._fail_if_gone(running)
            except e2b.CommandExitException as error:
                return CommandResult(error.stdout or "", error.stderr or "", error.exit_code)
            except exceptions.TimeoutException as error:
                if isinstance(
                    error, exceptions.SandboxNotRunningException | exceptions.SandboxUnreachableException
                ):
                    raise
                raise CommandTimeoutError(f"no end within {timeout:g} s") from error
            return CommandResult(done.stdout, done.stderr, done.exit_code)

    async def _run(self, command: str, **options: Any) -> e2b.CommandResult:
        """Run a command as the SDK does.

        A command that cannot be started raises a SandboxFault. CommandTimeoutError is only for one that has started.
        """
        size, too_much = 0, asyncio.Event()

        def count(text: str) -> None:
            nonlocal size
            size += len(text)
            if size > MAX_OUTPUT_CHARS:
                too_much.set()

        with raising_faults("start a command"):
            # The SDK's own limit for this would cost a task for each command.
            async with asyncio.timeout(START_S):
                handle = await self.sdk.commands.run(
                    command, background=True, request_timeout=0, on_stdout=count, on_stderr=count, **options
                )

        async def end_flood() -> None:
            await too_much.wait()
            await handle.kill()

        # The SDK's time limit cancels the task that has started the command: it has to be the one that waits for it.
        watching = asyncio.create_task(end_flood())
        try:
            done: e2b.CommandResult = await handle.wait()
        except e2b.CommandExitException:
            if not too_much.is_set():
                raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if too_much.is_set():
            raise CommandTimeoutError(f"it printed more than {MAX_OUTPUT_CHARS} characters")
        return done

    async def _fail_if_gone(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for a call, and ask meanwhile if the sandbox is gone, since a lost connection may stay silent for ever.

        Raises:
            SandboxFault: when it is gone.
        """
        calling = asyncio.create_task(call)
        try:
            while not calling.done():
                await asyncio.wait([calling], timeout=PROBE_S)
                if not calling.done() and not await self.is_running() and not calling.done():
                    raise SandboxFault("sandbox_gone", "the sandbox is gone")
            return calling.result()
        finally:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def terminal(
        self, size: tuple[int, int], show: Callable[[bytes], None], kind: str | None = None, cwd: str = REPO
    ) -> AsyncIterator[Terminal]:
        """A login shell in `cwd`, on a terminal of `size` (rows, columns) and `kind` (TERM); `show` gets its output.

        Raises:
            SandboxFault: when there is none to be had.
        """
        with raising_faults("open a terminal"):
            async with asyncio.timeout(START_S):
                handle = await self.sdk.pty.create(
                    e2b.PtySize(rows=size[0], cols=size[1]),
                    on_data=show,
                    cwd=cwd,
                    envs={"TERM": kind or "xterm"},
                    user=cast(Any, self.user),
                    timeout=0,
                )
        try:
            yield Terminal(self.sdk, handle)
        finally:
            with contextlib.suppress(SandboxFault), raising_faults("close the terminal"):
                await handle.kill()

    async def is_running(self) -> bool:
        """True if the sandbox answers. It is asked three times, since one lost answer proves nothing."""
        for wait in (0.2, 1.0, 2.0):
            with contextlib.suppress(SandboxFault), raising_faults("ask whether the sandbox is there"):
                async with asyncio.timeout(_IS_RUNNING_S):
                    return await self.sdk.is_running()
            await asyncio.sleep(wait)
        return False


async def is_answering(platform: Platform) -> bool:
    """True if the platform itself can be reached now, whatever became of a sandbox."""
    with contextlib.suppress(SandboxFault), raising_faults("ask the platform"):
        async with asyncio.timeout(CALL_S):
            await AsyncSandbox.list(limit=1, **platform.params).next_items()
        return True
    return False
