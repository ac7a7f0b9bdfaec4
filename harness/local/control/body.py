"""Request bodies, checked field by field: what gets past here has the type it claims."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from harness.local.api_errors import ApiError, bad_body

MAX_BODY_BYTES = 4 << 20
"""No request of the control plane comes near this; more is somebody's mistake or malice."""


class Body:
    """A JSON object from a client. Every getter raises `ApiError` 400 for a value of the wrong kind."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def string(self, name: str) -> str | None:
        """A string, or None where the field is absent or null."""
        value: str | None = self._typed(name, str, "a string")
        return value

    def boolean(self, name: str) -> bool | None:
        """A boolean, or None where the field is absent or null."""
        value: bool | None = self._typed(name, bool, "a boolean")
        return value

    def integer(self, name: str, minimum: int | None = None) -> int | None:
        """A whole number of at least `minimum`, or None where the field is absent or null."""
        value: int | None = self._typed(name, int, "an integer")
        if isinstance(value, bool):
            raise bad_body(f"{name} must be an integer")
        if value is not None and minimum is not None and value < minimum:
            raise bad_body(f"{name} must be at least {minimum}")
        return value

    def strings(self, name: str) -> list[str] | None:
        """A list of strings, or None where the field is absent or null."""
        value: list[Any] | None = self._typed(name, list, "a list of strings")
        if value is not None and not all(isinstance(item, str) for item in value):
            raise bad_body(f"{name} must be a list of strings")
        return value

    def string_map(self, name: str) -> dict[str, str]:
        """An object whose values are strings; empty where the field is absent or null."""
        value: dict[str, Any] = self._typed(name, dict, "an object") or {}
        for key, item in value.items():
            if not isinstance(item, str):
                raise bad_body(f"{name}.{key} must be a string")
            if "\0" in key or "\0" in item:
                raise bad_body(f"{name}.{key} must not hold a null character")
        return value

    def object(self, name: str) -> Body | None:
        """A nested object, or None where the field is absent or null."""
        value: dict[str, Any] | None = self._typed(name, dict, "an object")
        return None if value is None else Body(value)

    def raw(self) -> Mapping[str, Any]:
        """The object as it came."""
        return self._fields

    def _typed(self, name: str, kind: type, description: str) -> Any:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, kind):
            raise bad_body(f"{name} must be {description}")
        return value


async def read_body(request: Request) -> Body:
    """The request's JSON object; an absent body counts as an empty one, as E2B's optional bodies do."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise ApiError(413, f"Request body is larger than {MAX_BODY_BYTES} bytes")
    if not data.strip():
        return Body({})
    try:
        fields = json.loads(data, parse_constant=_no_constant)
        json.dumps(
            fields, ensure_ascii=False
        ).encode()  # what cannot be sent back is not taken: half characters
    except (ValueError, RecursionError) as error:
        raise bad_body(f"invalid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise bad_body("the body must be a JSON object")
    return Body(fields)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
