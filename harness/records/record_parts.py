"""The parts of a record: tables and lists in its JSON, and the forms of its values.

A number that cannot be known is null, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import FAULT_BY_CAUSE, GIVE_UP, Cause, Fault
from harness.records.prices import CostSource
from harness.records.usage import Tokens


class RecordPart(BaseModel):
    """A part that keeps the fields which a newer harness wrote into it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


Ms = Annotated[int, Field(ge=0, le=2**53)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Name = Annotated[str, Field(max_length=10_000)]
Place = Annotated[int, Field(ge=1, le=2**53)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Usd = Annotated[float, Field(ge=0, le=1e12)]
"""More than that nobody has paid: sums of such numbers stay finite."""


TestOutcome = Literal["passed", "failed", "error", "skipped", "missing"]


class TestVerdict(RecordPart):
    """The verdict of one test of `[checks.tests]`."""

    __test__: ClassVar[bool] = False  # It is no test of pytest's.

    name: str = Field(description="As its runner writes it.")
    outcome: TestOutcome = Field(
        description="`missing`: demanded or found, and nothing was reported of it. An expected failure is `skipped`."
    )


class CheckResult(RecordPart):
    """One check's verdict."""

    name: str = Field(
        description="Its file's name without the ending, or its key in `[checks] run` or `[checks.tests]`."
    )
    passed: bool = Field(
        description="Whether it ended with 0 within its time, and wrote no unusable score; of tests: whether all that "
        "was demanded of them came."
    )
    score: float = Field(
        ge=0,
        le=1,
        description="What it wrote to $HARNESS_SCORE, else 1 or 0; of tests: the share of the demanded that passed.",
    )
    exit_code: Whole | None = Field(description="Null when it had to be stopped.")
    timed_out: bool = Field(False, description="Whether it was stopped since it took too long.")
    duration_ms: Ms | None = Field(description="Its wall time in milliseconds; null when it was never told.")
    output_tail: str = Field(description="The end of its stdout and stderr; `output` has more of it.")
    output: str | None = Field(None, description="The file with its output, relative to the run's folder.")
    turn: Place | None = Field(
        None, description="The prompt (from 1) after which it ran; null: when the agent had ended."
    )
    scores: Mapping[str, float] = Field(
        {}, description="Scores that it wrote by name; `score` is their mean unless it wrote that, too."
    )
    weight: float = Field(1.0, ge=0, description="Its weight in the trial's score.")
    tests: tuple[TestVerdict, ...] | None = Field(
        None,
        description="Each test's verdict, the demanded ones first, up to 2,000; null: no check of `[checks.tests]`.",
    )

    @property
    def tests_passed(self) -> str | None:
        """The number of its tests that passed, in words; None for a check without tests, which has an exit code."""
        if self.tests is None:
            return None
        return f"{sum(test.outcome == 'passed' for test in self.tests)} of {len(self.tests)} tests passed"


def score_of(checks: Sequence[CheckResult]) -> float | None:
    """The mean of the checks' scores by their weights; None without any."""
    total = sum(check.weight for check in checks)
    return min(1.0, sum(check.weight * check.score for check in checks) / total) if checks else None


class TokenCounts(RecordPart):
    """Tokens as the API bills them; the four do not overlap. Null: unknown."""

    input: Count | None = Field(
        None, description="Input tokens that were neither read from nor put into a cache."
    )
    output: Count | None = Field(None, description="Output tokens, thinking included.")
    cache_read: Count | None = Field(None, description="Input tokens read from a cache.")
    cache_creation: Count | None = Field(None, description="Input tokens put into a cache.")

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

    cost_usd: Usd | None = Field(
        None, description="US dollars; null where a part of it is unknown, as for a model without a price."
    )
    cost_source: CostSource | None = Field(
        None, description="Whose price that is, as the record's own `cost_source`."
    )


class ToolCounts(RecordPart):
    """The calls of a tool."""

    calls: Count = Field(description="All its calls, subagents' included.")
    errors: Count = Field(description="Those of its calls that returned an error.")
    in_subagents: Count = Field(0, description="Those of its calls that subagents made.")


class TurnRecord(RecordPart):
    """One prompt's run, as Claude Code's result tells it; null where it does not."""

    duration_ms: Ms | None = Field(description="This run's wall time in milliseconds.")
    duration_api_ms: Ms | None = Field(description="Milliseconds spent waiting for the API in this run.")
    num_turns: Count | None = Field(description="As `steps`, which says what it counts.")
    steps: Count | None = Field(
        None,
        description="The main agent's tool results in this run and one for its answer; no count of requests.",
    )
    tokens: TokenCounts = Field(description="What this run used; the session's are the sums.")
    cost_usd: Usd | None = Field(description="US dollars, for this run; null also where a price was given.")
    terminal_reason: str | None = Field(description="Claude Code's own word for what ended the run.")
    result: str | None = Field(description="The agent's last message.")
    structured_output: Any = Field(
        None,
        description="What the agent answered in the form of the variant's `json_schema`; null: nothing, or more than "
        "256 KiB or 100 levels of it.",
    )
    asked_model: bool = Field(
        True, description="False where Claude Code answered the prompt by itself, and no model was asked."
    )


class Phases(RecordPart):
    """Wall time of the harness's phases, in milliseconds; null for one that was not reached.

    A phase that comes several times (a Python test's prompts) is added up. They are the last attempt's.
    """

    build: Ms | None = Field(None, description="The template, built or waited for.")
    setup: Ms | None = Field(
        None, description="The task's setup, run once a run and kept as a snapshot, or waited for."
    )
    create: Ms | None = Field(None, description="Until the sandbox was there.")
    seed: Ms | None = Field(
        None, description="The starter repo and the variant's files; setup, where there are no snapshots."
    )
    agent: Ms | None = Field(None, description="From the agent's start to its end, seen from outside.")
    collect: Ms | None = Field(None, description="Carrying the work out of the agent's sandbox.")
    checks: Ms | None = Field(None, description="All checks together, with the sandboxes in which they run.")
    total: Ms | None = Field(None, description="All of the attempt, the sandbox's end included.")

    @property
    def own(self) -> int | None:
        """The time of the trial itself: a template is built once, and whoever waits for it takes no longer."""
        return None if self.total is None else self.total - (self.build or 0)


class ErrorRecord(RecordPart):
    """The reason for which a trial is an `error`."""

    cause: Cause = Field(description="Whose fault it was.")
    type: str = Field(description="The kind of fault, as one word: `timeout`, `rate_limit`, ...")
    message: str = Field(description="What happened, in words.")
    remedy: str | None = Field(None, description="What can be done about it.")

    @classmethod
    def of(cls, fault: Fault) -> ErrorRecord:
        """The record's form of a fault."""
        return cls(cause=fault.cause, type=fault.kind, message=fault.message, remedy=fault.remedy)

    def fault(self) -> Fault:
        """The fault again, as far as a record tells it."""
        return FAULT_BY_CAUSE[self.cause](self.type, self.message, policy=GIVE_UP, remedy=self.remedy)


class AttemptRecord(RecordPart):
    """An earlier attempt at the same trial, which an infrastructure fault ended. Its spend is real."""

    number: Place = Field(description="Its place among the attempts, from 1.")
    error: ErrorRecord = Field(description="The fault that ended it.")
    sandbox_id: str | None = Field(description="Its sandbox; null when there was none yet.")
    started_at: str | None = Field(description="ISO 8601, UTC; null when the harness was killed in it.")
    duration_ms: Ms | None = Field(
        description="Its wall time in milliseconds; null when the harness was killed."
    )
    tokens: TokenCounts = Field(description="What it used, by itself.")
    tokens_partial: bool = Field(description="Whether its tokens are a lower bound.")
    cost_usd: Usd | None = Field(description="US dollars; null: unknown.")
    transcript: str | None = Field(description="Raw stream-json, relative to the run's folder.")


class InstructionsRecord(RecordPart):
    """A file of instructions (a CLAUDE.md, a rule) that Claude Code told that it had loaded."""

    path: str = Field(description="Below the sandbox's home, where it is: `repo/CLAUDE.md`.")
    memory_type: str | None = Field(description="Claude Code's word for whose it is: `Project`, `User`, ...")
    load_reason: str | None = Field(description="Claude Code's word for why: `session_start`, ...")
    sha256: str | None = Field(
        description="Of its content when it was loaded; null where it cannot be known."
    )


class StartRecord(RecordPart):
    """The start of Claude Code for a prompt, as a hook of its own session saw it before the first message."""

    arguments: tuple[str, ...] = Field(description="The process's own, its program first.")
    files: Mapping[str, str] = Field(
        {}, description="SHA-256 of each file with a system prompt, as it was then."
    )
    env: tuple[str, ...] = Field((), description="The variant's variables that had the value asked for.")


class SentRecord(RecordPart):
    """The contents of the main agent's first request to the model's API, as the proxy saw it."""

    model: str = Field(description="The model that was asked for.")
    system: tuple[str, ...] = Field((), description="SHA-256 of each block of the system prompt.")
    context: tuple[str, ...] = Field(
        (),
        description="SHA-256 of each text before the model's first answer: what Claude Code puts around the prompt "
        "(CLAUDE.md), and the prompt.",
    )
    tools: tuple[str, ...] = Field((), description="The names of the tools that were offered at once.")
    effort: str | None = Field(None, description="The effort that was asked for; null: none.")
    betas: tuple[str, ...] = Field((), description="What stood in `anthropic-beta`.")
    file: str | None = Field(
        None,
        description="The file with the texts, the hashes of all tools and those of all other requests, relative to "
        "the run's folder.",
    )


class ApiRecord(RecordPart):
    """The exchanges with the model's API as the proxy on this machine saw them, whoever in the sandbox asked."""

    requests: Count = Field(description="Requests for messages, retries and subagents' included.")
    endings: Mapping[str, Count] = Field(
        description="How many ended in what: an HTTP status, `unreachable`, `cut` (the answer broke off) or `left` "
        "(the sandbox did not wait for its end)."
    )
    models: Mapping[str, TokenCounts] = Field(
        description="Tokens that the API's own answers tell, by the model that answered; whole answers alone."
    )
    tokens_broken: TokenCounts = Field(
        TokenCounts(), description="What answers that were not whole had told until then."
    )
    untold: Count = Field(0, description="Answers that told no tokens.")
    open: Count = Field(0, description="Requests that had no answer yet when the agent's work was taken.")
    beyond_stream: Whole | None = Field(
        None,
        description="Tokens that the API answered and Claude Code's stream does not tell of; negative: the stream "
        "tells of more than the API answered. Null where that cannot be told.",
    )
    sent: SentRecord | None = Field(None, description="Null when nothing was asked.")


class McpServerRecord(RecordPart):
    """An MCP server of the session."""

    status: str = Field(
        description="Its state when the last run of the session started: `connected`, `failed`, ..."
    )
    offered: tuple[str, ...] = Field((), description="Its tools, by its own names.")
    tools: Mapping[str, ToolCounts] = Field({}, description="Those that were called, by its own names.")


class Tampering(RecordPart):
    """An act of the agent on what it has no business with: a protected file, which was put back before the checks, or
    Claude Code's stream, of which what is forged counts for nothing.
    """

    path: str = Field(description="Relative to the repo; of what is `forged`, the transcript's name.")
    change: Literal["modified", "deleted", "added", "forged"] = Field(
        description="What the agent had done to it. `forged`: there are events that Claude Code cannot have written."
    )
    detail: str | None = Field(
        None, description="Of what is forged: how many events, and why they cannot be true."
    )

    @property
    def sentence(self) -> str:
        """It, for a reader."""
        if self.change == "forged":
            return (
                f"{self.path} has {self.detail}: Claude Code did not write them, and they count for nothing"
            )
        return (
            f"the agent had {self.change} the protected file {self.path}; it was put back before the checks"
        )


class SandboxRecord(RecordPart):
    """The platform on which the trial ran, and what kept the sandbox apart."""

    kind: Literal["e2b", "local"] = Field(description="`e2b`: any server that E2B's variables name.")
    isolation: str | None = Field(
        None, description="The tier of a local server, also of one that E2B's variables name; null elsewhere."
    )
    enforces: tuple[str, ...] | None = Field(None, description="What that tier really enforces.")
    network_enforced: bool | None = Field(
        None,
        description="Whether the engine keeps sandboxes to the hosts that they may reach: as the tier says, elsewhere "
        "tried once a run by a sandbox that may reach nothing. Null: it could not be told.",
    )
    shortcoming: str | None = Field(
        None,
        description="Why a local server had no better tier, or one account alone. Null: nothing better was tried.",
    )
    stream_kept: Literal["server pipe", "user file"] | None = Field(
        None,
        description="Where Claude Code's output was on its way: `server pipe`, which ends outside of the sandbox, or "
        "`user file`, which the agent's account could have written. Null: there was none, or it is not known.",
    )
    template_id: str | None = Field(
        None,
        description="The template that the platform says the sandbox was made from; null when none came.",
    )
