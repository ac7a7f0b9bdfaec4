"""Forwarding of connections to ports of sandboxes, below HTTP.

A request for a port of a sandbox (other than envd's) turns its connection into one to that port, byte for byte.
So every protocol works: streams, web sockets, anything else. All other requests go to the application.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from harness.local.api_errors import ApiError
from harness.local.network.splice import splice

_END = b"\r\n\r\n"
_MAX_HEAD = 1 << 16
_TLS = b"\x16\x03"
"""The first bytes of a TLS connection."""
_FIELD = re.compile(rb"^([!-9;-~]+):[ \t]*([^\r\n]*?)[ \t]*$", re.MULTILINE)


class PortRouter(Protocol):
    """Finds and connects to ports of sandboxes."""

    def find_port(self, fields: dict[str, str]) -> tuple[str, int] | None:
        """Return the sandbox and its port that a request with these header fields is for."""

    async def connect(
        self, sandbox_id: str, port: int, fields: dict[str, str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to that port. Raises ApiError."""


class PortForwarder(HttpToolsProtocol):
    """The protocol of one connection to the server. `config.app` must also be a PortRouter."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._router: PortRouter = self.config.app  # type: ignore[assignment]  # as the class demands
        self._pending = b""
        self._reading = False

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self._reading = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that a request has been read, with its body."""
        self._reading = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Buffer the head of a request until its target is known, then forward it or pass it on to HTTP."""
        if self._pending or self._is_idle:
            self._pending += data
            if self._pending.startswith(_TLS):
                self.send_400_response("This server speaks plain HTTP: use http:// in place of https://")
                return
            end = self._pending.find(_END)
            if (len(self._pending) if end < 0 else end) > _MAX_HEAD:
                self.send_400_response("Request header fields too large")
                return
            if end < 0:
                return
            data, self._pending = self._pending, b""
            fields = _parse_fields(data)
            if target := self._router.find_port(fields):
                self._forward(data, target, fields)
                return
        super().data_received(data)

    @property
    def _is_idle(self) -> bool:
        """True if the next bytes begin a request, and all requests before it have been answered."""
        return not self._reading and (self.cycle is None or self.cycle.response_complete)

    def _forward(self, data: bytes, target: tuple[str, int], fields: dict[str, str]) -> None:
        """Detach the connection from HTTP, and forward it with the bytes read so far."""
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        reader = asyncio.StreamReader(loop=self.loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self.loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        reader.feed_data(data)
        writer = asyncio.StreamWriter(self.transport, protocol, reader, self.loop)
        splicing = self.loop.create_task(self._splice((reader, writer), target, fields))
        self.tasks.add(splicing)  # the loop holds tasks only weakly
        splicing.add_done_callback(self.tasks.discard)

    async def _splice(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        target: tuple[str, int],
        fields: dict[str, str],
    ) -> None:
        try:
            await splice(client, await self._router.connect(*target, fields))
        except ApiError as error:
            body = error.encode()
            client[1].write(
                f"HTTP/1.1 {error.status} Refused\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
                + body
            )
        finally:
            client[1].close()


def _parse_fields(head: bytes) -> dict[str, str]:
    """Return the header fields of a request by their lower-case names."""
    found = _FIELD.findall(head.partition(_END)[0].replace(b"\r\n", b"\n"))
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in found}
