"""One sandbox on this machine, as the server sees it.

`Box.start` starts a guest (guest/) inside the isolation, and everything else is a request to that guest. It starts
processes, and it opens files and passes their descriptors to the server.

Paths given to and returned by a Box are the sandbox's own and absolute: `/home/user` is the home of `user`, and `/root`
that of `root`. In tiers that cannot mount (see isolation.py) processes see other paths for these. Box translates them
for file calls, for `cwd` and for HOME by `Box.paths`.
In those tiers both users run under the sandbox's one account, and differ only in HOME and USER.
"""

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from socket import AF_UNIX, SO_ACCEPTCONN, SO_ERROR, SO_PASSCRED, SOCK_STREAM, SOL_SOCKET, socket, socketpair
from typing import Any

from harness.local.boxes import low_ports
from harness.local.boxes.accounts import NoAccount
from harness.local.boxes.base import TEXTS
from harness.local.boxes.descriptors import wait_until_ready
from harness.local.boxes.file_tree import remove_tree
from harness.local.boxes.files import BoxFiles
from harness.local.boxes.guest_client import GuestClient, GuestRefused
from harness.local.boxes.guest_launch import SEARCH_PATH, LaunchedGuest, LaunchSpec, setup_request
from harness.local.boxes.held import measure_held
from harness.local.boxes.isolation import Isolation
from harness.local.boxes.namespaces import measure_written
from harness.local.boxes.process import BoxProcess
from harness.local.boxes.procfs import find_descendants, mark_env
from harness.local.boxes.types import (
    BadDirectory,
    BadProgram,
    BoxDied,
    BoxError,
    BoxSpec,
    BoxStartError,
    ExitStatus,
    OutputName,
    UnknownUser,
    Usage,
)
from harness.local.limits import LOW_DISK
from harness.local.network.authority import BUNDLE
from harness.local.network.egress import Egress, LoopbackAlias
from harness.local.network.policy import NetworkPolicy
from harness.local.shared_files import share_distributions

HOMES: Mapping[str, str] = {"user": "/home/user", "root": "/root"}
_FEW_USERS = "others need a server of root's, or of a user with a range in /etc/subuid (package uidmap)"
START_TIMEOUT_S = 30.0
APT_PROXY = "/etc/apt/apt.conf.d/95harness"
GATEWAY_PORT = 50005
"""The port at which the SDK expects a sandbox's MCP gateway."""


class Box:
    """One live sandbox.

    Start it from a thread that lives as long as the sandbox should: the kernel ends a sandbox with the thread that
    started it.
    """

    def __init__(
        self, spec: BoxSpec, isolation: Isolation, guest: LaunchedGuest, account: int, control: socket
    ) -> None:
        self.spec = spec
        self.isolation = isolation
        self.account = account
        """The uid on this machine of the sandbox's root, or of everything in it where accounts are one."""
        self.tier = isolation.tier
        self.paths = guest.paths
        self.has_accounts = guest.has_accounts
        """True if `user` and `root` are two accounts."""
        self._homes = dict(HOMES)
        self._launched = guest
        self._loop = asyncio.get_running_loop()
        self._processes: dict[int, BoxProcess] = {}
        self._unread: list[BoxProcess] = []
        self._cgroup = isolation.cgroups.new_group()
        self._egress = Egress(self._listen, spec.ca)
        self._alias = _make_gateway_alias(spec)
        self._cpu = (time.monotonic(), 0.0)
        self._dead: asyncio.Future[None] = self._loop.create_future()
        self._launcher_pidfd = guest.process.open_pidfd()
        self._guest_pidfd: int | None = None
        self._launcher_output = ""
        self._loop.add_reader(self._launcher_pidfd, self._on_launcher_exit)
        self._client = GuestClient(control, self._on_event)
        self.files = BoxFiles(self._client, guest.paths, None if guest.has_accounts else account)

    @classmethod
    async def start(cls, spec: BoxSpec, isolation: Isolation) -> "Box":
        """Start a sandbox with the files in `spec.state`, or with those of `spec.seed` if it has none.

        Raises BoxStartError with the launcher's error output.
        """
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        ours.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)  # before the guest speaks for the first time
        try:
            with theirs:
                launch_spec = await _prepare_launch(spec, isolation)
                guest = await asyncio.to_thread(isolation.launch, launch_spec, theirs)
        except (OSError, NoAccount) as error:
            ours.close()
            raise BoxStartError(f"the sandbox could not be started: {error}") from error
        box = cls(spec, isolation, guest, launch_spec.account, ours)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await box._set_up()
        except (BoxDied, OSError, TimeoutError) as error:
            await box.kill()
            raise BoxStartError(f"the sandbox did not start: {box._launcher_output or error}") from error
        except BaseException:
            await box.kill()
            raise
        return box

    async def _set_up(self) -> None:
        limits = [(resource.RLIMIT_CORE, 0, 0)]
        bounds = self.spec.limits
        if self.tier == "namespaces":  # the launcher has bounded them
            bounds = dataclasses.replace(bounds, pids=None)
        elif bounds.pids is not None and self.account != os.geteuid():
            # the kernel counts this sandbox's processes separately, so the control group need not
            limits.append((resource.RLIMIT_NPROC, bounds.pids, bounds.pids))
            bounds = dataclasses.replace(bounds, pids=None)
        await self._client.request("setup", **setup_request(self._launched, limits))
        pid = self._client.peer
        if pid is None:
            raise BoxDied("the sandbox's guest did not say who it is")
        self._guest_pidfd = os.pidfd_open(pid)
        if self.isolation.cgroups.can_limit(bounds):
            await asyncio.to_thread(self._cgroup.set_limits, pid, bounds)
        if self._alias and "network" in self.isolation.enforces:
            await self._egress.open_alias(self._alias, self.connect)
            await self._write("/etc/hosts", f"{TEXTS['etc/hosts']}127.0.0.1 {self._alias.host}\n".encode())
        if self.tier == "namespaces":
            for name, text in self._marks.items():
                with contextlib.suppress(OSError):  # a snapshot may have anything in their place
                    await self._write(f"/run/e2b/.{name}", text.encode())
        await self.update_network(self.spec.network)

    # --- processes

    def home(self, user: str) -> str:
        """Return the home of a user, as a sandbox path. Raises UnknownUser."""
        try:
            return self._homes[user]
        except KeyError:
            what = f"no user {user!r} in the sandbox; it has {', '.join(self._homes)}"
            raise UnknownUser(what if self.has_accounts else f"{what}: {_FEW_USERS}") from None

    async def learn_user(self, user: str) -> None:
        """Ask the sandbox for a user that has been added in it. Raises UnknownUser, BoxDied."""
        if self.has_accounts and user not in HOMES:
            self._homes.pop(user, None)
            with contextlib.suppress(GuestRefused):  # told below
                self._homes[user] = str(await self._client.call("home", user=user))
        self.home(user)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str = "user",
        pty: tuple[int, int] | None = None,
        stdin: bool = False,
    ) -> BoxProcess:
        """Start a program (looked up on PATH) in a session of its own.

        `pty` is (columns, rows). Without `stdin` the program reads /dev/null. `env` adds to the sandbox's environment.
        `cwd` is the user's home if None.

        Raises UnknownUser, BadDirectory, BadProgram, BoxDied.
        """
        home = self.home(user)
        message = {
            "argv": list(argv),
            "env": {**self._build_env(user), **(env or {}), **self._mark_env()},
            "cwd": self.paths.outside(cwd or home),
            "pty": pty,
            "user": user,
        }
        try:
            if pty is not None:
                return await self._spawn_on_terminal(message)
            return await self._spawn_on_pipes(message, stdin)
        except GuestRefused as error:
            kinds = {"cwd": BadDirectory, "program": BadProgram, "user": UnknownUser}
            raise kinds.get(error.kind, BoxError)(str(error)) from error

    @property
    def _marks(self) -> dict[str, str]:
        """The marks by which programs know a sandbox of E2B: variables, and files for terminals."""
        return {
            "E2B_SANDBOX": "true",
            "E2B_SANDBOX_ID": self.spec.id,
            "E2B_TEMPLATE_ID": self.spec.template.id,
        }

    def _build_env(self, user: str) -> dict[str, str]:
        home = self.paths.outside(self.home(user))
        base = {"PATH": SEARCH_PATH, "HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash"}
        tier = {**self._launched.env, **self._egress.env}
        return {**base, **self._marks, **tier, **self.spec.template.env, **self.spec.env}

    def _mark_env(self) -> dict[str, str]:
        """Return the mark's variable, which callers cannot override: it identifies processes when the sandbox ends."""
        mark = self._launched.mark
        return {} if mark is None else mark_env(mark)

    async def _spawn_on_terminal(self, message: dict[str, Any]) -> BoxProcess:
        def receive(pid: int, fds: list[int]) -> BoxProcess:
            (master,) = fds
            return self._register(BoxProcess(pid, {"pty": master}, master, self._signal))

        process: BoxProcess = await self._client.call("spawn", receive=receive, **message)
        return process

    async def _spawn_on_pipes(self, message: dict[str, Any], stdin: bool) -> BoxProcess:
        pipes = [os.pipe() for _ in range(3 if stdin else 2)]
        for end in (end for pipe in pipes for end in pipe):
            os.fchmod(end, 0o666)  # else only this account could open /dev/stdout anew
        ours = [read for read, _ in pipes[:2]] + [write for _, write in pipes[2:]]
        theirs = [read for read, _ in pipes[2:]] + [write for _, write in pipes[:2]]

        def receive(pid: int, _: list[int]) -> BoxProcess:
            outputs: dict[OutputName, int] = {"stdout": ours[0], "stderr": ours[1]}
            return self._register(BoxProcess(pid, outputs, ours[2] if stdin else None, self._signal))

        try:
            process: BoxProcess = await self._client.call("spawn", theirs, receive, **message)
        except BaseException:
            _close_all(ours)
            raise
        finally:
            _close_all(theirs)
        return process

    def _register(self, process: BoxProcess) -> BoxProcess:
        self._processes[process.pid] = process
        self._unread = [other for other in self._unread if other.is_open]
        self._unread.append(process)
        return process

    async def _signal(self, pid: int, signum: int) -> None:
        await self._client.request("signal", pid=pid, signum=signum)

    # --- the sandbox as a whole

    async def update_network(self, policy: NetworkPolicy) -> None:
        """Apply a network policy. Connections made under another policy are closed.

        Processes that run already get no variables for a new proxy. If the tier does not enforce "network", nothing
        changes. Raises BoxError if a port of the policy is taken inside, or if the policy changes requests in a tier
        that cannot.
        """
        if "network" not in self.isolation.enforces:
            if policy.injections:
                raise BoxError(
                    f"requests cannot be changed (network rules) in the {self.tier} tier of isolation"
                )
            return
        try:
            await self._egress.apply(policy)
            if self._egress.bundle is not None:
                await self._write(BUNDLE, self._egress.bundle)
        except OSError as error:
            raise BoxError(f"the network rules cannot be applied: {error}") from error
        if proxy := self._egress.env.get("http_proxy"):  # sudo drops the variable
            text = f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n'
            if not self.has_accounts:  # apt makes sure that it has become its own account
                text += 'APT::Sandbox::User "root";\n'
            with contextlib.suppress(OSError):  # root inside may have made anything in its place
                await self._write(APT_PROXY, text.encode())

    def egress_report(self) -> dict[str, Any] | None:
        """Return the proxy's report on the sandbox's network use, as JSON values; None in a tier without one."""
        return self._egress.report() if "network" in self.isolation.enforces else None

    async def _write(self, path: str, data: bytes) -> None:
        """Write a file of root's inside. Raises OSError."""
        fd = await self.files.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, parents=True, user="root")
        with os.fdopen(fd, "wb") as file:
            file.write(data)

    async def _listen(self, port: int) -> socket:
        def receive(_: object, fds: list[int]) -> socket:
            (fd,) = fds
            listener = socket(fileno=fd)
            if not listener.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
                listener.close()
                raise OSError("the guest handed over something that does not listen")
            listener.setblocking(False)
            return listener

        try:
            listener: socket = await self._client.request("listen", receive=receive, port=port)
        except PermissionError:
            if self._client.peer is None:
                raise
            listener = await low_ports.listen(self._client.peer, port)
            listener.setblocking(False)
        return listener

    async def connect(self, port: int) -> socket:
        """Connect to a port on the sandbox's own loopback. Raises OSError if nothing listens there."""
        try:
            return await self._connect(port, v6=False)
        except ConnectionRefusedError:
            return await self._connect(port, v6=True)

    async def _connect(self, port: int, *, v6: bool) -> socket:
        def receive(_: object, fds: list[int]) -> socket:
            (fd,) = fds
            return socket(fileno=fd)

        connection: socket = await self._client.request("connect", receive=receive, port=port, v6=v6)
        try:
            connection.setblocking(False)
            await wait_until_ready([], [connection.fileno()], self._dead)
            if number := connection.getsockopt(SOL_SOCKET, SO_ERROR):
                raise OSError(number, os.strerror(number))
        except BaseException:
            connection.close()
            raise
        return connection

    async def freeze(self) -> None:
        """Stop every process inside, until `thaw`. File calls still work."""
        if "freezer" in self.isolation.cgroups.controllers:
            await self._cgroup.freeze(self._host_pids)
        else:
            await self._client.request("stop")

    async def thaw(self) -> None:
        """Continue the processes that `freeze` stopped, if any."""
        if "freezer" in self.isolation.cgroups.controllers:
            self._cgroup.thaw()
        else:
            await self._client.request("continue")

    def _host_pids(self) -> set[int]:
        """Return this machine's pids of all processes inside except the guest."""
        return find_descendants(self._client.peer or self._launched.process.pid)

    async def measure_usage(self) -> Usage:
        """Measure the sandbox's present resource usage. This walks all of its processes and files."""
        counters = await self._client.request("usage")
        disk = await self._measure_disk()
        memory = int(counters["memory"])
        volume = os.statvfs(self.spec.state)
        free = volume.f_frsize * volume.f_bavail
        if self.tier == "namespaces" and (self._has_unenforced_bounds or free < LOW_DISK):
            held = await asyncio.to_thread(lambda: measure_held(self._host_pids()))
            disk += held.removed
            # A mapped file may be one of the files, and is not counted twice.
            memory += max(held.mapped, int(counters["files"]) + held.nameless)
        now, seconds = time.monotonic(), int(counters["ticks"]) / os.sysconf("SC_CLK_TCK")
        (before, used), self._cpu = self._cpu, (now, seconds)
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        bound, disk_mb = self.spec.limits.memory_mb, self.spec.limits.disk_mb
        return Usage(
            cpu_percent=max(0.0, 100 * (seconds - used) / max(now - before, 0.001)),
            cpu_count=len(os.sched_getaffinity(0)),
            mem_used=memory,
            mem_total=host if bound is None else min(host, bound << 20),
            disk_used=int(disk),
            disk_total=volume.f_frsize * volume.f_blocks if disk_mb is None else disk_mb << 20,
            disk_free=free,
        )

    @property
    def _has_unenforced_bounds(self) -> bool:
        limits = {"memory": self.spec.limits.memory_mb, "disk": self.spec.limits.disk_mb}
        return any(bound and name not in self.isolation.enforces for name, bound in limits.items())

    def exceeds(self, usage: Usage) -> str | None:
        """Return which of its bounds the sandbox is beyond, of those that cannot be enforced here; None for none.

        What the machine has left bounds each, too.
        """
        limits, enforces = self.spec.limits, self.isolation.enforces
        if limits.memory_mb and "memory" not in enforces and usage.mem_used > limits.memory_mb << 20:
            return f"it took {usage.mem_used >> 20} MiB of memory, and may take {limits.memory_mb}"
        if limits.disk_mb and "disk" not in enforces and usage.disk_used > limits.disk_mb << 20:
            return f"it wrote {usage.disk_used >> 20} MiB, and may write {limits.disk_mb}"
        if usage.disk_free < LOW_DISK < usage.disk_used:
            return (
                f"it wrote {usage.disk_used >> 20} MiB, and this machine has {usage.disk_free >> 20} MiB left"
            )
        return None

    async def _measure_disk(self) -> int:
        if self.tier == "namespaces":
            return await asyncio.to_thread(measure_written, self.spec.state)
        return await self.files.disk_usage(HOMES.values())

    async def copy_state(self, to: Path) -> None:
        """Copy the sandbox's files into a folder, for `BoxSpec.seed`. The sandbox is frozen meanwhile.

        Raises OSError.
        """
        await self.freeze()
        try:
            await asyncio.to_thread(self.isolation.copy_files, self.spec.state, to)
        finally:
            await self.thaw()

    # --- the end

    async def wait(self) -> None:
        """Return when the sandbox has died for any reason."""
        await asyncio.shield(self._dead)

    async def kill(self) -> None:
        """Kill everything inside. No process of the sandbox runs when this returns. Does nothing if it is dead."""
        self._kill_now()
        await self.wait()

    async def destroy(self) -> None:
        """Kill the sandbox and remove its state directory, if that has not been done. Raises OSError."""
        await self.kill()
        for process in self._unread:
            process.close()
        await asyncio.to_thread(remove_tree, self.spec.state)

    def _kill_now(self) -> None:
        if self._dead.done():
            return
        self._launched.kill_processes(self.account)
        if self._guest_pidfd is None:
            self._launched.process.kill()
        else:  # not the launcher, which would be gone before everything inside is dead
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._guest_pidfd, signal.SIGKILL)

    def _on_event(self, message: dict[str, Any]) -> None:
        if message["event"] == "exit":
            process = self._processes.pop(int(message["pid"]), None)
            if process is not None:
                process.set_status(ExitStatus.from_wait(int(message["status"])))
        elif message["event"] == "gone":
            self._kill_now()

    def _on_launcher_exit(self) -> None:
        self._loop.remove_reader(self._launcher_pidfd)
        os.close(self._launcher_pidfd)
        self._launched.kill_processes(self.account)  # other processes may outlive the guest
        self._launched.process.wait()  # not earlier: until then the pid cannot be reused
        if self._guest_pidfd is not None:
            os.close(self._guest_pidfd)
        with self._launched.errors as errors:
            errors.seek(0)
            self._launcher_output = errors.read(4096).decode("utf-8", "replace").strip()
        self._dead.set_result(None)
        self._client.close()
        self._egress.close()
        self._cgroup.remove()
        for process in self._processes.values():
            process.set_status(None)
        self._processes.clear()


async def _prepare_launch(spec: BoxSpec, isolation: Isolation) -> LaunchSpec:
    """Choose the account and prepare the files of a sandbox. A new one gets its seed's files."""
    account = isolation.account_for(spec.state)
    for script in spec.template.scripts.values():  # this takes seconds the first time
        await asyncio.to_thread(share_distributions, script.distributions)
    seed = spec.seed or spec.template.files
    if seed is not None and not spec.state.exists():
        await asyncio.to_thread(isolation.seed_files, seed, spec.state, account)
    return LaunchSpec(spec.id, spec.state, spec.template, account, spec.limits)


def _make_gateway_alias(spec: BoxSpec) -> LoopbackAlias | None:
    """Return the host name of the MCP gateway, if there is one. The SDK uses its outer name also from inside."""
    if "mcp-gateway" not in spec.template.scripts or not spec.domain:
        return None
    host, _, port = spec.domain.rpartition(":")
    return LoopbackAlias(f"{GATEWAY_PORT}-{spec.id}.{host}", int(port), GATEWAY_PORT)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
