"""Idempotent requests: a client may send one twice under the same key, and it is executed once."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from harness.local.api_errors import ApiError
from harness.local.control.body import Body

T = TypeVar("T")

_MAX_KEYS = 10_000


class IdempotencyCache(Generic[T]):
    """The results of the last requests by their idempotency keys."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, tuple[str, asyncio.Future[T]]] = OrderedDict()

    async def run(self, key: str, body: Body, work: Callable[[], Awaitable[T]]) -> T:
        """Do this work once for the key. A second request with the key gets the first one's result.

        Work that failed may be tried again. Raises `ApiError` 422 if the key was used with another body.
        """
        content = json.dumps(body.raw(), sort_keys=True)
        known = self._results.get(key)
        if known is None:
            known = self._start(key, content, work)
        if known[0] != content:
            raise ApiError(
                422,
                "the idempotency key was used with another request",
                error_code="idempotency_request_mismatch",
            )
        return await asyncio.shield(known[1])

    def _start(
        self, key: str, content: str, work: Callable[[], Awaitable[T]]
    ) -> tuple[str, asyncio.Future[T]]:
        def forget_failure(done: asyncio.Future[T]) -> None:
            if done.cancelled() or done.exception():
                self._results.pop(key, None)

        result = asyncio.ensure_future(work())
        result.add_done_callback(forget_failure)
        self._results[key] = content, result
        if len(self._results) > _MAX_KEYS:
            self._results.popitem(last=False)
        return self._results[key]
