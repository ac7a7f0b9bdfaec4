"""E2B's REST endpoints for templates: builds, lists, details and tags."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.local import api_errors
from harness.local.api_errors import ApiError, bad_body, bad_request
from harness.local.builds.build_request import HASH, HOSTS_FIELD, parse_build_request
from harness.local.builds.builder import Builder, BuildStatus
from harness.local.builds.store import TemplateRecord, TemplateStore
from harness.local.control import views
from harness.local.control.body import read_body
from harness.local.control.catalog import DEFAULT_TAG, Catalog, parse_reference
from harness.local.control.create_request import CA_FIELD, parse_ca
from harness.local.control.registry import Registry
from harness.local.limits import BoxLimits

_PAGE = 100
"""The most log entries in one reply."""

_TAG = re.compile(r"[a-z0-9._-]+")


class TemplateApi:
    """The endpoints below `/templates`."""

    def __init__(
        self,
        catalog: Catalog,
        store: TemplateStore,
        builder: Builder,
        registry: Registry,
        resources: views.Resources,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._builder = builder
        self._registry = registry
        self._resources = resources
        self._started_at = datetime.now(UTC)
        self._uploads: dict[str, str] = {}
        """Hashes by upload key. Each key allows one upload, since clients send archives without their API key."""

    def routes(self) -> list[Route]:
        """Return the routes for the control plane's router."""
        one = "/templates/{id:path}"
        build = "/templates/{id}/builds/{build}"
        table = [
            ("POST", "/v3/templates", self._request_build),
            ("POST", "/templates", _reject_old_sdk),
            ("POST", "/v2/templates", _reject_old_sdk),
            ("GET", "/templates/{id}/files/{hash}", self._offer_upload),
            ("PUT", "/uploads/{key}", self._upload),
            ("POST", build, _reject_old_sdk),
            ("POST", f"/v2{build}", self._start_build),
            ("GET", f"{build}/status", self._get_status),
            ("GET", f"{build}/logs", self._get_logs),
            ("GET", "/templates", self._list_templates),
            ("GET", "/v2/templates", self._list_templates),
            ("GET", "/templates/aliases/{id:path}", self._resolve_alias),
            ("POST", "/templates/tags", self._assign_tags),
            ("DELETE", "/templates/tags", self._remove_tags),
            ("POST", "/templates/{id}", _reject_old_sdk),
            ("GET", f"{one}/tags", self._list_tags),
            ("GET", f"{one}/tags/count", self._count_tags),
            ("GET", f"{one}/tags/exists", self._find_tag),
            ("GET", f"{one}/tags/groups", _reject_history),
            ("GET", f"{one}/tags/{{tag}}/assignments", _reject_history),
            ("GET", "/default-templates", self._list_builtin),
            ("GET", one, self._get_template),
            ("PATCH", one, self._update_template),
            ("PATCH", f"/v2{one}", self._update_template),
            ("DELETE", one, self._delete_template),
        ]
        return [Route(path, handler, methods=[method]) for method, path, handler in table]

    # --- building

    async def _request_build(self, request: Request) -> Response:
        body = await read_body(request)
        name, tag = parse_reference(body.string("name") or body.string("alias") or "")
        if self._catalog.find_builtin(name):
            raise bad_request(f"'{name}' is a built-in template and cannot be built")
        given = [part for part in (body.string("name") or "").split(":")[1:] if part]
        tags = _normalize_tags([*(body.strings("tags") or ()), *given]) or (tag,)
        limits = BoxLimits(
            memory_mb=body.integer("memoryMB", minimum=16), cpus=body.integer("cpuCount", minimum=1)
        )
        build = self._builder.add_build(name, tags, limits)
        return JSONResponse(
            {
                "templateID": build.record.id,
                "buildID": build.id,
                "public": False,
                "names": [name],
                "aliases": [name],
                "tags": list(tags),
            },
            202,
        )

    async def _offer_upload(self, request: Request) -> Response:
        files_hash = request.path_params["hash"]
        if not HASH.fullmatch(files_hash):
            raise bad_request("the hash of files must have 64 hexadecimal digits")
        template_id = request.path_params["id"]
        if not (self._store.find_record(template_id) or self._builder.has_build_of(template_id)):
            raise api_errors.template_not_found(template_id)
        key = secrets.token_urlsafe(24)
        self._uploads[key] = files_hash
        url = f"http://{request.headers.get('host', '')}/uploads/{key}"
        return JSONResponse({"present": self._store.has_archive(files_hash), "url": url}, 201)

    def is_upload(self, path: str) -> bool:
        """True for the path of an offered upload. It holds a key itself and needs no API key."""
        return path.removeprefix("/uploads/") in self._uploads

    async def _upload(self, request: Request) -> Response:
        files_hash = self._uploads.pop(request.path_params["key"], None)
        if files_hash is None:
            raise ApiError(403, "no such upload, or it has been made")
        with self._store.write_archive(files_hash) as file:
            async for chunk in request.stream():
                file.write(chunk)
        return Response(status_code=200)

    async def _start_build(self, request: Request) -> Response:
        body = await read_body(request)
        build = self._find_build(request)
        if build.state != "waiting":
            raise api_errors.conflict(f"build '{build.id}' has been started already")
        wanted = parse_build_request(body, request.headers.get(HOSTS_FIELD, ""))
        if wanted.template is not None:
            parse_reference(wanted.template)
        self._builder.start(build, replace(wanted, ca=parse_ca(request.headers.get(CA_FIELD))))
        return Response(status_code=202)

    async def _get_status(self, request: Request) -> Response:
        build = self._find_build(request)
        offset = _parse_count(request, "logsOffset", 0)
        entries = build.log[offset : offset + min(_parse_count(request, "limit", _PAGE), _PAGE)]
        reply: dict[str, Any] = {
            "templateID": build.record.id,
            "buildID": build.id,
            "status": build.state,
            "logs": [],
            "logEntries": [views.build_log_entry(entry) for entry in entries],
        }
        if build.failure:
            reply["reason"] = {"message": str(build.failure), "step": build.failure.step}
        return JSONResponse(reply)

    async def _get_logs(self, request: Request) -> Response:
        build = self._find_build(request)
        entries = build.log[: _parse_count(request, "limit", _PAGE)]
        return JSONResponse({"logs": [views.build_log_entry(entry) for entry in entries]})

    def _find_build(self, request: Request) -> BuildStatus:
        build = self._builder.find_build(request.path_params["id"], request.path_params["build"])
        if build is None:
            raise ApiError(404, f"build '{request.path_params['build']}' not found")
        return build

    # --- lists and details

    async def _list_templates(self, request: Request) -> Response:
        own = [views.built_template_summary(record, self._resources) for record in self._store.list_records()]
        return JSONResponse(own + self._summarize_builtin())

    async def _list_builtin(self, request: Request) -> Response:
        return JSONResponse(sorted(self._summarize_builtin(), key=lambda one: str(one["templateID"])))

    def _summarize_builtin(self) -> list[dict[str, Any]]:
        return [
            views.builtin_template_summary(
                one, self._resources, self._started_at, self._registry.count_created(one)
            )
            for one in self._catalog.templates
        ]

    async def _get_template(self, request: Request) -> Response:
        return JSONResponse(
            views.template_details(self._find_record(request.path_params["id"]), self._resources)
        )

    async def _resolve_alias(self, request: Request) -> Response:
        name, _ = parse_reference(request.path_params["id"])
        record = self._store.find_record(name)
        if record is not None:
            return JSONResponse({"templateID": record.id, "public": False})
        source = self._catalog.find_source(request.path_params["id"])
        return JSONResponse({"templateID": source.template.id, "public": True})

    async def _update_template(self, request: Request) -> Response:
        (await read_body(request)).boolean("public")  # templates are never published here
        return JSONResponse({"names": [self._find_record(request.path_params["id"]).name]})

    async def _delete_template(self, request: Request) -> Response:
        name, _ = parse_reference(request.path_params["id"])
        record = self._store.find_record(name)
        if record is None:
            await self._catalog.delete_snapshot(request.path_params["id"])
        else:
            await self._builder.remove(record)
        return Response(status_code=204)

    # --- tags

    async def _assign_tags(self, request: Request) -> Response:
        body = await read_body(request)
        name, tag = parse_reference(body.string("target") or "")
        record = self._find_record(name)
        build_id = record.tags.get(tag)
        if build_id is None:
            raise api_errors.template_not_found(f"{name}:{tag}")
        tags = _normalize_tags(body.strings("tags") or ())
        if not tags:
            raise bad_body("tags must hold at least one tag")
        self._store.save_record(record.with_tags(build_id, tags))
        return JSONResponse({"buildID": build_id, "tags": list(tags)}, 201)

    async def _remove_tags(self, request: Request) -> Response:
        body = await read_body(request)
        record, tags = (
            self._find_record(body.string("name") or ""),
            _normalize_tags(body.strings("tags") or ()),
        )
        if DEFAULT_TAG in tags:
            raise bad_request(f"the tag '{DEFAULT_TAG}' cannot be removed")
        if missing := next((tag for tag in tags if tag not in record.tags), None):
            raise api_errors.template_not_found(f"{record.name}:{missing}")
        self._store.save_record(record.without_tags(tags))
        return Response(status_code=204)

    async def _list_tags(self, request: Request) -> Response:
        record = self._find_record(request.path_params["id"])
        return JSONResponse(
            [
                {"tag": tag, "buildID": build, "createdAt": views.timestamp(record.tagged_at[tag])}
                for tag, build in record.tags.items()
            ]
        )

    async def _count_tags(self, request: Request) -> Response:
        return JSONResponse({"total": len(self._find_record(request.path_params["id"]).tags)})

    async def _find_tag(self, request: Request) -> Response:
        record = self._find_record(request.path_params["id"])
        tags = _normalize_tags([request.query_params.get("tag", "")])
        return JSONResponse({"exists": tags[0] in record.tags, "normalizedTag": tags[0]})

    def _find_record(self, reference: str) -> TemplateRecord:
        name, _ = parse_reference(reference)
        record = self._store.find_record(name)
        if record is None:
            raise api_errors.template_not_found(reference)
        return record


def _normalize_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags in lower case, each once. Raises `ApiError` 400."""
    lowered = tuple(dict.fromkeys(tag.lower() for tag in tags))
    if bad := next((tag for tag in lowered if not _TAG.fullmatch(tag)), None):
        raise bad_request(f"Invalid tag: {bad!r}")
    return lowered


def _parse_count(request: Request, field: str, absent: int) -> int:
    text = request.query_params.get(field, str(absent))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise bad_request(f"Invalid {field}: not a number")
    return int(text)


async def _reject_old_sdk(request: Request) -> Response:
    raise api_errors.not_on_this_server("A build as older SDKs ask for it", "use a current SDK")


async def _reject_history(request: Request) -> Response:
    raise api_errors.not_on_this_server(
        "The history of a template's tags", "GET /templates/{id}/tags tells the build that each tag has now"
    )
