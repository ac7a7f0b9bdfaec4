"""envd, the daemon that E2B runs in every sandbox on port 49983: authorization and routing of its requests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
from e2b.envd.process.process_connect import ProcessASGIApplication
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from harness.local.api_errors import ApiError, bad_request
from harness.local.boxes.box import Box
from harness.local.boxes.types import UnknownUser
from harness.local.client_text import parse_count
from harness.local.control.body import read_body
from harness.local.envd import rpc
from harness.local.envd.coalesce import coalesce
from harness.local.envd.compose import compose_files
from harness.local.envd.files import read_file, write_files
from harness.local.envd.filesystem_service import FilesystemService
from harness.local.envd.journal import Journal
from harness.local.envd.process_service import ProcessService
from harness.local.envd.processes import ProcessTable
from harness.local.envd.users import User, UserError, find_user, user_in_header

VERSION = "0.6.13"
"""The version that sandboxes report. The SDK uses the features of an envd of this version."""

PORT = 49983

_MAX_MESSAGE = 64 << 20
"""The largest message. A single input to a command may be large, but it is held in memory."""

_RPC_OPTIONS: Mapping[str, Any] = {
    "interceptors": (rpc.LostSandboxInterceptor(),),
    "codecs": rpc.CODECS,
    "compressions": rpc.COMPRESSIONS,
    "read_max_bytes": _MAX_MESSAGE,
}

_WORDS = {
    404: "404 page not found",
    405: "method not allowed: RPCs are sent by POST",
    415: "unsupported content type: send application/json or application/proto, "
    "and application/connect+json or application/connect+proto where there is a stream",
}
"""What the RPC library answers with a status alone."""

_OPERATIONS = {"GET": "read", "POST": "write"}


class Envd:
    """envd of one sandbox, an ASGI application."""

    def __init__(self, box: Box, token: str | None, journal: Journal) -> None:
        self._box = box
        self._token = token
        self._processes = ProcessTable(box, journal)
        self._filesystem = FilesystemService(box)
        processes = ProcessService(box, self._processes)
        self._process_rpc = ProcessASGIApplication(processes, **_RPC_OPTIONS)
        self._filesystem_rpc = FilesystemASGIApplication(self._filesystem, **_RPC_OPTIONS)

    async def send_waiting(self) -> None:
        """Send what commands have written until now."""
        await self._processes.send_waiting()

    def fail_streams(self) -> None:
        """End the streams of all clients with an error, because the sandbox is being killed or paused."""
        self._processes.fail_streams()
        self._filesystem.fail_streams()

    def has_valid_signature(self, request: Request) -> bool:
        """True if a `/files` request carries a signature made with this sandbox's token."""
        signature = request.query_params.get("signature")
        operation = _OPERATIONS.get(request.method)
        if self._token is None or signature is None or operation is None:
            return False
        query = request.query_params
        parts = [query.get("path", ""), operation, query.get("username", ""), self._token]
        if (expiration := query.get("signature_expiration")) is not None:
            parts.append(expiration)
        digest = hashlib.sha256(":".join(parts).encode("utf-8", "surrogateescape")).digest()
        expected = "v1_" + base64.b64encode(digest).rstrip(b"=").decode()
        return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `ApiError` before anything is sent."""
        request = Request(scope, receive)
        path = scope["path"]
        if path == "/health":
            await Response(status_code=204)(scope, receive, send)
        elif path == "/files":
            response = await self._files(request)
            await response(scope, receive, send)
        else:
            self._authorize(request)
            _check_headers(scope)
            if request.headers.get("content-type", "").lower().startswith("application/grpc"):
                raise ApiError(415, "envd speaks the Connect protocol over HTTP/1.1, not gRPC")
            with suppress(UserError, UnknownUser):  # which the call itself reports
                if name := user_in_header(request.headers.get("authorization")):
                    await self._box.learn_user(name)
            if path.startswith("/process.Process/"):
                async with coalesce(send) as sending:
                    await self._process_rpc(scope, receive, _with_words(sending))
            elif path.startswith("/filesystem.Filesystem/"):
                await self._filesystem_rpc(scope, receive, _with_words(send))
            else:
                response = await self._answer(request)
                await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        """Answer a request that is neither an RPC nor for the content of one file."""
        match request.method, request.scope["path"]:
            case "GET", "/metrics":
                return JSONResponse(await self._measure())
            case "GET", "/envs":
                env = {**self._box.spec.template.env, **self._box.spec.env}
                return JSONResponse(env, headers={"cache-control": "no-store"})
            case "POST", "/files/compose":
                body = await read_body(request)
                return await compose_files(body, self._box, await self._find_user(body.string("username")))
            case _, "/metrics" | "/envs" | "/files/compose":
                raise ApiError(405, "method not allowed")
        raise ApiError(404, "404 page not found")

    async def _measure(self) -> dict[str, object]:
        usage = await self._box.measure_usage()
        return {
            "ts": int(time.time()),
            "cpu_count": usage.cpu_count,
            "cpu_used_pct": round(usage.cpu_percent / usage.cpu_count, 2),
            "mem_total": usage.mem_total,
            "mem_used": usage.mem_used,
            "mem_cache": 0,
            "mem_total_mib": usage.mem_total >> 20,
            "mem_used_mib": usage.mem_used >> 20,
            "disk_used": usage.disk_used,
            "disk_total": usage.disk_total,
        }

    async def _find_user(self, name: str | None) -> User:
        if name:
            with suppress(UnknownUser):  # reported below
                await self._box.learn_user(name)
        try:
            return find_user(self._box, name)
        except UserError as error:
            raise ApiError(401, f"error looking up user '{name}': {error}") from error

    async def _files(self, request: Request) -> Response:
        if request.method not in _OPERATIONS:
            raise ApiError(405, "method not allowed")
        self._authorize_files(request)
        name = request.query_params.get("username")
        user = await self._find_user(name)
        handler = read_file if request.method == "GET" else write_files
        return await handler(request, self._box, user)

    def _authorize(self, request: Request) -> None:
        if self._token is not None and not self._holds_token(request):
            raise ApiError(
                401,
                "unauthorized access, please provide a valid access token or method signing if supported",
            )

    def _authorize_files(self, request: Request) -> None:
        """Accept the token, or for a signed URL a signature in its place. Raises `ApiError` 401."""
        if self._token is None or self._holds_token(request):
            return
        if "x-access-token" in request.headers:
            raise ApiError(401, "access token present in header but does not match")
        if "signature" not in request.query_params:
            raise ApiError(401, "missing signature query parameter")
        if not self.has_valid_signature(request):
            raise ApiError(401, "invalid signature")
        expiration = request.query_params.get("signature_expiration")
        if expiration is not None and not (expiration.isdecimal() and parse_count(expiration) >= time.time()):
            raise ApiError(401, "signature is already expired")

    def _holds_token(self, request: Request) -> bool:
        given = request.headers.get("x-access-token", "").encode("latin-1")
        return self._token is not None and hmac.compare_digest(given, self._token.encode())


def _check_headers(scope: Scope) -> None:
    """Refuse header fields that the RPC library cannot decode. Raises `ApiError` 400."""
    for name, value in scope["headers"]:
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise bad_request(f"the header field {name.decode('latin-1')} is no UTF-8: {error}") from error


def _with_words(send: Send) -> Send:
    """Return a `send` for the RPC library. Raises `ApiError` in place of a reply that would be a status alone."""

    async def sending(message: Message) -> None:
        if (
            message["type"] == "http.response.start"
            and message["status"] in _WORDS
            and not _has_content(message)
        ):
            raise ApiError(message["status"], _WORDS[message["status"]])
        await send(message)

    return sending


def _has_content(message: Message) -> bool:
    return any(name.lower() == b"content-type" for name, _ in message["headers"])
