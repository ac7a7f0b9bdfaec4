"""The rate at which sandboxes are created. Refusals (429) lower it, and it recovers by itself."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from harness.errors import SandboxFault

T = TypeVar("T")

MAX_WAIT_S = 900.0
"""The seconds for which a trial goes on asking while it is refused. Then that is its fault, `rate_limit`."""
SLOWEST = 0.1
"""Creations a second, however often they are refused."""
_UNBOUNDED_FROM = 32.0
"""The rate from which a first refusal halves, when none was set; recovered beyond it, there is none again."""
_RECOVERY = 1.2
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Pacer:
    """Gives turns to create sandboxes, at most `limit` a second (None: as fast as asked for), first come first served.

    A refusal halves the rate and makes all wait, twice as long each time; each sandbox that comes speeds up again.
    """

    def __init__(self, limit: float | None = None, *, draw: Callable[[], float] = random.random) -> None:
        self._limit = limit or math.inf
        self.rate = self._limit
        self._draw = draw
        self._turn = asyncio.Lock()
        self._next = 0.0
        self._slowed = -math.inf
        self._refused = 0

    async def create(self, make: Callable[[bool], Awaitable[T]]) -> T:
        """Make a sandbox when it is its turn, again and again while the platform refuses it for there being too many.

        `make` is told whether the last one was refused: then it should do as the refusal says (Retry-After).

        Raises:
            SandboxFault: what `make` raises; a refusal only after `MAX_WAIT_S`.
        """
        give_up = _now() + MAX_WAIT_S
        while True:
            asked = await self._take_turn()
            try:
                made = await make(self._refused > 0)
            except SandboxFault as fault:
                if not fault.policy.is_refusal or _now() >= give_up:
                    raise
                self._slow_down(asked)
            else:
                self._speed_up()
                return made

    async def _take_turn(self) -> float:
        async with self._turn:
            while (wait := self._next - _now()) > 0:  # noqa: ASYNC110  # a refusal may put it off again
                await asyncio.sleep(wait)
            self._next = _now() + 1 / self.rate
            return _now()

    def _slow_down(self, asked: float) -> None:
        # Those that were asked for before the last refusal was heard tell nothing new.
        if asked <= self._slowed:
            return
        self._slowed = _now()
        self.rate = max(min(self.rate, _UNBOUNDED_FROM) / 2, SLOWEST)
        pause = min(_PAUSE_S * 2.0**self._refused, _LONGEST_PAUSE_S) * (0.5 + self._draw())
        self._next = max(self._next, self._slowed + pause)
        self._refused += 1

    def _speed_up(self) -> None:
        self._refused = 0
        faster = self.rate * _RECOVERY
        self.rate = self._limit if faster > min(self._limit, _UNBOUNDED_FROM) else faster


def _now() -> float:
    return asyncio.get_running_loop().time()
