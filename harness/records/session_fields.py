"""The fields that a record takes from a transcript: numbers, notes, and what in it is not Claude Code's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeVar

from harness.records.prices import Price, answer_notes, cost_by_model, is_claudes_price, total_cost
from harness.records.record_parts import (
    McpServerRecord,
    ModelCounts,
    Tampering,
    TokenCounts,
    ToolCounts,
    TurnRecord,
)
from harness.records.session import Session, ToolUse, TurnResult
from harness.records.usage import Tokens

_Number = TypeVar("_Number", int, float)
BUILTIN = "builtin"
"""In the place of the folder of a plugin that Claude Code brings."""


def session_fields(session: Session, prices: Mapping[str, Price] | None = None) -> dict[str, Any]:
    """The fields of a record that come from a transcript, and from prices that were given."""
    known = bool(session.models) or (bool(session.turns) and not session.uncounted)
    costs = cost_by_model(session, prices or {})
    cost = total_cost(session, costs)
    is_priced = is_claudes_price(session, prices or {})
    return {
        "duration_ms": session.duration_ms,
        "duration_api_ms": session.duration_api_ms,
        "start_ms": session.start_ms,
        "retry_wait_ms": _waited(session, session.retry_waits_ms),
        "mcp_wait_ms": _waited(session, session.mcp_waits_ms),
        "num_turns": session.num_turns,
        "steps": session.num_turns,
        "requests": session.requests,
        "answered": dict(session.answered),
        "tokens": TokenCounts.of(session.tokens) if known else TokenCounts(),
        "tokens_partial": session.is_bound,
        "models": {
            name: ModelCounts(
                **TokenCounts.of(usage.tokens).model_dump(),
                cost_usd=costs[name].usd,
                cost_source=costs[name].source,
            )
            for name, usage in session.models.items()
        },
        "cost_usd": cost.usd,
        "cost_source": cost.source,
        "prices": {name: dict(price) for name, price in (prices or {}).items()},
        "turns": tuple(
            _turn_record(turn, before, is_priced=is_priced)
            for before, turn in pairwise((_NO_TURN, *session.turns))
        ),
        "tools": {name: _tool_counts(use) for name, use in session.tools.items()},
        "mcp_servers": dict(session.mcp_servers),
        "mcp": {name: _server_record(name, status, session) for name, status in session.mcp_servers.items()},
        "api_retries": session.api_retries,
        "tools_offered": session.tools_offered if session.session_id else None,
        "permission_mode": session.permission_mode,
        "permission_denials": Counter(tool for turn in session.turns for tool in turn.permission_denials),
        "plugins": tuple(name for name, path in session.plugins.items() if path != BUILTIN),
        "session_id": session.session_id,
        "model": session.model,
        "claude_version": session.claude_version,
    }


def _waited(session: Session, ms: float | None) -> int | None:
    return round(ms) if ms is not None and session.turns and not session.partial else None


def notes_of(session: Session) -> tuple[str, ...]:
    """Notes for a record's reader that a transcript gives rise to."""
    return tuple(answer_notes(session)) + ((_UNCOUNTED,) if session.uncounted else ())


_UNCOUNTED = (
    "a result of Claude Code tells no usage that can be believed, or not whose: tokens are a lower bound, and the cost "
    "is unknown"
)


def forgeries(session: Session, transcript: str) -> tuple[Tampering, ...]:
    """The events of a transcript of that name that are not Claude Code's."""
    return tuple(
        Tampering(path=transcript, change="forged", detail=f"{count} event{'s' * (count > 1)} {why}")
        for why, count in session.forged.items()
    )


def _tool_counts(use: ToolUse) -> ToolCounts:
    return ToolCounts(calls=use.calls, errors=use.errors, in_subagents=use.in_subagents)


def _server_record(server: str, status: str, session: Session) -> McpServerRecord:
    prefix = f"mcp__{server}__"
    return McpServerRecord(
        status=status,
        offered=tuple(tool.removeprefix(prefix) for tool in session.tools_offered if tool.startswith(prefix)),
        tools={
            tool.removeprefix(prefix): _tool_counts(use)
            for tool, use in session.tools.items()
            if tool.startswith(prefix)
        },
    )


_NO_TURN = TurnResult(
    duration_ms=0,
    duration_api_ms=0,
    num_turns=0,
    tokens=Tokens(),
    cost_usd=0.0,
    terminal_reason=None,
    is_error=False,
    api_error_status=None,
    text=None,
)


def _turn_record(turn: TurnResult, before: TurnResult, *, is_priced: bool) -> TurnRecord:
    """One prompt's run by itself: its result tells tokens, cost and API time of the session up to it."""
    now, earlier = (TokenCounts.of(one.tokens) if one.tokens else TokenCounts() for one in (turn, before))
    return TurnRecord(
        duration_ms=turn.duration_ms,
        duration_api_ms=_more(turn.duration_api_ms, before.duration_api_ms),
        num_turns=turn.num_turns,
        steps=turn.num_turns,
        tokens=TokenCounts(
            input=_more(now.input, earlier.input),
            output=_more(now.output, earlier.output),
            cache_read=_more(now.cache_read, earlier.cache_read),
            cache_creation=_more(now.cache_creation, earlier.cache_creation),
        ),
        cost_usd=_more(turn.cost_usd, before.cost_usd) if is_priced else None,
        terminal_reason=turn.terminal_reason,
        result=turn.text,
        structured_output=turn.structured_output,
        asked_model=turn.asked_model,
    )


def _more(now: _Number | None, before: _Number | None) -> _Number | None:
    """The amount that was added; None where that is unknown, as when a count went down."""
    return now - before if now is not None and before is not None and now >= before else None
