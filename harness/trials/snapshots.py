"""Snapshots of sandboxes after a task's setup, each taken once a run."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from harness.errors import SandboxFault
from harness.sandboxes.sandbox import delete_snapshot
from harness.tasks.single_flight import SingleFlight

PREFIX = "harness-"
"""What the names of these snapshots start with; the run's id follows."""


class Snapshots:
    """The snapshots of a run, by what they are of."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[], Awaitable[str | None]]] = {}
        self._known = SingleFlight[str, str | None](self._make)
        self.ids: list[str] = []

    async def get(self, key: str, make: Callable[[], Awaitable[str | None]]) -> str | None:
        """The snapshot's id, made by the first who asks for it; None where the platform takes none.

        Raises:
            Fault: what `make` raises.
        """
        self._makers.setdefault(key, make)
        return await self._known.get(key)

    async def _make(self, key: str) -> str | None:
        made = await self._makers[key]()
        if made is not None:
            self.ids.append(made)
        return made

    async def delete(self, params: Mapping[str, Any]) -> None:
        """Delete them all. One that the platform still needs, for a sandbox that was kept, stays."""
        while self.ids:
            with contextlib.suppress(SandboxFault):
                await delete_snapshot(self.ids.pop(), params)
