"""One HTTP request with a key: taken apart, checked, and sent to the one origin that the key is for.

Both messages are read and written anew, so that what the server takes for the request is what was checked here. A
connection carries one request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import h11

from harness.local.network.api_meter import ApiMeter, Exchange
from harness.local.network.origin import Origin
from harness.local.network.policy import LOOPBACK_NAMES
from harness.local.network.splice import Stream, splice
from harness.local.network.upstream import Upstream

MAX_HEAD = 1 << 16
HEAD_TIMEOUT = 30.0
_CHUNK = 1 << 16
_HOP_BY_HOP = frozenset(
    (b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"trailer", b"expect")
)
_CREDENTIALS = frozenset((b"authorization", b"x-api-key"))
"""A request with a key has no other: a server that prefers the sandbox's own would refuse it."""

Fields = list[tuple[bytes, bytes]]


class BadRequest(Exception):
    """The client sent no request that gets a key. `status` and the message are its answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ClientGone(Exception):
    """The client left before it had sent its request."""


class ClientSide:
    """The client's connection: its request, event by event, and the answer to it."""

    def __init__(self, stream: Stream, head: bytes = b"") -> None:
        self.reader, self.writer = stream
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        if head:
            self.http.receive_data(head)

    async def read_request(self) -> h11.Request:
        """Read the head. Raises BadRequest, ClientGone."""
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                event = await self.next_event()
        except TimeoutError:
            raise ClientGone from None
        if not isinstance(event, h11.Request):
            raise ClientGone
        if event.http_version == b"1.1" and self.http.client_is_waiting_for_100_continue:
            self.writer.write(self.http.send(h11.InformationalResponse(status_code=100, headers=[])))
        return event

    async def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event. Raises BadRequest, ClientGone."""
        while True:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError as error:
                raise BadRequest(error.error_status_hint, f"not an HTTP/1.1 request: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            data = await self.reader.read(_CHUNK)
            if not data and self.http.their_state is h11.SEND_BODY:
                raise ClientGone
            self.http.receive_data(data)

    async def refuse(self, status: int, reason: str, phrase: str) -> None:
        """Answer with an error, if nothing has been answered yet."""
        if self.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = f"{reason}\n".encode()
        fields = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("X-Refused-By", "harness"),
            ("Connection", "close"),
        ]
        head = h11.Response(status_code=status, reason=phrase.encode("latin-1", "replace"), headers=fields)
        # Not by `self.http`, which sends nothing after a broken request.
        answer = h11.Connection(h11.SERVER)
        self.writer.write((answer.send(head) or b"") + body)
        await self.writer.drain()


@dataclass(frozen=True)
class KeyedRequest:
    """A request as it goes out."""

    head: h11.Request
    exchange: Exchange | None
    is_upgrade: bool


def prepare(
    request: h11.Request, origin: Origin, key: Mapping[str, str], upstream: Upstream, meter: ApiMeter
) -> KeyedRequest:
    """Check a request, and give it the key. Raises BadRequest."""
    if request.http_version not in (b"1.0", b"1.1"):
        raise BadRequest(505, "only HTTP/1.1 is spoken here")
    if request.method in (b"TRACE", b"CONNECT"):
        raise BadRequest(405, f"{request.method.decode()} is no request that gets a key")
    path = _path_at(request.target, origin)
    _check_fields(request.headers, origin)
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    exchange = meter.begin(request.method.decode("latin-1"), path.decode("latin-1"), fields)
    dropped = _HOP_BY_HOP | {name.encode("latin-1") for name in key}
    if not _CREDENTIALS.isdisjoint(name.encode("latin-1") for name in key):
        dropped |= _CREDENTIALS
    if exchange:
        dropped |= {b"accept-encoding"}
    is_upgrade = b"upgrade" in dict(request.headers)
    kept: Fields = [
        (name, value) for name, value in request.headers.raw_items() if name.lower() not in dropped
    ]
    kept += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in key.items()]
    kept.append((b"Connection", b"Upgrade" if is_upgrade else b"close"))
    if b"host" not in dict(request.headers):
        kept.append((b"Host", origin.authority.encode("ascii")))
    if exchange:
        kept.append((b"Accept-Encoding", b"identity"))
    if upstream.proxy:
        path = str(origin).encode() + path
        if upstream.proxy.authorization:
            kept.append((b"Proxy-Authorization", upstream.proxy.authorization.encode("latin-1")))
    return KeyedRequest(h11.Request(method=request.method, target=path, headers=kept), exchange, is_upgrade)


def _path_at(target: bytes, origin: Origin) -> bytes:
    """The path of a request's target. Raises BadRequest for one of another origin."""
    if target.startswith(b"/") or target == b"*":
        return target
    scheme, mark, rest = target.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    if not mark or scheme.lower() != origin.scheme.encode() or not _is_authority_of(authority, origin):
        raise BadRequest(421, f"{target.decode('latin-1')[:200]} is not of {origin}")
    return slash + path or b"/"


def _check_fields(headers: Iterable[tuple[bytes, bytes]], origin: Origin) -> None:
    """Raise BadRequest for fields that two servers could read in two ways, or that name another host."""
    names = [name for name, _ in headers]
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or not all(_is_authority_of(host, origin) for host in hosts):
        raise BadRequest(421, f"the Host field is not {origin.authority}")
    if b"transfer-encoding" in names and b"content-length" in names:
        raise BadRequest(400, "both Transfer-Encoding and Content-Length are given")


def _is_authority_of(authority: bytes, origin: Origin) -> bool:
    try:
        found = Origin.parse(f"{origin.scheme}://{authority.decode('ascii')}")
    except ValueError:
        return False
    if found.port == origin.port and {found.host, origin.host} <= set(LOOPBACK_NAMES):
        return True
    return found == origin


async def relay(client: ClientSide, upstream: Stream, request: KeyedRequest) -> None:
    """Send a request and its body on, and its answer back. Raises BadRequest, ClientGone, OSError."""
    server = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    exchange = request.exchange
    upstream[1].write(server.send(request.head) or b"")
    answering = asyncio.create_task(_send_answer(client, upstream, server, exchange))
    sending = asyncio.create_task(_send_body(client, upstream, server, request))
    try:
        await asyncio.wait({answering, sending}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            sending.result()  # it ends only by an error: a body that is none, or a client that has left
        await answering
    finally:
        for task in (answering, sending):
            task.cancel()
        await asyncio.gather(answering, sending, return_exceptions=True)
        if exchange:
            exchange.on_cut(by_client=True)  # unless it has ended


async def _send_body(
    client: ClientSide, upstream: Stream, server: h11.Connection, request: KeyedRequest
) -> None:
    """Send the body on; then wait for the client to leave. What it sends after its request is dropped."""
    exchange = request.exchange
    while True:
        event = await client.next_event()
        if isinstance(event, h11.Data):
            data = bytes(event.data)
            if exchange:
                exchange.on_body(data)
            upstream[1].write(server.send(h11.Data(data=data)) or b"")
            with contextlib.suppress(OSError):  # the answer to it may be there all the same
                await upstream[1].drain()
        elif isinstance(event, h11.EndOfMessage):
            upstream[1].write(server.send(h11.EndOfMessage()) or b"")
            if exchange:
                exchange.on_sent()
            break
        else:
            raise ClientGone
    if request.is_upgrade:
        await asyncio.get_running_loop().create_future()
    while await client.reader.read(_CHUNK):
        pass
    raise ClientGone


async def _send_answer(
    client: ClientSide, upstream: Stream, server: h11.Connection, exchange: Exchange | None
) -> None:
    while True:
        event = await _next_of_answer(upstream, server, exchange)
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            await _switch(client, upstream, server, event)
            return
        if isinstance(event, h11.Response):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            if exchange:
                exchange.on_response(event.status_code, headers)
            fields = [(n, v) for n, v in event.headers.raw_items() if n.lower() not in _HOP_BY_HOP]
            head = h11.Response(
                status_code=event.status_code,
                reason=event.reason,
                headers=[*fields, (b"Connection", b"close")],
            )
            await _send(client, head)
        elif isinstance(event, h11.Data):
            data = bytes(event.data)
            if exchange:
                exchange.on_data(data)
            await _send(client, h11.Data(data=data))
        elif isinstance(event, h11.EndOfMessage):
            if exchange:
                exchange.on_end()
            await _send(client, h11.EndOfMessage())
            return


async def _next_of_answer(
    upstream: Stream, server: h11.Connection, exchange: Exchange | None
) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    """The answer's next event. Raises ConnectionError when the server's side has broken."""
    while True:
        try:
            event = server.next_event()
            if event is not h11.NEED_DATA:
                if isinstance(event, h11.ConnectionClosed):
                    raise ConnectionResetError("the server closed the connection")
                return event
            if exchange:
                exchange.on_waiting()
            data = await upstream[0].read(_CHUNK)
            server.receive_data(data)
        except (h11.RemoteProtocolError, OSError) as error:
            if exchange:
                exchange.on_cut(by_client=False)
            raise ConnectionResetError(f"the server's answer broke off: {error}") from error


async def _send(client: ClientSide, event: h11.Event) -> None:
    client.writer.write(client.http.send(event) or b"")
    await client.writer.drain()


async def _switch(
    client: ClientSide, upstream: Stream, server: h11.Connection, event: h11.InformationalResponse
) -> None:
    """The connection goes on with another protocol (a web socket): bytes both ways."""
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in event.headers.raw_items())
    client.writer.write(b"HTTP/1.1 101 " + event.reason + b"\r\n" + lines + b"\r\n" + server.trailing_data[0])
    await splice((client.reader, client.writer), upstream)
