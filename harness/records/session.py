"""The acts and the usage of a session, as its transcript tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.records.json_values import total_of
from harness.records.usage import ModelUsage, Tokens


@dataclass(frozen=True)
class ToolUse:
    """Calls of one tool, those that returned an error, and those (of `calls`) made by subagents."""

    calls: int = 0
    errors: int = 0
    in_subagents: int = 0


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool, as the model wrote it."""

    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class TurnResult:
    """One prompt's run, as its `result` tells it; None where it does not.

    A run has several `result` events where subagents in the background go on after the agent's answer:
    `duration_ms` and `num_turns` are their sums. `tokens`, `cost_usd` and `duration_api_ms` are the session's
    up to here, also where the CLI counts them run by run. `permission_denials` has the name of a tool for each call
    that was denied. Without `asked_model` Claude Code answered by itself, as it does a command of its own.
    """

    duration_ms: int | None
    duration_api_ms: int | None
    num_turns: int | None
    tokens: Tokens | None
    cost_usd: float | None
    terminal_reason: str | None
    is_error: bool
    api_error_status: int | None
    text: str | None
    stop_reason: str | None = None
    structured_output: Any = None
    permission_denials: tuple[str, ...] = ()
    asked_model: bool = True


@dataclass(frozen=True)
class HookTold:
    """The words of a hook on its stderr, before the agent's first tool call of the turn.

    `is_late`: an earlier turn had one, and the agent may have changed what was told.
    """

    event: str
    stderr: str
    is_late: bool = False


@dataclass(frozen=True)
class BrokenHook:
    """A hook whose command, or its script, could not be run, or one of the start that failed; and what it said.

    `is_late`: it was started when the agent may have removed it.
    """

    event: str
    words: str
    is_late: bool


@dataclass(frozen=True)
class Session:
    """All that a transcript tells. Tokens and cost cover every turn and every subagent.

    `partial` says that a run ended (or still goes on) without its `result`: tokens are then a lower bound, and cost
    and durations are unknown. `uncounted` says that a result told no usage that can be believed: tokens are then a
    lower bound too, and the cost is unknown. `answered` counts the replies to the main agent by the model that the
    API named in them. `start_ms` sums what Claude Code took to start, `retry_waits_ms` the announced waits before
    the API was asked again, `mcp_waits_ms` is the time in which a call of an MCP tool was waited for; None: not
    told. `forged` counts the events that Claude Code cannot have written where they are, by why; nothing else of
    them counts. `api_error` is Claude Code's word for what it last said in the model's place. `hooks` is what hooks
    told before the agent's first tool call of a turn, `broken_hooks` those that could not be run. `plugins` has each
    one's folder by its name. `is_late` says that the present run started after the agent's first tool call: what it
    starts with may be the agent's own doing.
    """

    session_id: str | None = None
    model: str | None = None
    claude_version: str | None = None
    cwd: str | None = None
    tools_offered: tuple[str, ...] = ()
    mcp_servers: Mapping[str, str] = field(default_factory=dict)
    agents: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    output_style: str | None = None
    permission_mode: str | None = None
    plugins: Mapping[str, str] = field(default_factory=dict)
    plugin_errors: tuple[str, ...] = ()
    turns: tuple[TurnResult, ...] = ()
    models: Mapping[str, ModelUsage] = field(default_factory=dict)
    partial: bool = False
    uncounted: bool = False
    start_ms: int | None = None
    answered: Mapping[str, int] = field(default_factory=dict)
    retry_waits_ms: float | None = 0.0
    mcp_waits_ms: float | None = 0.0
    tools: Mapping[str, ToolUse] = field(default_factory=dict)
    api_retries: int = 0
    last_retry_status: int | None = None
    api_error: str | None = None
    hooks: tuple[HookTold, ...] = ()
    broken_hooks: tuple[BrokenHook, ...] = ()
    is_late: bool = False
    malformed: int = 0
    forged: Mapping[str, int] = field(default_factory=dict)
    calls: tuple[ToolCall, ...] = ()

    @property
    def tokens(self) -> Tokens:
        """The sum over all models."""
        return sum((usage.tokens for usage in self.models.values()), Tokens())

    @property
    def is_bound(self) -> bool:
        """True if its tokens are a lower bound."""
        return self.partial or self.uncounted

    @property
    def cost_usd(self) -> float | None:
        """The session's cost as Claude Code tells it, also by a guessed price; None when any part of it is unknown."""
        if self.is_bound or not self.turns:
            return None
        return self.turns[-1].cost_usd

    @property
    def duration_ms(self) -> int | None:
        """The CLI's own durations, summed over the turns."""
        return total_of(turn.duration_ms for turn in self.turns) if not self.partial else None

    @property
    def duration_api_ms(self) -> int | None:
        """The time spent waiting for the API, over the whole session."""
        if self.partial or not self.turns:
            return None
        return self.turns[-1].duration_api_ms

    @property
    def num_turns(self) -> int | None:
        """The main agent's tool results, and one more for each prompt: what the CLI calls turns."""
        return total_of(turn.num_turns for turn in self.turns) if not self.partial else None

    @property
    def requests(self) -> int | None:
        """The model's replies to the main agent."""
        return sum(self.answered.values()) if self.turns and not self.partial else None
