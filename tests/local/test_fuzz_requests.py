"""Fuzzing of the local server, byte by byte: requests to every route of both planes, changed on their way.

A plain run tries a few; `pytest -m fuzz` goes on for ten minutes. A crash prints its input.
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest

from harness.local.launch import start_server
from tests.local.test_hostile_requests import Target
from tests.records.test_fuzz import LONG_S, fuzz
from tests.support.e2b_routes import API, ENVD, RPCS

_ANSWER_S = 20.0
_BODY_S = 0.3
_PLACE = b"PLACE-OF-THE-SANDBOX"
_TOKEN = b"PLACE-OF-ITS-TOKEN"
_KEY = b"PLACE-OF-THE-KEY"
_BODY = {
    "path": "/home/user/f", "source": "/home/user/f", "destination": "/home/user/g", "depth": 1, "recursive": False,
    "watcherId": "w1", "process": {"cmd": "/bin/echo", "args": ["x"], "envs": {"A": "b"}, "cwd": "/home/user"},
    "input": {"stdin": "eA=="}, "pty": {"size": {"cols": 80, "rows": 24}}, "tag": "t", "stdin": False, "signal": 15,
    "source_paths": ["f", "g"], "templateID": "base", "timeout": 60, "metadata": {"k": "v"}, "envVars": {"A": "b"},
    "network": {"allowOut": ["host.example"], "denyOut": ["0.0.0.0/0"]}, "autoPause": False, "secure": True,
    "name": "n", "alias": "a", "tags": ["x"], "target": "n:x", "count": 1, "fromTemplate": "base",
    "steps": [{"type": "RUN", "args": ["true"], "force": False}], "startCmd": "", "readyCmd": "", "public": False,
}  # fmt: skip
_QUERY = "?path=/home/user/f&username=user&limit=3&state=running&metadata=k%3Dv&start=0&end=9999999999&tag=x"


def _seed(method: str, path: str, *, is_inside: bool) -> bytes:
    body, kind = json.dumps(_BODY).encode(), b"application/json"
    if RPCS.get(path) == "stream":
        kind, body = b"application/connect+json", struct.pack(">BI", 0, len(body)) + body
    if path == "/files" and method == "POST":
        kind = b"multipart/form-data; boundary=B"
        body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhello\r\n--B--\r\n'
    fields = [b"Host: here", b"X-API-KEY: " + _KEY, b"Content-Type: " + kind, b"Connection: close"]
    fields += [b"Content-Length: %d" % len(body), b"Connect-Timeout-Ms: 50", b"Authorization: Basic dXNlcjo="]
    fields += [b"Range: bytes=0-3", b"Accept-Encoding: gzip"]
    if is_inside:
        fields += [b"E2b-Sandbox-Id: " + _PLACE, b"X-Access-Token: " + _TOKEN, b"E2b-Sandbox-Port: 49983"]
    line = f"{method} {path.replace('{}', _PLACE.decode())}{quote(_QUERY, safe='?=&%/')} HTTP/1.1".encode()
    return b"\r\n".join([line, *fields, b"", body])


SEEDS = [
    *(_seed(method, path, is_inside=False) for method, path in API),
    *(_seed(method, path, is_inside=True) for method, path in ENVD),
    *(_seed("POST", path, is_inside=True) for path in RPCS),
]


class Asked:
    """Sends requests, and looks at the answers and at the server."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __call__(self, data: bytes) -> None:
        self.status(data)

    def status(self, data: bytes) -> int | None:
        """The answer's status; None where there is no answer."""
        target = self._target
        target.revive()
        known = ((_PLACE, target.sandbox_id), (_TOKEN, target.token), (_KEY, target.server.api_key))
        for place, value in known:
            data = data.replace(place, value.encode())
        status = self._send(data)
        # What is torn may be left without an answer; what is answered is so in E2B's words.
        assert status is None or 200 <= status < 500 or status in (501, 502), status
        assert target.ask(b"GET", b"/health", {}, b"")[0] == 200
        return status

    def _send(self, data: bytes) -> int | None:
        host, _, port = self._target.server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=_ANSWER_S) as connection:
            head = b""
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
                if not select.select([connection], [], [], _BODY_S)[0]:
                    connection.shutdown(
                        socket.SHUT_WR
                    )  # of a body that is shorter than it says, no more comes
                while b"\r\n" not in head and (piece := connection.recv(4096)):
                    head += piece
        words = head.split(b" ", 2)
        return int(words[1]) if head.startswith(b"HTTP/1.1 ") and words[1].isdigit() else None


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    with start_server(max_sandboxes=20) as server:
        yield Asked(Target(server))
        log = server.log_tail()
    assert not log, f"the server logged unexpected errors:\n{log}"


def test_every_route_answers_its_seed(asked: Asked) -> None:
    """As they are, many of the requests are taken: what is changed of them comes far."""
    statuses = [asked.status(seed) for seed in SEEDS]
    assert sum(status in range(200, 300) for status in statuses if status) >= 30, statuses


def test_what_broke_it_once_does_not(asked: Asked) -> None:
    """A name in base64 that has no ASCII."""
    seed = next(seed for seed in SEEDS if b"CreateWatcher" in seed)
    assert asked.status(seed.replace(b"Basic dXNlcjo=", 'Basic dXNlc\u202e"jo='.encode())) == 401


def test_no_bytes_break_the_server(asked: Asked) -> None:
    """Whatever becomes of a request, the server neither ends nor answers with a 500."""
    assert fuzz(SEEDS, asked, 150, None) == 150


@pytest.mark.fuzz
def test_requests_for_ten_minutes(asked: Asked) -> None:
    """The same, with other inputs at each run."""
    fuzz(SEEDS, asked, 0, LONG_S)
