"""Every route of E2B's protocol is known here: served, or refused in words. So a new SDK's is missed by a test."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import e2b.api.client.api as sdk_routes
import e2b.api.client.models as sdk_models
import httpx
import pytest
from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
from e2b.envd.process.process_connect import ProcessASGIApplication

from harness.local.launch import LocalServer
from tests.support.e2b_routes import API, CLOSED, ENVD, FIELDS, REFUSED, RPCS, SERVED, Answer

Route = tuple[str, str]


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"X-API-KEY": server.api_key}, timeout=90) as client:
        yield client


@pytest.fixture(scope="module")
def sandbox(client: httpx.Client) -> Iterator[dict[str, str]]:
    """The header fields that reach a sandbox's envd."""
    made = client.post("/v2/sandboxes", json={"templateID": "base"}).json()
    yield {"E2b-Sandbox-Id": made["sandboxID"], "X-Access-Token": made["envdAccessToken"]}
    client.delete(f"/sandboxes/{made['sandboxID']}")


def answered(reply: httpx.Response) -> Answer | str:
    """What a reply says of its route."""
    if reply.status_code == 501:
        assert "is not available on the local sandbox server: " in reply.json()["message"]
        return REFUSED
    if reply.status_code == 405 or (reply.status_code == 404 and "no such endpoint" in reply.text):
        return "unknown"
    return CLOSED if "404 page not found" in reply.text else SERVED


def test_every_route_of_the_control_plane_is_known(client: httpx.Client) -> None:
    """Each is served, or refused with what will do in its place; none is unknown."""
    found = {
        (method, path): answered(client.request(method, path.replace("{}", "nothing")))
        for method, path in API
    }
    assert found == API


def test_every_route_of_envd_is_known(client: httpx.Client, sandbox: dict[str, str]) -> None:
    """Those for clients are served; those for E2B's own machines are closed, as from outside of E2B."""
    found = {(method, path): answered(client.request(method, path, headers=sandbox)) for method, path in ENVD}
    assert found == ENVD


def test_every_rpc_is_served(client: httpx.Client, sandbox: dict[str, str]) -> None:
    """Each RPC answers in its own form: a message or one of the protocol's errors, never that there is no such."""
    for path, kind in RPCS.items():
        content_type = "application/json" if kind == "unary" else "application/connect+json"
        body = b"{}" if kind == "unary" else b"\0\0\0\0\2{}"
        headers = {**sandbox, "Content-Type": content_type, "Connect-Timeout-Ms": "200"}
        reply = client.post(path, headers=headers, content=body)
        assert reply.headers["content-type"] in (content_type, "application/json"), path
        assert "unimplemented" not in reply.text or path.endswith("StreamInput"), path
    assert client.post("/process.Process/Nothing", headers=sandbox, json={}).status_code == 404


def test_the_installed_sdk_has_no_other_routes() -> None:
    """What the SDK's generated client asks of the control plane is in the table."""
    found = set(_routes_of_the_sdk())
    assert len(found) > 40
    assert found - set(API) == set()


def test_the_installed_sdk_has_no_other_rpcs() -> None:
    """The services in the SDK's wheel have the RPCs of the table and no more."""
    apps = FilesystemASGIApplication(object()), ProcessASGIApplication(object())  # type: ignore[arg-type]
    sources = "".join(inspect.getsource(inspect.getmodule(type(app)) or app) for app in apps)
    found = set(re.findall(r'"(/(?:process\.Process|filesystem\.Filesystem)/\w+)"', sources))
    assert found == set(RPCS)


def test_the_installed_sdk_has_no_other_fields() -> None:
    """What the SDK's bodies may say to routes that are served is in the table: nothing new is passed over."""
    assert _fields_of_the_sdk() == {name: set(fields.split()) for name, fields in FIELDS.items()}


def _sources_of_the_sdk() -> Iterator[str]:
    for module in pkgutil.walk_packages(sdk_routes.__path__, f"{sdk_routes.__name__}."):
        yield inspect.getsource(importlib.import_module(module.name))


def _routes_in(source: str) -> list[Route]:
    found = re.findall(r'"method": "(\w+)",\s*"url": f?"([^"]+)"', source)
    return [(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for method, path in found]


def _routes_of_the_sdk() -> Iterator[Route]:
    for source in _sources_of_the_sdk():
        yield from _routes_in(source)


def _fields_of_the_sdk() -> dict[str, set[str]]:
    """The fields of each body for a route that is served, and of what they consist of, but of what is refused."""
    found: dict[str, set[str]] = {}
    pending = [
        body
        for source in _sources_of_the_sdk()
        if any(API.get(route) == SERVED for route in _routes_in(source))
        for body in re.findall(r"^    body: (?:Union\[)?(\w+)", source, re.MULTILINE)
    ]
    while pending:
        name = pending.pop()
        if (
            name in found
            or not hasattr(sdk_models, name)
            or re.match("SandboxEgress|SandboxIam|SandboxVolume", name)
        ):
            continue
        source = inspect.getsource(inspect.getmodule(getattr(sdk_models, name)) or sdk_models)
        if fields := set(re.findall(r'd\.pop\(\s*"(\w+)"', source)):
            found[name] = fields
        pending += re.findall(r"\b([A-Z]\w+)\.from_dict", source)
    return found
