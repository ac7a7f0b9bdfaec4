"""A server that speaks E2B's protocol and has no sandboxes: commands wait, and say what a trial wants to hear.

    python -m tests.support.stub_e2b --wait 30

It is for what is about many trials: their number, their order, the harness's own cost. `GET /stub` tells what it
saw: how many sandboxes there are, were at once, and were made.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from e2b.envd.process import process_pb as pb
from e2b.envd.process.process_connect import Process, ProcessASGIApplication
from protobuf import Oneof

BASELINE = b"4b825dc642cb6eb9a060e54bf8d69288fbee4904\n1000 1000:1000 /home/user\n"
SAYS = (
    # What a command's script contains, and what it says then: stdout, stderr.
    ("HEAD^{tree}", BASELINE, b""),
    ("$HARNESS_SCORE", b"", b"0 1 \n"),
    ("diff.patch", b"0\n", b""),
)
AGENT = "solution.tar"
"""In the script of the agent `oracle`, which is what takes time."""


class Stub:
    """The ASGI application."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._numbers = itertools.count(1)
        self._sandboxes: dict[str, dict[str, Any]] = {}
        self.most = self.made = 0
        self._envd = ProcessASGIApplication(_Commands(self))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        sandbox = headers.get(b"e2b-sandbox-id", b"").decode()
        path = scope["path"]
        if not sandbox:
            await _json(send, *self._control(scope["method"], path, await _body(receive)))
        elif sandbox not in self._sandboxes:
            await _json(send, 502, {"message": "The sandbox was not found"})
        elif path == "/health":
            await _json(send, 204, None)
        elif path == "/files":
            await _body(receive)
            entry = {"name": "x", "path": "/home/user/x", "type": "file"}
            await _json(send, 200, [entry] if scope["method"] == "POST" else entry)
        else:
            await self._envd(scope, receive, send)

    def _control(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        match method, path.strip("/").split("/"):
            case "POST", ["v2", "sandboxes"]:
                return 201, self._create(json.loads(body))
            case "GET", ["v2", "sandboxes"]:
                return 200, list(self._sandboxes.values())
            case "GET", ["sandboxes", name] if name in self._sandboxes:
                return 200, self._sandboxes[name]
            case "DELETE", ["sandboxes", name] if name in self._sandboxes:
                del self._sandboxes[name]
                return 204, None
            case "POST", ["sandboxes", name, "timeout"] if name in self._sandboxes:
                return 204, None
            case "GET", ["stub"]:
                return 200, {"now": len(self._sandboxes), "most": self.most, "made": self.made}
        return 404, {"code": 404, "message": "not found"}

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

    async def answer(self, script: str) -> tuple[bytes, bytes]:
        """What a command says."""
        if AGENT in script:
            await asyncio.sleep(self._wait)
        return next(((out, err) for part, out, err in SAYS if part in script), (b"", b""))


class _Commands(Process):
    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    async def start(self, request: pb.StartRequest, ctx: Any) -> AsyncIterator[pb.StartResponse]:
        event = pb.ProcessEvent
        yield pb.StartResponse(event=event(event=Oneof("start", event.StartEvent(pid=1))))
        script = request.process.args[-1] if request.process else ""
        stdout, stderr = await self._stub.answer(script)
        for name, data in (("stdout", stdout), ("stderr", stderr)):
            if data:
                output = event.DataEvent(output=Oneof(name, data))
                yield pb.StartResponse(event=event(event=Oneof("data", output)))
        ended = event.EndEvent(exit_code=0, exited=True, status="exit status 0")
        yield pb.StartResponse(event=event(event=Oneof("end", ended)))


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _json(send: Any, status: int, value: Any) -> None:
    body = b"" if value is None else json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers if body else []})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve on a free port of loopback, and print it first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wait", type=float, default=0.0, help="seconds that an agent takes")
    wait = parser.parse_args().wait
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    config = uvicorn.Config(
        Stub(wait), lifespan="off", log_level="error", timeout_keep_alive=600, backlog=4096
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
