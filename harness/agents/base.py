"""The protocol of agents, and the context that each is given."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from harness.models.model import Model
from harness.models.provider import Provider
from harness.records.record import Stop, TrialSpec
from harness.records.stream import Session, SessionBuilder, parse_line
from harness.sandboxes.sandbox import Sandbox


async def _nothing(turn: int) -> None:
    pass


@dataclass
class AgentContext:
    """The sandbox with the repo in it, and callbacks for what an agent does.

    Args:
        sandbox: where it works.
        model: where the model's replies come from.
        write_transcript: takes each raw line of the agent's stream.
        env: the task's environment, and the variant's over it.
        prove: is called each time that a session starts. It raises NotAppliedError when the session is not what the
            variant asks for, so that no more money is spent on it.
        on_turn_end: is awaited after each prompt (from 1) but the last. Its time is not the agent's.
        provider: asks the model's API itself.
        note: takes a sentence for the record.
        model_idle_timeout_s: how long the stream may be silent while the model owes a reply, in seconds.
        tells_hooks: whether Claude Code can tell what hooks say; older versions cannot.
        answer: the last message of an agent that has no session.
        session_builder: makes the session from the stream's events.
    """

    sandbox: Sandbox
    model: Model
    write_transcript: Callable[[bytes], None]
    env: Mapping[str, str] = field(default_factory=dict)
    prove: Callable[[Session], None] = lambda session: None
    on_turn_end: Callable[[int], Awaitable[None]] = _nothing
    provider: Provider = field(default_factory=Provider)
    note: Callable[[str], None] = lambda sentence: None
    model_idle_timeout_s: float = math.inf
    session_builder: SessionBuilder = field(default_factory=SessionBuilder)
    tells_hooks: bool = True
    answer: str | None = None
    _last_line_at: float = field(default_factory=time.monotonic)

    def on_line(self, line: bytes) -> None:
        """A line of the agent's stream has come."""
        self.reset_idle()
        self.write_transcript(line)
        event = parse_line(line)
        self.session_builder.add(event)
        if (event.kind, event.subtype) == ("system", "init"):
            self.prove(self.session_builder.session())

    def reset_idle(self) -> None:
        """Silence counts from now."""
        self._last_line_at = time.monotonic()

    def idle_s(self) -> float:
        """Seconds since the agent's stream last said anything."""
        return time.monotonic() - self._last_line_at


class Agent(Protocol):
    """Does a task's work in a sandbox. `harness/agents/registry.py` has a line for each.

    `needs_model`: it gets replies from the run's model. `is_proved`: Claude Code's own evidence of what it started with
    is compared with the variant.
    """

    needs_model: ClassVar[bool]
    is_proved: ClassVar[bool]

    async def run(self, spec: TrialSpec, context: AgentContext) -> Stop:
        """Do the task, and say what ended it.

        Raises:
            Fault: when infrastructure kept it from being done.
        """
        ...
