"""What listens in a sandbox, reached from outside by `PORT-ID.domain`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpx
from e2b import AsyncSandbox, Sandbox

Api = dict[str, str]
InSandbox = Callable[..., Any]

WEB = "python3 -m http.server"
ECHO = """
import socket
listener = socket.create_server(({host!r}, {port}), family=socket.{family})
print("up", flush=True)
while True:
    connection, _ = listener.accept()
    while data := connection.recv(65536):
        connection.sendall(data.upper())
    connection.close()
"""


async def start(sandbox: AsyncSandbox, program: str) -> None:
    """Run a Python program that says when it is up, and wait until it does."""
    up = asyncio.Event()
    await sandbox.files.write("program.py", program)
    await sandbox.commands.run("python3 program.py", background=True, on_stdout=lambda _: up.set())
    await up.wait()


def test_http_reaches_a_sandboxs_port(api: Api) -> None:
    """get_host's name leads to the port, on one connection with requests for other places too."""
    with Sandbox.create(**api) as sandbox, httpx.Client(base_url=api["api_url"]) as client:
        sandbox.files.write("hello.txt", "hello")
        sandbox.commands.run(f"{WEB} 8000", background=True)
        sandbox.commands.run("until curl -s localhost:8000 > /dev/null; do sleep 0.01; done")
        port = {"Host": sandbox.get_host(8000)}
        for _ in range(2):
            assert client.get("/hello.txt", headers=port).text == "hello"
            assert client.get("/health").status_code == 200
        by_header = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "8000"}
        assert client.get("/hello.txt", headers=by_header).text == "hello"
        assert client.get("/nothing", headers=port).status_code == 404


def test_a_closed_port_and_a_gone_sandbox_say_so(api: Api) -> None:
    """502 in the words of E2B's edge."""
    with Sandbox.create(**api) as sandbox:
        host = sandbox.get_host(8001)
        reply = httpx.get(api["api_url"], headers={"Host": host})
        assert (reply.status_code, reply.json()["message"]) == (
            502,
            "The sandbox is running but port is not open",
        )
        assert httpx.get(api["api_url"], headers={"Host": sandbox.get_host(99999)}).status_code == 502
    reply = httpx.get(api["api_url"], headers={"Host": host})
    assert (reply.status_code, reply.json()["message"]) == (502, "The sandbox was not found")


def test_a_connection_carries_anything_both_ways(in_sandbox: InSandbox) -> None:
    """What follows the first request's head is the port's business, as with a web socket: on IPv4 and IPv6."""

    async def story(sandbox: AsyncSandbox) -> None:
        for number, (family, address) in enumerate([("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")]):
            port = 9000 + number
            await start(sandbox, ECHO.format(host=address, port=port, family=family))
            host = sandbox.get_host(port)
            reader, writer = await asyncio.open_connection("127.0.0.1", int(host.rpartition(":")[2]))
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: x\r\n".encode())
            writer.write(b"\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET / HTTP/1.1\r\nHOST:")
            for _ in range(3):
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"PING"
            data = b"x" * 3_000_000
            writer.write(data)
            assert await reader.readexactly(len(data)) == data.upper()
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    in_sandbox(story)


def test_a_sandbox_can_keep_its_ports_to_who_has_the_token(api: Api) -> None:
    """allow_public_traffic=False: 403 without the sandbox's traffic token."""
    with Sandbox.create(network={"allow_public_traffic": False}, **api) as sandbox:
        host = {"Host": sandbox.get_host(8000)}
        token = {"e2b-traffic-access-token": sandbox.traffic_access_token or ""}
        assert sandbox.traffic_access_token
        assert httpx.get(api["api_url"], headers=host).status_code == 403
        assert httpx.get(api["api_url"], headers={**host, **token}).status_code == 502  # nothing is there
    with Sandbox.create(**api) as sandbox:
        assert sandbox.traffic_access_token is None


def test_ports_are_reached_through_a_head_in_pieces(api: Api) -> None:
    """A request that arrives byte by byte is understood all the same."""
    with Sandbox.create(**api) as sandbox:
        host = sandbox.get_host(8002)
        with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2]))) as connection:
            for byte in f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode():
                connection.send(bytes([byte]))
            assert connection.recv(100).startswith(b"HTTP/1.1 502")
