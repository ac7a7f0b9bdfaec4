"""Snapshots of sandboxes after a task's setup, each taken once a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from harness.tasks.single_flight import SingleFlight


class Snapshots:
    """The snapshots of a run, by what they are of. Their names have the run's id, by which they are deleted."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[], Awaitable[str | None]]] = {}
        self._known = SingleFlight[str, str | None](self._make)
        self.is_used = False

    async def get(self, key: str, make: Callable[[], Awaitable[str | None]]) -> str | None:
        """The snapshot's id, made by the first who asks for it; None where the platform takes none.

        Raises:
            Fault: what `make` raises.
        """
        self.is_used = True
        self._makers.setdefault(key, make)
        return await self._known.get(key)

    async def _make(self, key: str) -> str | None:
        return await self._makers[key]()
