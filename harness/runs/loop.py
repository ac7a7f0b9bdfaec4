"""An asyncio loop in a thread of its own, so that callers may simply wait for results."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")
_GC_THRESHOLD = 10_000
"""The number of new objects after which Python looks for garbage, while trials run (700 otherwise)."""


def wait_for(future: Future[T], meanwhile: Callable[[], object] | None = None) -> T:
    """Wait for a result in the main thread, and call `meanwhile` each second.

    Python acts on signals in this thread alone, and one that the system gives to another wakes nobody: so it looks up.
    """
    while not wait([future], timeout=1).done:
        if meanwhile:
            meanwhile()
    return future.result()


class LoopThread:
    """An event loop that runs from when this is made until `close`."""

    def __init__(self) -> None:
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._serve, name="harness-loop", daemon=True)
        self._thread.start()

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Have a function called in the loop's thread, and do not wait for it."""
        self._loop.call_soon_threadsafe(function, *args)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have a coroutine run in the loop's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T], meanwhile: Callable[[], object] | None = None) -> T:
        """Run a coroutine in the loop's thread, and wait for its result. Ctrl-C cancels it.

        `meanwhile` is called here each second of the waiting.
        """
        future = self.start(work)
        try:
            return wait_for(future, meanwhile)
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread. Tasks that still run must have been ended before."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        with _garbage_collected_seldom():
            self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@contextlib.contextmanager
def _garbage_collected_seldom() -> Iterator[None]:
    """Raise the threshold of Python's garbage collector.

    Many trials hold many objects for long. To look through those again and again took a seventh of all CPU.
    """
    before = gc.get_threshold()
    if 0 < before[0] < _GC_THRESHOLD:
        gc.set_threshold(_GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make uvloop's loop where it is installed; asyncio's own does the same with more CPU time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
