"""What a comparison needs to know of a trial: few numbers, so that a hundred thousand of them fit."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record import TrialRecord


@dataclass(frozen=True, slots=True)
class Measured:
    """One trial's values. Unknown is None; `tokens` is so too where a cut-off left only a lower bound.

    `why` is set where the trial does not count, `spent_usd` is the cost of all its attempts, as far as known.
    """

    task: str
    task_hash: str
    variant: str
    variant_hash: str
    index: int
    agent: str
    outcome: str
    why: str | None
    score: float | None
    cost_usd: float | None
    spent_usd: float | None
    tokens: int | None
    cut_off: bool
    duration_ms: int | None
    turns: int | None
    model: str | None
    model_source: str
    by_hand: bool
    claude_version: str | None
    template: str | None

    @property
    def counts(self) -> bool:
        """Whether it passed or failed."""
        return self.outcome in ("passed", "failed")


def measured(record: TrialRecord) -> Measured:
    """A record's part in a comparison."""
    return Measured(
        task=record.task,
        task_hash=record.task_hash,
        variant=record.variant,
        variant_hash=record.variant_hash,
        index=record.index,
        agent=record.agent,
        outcome=record.outcome,
        why=_why(record),
        score=record.score,
        cost_usd=record.cost_usd,
        spent_usd=record.total_cost_usd,
        tokens=None if record.tokens_partial else record.tokens.total,
        cut_off=record.tokens_partial,
        duration_ms=record.duration_ms,
        turns=record.num_turns,
        model=record.model,
        model_source=record.model_source,
        by_hand=bool(record.replay_by_hand),
        claude_version=record.claude_version,
        template=record.template,
    )


def _why(record: TrialRecord) -> str | None:
    if record.outcome == "invalid":
        return "the variant was not really applied"
    if record.outcome == "error":
        return f"{record.error.cause}: {record.error.type}" if record.error else "unknown"
    return None
