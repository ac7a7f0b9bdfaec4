"""A server that speaks E2B's protocol and has no sandboxes: commands wait, and say what a trial wants to hear.

    python -m tests.support.stub_e2b --wait 30

It is for what is about many trials: their number, their order, the harness's own cost. So it is as cheap as can be: it
reads as much of a request as it needs, and most of its answers are ready. `GET /stub` tells what it saw: how many
sandboxes there are, were at once, and were made, and how often somebody asked about one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

SAYS = (
    # What a command's script contains, and what it says then.
    ("/proc/$BASHPID/stat", b"since=100\nowner=1000:1000\nhome=/home/user\n"),
    ("set -- /home/user/repo . ", b"files=1\nkib=4\ntar=\n"),
    ("set -- commit ", b"large=\nignored=\ndiff=\ndiff_code=0\nmodified=\ndeleted=\nadded=\n"),
)
"""The scripts of harness/trials/scripts, told by what is in them or by their arguments."""
AGENT = ".harness/solution"
"""In the script of the agent `oracle`, which is what takes time."""


class Stub:
    """What there is, and what is answered. An answer is a status, and a value that goes out as JSON."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        self._numbers = itertools.count(1)
        self._sandboxes: dict[str, dict[str, Any]] = {}
        self.most = self.made = self.asked = 0

    def control(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """The control plane."""
        match method, path.strip("/").split("/"):
            case "POST", ["v2", "sandboxes"]:
                return 201, self._create(json.loads(body))
            case "GET", ["v2", "sandboxes"]:
                return 200, list(self._sandboxes.values())
            case "GET", ["sandboxes", name] if name in self._sandboxes:
                self.asked += 1
                return 200, self._sandboxes[name]
            case "DELETE", ["sandboxes", name] if name in self._sandboxes:
                del self._sandboxes[name]
                return 204, None
            case "POST", ["sandboxes", name, "timeout"] if name in self._sandboxes:
                return 204, None
            case "GET", ["stub"]:
                counts = {"most": self.most, "made": self.made, "asked": self.asked}
                return 200, {"now": len(self._sandboxes), **counts}
        return 404, {"code": 404, "message": "not found"}

    def envd(self, sandbox: str, method: str, path: str) -> tuple[int, Any]:
        """What a sandbox answers, but for commands."""
        if sandbox not in self._sandboxes:
            return 502, {"message": "The sandbox was not found"}
        entry = {"name": "x", "path": "/home/user/x", "type": "file"}
        match method, path:
            case "GET", "/health":
                return 204, None
            case "POST", "/files":
                return 200, [entry]
            case "GET", "/files":
                return 200, entry
        return 404, {"code": "not_found", "message": path}

    def has(self, sandbox: str) -> bool:
        """Whether it is there."""
        return sandbox in self._sandboxes

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"stub{next(self._numbers)}"
        now = datetime.now(UTC)
        self._sandboxes[name] = {
            "sandboxID": name,
            "templateID": asked["templateID"],
            "clientID": "stub",
            "envdVersion": "0.6.13",
            "metadata": asked.get("metadata", {}),
            "startedAt": now.isoformat(),
            "endAt": (now + timedelta(hours=1)).isoformat(),
            "state": "running",
            "cpuCount": 1,
            "memoryMB": 512,
            "diskSizeMB": 512,
        }
        self.made += 1
        self.most = max(self.most, len(self._sandboxes))
        return self._sandboxes[name]


class Connection(asyncio.Protocol):
    """One connection, and the requests that come on it one after another (HTTP/1.1)."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._came = bytearray()
        self._last = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, found, rest = bytes(self._came).partition(b"\r\n\r\n")
        if not found:
            return
        start, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = _body(headers, rest)
        if body is not None:
            self._came.clear()
            self._last = headers.get("connection", "").lower() == "close"
            self._answer(method, target.partition("?")[0], headers.get("e2b-sandbox-id", ""), body)

    def _answer(self, method: str, path: str, sandbox: str, body: bytes) -> None:
        if not sandbox:
            self._reply(*self._stub.control(method, path, body))
        elif path == "/process.Process/Start" and self._stub.has(sandbox):
            self._start(json.loads(body[5:])["process"]["args"][-1])
        else:
            self._reply(*self._stub.envd(sandbox, method, path))

    def _reply(self, status: int, value: Any) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
        self._finish(f"HTTP/1.1 {status} \r\n{kind}\r\n".encode() + body)

    def _start(self, script: str) -> None:
        """A command: it says at once that it has started, and at its end what it has to say."""
        said = _says(script)
        if AGENT in script and self._stub.wait:
            self._transport.write(STARTED)
            asyncio.get_running_loop().call_later(self._stub.wait, self._finish, _ended(said))
        else:
            self._finish(STARTED + _ended(said))

    def _finish(self, data: bytes) -> None:
        """Send the end of an answer."""
        self._transport.write(data)
        if self._last:
            self._transport.close()


def _says(script: str) -> bytes:
    """What a command says."""
    return next((said for part, said in SAYS if part in script), b"")


def _body(headers: dict[str, str], data: bytes) -> bytes | None:
    """A request's body, None while it has not come whole."""
    if headers.get("transfer-encoding") != "chunked":
        return data if len(data) >= int(headers.get("content-length", 0)) else None
    if not data.endswith(b"0\r\n\r\n"):
        return None
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


def _event(**event: Any) -> bytes:
    return _chunk(0, {"event": event})


def _chunk(flags: int, message: dict[str, Any]) -> bytes:
    """A message of a Connect stream (flags 2: its end), as a chunk of HTTP."""
    data = json.dumps(message).encode()
    return b"%x\r\n%c%b%b\r\n" % (len(data) + 5, flags, len(data).to_bytes(4, "big"), data)


def _ended(stdout: bytes) -> bytes:
    data = [_event(data={"stdout": base64.b64encode(stdout).decode()})] if stdout else []
    end = _event(end={"exitCode": 0, "exited": True, "status": "exit status 0"})
    return b"".join((*data, end, _chunk(2, {}), b"0\r\n\r\n"))


STARTED = (
    b"HTTP/1.1 200 \r\ncontent-type: application/connect+json\r\ntransfer-encoding: chunked\r\n\r\n"
    + _event(start={"pid": 1})
)


async def _serve(wait: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    stub = Stub(wait)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(stub), sock=listener)
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


def main() -> None:
    """Serve on a free port of loopback, and print it first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wait", type=float, default=0.0, help="seconds that an agent takes")
    asyncio.run(_serve(parser.parse_args().wait))


if __name__ == "__main__":
    main()
