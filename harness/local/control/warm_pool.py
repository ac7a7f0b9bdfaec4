"""A sandbox that is started before it is asked for: another one like the last two.

To start a sandbox takes two processes and some tens of milliseconds. Who asks for one after another of a key, as an
evaluation does, gets each but the first two at once; it is as new as any, since nothing has run in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from harness.local.boxes.box import Box
from harness.local.boxes.types import BoxError
from harness.local.network.policy import NetworkPolicy
from harness.local.template import Template

_DELAY_S = 0.3
"""Who has just got a sandbox does not have to share the machine with the start of the next."""
_KEEP_S = 60.0


@dataclass(frozen=True)
class PoolKey:
    """What a sandbox is started with, and cannot be given later."""

    template: Template
    policy: NetworkPolicy


class WarmPool:
    """At most one box that nobody has asked for yet, started by `start`."""

    def __init__(self, start: Callable[[PoolKey], Coroutine[Any, Any, Box]]) -> None:
        self._start = start
        self._last: PoolKey | None = None
        self._ready: tuple[PoolKey, Box] | None = None
        self._starting: tuple[PoolKey, asyncio.Task[Box]] | None = None
        self._keeping: tuple[PoolKey, asyncio.Task[None]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, key: PoolKey) -> Box | None:
        """The spare box, if there is one of this key, or will be in a moment. It is the taker's from now on."""
        if self._starting and self._starting[0] == key:
            await asyncio.wait([self._starting[1]])
        if self._ready is None or self._ready[0] != key or not self._ready[1].is_alive:
            return None
        _, box = self._ready
        self._ready = None
        self._stop_keeping()
        return box

    def note_created(self, key: PoolKey) -> None:
        """Take note of a sandbox that was made; the second of a key in a row has another one prepared."""
        again, self._last = key == self._last, key
        if self._keeping and self._keeping[0] != key:
            self._stop_keeping()
        if again and not self._keeping:
            task = asyncio.create_task(self._keep(key))
            self._tasks.add(task)
            task.add_done_callback(self._on_keep_done)
            self._keeping = key, task

    async def close(self) -> None:
        """End what nobody has asked for."""
        self._stop_keeping()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop_keeping(self) -> None:
        if self._keeping:
            self._keeping[1].cancel()
        self._keeping = None

    def _on_keep_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._keeping and self._keeping[1] is task:
            self._keeping = None
        if not task.cancelled() and (error := task.exception()):
            context = {"message": "a spare sandbox could not be kept", "exception": error, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _keep(self, key: PoolKey) -> None:
        await asyncio.sleep(_DELAY_S)
        # What stands in its way is told to whoever asks for a sandbox next.
        with contextlib.suppress(BoxError):
            box = await self._start_shielded(key)
            try:
                async with asyncio.timeout(_KEEP_S):
                    await box.wait()
            except TimeoutError:
                return
            finally:
                await self._destroy_unless_taken(box)

    async def _start_shielded(self, key: PoolKey) -> Box:
        """The box, ready; one that comes when it is given up goes at once."""
        starting = asyncio.create_task(self._start_and_offer(key))
        self._starting = mine = key, starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(BoxError):
                await self._destroy_unless_taken(await starting)
            raise
        finally:
            if self._starting is mine:
                self._starting = None

    async def _start_and_offer(self, key: PoolKey) -> Box:
        box = await self._start(key)
        self._ready = key, box
        return box

    async def _destroy_unless_taken(self, box: Box) -> None:
        """End it, unless somebody has taken it."""
        if self._ready and self._ready[1] is box:
            self._ready = None
            await box.destroy()
