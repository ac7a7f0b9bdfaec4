"""The server: one loopback port, on which E2B's control plane and every sandbox's envd answer.

A request that names a sandbox (by header, by host name, or by a signed URL) goes to that sandbox's envd. All
others go to the control plane.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from harness.local.api_errors import ApiError, port_not_open, sandbox_gone
from harness.local.boxes.isolation import Isolation, IsolationError
from harness.local.boxes.types import BoxDied
from harness.local.builds.builder import Builder
from harness.local.builds.images import ImageTemplates
from harness.local.builds.store import TemplateStore
from harness.local.builds.template_api import TemplateApi
from harness.local.control.catalog import Catalog
from harness.local.control.control_plane import ControlPlane
from harness.local.control.registry import Registry
from harness.local.control.views import Resources
from harness.local.envd import app as envd
from harness.local.images.kept import KeptImages
from harness.local.kept import UNUSED_S, find_room, trim
from harness.local.limits import BoxLimits
from harness.local.network.splice import Stream
from harness.local.port_forwarder import PortForwarder
from harness.local.shared_files import hold_shared
from harness.local.state import BUILT, StartError, open_state, remove_beside
from harness.local.template import Template, TemplateError, builtin_templates

_SANDBOX_HOST = re.compile(r"(?P<port>\d{1,5})-(?P<id>[a-z0-9]+)\.")

_KEEP_ALIVE_SECONDS = 600
"""Longer than the SDK keeps idle connections, so that the server never closes one during a request."""


@dataclass(frozen=True)
class Settings:
    """The settings of a server."""

    port: int
    host: str
    isolation: str | None
    """The isolation tier to use; None for the best that works here."""
    state: Path
    max_sandboxes: int | None


@dataclass(frozen=True)
class Ready:
    """The facts about a running server that a client needs."""

    url: str
    api_key: str
    isolation: Isolation


class App:
    """The ASGI application of the whole server. It also connects to the sandboxes' own ports."""

    def __init__(self, registry: Registry, control_plane: ControlPlane) -> None:
        self._registry = registry
        self._control_plane = control_plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors too are answered in E2B's form."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._dispatch(scope, receive, sending)
        except ApiError as error:
            if begun:
                raise
            await _error_response(error)(scope, receive, send)
        except ClientDisconnect:
            return  # in the middle of its request: there is nobody left to answer
        except Exception:
            if not begun:
                await _error_response(ApiError(500, "Internal server error"))(scope, receive, send)
            raise  # to the server's log

    def find_port(self, fields: Mapping[str, str]) -> tuple[str, int] | None:
        """Return the sandbox and its port that a request is for; None if it is for envd or for the server."""
        target = _parse_target(fields)
        return None if target is None or target[1] == envd.PORT else target

    async def connect(self, sandbox_id: str, port: int, fields: Mapping[str, str]) -> Stream:
        """Connect to a sandbox's port.

        Raises `ApiError`: 502 if nothing listens there, 403 without the token if the sandbox requires one.
        """
        sandbox = await self._registry.find_for_traffic(sandbox_id)
        wanted = sandbox.traffic_token
        if wanted is not None and not hmac.compare_digest(
            wanted.encode(), fields.get("e2b-traffic-access-token", "").encode()
        ):
            raise ApiError(403, "Sandbox is secured with traffic access token", sandboxId=sandbox_id)
        try:
            return await asyncio.open_connection(sock=await sandbox.box.connect(port))
        except (OSError, OverflowError) as error:
            raise port_not_open(sandbox_id, port) from error
        except BoxDied as error:
            raise sandbox_gone(sandbox_id) from error

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = self._find_target(Request(scope))
        if target is None:
            await self._control_plane(scope, receive, send)
            return
        sandbox_id, _ = target
        sandbox = await self._registry.find_for_traffic(sandbox_id)
        try:
            await sandbox.envd(scope, receive, send)
        except BoxDied as error:
            raise sandbox_gone(sandbox_id) from error

    def _find_target(self, request: Request) -> tuple[str, int] | None:
        """Return the sandbox and its port that a request is for; None if it names no sandbox."""
        if target := _parse_target(request.headers):
            return target
        if request.scope["path"] == "/files":
            # A URL that was signed while E2B_SANDBOX_URL was set names no sandbox. Its signature matches exactly one.
            for sandbox in self._registry:
                if sandbox.envd.has_valid_signature(request):
                    return sandbox.id, envd.PORT
            if "signature" not in request.query_params:
                raise ApiError(401, "missing signature query parameter")
            raise ApiError(401, "invalid signature: it is of no sandbox here")
        return None


def _parse_target(fields: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the sandbox and its port that a request's header fields name; None if they name none."""
    if sandbox_id := fields.get("e2b-sandbox-id"):
        port = fields.get("e2b-sandbox-port", str(envd.PORT))
        return sandbox_id, int(port) if re.fullmatch(r"\d{1,5}", port) else 0
    if match := _SANDBOX_HOST.match(fields.get("host", "")):
        return match["id"], int(match["port"])
    return None


IMAGES, TEMPLATES, TEMPLATES_OF_ONE_ACCOUNT = "images-1", "templates-4", "templates-4-one-account"
"""What outlives a server below its root, and goes when its form changes."""


def _templates_folder(isolation: Isolation) -> str:
    """The folder of templates: files that were made where all accounts are one have lost their owners."""
    has_one_id = isolation.namespaces is not None and isolation.namespaces.ids == "one"
    return TEMPLATES_OF_ONE_ACCOUNT if has_one_id else TEMPLATES


def _trim(root: Path, trash: Path) -> None:
    """Move what is beyond the bound of what is kept into a folder, and all of another form. Raises `StartError`."""
    known = {root / name for name in (IMAGES, TEMPLATES, TEMPLATES_OF_ONE_ACCOUNT)}
    found = {path for pattern in BUILT for path in root.glob(pattern)}
    kept = found & known
    try:
        for path in found - known:
            path.rename(trash / path.name)
        images = [KeptImages(path) for path in kept if path.name == IMAGES]
        trim([TemplateStore(path) for path in kept if path.name != IMAGES], images, find_room(root), trash)
    except (OSError, ValueError, KeyError) as error:
        raise StartError(
            f"The templates and images that are kept in {root} cannot be used: {error}",
            "Remove them: harness gc --images",
        ) from error


def _hold_shared() -> None:
    """Keep this machine's copies for sandboxes until this process ends. Raises `StartError`."""
    try:
        remove_beside(hold_shared(time.time() - UNUSED_S))
    except OSError as error:
        raise StartError(
            f"The copies that sandboxes share cannot be used: {error}", f"Remove {error.filename}"
        ) from error


async def serve(settings: Settings, announce: Callable[[Ready], None], stop: asyncio.Event) -> None:
    """Run a server until `stop` is set; then kill all sandboxes and remove their files.

    Raises `StartError` when it cannot start.
    """
    sock = _open_socket(settings.host, settings.port)
    isolation = await asyncio.to_thread(_probe_isolation, settings.isolation)
    _hold_shared()
    state = open_state(settings.state, functools.partial(_trim, settings.state))
    try:
        limits = BoxLimits()
        host, port = sock.getsockname()[:2]
        registry = Registry(isolation, state, limits, settings.max_sandboxes, f"localhost:{port}")
        store = TemplateStore(settings.state / _templates_folder(isolation))
        templates_here = _load_templates()
        images = ImageTemplates(settings.state / IMAGES, isolation, templates_here)
        catalog = Catalog(templates_here, store, state.snapshots, images.find)
        builder = Builder(isolation, state.sandboxes, store, catalog.find_template, catalog.find_root, images)
        resources = Resources.of(limits, state.path)
        templates = TemplateApi(catalog, store, builder, registry, resources)
        api_key = f"e2b_{secrets.token_hex(20)}"
        control_plane = ControlPlane(registry, catalog, templates, resources, isolation, api_key)
        registry.start()
        serving = asyncio.create_task(_make_http_server(App(registry, control_plane)).serve(sockets=[sock]))
        announce(Ready(f"http://{host}:{port}", api_key, isolation))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(registry.close(), builder.close())
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        state.remove()


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the caller decides when the server ends."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield


def _make_http_server(app: App) -> _HttpServer:
    config = uvicorn.Config(
        app,
        http=PortForwarder,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # no warning for each stray connection that does not speak HTTP
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    return _HttpServer(config)


def _open_socket(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises `StartError` for anything but a free loopback address."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise StartError(f"{host!r} is no IP address", "Use 127.0.0.1.") from error
    if not address.is_loopback:
        raise StartError(
            f"The server does not listen on {host}: whoever reaches it can run programs on this machine",
            "Use 127.0.0.1, and a tunnel (ssh -L) to reach it from elsewhere.",
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # asyncio turns Nagle's algorithm off only if the protocol is named. With it a reply takes 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(address), port))
        sock.listen(1024)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(
            f"Port {port} on {host} cannot be used: {reason}", "Use --port 0 for any free port."
        ) from error
    return sock


def _probe_isolation(requested: str | None) -> Isolation:
    try:
        return Isolation.probe(requested)
    except IsolationError as error:
        raise StartError(str(error), error.remedy) from error


def _load_templates() -> tuple[Template, ...]:
    try:
        return builtin_templates()
    except TemplateError as error:
        raise StartError(str(error), "Install harness with all of its dependencies.") from error


def _error_response(error: ApiError) -> Response:
    return Response(error.encode(), error.status, media_type="application/json")
