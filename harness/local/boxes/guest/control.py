"""The socket to the server."""

from __future__ import annotations

import marshal
import os
import sys
from _socket import CMSG_SPACE, SOL_SOCKET, socket

from harness.local.boxes.guest.processes import kill_all
from harness.local.boxes.guest.replies import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SCM_RIGHTS = 1
MSG_DONTWAIT = 0x40
MSG_CMSG_CLOEXEC = 0x40000000
MAX_FDS = 8


class ControlSocket:
    """Frames and descriptors over the control socket."""

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.fds: list[int] = []

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send a message, and descriptors with it."""
        body = encode(message).encode()
        data = memoryview(len(body).to_bytes(4, "big") + body)
        rights = (
            [(SOL_SOCKET, SCM_RIGHTS, b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds))] if fds else []
        )
        sent = self.sock.sendmsg([data], rights)
        while sent < len(data):
            sent += self.sock.send(data[sent:])

    def receive(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """Yield the complete requests received. Ends the process if the server is gone."""
        try:
            data, rights, _, _ = self.sock.recvmsg(
                1 << 16, CMSG_SPACE(4 * MAX_FDS), MSG_DONTWAIT | MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        if not data:
            kill_all()
            os._exit(0)
        for _, _, packed in rights:
            self.fds += [
                int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)
            ]
        self.buffer += data
        while len(self.buffer) >= 4:
            size = int.from_bytes(self.buffer[:4], "big")
            if len(self.buffer) < 4 + size:
                return
            message = marshal.loads(bytes(self.buffer[4 : 4 + size]))
            del self.buffer[: 4 + size]
            count = message.get("fds", 0)
            mine, self.fds = self.fds[:count], self.fds[count:]
            yield message, mine
