"""JSON request bodies whose fields are checked for their types when they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from harness.local.api_errors import ApiError, bad_body
from harness.local.client_text import MAX_DEPTH, nests_too_deeply

MAX_BODY_BYTES = 4 << 20
"""Far more than any valid request of the control plane needs."""


class Body:
    """A JSON object from a client. Every getter raises `ApiError` 400 for a value of the wrong type."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def string(self, name: str) -> str | None:
        """Return a string, or None if the field is absent or null."""
        value: str | None = self._typed(name, str, "a string")
        _reject_null_character(name, value or "")
        return value

    def boolean(self, name: str) -> bool | None:
        """Return a boolean, or None if the field is absent or null."""
        value: bool | None = self._typed(name, bool, "a boolean")
        return value

    def integer(self, name: str, minimum: int | None = None) -> int | None:
        """Return an integer of at least `minimum`, or None if the field is absent or null."""
        value: int | None = self._typed(name, int, "an integer")
        if isinstance(value, bool):
            raise bad_body(f"{name} must be an integer")
        if value is not None and minimum is not None and value < minimum:
            raise bad_body(f"{name} must be at least {minimum}")
        return value

    def strings(self, name: str) -> list[str] | None:
        """Return a list of strings, or None if the field is absent or null."""
        value: list[Any] | None = self._typed(name, list, "a list of strings")
        if value is not None and not all(isinstance(item, str) for item in value):
            raise bad_body(f"{name} must be a list of strings")
        _reject_null_character(name, *(value or ()))
        return value

    def string_map(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings; an empty one if the field is absent or null."""
        value: dict[str, Any] = self._typed(name, dict, "an object") or {}
        for key, item in value.items():
            if not isinstance(item, str):
                raise bad_body(f"{name}.{key} must be a string")
            _reject_null_character(name, key, item)
        return value

    def object(self, name: str) -> Body | None:
        """Return a nested object, or None if the field is absent or null."""
        value: dict[str, Any] | None = self._typed(name, dict, "an object")
        return None if value is None else Body(value)

    def raw(self) -> Mapping[str, Any]:
        """Return the unchecked object."""
        return self._fields

    def _typed(self, name: str, kind: type, description: str) -> Any:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, kind):
            raise bad_body(f"{name} must be {description}")
        return value


async def read_body(request: Request) -> Body:
    """Return the request's JSON object. An absent body counts as an empty object, as on E2B."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise ApiError(413, f"Request body is larger than {MAX_BODY_BYTES} bytes")
    if not data.strip():
        return Body({})
    if nests_too_deeply(data):
        raise bad_body(f"invalid JSON: nested more than {MAX_DEPTH} deep")
    try:
        fields = json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
        json.dumps(
            fields, ensure_ascii=False
        ).encode()  # fails for lone surrogates, which no reply could hold
    except ValueError as error:
        raise bad_body(f"invalid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise bad_body("the body must be a JSON object")
    return Body(fields)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # no reply could hold it
        raise ValueError(f"{text[:20]} is too large")
    return number


def _reject_null_character(name: str, *texts: str) -> None:
    if any("\0" in text for text in texts):
        raise bad_body(f"{name} must not hold a null character")
