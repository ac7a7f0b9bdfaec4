"""The only network access of a sandbox: listeners on its own loopback that the server serves from outside.

The guest opens a listening socket in the sandbox's network and passes it to the server. So the server accepts the
connections made inside, and checks them against the policy. There are two kinds of listeners: an HTTP proxy (CONNECT
for TLS, and plain HTTP), and single ports of this machine's loopback.

If the policy adds header fields for a host, the proxy changes the requests to it. For TLS it uses a certificate of the
sandbox's own authority. Such a connection carries one request, so that no request goes out unchanged.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.local.network.authority import TRUST, Authority
from harness.local.network.policy import Address, NetworkPolicy
from harness.local.network.splice import Stream, splice

MAX_HEAD = 1 << 16
HEAD_TIMEOUT = 30.0
CONNECT_TIMEOUT = 30.0
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_NO_REQUEST = (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)

Listen = Callable[[int], Awaitable[socket.socket]]
"""Opens a listening socket on the sandbox's 127.0.0.1. Port 0 takes any free port."""


Connect = Callable[[int], Awaitable[socket.socket]]
"""Connects to a port inside the sandbox."""


class ProxyError(Exception):
    """A request from the sandbox that is answered with an error."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Request:
    """The first lines of what a client sent to the proxy."""

    method: str
    host: str
    port: int
    head: bytes
    """The bytes to send to the upstream server; empty for CONNECT."""


@dataclass(frozen=True)
class LoopbackAlias:
    """A host name for a port of the sandbox itself, which is the port's name outside. It is served over TLS."""

    host: str
    port: int
    """The port in the name's URL, on which the alias listens inside."""
    target: int


class Egress:
    """The listeners of one sandbox. They let through what the current policy allows."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._policy = NetworkPolicy(allow_internet_access=False)
        self._proxy: asyncio.Server | None = None
        self._proxy_port = 0
        self._ports: dict[int, asyncio.Server] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._authority: Authority | None = None
        self._alias: LoopbackAlias | None = None

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

    @property
    def authority(self) -> Authority | None:
        """The certificate authority that the sandbox has to trust; None if there is none."""
        return self._authority

    async def apply(self, policy: NetworkPolicy) -> None:
        """Apply a policy. Connections made under another policy are closed.

        Raises OSError if a port is taken inside.
        """
        for port in policy.loopback_ports - self._ports.keys():
            self._ports[port] = await self._serve(port, self._make_loopback_handler(port))
        for port in self._ports.keys() - policy.loopback_ports:
            self._ports.pop(port).close()
        if policy.can_reach_out and self._proxy is None:
            self._proxy = await self._serve(0, self._serve_proxy)
            self._proxy_port = self._proxy.sockets[0].getsockname()[1]
        if policy.injections:
            self._ensure_authority()
        if policy != self._policy:
            for connection in self._connections:
                connection.cancel()
        self._policy = policy

    @property
    def env(self) -> dict[str, str]:
        """The variables that name the proxy, if there is network access, and the trusted certificates."""
        trust = TRUST if self._authority else {}
        if self._proxy is None or not self._policy.can_reach_out:
            return trust
        url = f"http://127.0.0.1:{self._proxy_port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        nothing = {"NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}
        return {**dict.fromkeys(names, url), **nothing, **trust, "NODE_USE_ENV_PROXY": "1"}

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
            upstream = await asyncio.open_connection("127.0.0.1", port)
            headers = self._policy.headers_for("127.0.0.1", port) | self._policy.headers_for(
                "localhost", port
            )
            try:
                if headers:
                    upstream[1].write(_set_headers(await _read_head(reader), headers))
            except _NO_REQUEST:
                upstream[1].close()
                return
            await splice((reader, writer), upstream)

        return handle

    async def _serve_proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = _parse_request(await _read_head(reader))
            if self._alias and (request.method, request.host) == ("CONNECT", self._alias.host):
                writer.write(_ESTABLISHED)
                await writer.start_tls(self._ensure_authority().context(self._alias.host))
                await self._serve_alias(reader, writer)
                return
            upstream = await self._connect(request.host, request.port)
        except _NO_REQUEST:
            return
        except ProxyError as refused:
            await _send_error(writer, refused)
            return
        headers = self._policy.headers_for(request.host, request.port)
        if request.method != "CONNECT":
            upstream[1].write(_set_headers(request.head, headers))
        else:
            writer.write(_ESTABLISHED)
            if headers and not await self._intercept_tls(request, (reader, writer), upstream, headers):
                return
        await splice((reader, writer), upstream)

    def _ensure_authority(self) -> Authority:
        """Return the certificate authority, made at the first call."""
        self._authority = self._authority or Authority()
        return self._authority

    async def _intercept_tls(
        self, request: Request, client: Stream, upstream: Stream, headers: dict[str, str]
    ) -> bool:
        """Open TLS to the client and to the host, and send the changed head of the request.

        Returns False if that fails. Then the connection to the host is closed.
        """
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                await client[1].start_tls(self._ensure_authority().context(request.host))
            head = _set_headers(await _read_head(client[0]), headers)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await upstream[1].start_tls(ssl.create_default_context(), server_hostname=request.host)
        except ssl.SSLCertVerificationError as error:
            upstream[1].close()
            await _send_error(
                client[1], ProxyError("502 Bad Gateway", f"{request.host} is not trusted: {error}")
            )
            return False
        except (*_NO_REQUEST, OSError):
            upstream[1].close()
            return False
        upstream[1].write(head)
        return True

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to an address that was checked. Looked up again, the name could resolve to another one."""
        reason = self._policy.refusal(host, port)
        if reason is not None:
            raise ProxyError("403 Forbidden", reason)
        addresses = await _resolve(host, port)
        permitted = self._policy.permitted(host, port, addresses)
        if not permitted:
            listed = ", ".join(map(str, addresses))
            raise ProxyError(
                "403 Forbidden", f"{host}:{port} ({listed}) is not allowed by the sandbox's network rules"
            )
        problem = ""
        for address in permitted:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await asyncio.open_connection(str(address), port)
            except (OSError, TimeoutError) as error:
                problem = f"{address}: {error or 'timed out'}"
        raise ProxyError("502 Bad Gateway", f"cannot connect to {host}:{port}: {problem}")


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass  # a name
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ProxyError("502 Bad Gateway", f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(ipaddress.ip_address(item[4][0]) for item in found))


def _parse_request(head: bytes) -> Request:
    line, _, rest = head.partition(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
        if method == "CONNECT":
            parts = urlsplit(f"//{target}")
            path, port = "", parts.port
        else:
            parts = urlsplit(target)
            path, port = parts._replace(scheme="", netloc="").geturl() or "/", parts.port or 80
    except ValueError:
        raise ProxyError("400 Bad Request", "not a proxy request") from None
    if not parts.hostname or port is None or (method != "CONNECT" and parts.scheme != "http"):
        raise ProxyError("400 Bad Request", "a proxy serves CONNECT host:port and http:// targets")
    if method == "CONNECT":
        return Request(method, parts.hostname, port, b"")
    return Request(
        method, parts.hostname, port, f"{method} {path} {version}\r\n".encode() + _ask_for_one_response(rest)
    )


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """Read the head of a request. Raises one of _NO_REQUEST if there is none."""
    async with asyncio.timeout(HEAD_TIMEOUT):
        return await reader.readuntil(b"\r\n\r\n")


def _set_headers(head: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request with these header fields in place of its own. It then asks for one response only."""
    if not headers:
        return head
    line, _, rest = _ask_for_one_response(head).partition(b"\r\n")
    kept = [
        field
        for field in rest.split(b"\r\n")
        if field and field.partition(b":")[0].strip().lower().decode("latin-1") not in headers
    ]
    added = [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
    return b"\r\n".join([line, *kept, *added, b"", b""])


def _ask_for_one_response(fields: bytes) -> bytes:
    """Return header fields that ask for one response, since the next request may be for another host.

    A request for another protocol (a web socket) is left alone: it is the last one anyway.
    """
    if b"\nupgrade:" in fields.lower():
        return fields
    dropped = (b"connection:", b"proxy-connection:", b"proxy-authorization:", b"keep-alive:")
    kept = [line for line in fields.split(b"\r\n") if line and not line.lower().startswith(dropped)]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


async def _send_error(writer: asyncio.StreamWriter, refused: ProxyError) -> None:
    body = f"{refused}\n".encode()
    head = f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    head += (
        f"Content-Length: {len(body)}\r\nX-Refused-By: sandbox network policy\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
