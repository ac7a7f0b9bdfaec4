"""What every agent is given, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from harness.model import Model
from harness.record import Stop, TrialSpec
from harness.sandbox import Sandbox
from harness.stream import Tally, parse_line


@dataclass
class Workplace:
    """Where an agent works: the sandbox with the repo in it, and who wants to know what it does.

    `emit` takes each raw line of the agent's stream, for the transcript.
    """

    sandbox: Sandbox
    model: Model
    emit: Callable[[bytes], None]
    tally: Tally = field(default_factory=Tally)
    _heard: float = field(default_factory=time.monotonic)

    def take(self, line: bytes) -> None:
        """A line of the agent's stream has come."""
        self.heard()
        self.emit(line)
        self.tally.add(parse_line(line))

    def heard(self) -> None:
        """Silence counts from now."""
        self._heard = time.monotonic()

    def silent_for(self) -> float:
        """Seconds since the agent's stream last said anything."""
        return time.monotonic() - self._heard


class Agent(Protocol):
    """Does a task's work in a sandbox."""

    async def run(self, spec: TrialSpec, place: Workplace) -> Stop:
        """Do the task, and say what ended it.

        Raises:
            Fault: when infrastructure kept it from being done.
        """
        ...
