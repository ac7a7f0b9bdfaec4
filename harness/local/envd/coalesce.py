"""Coalescing of small messages of a reply that follow each other closely."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import Message, Send

_DELAY_S = 0.005
_FLUSH_BYTES = 16 * 1024
"""From this size on buffered bytes are sent at once."""


@asynccontextmanager
async def coalesce(send: Send) -> AsyncGenerator[Send]:
    """Yield a `send` for one reply that delays each part a moment, and sends it together with those that follow.

    One part costs a client about as much work as all of them together. So the output of a short command comes in one
    part and not in five.
    """
    coalescer = _Coalescer(send)
    try:
        yield coalescer.send
    finally:
        await coalescer.close()


class _Coalescer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._parts: list[Message] = []
        self._size = 0
        self._send_lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._delayed_flush: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Buffer an ASGI message. The buffer is sent when it is large, after a moment, or with the last message."""
        if self._delayed_flush and self._delayed_flush.done():
            self._delayed_flush.result()
        last = self._add(message)
        if last or self._size >= _FLUSH_BYTES:
            await self._flush()
        elif self._timer is None and (self._delayed_flush is None or self._delayed_flush.done()):
            self._timer = asyncio.get_running_loop().call_later(_DELAY_S, self._start_flush)

    async def close(self) -> None:
        """Drop the buffer. If the last message has not come, the client has gone."""
        if self._timer:
            self._timer.cancel()
        if self._delayed_flush:
            self._delayed_flush.cancel()
            await asyncio.gather(self._delayed_flush, return_exceptions=True)

    def _add(self, message: Message) -> bool:
        """Add a message to the buffer. Returns True if it is the last one of the reply."""
        if message["type"] != "http.response.body":
            self._head = message
            return False
        self._parts.append(message)
        self._size += len(message.get("body", b""))
        return not message.get("more_body", False)

    def _start_flush(self) -> None:
        self._timer = None
        self._delayed_flush = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        async with self._send_lock:
            while self._head or self._parts:  # more may be added while it is sent
                head, parts = self._head, self._parts
                self._head, self._parts, self._size = None, [], 0
                if head:
                    await self._send(head)
                if parts:
                    body = b"".join(part.get("body", b"") for part in parts)
                    await self._send({**parts[-1], "body": body})
