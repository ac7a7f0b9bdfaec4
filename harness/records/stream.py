"""Claude Code's stream-json, event by event, folded into what a session used and did. Pure, no I/O.

Facts about the format that this module stands on are each driven through the real CLI in
`tests/test_claude_facts.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from harness.records.events import MARKER, Event, event_time
from harness.records.json_values import (
    as_bounded,
    as_dicts,
    as_float,
    as_int,
    as_mapping,
    as_names,
    as_str,
    total_of,
)
from harness.records.session import BrokenHook, HookTold, Session, ToolCall, ToolUse, TurnResult
from harness.records.usage import Bill, ModelUsage, Tokens, add_usage, api_tokens, told_models
from harness.text import keep_start

_SUBAGENT_TOOLS = ("Agent", "Task")
_WAKING_TOOLS = frozenset({"CronCreate", "Monitor", "ScheduleWakeup"})
"""Tools after whose call Claude Code may go on by itself when the agent has ended."""
_NO_OUTPUT = re.compile("Hook JSON output validation failed|^Failed to run: ")
"""What Claude Code says of a hook whose output it does not take."""
_NOT_RUN = (126, 127)
"""Exit codes of a shell that could not run a command."""
TELLING = ("SessionStart", "UserPromptSubmit")
"""Events whose hooks the model hears."""
_BLOCKS = ("UserPromptSubmit", 2)
_NO_SCRIPT = re.compile(r"[Cc]an't open (?:file '|perl script )|Cannot find module '|cannot open ")
"""What interpreters say of a script that is not there; Python ends with 2 then, which would deny a tool."""
_SYNTHETIC = "<synthetic>"
"""The model of a message that Claude Code itself says in the model's place."""
AFTER_RESULT = "after the session's result"
OTHER_SESSION = "of another session"
_DOUBT = (1 / 4, 3 / 4)
"""How much of what was counted before is in a count beyond the run's own messages, where that tells nothing."""
OUT_OF_ORDER = "in an order that Claude Code does not produce"
_MAX_TEXT = 256 * 1024
"""A longer answer is cut: no model has one, but a server of the agent's own may, and the record could not be read."""
_MAX_NAME = 200
_MAX_LEVELS = 100
_LAST_OF_A_RUN_ALONE = (2, 1, 273)
"""The last version whose `modelUsage` is known to be the run's own after `--resume`, and not the session's."""


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
        """True if it tells of a call that nobody made, or lets the model speak while its own command runs."""
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
        """True if the last that was told is that the API is asked again."""
        return self._running and self._is_retrying

    @property
    def has_answer(self) -> bool:
        """True if the model has answered in the present run: all that comes before the first request has come."""
        return self._asked_model

    @property
    def has_called_tool(self) -> bool:
        """True if the agent has called a tool: from then on its sandbox is what it made of it."""
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
        """The bill up to the last result, plus the messages that it does not know."""
        lost = ((model, ModelUsage(tokens, None)) for model, tokens in self._lost)
        return add_usage(self._bill.models, (*lost, *self._unbilled()))

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
            waits = (self._session.retry_waits_ms, as_float(event.raw.get("retry_delay_ms")))
            self._session = replace(
                self._session,
                api_retries=self._session.api_retries + 1,
                last_retry_status=as_int(event.raw.get("error_status")),
                retry_waits_ms=total_of(waits),
            )

    def _is_before_agent(self, raw: Mapping[str, Any]) -> bool:
        """True if a hook starts before the agent has done anything. Its first call waits for the hooks before it."""
        is_awaited = raw.get("hook_event") == "PreToolUse" and self._calls.keys() == self._open_calls
        return not self._session.is_late and (not self._has_acted or (is_awaited and len(self._calls) == 1))

    def _on_hook(self, raw: Mapping[str, Any]) -> None:
        event, said = str(raw.get("hook_event")), as_str(raw.get("stderr")) or ""
        session = self._session
        if not self._has_acted:
            session = replace(session, hooks=(*session.hooks, HookTold(event, said, session.is_late)))
        code = raw.get("exit_code")
        is_not_run = code in _NOT_RUN or (code not in (0, None) and _NO_SCRIPT.search(said))
        # The model is told what a start's or a prompt's hook says, unless that fails; one may block a prompt.
        is_lost = code not in (0, None) and (raw.get("stdout") or raw.get("outcome") == "cancelled")
        is_not_told = event in TELLING and (is_lost or _NO_OUTPUT.search(said)) and (event, code) != _BLOCKS
        if is_not_run or is_not_told:
            words = said.strip() or f"{raw.get('outcome')}, exit code {code}"
            # A hook that nothing waits for goes on beside the agent, who can end it, or take away what it runs.
            goes_on = self._has_acted and event != "PreToolUse"
            broken = BrokenHook(event, words, goes_on or str(raw.get("hook_id")) not in self._early_hooks)
            if broken not in session.broken_hooks:
                session = replace(session, broken_hooks=(*session.broken_hooks, broken))
        self._session = session

    def _on_assistant(self, event: Event) -> None:
        self._running, self._is_retrying = True, False
        message = event.message
        identity, model = message.get("id"), message.get("model")
        if model == _SYNTHETIC:
            self._session = replace(self._session, api_error=as_str(event.raw.get("error")))
        elif isinstance(identity, str) and isinstance(model, str):
            tokens = api_tokens(as_mapping(message.get("usage")))
            self._messages[identity], self._run_messages[identity] = (model, tokens), tokens
            self._asked_model = True
            if event.parent is None:
                self._answers[identity] = model
        if event.parent is None and isinstance(identity, str):
            self._message = identity
        self._known_ids |= _block_ids(message)
        for block in event.blocks("tool_use"):
            call, name = str(block.get("id")), keep_start(str(block.get("name")), _MAX_NAME)
            self._calls[call] = (name, event.parent is not None)
            self._inputs[call] = ToolCall(name, as_mapping(block.get("input")))
            self._has_acted = True
            self._goes_on |= name in _WAKING_TOOLS
            if name not in _SUBAGENT_TOOLS:
                self._open_calls.add(call)
            if name.startswith("mcp__"):
                self._called_at[call] = event_time(event)

    def _on_user(self, event: Event) -> None:
        for block in event.blocks("tool_result"):
            call = str(block.get("tool_use_id"))
            self._open_calls.discard(call)
            if call in self._called_at:
                start, end = self._called_at.pop(call), event_time(event)
                self._is_untimed |= start is None or end is None
                self._mcp_waits += [(start, end)] if start and end else []
            if block.get("is_error") is True:
                self._errors.add(call)

    def _on_result(self, event: Event) -> None:
        self._running = False
        self._results += 1
        share = told_models(event.raw.get("model_usage_since_last_result"))
        self._tells_no_share |= share is None
        self._run_share += Bill(share or {}).tokens
        bill = self._bill_after(event.raw)
        self._is_uncounted = bill is None
        # A result that tells nothing, or the impossible, never lowers a count.
        self._bill = bill or Bill(add_usage(self._bill.models, self._unbilled()), None, None)
        self._messages.clear()
        self._open_calls.clear()
        result = _turn_result(event.raw, self._bill, before=self._result, is_counted=bill is not None)
        self._result = replace(result, asked_model=self._asked_model)

    def _bill_after(self, raw: Mapping[str, Any]) -> Bill | None:
        """The session's bill up to a result; None where the result does not tell, or tells what cannot be."""
        models = told_models(raw.get("modelUsage"))
        if models is None:
            return None
        told = Bill(models, as_float(raw.get("total_cost_usd")), as_int(raw.get("duration_api_ms")))
        seen = sum(self._run_messages.values(), Tokens())
        if not told.tokens.total and seen.total:
            return None
        is_of_session = self._is_of_session(told, seen)
        if is_of_session is None:
            return None
        bill = told.after(self._before) if is_of_session else self._before + told
        return None if bill.tokens.is_below(self._bill.tokens) else bill

    def _is_of_session(self, told: Bill, seen: Tokens) -> bool | None:
        """True if what a result tells is the whole session's, and not the run's own; None where nothing shows it."""
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
            waits = (self._session.start_ms or 0, as_int(event.raw.get("ms")))
            self._session = replace(self._session, start_ms=total_of(waits))

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


def _init_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "session_id": as_str(raw.get("session_id")),
        "model": as_str(raw.get("model")),
        "claude_version": as_str(raw.get("claude_code_version")),
        "cwd": as_str(raw.get("cwd")),
        "tools_offered": as_names(raw.get("tools")),
        "agents": as_names(raw.get("agents")),
        "commands": as_names(raw.get("slash_commands")),
        "output_style": as_str(raw.get("output_style")),
        "permission_mode": as_str(raw.get("permissionMode")),
        "plugins": {str(one.get("name")): str(one.get("path")) for one in as_dicts(raw.get("plugins"))},
        "plugin_errors": tuple(
            f"{one.get('plugin')}: {one.get('message') or one.get('type')}"
            for one in as_dicts(raw.get("plugin_errors"))
        ),
        "mcp_servers": {
            str(server.get("name")): str(server.get("status")) for server in as_dicts(raw.get("mcp_servers"))
        },
    }


def _block_ids(message: Mapping[str, Any]) -> set[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else ()
    return {block["id"] for block in blocks if isinstance(block, dict) and isinstance(block.get("id"), str)}


def _turn_result(
    raw: Mapping[str, Any], bill: Bill, *, before: TurnResult | None, is_counted: bool
) -> TurnResult:
    """A run's result; `before` is the one that the same run had before, `bill` the session's up to here."""
    duration_ms, num_turns = as_int(raw.get("duration_ms")), as_int(raw.get("num_turns"))
    if before:
        duration_ms = total_of((before.duration_ms, duration_ms))
        num_turns = total_of((before.num_turns, num_turns))
    return TurnResult(
        duration_ms=duration_ms,
        duration_api_ms=bill.api_ms,
        num_turns=num_turns,
        tokens=bill.tokens if is_counted else None,
        cost_usd=bill.cost_usd,
        terminal_reason=as_str(raw.get("terminal_reason")),
        is_error=raw.get("is_error") is True,
        api_error_status=as_int(raw.get("api_error_status")),
        text=keep_start(text, _MAX_TEXT) if (text := as_str(raw.get("result"))) is not None else None,
        stop_reason=as_str(raw.get("stop_reason")),
        structured_output=as_bounded(
            raw.get("structured_output"), most_chars=_MAX_TEXT, most_levels=_MAX_LEVELS
        ),
        permission_denials=tuple(
            denial["tool_name"]
            for denial in as_dicts(raw.get("permission_denials"))
            if isinstance(denial.get("tool_name"), str)
        ),
    )


def _counts_runs_alone(version: str | None) -> bool:
    """True if a version of Claude Code is known to count each run of a resumed session by itself."""
    parts = (version or "").split(".")
    if not all(part.isdecimal() and len(part) < 9 for part in parts):
        return False
    return tuple(map(int, parts)) <= _LAST_OF_A_RUN_ALONE


def _covered_ms(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """The time that spans cover together; what several cover counts once."""
    covered, end = 0.0, None
    for start, stop in sorted(spans):
        begin = max(start, end) if end else start
        if stop > begin:
            covered += (stop - begin).total_seconds() * 1000
            end = stop
    return covered
