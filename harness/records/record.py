"""The record: all that is known about one trial, as one JSON line.

Its JSON Schema documents every field. It ships as `harness/records/record.schema.json`, and
`python -m harness.records.record` writes it. The schema is only ever extended: a reader of an older version
reads a newer record, and keeps the fields it does not know.

A number that cannot be known is null, never 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.records.prices import CostSource
from harness.records.record_parts import (
    ApiRecord,
    AttemptRecord,
    CheckResult,
    Count,
    ErrorRecord,
    InstructionsRecord,
    McpServerRecord,
    ModelCounts,
    Ms,
    Name,
    Phases,
    Place,
    RecordPart,
    SandboxRecord,
    StartRecord,
    Tampering,
    TokenCounts,
    ToolCounts,
    TurnRecord,
    Usd,
)

Outcome = Literal["passed", "failed", "error", "invalid"]
ModelSource = Literal["api", "replay", "none"]
KeyPlace = Literal["platform", "sandbox"]
Stop = Literal[
    "completed",
    "max_turns",
    "max_cost",
    "timeout",
    "prompt_too_long",
    "refusal",
    "max_output",
    "api_error",
    "killed",
    "sandbox_lost",
]


class TrialRecord(RecordPart):
    """One trial, whole. Times are ISO 8601 in UTC, durations milliseconds, costs US dollars.

    Tokens and cost are the whole session's, subagents included, as Claude Code's `modelUsage` tells them. They are
    those of the last attempt; what earlier attempts used is in `attempts`.
    """

    schema_version: Literal[1] = Field(1, description="Raised only when a field changes its meaning.")
    run_id: Name = Field(description="The run's name, and its folder's.")
    trial_id: Name = Field(description="`TASK[VARIANT-tN]`, unique within the run.")
    task: Name = Field(description="The task's name.")
    task_hash: str = Field(description="SHA-256 of all in the task's folder that could change a result.")
    variant: Name = Field(description="The variant's name.")
    variant_hash: str = Field(description="SHA-256 of all that the variant sets.")
    variant_place: Count | None = Field(
        None,
        description="The variant's place among the run's, from 0: the first is the baseline. Null: unknown.",
    )
    asked: Mapping[str, Any] = Field(
        {},
        description="What the variant sets: texts and folders by their hashes, secrets by their names.",
    )
    differences: tuple[str, ...] = Field(
        (), description="What was otherwise than asked, in sentences: why the outcome is `invalid`."
    )
    index: Place = Field(description="Which trial of its task and variant it is, from 1.")
    agent: Name = Field(
        description="As `--agent` names it: `claude`; `oracle` applies the reference solution, `nop` does nothing."
    )
    outcome: Outcome = Field(
        description="`error`: infrastructure broke; `invalid`: the variant was not really applied. "
        "Neither counts for anybody."
    )
    score: float | None = Field(
        ge=0, le=1, description="Mean of the checks' scores, by their weights; null without checks run."
    )
    checks: tuple[CheckResult, ...] = Field((), description="In the order in which they ran.")
    stop: Stop | None = Field(None, description="What ended the agent; null when a fault did.")
    duration_ms: Ms | None = Field(
        None,
        description="Claude Code's own, summed over the prompts: from a prompt to its result, with all waiting for the "
        "API, for tools and for MCP servers' answers; without Claude Code's start.",
    )
    duration_api_ms: Ms | None = Field(
        None,
        description="Of that, with the API, over the whole session: its requests, and the waits before new ones. "
        "Subagents that run at the same time each add theirs.",
    )
    start_ms: Ms | None = Field(
        None,
        description="From Claude Code's start to its first word, seen from outside and summed over the prompts; "
        "MCP servers are waited for in it. No part of `duration_ms`.",
    )
    retry_wait_ms: Ms | None = Field(
        None, description="Waited before the API was asked again after an error, as Claude Code announced it."
    )
    mcp_wait_ms: Ms | None = Field(
        None,
        description="Waited for calls of MCP tools, subagents' included; what several cover counts once. Null: this "
        "Claude Code tells no times.",
    )
    phases_ms: Phases = Field(Phases(), description="The harness's own wall times.")
    tokens: TokenCounts = Field(TokenCounts(), description="Over all models.")
    tokens_partial: bool = Field(
        False,
        description="Whether a run ended without its result, or with one that tells no usage that can be, so that "
        "tokens are a lower bound and cost unknown.",
    )
    models: Mapping[str, ModelCounts] = Field({}, description="Tokens and cost by model.")
    cost_usd: Usd | None = Field(
        None, description="US dollars; null where Claude Code does not know a model, and no price was given."
    )
    cost_source: CostSource | None = Field(
        None,
        description="Whose prices: `list`, Anthropic's as Claude Code knows them; `managed`, the organization's, as it "
        "was told; `given`, those of `[prices]`; `mixed`, several of them. Null: the cost is unknown.",
    )
    prices: Mapping[str, Mapping[str, float]] = Field(
        {}, description="Those that were given, by model and kind of token, in US dollars a million."
    )
    answered: Mapping[str, Count] = Field(
        {},
        description="The replies to the main agent, by the model that the API named in them: not the one asked for, "
        "where a fallback or a gateway answered.",
    )
    requests: Count | None = Field(None, description="All replies to the main agent.")
    num_turns: Count | None = Field(None, description="As `steps`, by Claude Code's name for it.")
    steps: Count | None = Field(
        None,
        description="The main agent's tool results, and one more for each prompt; no count of requests, of which one "
        "may ask for several tools at once.",
    )
    turns: tuple[TurnRecord, ...] = Field((), description="One for each prompt that had its result.")
    tools: Mapping[str, ToolCounts] = Field({}, description="By the tool's name.")
    mcp_servers: Mapping[str, str] = Field({}, description="Each MCP server's state at the session's start.")
    mcp: Mapping[str, McpServerRecord] = Field(
        {}, description="What each MCP server offered and was used for."
    )
    instructions: tuple[InstructionsRecord, ...] = Field(
        (),
        description="Each CLAUDE.md that was loaded before the first prompt, as Claude Code's hook told it.",
    )
    starts: tuple[StartRecord, ...] = Field(
        (),
        description="Each start of Claude Code, where the variant sets a system prompt, arguments or variables, and "
        "the hook told of it.",
    )
    tools_offered: tuple[str, ...] | None = Field(
        None, description="The tools that the session's start told, MCP servers' included; null: no session."
    )
    permission_mode: str | None = Field(None, description="As the session's start told it.")
    permission_denials: Mapping[str, Count] = Field(
        {}, description="How many calls of each tool were denied for want of a permission."
    )
    plugins: tuple[str, ...] = Field(
        (), description="The plugins of the session but those built in, by name."
    )
    stderr: str | None = Field(
        None, description="The file with what Claude Code wrote on stderr, relative to the run's folder."
    )
    api_retries: Count = Field(0, description="How often Claude Code said that it asks the API again.")
    session_id: str | None = Field(None, description="Claude Code's session.")
    model: str | None = Field(None, description="The main agent's model.")
    model_source: ModelSource = Field(
        "none",
        description="`replay`: a recorded session was played, and nothing spent; `none`: no model asked.",
    )
    model_key: KeyPlace | None = Field(
        None,
        description="`platform`: the platform put the model's key on requests, outside the sandbox; `sandbox`: it was "
        "in the environment of Claude Code; null: there was none.",
    )
    api: ApiRecord | None = Field(
        None,
        description="What the proxy saw of the model's API. Null: see `api_unseen`.",
    )
    api_unseen: str | None = Field(None, description="Why nobody outside of the sandbox saw the model's API.")
    replay_by_hand: bool | None = Field(
        None, description="Whether the session that was replayed was written by hand; null without replay."
    )
    claude_version: str | None = Field(None, description="Claude Code's version.")
    claude_sha256: str | None = Field(
        None, description="SHA-256 of Claude Code's program, where the variant asks for a version of it."
    )
    repo_commit: str | None = Field(None, description="The commit of a starter repo that was cloned.")
    template: str | None = Field(
        None,
        description="The sandbox's template; of one that was built from a file, the name with its content's hash.",
    )
    sandbox: SandboxRecord = Field(description="The platform that gave the sandbox.")
    sandbox_id: str | None = Field(
        None, description="The agent's sandbox, by its id on its platform; null when none came."
    )
    grading_sandbox_id: str | None = Field(
        None, description="The sandbox in which the work was judged at the end; null when there was none."
    )
    graded_in: Literal["fresh", "agent"] | None = Field(
        None,
        description="Where the checks ran: `fresh`, where no agent had been, or `agent`, its own; null: nowhere.",
    )
    kept: bool = Field(
        False, description="Whether the sandbox was paused and kept, until `harness gc --kept`."
    )
    error: ErrorRecord | None = Field(None, description="The fault behind the outcome `error`.")
    attempts: tuple[AttemptRecord, ...] = Field((), description="The attempts before the last, oldest first.")
    tampering: tuple[Tampering, ...] = Field(
        (), description="Protected files that it changed, and what it forged."
    )
    notes: tuple[str, ...] = Field(
        (), description="What else a reader of this record should know, in sentences."
    )
    ignored: tuple[str, ...] = Field(
        (), description="Paths of the work that an ignore rule keeps out of the diff; at most 200."
    )
    transcript: str | None = Field(None, description="Raw stream-json, relative to the run's folder.")
    judged_by: Literal["checks", "test"] | None = Field(
        None, description="`test`: a Python test's own verdict is the outcome; null: an older record."
    )
    work_hashes: Mapping[str, str] = Field(
        {}, description="SHA-256 of each file of `work`, by its path in it, as it left the agent's sandbox."
    )
    work: str | None = Field(
        None,
        description="The folder with what the agent left, as tars that nobody has opened; null: it was not kept.",
    )
    diff: str | None = Field(None, description="What the agent changed, relative to the run's folder.")
    regraded_from: str | None = Field(
        None, description="The run whose work was judged again by later checks; null: judged at its end."
    )
    started_at: str = Field(description="When the first attempt began.")
    finished_at: str = Field(description="When the last attempt had ended.")
    git_commit: str | None = Field(None, description="Of the checkout that the tasks are in.")
    harness_version: str = Field(description="The harness that wrote this.")
    tags: tuple[str, ...] = Field((), description="The task's tags.")

    @property
    def total_cost_usd(self) -> float | None:
        """The cost of all attempts together, as far as known; None when nothing is known."""
        parts = [self.cost_usd, *(attempt.cost_usd for attempt in self.attempts)]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None

    def line(self) -> dict[str, Any]:
        """The record as JSON values."""
        return self.model_dump(mode="json")


def schema() -> dict[str, Any]:
    """The record's JSON Schema (2020-12)."""
    content = TrialRecord.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **content}


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
