"""E2B's control plane: the REST endpoints for sandboxes and snapshots. It also serves those for templates."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from harness.local import api_errors, tier
from harness.local.api_errors import ApiError, bad_request, not_on_this_server
from harness.local.boxes.isolation import Isolation
from harness.local.builds.template_api import TemplateApi
from harness.local.control import views
from harness.local.control.body import Body, read_body
from harness.local.control.catalog import Catalog
from harness.local.control.create_request import (
    CA_FIELD,
    MAX_TIMEOUT_HOURS,
    CreateRequest,
    parse_ca,
    parse_create_request,
    parse_network_policy,
    parse_timeout,
)
from harness.local.control.idempotency import IdempotencyCache
from harness.local.control.registry import LocalSandbox, Registry
from harness.local.envd.journal import Level

_MAX_PAGE = 100
_MAX_FORKS = 100
_MAX_LOG_PAGE = 1000
_UNSUPPORTED = {
    "/volumes": (
        "Storage in volumes",
        "put files into a template (Template().copy), or write and read them with sandbox.files",
    ),
    "/volumecontent": (
        "Storage in volumes",
        "put files into a template (Template().copy), or write and read them with sandbox.files",
    ),
    "/secrets": (
        "Keeping secrets",
        "give them in envs, or have a rule of `network` add them to requests, outside of the sandbox",
    ),
    "/events": (
        "The log of lifecycle events, and webhooks",
        "poll GET /v2/sandboxes and GET /v2/sandboxes/{id}/logs",
    ),
    "/teams": (
        "Teams and their metrics",
        "this server has one owner; GET /sandboxes/metrics tells what sandboxes use",
    ),
    "/api-keys": ("Making API keys", "the server prints its one key when it starts"),
    "/access-tokens": ("Making access tokens", "the API key that the server prints does for all routes"),
    "/nodes": ("The list of machines", "this server has one: GET /health tells of it"),
    "/admin": (
        "Administration of a cluster",
        "stop the server to end all of its sandboxes, or DELETE /sandboxes/{id}",
    ),
}
_SHORT_NUMBER = re.compile(r"\d{1,12}", re.ASCII)

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class ControlPlane:
    """The control plane, an ASGI application. Every request except `/health` and uploads needs the API key."""

    def __init__(
        self,
        registry: Registry,
        catalog: Catalog,
        templates: TemplateApi,
        resources: views.Resources,
        isolation: Isolation,
        api_key: str,
    ) -> None:
        self._registry = registry
        self._isolation = isolation
        self._catalog = catalog
        self._templates = templates
        self._resources = resources
        self._api_key = api_key.encode()
        self._idempotency: IdempotencyCache[LocalSandbox] = IdempotencyCache()
        self._router = Router(self._routes(), redirect_slashes=False, default=_no_such_endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `ApiError` before anything is sent."""
        path = scope["path"]
        is_public = path == "/health" or self._templates.is_upload(path)
        if not is_public and not self._has_api_key(Request(scope)):
            raise api_errors.unauthorized()
        await self._router(scope, receive, send)

    def _has_api_key(self, request: Request) -> bool:
        given = request.headers.get("x-api-key", "").encode("latin-1")
        return hmac.compare_digest(given, self._api_key)

    def _routes(self) -> list[Route]:
        one = "/sandboxes/{id}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/health", self._check_health),
            ("POST", "/sandboxes", self._create_v1),
            ("POST", "/v2/sandboxes", self._create_v2),
            ("GET", "/sandboxes", self._list_v1),
            ("GET", "/sandboxes/metrics", self._list_last_metrics),
            ("GET", "/v2/sandboxes", self._list_v2),
            ("GET", one, self._get_sandbox),
            ("DELETE", one, self._kill),
            ("POST", f"{one}/connect", self._connect),
            ("POST", f"/v2{one}/connect", self._connect),
            ("POST", f"{one}/resume", self._connect),
            ("POST", f"{one}/timeout", self._set_timeout),
            ("POST", f"{one}/refreshes", self._refresh),
            ("POST", f"{one}/pause", self._pause),
            ("POST", f"{one}/snapshots", self._create_snapshot),
            ("POST", f"{one}/fork", self._fork),
            ("PUT", f"{one}/network", self._update_network),
            ("GET", f"{one}/egress", self._get_egress),
            ("GET", f"{one}/metrics", self._list_metrics),
            ("GET", f"{one}/logs", self._list_logs_v1),
            ("GET", f"/v2{one}/logs", self._list_logs_v2),
            ("GET", "/snapshots", self._list_snapshots),
        ]
        own = [Route(path, handler, methods=[method]) for method, path, handler in table]
        for path, (what, instead) in _UNSUPPORTED.items():
            nothing = _make_unsupported_endpoint(what, instead)
            own += [Route(path, nothing), Route(f"{path}/{{rest:path}}", nothing)]
        return own + self._templates.routes()

    async def _check_health(self, request: Request) -> Response:
        found = self._isolation
        headers = tier.health_headers(found.tier, found.enforces, found.shortcoming)
        return PlainTextResponse("Health check successful", headers=headers)

    async def _create_v1(self, request: Request) -> Response:
        body = await read_body(request)
        wanted = self._parse_create(request, body, secure=bool(body.boolean("secure")))
        return JSONResponse(self._connection_json(await self._registry.create(wanted)), 201)

    async def _create_v2(self, request: Request) -> Response:
        body = await read_body(request)

        async def create() -> LocalSandbox:
            return await self._registry.create(self._parse_create(request, body, secure=True))

        key = request.headers.get("idempotency-key")
        sandbox = await (create() if key is None else self._idempotency.run(key, body, create))
        return JSONResponse(self._connection_json(sandbox), 201)

    def _parse_create(self, request: Request, body: Body, *, secure: bool) -> CreateRequest:
        ca = parse_ca(request.headers.get(CA_FIELD))
        return replace(parse_create_request(body, self._catalog, secure), ca=ca)

    async def _list_v1(self, request: Request) -> Response:
        running = [one for one in self._find_matching(request) if one.state == "running"]
        return JSONResponse([views.sandbox_summary(one, self._resources) for one in running])

    async def _list_v2(self, request: Request) -> Response:
        found = self._find_matching(request)
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise bad_request(f"Invalid order '{order}', expected 'asc' or 'desc'")
        found.sort(key=_sort_key, reverse=order == "desc")
        page, headers = _paginate(request, found, _sort_key, descending=order == "desc")
        return JSONResponse([views.sandbox_summary(one, self._resources) for one in page], headers=headers)

    def _find_matching(self, request: Request) -> list[LocalSandbox]:
        query = request.query_params
        states = {state for text in query.getlist("state") for state in text.split(",") if state}
        if unknown := states - {"running", "paused"}:
            raise bad_request(f"Invalid state '{unknown.pop()}', expected 'running' or 'paused'")
        metadata = _parse_metadata_filter(query.get("metadata", ""))
        template = query.get("template")
        after = _parse_moment(query["startedAfter"], "startedAfter") if "startedAfter" in query else None
        return [
            sandbox
            for sandbox in self._registry
            if (not states or sandbox.state in states)
            and metadata.items() <= dict(sandbox.request.metadata).items()
            and (template is None or template in _template_names(sandbox))
            and (after is None or sandbox.started_at >= after)
        ]

    async def _get_sandbox(self, request: Request) -> Response:
        sandbox = self._registry.find(request.path_params["id"])
        return JSONResponse(views.sandbox_details(sandbox, self._resources, self._registry.domain))

    async def _kill(self, request: Request) -> Response:
        await self._registry.kill(request.path_params["id"])
        return Response(status_code=204)

    async def _connect(self, request: Request) -> Response:
        body = await read_body(request)
        sandbox_id = request.path_params["id"]
        keep_memory = body.boolean("memory") is not False
        resumed = await self._registry.connect(sandbox_id, parse_timeout(body), keep_memory)
        sandbox = self._registry.find(sandbox_id)
        return JSONResponse(self._connection_json(sandbox), 201 if resumed else 200)

    async def _set_timeout(self, request: Request) -> Response:
        body = await read_body(request)
        seconds = body.integer("timeout")
        if seconds is None:
            raise api_errors.bad_body("timeout is required")
        if seconds > MAX_TIMEOUT_HOURS * 3600:
            raise bad_request(f"Timeout cannot be greater than {MAX_TIMEOUT_HOURS} hours")
        self._registry.set_timeout(request.path_params["id"], seconds)
        return Response(status_code=204)

    async def _refresh(self, request: Request) -> Response:
        seconds = (await read_body(request)).integer("duration", minimum=0)
        sandbox = self._registry.find_running(request.path_params["id"])
        await self._registry.connect(sandbox.id, min(seconds or 0, 3600))
        return Response(status_code=204)

    async def _pause(self, request: Request) -> Response:
        keep_memory = (await read_body(request)).boolean("memory") is not False
        await self._registry.pause(request.path_params["id"], keep_memory)
        return Response(status_code=204)

    async def _create_snapshot(self, request: Request) -> Response:
        name = (await read_body(request)).string("name")
        sandbox = self._registry.find_running(request.path_params["id"])
        snapshot = self._catalog.new_snapshot(name, sandbox.id, sandbox.request.template)
        await self._registry.copy_files(sandbox, snapshot.path)
        await self._catalog.add_snapshot(snapshot)
        return JSONResponse(views.snapshot_summary(snapshot), 201)

    async def _fork(self, request: Request) -> Response:
        body = await read_body(request)
        count = body.integer("count", minimum=1) or 1
        limit = self._registry.max_sandboxes
        if count > _MAX_FORKS:
            raise bad_request(f"Count cannot be greater than {_MAX_FORKS}")
        if limit is not None and count >= limit:
            raise bad_request(
                f"Count must be lower than the maximum number of concurrent sandboxes ({limit})"
            )
        sandbox = self._registry.find(request.path_params["id"])
        if sandbox.state == "paused":
            message = f"Sandbox '{sandbox.id}' is paused and cannot be forked; resume it first"
            raise api_errors.conflict(message)
        forks = await self._registry.fork(sandbox, count, parse_timeout(body))
        return JSONResponse([self._fork_result(fork) for fork in forks], 201)

    def _connection_json(self, sandbox: LocalSandbox) -> dict[str, Any]:
        return views.sandbox_connection(sandbox, self._registry.domain)

    def _fork_result(self, fork: LocalSandbox | ApiError) -> dict[str, Any]:
        return (
            {"error": fork.body} if isinstance(fork, ApiError) else {"sandbox": self._connection_json(fork)}
        )

    async def _update_network(self, request: Request) -> Response:
        body = await read_body(request)
        access = body.boolean("allow_internet_access")
        sandbox = self._registry.find_running(request.path_params["id"])
        changed = replace(
            sandbox.request,
            policy=parse_network_policy(body, access),
            network=body.raw(),
            allow_internet_access=access,
        )
        await self._registry.update_network(sandbox, changed)
        return Response(status_code=204)

    async def _get_egress(self, request: Request) -> Response:
        """Answer with the proxy's report: an extension of this server."""
        return JSONResponse(self._registry.find(request.path_params["id"]).box.egress_report())

    async def _list_metrics(self, request: Request) -> Response:
        sandbox = self._registry.find(request.path_params["id"])
        start = _parse_number(request, "start", 0)
        end = _parse_number(request, "end", None)
        if sandbox.state == "running" and end is None:
            await self._registry.take_sample(sandbox)
        return JSONResponse(
            [
                views.usage_sample(sample)
                for sample in sandbox.samples
                if start <= sample.taken_at.timestamp()
                and (end is None or sample.taken_at.timestamp() <= end)
            ]
        )

    async def _list_last_metrics(self, request: Request) -> Response:
        ids = [one for text in request.query_params.getlist("sandbox_ids") for one in text.split(",") if one]
        if not ids:
            raise bad_request("sandbox_ids must name at least one sandbox")
        if len(ids) > _MAX_PAGE:
            raise bad_request(f"sandbox_ids can name at most {_MAX_PAGE} sandboxes")
        running = {one.id: one for one in self._registry if one.id in ids and one.state == "running"}
        for sandbox in running.values():
            if not sandbox.samples:
                await self._registry.take_sample(sandbox)
        last = {key: views.usage_sample(one.samples[-1]) for key, one in running.items() if one.samples}
        return JSONResponse({"sandboxes": last})

    async def _list_logs_v1(self, request: Request) -> Response:
        start = _parse_number(request, "start", 0)
        limit = _parse_number(request, "limit", _MAX_LOG_PAGE)
        sandbox = self._registry.find(request.path_params["id"])
        found = [entry for entry in sandbox.journal if entry.milliseconds >= start][:limit]
        return JSONResponse(
            {
                "logs": [views.log_line(entry) for entry in found],
                "logEntries": [views.log_entry(entry) for entry in found],
            }
        )

    async def _list_logs_v2(self, request: Request) -> Response:
        query = request.query_params
        backward = query.get("direction") == "backward"
        cursor = _parse_number(request, "cursor", None)
        search = query.get("search", "")
        level = _parse_level(query.get("level", "debug"))
        sandbox = self._registry.find(request.path_params["id"])
        found = [
            entry
            for entry in sandbox.journal
            if entry.at_least(level)
            and search in entry.message
            and (
                cursor is None or (entry.milliseconds <= cursor if backward else entry.milliseconds >= cursor)
            )
        ]
        page = (found[::-1] if backward else found)[: _parse_number(request, "limit", _MAX_LOG_PAGE)]
        return JSONResponse({"logs": [views.log_entry(entry) for entry in page]})

    async def _list_snapshots(self, request: Request) -> Response:
        query = request.query_params
        found = self._catalog.list_snapshots(query.get("sandboxID"), query.get("name"))
        page, headers = _paginate(request, found, lambda one: (one.created_at, one.id), descending=True)
        return JSONResponse([views.snapshot_summary(one) for one in page], headers=headers)


def _make_unsupported_endpoint(what: str, instead: str) -> type[HTTPEndpoint]:
    """Return an endpoint that answers every method with 501."""

    class UnsupportedEndpoint(HTTPEndpoint):
        async def dispatch(self) -> None:
            raise not_on_this_server(what, instead)

    return UnsupportedEndpoint


async def _no_such_endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    raise ApiError(404, f"no such endpoint: {scope['method']} {scope['path']}")


def _sort_key(sandbox: LocalSandbox) -> tuple[datetime, str]:
    return sandbox.started_at, sandbox.id


def _template_names(sandbox: LocalSandbox) -> tuple[str, ...]:
    template = sandbox.request.template
    return (template.id, template.name, *template.aliases)


def _parse_metadata_filter(text: str) -> dict[str, str]:
    """Parse `key=value` pairs. The SDK escapes each part, and then the whole once more."""
    pairs = [pair.split("=") for pair in unquote_plus(text).split("&") if pair]
    if any(len(pair) != 2 for pair in pairs):
        raise bad_request("invalid key value pair in query")
    return {unquote_plus(key): unquote_plus(value) for key, value in pairs}


def _parse_moment(text: str, field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        raise bad_request(f"Invalid {field}: {error}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parse_number(request: Request, field: str, absent: T) -> int | T:
    text = request.query_params.get(field)
    if text is None:
        return absent
    if not _SHORT_NUMBER.fullmatch(text):
        raise bad_request(f"Invalid {field}: not a number")
    return int(text)


def _parse_level(text: str) -> Level:
    match text:
        case "debug" | "info" | "warn" | "error":
            return text
    raise bad_request(f"Invalid level '{text}', expected 'debug', 'info', 'warn' or 'error'")


def _paginate(
    request: Request, items: Sequence[T], sort_key: Callable[[T], tuple[datetime, str]], *, descending: bool
) -> tuple[Sequence[T], dict[str, str]]:
    """Return one page of sorted items, and the header with the token of the next page.

    The token names the last item of the page before, so that items which are added or removed do not shift pages.
    """
    text = request.query_params.get("limit", str(_MAX_PAGE))
    if not _SHORT_NUMBER.fullmatch(text) or not 1 <= int(text) <= _MAX_PAGE:
        raise bad_request(f"Limit must be between 1 and {_MAX_PAGE}")
    limit = int(text)
    if token := request.query_params.get("nextToken"):
        last = _decode_token(token)
        items = [item for item in items if (sort_key(item) < last if descending else sort_key(item) > last)]
    page = items[:limit]
    return page, {"x-next-token": _encode_token(sort_key(page[-1]))} if len(items) > limit else {}


def _encode_token(sort_key: tuple[datetime, str]) -> str:
    moment, item_id = sort_key
    return base64.urlsafe_b64encode(f"{moment.isoformat()}__{item_id}".encode()).decode()


def _decode_token(token: str) -> tuple[datetime, str]:
    try:
        moment, _, item_id = base64.urlsafe_b64decode(token).decode().partition("__")
        return _parse_moment(moment, "nextToken"), item_id
    except (ApiError, ValueError) as error:
        raise bad_request("Invalid next token") from error
