"""The local server's HTTP surface, below the SDK: what hostile or clumsy clients get."""

from __future__ import annotations

import base64
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.local.launch import LocalServer

Json = dict[str, Any]


@pytest.fixture
def client(server: LocalServer) -> Iterator[httpx.Client]:
    """A client that holds the API key."""
    with httpx.Client(base_url=server.url, headers={"X-API-KEY": server.api_key}, timeout=90) as client:
        yield client


@pytest.fixture
def made(client: httpx.Client) -> Iterator[Json]:
    """A sandbox, as the create call described it."""
    sandbox = client.post("/v2/sandboxes", json={"templateID": "base"}).json()
    yield sandbox
    client.delete(f"/sandboxes/{sandbox['sandboxID']}")


def _envd(sandbox: Json, **headers: str) -> dict[str, str]:
    return {
        "E2b-Sandbox-Id": sandbox["sandboxID"],
        "X-Access-Token": sandbox["envdAccessToken"],
        "Content-Type": "application/json",
        **headers,
    }


@pytest.mark.parametrize("key", [None, "", "e2b_wrong", "é".encode()])
def test_without_the_key_nothing_is_told(server: LocalServer, key: str | bytes | None) -> None:
    """Every endpoint answers 401 in E2B's form, known or not, before it looks at anything else."""
    headers = {} if key is None else {"X-API-KEY": key}
    for method, path in [("GET", "/sandboxes"), ("POST", "/v2/sandboxes"), ("GET", "/no/such")]:
        reply = httpx.request(method, server.url + path, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (401, 401)
        assert "Invalid API key" in reply.json()["message"]


def test_a_sandbox_needs_its_own_token(client: httpx.Client, made: Json) -> None:
    """envd refuses a call without the sandbox's token, and health says only that it lives."""
    for headers in (_envd(made, **{"X-Access-Token": "wrong"}), {"E2b-Sandbox-Id": made["sandboxID"]}):
        for path in ("/process.Process/List", "/filesystem.Filesystem/Stat", "/anything"):
            reply = client.post(path, headers=headers, json={})
            assert (reply.status_code, reply.json()["code"]) == (401, 401)
        assert client.get("/files", headers=headers, params={"path": "/etc/passwd"}).status_code == 401
        assert client.get("/health", headers=headers).status_code == 204


def test_an_unsecured_sandbox_of_the_first_protocol_needs_no_token(client: httpx.Client) -> None:
    """The old create call gives a token only when asked to, and connects by id and client id."""
    made = client.post("/sandboxes", json={"templateID": "base"}).json()
    assert "envdAccessToken" not in made
    headers = {"E2b-Sandbox-Id": f"{made['sandboxID']}-{made['clientID']}"}
    assert client.post("/process.Process/List", headers=headers, json={}).json() == {}
    assert client.delete(f"/sandboxes/{made['sandboxID']}-{made['clientID']}").status_code == 204


def test_a_sandbox_can_be_reached_by_host_name(client: httpx.Client, made: Json) -> None:
    """PORT-ID.domain routes to envd for its port, and says that other ports are closed."""
    reply = client.get("/health", headers={"Host": f"49983-{made['sandboxID']}.example.com"})
    assert reply.status_code == 204
    reply = client.get("/", headers={"Host": f"8080-{made['sandboxID']}.example.com"})
    assert reply.status_code == 502
    assert reply.json()["message"] == "The sandbox is running but port is not open"
    assert reply.json()["port"] == 8080


def test_an_upgrade_that_is_offered_is_not_taken_up(server: LocalServer) -> None:
    """A client that would rather speak HTTP/2 (Java's does) is answered, again and again on its connection."""
    host, port = server.url.removeprefix("http://").split(":")
    offer = (
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    )
    request = f"GET /templates HTTP/1.1\r\nHost: here\r\nX-API-KEY: {server.api_key}\r\n{offer}\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        reader = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(request)
            assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
            fields = dict(line.lower().split(b": ", 1) for line in iter(reader.readline, b"\r\n"))
            assert isinstance(json.loads(reader.read(int(fields[b"content-length"]))), list)


def test_a_gone_sandbox_answers_like_e2bs_edge(client: httpx.Client) -> None:
    """502 with the words that the SDK looks for, whatever is asked of it."""
    for method, path in [("GET", "/health"), ("GET", "/files"), ("POST", "/process.Process/List")]:
        reply = client.request(method, path, headers={"E2b-Sandbox-Id": "igone"})
        assert reply.status_code == 502
        assert reply.json() == {"code": 502, "message": "The sandbox was not found", "sandboxId": "igone"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"templateID": 7}',
        b'{"templateID": ""}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_bodies_that_make_no_sense_are_refused(client: httpx.Client, body: bytes) -> None:
    """400 with a message, never a 500."""
    reply = client.post("/v2/sandboxes", content=body)
    assert (reply.status_code, reply.json()["code"]) == (400, 400)
    assert "Error when parsing request" in reply.json()["message"]


def test_a_body_without_end_is_cut_off(client: httpx.Client) -> None:
    """A request that is far too large is refused before it is kept."""
    assert client.post("/v2/sandboxes", content=b" " * (5 << 20)).status_code == 413


@pytest.mark.parametrize(
    "sandbox_id", ["..", "../../etc", "a/b", "%00", "x" * 5000, "' OR 1=1", "{id}", "i\nj"]
)
def test_ids_are_only_ids(client: httpx.Client, sandbox_id: str) -> None:
    """Whatever stands where an id should, it is a sandbox that does not exist."""
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/metrics")]:
        reply = client.request(method, f"/sandboxes/{quote(sandbox_id, safe='')}{path}")
        assert reply.status_code in (404, 405)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/sandboxes?limit=0", "Limit"),
        ("/v2/sandboxes?limit=many", "Limit"),
        ("/v2/sandboxes?limit=" + "9" * 5000, "Limit"),
        ("/v2/sandboxes?nextToken=%%%", "next token"),
        ("/v2/sandboxes?nextToken=YWJj", "next token"),
        ("/v2/sandboxes?state=dreaming", "state"),
        ("/v2/sandboxes?order=up", "order"),
        ("/v2/sandboxes?metadata=a", "key value pair"),
        ("/v2/sandboxes?startedAfter=yesterday", "startedAfter"),
        ("/snapshots?limit=-1", "Limit"),
    ],
)
def test_queries_that_make_no_sense_are_refused(client: httpx.Client, path: str, words: str) -> None:
    """A bad page, filter or time gives 400 and is named."""
    reply = client.get(path)
    assert reply.status_code == 400
    assert words in reply.json()["message"]


def test_unknown_endpoints_are_said_to_be_unknown(client: httpx.Client, made: Json) -> None:
    """404 or 405 in JSON on the control plane and on envd."""
    assert client.get("/no/such").json()["code"] == 404
    assert client.get("/sandboxes/").status_code == 404
    assert client.post("/no/such", headers=_envd(made)).json()["code"] == 404
    assert client.put("/files", headers=_envd(made)).status_code == 405


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/process.Process/Start", {}, "invalid_argument"),
        ("/process.Process/Connect", {}, "invalid_argument"),
        ("/process.Process/SendSignal", {"process": {"pid": 1}}, "not_found"),
        ("/process.Process/SendInput", {"process": {"tag": "none"}}, "not_found"),
        ("/filesystem.Filesystem/GetWatcherEvents", {"watcherId": "none"}, "not_found"),
        ("/filesystem.Filesystem/Stat", {"path": "\0"}, "invalid_argument"),
        ("/filesystem.Filesystem/Stat", {"path": "/" + "x" * 5000}, "invalid_argument"),
        ("/filesystem.Filesystem/ListDir", {"path": "~nobody"}, "invalid_argument"),
    ],
)
def test_calls_that_make_no_sense_have_a_code(
    client: httpx.Client, made: Json, path: str, body: Json, code: str
) -> None:
    """Each RPC says with one of the protocol's codes what is wrong."""
    method = path.rpartition("/")[2]
    if method in ("Start", "Connect"):
        data = json.dumps(body).encode()
        headers = _envd(made, **{"Content-Type": "application/connect+json"})
        reply = client.post(path, headers=headers, content=struct.pack(">BI", 0, len(data)) + data)
        error = json.loads(reply.content[5:])["error"]
    else:
        error = client.post(path, headers=_envd(made), json=body).json()
    assert error["code"] == code


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\0\0\xff{}", b"\0\xff\xff\xff\xff", b"\0\0\0\0\x01{"])
def test_broken_envelopes_end_with_an_error(client: httpx.Client, made: Json, content: bytes) -> None:
    """A stream whose framing is wrong is answered with an error in the stream's own framing."""
    headers = _envd(made, **{"Content-Type": "application/connect+json"})
    reply = client.post("/process.Process/Start", headers=headers, content=content)
    assert reply.status_code == 200
    assert "error" in json.loads(reply.content[5:])


def test_a_silent_stream_shows_that_it_lives(client: httpx.Client, made: Json) -> None:
    """After each interval that the client names without output there is a keep-alive event."""
    headers = {"Keepalive-Ping-Interval": "0.05"}
    with _started(client, made, {"cmd": "/bin/sleep", "args": ["100"]}, **headers) as events:
        assert "start" in next(events)
        assert [next(events), next(events)] == [{"keepalive": {}}, {"keepalive": {}}]


def test_processes_are_found_by_their_tags(client: httpx.Client, made: Json) -> None:
    """A process that was started with a tag is listed with it, and signalled by it."""
    with _started(client, made, {"cmd": "/bin/sleep", "args": ["100"]}, tag="mine") as events:
        next(events)
        listed = client.post("/process.Process/List", headers=_envd(made), json={}).json()
        assert [one["tag"] for one in listed["processes"]] == ["mine"]
        signalled = client.post(
            "/process.Process/SendSignal",
            headers=_envd(made),
            json={"process": {"tag": "mine"}, "signal": "SIGNAL_SIGTERM"},
        )
        assert signalled.status_code == 200
        assert next(events)["end"]["status"] == "signal: terminated"


def test_a_client_that_does_not_read_holds_the_process_back(
    client: httpx.Client, made: Json, server: LocalServer
) -> None:
    """While a listening client reads nothing, the process waits, and the server keeps little of its output."""
    script = "head -c 50000000 /dev/zero; touch ~/done"
    before = _peak_memory(server.process.pid)
    with _started(client, made, {"cmd": "/bin/sh", "args": ["-c", script]}) as events:
        next(events)
        for _ in range(20):  # time in which a server that does not hold back would have read it all
            with _started(client, made, {"cmd": "/bin/sh", "args": ["-c", "ls ~"]}) as others:
                assert not [event for event in others if "data" in event]
        received = sum(len(base64.b64decode(event["data"]["stdout"])) for event in events if "data" in event)
    assert received == 50_000_000
    assert _peak_memory(server.process.pid) - before < 10_000_000


def _peak_memory(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmHWM:")).split()[1])


@contextmanager
def _started(
    client: httpx.Client, made: Json, process: Json, tag: str | None = None, **headers: str
) -> Iterator[Iterator[Json]]:
    """Start a process with the protocol itself; gives the events of its stream."""
    data = json.dumps({"process": process, "stdin": False} | ({"tag": tag} if tag else {})).encode()
    content = struct.pack(">BI", 0, len(data)) + data
    headers = _envd(made, **{"Content-Type": "application/connect+json"}) | headers
    with client.stream("POST", "/process.Process/Start", headers=headers, content=content) as reply:
        yield _events(reply)


def _events(reply: httpx.Response) -> Iterator[Json]:
    buffer = b""
    for chunk in reply.iter_raw():
        buffer += chunk
        while len(buffer) >= 5 and len(buffer) >= 5 + (size := struct.unpack(">I", buffer[1:5])[0]):
            message = json.loads(buffer[5 : 5 + size])
            buffer = buffer[5 + size :]
            if "event" in message:
                yield message["event"]


def test_huge_headers_and_garbage_do_not_end_the_server(client: httpx.Client, server: LocalServer) -> None:
    """What is no HTTP, or never ends, costs one connection and nothing else."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    for data in (b"\x16\x03\x01garbage\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000 + b"\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=90) as raw:
            raw.sendall(data)
            assert b"400" in raw.recv(4096).split(b"\r\n")[0]
    assert client.get("/sandboxes").status_code == 200


_METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"])
_SEGMENT = st.one_of(
    st.sampled_from(
        ["sandboxes", "v2", "v3", "templates", "aliases", "snapshots", "timeout", "pause", "connect", "fork"]
    ),
    st.text(min_size=1, max_size=12).map(lambda text: quote(text, safe="")),
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = ["timeout", "metadata", "envVars", "network", "autoPause", "autoResume", "name", "count", "memory"]
_BODIES = st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=5)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=_METHODS, path=st.lists(_SEGMENT, max_size=4), body=_BODIES, query=st.text(max_size=30))
def test_no_request_to_the_control_plane_breaks_it(
    client: httpx.Client, method: str, path: list[str], body: Json, query: str
) -> None:
    """Whatever comes, the answer is a clean one: below 500, or 501 for what this server does not have."""
    reply = client.request(method, "/" + "/".join(path), json=body, params={"metadata": query, "name": query})
    assert reply.status_code < 500 or reply.status_code == 501


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_BODIES)
def test_no_create_call_breaks_the_server(client: httpx.Client, body: Json) -> None:
    """A create call with any fields either makes a sandbox or is refused for what it says."""
    reply = client.post("/v2/sandboxes", json={"templateID": "base", **body})
    assert reply.status_code in (201, 400, 501)
    if reply.status_code == 201:
        killed = client.delete(f"/sandboxes/{reply.json()['sandboxID']}").status_code
        assert killed == 204 or body.get("timeout") == 0  # which ends a sandbox at once
