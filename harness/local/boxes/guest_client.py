"""The server's end of the socket to a guest: requests, replies, events, and descriptors sent with them."""

import array
import asyncio
import itertools
import json
import marshal
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from harness.local.boxes.types import BoxDied

MAX_FRAME = 1 << 20
MAX_FDS = 8
_CREDENTIALS = struct.Struct("3i")

Receive = Callable[[Any, list[int]], Any]
"""Makes a result of a reply and its descriptors. It owns the descriptors from then on."""


class GuestRefused(Exception):
    """The guest replied to a request with an error."""

    def __init__(self, kind: str, number: int, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.number = number


class GuestClient:
    """Sends requests to one guest. Its messages are not trusted: they must be small, valid JSON.

    The socket must have SO_PASSCRED set before the guest is started, so that the kernel identifies the sender.
    """

    def __init__(self, sock: socket.socket, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Any], Receive]] = {}
        self._buffer = bytearray()
        self._fds: deque[int] = deque()
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self.peer: int | None = None
        """The guest's pid on this machine; None until the guest has sent a message."""
        self.closed = False
        sock.setblocking(False)
        self._loop.add_reader(sock, self._on_readable)

    async def call(
        self,
        op: str,
        fds: Sequence[int] = (),
        receive: Receive | None = None,
        **fields: Any,
    ) -> Any:
        """Send a request and wait for the reply. Raises GuestRefused or BoxDied.

        `receive` is called with the reply and its descriptors before any later event is dispatched. Without it the
        descriptors are closed.
        """
        if self.closed:
            raise BoxDied("the sandbox is dead")
        number = next(self._ids)
        body = marshal.dumps({"id": number, "op": op, "fds": len(fds), **fields})
        answer = self._loop.create_future()
        self._waiting[number] = (answer, receive or _value_only)
        self._send(memoryview(len(body).to_bytes(4, "big") + body), list(fds))
        return await answer

    async def request(
        self,
        op: str,
        fds: Sequence[int] = (),
        receive: Receive | None = None,
        **fields: Any,
    ) -> Any:
        """Like `call`, but raises the guest's errors as OSError."""
        try:
            return await self.call(op, fds, receive, **fields)
        except GuestRefused as error:
            raise OSError(error.number, str(error)) from error

    def _send(self, data: memoryview, fds: list[int]) -> None:
        # duplicates, since the caller may close its own before a full socket drains
        self._outgoing.append((data, [os.dup(fd) for fd in fds]))
        if len(self._outgoing) == 1:
            self._on_writable()

    def _on_writable(self) -> None:
        while self._outgoing:
            data, fds = self._outgoing[0]
            try:
                sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._on_writable)
                return
            except OSError:
                self.close()
                return
            for fd in fds:
                os.close(fd)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], [])
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._sock)

    def _on_readable(self) -> None:
        space = socket.CMSG_SPACE(4 * MAX_FDS) + socket.CMSG_SPACE(_CREDENTIALS.size)
        try:
            data, ancillary, _, _ = self._sock.recvmsg(1 << 16, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, packed in ancillary:
            self._take_ancillary(level, kind, packed)
        if not data:
            self.close()
        if self.closed:
            return
        self._buffer += data
        try:
            self._dispatch_frames()
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            self.close()

    def _take_ancillary(self, level: int, kind: int, packed: bytes) -> None:
        if kind == socket.SCM_RIGHTS:
            self._fds.extend(array.array("i", packed[: len(packed) - len(packed) % 4]))
            if len(self._fds) > MAX_FDS:
                self.close()
        elif kind == socket.SCM_CREDENTIALS and self.peer is None:
            self.peer = _CREDENTIALS.unpack(packed[: _CREDENTIALS.size])[0]

    def _dispatch_frames(self) -> None:
        while len(self._buffer) >= 4 and not self.closed:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > MAX_FRAME:
                raise ValueError("frame too large")
            if len(self._buffer) < 4 + size:
                return
            message = json.loads(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            if "event" in message:
                self._on_event(message)
            else:
                self._resolve(message)

    def _resolve(self, message: dict[str, Any]) -> None:
        fds = [self._fds.popleft() for _ in range(message["fds"])]
        answer, receive = self._waiting.pop(message["id"])
        if answer.done():  # the caller was cancelled: nobody takes the descriptors
            _close_all(fds)
        elif "error" in message:
            error = message["error"]
            answer.set_exception(GuestRefused(str(error["kind"]), int(error["errno"]), str(error["message"])))
        else:
            try:
                answer.set_result(receive(message["ok"], fds))
            except OSError as error:
                answer.set_exception(error)

    def close(self) -> None:
        """Close the socket. Every pending and later request raises BoxDied."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        _close_all(self._fds)
        for _, fds in self._outgoing:
            _close_all(fds)
        for answer, _ in self._waiting.values():
            if not answer.done():
                answer.set_exception(BoxDied("the sandbox is dead"))
                answer.exception()  # the caller may have been cancelled at the same moment
        self._waiting.clear()
        self._on_event({"event": "gone"})


def _value_only(value: Any, fds: list[int]) -> Any:
    _close_all(fds)
    return value


def _close_all(fds: Sequence[int] | deque[int]) -> None:
    for fd in fds:
        os.close(fd)
