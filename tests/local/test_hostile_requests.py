"""No request ends the server or is answered with a 500, whatever its route, its body and its header fields are.

The requests are written by hand, byte for byte: no HTTP library would send most of them.
"""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.local.launch import LocalServer, start_server
from tests.support.e2b_routes import API, ENVD, RPCS

Fields = dict[bytes, bytes]

_TIMEOUT_S = 60.0


@dataclass
class Target:
    """A server of its own for these tests, with one sandbox, which is made anew when a request has ended it."""

    server: LocalServer
    sandbox_id: str = ""
    token: str = ""

    def revive(self) -> None:
        if self.sandbox_id:
            status, body = self.ask(b"GET", f"/sandboxes/{self.sandbox_id}".encode(), {}, b"")
            if status == 200 and json.loads(body)["state"] == "running":
                return
        status, body = self.ask(b"POST", b"/sandboxes", {}, b'{"templateID": "base", "secure": true}')
        assert status == 201, body
        made = json.loads(body)
        self.sandbox_id, self.token = made["sandboxID"], made["envdAccessToken"]

    def in_sandbox(self) -> Fields:
        return {b"E2b-Sandbox-Id": self.sandbox_id.encode(), b"X-Access-Token": self.token.encode()}

    def ask(
        self, method: bytes, path: bytes, fields: Fields, body: bytes, whole: bool = False
    ) -> tuple[int, bytes]:
        """Send one request. Gives the status and the body; of one that is streamed the beginning, or all of it."""
        all_fields = {
            b"Host": b"here",
            b"X-API-KEY": self.server.api_key.encode(),
            b"Content-Length": str(len(body)).encode(),
            b"Connection": b"close",
            **fields,
        }
        head = b"".join(name + b": " + value + b"\r\n" for name, value in all_fields.items())
        return self.send(method + b" " + path + b" HTTP/1.1\r\n" + head + b"\r\n" + body, whole)

    def send(self, data: bytes, whole: bool = False) -> tuple[int, bytes]:
        host, _, port = self.server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # it has answered before it had all
                connection.sendall(data)
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            return reply.status, reply.read1(1 << 16) if reply.chunked and not whole else reply.read()

    def start(self, request: dict[str, Any], whole: bool = False) -> None:
        """Start a process; with `whole` until it has ended. An error must be one of the client's, in words."""
        message = json.dumps(request).encode()
        fields = {**self.in_sandbox(), b"Content-Type": b"application/connect+json"}
        envelope = struct.pack(">BI", 0, len(message)) + message
        status, stream = self.ask(b"POST", b"/process.Process/Start", fields, envelope, whole)
        assert status == 200
        while stream:
            size = struct.unpack(">I", stream[1:5])[0]
            reply, stream = json.loads(stream[5 : 5 + size]), stream[5 + size :]
            if error := reply.get("error"):
                assert (error["code"], bool(error["message"])) == ("invalid_argument", True), error

    def check(self, status: int, body: bytes) -> None:
        """Every answer is one that E2B's protocol has, and each refusal has a word."""
        if 200 <= status < 300:
            return
        gone = status == 502 and (b"was not found" in body or b"port is not open" in body)
        assert 400 <= status < 500 or status == 501 or gone, (status, body)
        assert body.strip(), f"a {status} without a word"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with start_server(max_sandboxes=6) as server:
        yield Target(server)
        log = server.log_tail()
    assert not log, f"the server logged unexpected errors:\n{log}"


# --- what hangs or ends a parser

_DEEP = [opening * 100_000 for opening in (b"[", b'{"a":', b'{"path":[', b'["\\"",[')]
_TEXTS = [
    *_DEEP,
    b"[" * 60_000 + b"]" * 60_000,
    b'{"path": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    b'{"timeout": 1e999, "depth": 1e999, "count": 1e999, "network": {"x": 1e999}}',
    b'{"timeout": NaN, "depth": NaN, "process": {"pid": NaN}}',
    b'{"timeout": -Infinity, "depth": -Infinity}',
    b'{"timeout": ' + b"9" * 5000 + b', "depth": ' + b"9" * 5000 + b"}",
    b'{"timeout": ' + b"9" * 4000 + b', "network": {"n": ' + b"9" * 4000 + b"}}",
    b'{"path": "\\ud800", "metadata": {"\\udfff": "\\ud800"}, "name": "\\ud800", "templateID": "\\ud800"}',
    b'{"path": "\xff\xfe", "name": "\xed\xa0\x80"}',
    b'{"path": "\\u0000", "source": "\\u0000", "name": "a\\u0000b", "startCmd": "\\u0000"}',
    b'"' + b"\\" * 99_999,
    b'{"path": "' + b"x" * 300_000 + b'"}',
    '{"path": "x"}'.encode("utf-16"),
    b"\0" * 1000,
    b"[]",
    b"7",
    b"",
]
_BINARY = [b"\x0b" * 100_000, b"\x0a\xff\xff\xff\xff\x7f", b"\xff" * 1000, b"\x08" + b"\xff" * 20]


_JSON_ROUTES = [
    (method, path)
    for (method, path), answer in (API | ENVD).items()
    if answer == "served" and method != "GET" and path != "/files"
]


@pytest.mark.parametrize(("method", "path"), _JSON_ROUTES)
def test_no_text_breaks_a_route(target: Target, method: str, path: str) -> None:
    """Deep, huge, torn and meaningless bodies are refused or ignored by every route of both planes."""
    for text in _TEXTS:
        target.revive()
        filled = path.replace("{}", target.sandbox_id).encode()
        fields = target.in_sandbox() if (method, path) in ENVD else {}
        target.check(
            *target.ask(method.encode(), filled, {**fields, b"Content-Type": b"application/json"}, text)
        )


@pytest.mark.parametrize("path", RPCS)
def test_no_message_breaks_an_rpc(target: Target, path: str) -> None:
    """The same bodies are refused by every RPC, in JSON and in protobuf's binary form."""
    for form, texts in ((b"json", _TEXTS), (b"proto", _BINARY)):
        for text in texts:
            target.revive()
            if RPCS[path] == "unary":
                fields, body = {b"Content-Type": b"application/" + form}, text
            else:
                fields = {b"Content-Type": b"application/connect+" + form, b"Connect-Timeout-Ms": b"100"}
                body = struct.pack(">BI", 0, len(text)) + text
            target.check(*target.ask(b"POST", path.encode(), {**target.in_sandbox(), **fields}, body))
    assert target.ask(b"GET", b"/health", {}, b"")[0] == 200


# --- envelopes and compression

_ENVELOPES = [
    b"",
    b"\0",
    b"\0\0\0\0\xff{}",
    b"\0\xff\xff\xff\xff{}",
    b"\1\0\0\0\2{}",
    b"\2\0\0\0\2{}",
    b"\xff\0\0\0\2{}",
    b"\0\0\0\0\0" * 1000,
    b"\1" + struct.pack(">I", 40) + gzip.compress(b"{}")[:10] + b"x" * 30,
]


@pytest.mark.parametrize("path", [path for path, kind in RPCS.items() if kind == "stream"])
@pytest.mark.parametrize("encoding", [b"identity", b"gzip", b"br", b"\xc3\xa9"])
def test_no_envelope_breaks_a_stream(target: Target, path: str, encoding: bytes) -> None:
    """Lengths that lie, flags that mean nothing, and compression that is none, end with an error of the stream."""
    for envelope in _ENVELOPES:
        target.revive()
        fields = {
            b"Content-Type": b"application/connect+json",
            b"Connect-Content-Encoding": encoding,
            b"Connect-Timeout-Ms": b"100",
        }
        target.check(*target.ask(b"POST", path.encode(), {**target.in_sandbox(), **fields}, envelope))


def test_a_bomb_is_not_unpacked(target: Target) -> None:
    """A message that would take gigabytes when it is decompressed is refused."""
    target.revive()
    bomb = gzip.compress(b"[" + b" " * (80 << 20) + b"]")
    fields = {b"Content-Type": b"application/json", b"Content-Encoding": b"gzip"}
    status, body = target.ask(
        b"POST", b"/filesystem.Filesystem/Stat", {**target.in_sandbox(), **fields}, bomb
    )
    assert 400 <= status < 500
    assert b"larger" in body or b"exhausted" in body


# --- header fields

_LONG = b"9" * 5000
_FIELD_VALUES: dict[bytes, list[bytes]] = {
    b"Range": [
        b"bytes=" + _LONG + b"-",
        b"bytes=-" + _LONG,
        b"bytes=0-" + _LONG,
        b"bytes=-0",
        b"bytes=5-1",
        b"lines=1",
    ],
    b"Content-Type": [
        b"multipart/form-data; boundary=" + b"x" * 5000,
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary="',
        b"multipart/form-data; boundary*=utf-8''%ff",
        b"application/grpc",
        b"APPLICATION/GRPC-WEB+proto",
        b"\xff",
        b"",
    ],
    b"X-Metadata-A": [b"x" * 5000, b"\xff\xfe", "é".encode(), b"\x7f", b""],
    b"X-Metadata-" + b"k" * 300: [b"v"],
    b"Content-Encoding": [b"gzip", b"br", b"gzip, gzip", b"\xff"],
    b"Accept-Encoding": [b"gzip", b"br;q=0", b"\xff", b"identity;q=0", b"*;q=0"],
    b"Connect-Timeout-Ms": [b"9999999999", b"99999999999", b"-1", b"x", b"1e9"],
    b"Connect-Protocol-Version": [b"2", b"\xff"],
    b"Keepalive-Ping-Interval": [b"1e308", b"nan", b"-1", b"0", b"inf", _LONG, b"\xff"],
    b"Authorization": [b"Basic", b"Basic !!!", b"Basic /w==", b"Basic OmE=", b"Bearer x", b"\xff"],
    b"Host": [b"[", b"a:b:c", b"99999-x.y", b"49983-nothing.here", b"\xff", b""],
    b"Idempotency-Key": [b"x" * 5000, b"\xff", b""],
    b"E2b-Sandbox-Port": [b"0", b"99999", b"-1", _LONG, b"\xff", b"49983"],
    b"Expect": [b"100-continue", b"x"],
    b"Transfer-Encoding": [b"chunked", b"gzip", b"x"],
    b"X-Access-Token": [b"\xff", b""],
}


@pytest.mark.parametrize("name", _FIELD_VALUES, ids=lambda name: name[:30].decode())
def test_no_header_field_breaks_a_route(target: Target, name: bytes) -> None:
    """Each field that means something is answered for what it is when it makes no sense."""
    target.revive()
    target.ask(
        b"POST",
        b"/files?path=f",
        {**target.in_sandbox(), b"Content-Type": b"application/octet-stream"},
        b"0123456789",
    )
    for value in _FIELD_VALUES[name]:
        for method, path, body in (
            (b"GET", b"/files?path=f", b""),
            (b"POST", b"/files?path=g", b"--x\r\n\r\n"),
            (b"POST", b"/filesystem.Filesystem/Stat", b'{"path": "f"}'),
            (b"POST", b"/process.Process/Connect", b"\0\0\0\0\2{}"),
        ):
            defaults = {
                b"Content-Type": b"application/connect+json"
                if path.endswith(b"Connect")
                else b"application/json",
                **target.in_sandbox(),
            }
            target.check(*target.ask(method, path, {**defaults, name: value}, body))
        target.check(*target.ask(b"GET", b"/v2/sandboxes", {name: value}, b""))
        target.check(
            *target.ask(
                b"POST", f"/sandboxes/{target.sandbox_id}/timeout".encode(), {name: value}, b'{"timeout": 60}'
            )
        )


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\xff\xfe HTTP/1.1",
        b"GET http://here HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET //[ HTTP/1.1",
        b"GET /files?path=%ff%00&signature=%ff&signature_expiration=" + _LONG + b" HTTP/1.1",
        b"GET /sandboxes/%ff%00 HTTP/1.1",
        b"GET /templates/%ed%a0%80/tags/exists?tag=%00 HTTP/1.1",
        b"GET /" + b"x" * 60_000 + b" HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET / HTTP/9.9",
        b"\xff\xff / HTTP/1.1",
        b"G\0T / HTTP/1.1",
    ],
    ids=lambda line: repr(line[:24]),
)
def test_no_request_line_breaks_the_server(target: Target, line: bytes) -> None:
    """A path or method that no client of E2B would send is refused in words."""
    fields = b"Host: here\r\nX-API-KEY: " + target.server.api_key.encode() + b"\r\nConnection: close\r\n\r\n"
    target.check(*target.send(line + b"\r\n" + fields))


def test_https_is_refused_at_once(target: Target) -> None:
    """Who speaks TLS to the server, or so to a sandbox's port, gets an answer and does not wait for one."""
    hello = b"\x16\x03\x01\x02\x00" + b"\x01" * 200
    host, _, port = target.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as connection:
        connection.sendall(hello)
        assert b"plain HTTP" in connection.makefile("rb").read()


# --- what exists, and is not what the request takes it for

_PATHS = [
    *("/", "/proc", "/proc/self", "/proc/self/mem", "/proc/self/fd/0", "/proc/1/root", "/sys", "////"),
    *("/dev", "/dev/null", "/dev/ptmx", "/dev/stdin", "/etc/passwd", "/usr/bin/env", "/tmp", "/home"),
    *(".", "..", "~", "~/..", "~/loop", "~/dangling", "~/fifo", "~/f/below", "~/f"),
]


def test_no_path_breaks_a_file_call(target: Target) -> None:
    """Devices, loops, pipes, mount points and what is above them: each call on each ends with a word."""
    target.revive()
    script = "cd ~; ln -s loop loop; ln -s nothing dangling; mkfifo fifo; echo x >f"
    target.start({"process": {"cmd": "/bin/bash", "args": ["-c", script]}}, whole=True)
    fields = {**target.in_sandbox(), b"Content-Type": b"application/json"}
    for path in _PATHS:
        for call, message_fields in (
            *((call, ["path"]) for call in ("Stat", "ListDir", "CreateWatcher", "MakeDir")),
            ("Move", ["source", "destination"]),
            ("Remove", ["path"]),
        ):
            asked = dict.fromkeys(message_fields, path) | {"recursive": path.startswith("/home"), "depth": 2}
            body = json.dumps(asked).encode()
            target.check(*target.ask(b"POST", b"/filesystem.Filesystem/" + call.encode(), fields, body))
        query = f"/files?path={quote(path, safe='')}".encode()
        target.check(*target.ask(b"GET", query, target.in_sandbox(), b""))
        octets = {**target.in_sandbox(), b"Content-Type": b"application/octet-stream"}
        target.check(*target.ask(b"POST", query, octets, b"x"))
        body = json.dumps({"source_paths": [path], "destination": "/home/user/composed"}).encode()
        target.check(*target.ask(b"POST", b"/files/compose", fields, body))


@pytest.mark.parametrize("pty", [False, True])
def test_no_input_breaks_a_process(target: Target, pty: bool) -> None:
    """Input, sizes and signals that do not fit the process that they are for are refused in words."""
    target.revive()
    tag = f"live-{pty}"
    start: dict[str, Any] = {"process": {"cmd": "/bin/sleep", "args": ["100"]}, "tag": tag}
    target.start(start | ({"pty": {"size": {"cols": 9, "rows": 9}}} if pty else {"stdin": False}))
    odd = [0, -1, 7, 65535, 65536, 2**32, 2**70, 0.5, float("inf"), "", "!", "x" * 70_000, None, [], {}, True]
    for value in odd:
        for call, rest in (
            ("SendInput", {"input": {"stdin": value}}),
            ("SendInput", {"input": {"pty": value}}),
            ("SendInput", {"input": value}),
            ("Update", {"pty": {"size": {"cols": value, "rows": value}}}),
            ("Update", {"pty": value}),
            ("CloseStdin", {}),
            ("SendSignal", {"signal": 3 if value == 9 else value}),
        ):
            body = json.dumps({"process": {"tag": tag}, **rest}).encode()
            unary = {**target.in_sandbox(), b"Content-Type": b"application/json"}
            target.check(*target.ask(b"POST", b"/process.Process/" + call.encode(), unary, body))


_STARTS = [
    {"cmd": "/bin/true", "args": ["x" * 200_000]},
    {"cmd": "/bin/true", "args": ["x"] * 100_000},
    {"cmd": "/bin/true", "envs": {"A" * 200_000: "x"}},
    {"cmd": "/bin/true", "envs": {f"A{number}": "x" * 1000 for number in range(5000)}},
    {"cmd": "x" * 5000},
    {"cmd": "/etc/passwd"},
    {"cmd": "/"},
    {"cmd": "."},
    {"cmd": "/bin/true", "cwd": "/proc/self/fd"},
    {"cmd": "/bin/true", "cwd": "x" * 5000},
    {"cmd": "/bin/true", "cwd": "~nobody"},
    {"cmd": "/bin/true", "args": ["\ud800"]},
]


@pytest.mark.parametrize("process", _STARTS, ids=lambda process: json.dumps(process)[:40])
def test_no_command_breaks_the_server(target: Target, process: dict[str, Any]) -> None:
    """What the kernel cannot start is an error of its stream, which says so."""
    target.revive()
    target.start({"process": process, "stdin": False}, whole=True)


_STEPS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["RUN", "COPY", "ENV", "WORKDIR", "USER", "NOTHING"]) | st.integers(),
            "args": st.lists(st.text(max_size=9) | st.integers(), max_size=3) | st.text(max_size=3),
            "filesHash": st.sampled_from(["0" * 64, "x", ""]) | st.integers(),
            "force": st.booleans() | st.text(max_size=2),
        },
    )
    | st.integers(),
    max_size=3,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=_STEPS | st.integers(),
    source=st.sampled_from(["base", "base:default", "nothing", "\0", "../..", 7]),
    key=st.sampled_from(["fromTemplate", "fromImage"]),
    start=st.text(max_size=9) | st.integers() | st.none(),
)
def test_no_build_request_breaks_the_server(
    target: Target, steps: Any, source: Any, key: str, start: Any
) -> None:
    """A build with any steps is taken or refused in words; one that fails says why in its status."""
    status, body = target.ask(b"POST", b"/v3/templates", {}, b'{"name": "hostile"}')
    assert status == 202, body
    made = json.loads(body)
    build = f"/templates/{made['templateID']}/builds/{made['buildID']}"
    asked = json.dumps({key: source, "steps": steps, "startCmd": start, "readyCmd": start}).encode()
    target.check(*target.ask(b"POST", f"/v2{build}".encode(), {}, asked))
    target.check(*target.ask(b"GET", f"{build}/status".encode(), {}, b""))


# --- anything

_NAMES = [
    "path",
    "source",
    "destination",
    "depth",
    "recursive",
    "includeEntry",
    "watcherId",
    "process",
    "pid",
    "tag",
    "pty",
    "size",
    "cols",
    "rows",
    "cmd",
    "args",
    "envs",
    "cwd",
    "stdin",
    "input",
    "signal",
    "start",
    "data",
    "keepalive",
    "selector",
    "config",
    "source_paths",
    "username",
    "templateID",
    "timeout",
    "metadata",
    "envVars",
    "network",
    "allowOut",
    "denyOut",
    "rules",
    "transform",
    "headers",
    "allowPublicTraffic",
    "autoPause",
    "autoPauseMemory",
    "autoResume",
    "enabled",
    "secure",
    "mcp",
    "name",
    "alias",
    "tags",
    "target",
    "count",
    "memory",
    "duration",
    "allow_internet_access",
    "volumeMounts",
    "iam",
    "fromImage",
    "fromTemplate",
    "steps",
    "type",
    "filesHash",
    "force",
    "startCmd",
    "readyCmd",
    "public",
]
_WORDS = (
    "/home/user",
    "/proc/self/status",
    "/proc/self/mem",
    "/dev/zero",
    "~",
    "~root",
    "base",
    "base:default",
    "SIGNAL_SIGTERM",
    "RUN",
    "\0",
    "..",
    "user",
    "root",
    "/bin/true",
    "e30=",
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from(
        [0, 1, -1, 2**31, 2**32, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, float("inf"), float("nan")]
    )
    | st.sampled_from(_WORDS)
    | st.text(max_size=12)
    | st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF)
)
_TREES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=10,
)
_OBJECTS = st.dictionaries(st.sampled_from(_NAMES), _TREES, max_size=6)
_BODIES = (
    _OBJECTS.map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=40) | st.sampled_from(_TEXTS)
)
_SOME_FIELDS = st.sampled_from([(name, value) for name, values in _FIELD_VALUES.items() for value in values])
_QUERIES = st.dictionaries(
    st.sampled_from(
        [
            "path",
            "username",
            "signature",
            "signature_expiration",
            "limit",
            "nextToken",
            "state",
            "metadata",
            "template",
            "startedAfter",
            "order",
            "sandboxID",
            "name",
            "sandbox_ids",
            "start",
            "end",
            "cursor",
            "direction",
            "level",
            "search",
            "logsOffset",
            "tag",
        ]
    ),
    st.sampled_from(
        (*_WORDS, _LONG.decode(), "1e999", "-1", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")
    )
    | st.text(max_size=12),
    max_size=4,
)
_ROUTES = st.sampled_from(
    [(False, method, path) for method, path in API]
    + [(True, method, path) for method, path in ENVD]
    + [(True, "POST", path) for path in RPCS] * 2
)


_ANYTHING = st.fixed_dictionaries(
    {
        "route": _ROUTES,
        "body": _BODIES,
        "query": _QUERIES,
        "field": st.none() | _SOME_FIELDS,
        "envelope": st.booleans(),
    }
)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=_ANYTHING)
def test_no_request_breaks_the_server(target: Target, asked: dict[str, Any]) -> None:
    """Any route with any fields, query and body is answered with 2xx, 4xx or 501, and with a word."""
    _ask_anything(target, **asked)


@pytest.mark.slow
@settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=_ANYTHING)
def test_no_request_of_many_breaks_the_server(target: Target, asked: dict[str, Any]) -> None:
    """The same with many more requests."""
    _ask_anything(target, **asked)


def _ask_anything(
    target: Target,
    route: tuple[bool, str, str],
    body: bytes,
    query: dict[str, str],
    field: tuple[bytes, bytes] | None,
    envelope: bool,
) -> None:
    target.revive()
    inside, method, path = route
    fields = {b"Content-Type": b"application/json"}
    if inside:
        fields |= target.in_sandbox()
    if RPCS.get(path) == "stream":
        fields |= {b"Content-Type": b"application/connect+json", b"Connect-Timeout-Ms": b"50"}
        body = struct.pack(">BI", 0, len(body)) + body if envelope else body
    asked = "&".join(f"{key}={quote(value, safe='', errors='surrogatepass')}" for key, value in query.items())
    filled = path.replace("{}", target.sandbox_id) + (f"?{asked}" if asked else "")
    target.check(
        *target.ask(method.encode(), filled.encode(), {**fields, **dict([field] if field else [])}, body)
    )
