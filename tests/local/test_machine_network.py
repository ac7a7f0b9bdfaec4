"""A company's machine: its own proxy and certificates serve sandboxes, and a mirror is reached where it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from e2b import Template

from harness.errors import ProblemsError
from harness.local.boxes.box import Box
from harness.local.launch import LocalServer, start_server
from harness.local.network.egress import Egress
from harness.local.network.policy import ALL_TRAFFIC, Injection, NetworkPolicy
from harness.tasks.loading import load_task
from tests.support.boxes import isolation, run, tell
from tests.support.folders import task_folder
from tests.support.images import Image, entry, layer
from tests.support.redteam import judge

MIRROR = "mirror.corp.invalid"
"""A name that only the company's proxy can resolve."""
SECRET = "sk-the-key"


@dataclass
class Company:
    """A proxy that wants a password, and behind it the mirror: at port 80, and over TLS at 443."""

    asked: list[str] = field(default_factory=list)
    mirror: bytes = b""
    url: str = ""


@contextlib.asynccontextmanager
async def company(authority: trustme.CA, files: Mapping[str, bytes] | None = None) -> AsyncIterator[Company]:
    """`files` are answered by the last part of a path, anything else by a word."""
    found = Company()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(MIRROR).configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            found.asked.append(head.split("\r\n")[0])
            if "Proxy-Authorization: Basic bWU6cHc=" not in head:
                writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                if head.startswith("CONNECT"):
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    await writer.start_tls(context)
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                found.mirror += head.encode()
                body = (files or {}).get(head.split()[1].rpartition("/")[2], b"mirror")
                fields = f"Content-Length: {len(body)}\r\nConnection: close"
                writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as running:
        found.url = f"http://me:pw@127.0.0.1:{running.sockets[0].getsockname()[1]}"
        yield found


@pytest.mark.parametrize("named_by", ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "a file"])
def test_requests_go_by_the_machines_proxy_and_its_certificates_are_trusted(
    named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tunnels, plain HTTP, and what gets a key; from the sandbox nobody sees the proxy's password."""
    authority, corp = trustme.CA(), tmp_path / "corp.pem"
    authority.cert_pem.write_to_path(corp)
    if named_by != "a file":
        monkeypatch.setenv(named_by, str(corp))

    async def story(box: Box) -> None:
        async with company(authority) as found:
            for name in ("HTTPS_PROXY", "HTTP_PROXY"):
                monkeypatch.setenv(name, found.url)
            said = await run(box, f"curl -sS http://{MIRROR}/plain; curl -sS https://{MIRROR}/tunnel; env")
            assert said.stdout.startswith("mirrormirror"), said.stderr
            assert "me:pw" not in said.stdout
            python = f"import urllib.request as u; print(u.urlopen('https://{MIRROR}/').read())"
            assert "mirror" in (await run(box, f'python3 -c "{python}"')).stdout
            await box.update_network(keyed)
            assert (await run(box, f"curl -sS https://{MIRROR}/keyed")).stdout == "mirror"
            assert found.asked[:2] == [
                f"GET http://{MIRROR}:80/plain HTTP/1.1",
                f"CONNECT {MIRROR}:443 HTTP/1.1",
            ]
            assert found.mirror.count(SECRET.encode()) == 1
            monkeypatch.setenv("HTTPS_PROXY", found.url.replace("me:pw@", ""))
            refused = await run(box, f"curl -sSv https://{MIRROR}/")
            assert "502 harness: this machine's proxy 127.0.0.1:" in refused.stderr
            assert "407" in refused.stderr
            other = await run(box, "curl -sS -o /dev/null -w '%{http_code}' http://other.corp.invalid/")
            assert other.stdout == "403"

    rules = NetworkPolicy(allow_out=(MIRROR,), deny_out=(ALL_TRAFFIC,))
    keyed = replace(rules, injections=(Injection(MIRROR, (("k", SECRET),)),))
    tell(story, isolation("namespaces"), network=rules, ca=corp if named_by == "a file" else None)


def test_builds_go_by_the_machines_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of a registry that only it can resolve, whose certificate is the company's; and what steps fetch."""
    isolation("namespaces")
    authority, corp = trustme.CA(), tmp_path / "corp.pem"
    authority.cert_pem.write_to_path(corp)
    image = Image.of([layer([entry("app/x", b"1")])])
    monkeypatch.setenv("SSL_CERT_FILE", str(corp))

    def build() -> None:
        with start_server() as server:
            params: Any = {
                "api_url": server.url,
                "api_key": server.api_key,
                "api_headers": {"Harness-Network": MIRROR},
            }
            Template.build(Template().from_image(f"{MIRROR}/team/app:1"), "of-the-registry", **params)
            fetch = (
                Template().from_template("claude").run_cmd(f"curl -sS https://{MIRROR}/x | grep -x mirror")
            )
            Template.build(fetch, "of-the-mirror", **params)

    async def story() -> Company:
        async with company(authority, {**image.blobs, "1": image.manifest}) as found:
            monkeypatch.setenv("HTTPS_PROXY", found.url)
            await asyncio.to_thread(build)
            return found

    found = asyncio.run(story())
    assert {line.rpartition(" ")[0] for line in found.asked} == {f"CONNECT {MIRROR}:443"}
    assert b"GET /v2/team/app/manifests/1 " in found.mirror
    assert b"GET /x " in found.mirror


def test_a_tasks_certificates_are_trusted_in_its_sandboxes(server: LocalServer, tmp_path: Path) -> None:
    """In the agent's, and in the one where it is judged."""
    if "network" not in server.enforces:
        pytest.skip("only the full tier has a proxy")
    corp = tmp_path / "corp.pem"
    corp.write_bytes(b"The company's own:\n" + trustme.CA().cert_pem.bytes())
    look = 'grep -q "company\'s own" "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS"'
    task = task_folder(
        tmp_path,
        toml=f"[sandbox]\nca = '../corp.pem'\n[checks.run]\nlook = {json.dumps(look)}\n",
        checks={},
        solution={"solve.sh": f"{look} && echo 42 >answer.txt"},
    )
    judged = judge(server, task)
    assert judged.record.outcome == "passed", judged.why


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), ("no certificate", "has no certificates")]
)
def test_certificates_that_are_none_are_a_problem_of_the_task(
    tmp_path: Path, content: str | None, says: str
) -> None:
    """Told at collection."""
    task = task_folder(tmp_path, toml="[sandbox]\nca = 'corp.pem'\n")
    if content:
        (task / "corp.pem").write_text(content)
    with pytest.raises(ProblemsError, match=says):
        load_task(task)


def test_a_wildcard_reaches_no_name_that_only_the_machines_proxy_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be inside of the company; nobody can tell."""

    async def story() -> str:
        async with company(trustme.CA()) as found:
            monkeypatch.setenv("HTTP_PROXY", found.url)
            listening: list[socket.socket] = []

            async def listen(port: int) -> socket.socket:
                listening.append(socket.create_server(("127.0.0.1", 0)))
                listening[0].setblocking(False)
                return listening[0]

            egress = Egress(listen)
            await egress.apply(NetworkPolicy(allow_out=("*.invalid",), deny_out=(ALL_TRAFFIC,)))
            reader, writer = await asyncio.open_connection(*listening[0].getsockname())
            writer.write(f"GET http://{MIRROR}/ HTTP/1.1\r\nHost: {MIRROR}\r\n\r\n".encode())
            said = (await reader.read()).decode()
            writer.close()
            egress.close()
            assert found.asked == []
            return said

    assert f"cannot resolve {MIRROR}" in asyncio.run(story())


@pytest.mark.parametrize("port", [80, 443])
def test_any_port_of_loopback_can_be_the_sandboxs_too(port: int) -> None:
    """Also those that nothing inside may open; where nothing listens outside, the answer says so."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            pytest.skip(f"something listens on port {port} here")

    async def story(box: Box) -> None:
        said = await run(box, f"curl -sS -i http://127.0.0.1:{port}/")
        assert said.stdout.startswith("HTTP/1.1 502 harness: nothing listens on port"), said.stderr
        assert f"nothing listens on port {port} of the loopback" in said.stdout

    policy = NetworkPolicy(allow_out=(f"127.0.0.1:{port}",), deny_out=(ALL_TRAFFIC,))
    tell(story, isolation("namespaces"), network=policy)
