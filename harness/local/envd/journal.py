"""The log of one sandbox, as E2B's `sandbox logs` shows it: what was started in it, and how that ended."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

_KEPT = 1000
_SHOWN = 4000
"""Characters of a value: a command may have a whole archive in it."""
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
        """When it was, as a Unix time."""
        return int(self.taken_at.timestamp() * 1000)

    @property
    def line(self) -> str:
        """The form in which the first version of the protocol shows it."""
        return json.dumps({"level": self.level, "message": self.message, "logger": "process", **self.fields})

    def at_least(self, level: Level) -> bool:
        """Whether it is as grave as this level, or graver."""
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
