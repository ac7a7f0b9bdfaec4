"""A proxy in front of an E2B server that breaks what it is told to break: each request meets the next fault of a list.

    with ChaosProxy(server.url, ["pass", "429", "reset"]) as proxy: ...

Faults are named; when the list is at its end, every request passes. It works on connections, not on HTTP messages,
so that it can also break them in the middle: a connection carries one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Self, get_args
from urllib.parse import urlsplit

Fault = Literal[
    "pass",
    "refuse",
    "429",
    "429-after",
    "500",
    "502",
    "503",
    "reset",
    "cut",
    "tear",
    "stall",
    "slow",
    "truncate",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
STALL_S = 1.5
TEAR_AT = 8_000
"""So many bytes of a reply come through before it is torn, wherever that is in a line."""
_REPLIES = {
    "429": b"429 Too Many Requests",
    "429-after": b"429 Too Many Requests\r\nRetry-After: 1",
    "500": b"500 Internal Server Error",
    "502": b"502 Bad Gateway",
    "503": b"503 Service Unavailable",
}


class ChaosProxy:
    """Serves in a thread of its own. `met` counts the faults that requests have met.

    With `only`, those requests meet them whose head, or the beginning of whose body, has one of these in it.
    """

    def __init__(self, target: str, faults: Iterable[Fault], only: Sequence[bytes] = ()) -> None:
        self._only = only
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._faults: Iterator[Fault] = iter(faults)
        self.met: Counter[str] = Counter()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._meet, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio itself keeps no hold of what serves a connection; one that waits for ever would be collected.
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # Cut off when the proxy ends: Python 3.11's streams would print that as an error of their own.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            fault = "pass" if self._only else self._next()
            if fault == "refuse":
                writer.transport.abort()
                return
            head = await reader.readuntil(b"\r\n\r\n")
            body = b""
            if self._only and re.search(rb"(?i)\r\n(transfer-encoding|content-length: *[1-9])", head):
                body = await reader.read(65536)
                fault = self._next() if any(word in head + body for word in self._only) else "pass"
            if fault in _REPLIES:
                await self._drain_body(head, reader)
                writer.write(
                    b"HTTP/1.1 " + _REPLIES[fault] + b"\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
                )
                await writer.drain()
                return
            await self._forward(fault, head, body, reader, writer)
        writer.close()

    def _next(self) -> Fault:
        fault = next(self._faults, "pass")
        self.met[fault] += 1
        return fault

    async def _drain_body(self, head: bytes, reader: asyncio.StreamReader) -> None:
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if length:
            await reader.readexactly(int(length[1]))

    async def _forward(
        self,
        fault: Fault,
        head: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        # One request a connection, so that each meets a fault of its own.
        head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
        up_writer.write(head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n" + body)
        there = asyncio.ensure_future(_copy(reader, up_writer))
        try:
            await _break(fault, up_reader, writer)
        finally:
            there.cancel()
            up_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def _break(fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass a reply on, broken in one way."""
    first, passed = True, 0
    while data := await reader.read(65536):
        if fault == "reset" or (fault == "cut" and not first):
            writer.transport.abort()
            return
        passed += len(data)
        if fault == "tear" and passed > TEAR_AT:
            writer.write(data[: TEAR_AT - passed])
            await writer.drain()
            writer.transport.abort()
            return
        if fault == "truncate":
            writer.write(data[: max(len(data) * 2 // 3, 1)])
            await writer.drain()
            return
        if fault == "stall" and first:
            await asyncio.sleep(STALL_S)
        if fault == "slow":
            for start in range(0, len(data), 64):
                writer.write(data[start : start + 64])
                await writer.drain()
                await asyncio.sleep(0.001)
        else:
            writer.write(data)
            await writer.drain()
        first = False
