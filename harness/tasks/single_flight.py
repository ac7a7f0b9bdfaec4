"""Work that many ask for and one does."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from harness.errors import Fault

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_LOCK_POLL_S = 0.05


class SingleFlight(Generic[K, V]):
    """Does `work` once for each key, however many wait for it; what a fault that may pass has ended is done again."""

    def __init__(self, work: Callable[[K], Awaitable[V]]) -> None:
        self._work = work
        self._known: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The work's result, or the fault that it ended with."""
        while True:
            task = self._known.get(key)
            if task is None:
                task = self._known[key] = asyncio.ensure_future(self._do(key))
            try:
                return await task
            except Fault as fault:
                if fault.retry:
                    self._forget(key, task)
                raise
            except asyncio.CancelledError:
                self._forget(key, task)
                this = asyncio.current_task()
                if this and this.cancelling():
                    raise
                # Another that waited for the same was cancelled, and took it along.

    async def _do(self, key: K) -> V:
        return await self._work(key)

    def _forget(self, key: K, task: asyncio.Task[V]) -> None:
        if self._known.get(key) is task:
            del self._known[key]


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold a lock file, so that of several processes one works and the others wait. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)
