"""What lies between something that happens in a sandbox and one client that watches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")

_CAPACITY = 16
"""How far a client may fall behind before the producer has to wait."""


class DeadlineError(Exception):
    """The time that the client gave its call has passed."""


class LostError(Exception):
    """The sandbox was killed or paused while a client watched it."""


class Channel(Generic[T]):
    """A bounded queue from one producer to one client, which either of them may end.

    A client that reads slowly slows the producer down; one that has gone never does.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(_CAPACITY)
        self._closed = False
        self._failure: Exception | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def put(self, item: T) -> None:
        """Hand over an item: waits while the client is behind, drops it when there is nobody to take it."""
        if not self._closed:
            await self._queue.put(item)

    def finish(self) -> None:
        """Nothing more will come."""
        self._close()
        if self._queue.empty():
            self._queue.put_nowait(None)

    def fail(self, error: Exception) -> None:
        """End with an error, after what is queued already. The first end counts."""
        if not self._closed:
            self._failure = error
            self.finish()

    def fail_after(self, seconds: float) -> None:
        """End with `DeadlineError` when it has not ended by then."""
        error = DeadlineError("the time given for the call has passed")
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.fail, error)

    def close_reader(self) -> None:
        """The client is gone: release a producer that waits for it."""
        self._close()
        while not self._queue.empty():
            self._queue.get_nowait()

    def _close(self) -> None:
        self._closed = True
        if self._deadline:
            self._deadline.cancel()

    async def items(self, keep_alive: float) -> AsyncGenerator[T | None, None]:
        """The items, until the producer has finished; None after each `keep_alive` seconds of silence.

        Raises what `fail` was given.
        """
        while True:
            if self._queue.empty():
                if self._failure:
                    raise self._failure
                if self._closed:
                    return
                try:
                    async with asyncio.timeout(keep_alive):  # wait_for would make a task for each item
                        item = await self._queue.get()
                except TimeoutError:
                    yield None
                    continue
            else:
                item = self._queue.get_nowait()
            if item is not None:  # None in the queue only wakes the loop
                yield item
