"""`mcp-gateway`, as E2B's sandboxes have it: several MCP servers behind one address, port 50005 of the sandbox.

This program runs inside the sandbox, on the server's own Python and with the library `mcp`.

    mcp-gateway --config JSON     start the servers that the JSON names, and return once they are served
    mcp-gateway pull NAME...      check that servers of these names can be started

The JSON is the argument of `create(mcp=...)`: names of E2B's catalogue with their settings, and `github/OWNER/REPO`
with `runCmd`, `installCmd` and `envs`. Clients must send $GATEWAY_ACCESS_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import os
import shlex
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from mcp import Client, StdioServerParameters
from mcp.server import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListToolsResult,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    TextContent,
)
from mcp_types import PaginatedRequestParams as Page
from starlette.types import ASGIApp, Receive, Scope, Send

Context = ServerRequestContext[Any]

PORT = 50005
_HOME = Path.home() / ".mcp-gateway"
_START_TIMEOUT_S = 300.0
"""A server may first have to be fetched from its registry."""

_CATALOGUE = {
    "filesystem": ("mcp-server-filesystem", "@modelcontextprotocol/server-filesystem"),
    "memory": ("mcp-server-memory", "@modelcontextprotocol/server-memory"),
    "sequentialthinking": (
        "mcp-server-sequential-thinking",
        "@modelcontextprotocol/server-sequential-thinking",
    ),
}
"""The names of E2B's catalogue that are supported: the program, and the npm package that contains it."""

_NPX_OPTIONS = "--yes --fetch-retries=1 --fetch-retry-mintimeout=1000"
"""Few and short retries: an unreachable registry should be reported before the caller gives up."""


class GatewayError(Exception):
    """The gateway cannot serve what it was asked for."""


def main() -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="mcp-gateway")
    parser.add_argument("--config", help="the servers, as JSON")
    parser.add_argument("--config-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("pull", nargs="*", metavar="pull NAME")
    options = parser.parse_args()
    if options.config is not None:
        _start_anew(options.config)
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
        os.environ.pop(name, None)  # set for this program only, not for the servers that it starts
    try:
        if options.config_fd is None:
            for name in options.pull[1:]:
                _find_in_catalogue(name)
            return 0
        with open(options.config_fd, encoding="utf-8") as file:
            config = file.read()
        return _start(_parse_config(config), os.environ.pop("GATEWAY_ACCESS_TOKEN", ""))
    except GatewayError as error:
        sys.stderr.write(f"mcp-gateway: {error}\n")
        return 1


def _start_anew(config: str) -> NoReturn:
    """Start this program again, with the configuration in an unnamed file.

    It may hold secrets, and arguments are in the process lists of the sandbox and of its machine as long as this runs.
    """
    file = os.memfd_create("config", 0)
    os.write(file, config.encode("utf-8", "surrogateescape"))
    os.lseek(file, 0, os.SEEK_SET)
    program = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    os.execv(sys.executable, [sys.executable, *program, "--config-fd", str(file)])


def _parse_config(config: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        servers = json.loads(config)
    except ValueError as error:
        raise GatewayError(f"the configuration is no JSON: {error}") from error
    if not isinstance(servers, dict) or not all(isinstance(value, dict) for value in servers.values()):
        raise GatewayError("the configuration must be an object of objects")
    return servers


def _start(servers: Mapping[str, Mapping[str, Any]], token: str) -> int:
    """Serve in a separate process. Returns when that process is up, raises GatewayError if it fails."""
    if not token:
        raise GatewayError("GATEWAY_ACCESS_TOKEN is not set")
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        _run_daemon(servers, token, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        answer = pipe.read()
    if answer != "up":
        raise GatewayError(answer or f"it died at its start; see {_HOME / 'log'}")
    return 0


def _run_daemon(servers: Mapping[str, Mapping[str, Any]], token: str, writer: int) -> NoReturn:
    try:
        os.setsid()
        _HOME.mkdir(mode=0o700, exist_ok=True)
        (_HOME / ".token").write_text(token)
        log = os.open(_HOME / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, fd in enumerate((nothing, log, log)):
            os.dup2(fd, target)
        asyncio.run(_serve(servers, token, writer))
    except GatewayError as error:
        os.write(writer, str(error).encode())
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        raise
    finally:
        os._exit(1)


async def _serve(servers: Mapping[str, Mapping[str, Any]], token: str, writer: int) -> None:
    try:
        listener = socket.create_server(("127.0.0.1", PORT))
    except OSError as error:
        raise GatewayError(f"port {PORT} cannot be had: {error.strerror}") from error
    async with AsyncExitStack() as stack:
        aggregated = AggregatedServer()
        for name, settings in servers.items():
            await aggregated.add(name, await _start_mcp_server(stack, name, settings))
        server: Server[Any] = Server(
            "mcp-gateway",
            on_list_tools=aggregated.list_tools,
            on_call_tool=aggregated.call_tool,
            on_list_prompts=aggregated.list_prompts if aggregated.prompts.all else None,
            on_get_prompt=aggregated.get_prompt if aggregated.prompts.all else None,
            on_list_resources=aggregated.list_resources if aggregated.resources else None,
            on_read_resource=aggregated.read_resource if aggregated.resources else None,
        )
        # The token is the protection; the host names that clients use are not known here.
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        app = BearerAuth(server.streamable_http_app(transport_security=security), token)
        os.write(writer, b"up")
        os.close(writer)
        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


async def _start_mcp_server(stack: AsyncExitStack, name: str, settings: Mapping[str, Any]) -> Client:
    command, folder = await _start_command(name, settings)
    envs = settings.get("envs") or {}
    parameters = StdioServerParameters(
        command="/bin/bash", args=["-l", "-c", command], env={**os.environ, **envs}, cwd=folder
    )
    log = _HOME / "log"
    before = log.stat().st_size
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            return await stack.enter_async_context(Client(parameters))
    except Exception as error:
        words = log.read_bytes()[before:].decode("utf-8", "replace").strip()[-1000:] or _reason(error)
        traceback.print_exc()
        raise GatewayError(f"the MCP server {name} did not start ({command}): {words}") from error


def _reason(error: BaseException) -> str:
    """Return the message of an error; for an exception group that of its first leaf."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def _start_command(name: str, settings: Mapping[str, Any]) -> tuple[str, Path]:
    """Return the command that starts a server, and its folder. Raises GatewayError."""
    if not name.startswith("github/"):
        program, package = _find_in_catalogue(name)
        words = shlex.join(str(path) for path in settings.get("paths") or ())
        return (
            f"command -v {program} >/dev/null && exec {program} {words}; exec npx {_NPX_OPTIONS} {package} {words}",
            Path.home(),
        )
    run = settings.get("runCmd") or settings.get("run_cmd")
    if not isinstance(run, str):
        raise GatewayError(f"{name} needs a runCmd")
    folder = _HOME / name
    if not folder.exists():
        url = f"https://github.com/{name.removeprefix('github/')}"
        await _run_command(f"git clone --quiet --depth 1 {shlex.quote(url)} {folder}", Path.home())
        if install := settings.get("installCmd") or settings.get("install_cmd"):
            await _run_command(str(install), folder)
    return run, folder


def _find_in_catalogue(name: str) -> tuple[str, str]:
    if name not in _CATALOGUE:
        raise GatewayError(
            f"the MCP server {name!r} is not known to the local server, which has {', '.join(_CATALOGUE)}; any other "
            "can be given as github/OWNER/REPO with its runCmd"
        )
    return _CATALOGUE[name]


async def _run_command(command: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/bash", "-l", "-c", command, cwd=folder, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise GatewayError(f"{command}: {errors.decode('utf-8', 'replace').strip()[-1000:]}")


class NamespacedItems:
    """Items of several servers by name. On a name clash the later item gets its server's name as a prefix."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._targets: dict[str, tuple[Client, str]] = {}

    def add(self, server: str, client: Client, items: Sequence[Any]) -> None:
        """Add the items of one server."""
        for item in items:
            name = f"{server.rpartition('/')[2]}-{item.name}" if item.name in self._targets else item.name
            self._targets[name] = client, item.name
            self.all.append(item.model_copy(update={"name": name}))

    def resolve(self, name: str) -> tuple[Client, str]:
        """Return the client that has this item, and the item's name there. Raises KeyError."""
        return self._targets[name]


class AggregatedServer:
    """The tools, prompts and resources of all servers together."""

    def __init__(self) -> None:
        self.tools = NamespacedItems()
        self.prompts = NamespacedItems()
        self.resources: list[Resource] = []
        self._resource_owners: dict[str, Client] = {}

    async def add(self, server: str, client: Client) -> None:
        """Add the tools, prompts and resources of one server."""
        has = client.server_capabilities
        if has.tools:
            self.tools.add(server, client, await _list_all(client.list_tools, "tools"))
        if has.prompts:
            self.prompts.add(server, client, await _list_all(client.list_prompts, "prompts"))
        if has.resources:
            found = await _list_all(client.list_resources, "resources")
            self.resources += found
            self._resource_owners.update((str(each.uri), client) for each in found)

    async def list_tools(self, context: Context, params: Page | None) -> ListToolsResult:
        """List the items of all servers."""
        return ListToolsResult(tools=self.tools.all)

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Forward the call to the server that has the tool."""
        try:
            client, name = self.tools.resolve(params.name)
        except KeyError:
            text = TextContent(type="text", text=f"Unknown tool: {params.name}")
            return CallToolResult(content=[text], is_error=True)
        return await client.call_tool(name, params.arguments)

    async def list_prompts(self, context: Context, params: Page | None) -> ListPromptsResult:
        """List the items of all servers."""
        return ListPromptsResult(prompts=self.prompts.all)

    async def get_prompt(self, context: Context, params: GetPromptRequestParams) -> GetPromptResult:
        """Forward the request to the server that has the item."""
        client, name = self.prompts.resolve(params.name)
        return await client.get_prompt(name, params.arguments)

    async def list_resources(self, context: Context, params: Page | None) -> ListResourcesResult:
        """List the items of all servers."""
        return ListResourcesResult(resources=self.resources)

    async def read_resource(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Forward the request to the server that has the item."""
        return await self._resource_owners[str(params.uri)].read_resource(str(params.uri))


async def _list_all(listing: Callable[..., Awaitable[Any]], field: str) -> list[Any]:
    """Return the items of all pages of a listing."""
    page = await listing()
    found = list(getattr(page, field))
    while page.next_cursor:
        page = await listing(cursor=page.next_cursor)
        found += getattr(page, field)
    return found


class BearerAuth:
    """An ASGI application that answers only requests with the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that has the token; answer any other with 401."""
        if scope["type"] != "http" or hmac.compare_digest(_authorization(scope), self._expected):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-length", b"0"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _authorization(scope: Scope) -> bytes:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value for name, value in headers if name == b"authorization"), b"")


if __name__ == "__main__":
    sys.exit(main())
