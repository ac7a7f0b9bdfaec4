"""One answer of the Messages API: model, tokens, an error, and whether it is whole."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

MAX_BODY = 32 << 20
"""The most that is kept of a body; the API takes no larger ones."""
_MAX_LINE = 1 << 20
_COUNTS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_creation",
}
_STATUS_BY_ERROR = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class ApiAnswer:
    """One answer, fed as it comes: JSON, or server-sent events.

    `status` is the HTTP status, or that of the error with which a stream ended. `usage` is None until the answer tells
    it, `is_whole` true when it came to its own end; `is_legible` false where it is compressed in a way unknown here.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.model: str | None = None
        self.usage: dict[str, int] | None = None
        self.error = ""
        self.is_whole = False
        self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
        encoding = headers.get("content-encoding", "")
        self._decode = _decoder(encoding)
        self.is_legible = self._decode is not None or encoding in ("", "identity")
        self._buffer = bytearray()
        self._skips = False

    @property
    def is_cut(self) -> bool:
        """True for a stream that is without its last event."""
        return self._is_stream and self.status == 200 and not self.is_whole

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._decode is not None:
            try:
                data = self._decode.decompress(data)
            except zlib.error:
                self._decode, data = None, b""
                self._skips = True
        if not self._is_stream:
            self._buffer += data[: MAX_BODY - len(self._buffer)]
            return
        *lines, rest = (
            (bytes(self._buffer) + data).split(b"\n") if b"\n" in data else (bytes(self._buffer) + data,)
        )
        for line in lines:
            if not self._skips:
                self._on_line(line)
            self._skips = False
        self._skips |= len(rest) > _MAX_LINE
        self._buffer = bytearray(b"" if self._skips else rest)

    def end(self) -> None:
        """The body has ended as HTTP says."""
        if self._is_stream:
            return
        body = _object(bytes(self._buffer))
        self._buffer.clear()
        if self.status >= 400:
            self._take_error(_object_in(body, "error"))
            self.is_whole = True
        elif body.get("type") == "message":
            self._take_message(body)
            self.is_whole = self.usage is not None

    def _on_line(self, line: bytes) -> None:
        # Most lines are a few words of text, and need no parsing.
        if not line.startswith(b"data:") or not (
            b'"usage"' in line or b'"message_stop"' in line or b'"error"' in line
        ):
            return
        event = _object(line[5:])
        match event.get("type"):
            case "message_start":
                self._take_message(_object_in(event, "message"))
            case "message_delta":
                self._take_usage(_object_in(event, "usage"))
            case "message_stop":
                self.is_whole = True
            case "error":
                error = _object_in(event, "error")
                self.status = _STATUS_BY_ERROR.get(str(error.get("type")), 500)
                self._take_error(error)

    def _take_message(self, message: Mapping[str, Any]) -> None:
        model = message.get("model")
        self.model = model[:200] if isinstance(model, str) else None
        self._take_usage(_object_in(message, "usage"))

    def _take_usage(self, usage: Mapping[str, Any]) -> None:
        """Later numbers of the same kind replace earlier ones: a stream's are running totals."""
        told = {kind: usage[name] for name, kind in _COUNTS.items() if _is_count(usage.get(name))}
        if told:
            self.usage = {**dict.fromkeys(_COUNTS.values(), 0), **(self.usage or {}), **told}

    def _take_error(self, error: Mapping[str, Any]) -> None:
        self.error = " ".join(str(error.get("message", "")).split())[:500]


def _decoder(encoding: str) -> Any:
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    return None


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _object_in(outer: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = outer.get(name)
    return value if isinstance(value, dict) else {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
