"""What runs in a box, as the server sees it: processes, watches, and helpers that have something to say."""

import asyncio
import fcntl
import os
import sys
import termios
from collections.abc import Awaitable, Callable
from typing import Any

from harness.local.boxes.descriptors import CHUNK, JsonLines, until_ready
from harness.local.boxes.types import BoxDied, BoxError, ExitStatus, OutputName, WatchEvent

SendSignal = Callable[[int, int], Awaitable[None]]

_POLL_S = 0.1
"""How often a pipe is looked at that is left to fill: a full one would make its writer wait."""


class BoxProcess:
    """A process in a sandbox. It belongs to the box: dropping this object does not stop it.

    Whoever has it reads until None, or releases it: its descriptors are ours until then.
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
        """The next output; None when the process has ended and all it wrote has been read, or when nobody holds
        the other end any more. What a daemon writes after that is `release`'s. One reader at a time.

        Output waits in a pipe until it is read, and the process waits with it: keep reading, or `release`.
        """
        while True:
            for channel in list(self._outputs):
                data = self._read_now(channel)
                if data:
                    return channel, data
            if not self._outputs or self._ended.done():
                return None
            await until_ready(list(self._outputs.values()), [], self._ended)

    def _read_now(self, channel: OutputName) -> bytes | None:
        fd = self._outputs.pop(channel)  # put back at the end, so that channels take turns
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            self._outputs[channel] = fd
            return None
        except OSError:
            data = b""  # a terminal whose last holder is gone answers EIO
        if data:
            self._outputs[channel] = fd
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
                await until_ready([], [self._stdin], self._ended)
                if self._ended.done():
                    raise BrokenPipeError("the process has ended") from None
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
        await self._send_signal(self.pid, int(signum))

    async def wait(self) -> ExitStatus:
        """How the process itself ended; output may still follow. BoxDied when the box died first."""
        return await asyncio.shield(self._ended)

    async def wait_for_output(self, enough: int, seconds: float) -> None:
        """Wait until about as many bytes are there to be read, the process itself has ended, or so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            ended, _ = await asyncio.wait([self._ended], timeout=min(_POLL_S, left))
            if ended or any(_waiting_bytes(fd) >= enough for fd in self._outputs.values()):
                return

    @property
    def has_input(self) -> bool:
        """Whether something can be written to its stdin, or its terminal."""
        return self._stdin is not None

    @property
    def ended(self) -> ExitStatus | None:
        """The exit status once there is one."""
        done = self._ended.done() and not self._ended.cancelled() and self._ended.exception() is None
        return self._ended.result() if done else None

    @property
    def is_open(self) -> bool:
        """Whether there are descriptors left to close."""
        return bool(self._outputs) or self._stdin is not None

    def release(self) -> None:
        """Read no more: what is still to come is dropped as it comes, so that a daemon which kept the output
        never waits for a reader, nor dies of having none."""
        loop = asyncio.get_running_loop()
        for channel, fd in self._outputs.items():
            loop.add_reader(fd, self._drop, channel)

    def _drop(self, channel: OutputName) -> None:
        fd = self._outputs[channel]
        if self._read_now(channel) == b"":
            asyncio.get_running_loop().remove_reader(fd)

    def close(self) -> None:
        """Give up the descriptors. Only for a dead box: a living process would fail at its next write."""
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

    def end(self, status: ExitStatus | None) -> None:
        """Told by the box: how the process ended, or None when the box died first."""
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
        message = await self._lines.next()
        if message is None:
            raise StopAsyncIteration
        return WatchEvent(message["type"], str(message["name"]))

    def close(self) -> None:
        """Watch no more. Fine when closed already."""
        self._lines.close()


async def check_reply(lines: JsonLines) -> dict[str, Any]:
    """A helper's next word. Raises the OSError that it reports, or BoxDied when it says nothing more."""
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
    """How many bytes there are to be read from a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
