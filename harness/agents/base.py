"""What every agent is given, and what it gives back."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from harness.models.model import Model
from harness.records.record import Stop, TrialSpec
from harness.records.stream import Session, Tally, parse_line
from harness.sandboxes.sandbox import Sandbox


async def _nothing(turn: int) -> None:
    pass


@dataclass
class Workplace:
    """Where an agent works: the sandbox with the repo in it, and who wants to know what it does.

    `emit` takes each raw line of the agent's stream, for the transcript; `env` is the task's environment and the
    variant's; `prove` is asked each time that a session starts, and raises NotAppliedError when what it shows is not
    what the variant asks for, so that no more money is spent on it. `after_turn` is to be awaited
    when a prompt (from 1), but for the last, was done; its time is not the agent's. `silence_s` is how long the stream
    may say nothing while the model owes a reply.
    """

    sandbox: Sandbox
    model: Model
    emit: Callable[[bytes], None]
    env: Mapping[str, str] = field(default_factory=dict)
    prove: Callable[[Session], None] = lambda session: None
    after_turn: Callable[[int], Awaitable[None]] = _nothing
    silence_s: float = math.inf
    tally: Tally = field(default_factory=Tally)
    _heard: float = field(default_factory=time.monotonic)

    def take(self, line: bytes) -> None:
        """A line of the agent's stream has come."""
        self.heard()
        self.emit(line)
        event = parse_line(line)
        self.tally.add(event)
        if (event.kind, event.subtype) == ("system", "init"):
            self.prove(self.tally.session())

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
