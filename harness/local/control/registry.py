"""All sandboxes of a server, and their lifecycle: create, pause, resume, expire, kill.

Only the registry starts and ends boxes. A sandbox that is killed is first removed from the registry and then ended, so
that a client that asks in between is told that it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import shutil
import string
import uuid
from collections import Counter, deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from harness.local import api_errors
from harness.local.api_errors import ApiError
from harness.local.boxes.box import Box
from harness.local.boxes.file_tree import remove_tree
from harness.local.boxes.isolation import Isolation
from harness.local.boxes.types import BoxError, BoxSpec, Usage
from harness.local.control.create_request import CreateRequest
from harness.local.control.startup import StartUpError, start_up
from harness.local.envd.app import Envd
from harness.local.envd.journal import Journal
from harness.local.limits import LOW_DISK, BoxLimits
from harness.local.state import StateDirectory
from harness.local.template import Template

_AUTO_RESUME_SECONDS = 300
"""The shortest lifetime of a sandbox that traffic resumes, as on E2B."""

_METRICS_INTERVAL = 5.0
_DISK_INTERVAL = 1.0
_METRICS_KEPT = 720
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_ID_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class Sample:
    """The resources that a sandbox used at one moment."""

    taken_at: datetime
    usage: Usage


class LocalSandbox:
    """One sandbox. Only the registry changes it."""

    def __init__(self, sandbox_id: str, request: CreateRequest, box: Box) -> None:
        self.id = sandbox_id
        self.request = request
        self.token = secrets.token_hex(32) if request.secure else None
        self.traffic_token = None if request.public_traffic else secrets.token_hex(32)
        """The token that requests to its ports must carry; None if they need none."""
        self.state: Literal["running", "paused"] = "running"
        self.frozen = False
        """True if it is paused with its processes. A sandbox paused without them has no living box, only its files."""
        self.started_at = datetime.now(UTC)
        self.end_at = self.started_at
        self.samples: deque[Sample] = deque(maxlen=_METRICS_KEPT)
        self.journal = Journal()
        self.lock = asyncio.Lock()
        self.expiry: asyncio.TimerHandle | None = None
        self.use_box(box)

    def use_box(self, box: Box) -> None:
        """Use this box from now on."""
        self.box = box
        self.envd = Envd(box, self.token, self.journal)


class Registry:
    """All sandboxes of a server."""

    def __init__(
        self,
        isolation: Isolation,
        state: StateDirectory,
        limits: BoxLimits,
        max_sandboxes: int | None,
        domain: str,
    ) -> None:
        self.max_sandboxes = max_sandboxes
        self.limits = limits
        self.domain = domain
        """`HOST:PORT`: clients reach a sandbox's port N at `N-ID.HOST:PORT`."""
        self._isolation = isolation
        self._state = state
        self._sandboxes: dict[str, LocalSandbox] = {}
        self._created: Counter[str] = Counter()
        self._starting: set[asyncio.Task[Box]] = set()
        self._starting_up: set[asyncio.Task[None]] = set()
        """Tasks that wait until a start command is ready."""
        self._destroying: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._closing = False

    def __iter__(self) -> Iterator[LocalSandbox]:
        return iter(tuple(self._sandboxes.values()))

    def start(self) -> None:
        """Begin to take samples of the resources that sandboxes use, and to end those that are beyond their bounds."""
        self._run_in_background(self._sample_all())
        self._run_in_background(self._watch_disk())

    async def close(self) -> None:
        """Kill every sandbox and remove its files."""
        self._closing = True
        for task in (*self._background, *self._starting_up):
            task.cancel()
        await asyncio.gather(*self._starting_up, return_exceptions=True)
        started = await asyncio.gather(*self._starting, return_exceptions=True)
        for sandbox in self:
            self._destroy_in_background(sandbox.box.destroy())
        for box in started:
            if isinstance(box, Box):
                self._destroy_in_background(box.destroy())
        await asyncio.gather(*self._background, *self._destroying, return_exceptions=True)
        self._sandboxes.clear()

    async def create(self, request: CreateRequest) -> LocalSandbox:
        """Start a sandbox. Raises `ApiError`: 429 at the limit of sandboxes, 500 if it cannot be started."""
        running = sum(sandbox.state == "running" for sandbox in self)
        starting = len(self._starting) + len(self._starting_up)
        if self.max_sandboxes is not None and running + starting >= self.max_sandboxes:
            raise api_errors.too_many_sandboxes(self.max_sandboxes)
        box = await self._start_box(_new_id(), request, request.seed)
        sandbox = LocalSandbox(box.spec.id, request, box)
        await self._start_up(sandbox)
        self._sandboxes[sandbox.id] = sandbox
        self._created[request.template.id] += 1
        self._expire_after(sandbox, request.timeout)
        self._run_in_background(self._watch(sandbox, sandbox.box))
        return sandbox

    def count_created(self, template: Template) -> int:
        """Return the number of sandboxes that were made from a template."""
        return self._created[template.id]

    def find(self, sandbox_id: str) -> LocalSandbox:
        """Return the sandbox with this id, running or paused. Raises `ApiError` 404."""
        # Clients of the first protocol append an id of the machine: `ID-CLIENT`.
        sandbox = self._sandboxes.get(sandbox_id.partition("-")[0])
        if sandbox is None:
            raise api_errors.sandbox_not_found(sandbox_id)
        return sandbox

    def find_running(self, sandbox_id: str) -> LocalSandbox:
        """Return the running sandbox with this id. Raises `ApiError` 404, also for a paused one."""
        sandbox = self.find(sandbox_id)
        if sandbox.state != "running":
            raise api_errors.sandbox_not_found(sandbox_id)
        return sandbox

    async def find_for_traffic(self, sandbox_id: str) -> LocalSandbox:
        """Return the running sandbox that traffic is for. A paused one is resumed if it was created with auto-resume.

        Raises `ApiError` 502, with the wording of E2B's edge, if it is gone or paused.
        """
        try:
            sandbox = self.find(sandbox_id)
            if sandbox.state == "paused" and sandbox.request.auto_resume and sandbox.frozen:
                await self.connect(sandbox_id, max(sandbox.request.timeout, _AUTO_RESUME_SECONDS))
            return self.find_running(sandbox_id)
        except ApiError as error:
            raise api_errors.sandbox_gone(sandbox_id) from error

    async def kill(self, sandbox_id: str) -> None:
        """End a sandbox. All of its processes are dead when this returns. Raises `ApiError` 404."""
        sandbox = self.find(sandbox_id)
        del self._sandboxes[sandbox.id]
        if sandbox.expiry:
            sandbox.expiry.cancel()
        await sandbox.envd.send_waiting()
        sandbox.envd.fail_streams()
        await sandbox.box.kill()
        self._destroy_in_background(sandbox.box.destroy())

    def set_timeout(self, sandbox_id: str, seconds: int) -> None:
        """Set the time that a running sandbox has left, in seconds from now. Raises `ApiError`."""
        self._expire_after(self.find_running(sandbox_id), max(0, seconds))

    async def pause(self, sandbox_id: str, keep_memory: bool) -> None:
        """Freeze a running sandbox with its processes, or end them and keep the files.

        Raises `ApiError`: 404 if it is unknown, 409 if it is paused already.
        """
        sandbox = self.find(sandbox_id)
        async with sandbox.lock:
            if self.find(sandbox_id).state == "paused":
                raise api_errors.conflict(f"Error pausing sandbox - sandbox '{sandbox.id}' is already paused")
            sandbox.state, sandbox.frozen = (
                "paused",
                keep_memory,
            )  # set first, so that nothing new starts in it
            sandbox.envd.fail_streams()
            try:
                await (sandbox.box.freeze() if keep_memory else sandbox.box.kill())
            except (BoxError, OSError) as error:
                sandbox.state, sandbox.frozen = "running", False
                raise ApiError(500, f"Error pausing sandbox: {error}") from error
            if sandbox.expiry:
                sandbox.expiry.cancel()
            sandbox.end_at = datetime.now(UTC)
            sandbox.journal.note("Sandbox paused")

    async def connect(self, sandbox_id: str, seconds: int, keep_memory: bool = True) -> bool:
        """Resume a paused sandbox, or let a running one live for at least `seconds` from now.

        Without `keep_memory` a sandbox that was paused with its processes is started again from its files. Returns
        True if it was paused. Raises `ApiError` 404.
        """
        sandbox = self.find(sandbox_id)
        async with sandbox.lock:
            if self.find(sandbox_id).state == "running":
                if datetime.now(UTC) + timedelta(seconds=seconds) > sandbox.end_at:
                    self._expire_after(sandbox, seconds)
                return False
            await self._resume(sandbox, keep_memory)
            self._expire_after(sandbox, seconds)
            return True

    async def _resume(self, sandbox: LocalSandbox, keep_memory: bool) -> None:
        if sandbox.frozen and keep_memory:
            await sandbox.box.thaw()
        else:
            sandbox.frozen = False
            await sandbox.box.kill()
            box = await self._start_box(sandbox.id, sandbox.request, seed=None)  # with the files that it had
            sandbox.use_box(box)
            if (
                sandbox.id not in self._sandboxes
            ):  # it was killed meanwhile, and only this call knows the new box
                await box.destroy()
                raise api_errors.sandbox_not_found(sandbox.id)
            self._run_in_background(self._watch(sandbox, box))
        sandbox.state, sandbox.frozen = "running", False
        sandbox.journal.note("Sandbox resumed")

    async def update_network(self, sandbox: LocalSandbox, request: CreateRequest) -> None:
        """Apply the network rules of this request to a running sandbox at once. Raises `ApiError` 400."""
        try:
            await sandbox.box.update_network(request.policy)
        except BoxError as error:
            raise api_errors.bad_request(str(error)) from error
        sandbox.request = request

    async def copy_files(self, sandbox: LocalSandbox, to: Path) -> None:
        """Copy the files of a running sandbox, which is frozen meanwhile. Raises `ApiError` 404."""
        async with sandbox.lock:
            try:
                await self.find_running(sandbox.id).box.copy_state(to)
            except OSError as error:
                status = 501 if error.errno == errno.ENOTSUP else 500
                raise ApiError(
                    status, f"Error copying the sandbox's files: {error.strerror or error}"
                ) from error

    async def fork(self, sandbox: LocalSandbox, count: int, seconds: int) -> list[LocalSandbox | ApiError]:
        """Start sandboxes with the files of this one. Returns each, or the error that prevented it."""
        files = self._state.snapshots / f"fork-{secrets.token_hex(8)}"
        try:
            await self.copy_files(sandbox, files)
            request = replace(sandbox.request, seed=files, timeout=seconds)
            return await asyncio.gather(*(self._try_create(request) for _ in range(count)))
        finally:
            await asyncio.to_thread(remove_tree, files)

    async def _try_create(self, request: CreateRequest) -> LocalSandbox | ApiError:
        try:
            return await self.create(request)
        except ApiError as error:
            return error

    async def take_sample(self, sandbox: LocalSandbox) -> None:
        """Add the present resource usage of a running sandbox to its samples."""
        try:
            usage = await sandbox.box.measure_usage()
        except (BoxError, OSError):
            return  # it has just died, or its files changed during the count; the next sample will come
        sandbox.samples.append(Sample(datetime.now(UTC), usage))
        if excess := sandbox.box.exceeds(usage):
            sandbox.journal.note(f"Sandbox ended: {excess}")
            with contextlib.suppress(ApiError):  # it has been killed at this moment
                await self.kill(sandbox.id)

    async def _start_up(self, sandbox: LocalSandbox) -> None:
        """Run the template's start command. The sandbox is destroyed if it does not become ready."""
        if sandbox.request.template.start is None:
            return
        starting_up = asyncio.create_task(self._start_up_or_destroy(sandbox))
        self._starting_up.add(starting_up)
        try:
            await starting_up
        except (StartUpError, BoxError) as error:
            raise ApiError(500, f"Failed to start sandbox: {error}") from error
        finally:
            self._starting_up.discard(starting_up)

    async def _start_up_or_destroy(self, sandbox: LocalSandbox) -> None:
        try:
            await start_up(sandbox.box, sandbox.journal.note)
        except BaseException:
            await sandbox.box.destroy()
            raise

    async def _start_box(self, sandbox_id: str, request: CreateRequest, seed: Path | None) -> Box:
        starting = asyncio.create_task(self._boot(sandbox_id, request, seed))
        self._starting.add(starting)
        try:
            box = await starting
        except BoxError as error:
            raise ApiError(500, f"Failed to start sandbox: {error}") from error
        finally:
            self._starting.discard(starting)
        if self._closing:  # `close` destroys it
            raise ApiError(503, "The server is stopping")
        return box

    async def _boot(self, sandbox_id: str, request: CreateRequest, seed: Path | None) -> Box:
        """Start a box with a boot id of its own, as a machine has. Raises BoxError."""
        boot_id = self._state.path / f"boot-{secrets.token_hex(8)}"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        boot_id.chmod(0o444)
        try:
            return await Box.start(self._spec(sandbox_id, request, seed, boot_id), self._isolation)
        finally:
            boot_id.unlink()  # where it is mounted, it stays

    def _spec(self, sandbox_id: str, request: CreateRequest, seed: Path | None, boot_id: Path) -> BoxSpec:
        binds = MappingProxyType({**request.template.binds, _BOOT_ID: boot_id})
        return BoxSpec(
            id=sandbox_id,
            state=self._state.sandboxes / sandbox_id,
            template=replace(request.template, binds=binds),
            env=request.env,
            network=request.policy,
            ca=request.ca,
            limits=request.limits.within(self.limits),
            seed=seed,
            domain=self.domain,
        )

    def _expire_after(self, sandbox: LocalSandbox, seconds: int) -> None:
        if sandbox.expiry:
            sandbox.expiry.cancel()
        sandbox.end_at = datetime.now(UTC) + timedelta(seconds=seconds)
        loop = asyncio.get_running_loop()
        sandbox.expiry = loop.call_later(seconds, lambda: self._run_in_background(self._expire(sandbox)))

    async def _expire(self, sandbox: LocalSandbox) -> None:
        try:
            if sandbox.request.pause_on_timeout:
                await self.pause(sandbox.id, sandbox.request.keep_memory)
            else:
                await self.kill(sandbox.id)
        except ApiError as error:
            # 404 and 409: a client killed or paused it at the same moment.
            if error.status >= 500 and sandbox.id in self._sandboxes:
                await self.kill(sandbox.id)

    async def _watch(self, sandbox: LocalSandbox, box: Box) -> None:
        """Remove a sandbox when its box dies by itself."""
        await box.wait()
        alive = sandbox.state == "running" or sandbox.frozen
        if sandbox.box is box and alive and self._sandboxes.get(sandbox.id) is sandbox:
            await self.kill(sandbox.id)

    async def _sample_all(self) -> None:
        while True:
            await asyncio.sleep(_METRICS_INTERVAL)
            await self._sample_running()

    async def _watch_disk(self) -> None:
        """Take samples at once while the machine has little room left: a sandbox may take all of it in a moment."""
        while True:
            await asyncio.sleep(_DISK_INTERVAL)
            if shutil.disk_usage(self._state.path).free < LOW_DISK:
                await self._sample_running()

    async def _sample_running(self) -> None:
        for sandbox in self:
            if sandbox.state == "running":
                await self.take_sample(sandbox)

    def _destroy_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Destroy a box in a task that `close` waits for."""
        task = asyncio.create_task(work)
        self._destroying.add(task)
        task.add_done_callback(self._destroying.discard)
        task.add_done_callback(self._on_task_done)

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            asyncio.get_running_loop().call_exception_handler(
                {"message": "work on a sandbox failed", "exception": error, "task": task}
            )


def _new_id() -> str:
    return "i" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(19))
