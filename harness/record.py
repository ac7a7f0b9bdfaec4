"""The record: all that is known about one trial, as one JSON line.

Its JSON Schema (`schema()`, shipped as `harness/record.schema.json`) documents every field. The schema is only
ever extended: a reader of an older version reads a newer record, and keeps the fields it does not know.
A number that cannot be known is null, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import Cause, Fault
from harness.stream import Session, Tokens
from harness.task import Task
from harness.variant import Variant

Outcome = Literal["passed", "failed", "error", "invalid"]
AgentName = Literal["claude", "oracle", "nop"]
ModelSource = Literal["api", "replay", "none"]
Stop = Literal["completed", "max_turns", "max_cost", "timeout"]


def trial_name(task: str, variant: str, index: int) -> str:
    """A trial's stable id within a run, and its pytest item's name: `TASK[VARIANT-tN]`."""
    return f"{task}[{variant}-t{index}]"


@dataclass(frozen=True)
class TrialSpec:
    """One task x one variant x one index (from 1), to be run by one agent."""

    task: Task
    variant: Variant
    index: int
    agent: AgentName

    @property
    def id(self) -> str:
        """The trial's id, unique within its run."""
        return trial_name(self.task.name, self.variant.name, self.index)

    @property
    def template(self) -> str:
        """The sandbox template: the variant's, or else the task's."""
        return self.variant.template or self.task.sandbox.template


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


Ms = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class CheckResult(_Part):
    """One check's verdict."""

    name: str
    passed: bool
    score: Annotated[
        float, Field(ge=0, le=1, description="What the check wrote to $HARNESS_SCORE, else 1 or 0.")
    ]
    exit_code: Annotated[int | None, Field(description="Null when the check had to be stopped.")]
    timed_out: bool = False
    duration_ms: Ms | None
    output_tail: Annotated[
        str, Field(description="The end of its stdout and stderr; all of it is in `output`.")
    ]
    output: Annotated[
        str | None, Field(description="The file with its output, relative to the run's folder.")
    ] = None


class TokenCounts(_Part):
    """Tokens as billed; the four do not overlap. Null: unknown."""

    input: Count | None = None
    output: Count | None = None
    cache_read: Count | None = None
    cache_creation: Count | None = None

    @property
    def total(self) -> int | None:
        """All four together, None if one is unknown."""
        parts = (self.input, self.output, self.cache_read, self.cache_creation)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    @classmethod
    def of(cls, tokens: Tokens) -> TokenCounts:
        """The record's form of the stream's counts."""
        return cls(
            input=tokens.input,
            output=tokens.output,
            cache_read=tokens.cache_read,
            cache_creation=tokens.cache_creation,
        )


class ModelCounts(TokenCounts):
    """One model's tokens and what they cost."""

    cost_usd: float | None = None


class ToolCounts(_Part):
    """How often a tool was called, how many calls returned an error, and how many came from subagents."""

    calls: Count
    errors: Count
    in_subagents: Count = 0


class TurnRecord(_Part):
    """One prompt of the session. `tokens` and `cost_usd` are the session's up to here (they are cumulative)."""

    duration_ms: Ms | None
    duration_api_ms: Ms | None
    num_turns: Count | None
    tokens: TokenCounts
    cost_usd: float | None
    terminal_reason: str | None
    result: Annotated[str | None, Field(description="The agent's last message.")]


class Phases(_Part):
    """Wall time of the harness's phases, in milliseconds; null for one that was not reached.

    `agent` is from the agent's start to its end seen from outside; `seed` includes the task's setup commands.
    """

    create: Ms | None = None
    seed: Ms | None = None
    agent: Ms | None = None
    collect: Ms | None = None
    checks: Ms | None = None
    total: Ms | None = None


class ErrorRecord(_Part):
    """Why a trial is an `error`: whose fault, which kind, in words, and what can be done."""

    cause: Cause
    type: str
    message: str
    remedy: str | None = None

    @classmethod
    def of(cls, fault: Fault) -> ErrorRecord:
        """The record's form of a fault."""
        return cls(cause=fault.cause, type=fault.kind, message=fault.message, remedy=fault.remedy)


class AttemptRecord(_Part):
    """An earlier attempt at the same trial, which an infrastructure fault ended. Its spend is real."""

    number: Annotated[int, Field(ge=1)]
    error: ErrorRecord
    sandbox_id: str | None
    started_at: str
    duration_ms: Ms
    tokens: TokenCounts
    tokens_partial: bool
    cost_usd: float | None
    transcript: str | None


class Tampering(_Part):
    """A protected file that the agent changed; it was put back before the checks."""

    path: str
    change: Literal["modified", "deleted", "added"]


class SandboxRecord(_Part):
    """Where the trial ran: the platform, and what kept the sandbox apart."""

    kind: Annotated[
        Literal["e2b", "local"], Field(description="`e2b`: any server that E2B's variables name.")
    ]
    isolation: Annotated[str | None, Field(description="The local server's tier; null elsewhere.")] = None
    enforces: Annotated[tuple[str, ...] | None, Field(description="What that tier really enforces.")] = None


class TrialRecord(_Part):
    """One trial, whole. Times are ISO 8601 in UTC, durations milliseconds, costs US dollars.

    `duration_ms`, `duration_api_ms` and `num_turns` are Claude Code's own, summed over the prompts.
    Tokens and cost are the whole session's, subagents included, by `modelUsage`; with `tokens_partial` they are a
    lower bound. They are those of the last attempt; what earlier attempts used is in `attempts`.
    """

    schema_version: Literal[1] = 1
    run_id: str
    trial_id: Annotated[str, Field(description="`TASK[VARIANT-tN]`, unique within the run.")]
    task: str
    task_hash: str
    variant: str
    variant_hash: str
    index: Annotated[int, Field(ge=1)]
    agent: AgentName
    outcome: Annotated[Outcome, Field(description="`error`: infrastructure, counts for nobody.")]
    score: Annotated[
        float | None, Field(ge=0, le=1, description="Mean of the checks' scores; null without checks run.")
    ]
    checks: tuple[CheckResult, ...] = ()
    stop: Annotated[
        Stop | None, Field(description="What ended the agent; null when it never ended by itself.")
    ] = None
    duration_ms: Ms | None = None
    duration_api_ms: Ms | None = None
    phases_ms: Phases = Phases()
    tokens: TokenCounts = TokenCounts()
    tokens_partial: bool = False
    models: Mapping[str, ModelCounts] = Field(default_factory=dict)
    cost_usd: float | None = None
    num_turns: Count | None = None
    turns: tuple[TurnRecord, ...] = ()
    tools: Mapping[str, ToolCounts] = Field(default_factory=dict)
    mcp_servers: Mapping[str, str] = Field(default_factory=dict)
    api_retries: Count = 0
    session_id: str | None = None
    model: str | None = None
    model_source: ModelSource = "none"
    replay_by_hand: Annotated[
        bool | None, Field(description="Whether the session that was replayed was written by hand.")
    ] = None
    claude_version: str | None = None
    template: str | None = None
    sandbox: SandboxRecord
    sandbox_id: str | None = None
    error: ErrorRecord | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    tampering: tuple[Tampering, ...] = ()
    transcript: Annotated[str | None, Field(description="Raw stream-json, relative to the run's folder.")] = (
        None
    )
    diff: Annotated[
        str | None, Field(description="What the agent changed, relative to the run's folder.")
    ] = None
    started_at: str
    finished_at: str
    git_commit: Annotated[str | None, Field(description="Of the checkout that the tasks are in.")] = None
    harness_version: str
    tags: tuple[str, ...] = ()

    @property
    def total_cost_usd(self) -> float | None:
        """What all attempts cost together, as far as known; None when nothing is known."""
        parts = [self.cost_usd, *(attempt.cost_usd for attempt in self.attempts)]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None

    def line(self) -> dict[str, Any]:
        """The record as JSON values."""
        return self.model_dump(mode="json")


def session_fields(session: Session) -> dict[str, Any]:
    """What a transcript contributes to a record."""
    known = bool(session.models) or bool(session.turns)
    return {
        "duration_ms": session.duration_ms,
        "duration_api_ms": session.duration_api_ms,
        "num_turns": session.num_turns,
        "tokens": TokenCounts.of(session.tokens) if known else TokenCounts(),
        "tokens_partial": session.partial,
        "models": {
            name: ModelCounts(**TokenCounts.of(usage.tokens).model_dump(), cost_usd=usage.cost_usd)
            for name, usage in session.models.items()
        },
        "cost_usd": session.cost_usd,
        "turns": tuple(
            TurnRecord(
                duration_ms=turn.duration_ms,
                duration_api_ms=turn.duration_api_ms,
                num_turns=turn.num_turns,
                tokens=TokenCounts.of(turn.tokens),
                cost_usd=turn.cost_usd,
                terminal_reason=turn.terminal_reason,
                result=turn.text,
            )
            for turn in session.turns
        ),
        "tools": {
            name: ToolCounts(calls=use.calls, errors=use.errors, in_subagents=use.in_subagents)
            for name, use in session.tools.items()
        },
        "mcp_servers": dict(session.mcp_servers),
        "api_retries": session.api_retries,
        "session_id": session.session_id,
        "model": session.model,
        "claude_version": session.claude_version,
    }


def schema() -> dict[str, Any]:
    """The record's JSON Schema (2020-12)."""
    content = TrialRecord.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **content}
