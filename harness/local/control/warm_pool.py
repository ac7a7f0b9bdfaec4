"""A pool of at most one sandbox that is started in advance, of the same kind as the last two.

Starting a sandbox takes two processes and some tens of milliseconds. A client that creates one sandbox after another of
the same kind, as an evaluation does, gets each but the first two at once. Nothing has run in a pooled sandbox before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from harness.local.boxes.box import Box
from harness.local.boxes.types import BoxError
from harness.local.limits import BoxLimits
from harness.local.network.policy import NetworkPolicy
from harness.local.template import Template

_DELAY_S = 0.3
"""The start of the next sandbox waits so long, so that it does not slow down the one just created."""
_KEEP_S = 60.0


@dataclass(frozen=True)
class PoolKey:
    """The properties of a sandbox that must be known when it starts."""

    template: Template
    policy: NetworkPolicy
    limits: BoxLimits = field(default_factory=BoxLimits)


class WarmPool:
    """At most one box that no client has requested yet. `start` starts it."""

    def __init__(self, start: Callable[[PoolKey], Coroutine[Any, Any, Box]]) -> None:
        self._start = start
        self._last: PoolKey | None = None
        self._ready: tuple[PoolKey, Box] | None = None
        self._starting: tuple[PoolKey, asyncio.Task[Box]] | None = None
        self._keeping: tuple[PoolKey, asyncio.Task[None]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, key: PoolKey) -> Box | None:
        """Take the pooled box if it has this key, also if it is still starting. The caller owns it from now on."""
        if self._starting and self._starting[0] == key:
            await asyncio.wait([self._starting[1]])
        if self._ready is None or self._ready[0] != key or not self._ready[1].is_alive:
            return None
        _, box = self._ready
        self._ready = None
        self._stop_keeping()
        return box

    def note_created(self, key: PoolKey) -> None:
        """Note that a sandbox was created. After two of the same key in a row another one is started."""
        is_repeated, self._last = key == self._last, key
        if self._keeping and self._keeping[0] != key:
            self._stop_keeping()
        if is_repeated and not self._keeping:
            task = asyncio.create_task(self._keep(key))
            self._tasks.add(task)
            task.add_done_callback(self._on_keep_done)
            self._keeping = key, task

    async def close(self) -> None:
        """Destroy the pooled box."""
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
        # The next request for a sandbox reports the error.
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
        """Start a box. If this is cancelled meanwhile, the box is destroyed as soon as it has started."""
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
        """Destroy the box unless it has been taken."""
        if self._ready and self._ready[1] is box:
            self._ready = None
            await box.destroy()
