"""The protocol of agents, and the context that each is given."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from harness.models.model import Model
from harness.models.provider import Provider
from harness.records.events import MARKER, parse_line, start_marker, without_piece
from harness.records.record import Stop
from harness.records.session import Session
from harness.records.stream import SessionBuilder
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.sandbox import Sandbox


async def _go_on(turn: int) -> bool:
    return True


@dataclass
class AgentContext:
    """The sandbox with the repo in it, and callbacks for what an agent does.

    Args:
        sandbox: where it works.
        model: where the model's replies come from.
        write_transcript: takes each raw line of the agent's stream.
        env: the task's environment, and the variant's over it.
        prove: is called each time that a session starts, and again (with True) when the model has answered first. It
            raises NotAppliedError when the session is not what the variant asks for, so that no more money is spent.
        on_turn_end: is awaited after each prompt (from 1) but the last, and says whether the session goes on. Its time
            is not the agent's.
        provider: asks the model's API itself.
        take_stderr: takes what Claude Code wrote on stderr for a prompt.
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
    prove: Callable[[Session, bool], None] = lambda session, has_answer: None
    on_turn_end: Callable[[int], Awaitable[bool]] = _go_on
    provider: Provider = field(default_factory=Provider)
    note: Callable[[str], None] = lambda sentence: None
    take_stderr: Callable[[str], None] = lambda text: None
    model_idle_timeout_s: float = math.inf
    session_builder: SessionBuilder = field(default_factory=SessionBuilder)
    tells_hooks: bool = True
    answer: str | None = None
    _last_line_at: float = field(default_factory=time.monotonic)
    _starts_since: float | None = None

    def on_line(self, line: bytes) -> None:
        """A line of the agent's stream has come."""
        self.reset_idle()
        event, builder = parse_line(line), self.session_builder
        if event.kind == MARKER:
            # Only the harness writes such lines, and an agent that does gets no credit for it.
            line = b"# " + line
            event = parse_line(line)
        self.write_transcript(without_piece(event, line))
        had_answer = builder.has_answer
        builder.add(event)
        is_start = (event.kind, event.subtype) == ("system", "init")
        if is_start:
            self._told_start()
        is_first_answer = builder.has_answer and not had_answer
        if is_first_answer or is_start:
            self.prove(builder.session(), is_first_answer)

    def mark(self, line: bytes) -> None:
        """Put a line of the harness's own into the transcript."""
        self.write_transcript(line)
        self.session_builder.add(parse_line(line))

    def starts_now(self) -> None:
        """Claude Code is started now for a prompt."""
        self.reset_idle()
        self._starts_since = time.monotonic()

    def _told_start(self) -> None:
        if self._starts_since is not None:
            self.mark(start_marker(round((time.monotonic() - self._starts_since) * 1000)))
            self._starts_since = None

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
