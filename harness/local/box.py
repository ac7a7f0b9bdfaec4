"""One sandbox on this machine, as the server sees it.

`Box.start` raises a guest (guest.py) behind the walls that an Isolation gives, and everything else asks that
guest: processes are started by it, files are opened by it and handed over as descriptors.

Paths given to and returned by a Box are the sandbox's own: absolute, `/home/user` being the home of `user`
and `/root` that of `root`. In tiers that cannot mount (see isolation.py) processes see other paths for these;
Box translates for the file calls, for `cwd` and for HOME, and `Box.paths` tells.
Both users are the sandbox's one account; they differ in HOME and USER alone.
"""

import asyncio
import os
import stat
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socketpair
from typing import Any, Literal

from harness.local.descriptors import CHUNK, JsonLines, until_ready
from harness.local.isolation import Isolation
from harness.local.launching import SEARCH_PATH, Launched, Plan
from harness.local.link import GuestGone, GuestLink, GuestRefused
from harness.local.network import NetworkPolicy
from harness.local.templates import Template

HOMES: Mapping[str, str] = {"user": "/home/user", "root": "/root"}
START_TIMEOUT = 30.0

Channel = Literal["stdout", "stderr", "pty"]
WatchKind = Literal["create", "write", "remove", "rename", "chmod", "overflow"]


class BoxError(Exception):
    """Something that a sandbox was asked for cannot be had; `remedy` says what would help, where known."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class BoxStartError(BoxError):
    """The sandbox could not be started."""


class BoxDied(BoxError):
    """The sandbox is dead: killed, or fallen to what ran inside."""


class UnknownUser(BoxError):
    """No such user in the sandbox."""


class BadDirectory(BoxError):
    """The working directory does not exist, is no directory, or may not be entered."""


class BadProgram(BoxError):
    """The program does not exist, or cannot be executed."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds for one sandbox; None means unbounded. What is enforced depends on the tier."""

    memory_mb: int | None = None
    cpus: float | None = None
    pids: int | None = 512


@dataclass(frozen=True)
class BoxSpec:
    id: str
    state: Path
    """This sandbox's own directory, made by Box.start. The folders above it must be enterable by others
    (mode 0711) when the server is root, since the sandbox's account is then nobody of this machine's."""
    template: Template
    env: Mapping[str, str] = field(default_factory=dict)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    limits: Limits = field(default_factory=Limits)
    seed: Path | None = None
    """A folder made by Box.copy_state, which the sandbox starts from instead of empty homes."""


@dataclass(frozen=True)
class Entry:
    """What is at a path. For a symbolic link: the link itself, beside what it leads to."""

    path: str
    mode: int
    """`st_mode` of the entry itself, type bits included."""
    size: int
    owner: str
    group: str
    mtime_ns: int
    target: str | None
    """Where a symbolic link leads in the end, all links resolved; None for anything else."""
    target_mode: int | None
    """`st_mode` of what the link leads to; None when it leads nowhere, or is no link."""
    metadata: Mapping[str, str]
    """What the user attached: extended attributes `user.e2b.*`, prefix stripped."""

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_dir(self) -> bool:
        """True for a directory itself, not for a link to one."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True)
class WatchEvent:
    kind: WatchKind
    name: str
    """Path relative to the watched folder. Empty for the folder itself, and for "overflow" (events lost)."""


@dataclass(frozen=True)
class Usage:
    cpu_percent: float
    """Of one core, since the last call (since the start, for the first); above 100 on several cores."""
    cpu_count: int
    mem_used: int
    """Bytes, of all processes in the sandbox."""
    mem_total: int
    disk_used: int
    """Bytes in the sandbox's own folders."""
    disk_total: int


@dataclass(frozen=True)
class ExitStatus:
    exit_code: int
    """As a shell gives it: 128 + signal number after a signal."""
    signal: int | None

    @classmethod
    def from_wait(cls, status: int) -> "ExitStatus":
        code = os.waitstatus_to_exitcode(status)
        return cls(code, None) if code >= 0 else cls(128 - code, -code)


class BoxProcess:
    """A process in a sandbox. It belongs to the box: dropping this object does not stop it."""

    def __init__(self, box: "Box", pid: int, outputs: dict[Channel, int], stdin: int | None) -> None:
        self.pid = pid
        self._box = box
        self._outputs = outputs
        self._stdin = stdin
        self._ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        for fd in (*outputs.values(), *([] if stdin is None else [stdin])):
            os.set_blocking(fd, False)

    async def read(self) -> tuple[Channel, bytes] | None:
        """The next output, or None when all of it has ended: then nobody holds the other end any more, which
        may be later than the process's own end (a daemon keeps stdout), or never. One reader at a time.

        Output waits in a pipe until it is read, and the process waits with it: keep reading, and drop what
        nobody wants.
        """
        while self._outputs:
            for channel in list(self._outputs):
                data = self._read_now(channel)
                if data:
                    return channel, data
            if self._outputs:
                await until_ready(list(self._outputs.values()), [])
        return None

    def _read_now(self, channel: Channel) -> bytes | None:
        fd = self._outputs.pop(channel)
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            self._outputs[channel] = fd
            return None
        except OSError:
            data = b""  # a terminal whose last holder is gone answers EIO
        if data:
            self._outputs[channel] = fd  # popped and put back at the end: channels take turns
        else:
            self._close(fd)
        return data

    async def write(self, data: bytes) -> None:
        """Write to stdin (or the terminal), waiting while the process does not read.

        Raises BrokenPipeError when stdin is closed, or nobody is there to read it.
        """
        left = memoryview(data)
        while left:
            if self._stdin is None:
                raise BrokenPipeError("stdin is closed")
            try:
                left = left[os.write(self._stdin, left) :]
            except BlockingIOError:
                await until_ready([], [self._stdin])
            except OSError as error:
                raise BrokenPipeError("the process no longer reads its input") from error

    def close_stdin(self) -> None:
        """End of input. Harmless when closed already; a terminal gets ^D instead."""
        if self._stdin is None:
            return
        fd, self._stdin = self._stdin, None
        if fd in self._outputs.values():
            os.write(fd, b"\x04")
            self._stdin = fd
        else:
            os.close(fd)

    def resize(self, cols: int, rows: int) -> None:
        """Change the terminal's size; its foreground group gets SIGWINCH. BoxError without a terminal."""
        fd = self._outputs.get("pty")
        if fd is None:
            raise BoxError(f"process {self.pid} has no terminal")
        termios.tcsetwinsize(fd, (rows, cols))

    async def signal(self, signum: int) -> None:
        """Signal the process; one with a terminal, and the terminal's foreground group.

        Raises ProcessLookupError when it has ended.
        """
        await self._box._request("signal", pid=self.pid, signum=signum)

    async def wait(self) -> ExitStatus:
        """How the process itself ended; output may still follow. BoxDied when the box died first."""
        return await asyncio.shield(self._ended)

    @property
    def ended(self) -> ExitStatus | None:
        """The exit status once there is one."""
        done = self._ended.done() and not self._ended.cancelled() and self._ended.exception() is None
        return self._ended.result() if done else None

    def close(self) -> None:
        """Stop listening: output that follows is lost, and input ends. The process is not signalled, but
        writes of its own now fail. Called by the box when it dies."""
        for fd in self._outputs.values():
            self._close(fd)
        self._outputs.clear()
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def _close(self, fd: int) -> None:
        if fd == self._stdin:
            self._stdin = None
        os.close(fd)

    def _end(self, status: ExitStatus | None) -> None:
        if self._ended.done():
            return
        if status is not None:
            self._ended.set_result(status)
        else:
            self._ended.set_exception(BoxDied("the sandbox died before the process ended"))
            self._ended.exception()  # nobody has to ask


class Watch:
    """Changes below a folder, in order: iterate with `async for`; ends when closed or when the box dies.
    Events wait in a pipe and then in the kernel until they are read; an "overflow" says that some are lost.
    """

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> WatchEvent:
        said = await self._lines.next()
        if said is None:
            raise StopAsyncIteration
        return WatchEvent(said["type"], str(said["name"]))

    def close(self) -> None:
        self._lines.close()


class Box:
    """One live sandbox. Start it from a thread that lives as long as the sandbox should: the kernel ends a
    sandbox with the thread that started it."""

    def __init__(self, spec: BoxSpec, isolation: Isolation, launched: Launched) -> None:
        self.spec = spec
        self.isolation = isolation
        self.tier = isolation.tier
        self.paths = launched.paths
        self._launched = launched
        self._processes: dict[int, BoxProcess] = {}
        self._dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(launched.process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reaped)
        self._link: GuestLink

    @classmethod
    async def start(cls, spec: BoxSpec, isolation: Isolation) -> "Box":
        """A running sandbox. Raises BoxStartError with the launcher's own words."""
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        with theirs:
            launched = isolation.launch(Plan(spec.id, spec.state, spec.template), theirs)
        box = cls(spec, isolation, launched)
        box._link = GuestLink(ours, box._on_event)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await box._request("setup", limits=[], subreaper=launched.subreaper)
        except (BoxDied, TimeoutError) as error:
            await box.kill()
            raise BoxStartError(f"the sandbox did not start: {box._words() or error}") from error
        return box

    def home(self, user: str) -> str:
        """The home of a user, as a sandbox path. Raises UnknownUser."""
        try:
            return HOMES[user]
        except KeyError:
            raise UnknownUser(f"no user {user!r} in the sandbox; it has {', '.join(HOMES)}") from None

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
        """Start a program (looked up on PATH) in a session of its own. `pty` is (columns, rows). Without
        `stdin` it reads /dev/null. `env` adds to the sandbox's environment; `cwd` is the user's home if None.

        Raises UnknownUser, BadDirectory, BadProgram, BoxDied.
        """
        home = self.home(user)
        message = {
            "argv": list(argv),
            "env": {**self._environment(user), **(env or {})},
            "cwd": self.paths.outside(cwd or home),
            "pty": pty,
        }
        if pty is not None:
            return await self._spawn_on_terminal(message)
        return await self._spawn_on_pipes(message, stdin)

    def _environment(self, user: str) -> dict[str, str]:
        home = self.paths.outside(self.home(user))
        base = {"PATH": SEARCH_PATH, "HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash"}
        marks = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": self.spec.id}
        return {**base, **marks, **self.spec.template.env, **self.spec.env}

    async def _spawn_on_terminal(self, message: dict[str, Any]) -> BoxProcess:
        def receive(pid: int, fds: list[int]) -> BoxProcess:
            (master,) = fds
            return self._adopt(BoxProcess(self, pid, {"pty": master}, master))

        return await self._spawn(message, [], receive)

    async def _spawn_on_pipes(self, message: dict[str, Any], stdin: bool) -> BoxProcess:
        pipes = [os.pipe() for _ in range(3 if stdin else 2)]
        ours = [read for read, _ in pipes[:2]] + [write for _, write in pipes[2:]]
        theirs = [read for read, _ in pipes[2:]] + [write for _, write in pipes[:2]]

        def receive(pid: int, fds: list[int]) -> BoxProcess:
            outputs: dict[Channel, int] = {"stdout": ours[0], "stderr": ours[1]}
            return self._adopt(BoxProcess(self, pid, outputs, ours[2] if stdin else None))

        try:
            return await self._spawn(message, theirs, receive)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    async def _spawn(
        self, message: dict[str, Any], fds: list[int], receive: Callable[[int, list[int]], BoxProcess]
    ) -> BoxProcess:
        try:
            process: BoxProcess = await self._ask("spawn", fds, receive, **message)
        except GuestRefused as error:
            kinds = {"cwd": BadDirectory, "program": BadProgram}
            raise kinds.get(error.kind, BoxError)(str(error)) from error
        return process

    def _adopt(self, process: BoxProcess) -> BoxProcess:
        self._processes[process.pid] = process
        return process

    async def open(
        self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644, parents: bool = False
    ) -> int:
        """A descriptor of a regular file, opened inside the sandbox; the caller closes it. `parents` makes
        missing folders. Raises OSError: EISDIR for a folder, EINVAL for a FIFO, device or socket."""

        def receive(_: object, fds: list[int]) -> int:
            (fd,) = fds
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise OSError("the guest handed over something that is no regular file")

        fd: int = await self._request(
            "open", receive=receive, path=self._outside(path), flags=flags, mode=mode, parents=parents
        )
        return fd

    async def stat(self, path: str) -> Entry:
        """What is at the path (a link itself, not what it leads to). Raises OSError."""
        return self._entry(await self._request("stat", path=self._outside(path)))

    async def list(self, path: str, depth: int = 1) -> "list[Entry]":
        """Entries below a folder, `depth` levels deep, in depth-first order of names. Raises OSError."""
        lines = await self._helper("list", path=self._outside(path), depth=depth)
        try:
            found = []
            while "entry" in (said := await _checked(lines)):
                found.append(self._entry(said["entry"]))
            return found
        finally:
            lines.close()

    async def make_dir(self, path: str) -> bool:
        """Make a folder and those above it; False when it was there. Raises OSError."""
        return bool(await self._request("make_dir", path=self._outside(path)))

    async def move(self, source: str, target: str) -> Entry:
        """Rename, making the folders above the target; what is at the target is replaced as rename(2) does.
        Raises OSError."""
        found = await self._result("move", source=self._outside(source), target=self._outside(target))
        return self._entry(found)

    async def remove(self, path: str) -> None:
        """Remove a file, or a folder with all in it. Raises OSError: FileNotFoundError if nothing is there."""
        await self._result("remove", path=self._outside(path))

    async def watch(self, path: str, recursive: bool = False) -> "Watch":
        """Follow changes below a folder; what happens after this returns is reported. Raises OSError."""
        lines = await self._helper("watch", path=self._outside(path), recursive=recursive)
        await _checked(lines)
        return Watch(lines)

    async def _result(self, op: str, **fields: Any) -> Any:
        lines = await self._helper(op, **fields)
        try:
            return (await _checked(lines))["ok"]
        finally:
            lines.close()

    async def _helper(self, op: str, **fields: Any) -> JsonLines:
        """What a helper inside has to say about a request that may take long."""
        ours, theirs = os.pipe()
        lines = JsonLines(ours)
        try:
            await self._request(op, fds=[theirs], **fields)
        except BaseException:
            lines.close()
            raise
        finally:
            os.close(theirs)
        return lines

    def _outside(self, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path!r}")
        return self.paths.outside(os.path.normpath(path))

    def _entry(self, said: dict[str, Any]) -> Entry:
        names = {1000: "user", 0: "root", os.getuid(): "user"}
        target, target_mode = said["target"], said["target_mode"]
        return Entry(
            path=self.paths.inside(str(said["path"])),
            mode=int(said["mode"]),
            size=int(said["size"]),
            owner=names.get(int(said["uid"]), str(said["uid"])),
            group=names.get(int(said["gid"]), str(said["gid"])),
            mtime_ns=int(said["mtime_ns"]),
            target=None if target is None else self.paths.inside(str(target)),
            target_mode=None if target_mode is None else int(target_mode),
            metadata={str(key): str(value) for key, value in said["metadata"].items()},
        )

    async def _ask(self, op: str, fds: Sequence[int] = (), receive: Any = None, **fields: Any) -> Any:
        try:
            return await self._link.request(op, fds, receive, **fields)
        except GuestGone as error:
            raise BoxDied("the sandbox is dead") from error

    async def _request(self, op: str, fds: Sequence[int] = (), receive: Any = None, **fields: Any) -> Any:
        try:
            return await self._ask(op, fds, receive, **fields)
        except GuestRefused as error:
            raise OSError(error.number, str(error)) from error

    def _on_event(self, message: dict[str, Any]) -> None:
        if message["event"] == "exit":
            process = self._processes.pop(int(message["pid"]), None)
            if process is not None:
                process._end(ExitStatus.from_wait(int(message["status"])))
        elif message["event"] == "gone":
            self._kill_now()

    def _reaped(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._launched.process.wait()
        self._link.close()
        for process in self._processes.values():
            process._end(None)
        self._processes.clear()
        self._dead.set_result(None)

    def _kill_now(self) -> None:
        if not self._dead.done():
            self._launched.process.kill()

    def _words(self) -> str:
        self._launched.errors.seek(0)
        return self._launched.errors.read(4096).decode("utf-8", "replace").strip()

    async def wait(self) -> None:
        """Return when the sandbox has died, for whatever reason."""
        await asyncio.shield(self._dead)

    async def kill(self) -> None:
        """End everything inside; nothing of it runs any more when this returns."""
        self._kill_now()
        await self.wait()


async def _checked(lines: JsonLines) -> dict[str, Any]:
    """A helper's next word. Raises the OSError that it reports, or BoxDied when it says nothing more."""
    try:
        said = await lines.next()
        if said is None:
            raise BoxDied("the sandbox's helper was killed")
        if "error" in said:
            raise OSError(int(said["error"]["errno"]), str(said["error"]["message"]))
        return dict(said)
    except (ValueError, KeyError, TypeError) as error:
        raise BoxDied("the sandbox's helper does not make sense") from error
