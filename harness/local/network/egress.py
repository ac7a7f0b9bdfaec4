"""The only network access of a sandbox: listeners on its own loopback that the server serves from outside.

The guest opens a listening socket in the sandbox's network and passes it to the server. So the server accepts the
connections made inside, and checks them against the policy. There are two kinds of listeners: an HTTP proxy (CONNECT
for TLS, and plain HTTP), and single ports of this machine's loopback. The proxy is there even where nothing may be
reached, to say so.

If the policy adds header fields for an origin, the proxy takes the requests to it apart (relay.py). For TLS it uses a
certificate of the sandbox's own authority.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.local.network.api_meter import ApiMeter
from harness.local.network.authority import TRUST, Authority
from harness.local.network.machine import extra_certificates, system_certificates
from harness.local.network.origin import Origin
from harness.local.network.policy import LOOPBACK_NAMES, NetworkPolicy
from harness.local.network.relay import (
    HEAD_TIMEOUT,
    MAX_HEAD,
    BadRequest,
    ClientGone,
    ClientSide,
    prepare,
    relay,
)
from harness.local.network.splice import Stream, splice
from harness.local.network.upstream import (
    Refused,
    Unreachable,
    Upstream,
    connect,
    connect_loopback,
    start_tls,
)

MAX_REFUSALS = 100
MAX_CONNECTIONS = 256
"""Of one sandbox at a time. Each takes up to two descriptors of the server's, which all sandboxes share."""
_PEEK_TIMEOUT = 2.0
_OWN_HOSTS = "localhost,127.0.0.1,::1,0.0.0.0,sandbox"
"""The sandbox itself, by the names that its programs call it."""
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_NO_REQUEST = (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)

Listen = Callable[[int], Awaitable[socket.socket]]
"""Opens a listening socket on the sandbox's 127.0.0.1. Port 0 takes any free port."""


Connect = Callable[[int], Awaitable[socket.socket]]
"""Connects to a port inside the sandbox."""


@dataclass(frozen=True)
class Request:
    """The first lines of what a client sent to the proxy."""

    method: str
    host: str
    port: int
    path: str
    head: bytes
    """All of them."""


@dataclass(frozen=True)
class LoopbackAlias:
    """A host name for a port of the sandbox itself, which is the port's name outside. It is served over TLS."""

    host: str
    port: int
    """The port in the name's URL, on which the alias listens inside."""
    target: int


class Egress:
    """The listeners of one sandbox. They let through what the current policy allows."""

    def __init__(self, listen: Listen, ca: Path | None = None) -> None:
        self._listen = listen
        self._ca = ca
        self._certificates = b""
        self._policy = NetworkPolicy(allow_internet_access=False)
        self._proxy: asyncio.Server | None = None
        self._proxy_port = 0
        self._ports: dict[int, asyncio.Server] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._authority: Authority | None = None
        self._alias: LoopbackAlias | None = None
        self._meter = ApiMeter()
        self._refusals: Counter[tuple[str, str, bool]] = Counter()
        self.bundle: bytes | None = None
        """The certificates that programs in the sandbox have to trust; None where the system's will do."""

    def report(self) -> dict[str, Any]:
        """The sights so far, as JSON values: the model's API (null where no key is added), and what was refused, or
        could not be reached."""
        return {
            "api": self._meter.report() if self._policy.injections else None,
            "refused": [
                {"target": target, "reason": reason, "count": count, "by_rules": by_rules}
                for (target, reason, by_rules), count in self._refusals.items()
            ],
        }

    async def open_alias(self, alias: LoopbackAlias, connect: Connect) -> None:
        """Serve the alias's target under its host name, both directly and through the proxy.

        `connect` opens connections to the target. Raises OSError if the port is taken inside.
        """
        self._alias, self._connect_inside = alias, connect
        await self._serve(alias.port, self._serve_alias, self._ensure_authority().context(alias.host))

    async def _serve_alias(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._alias is not None  # this handler is set only with an alias
        inside = await asyncio.open_connection(sock=await self._connect_inside(self._alias.target))
        await splice((reader, writer), inside)

    async def apply(self, policy: NetworkPolicy) -> None:
        """Apply a policy. Connections made under another policy are closed.

        Raises OSError if a port is taken inside, or if certificates that this machine trusts cannot be read.
        """
        for port in policy.loopback_ports - self._ports.keys():
            self._ports[port] = await self._serve(port, self._make_loopback_handler(port))
        for port in self._ports.keys() - policy.loopback_ports:
            self._ports.pop(port).close()
        if self._proxy is None:
            self._proxy = await self._serve(0, self._serve_proxy)
            self._proxy_port = self._proxy.sockets[0].getsockname()[1]
        if any(origin.scheme == "https" for origin in policy.keyed):
            self._ensure_authority()
        self._certificates = extra_certificates(self._ca)
        if self._authority or self._certificates:
            own = self._authority.certificate if self._authority else b""
            self.bundle = b"\n".join((system_certificates(), self._certificates, own))
        if policy != self._policy:
            for connection in self._connections:
                connection.cancel()
        self._policy = policy

    @property
    def env(self) -> dict[str, str]:
        """The variables that name the proxy and the trusted certificates."""
        trust = TRUST if self.bundle else {}
        if self._proxy is None:
            return trust
        url = f"http://127.0.0.1:{self._proxy_port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        nothing = dict.fromkeys(("NO_PROXY", "no_proxy"), _OWN_HOSTS)
        # It doubles the time that Node takes to start. Without it, Node's own requests are refused by the kernel.
        node = {"NODE_USE_ENV_PROXY": "1"} if self._policy.can_reach_out else {}
        return {**dict.fromkeys(names, url), **nothing, **trust, **node}

    def close(self) -> None:
        """Close all listeners and connections."""
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.cancel()

    async def _serve(
        self, port: int, handle: "Handle", context: ssl.SSLContext | None = None
    ) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.current_task()
            assert connection is not None  # a coroutine runs in a task
            if len(self._connections) >= MAX_CONNECTIONS:
                writer.close()
                return
            self._connections.add(connection)
            try:
                await handle(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass  # one end broke off, or the policy changed: the other end is closed below
            finally:
                self._connections.discard(connection)
                writer.close()

        server = await asyncio.start_server(serve, sock=await self._listen(port), limit=MAX_HEAD, ssl=context)
        self._servers.append(server)
        return server

    def _make_loopback_handler(self, port: int) -> "Handle":
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client, origin = (reader, writer), self._policy.key_at_loopback(port)
            if origin is not None and origin.scheme == "https":
                await self._start_tls_inside(client, *LOOPBACK_NAMES)
            try:
                upstream = Upstream(await connect_loopback(port))
                if origin is not None and origin.scheme == "https":
                    await start_tls(upstream.stream, origin.host, self._certificates)
            except Unreachable as error:
                if origin is not None:
                    self._meter.note_unreachable(str(error))
                await _answer(writer, 502, str(error), await _peek(reader))
                return
            if origin is None:
                await splice(client, upstream.stream)
            else:
                await self._relay(ClientSide(client), upstream, origin)

        return handle

    async def _serve_proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = _parse_request(await _read_head(reader))
        except _NO_REQUEST:
            return
        except BadRequest as error:
            await _answer(writer, error.status, str(error))
            return
        if self._alias and (request.method, request.host) == ("CONNECT", self._alias.host):
            writer.write(_ESTABLISHED)
            await self._start_tls_inside((reader, writer), self._alias.host)
            await self._serve_alias(reader, writer)
            return
        is_tunnel = request.method == "CONNECT"
        origin = self._policy.key_at("https" if is_tunnel else "http", request.host, request.port)
        try:
            upstream = await connect(
                self._policy, request.host, request.port, plain=not is_tunnel, certificates=self._certificates
            )
        except Refused as error:
            self._note_refusal(f"{request.host}:{request.port}", str(error))
            await _answer(writer, 403, str(error))
            return
        except Unreachable as error:
            if origin is not None:
                self._meter.note_unreachable(str(error))
            else:
                self._note_refusal(f"{request.host}:{request.port}", str(error), by_rules=False)
            await _answer(writer, 502, str(error))
            return
        if is_tunnel:
            await self._serve_tunnel((reader, writer), upstream, origin)
        elif origin is None:
            upstream.stream[1].write(_forwarded(request, upstream))
            await splice((reader, writer), upstream.stream)
        else:
            await self._relay(ClientSide((reader, writer), request.head), upstream, origin)

    async def _serve_tunnel(self, client: Stream, upstream: Upstream, origin: Origin | None) -> None:
        client[1].write(_ESTABLISHED)
        if origin is None:
            await splice(client, upstream.stream)
            return
        try:
            await self._start_tls_inside(client, origin.host)
            await start_tls(upstream.stream, origin.host, self._certificates)
        except Unreachable as error:
            upstream.stream[1].close()
            self._meter.note_unreachable(str(error))
            await _answer(client[1], 502, str(error))
            return
        except BaseException:
            upstream.stream[1].close()
            raise
        await self._relay(ClientSide(client), upstream, origin)

    async def _relay(self, client: ClientSide, upstream: Upstream, origin: Origin) -> None:
        """Pass one request on with its key."""
        try:
            request = prepare(
                await client.read_request(), origin, self._policy.keyed[origin], upstream, self._meter
            )
            await relay(client, upstream.stream, request)
        except BadRequest as error:
            self._note_refusal(str(origin), str(error))
            await client.refuse(
                error.status, f"harness refused it: {error}", _phrase(error.status, str(error))
            )
        except ClientGone:
            pass  # nobody waits for an answer
        finally:
            upstream.stream[1].close()

    async def _start_tls_inside(self, client: Stream, *hosts: str) -> None:
        """Act as a host towards a client. Raises OSError if that speaks no TLS, or none in time."""
        async with asyncio.timeout(HEAD_TIMEOUT):
            await client[1].start_tls(self._ensure_authority().context(*hosts))

    def _note_refusal(self, target: str, reason: str, *, by_rules: bool = True) -> None:
        if (target, reason, by_rules) in self._refusals or len(self._refusals) < MAX_REFUSALS:
            self._refusals[target, reason, by_rules] += 1

    def _ensure_authority(self) -> Authority:
        """Return the certificate authority, made at the first call."""
        self._authority = self._authority or Authority()
        return self._authority


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _parse_request(head: bytes) -> Request:
    """Parse what is for a proxy. Raises BadRequest."""
    line, _, _ = head.partition(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
        if method == "CONNECT":
            parts = urlsplit(f"//{target}")
            path, port = "", parts.port
        else:
            parts = urlsplit(target)
            path, port = parts._replace(scheme="", netloc="").geturl() or "/", parts.port or 80
    except ValueError:
        raise BadRequest(400, "not a proxy request") from None
    if not parts.hostname or port is None or (method != "CONNECT" and parts.scheme != "http"):
        raise BadRequest(400, "a proxy serves CONNECT host:port and http:// targets")
    if parts.username is not None or not version.startswith("HTTP/1."):
        raise BadRequest(400, "a proxy serves HTTP/1.1, without a user in the target")
    return Request(method, parts.hostname, port, path, head)


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """Read the head of a request. Raises one of _NO_REQUEST if there is none."""
    async with asyncio.timeout(HEAD_TIMEOUT):
        return await reader.readuntil(b"\r\n\r\n")


def _forwarded(request: Request, upstream: Upstream) -> bytes:
    """The head of a plain request as it goes to its host, or to a proxy of this machine's."""
    _, _, fields = request.head.partition(b"\r\n")
    host = f"[{request.host}]" if ":" in request.host else request.host
    at = f"http://{host}:{request.port}" if upstream.proxy else ""
    secret = upstream.proxy.authorization if upstream.proxy else ""
    added = f"Proxy-Authorization: {secret}\r\n".encode() if secret else b""
    line = f"{request.method} {at}{request.path} HTTP/1.1\r\n".encode()
    return line + added + _ask_for_one_response(fields)


def _ask_for_one_response(fields: bytes) -> bytes:
    """Return header fields that ask for one response, since the next request may be for another host.

    A request for another protocol (a web socket) is left alone: it is the last one anyway.
    """
    if b"\nupgrade:" in fields.lower():
        return fields
    dropped = (b"connection:", b"proxy-connection:", b"proxy-authorization:", b"keep-alive:")
    kept = [line for line in fields.split(b"\r\n") if line and not line.lower().startswith(dropped)]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


async def _peek(reader: asyncio.StreamReader) -> bool:
    """True if a client begins with an HTTP request, so that it understands an answer."""
    try:
        async with asyncio.timeout(_PEEK_TIMEOUT):
            return b" HTTP/1." in (await _read_head(reader)).partition(b"\r\n")[0]
    except _NO_REQUEST:
        return False


def _phrase(status: int, reason: str) -> str:
    """A reason phrase that says who answers, and why: for many clients it is all of the answer that they show."""
    if status == 400:
        return "Bad Request"
    what = "Refused by harness" if status == 403 else "harness"
    return f"{what}: {' '.join(reason.split())[:200]}".encode("ascii", "replace").decode()


async def _answer(writer: asyncio.StreamWriter, status: int, reason: str, is_http: bool = True) -> None:
    """Answer with an error of the proxy's own."""
    if not is_http:
        return
    words = f"harness refused it: {reason}" if status == 403 else f"harness: {reason}"
    body = f"{words}\n".encode()
    head = f"HTTP/1.1 {status} {_phrase(status, reason)}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    head += f"Content-Length: {len(body)}\r\nX-Refused-By: harness\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
