"""Claude Code's stream-json: bytes to typed events, events to what a session used and did. Pure, no I/O.

Facts about the format that this module stands on are each driven through the real CLI in
`tests/test_claude_facts.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

MARKER = "harness"
"""`type` of the lines that harness itself puts into a transcript, between the turns of a session."""

_SUBAGENT_TOOLS = ("Agent", "Task")
_WAKING_TOOLS = frozenset({"CronCreate", "Monitor", "ScheduleWakeup"})
"""Tools after whose call Claude Code may go on by itself when the agent has ended."""
_SYNTHETIC = "<synthetic>"
"""The model of a message that Claude Code itself says in the model's place."""

AFTER_RESULT = "after the session's result"
OTHER_SESSION = "of another session"
OUT_OF_ORDER = "in an order that Claude Code does not produce"
_MAX_SAFE_INT = 2**53


@dataclass(frozen=True)
class Event:
    """One line of the stream. `raw` is all of it, whatever its kind; a line that is no JSON object has kind
    `malformed` and its text under `line`."""

    kind: str
    subtype: str | None
    raw: Mapping[str, Any]

    @property
    def parent(self) -> str | None:
        """Id of the tool call whose subagent this event belongs to; None for the main agent."""
        parent = self.raw.get("parent_tool_use_id")
        return parent if isinstance(parent, str) else None

    @property
    def message(self) -> Mapping[str, Any]:
        """The API message of an `assistant` or `user` event, else an empty mapping."""
        return _mapping(self.raw.get("message"))

    def blocks(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """The content blocks of one kind (`text`, `tool_use`, `tool_result`, ...)."""
        content = self.message.get("content")
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") == kind:
                yield block


class Lines:
    """Cuts a byte stream into whole lines, wherever its chunks end."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines completed by this chunk, without their ends; empty ones left out."""
        start = len(self._rest)
        self._rest += chunk
        if self._rest.find(b"\n", start) < 0:
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return [line for line in lines if line.strip()]

    def finish(self) -> list[bytes]:
        """The bytes after the last line end: a torn line, or nothing."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest.strip() else []


def parse_line(line: bytes) -> Event:
    """One line as an event; never raises. All text in it can be encoded: a lone surrogate becomes `?`."""
    try:
        raw = json.loads(line)
        if b"\\ud" in line or b"\\uD" in line:
            raw = json.loads(json.dumps(raw, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return Event("malformed", None, {"line": line.decode("utf-8", "replace")})
    subtype = raw.get("subtype")
    return Event(raw["type"], subtype if isinstance(subtype, str) else None, raw)


def parse(data: bytes) -> list[Event]:
    """All events of a whole transcript."""
    lines = Lines()
    return [parse_line(line) for line in (*lines.feed(data), *lines.finish())]


@dataclass(frozen=True)
class Tokens:
    """Token counts as the API bills them; they do not overlap."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0

    @property
    def total(self) -> int:
        """All four kinds together."""
        return self.input + self.output + self.cache_read + self.cache_creation

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_creation + other.cache_creation,
        )


@dataclass(frozen=True)
class ModelUsage:
    """The usage that one model was billed for; `cost_usd` is None where the CLI did not say."""

    tokens: Tokens
    cost_usd: float | None


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
    up to here, since the CLI counts them over all runs of a session.
    """

    duration_ms: int | None
    duration_api_ms: int | None
    num_turns: int | None
    tokens: Tokens
    cost_usd: float | None
    terminal_reason: str | None
    is_error: bool
    api_error_status: int | None
    text: str | None
    stop_reason: str | None = None


@dataclass(frozen=True)
class HookTold:
    """What a hook wrote on its stderr, before the agent's first tool call of the turn."""

    event: str
    stderr: str


@dataclass(frozen=True)
class Session:
    """All that a transcript tells. Tokens and cost cover every turn and every subagent.

    `partial` says that a run ended (or still goes on) without its `result`: tokens are then a lower bound, and
    cost and durations are unknown. `forged` counts the events that Claude Code cannot have written where they are,
    by why; nothing else of them counts. `api_error` is Claude Code's word for what it last said in the model's place.
    `hooks` is what hooks told while the agent could not yet have done anything to it.
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
    turns: tuple[TurnResult, ...] = ()
    models: Mapping[str, ModelUsage] = field(default_factory=dict)
    partial: bool = False
    tools: Mapping[str, ToolUse] = field(default_factory=dict)
    api_retries: int = 0
    last_retry_status: int | None = None
    api_error: str | None = None
    hooks: tuple[HookTold, ...] = ()
    malformed: int = 0
    forged: Mapping[str, int] = field(default_factory=dict)
    calls: tuple[ToolCall, ...] = ()

    @property
    def tokens(self) -> Tokens:
        """The sum over all models."""
        return sum((usage.tokens for usage in self.models.values()), Tokens())

    @property
    def cost_usd(self) -> float | None:
        """The session's cost, None when any part of it is unknown."""
        if self.partial or not self.turns:
            return None
        return self.turns[-1].cost_usd

    @property
    def duration_ms(self) -> int | None:
        """The CLI's own durations, summed over the turns."""
        return _total(turn.duration_ms for turn in self.turns) if not self.partial else None

    @property
    def duration_api_ms(self) -> int | None:
        """The time spent waiting for the API, over the whole session."""
        if self.partial or not self.turns:
            return None
        return self.turns[-1].duration_api_ms

    @property
    def num_turns(self) -> int | None:
        """Rounds of the agent's loop, summed over the prompts."""
        return _total(turn.num_turns for turn in self.turns) if not self.partial else None


class SessionBuilder:
    """Folds events into a `Session`. Feed every event in order; ask whenever you like."""

    def __init__(self) -> None:
        self._session = Session()
        self._running = False
        self._result: TurnResult | None = None
        self._billed: dict[str, ModelUsage] = {}
        self._messages: dict[str, tuple[str, Tokens]] = {}
        self._lost: list[tuple[str, Tokens]] = []
        self._calls: dict[str, tuple[str, bool]] = {}
        self._inputs: dict[str, ToolCall] = {}
        self._errors: set[str] = set()
        self._open_calls: set[str] = set()
        self._known_ids: set[str] = set()
        self._forged: Counter[str] = Counter()
        self._turn_id: str | None = None
        self._message: str | None = None
        self._starts, self._results = 0, 0
        self._goes_on = False
        self._is_retrying = False
        self._has_acted = False

    def add(self, event: Event) -> None:
        """Take one event into account; an unknown kind changes nothing.

        One that Claude Code cannot have written where it is, is counted as that, and as nothing else.
        """
        handler = _HANDLERS.get(event.kind)
        if not handler:
            return
        why = self._why_forged(event)
        if why:
            self._forged[why] += 1
        else:
            handler(self, event)

    def _why_forged(self, event: Event) -> str | None:
        if event.kind not in _CLAUDES_OWN:
            return None
        session = event.raw.get("session_id")
        if isinstance(session, str):
            self._turn_id = self._turn_id or session
            if session != self._turn_id:
                return OTHER_SESSION
        is_start = (event.kind, event.subtype) == ("system", "init")
        if event.kind == "system" and not is_start and event.subtype != "api_retry":
            return None
        # A run ends with its result, unless something that it left in the background starts it again.
        if self._results >= max(self._starts, 1) and not (is_start and self._goes_on):
            return AFTER_RESULT
        return OUT_OF_ORDER if self._is_out_of_order(event) else None

    def _is_out_of_order(self, event: Event) -> bool:
        """Whether it tells of a call that nobody made, or lets the model speak while its own command runs."""
        if event.parent is not None and event.parent not in self._known_ids:
            return True
        if event.kind == "user":
            return any(
                str(block.get("tool_use_id")) not in self._known_ids for block in event.blocks("tool_result")
            )
        if event.parent is not None or not self._runs_command:
            return False
        if event.kind == "assistant":
            return event.message.get("model") != _SYNTHETIC and event.message.get("id") != self._message
        return event.kind == "result" and event.raw.get("terminal_reason") == "completed"

    @property
    def _runs_command(self) -> bool:
        return any(self._calls.get(call) == ("Bash", False) for call in self._open_calls)

    def add_all(self, events: Iterable[Event]) -> SessionBuilder:
        """Take events into account, and return the tally itself."""
        for event in events:
            self.add(event)
        return self

    @property
    def ended(self) -> bool:
        """True if the present run has had its last `result`, as far as can be told."""
        return self._result is not None and not self._running

    @property
    def awaits_model(self) -> bool:
        """True if the session waits for a reply of the model, to the agent or to a subagent, and not for a tool."""
        return self._running and not self._open_calls

    @property
    def last_retry_status(self) -> int | None:
        """The API's status for which it was last asked again."""
        return self._session.last_retry_status

    @property
    def is_retrying(self) -> bool:
        """Whether the last that was told is that the API is asked again."""
        return self._running and self._is_retrying

    @property
    def has_called_tool(self) -> bool:
        """Whether the agent has called a tool: from then on its sandbox is what it made of it."""
        return bool(self._calls)

    def begin_turn(self) -> None:
        """The next events are those of another prompt's run."""
        # The CLI counts over all runs of a session, but for those that were killed.
        self._lost += self._messages.values()
        self._messages.clear()
        self._open_calls.clear()
        self._session = replace(self.session(), models={}, tools={})
        self._result, self._running = None, False
        self._turn_id, self._message = None, None
        self._starts, self._results = 0, 0
        self._goes_on = self._is_retrying = self._has_acted = False

    def session(self) -> Session:
        """The session as far as it is known. While a run goes on, `partial` is true."""
        return replace(
            self._session,
            turns=(*self._session.turns, self._result) if self._result else self._session.turns,
            partial=self._session.partial or self._running,
            models=self._models(),
            tools=self._tools(),
            forged=dict(self._forged),
            calls=tuple(self._inputs.values()),
        )

    def _models(self) -> dict[str, ModelUsage]:
        """The last result's cumulative usage, plus the messages that it does not know."""
        models = dict(self._billed)
        for model, tokens in (*self._lost, *self._messages.values()):
            before = models.get(model, ModelUsage(Tokens(), None))
            models[model] = ModelUsage(before.tokens + tokens, None)
        return models

    def _tools(self) -> dict[str, ToolUse]:
        calls = Counter(name for name, _ in self._calls.values())
        apart = Counter(name for name, subagent in self._calls.values() if subagent)
        errors = Counter(self._calls[id_][0] for id_ in self._errors if id_ in self._calls)
        return {name: ToolUse(calls[name], errors[name], apart[name]) for name in sorted(calls)}

    def _on_system(self, event: Event) -> None:
        if event.subtype == "init":
            self._running, self._is_retrying = True, False
            self._starts += 1
            # Claude Code starts again by itself for what ran in the background, with nothing else than before.
            if self._starts == 1:
                self._session = replace(self._session, **_init_fields(event.raw))
        elif event.subtype == "hook_response" and not self._has_acted:
            told = HookTold(str(event.raw.get("hook_event")), _str(event.raw.get("stderr")) or "")
            self._session = replace(self._session, hooks=(*self._session.hooks, told))
        elif event.subtype in ("background_tasks_changed", "task_started"):
            self._goes_on = True
        elif event.subtype == "api_retry":
            self._is_retrying = True
            self._session = replace(
                self._session,
                api_retries=self._session.api_retries + 1,
                last_retry_status=_int(event.raw.get("error_status")),
            )

    def _on_assistant(self, event: Event) -> None:
        self._running, self._is_retrying = True, False
        message = event.message
        identity, model = message.get("id"), message.get("model")
        if model == _SYNTHETIC:
            self._session = replace(self._session, api_error=_str(event.raw.get("error")))
        elif isinstance(identity, str) and isinstance(model, str):
            self._messages[identity] = (model, _api_tokens(_mapping(message.get("usage"))))
        if event.parent is None and isinstance(identity, str):
            self._message = identity
        self._known_ids |= _block_ids(message)
        for block in event.blocks("tool_use"):
            call, name = str(block.get("id")), str(block.get("name"))
            self._calls[call] = (name, event.parent is not None)
            self._inputs[call] = ToolCall(name, _mapping(block.get("input")))
            self._has_acted = True
            self._goes_on |= name in _WAKING_TOOLS
            if name not in _SUBAGENT_TOOLS:
                self._open_calls.add(call)

    def _on_user(self, event: Event) -> None:
        for block in event.blocks("tool_result"):
            call = str(block.get("tool_use_id"))
            self._open_calls.discard(call)
            if block.get("is_error") is True:
                self._errors.add(call)

    def _on_result(self, event: Event) -> None:
        self._running = False
        self._results += 1
        self._billed = {
            name: _billed(_mapping(usage)) for name, usage in _mapping(event.raw.get("modelUsage")).items()
        }
        self._messages.clear()
        self._open_calls.clear()
        tokens = sum((usage.tokens for usage in self._billed.values()), Tokens())
        self._result = _turn_result(event.raw, tokens, before=self._result)

    def _on_marker(self, event: Event) -> None:
        if event.subtype == "turn":
            self.begin_turn()

    def _on_malformed(self, _: Event) -> None:
        self._session = replace(self._session, malformed=self._session.malformed + 1)


_CLAUDES_OWN = ("system", "assistant", "user", "result")
_HANDLERS = {
    "system": SessionBuilder._on_system,
    "assistant": SessionBuilder._on_assistant,
    "user": SessionBuilder._on_user,
    "result": SessionBuilder._on_result,
    MARKER: SessionBuilder._on_marker,
    "malformed": SessionBuilder._on_malformed,
}


def turn_marker(turn: int, prompt: str) -> bytes:
    """The line with which the transcript of a turn (from 1) begins, and what was asked: the CLI does not tell it."""
    return json.dumps({"type": MARKER, "subtype": "turn", "turn": turn, "prompt": prompt}).encode() + b"\n"


def _init_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    servers = raw.get("mcp_servers")
    return {
        "session_id": _str(raw.get("session_id")),
        "model": _str(raw.get("model")),
        "claude_version": _str(raw.get("claude_code_version")),
        "cwd": _str(raw.get("cwd")),
        "tools_offered": _names(raw.get("tools")),
        "agents": _names(raw.get("agents")),
        "commands": _names(raw.get("slash_commands")),
        "output_style": _str(raw.get("output_style")),
        "mcp_servers": {
            str(server.get("name")): str(server.get("status"))
            for server in (servers if isinstance(servers, list) else ())
            if isinstance(server, dict)
        },
    }


def _block_ids(message: Mapping[str, Any]) -> set[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else ()
    return {block["id"] for block in blocks if isinstance(block, dict) and isinstance(block.get("id"), str)}


def _names(value: object) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _turn_result(raw: Mapping[str, Any], tokens: Tokens, *, before: TurnResult | None) -> TurnResult:
    """A run's result; `before` is the one that the same run had before."""
    duration_ms, num_turns = _int(raw.get("duration_ms")), _int(raw.get("num_turns"))
    if before:
        duration_ms = _total((before.duration_ms, duration_ms))
        num_turns = _total((before.num_turns, num_turns))
    return TurnResult(
        duration_ms=duration_ms,
        duration_api_ms=_int(raw.get("duration_api_ms")),
        num_turns=num_turns,
        tokens=tokens,
        cost_usd=_float(raw.get("total_cost_usd")),
        terminal_reason=_str(raw.get("terminal_reason")),
        is_error=raw.get("is_error") is True,
        api_error_status=_int(raw.get("api_error_status")),
        text=_str(raw.get("result")),
        stop_reason=_str(raw.get("stop_reason")),
    )


def _billed(usage: Mapping[str, Any]) -> ModelUsage:
    tokens = Tokens(
        input=_count(usage.get("inputTokens")),
        output=_count(usage.get("outputTokens")),
        cache_read=_count(usage.get("cacheReadInputTokens")),
        cache_creation=_count(usage.get("cacheCreationInputTokens")),
    )
    return ModelUsage(tokens, _float(usage.get("costUSD")))


def _api_tokens(usage: Mapping[str, Any]) -> Tokens:
    return Tokens(
        input=_count(usage.get("input_tokens")),
        output=_count(usage.get("output_tokens")),
        cache_read=_count(usage.get("cache_read_input_tokens")),
        cache_creation=_count(usage.get("cache_creation_input_tokens")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int(value: object) -> int | None:
    """A whole number that can be true; None for anything else, since an agent can write into its own stream."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _MAX_SAFE_INT else None


def _count(value: object) -> int:
    return _int(value) or 0


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MAX_SAFE_INT else None


def _total(values: Iterable[int | None]) -> int | None:
    """The sum, None when there is nothing to sum or a part is unknown."""
    known = list(values)
    return sum(cast(list[int], known)) if known and None not in known else None
