"""A key is added to requests of one scheme, host and port, however a request is spelled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import trustme

from harness.local.network.egress import Egress
from harness.local.network.policy import ALL_TRAFFIC, Injection, NetworkPolicy, NetworkPolicyError

KEY = "sk-the-key"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WAIT_S = 10
"""A bound for what hangs."""


@dataclass
class Place:
    """The proxy, and three servers of one host: `a` has the key in plain HTTP, `tls` over TLS, `b` has none."""

    proxy: int = 0
    inside: int = 0
    a: int = 0
    b: int = 0
    tls: int = 0
    heard: dict[str, bytes] = field(default_factory=lambda: {"a": b"", "b": b"", "tls": b""})
    egress: Egress | None = None

    def fill(self, text: str) -> bytes:
        """A request with the ports in place of their names."""
        for name in ("inside", "tls", "a", "b"):
            text = text.replace("{" + name + "}", str(getattr(self, name)))
        return text.encode("latin-1")


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.asynccontextmanager
async def place(*keyed: str) -> AsyncIterator[Place]:
    """The servers, and the listeners of a sandbox with keys for these origins."""
    here = Place()
    listeners: dict[int, int] = {}

    async def listen(port: int) -> socket.socket:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listeners[port] = sock.getsockname()[1]
        return sock

    def server(name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(1 << 16):
                    here.heard[name] += data
                    if b"\r\n\r\n" in data:
                        location = f"Location: http://127.0.0.1:{here.b}/\r\n".encode()
                        moved = REPLY.replace(b"200 OK\r\n", b"302 Found\r\n" + location)
                        writer.write(moved if b"/moved" in data else REPLY)
                        break
            writer.close()

        return serve

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1", "localhost").configure_cert(context)
    async with contextlib.AsyncExitStack() as stack:
        for name in here.heard:
            tls = context if name == "tls" else None
            running = await asyncio.start_server(server(name), "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]
            stack.push_async_callback(running.wait_closed)
            stack.callback(running.close)
            setattr(here, name, running.sockets[0].getsockname()[1])
        rules = tuple(
            Injection(here.fill(origin).decode(), (("X-Api-Key", KEY),))
            for origin in keyed or ("http://127.0.0.1:{a}", "https://127.0.0.1:{tls}")
        )
        here.egress = Egress(listen)
        stack.callback(here.egress.close)
        policy = NetworkPolicy(
            allow_out=(f"127.0.0.1:{here.a}", "127.0.0.0/8", "::1", "localhost"),
            deny_out=(ALL_TRAFFIC,),
            injections=rules,
        )
        await here.egress.apply(policy)
        here.proxy, here.inside = listeners[0], listeners[here.a]
        yield here


async def talk(port: int, *sent: bytes, tls: str | None = None) -> bytes:
    """Send these one after the other, after an answer each; over TLS from the second on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    with contextlib.suppress(OSError):
        for number, data in enumerate(sent):
            if number == 1 and tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                await writer.start_tls(context, server_hostname=tls)
            writer.write(data)
            if number + 1 < len(sent):
                heard += await reader.read(1 << 16)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while data := await reader.read(1 << 16):
                    heard += data
    writer.close()
    return heard


GET = "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n"


def get(target: str, host: str = "127.0.0.1:{b}") -> str:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"


TO_PROXY = {
    "another port": get("http://127.0.0.1:{b}/"),
    "another port, the key's Host": get("http://127.0.0.1:{b}/", "127.0.0.1:{a}"),
    "another port, upper case": get("HTTP://127.0.0.1:{b}/", "127.0.0.1:{a}"),
    "another name": get("http://localhost:{b}/", "127.0.0.1:{a}"),
    "another name in capitals": get("http://LOCALHOST:{b}/"),
    "a last dot": get("http://localhost.:{b}/", "127.0.0.1:{a}"),
    "the key's port by another name": get("http://localhost:{a}/"),
    "the TLS port in clear text": get("http://127.0.0.1:{tls}/", "127.0.0.1:{tls}"),
    "https in absolute form": get("https://127.0.0.1:{tls}/", "127.0.0.1:{tls}"),
    "the key's host as the user": get("http://127.0.0.1:{a}@127.0.0.1:{b}/", "127.0.0.1:{a}"),
    "a user": get("http://me:pw@127.0.0.1:{b}/"),
    "the key's URL as the path": get("http://127.0.0.1:{b}/http://127.0.0.1:{a}/"),
    "a fragment": get("http://127.0.0.1:{b}#@127.0.0.1:{a}/"),
    "a query": get("http://127.0.0.1:{b}?@127.0.0.1:{a}/"),
    "a backslash": get("http://127.0.0.1:{b}\\@127.0.0.1:{a}/"),
    "percent": get("http://127.0.0.1:{b}%2f@127.0.0.1:{a}/"),
    "no scheme": get("//127.0.0.1:{a}/", "127.0.0.1:{b}"),
    "only a path": get("/", "127.0.0.1:{a}"),
    "another scheme": get("ftp://127.0.0.1:{a}/"),
    "loopback 2": get("http://127.0.0.2:{b}/", "127.0.0.1:{a}"),
    "a number": get("http://2130706433:{b}/", "127.0.0.1:{a}"),
    "hexadecimal": get("http://0x7f000001:{b}/", "127.0.0.1:{a}"),
    "octal": get("http://0177.0.0.1:{b}/", "127.0.0.1:{a}"),
    "short": get("http://127.1:{b}/", "127.0.0.1:{a}"),
    "IPv6": get("http://[::1]:{b}/", "127.0.0.1:{a}"),
    "mapped": get("http://[::ffff:127.0.0.1]:{b}/", "127.0.0.1:{a}"),
    "mapped in full": get("http://[0:0:0:0:0:ffff:7f00:1]:{b}/", "127.0.0.1:{a}"),
    "a port with zeros": get("http://127.0.0.1:000{b}/", "127.0.0.1:{a}"),
    "a port with a sign": get("http://127.0.0.1:+{b}/", "127.0.0.1:{a}"),
    "the key's host, another Host": get("http://127.0.0.1:{a}/", "127.0.0.1:{b}"),
    "the key's host, a user in Host": get("http://127.0.0.1:{a}/", "127.0.0.1:{a}@127.0.0.1:{b}"),
    "two Host fields": "GET http://127.0.0.1:{a}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\nHost: 127.0.0.1:{b}\r\n\r\n",
    "a blank before the colon": "GET http://127.0.0.1:{a}/ HTTP/1.1\r\nHost : 127.0.0.1:{b}\r\n\r\n",
    "a folded field": "GET http://127.0.0.1:{a}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\n 127.0.0.1:{b}\r\n\r\n",
    "two lengths": (
        "POST http://127.0.0.1:{a}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\nContent-Length: 3\r\n"
        "Content-Length: 4\r\n\r\nabcd"
    ),
    "a length and chunks": (
        "POST http://127.0.0.1:{a}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\nContent-Length: 6\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1:{b}\r\n\r\n"
    ),
    "unknown coding": (
        "POST http://127.0.0.1:{a}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\n"
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
    ),
    "pipelined, the other first": get("http://127.0.0.1:{b}/")
    + get("http://127.0.0.1:{a}/", "127.0.0.1:{a}"),
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "upgrade to HTTP/2": (
        "GET http://127.0.0.1:{b}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    ),
    "forwarded": (
        "GET http://127.0.0.1:{b}/ HTTP/1.1\r\nHost: 127.0.0.1:{b}\r\nX-Forwarded-Host: 127.0.0.1:{a}\r\n"
        "X-Forwarded-Proto: https\r\n\r\n"
    ),
    "TRACE": "TRACE http://127.0.0.1:{a}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\n\r\n",
    "a zero byte": "GET http://127.0.0.1:{a}/\0 HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\n\r\n",
}
"""Through HTTP_PROXY: none of these is a request to an origin with a key, or a whole one."""

IN_TUNNELS = {
    "to another port": ("CONNECT 127.0.0.1:{b} HTTP/1.1\r\n\r\n", get("/", "127.0.0.1:{a}")),
    "to another name": ("CONNECT localhost:{b} HTTP/1.1\r\n\r\n", get("/", "127.0.0.1:{a}")),
    "to the key's port in clear text": (
        "CONNECT 127.0.0.1:{a} HTTP/1.1\r\n\r\n",
        get("http://127.0.0.1:{a}/", "127.0.0.1:{a}"),
    ),
    "no TLS to the key's TLS port": ("CONNECT 127.0.0.1:{tls} HTTP/1.1\r\n\r\n", get("/", "127.0.0.1:{tls}")),
}
OVER_TLS = {
    "another Host": get("/", "127.0.0.1:{b}"),
    "another target": get("http://127.0.0.1:{b}/", "127.0.0.1:{tls}"),
    "another scheme": get("http://127.0.0.1:{tls}/", "127.0.0.1:{tls}"),
    "another name": get("/", "evil.example"),
    "a name that ends like it": get("/", "evil127.0.0.1:{tls}"),
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
}
TO_LISTENER = {
    "another Host": get("/", "127.0.0.1:{b}"),
    "another target": get("http://127.0.0.1:{b}/", "127.0.0.1:{a}"),
    "another scheme": get("https://127.0.0.1:{a}/", "127.0.0.1:{a}"),
    "two Host fields": "GET / HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\nHost: 127.0.0.1:{b}\r\n\r\n",
    "CONNECT": "CONNECT 127.0.0.1:{b} HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\n\r\n",
}


def assert_nowhere(ask: Callable[[Place], Awaitable[bytes]]) -> None:
    """Nobody hears the key, whoever asks what of the place."""

    async def story() -> None:
        async with place() as here:
            heard = await ask(here)
            assert KEY.encode() not in b"".join(here.heard.values())
            assert KEY.encode() not in heard

    asyncio.run(story())


@pytest.mark.parametrize("request_", TO_PROXY.values(), ids=TO_PROXY)
def test_the_key_is_on_no_request_to_anything_else(request_: str) -> None:
    """Through the proxy, in any spelling."""
    assert_nowhere(lambda here: talk(here.proxy, here.fill(request_)))


@pytest.mark.parametrize("requests", IN_TUNNELS.values(), ids=IN_TUNNELS)
def test_the_key_is_in_no_tunnel_that_is_not_tls_to_its_origin(requests: tuple[str, str]) -> None:
    """A tunnel to another place, or without TLS, is none of the key's."""
    assert_nowhere(lambda here: talk(here.proxy, *map(here.fill, requests)))


@pytest.mark.parametrize("request_", OVER_TLS.values(), ids=OVER_TLS)
def test_the_key_is_on_no_request_to_anything_else_over_tls(
    request_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside of the connection that the proxy opens."""
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    connect = "CONNECT 127.0.0.1:{tls} HTTP/1.1\r\n\r\n"
    assert_nowhere(lambda here: talk(here.proxy, *map(here.fill, (connect, request_)), tls="127.0.0.1"))


@pytest.mark.parametrize("request_", TO_LISTENER.values(), ids=TO_LISTENER)
def test_the_key_is_on_no_request_to_anything_else_by_the_loopback_port(request_: str) -> None:
    """At the model's own address inside."""
    assert_nowhere(lambda here: talk(here.inside, here.fill(request_)))


HAVE_IT = {
    "the origin": get("http://127.0.0.1:{a}/", "127.0.0.1:{a}"),
    "in capitals": get("HTTP://127.0.0.1:{a}/", "127.0.0.1:{a}"),
    "by its IPv4-mapped address": get("http://[::ffff:127.0.0.1]:{a}/", "127.0.0.1:{a}"),
    "without Host": "GET http://127.0.0.1:{a}/ HTTP/1.0\r\n\r\n",
    "with keys of its own": (
        "GET http://127.0.0.1:{a}/ HTTP/1.1\r\nHost: 127.0.0.1:{a}\r\nx-api-key: mine\r\nX-API-KEY: other\r\n"
        "Authorization: Bearer mine\r\nConnection: x-api-key\r\n\r\n"
    ),
    "and another request behind it": (
        get("http://127.0.0.1:{a}/", "127.0.0.1:{a}")
        + get("http://127.0.0.1:{b}/")
        + get("/", "127.0.0.1:{b}")
    ),
    "that is answered with another place": get("http://127.0.0.1:{a}/moved", "127.0.0.1:{a}"),
}


@pytest.mark.parametrize("request_", HAVE_IT.values(), ids=HAVE_IT)
def test_the_key_is_on_each_request_to_its_origin(request_: str) -> None:
    """Once, in place of any other; nothing that follows on the connection goes anywhere."""

    async def story() -> None:
        async with place() as here:
            heard = await talk(here.proxy, here.fill(request_))
            assert heard.startswith((b"HTTP/1.1 200", b"HTTP/1.1 302"))
            assert KEY.encode() not in heard
            assert here.heard["a"].lower().count(b"x-api-key:") == here.heard["a"].count(KEY.encode()) == 1
            assert b"mine" not in here.heard["a"]
            assert here.heard["b"] == here.heard["tls"] == b""

    asyncio.run(story())


def test_the_key_is_on_requests_to_its_origin_over_tls_and_by_the_loopback_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as an absolute target."""
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def story() -> None:
        async with place() as here:
            connect = here.fill("CONNECT 127.0.0.1:{tls} HTTP/1.1\r\n\r\n")
            for target in ("/", "https://127.0.0.1:{tls}/"):
                request = here.fill(get(target, "127.0.0.1:{tls}"))
                assert b"200 OK" in await talk(here.proxy, connect, request, tls="127.0.0.1")
            assert here.heard["tls"].count(KEY.encode()) == 2
            for host in ("127.0.0.1:{a}", "localhost:{a}"):
                assert b"200 OK" in await talk(here.inside, here.fill(get("/", host)))
            assert here.heard["a"].count(KEY.encode()) == 2

    asyncio.run(story())


def test_a_bare_host_is_https_on_its_own_port_and_a_bare_loopback_is_the_port_that_is_opened() -> None:
    """As E2B's rules name hosts; a key for more than one host cannot be."""
    policy = NetworkPolicy(
        allow_out=("127.0.0.1:8000", "127.0.0.1:9000", "api.example"),
        deny_out=(ALL_TRAFFIC,),
        injections=(Injection("API.example", (("k", "v"),)), Injection("127.0.0.1", (("k", "w"),))),
    )
    assert {str(origin): fields["k"] for origin, fields in policy.keyed.items()} == {
        "https://api.example": "v",
        "http://127.0.0.1:8000": "w",
    }
    for host in (
        "*.example",
        "*",
        "10.0.0.0/8",
        "http://a.example/path",
        "ftp://a.example",
        "https://me@a.example",
    ):
        with pytest.raises(NetworkPolicyError, match="a key is for one host"):
            NetworkPolicy(injections=(Injection(host, (("k", "v"),)),))
