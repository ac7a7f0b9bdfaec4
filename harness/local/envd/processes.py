"""The commands of one sandbox, and the forwarding of their output to clients.

A process outlives the client that started it. Its output goes to all current listeners. Without listeners it is read
and dropped, so that a process never blocks on a pipe because its client has disconnected. A listener that reads slowly
slows the process down through a bounded channel, so that memory stays flat however much is printed. Small pieces of
output are collected into fewer messages, unless the process may be waiting for input.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from harness.local.boxes.box import Box
from harness.local.boxes.process import BoxProcess
from harness.local.boxes.types import BoxDied, ExitStatus, OutputName
from harness.local.envd.channel import Channel, LostError
from harness.local.envd.journal import Journal
from harness.local.envd.kept_output import KEEP_OUTPUT, KeptOutput

_COLLECT_S = 0.2
"""The time to collect small pieces. Each message costs the server and its client half a millisecond."""
_LARGE = 16 * 1024
"""A piece of this size is sent at once, and so is all output shortly after it: fast writers are not slowed down."""
_NO_COLLECT_S = 1.0
_KILL_S = 1.0
_SEND_S = 1.0
"""How long clients may take for what is left for them when their sandbox is killed."""


@dataclass(frozen=True)
class Command:
    """The command that a client requested, as `list` shows it."""

    program: str
    args: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    tag: str | None


@dataclass(frozen=True)
class Output:
    """Bytes that a process has written."""

    stream: Literal["stdout", "stderr", "pty"]
    data: bytes


@dataclass(frozen=True)
class End:
    """The end of a process, with the wording of E2B's envd (that of Go's os/exec)."""

    exit_code: int
    exited: bool
    status: str
    error: str | None


Event = Output | End


class Process:
    """A running command."""

    def __init__(self, command: Command, box_process: BoxProcess, has_terminal: bool) -> None:
        self.command = command
        self.has_terminal = has_terminal
        self.end: End | None = None
        """How it has ended; None while it runs."""
        self.kept: KeptOutput[OutputName] | None = (
            KeptOutput() if command.env.get(KEEP_OUTPUT) == "1" else None
        )
        self._process = box_process
        self._listeners: list[Channel[Event]] = []
        self._writing = asyncio.Lock()
        self._deadline: asyncio.TimerHandle | None = None
        self._killing: asyncio.Task[None] | None = None  # the loop holds tasks only weakly

    @property
    def pid(self) -> int:
        """Its process id inside the sandbox."""
        return self._process.pid

    def add_listener(self) -> Channel[Event]:
        """Add and return a listener for all events from now on."""
        listener: Channel[Event] = Channel()
        self._listeners.append(listener)
        return listener

    @property
    def status(self) -> str | None:
        """The wording of its end; None while it runs."""
        return self.end.status if self.end else None

    def remove_listener(self, listener: Channel[Event]) -> None:
        """Remove a listener whose client has disconnected. The process keeps running."""
        listener.close_reader()
        self._listeners.remove(listener)

    def kill_after(self, seconds: float) -> None:
        """Kill the process if it has not ended after so many seconds."""
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._expire)

    async def write(self, data: bytes) -> None:
        """Write to its stdin or terminal, and wait until all is written. Raises OSError if that is closed."""
        async with self._writing:  # one at a time, in the order of the calls
            await self._process.write(data)

    def close_stdin(self) -> None:
        """Close its stdin, so that it reads the end of its input."""
        self._process.close_stdin()

    def resize(self, cols: int, rows: int) -> None:
        """Set the size of its terminal."""
        self._process.resize(cols, rows)

    async def signal(self, signum: int) -> None:
        """Send it a signal. After SIGKILL it has ended when this returns. Raises ProcessLookupError if it has ended."""
        await self._process.signal(signum)
        if signum == signal.SIGKILL:
            with suppress(TimeoutError):  # it waits for a disk, or the sandbox is frozen
                async with asyncio.timeout(_KILL_S):
                    await self._process.wait()

    async def forward_output(self) -> None:
        """Forward its output to the listeners until it has ended and its end has been sent."""
        try:
            clock, no_collect_until = asyncio.get_running_loop().time, 0.0
            while (chunk := await self._process.read()) is not None:
                await self._send_output(*chunk)
                if len(chunk[1]) >= _LARGE:
                    no_collect_until = clock() + _NO_COLLECT_S
                elif not self._process.has_input and clock() >= no_collect_until:
                    await self._process.wait_for_output(_LARGE, _COLLECT_S)
            self._process.release()  # daemons that it started may still write
            self.end = _make_end(await self._process.wait())
            await self._send(self.end)
            for listener in self._listeners:
                listener.finish()
        except BoxDied:
            self.fail_streams()
        finally:
            if self._deadline:
                self._deadline.cancel()

    async def send_waiting(self) -> None:
        """Send what is still being collected: it has left the sandbox."""
        for chunk in self._process.read_waiting():
            await self._send_output(*chunk)

    def fail_streams(self) -> None:
        """End every client's stream with an error, because the sandbox is dead or frozen."""
        for listener in self._listeners:
            listener.fail(LostError("the connection to the sandbox ended before the stream completed"))

    async def _send_output(self, name: OutputName, data: bytes) -> None:
        if self.kept:
            self.kept.add(name, data)
        await self._send(Output(name, data))

    async def _send(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            await listener.put(event)

    def _expire(self) -> None:
        self._killing = asyncio.create_task(self._kill())

    async def _kill(self) -> None:
        with suppress(ProcessLookupError, BoxDied):  # it has ended at the same moment
            await self._process.signal(int(signal.SIGKILL))


class ProcessTable:
    """The commands that run in one sandbox, by pid and by tag."""

    def __init__(self, box: Box, journal: Journal) -> None:
        self._box = box
        self._journal = journal
        self._processes: dict[int, Process] = {}
        self._ended: dict[int, Process] = {}
        self._forwarders: set[asyncio.Task[None]] = set()

    async def start(
        self,
        command: Command,
        *,
        cwd: str,
        user: str,
        pty: tuple[int, int] | None,
        stdin: bool,
        seconds: float | None,
    ) -> tuple[Process, Channel[Event]]:
        """Start a command with a first listener that gets all of its events.

        After `seconds` the command is killed, and that listener's stream ends with `DeadlineError`.
        Raises `BadProgram` or `BadDirectory`.
        """
        box_process = await self._box.spawn(
            [command.program, *command.args], env=command.env, cwd=cwd, user=user, pty=pty, stdin=stdin
        )
        process = Process(command, box_process, has_terminal=pty is not None)
        listener = process.add_listener()
        if seconds is not None:
            listener.fail_after(
                seconds
            )  # first, so that the client is told of the deadline and not of the kill
            process.kill_after(seconds)
        self._processes[process.pid] = process
        self._ended.pop(process.pid, None)
        words = " ".join([command.program, *command.args])
        self._journal.note(f"Process with pid {process.pid} started", command=words, user=user)
        forwarder = asyncio.create_task(process.forward_output())
        self._forwarders.add(forwarder)
        forwarder.add_done_callback(lambda done: self._on_forwarder_done(process, done))
        return process, listener

    def __iter__(self) -> Iterator[Process]:
        # An ended process stays in the table until its end has been sent. It takes no new listeners.
        return iter([process for process in self._processes.values() if process.status is None])

    def find_by_pid(self, pid: int) -> Process | None:
        """Return the running process with this pid."""
        return next((process for process in self if process.pid == pid), None)

    def find_kept(self, pid: int) -> Process | None:
        """Return the process with this pid, which may have ended, if all of its output is kept."""
        process = self._processes.get(pid) or self._ended.get(pid)
        return process if process and process.kept and process.kept.is_whole else None

    def find_by_tag(self, tag: str) -> Process | None:
        """Return a running process that was started with this tag."""
        return next((process for process in self if process.command.tag == tag), None)

    async def send_waiting(self) -> None:
        """Send what commands have written until now, to clients that read it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SEND_S):
                for process in self:
                    await process.send_waiting()

    def fail_streams(self) -> None:
        """End the streams of all clients with an error, because the sandbox is dead or frozen."""
        for process in self._processes.values():
            process.fail_streams()

    def _on_forwarder_done(self, process: Process, forwarder: asyncio.Task[None]) -> None:
        self._forwarders.discard(forwarder)
        if self._processes.get(process.pid) is process:  # the kernel may have reused the pid
            del self._processes[process.pid]
            if process.kept and process.end:
                self._ended[process.pid] = process
        self._journal.note(f"Process with pid {process.pid} ended", status=process.status or "lost")
        if not forwarder.cancelled() and (error := forwarder.exception()):
            process.fail_streams()
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the output of process {process.pid} was lost", "exception": error}
            )


def _make_end(status: ExitStatus) -> End:
    if status.signal is not None:
        words = f"signal: {(signal.strsignal(status.signal) or str(status.signal)).lower()}"
        return End(exit_code=-1, exited=False, status=words, error=words)
    words = f"exit status {status.exit_code}"
    return End(status.exit_code, exited=True, status=words, error=words if status.exit_code else None)
