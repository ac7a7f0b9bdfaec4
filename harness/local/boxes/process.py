"""Processes, watches and helpers that run in a box, as the server sees them."""

import asyncio
import fcntl
import os
import sys
import termios
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from harness.local.boxes.descriptors import CHUNK, JsonLines, wait_until_ready
from harness.local.boxes.types import BoxDied, BoxError, ExitStatus, OutputName, WatchEvent

SendSignal = Callable[[int, int], Awaitable[None]]

_POLL_S = 0.1
"""The interval of checks of a pipe that is left to fill. A full pipe would block its writer."""


class BoxProcess:
    """A process in a sandbox. It belongs to the box, so dropping this object does not stop it.

    The owner of this object must read until None, or call `release`. Its descriptors are open until then.
    """

    def __init__(
        self, pid: int, outputs: dict[OutputName, int], stdin: int | None, send_signal: SendSignal
    ) -> None:
        self.pid = pid
        self._send_signal = send_signal
        self._outputs = outputs
        self._stdin = stdin
        self._ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        for fd in (*outputs.values(), *([] if stdin is None else [stdin])):
            os.set_blocking(fd, False)

    async def read(self) -> tuple[OutputName, bytes] | None:
        """Return the next output. One reader at a time.

        Returns None when the process has ended and its output has been read, or when no process holds the other end.
        `release` handles the output of daemons after that. A process blocks when its pipe is full: keep reading, or
        call `release`.
        """
        while True:
            for channel in list(self._outputs):
                data = self._read_now(channel)
                if data:
                    return channel, data
            if not self._outputs or self._ended.done():
                return None
            await wait_until_ready(list(self._outputs.values()), [], self._ended)

    def read_waiting(self) -> Iterator[tuple[OutputName, bytes]]:
        """Yield what it has written until now, of each output at most a chunk or two: it may write for ever."""
        for channel in (*self._outputs, *self._outputs):
            if channel in self._outputs and (data := self._read_now(channel)):
                yield channel, data

    def _read_now(self, channel: OutputName) -> bytes | None:
        fd = self._outputs.pop(channel)  # put back at the end, so that outputs take turns
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            self._outputs[channel] = fd
            return None
        except OSError:
            data = b""  # EIO: no process holds the terminal any more
        if data:
            self._outputs[channel] = fd
        else:
            self._close(fd)
        return data

    async def write(self, data: bytes) -> None:
        """Write to stdin (or the terminal), waiting while the process does not read.

        Raises BrokenPipeError if stdin is closed, or if no process reads it.
        """
        left = memoryview(data)
        while left:
            if self._stdin is None:
                raise BrokenPipeError("stdin is closed")
            try:
                left = left[os.write(self._stdin, left) :]
            except BlockingIOError:
                await wait_until_ready([], [self._stdin], self._ended)
                if self._ended.done():
                    raise BrokenPipeError("the process has ended") from None
            except OSError as error:
                raise BrokenPipeError("the process no longer reads its input") from error

    def close_stdin(self) -> None:
        """Close stdin, if it is open. A terminal gets ^D instead."""
        if self._stdin is None:
            return
        fd, self._stdin = self._stdin, None
        if fd in self._outputs.values():
            os.write(fd, b"\x04")
            self._stdin = fd
        else:
            os.close(fd)

    def resize(self, cols: int, rows: int) -> None:
        """Change the terminal's size; its foreground group gets SIGWINCH. Raises BoxError without a terminal."""
        fd = self._outputs.get("pty")
        if fd is None:
            raise BoxError(f"process {self.pid} has no terminal")
        termios.tcsetwinsize(fd, (rows, cols))

    async def signal(self, signum: int) -> None:
        """Signal the process, and the foreground group of its terminal if it has one.

        Raises ProcessLookupError if it has ended.
        """
        await self._send_signal(self.pid, int(signum))

    async def wait(self) -> ExitStatus:
        """Return the exit status of the process. Output may still follow. Raises BoxDied if the box died first."""
        return await asyncio.shield(self._ended)

    async def wait_for_output(self, enough: int, seconds: float) -> None:
        """Wait until about `enough` bytes can be read, the process has ended, or `seconds` have passed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            ended, _ = await asyncio.wait([self._ended], timeout=min(_POLL_S, left))
            if ended or any(_waiting_bytes(fd) >= enough for fd in self._outputs.values()):
                return

    @property
    def has_input(self) -> bool:
        """True if its stdin or terminal can be written."""
        return self._stdin is not None

    @property
    def ended(self) -> ExitStatus | None:
        """The exit status; None while the process runs."""
        done = self._ended.done() and not self._ended.cancelled() and self._ended.exception() is None
        return self._ended.result() if done else None

    @property
    def is_open(self) -> bool:
        """True if it has open descriptors."""
        return bool(self._outputs) or self._stdin is not None

    def release(self) -> None:
        """Drop all further output as it comes.

        So a daemon that holds the output never blocks for lack of a reader, and gets no SIGPIPE.
        """
        loop = asyncio.get_running_loop()
        for channel, fd in self._outputs.items():
            loop.add_reader(fd, self._drop, channel)

    def _drop(self, channel: OutputName) -> None:
        fd = self._outputs[channel]
        if self._read_now(channel) == b"":
            asyncio.get_running_loop().remove_reader(fd)

    def close(self) -> None:
        """Close the descriptors. Only for a dead box, since a living process would fail at its next write."""
        loop = asyncio.get_running_loop()
        for fd in self._outputs.values():
            loop.remove_reader(fd)
            self._close(fd)
        self._outputs.clear()
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def _close(self, fd: int) -> None:
        if fd == self._stdin:
            asyncio.get_running_loop().remove_writer(fd)
            self._stdin = None
        os.close(fd)

    def set_status(self, status: ExitStatus | None) -> None:
        """Set the exit status. The box calls this; None means that the box died first."""
        if status is not None:
            self._ended.set_result(status)
        else:
            self._ended.set_exception(BoxDied("the sandbox died before the process ended"))
            self._ended.exception()  # marks the exception as retrieved


class Watch:
    """Changes below a folder in their order, for `async for`. It ends when it is closed, or when the box dies.

    Events wait in a pipe and then in the kernel until they are read. An "overflow" event means that some are lost.
    """

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines
        self._syncing: deque[asyncio.Future[None]] = deque()

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> WatchEvent:
        while (message := await self._lines.next()) is not None:
            if message["type"] != "synced":
                return WatchEvent(message["type"], str(message["name"]))
            if self._syncing:
                _resolve(self._syncing.popleft())
        self.release()
        raise StopAsyncIteration

    async def sync(self) -> None:
        """Return when all changes before this call have gone through `async for`, or when that has ended."""
        synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._lines.write(b"?"):
            self._syncing.append(synced)
            await synced

    def release(self) -> None:
        """Let all calls of `sync` return."""
        while self._syncing:
            _resolve(self._syncing.popleft())

    def close(self) -> None:
        """Stop watching, if that has not been done."""
        self._lines.close()
        self.release()


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():  # its caller may have gone
        future.set_result(None)


async def check_reply(lines: JsonLines) -> dict[str, Any]:
    """Return a helper's next message. Raises the OSError that it reports, or BoxDied if it ends."""
    try:
        message = await lines.next()
        if message is None:
            raise BoxDied("the sandbox's helper was killed")
        if "error" in message:
            raise OSError(int(message["error"]["errno"]), str(message["error"]["message"]))
        return dict(message)
    except (ValueError, KeyError, TypeError) as error:
        raise BoxDied("the sandbox's helper does not make sense") from error


def _waiting_bytes(fd: int) -> int:
    """Return the number of bytes that can be read from a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
