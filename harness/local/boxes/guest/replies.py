"""The errors of requests, and replies in JSON, written without the json package."""

from __future__ import annotations

import errno
import os
from _json import encode_basestring_ascii as quote  # the json package would cost 4 ms of re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RequestError(Exception):
    """A request cannot be executed. The server maps `kind` to an error for its client."""

    def __init__(self, kind: str, number: int, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.number = number


def encode(value: Any) -> str:
    """Encode a value as JSON, without the json package."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ",".join(quote(key) + ":" + encode(item) for key, item in value.items()) + "}"
    return "[" + ",".join(encode(item) for item in value) + "]"


def encode_error(error: Exception) -> dict[str, Any]:
    """Return an error as a reply tells it."""
    if isinstance(error, RequestError):
        return {"kind": error.kind, "errno": error.number, "message": str(error)}
    if isinstance(error, OSError):
        return {"kind": "os", "errno": error.errno or errno.EIO, "message": error.strerror or str(error)}
    return {"kind": "guest", "errno": errno.EIO, "message": f"{type(error).__name__}: {error}"}


def report(out: int, message: dict[str, Any]) -> None:
    """Write a helper's message to its pipe, as a line of JSON."""
    data = memoryview(encode(message).encode() + b"\n")
    while data:
        data = data[os.write(out, data) :]
