"""The only way out of a sandbox: listeners on its own loopback that are served from out here.

The guest opens a listening socket in the sandbox's network and hands it over, so that connections made
inside are accepted by the server, which checks them against the policy. There are two kinds: an HTTP proxy
(CONNECT for TLS, and plain HTTP), and single ports of this machine's loopback.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.local.network import Address, NetworkPolicy
from harness.local.splice import splice

MAX_HEAD = 1 << 16
HEAD_TIMEOUT = 30.0
CONNECT_TIMEOUT = 30.0

Listen = Callable[[int], Awaitable[socket.socket]]
"""Open a listening socket on the sandbox's 127.0.0.1; port 0 for any."""


class Refused(Exception):
    """A request of the sandbox's that is answered with an error."""

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
    """What to send on to the server; empty for CONNECT."""


class Egress:
    """The ways out of one sandbox; what they let through follows the policy of the moment."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._policy = NetworkPolicy(allow_internet_access=False)
        self._proxy: asyncio.Server | None = None
        self._proxy_port = 0
        self._ports: dict[int, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def apply(self, policy: NetworkPolicy) -> None:
        """Let through what this policy allows, and cut the connections made under another.

        Raises OSError when a port is taken inside.
        """
        for port in policy.loopback_ports - self._ports.keys():
            self._ports[port] = await self._serve(port, self._to_loopback(port))
        for port in self._ports.keys() - policy.loopback_ports:
            self._ports.pop(port).close()
        if policy.reaches_out and self._proxy is None:
            self._proxy = await self._serve(0, self._through_proxy)
            self._proxy_port = self._proxy.sockets[0].getsockname()[1]
        if policy != self._policy:
            for connection in self._connections:
                connection.cancel()
        self._policy = policy

    @property
    def env(self) -> dict[str, str]:
        """What tells programs of the proxy; empty when nothing outside can be reached."""
        if self._proxy is None or not self._policy.reaches_out:
            return {}
        url = f"http://127.0.0.1:{self._proxy_port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        nothing = {"NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}
        return {**dict.fromkeys(names, url), **nothing, "NODE_USE_ENV_PROXY": "1"}

    def close(self) -> None:
        """Let nothing through any more."""
        for server in (*self._ports.values(), *([self._proxy] if self._proxy else [])):
            server.close()
        for connection in self._connections:
            connection.cancel()

    async def _serve(self, port: int, handle: "Handle") -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.current_task()
            assert connection is not None  # a coroutine runs in a task
            self._connections.add(connection)
            try:
                await handle(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass  # an end broke off, or the policy changed: either way the other end learns of it below
            finally:
                self._connections.discard(connection)
                writer.close()

        return await asyncio.start_server(serve, sock=await self._listen(port), limit=MAX_HEAD)

    def _to_loopback(self, port: int) -> "Handle":
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream = await asyncio.open_connection("127.0.0.1", port)
            await splice((reader, writer), upstream)

        return handle

    async def _through_proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                request = _parse(await reader.readuntil(b"\r\n\r\n"))
            upstream = await self._connect(request.host, request.port)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        except Refused as refused:
            await _answer(writer, refused)
            return
        if request.method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            upstream[1].write(request.head)
        await splice((reader, writer), upstream)

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the very address that was checked: looked up again, a name could lead elsewhere."""
        reason = self._policy.refusal(host, port)
        if reason is not None:
            raise Refused("403 Forbidden", reason)
        addresses = await _resolve(host, port)
        permitted = self._policy.permitted(host, port, addresses)
        if not permitted:
            listed = ", ".join(map(str, addresses))
            raise Refused(
                "403 Forbidden", f"{host}:{port} ({listed}) is not allowed by the sandbox's network rules"
            )
        problem = ""
        for address in permitted:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await asyncio.open_connection(str(address), port)
            except (OSError, TimeoutError) as error:
                problem = f"{address}: {error or 'timed out'}"
        raise Refused("502 Bad Gateway", f"cannot connect to {host}:{port}: {problem}")


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass  # a name
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused("502 Bad Gateway", f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(ipaddress.ip_address(item[4][0]) for item in found))


def _parse(head: bytes) -> Request:
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
        raise Refused("400 Bad Request", "not a proxy request") from None
    if not parts.hostname or port is None or (method != "CONNECT" and parts.scheme != "http"):
        raise Refused("400 Bad Request", "a proxy serves CONNECT host:port and http:// targets")
    if method == "CONNECT":
        return Request(method, parts.hostname, port, b"")
    return Request(method, parts.hostname, port, f"{method} {path} {version}\r\n".encode() + _one_shot(rest))


def _one_shot(fields: bytes) -> bytes:
    """The header fields, asking for one response: the next request on this connection may be for elsewhere."""
    dropped = (b"connection:", b"proxy-connection:", b"proxy-authorization:", b"keep-alive:")
    kept = [line for line in fields.split(b"\r\n") if line and not line.lower().startswith(dropped)]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


async def _answer(writer: asyncio.StreamWriter, refused: Refused) -> None:
    body = f"{refused}\n".encode()
    head = f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    head += (
        f"Content-Length: {len(body)}\r\nX-Refused-By: sandbox network policy\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
