"""asyncio with simulated time: whoever sleeps wakes at once, and the loop's clock has moved on by as much."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Where a real selector would wait, time jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nobody will ever wake up"
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def simulate(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in simulated time, from second 0 on."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
