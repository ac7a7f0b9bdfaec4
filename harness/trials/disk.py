"""The disk's part of many trials, off their loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_Outcome: TypeAlias = tuple[Any, BaseException | None]
"""What a work has given, or raised."""


class DiskExecutor:
    """Does what may take a disk's time in a thread, in the order in which it comes; the loop does not wait meanwhile.

    What comes while the thread is busy goes to it together, the next time. A way there for each, and several threads
    that take Python's lock from the loop after every call of the system, took a seventh of the time in which a
    thousand trials end.

    It is for one loop.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._busy = False

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in the thread, and return its result. It is done also when nobody waits for it any more."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if not self._busy:
            self._go()
        return await future

    def _go(self) -> None:
        taken, self._waiting = self._waiting, []
        self._busy = bool(taken)
        if taken:
            futures = [future for _, future in taken]
            doing = asyncio.get_running_loop().run_in_executor(None, _each, [work for work, _ in taken])
            doing.add_done_callback(lambda done: self._come_back(futures, done.result()))

    def _come_back(self, futures: Sequence[asyncio.Future[Any]], outcomes: Sequence[_Outcome]) -> None:
        for future, (value, error) in zip(futures, outcomes, strict=True):
            if future.cancelled():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        self._go()


def _each(works: Sequence[Callable[[], Any]]) -> list[_Outcome]:
    return [_outcome(work) for work in works]


def _outcome(work: Callable[[], Any]) -> _Outcome:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001  (it is raised where the work was asked for)
        return None, error
