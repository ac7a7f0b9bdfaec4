"""A queue of events from a sandbox to one client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")

_CAPACITY = 16
"""The number of items that may wait for the client before the producer has to wait."""


class DeadlineError(Exception):
    """The client's timeout for the call has passed."""


class LostError(Exception):
    """The sandbox was killed or paused while a client was reading."""


class Channel(Generic[T]):
    """A bounded queue from one producer to one client. Either of them may end it.

    A client that reads slowly slows the producer down; a client that has disconnected does not.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(_CAPACITY)
        self._closed = False
        self._failure: Exception | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def put(self, item: T) -> None:
        """Add an item. This waits while the queue is full, and drops the item if the channel is closed."""
        if not self._closed:
            await self._queue.put(item)

    def finish(self) -> None:
        """End the channel after the items that are queued."""
        self._close()
        if self._queue.empty():
            self._queue.put_nowait(None)

    def fail(self, error: Exception) -> None:
        """End the channel with an error after the items that are queued. Only the first end counts."""
        if not self._closed:
            self._failure = error
            self.finish()

    def fail_after(self, seconds: float) -> None:
        """End the channel with `DeadlineError` if it has not ended after so many seconds."""
        error = DeadlineError("the time given for the call has passed")
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.fail, error)

    def close_reader(self) -> None:
        """Close the channel after the client has disconnected, and release a producer that waits for space."""
        self._close()
        while not self._queue.empty():
            self._queue.get_nowait()

    def _close(self) -> None:
        self._closed = True
        if self._deadline:
            self._deadline.cancel()

    async def items(self, keep_alive: float) -> AsyncGenerator[T | None, None]:
        """Yield the items until the producer has finished, and None after each `keep_alive` seconds without one.

        Raises the error that `fail` was given.
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
