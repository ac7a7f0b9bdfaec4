"""The log of one sandbox, as E2B's `sandbox logs` shows it: the starts and ends of its processes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

_KEPT = 1000
_SHOWN = 4000
"""The most characters of a value, since a command may contain a whole archive."""
_LEVELS = ("debug", "info", "warn", "error")

Level = Literal["debug", "info", "warn", "error"]


@dataclass(frozen=True)
class LogEntry:
    """One event."""

    taken_at: datetime
    level: Level
    message: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def milliseconds(self) -> int:
        """The time of the event in milliseconds since the Unix epoch."""
        return int(self.taken_at.timestamp() * 1000)

    @property
    def line(self) -> str:
        """The event in the form of the protocol's first version."""
        return json.dumps({"level": self.level, "message": self.message, "logger": "process", **self.fields})

    def at_least(self, level: Level) -> bool:
        """True if the event's level is at least this one."""
        return _LEVELS.index(self.level) >= _LEVELS.index(level)


class Journal:
    """The last events of a sandbox."""

    def __init__(self) -> None:
        self._entries: deque[LogEntry] = deque(maxlen=_KEPT)

    def __iter__(self) -> Iterator[LogEntry]:
        return iter(tuple(self._entries))

    def note(self, message: str, level: Level = "info", **fields: str) -> None:
        """Add an event."""
        shown = {name: value[:_SHOWN] for name, value in fields.items()}
        self._entries.append(LogEntry(datetime.now(UTC), level, message, shown))
