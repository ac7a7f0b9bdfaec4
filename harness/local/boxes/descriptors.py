"""Waiting for descriptors in asyncio without a transport, so that nothing is read ahead."""

import asyncio
import json
import os
from collections import deque
from collections.abc import Sequence
from typing import Any

CHUNK = 1 << 16
MAX_LINE = 1 << 20


async def wait_until_ready(
    readable: Sequence[int], writable: Sequence[int], also: "asyncio.Future[Any] | None" = None
) -> None:
    """Wait until one of the descriptors can be read or written, or the future is done."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not ready.done():
            ready.set_result(None)

    for fd in readable:
        loop.add_reader(fd, wake)
    for fd in writable:
        loop.add_writer(fd, wake)
    if also is not None:
        also.add_done_callback(wake)
    try:
        await ready
    finally:
        if also is not None:
            also.remove_done_callback(wake)
        for fd in readable:
            loop.remove_reader(fd)
        for fd in writable:
            loop.remove_writer(fd)


class JsonLines:
    """Reads JSON values, one a line, from a pipe whose other end is not trusted. Owns the descriptor."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd: int | None = fd
        self._rest = b""
        self._lines: deque[bytes] = deque()

    async def next(self) -> Any:
        """Return the next value, or None at the end. Raises ValueError for an invalid line."""
        while not self._lines:
            if self._fd is None:
                return None
            try:
                data = os.read(self._fd, CHUNK)
            except BlockingIOError:
                await wait_until_ready([self._fd], [])
                continue
            if not data:
                self.close()
                return None
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(lines)
            if len(self._rest) > MAX_LINE:
                raise ValueError("line too long")
        return json.loads(self._lines.popleft())

    def write(self, data: bytes) -> bool:
        """Write to the other end, where the descriptor is a socket. Returns False if nobody takes it."""
        try:
            return self._fd is not None and os.write(self._fd, data) == len(data)
        except OSError:
            return False

    def close(self) -> None:
        """Close the descriptor, if it is open."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
