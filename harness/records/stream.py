"""Claude Code's stream-json: bytes to typed events, events to what a session used and did. Pure, no I/O.

Facts about the format that this module stands on are each driven through the real CLI in
`tests/test_claude_facts.py`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar, cast

MARKER = "harness"
"""`type` of the lines that harness itself puts into a transcript, between the turns of a session."""

_SUBAGENT_TOOLS = ("Agent", "Task")
_WAKING_TOOLS = frozenset({"CronCreate", "Monitor", "ScheduleWakeup"})
"""Tools after whose call Claude Code may go on by itself when the agent has ended."""
_NO_OUTPUT = "Hook JSON output validation failed"
_NOT_RUN = (126, 127)
"""Exit codes of a shell that could not run a command."""
_NO_SCRIPT = re.compile(r"[Cc]an't open (?:file '|perl script )|Cannot find module '|cannot open ")
"""What interpreters say of a script that is not there; Python ends with 2 then, which would deny a tool."""
_SYNTHETIC = "<synthetic>"
"""The model of a message that Claude Code itself says in the model's place."""

AFTER_RESULT = "after the session's result"
OTHER_SESSION = "of another session"
_DOUBT = (1 / 4, 3 / 4)
"""How much of what was counted before is in a count beyond the run's own messages, where that tells nothing."""
OUT_OF_ORDER = "in an order that Claude Code does not produce"
_MAX_SAFE_INT = 2**53
_LAST_OF_A_RUN_ALONE = (2, 1, 273)
"""The last version whose `modelUsage` is known to be the run's own after `--resume`, and not the session's."""


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
        # Of bytes, json would take UTF-16 too, and halves of surrogates as they are.
        raw = json.loads(line.decode())
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

    def is_below(self, other: Tokens) -> bool:
        """Whether any kind is less than the other's."""
        return any(own < others for own, others in zip(self._kinds, other._kinds, strict=True))

    @property
    def _kinds(self) -> tuple[int, ...]:
        return self.input, self.output, self.cache_read, self.cache_creation


@dataclass(frozen=True)
class ModelUsage:
    """The usage that one model was billed for; `cost_usd` is None where the CLI did not say.

    `basis` is Claude Code's word for whose price that is: `list`, `managed`, or `unknown`, a guess. `canonical` is the
    model by whose price it went. Older versions say neither.
    """

    tokens: Tokens
    cost_usd: float | None
    basis: str | None = None
    canonical: str | None = None

    def __add__(self, other: ModelUsage) -> ModelUsage:
        cost = _total((self.cost_usd, other.cost_usd))
        return _told_after(self, replace(other, tokens=self.tokens + other.tokens, cost_usd=cost))


@dataclass(frozen=True)
class Bill:
    """What some runs were billed for, by model, with Claude Code's word on their cost and their time at the API."""

    models: Mapping[str, ModelUsage] = field(default_factory=dict)
    cost_usd: float | None = 0.0
    api_ms: int | None = 0

    @property
    def tokens(self) -> Tokens:
        """The sum over all models."""
        return sum((usage.tokens for usage in self.models.values()), Tokens())

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            _added(self.models, other.models.items()),
            _total((self.cost_usd, other.cost_usd)),
            _total((self.api_ms, other.api_ms)),
        )

    def after(self, before: Bill) -> Bill:
        """It, as the session's up to now: what was told before of a model's price, and is not told again, stands."""
        return replace(
            self, models={name: _told_after(before.models.get(name), u) for name, u in self.models.items()}
        )


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
    """What a hook wrote on its stderr, before the agent's first tool call of the turn.

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
        """Whether its tokens are a lower bound."""
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
        return _total(turn.duration_ms for turn in self.turns) if not self.partial else None

    @property
    def duration_api_ms(self) -> int | None:
        """The time spent waiting for the API, over the whole session."""
        if self.partial or not self.turns:
            return None
        return self.turns[-1].duration_api_ms

    @property
    def num_turns(self) -> int | None:
        """The main agent's tool results, and one more for each prompt: what the CLI calls turns."""
        return _total(turn.num_turns for turn in self.turns) if not self.partial else None

    @property
    def requests(self) -> int | None:
        """The model's replies to the main agent."""
        return sum(self.answered.values()) if self.turns and not self.partial else None


class SessionBuilder:
    """Folds events into a `Session`. Feed every event in order; ask whenever you like."""

    def __init__(self) -> None:
        self._session = Session()
        self._running = False
        self._result: TurnResult | None = None
        self._before, self._bill, self._run_share = Bill(), Bill(), Tokens()
        self._is_uncounted = self._tells_no_share = False
        self._messages: dict[str, tuple[str, Tokens]] = {}
        self._run_messages: dict[str, Tokens] = {}
        self._called_at: dict[str, datetime | None] = {}
        self._mcp_waits: list[tuple[datetime, datetime]] = []
        self._is_untimed = False
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
        self._early_hooks: set[str] = set()
        self._answers: dict[str, str] = {}
        self._asked_model = False

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
    def has_answer(self) -> bool:
        """Whether the model has answered in the present run: all that comes before the first request has come."""
        return self._asked_model

    @property
    def has_called_tool(self) -> bool:
        """Whether the agent has called a tool: from then on its sandbox is what it made of it."""
        return bool(self._calls)

    def begin_turn(self) -> None:
        """The next events are those of another prompt's run."""
        # The CLI counts over all runs of a session, but for those that were killed.
        self._lost += self._messages.values()
        self._messages.clear()
        self._run_messages.clear()
        self._open_calls.clear()
        self._session = replace(self.session(), models={}, tools={}, is_late=self.has_called_tool)
        self._before, self._run_share = self._bill, Tokens()
        self._is_uncounted = self._tells_no_share = False
        self._result, self._running = None, False
        self._turn_id, self._message = None, None
        self._starts, self._results = 0, 0
        self._goes_on = self._is_retrying = self._has_acted = self._asked_model = False

    def session(self) -> Session:
        """The session as far as it is known. While a run goes on, `partial` is true."""
        return replace(
            self._session,
            turns=(*self._session.turns, self._result) if self._result else self._session.turns,
            partial=self._session.partial or self._running,
            uncounted=self._session.uncounted or self._is_uncounted,
            models=self._models(),
            answered=dict(Counter(self._answers.values())),
            mcp_waits_ms=None if self._is_untimed else _covered_ms(self._mcp_waits),
            tools=self._tools(),
            forged=dict(self._forged),
            calls=tuple(self._inputs.values()),
        )

    def _models(self) -> dict[str, ModelUsage]:
        """What was billed up to the last result, plus the messages that it does not know."""
        lost = ((model, ModelUsage(tokens, None)) for model, tokens in self._lost)
        return _added(self._bill.models, (*lost, *self._unbilled()))

    def _unbilled(self) -> Iterator[tuple[str, ModelUsage]]:
        """The messages since the last result."""
        return ((model, ModelUsage(tokens, None)) for model, tokens in self._messages.values())

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
        elif event.subtype == "hook_started":
            if self._is_before_agent(event.raw):
                self._early_hooks.add(str(event.raw.get("hook_id")))
        elif event.subtype == "hook_response":
            self._on_hook(event.raw)
        elif event.subtype in ("background_tasks_changed", "task_started"):
            self._goes_on = True
        elif event.subtype == "api_retry":
            self._is_retrying = True
            waits = (self._session.retry_waits_ms, _float(event.raw.get("retry_delay_ms")))
            self._session = replace(
                self._session,
                api_retries=self._session.api_retries + 1,
                last_retry_status=_int(event.raw.get("error_status")),
                retry_waits_ms=_total(waits),
            )

    def _is_before_agent(self, raw: Mapping[str, Any]) -> bool:
        """Whether a hook starts before the agent has done anything. Its first call waits for the hooks before it."""
        is_awaited = raw.get("hook_event") == "PreToolUse" and self._calls.keys() == self._open_calls
        return not self._session.is_late and (not self._has_acted or (is_awaited and len(self._calls) == 1))

    def _on_hook(self, raw: Mapping[str, Any]) -> None:
        event, said = str(raw.get("hook_event")), _str(raw.get("stderr")) or ""
        session = self._session
        if not self._has_acted:
            session = replace(session, hooks=(*session.hooks, HookTold(event, said, session.is_late)))
        code = raw.get("exit_code")
        is_not_run = code in _NOT_RUN or (code not in (0, None) and _NO_SCRIPT.search(said))
        # The model is told what a start's hook says, unless that fails.
        is_lost = code not in (0, None) and (raw.get("stdout") or raw.get("outcome") == "cancelled")
        is_not_told = event == "SessionStart" and (is_lost or _NO_OUTPUT in said)
        if is_not_run or is_not_told:
            words = said.strip() or f"{raw.get('outcome')}, exit code {code}"
            broken = BrokenHook(event, words, str(raw.get("hook_id")) not in self._early_hooks)
            if broken not in session.broken_hooks:
                session = replace(session, broken_hooks=(*session.broken_hooks, broken))
        self._session = session

    def _on_assistant(self, event: Event) -> None:
        self._running, self._is_retrying = True, False
        message = event.message
        identity, model = message.get("id"), message.get("model")
        if model == _SYNTHETIC:
            self._session = replace(self._session, api_error=_str(event.raw.get("error")))
        elif isinstance(identity, str) and isinstance(model, str):
            tokens = _api_tokens(_mapping(message.get("usage")))
            self._messages[identity], self._run_messages[identity] = (model, tokens), tokens
            self._asked_model = True
            if event.parent is None:
                self._answers[identity] = model
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
            if name.startswith("mcp__"):
                self._called_at[call] = _time(event)

    def _on_user(self, event: Event) -> None:
        for block in event.blocks("tool_result"):
            call = str(block.get("tool_use_id"))
            self._open_calls.discard(call)
            if call in self._called_at:
                start, end = self._called_at.pop(call), _time(event)
                self._is_untimed |= start is None or end is None
                self._mcp_waits += [(start, end)] if start and end else []
            if block.get("is_error") is True:
                self._errors.add(call)

    def _on_result(self, event: Event) -> None:
        self._running = False
        self._results += 1
        share = _told_models(event.raw.get("model_usage_since_last_result"))
        self._tells_no_share |= share is None
        self._run_share += Bill(share or {}).tokens
        bill = self._bill_after(event.raw)
        self._is_uncounted = bill is None
        # What was counted is never lowered by a result that does not tell, or tells what cannot be.
        self._bill = bill or Bill(_added(self._bill.models, self._unbilled()), None, None)
        self._messages.clear()
        self._open_calls.clear()
        result = _turn_result(event.raw, self._bill, before=self._result, is_counted=bill is not None)
        self._result = replace(result, asked_model=self._asked_model)

    def _bill_after(self, raw: Mapping[str, Any]) -> Bill | None:
        """What the session was billed for up to a result; None where it does not tell, or not what can be."""
        models = _told_models(raw.get("modelUsage"))
        if models is None:
            return None
        told = Bill(models, _float(raw.get("total_cost_usd")), _int(raw.get("duration_api_ms")))
        seen = sum(self._run_messages.values(), Tokens())
        if not told.tokens.total and seen.total:
            return None
        is_of_session = self._is_of_session(told, seen)
        if is_of_session is None:
            return None
        bill = told.after(self._before) if is_of_session else self._before + told
        return None if bill.tokens.is_below(self._bill.tokens) else bill

    def _is_of_session(self, told: Bill, seen: Tokens) -> bool | None:
        """Whether what a result tells is the whole session's, and not the run's own; None where nothing shows it."""
        before = self._before.tokens
        if not before.total:
            return True
        if told.tokens.is_below(before) or _counts_runs_alone(self._session.claude_version):
            return False
        own = seen if self._tells_no_share else self._run_share
        # The messages' events tell their input to the digit, and of their output only the start.
        counted = (told.tokens, before, own)
        now, earlier, of_run = (one.total - one.output for one in counted)
        if not earlier:
            now, earlier, of_run = (one.output for one in counted)
        rest = (now - of_run) / earlier
        if self._tells_no_share and seen.total and _DOUBT[0] < rest < _DOUBT[1]:
            return None
        return rest > 1 / 2

    def _on_marker(self, event: Event) -> None:
        if event.subtype == "turn":
            self.begin_turn()
        elif event.subtype == "started":
            waits = (self._session.start_ms or 0, _int(event.raw.get("ms")))
            self._session = replace(self._session, start_ms=_total(waits))

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


def start_marker(ms: int) -> bytes:
    """The line that tells how long Claude Code took to start, after its first word: it does not tell that either."""
    return json.dumps({"type": MARKER, "subtype": "started", "ms": ms}).encode() + b"\n"


def _init_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "session_id": _str(raw.get("session_id")),
        "model": _str(raw.get("model")),
        "claude_version": _str(raw.get("claude_code_version")),
        "cwd": _str(raw.get("cwd")),
        "tools_offered": _names(raw.get("tools")),
        "agents": _names(raw.get("agents")),
        "commands": _names(raw.get("slash_commands")),
        "output_style": _str(raw.get("output_style")),
        "permission_mode": _str(raw.get("permissionMode")),
        "plugins": {str(one.get("name")): str(one.get("path")) for one in _dicts(raw.get("plugins"))},
        "plugin_errors": tuple(
            f"{one.get('plugin')}: {one.get('message') or one.get('type')}"
            for one in _dicts(raw.get("plugin_errors"))
        ),
        "mcp_servers": {
            str(server.get("name")): str(server.get("status")) for server in _dicts(raw.get("mcp_servers"))
        },
    }


def _dicts(value: object) -> tuple[Mapping[str, Any], ...]:
    return tuple(one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _block_ids(message: Mapping[str, Any]) -> set[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else ()
    return {block["id"] for block in blocks if isinstance(block, dict) and isinstance(block.get("id"), str)}


def _names(value: object) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _turn_result(
    raw: Mapping[str, Any], bill: Bill, *, before: TurnResult | None, is_counted: bool
) -> TurnResult:
    """A run's result; `before` is the one that the same run had before, `bill` the session's up to here."""
    duration_ms, num_turns = _int(raw.get("duration_ms")), _int(raw.get("num_turns"))
    if before:
        duration_ms = _total((before.duration_ms, duration_ms))
        num_turns = _total((before.num_turns, num_turns))
    return TurnResult(
        duration_ms=duration_ms,
        duration_api_ms=bill.api_ms,
        num_turns=num_turns,
        tokens=bill.tokens if is_counted else None,
        cost_usd=bill.cost_usd,
        terminal_reason=_str(raw.get("terminal_reason")),
        is_error=raw.get("is_error") is True,
        api_error_status=_int(raw.get("api_error_status")),
        text=_str(raw.get("result")),
        stop_reason=_str(raw.get("stop_reason")),
        structured_output=raw.get("structured_output"),
        permission_denials=tuple(
            denial["tool_name"]
            for denial in _dicts(raw.get("permission_denials"))
            if isinstance(denial.get("tool_name"), str)
        ),
    )


def _counts_runs_alone(version: str | None) -> bool:
    """Whether a version of Claude Code is known to count each run of a resumed session by itself."""
    parts = (version or "").split(".")
    if not all(part.isdecimal() and len(part) < 9 for part in parts):
        return False
    return tuple(map(int, parts)) <= _LAST_OF_A_RUN_ALONE


def _added(models: Mapping[str, ModelUsage], more: Iterable[tuple[str, ModelUsage]]) -> dict[str, ModelUsage]:
    added = dict(models)
    for name, usage in more:
        added[name] = added[name] + usage if name in added else usage
    return added


def _told_after(before: ModelUsage | None, usage: ModelUsage) -> ModelUsage:
    """A model's usage up to now; a price that was a guess in a part of it stays one."""
    if before is None:
        return usage
    basis = "unknown" if "unknown" in (before.basis, usage.basis) else usage.basis or before.basis
    return replace(usage, basis=basis, canonical=usage.canonical or before.canonical)


def _told_models(told: object) -> dict[str, ModelUsage] | None:
    """The usage by model, as a result tells it; None where any of it is no count."""
    if not isinstance(told, dict):
        return None
    models = {name: _told_usage(_mapping(usage)) for name, usage in told.items()}
    return None if None in models.values() else cast(dict[str, ModelUsage], models)


def _told_usage(usage: Mapping[str, Any]) -> ModelUsage | None:
    keys = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    told = {key: _int(usage[key]) for key in keys if key in usage}
    if not told or None in told.values():
        return None
    tokens = Tokens(*(told.get(key) or 0 for key in keys))
    return ModelUsage(
        tokens, _float(usage.get("costUSD")), _str(usage.get("costBasis")), _str(usage.get("canonicalModel"))
    )


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


_Number = TypeVar("_Number", int, float)


def _total(values: Iterable[_Number | None]) -> _Number | None:
    """The sum, None when there is nothing to sum or a part is unknown."""
    known = list(values)
    return sum(cast(list[_Number], known)) if known and None not in known else None


def _time(event: Event) -> datetime | None:
    """When Claude Code wrote an event; older versions do not tell."""
    try:
        told = datetime.fromisoformat(event.raw.get("timestamp") or "")
    except (TypeError, ValueError):
        return None
    return told if told.tzinfo else None


def _covered_ms(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """The time that spans cover together; what several cover counts once."""
    covered, end = 0.0, None
    for start, stop in sorted(spans):
        begin = max(start, end) if end else start
        if stop > begin:
            covered += (stop - begin).total_seconds() * 1000
            end = stop
    return covered
