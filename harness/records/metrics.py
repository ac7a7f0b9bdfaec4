"""The few values of a trial that a comparison needs, so that a hundred thousand trials are read in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from harness.records.prices import plain_name
from harness.records.record import Outcome, TrialRecord
from harness.records.record_parts import Count, Name, Place


# Not frozen: that would make it take as long to fill a hundred thousand of them as to read their lines.
@dataclass(slots=True)
class TrialMetrics:
    """One trial's values. Unknown is None; `tokens` is so too where a cut-off left only a lower bound.

    `excluded_because` is set where the trial does not count. `asked` has the keys that the variant sets, those of its
    settings as `settings.KEY`. `spent_usd` is the cost of all its attempts, as far as
    known.
    """

    run_id: str
    trial_id: str
    task: str
    task_hash: str
    variant: str
    variant_hash: str
    index: int
    agent: str
    outcome: str
    excluded_because: str | None
    score: float | None
    cost_usd: float | None
    spent_usd: float | None
    tokens: int | None
    cut_off: bool
    duration_ms: float | None
    start_ms: float | None
    retry_wait_ms: float | None
    mcp_wait_ms: float | None
    turns: float | None
    model: str | None
    answered: tuple[str, ...]
    cost_source: str | None
    model_source: str
    by_hand: bool
    claude_version: str | None
    template: str | None
    network_enforced: bool | None = None
    variant_place: int | None = None
    started_at: str | None = None
    tools_offered: tuple[str, ...] | None = None
    asked: frozenset[str] = frozenset()

    @property
    def is_counted(self) -> bool:
        """True if it passed or failed."""
        return self.outcome in ("passed", "failed")


_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
"""A number that is none below zero, and of which sums stay finite."""
_Usd = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class _Tokens(TypedDict):
    input: NotRequired[Count | None]
    output: NotRequired[Count | None]
    cache_read: NotRequired[Count | None]
    cache_creation: NotRequired[Count | None]


class _Cost(TypedDict):
    cost_usd: NotRequired[_Usd | None]


class _Error(TypedDict):
    cause: str
    type: str


class _Sandbox(TypedDict):
    network_enforced: NotRequired[bool | None]


class _Line(TypedDict):
    """The part of a record that is read; the names, and what they mean, are `TrialRecord`'s."""

    run_id: Name
    trial_id: Name
    task: Name
    task_hash: str
    variant: Name
    variant_hash: str
    index: Place
    agent: Name
    outcome: Outcome
    score: _Share | None
    cost_usd: NotRequired[_Usd | None]
    tokens: NotRequired[_Tokens]
    tokens_partial: NotRequired[bool]
    duration_ms: NotRequired[Amount | None]
    start_ms: NotRequired[Amount | None]
    retry_wait_ms: NotRequired[Amount | None]
    mcp_wait_ms: NotRequired[Amount | None]
    num_turns: NotRequired[Amount | None]
    steps: NotRequired[Amount | None]
    model: NotRequired[str | None]
    answered: NotRequired[dict[str, Count]]
    cost_source: NotRequired[str | None]
    model_source: NotRequired[str]
    replay_by_hand: NotRequired[bool | None]
    claude_version: NotRequired[str | None]
    template: NotRequired[str | None]
    sandbox: NotRequired[_Sandbox]
    variant_place: NotRequired[Count | None]
    started_at: NotRequired[str | None]
    tools_offered: NotRequired[list[str] | None]
    asked: NotRequired[dict[str, Any]]
    error: NotRequired[_Error | None]
    differences: NotRequired[list[str]]
    attempts: NotRequired[list[_Cost]]


_LINES: TypeAdapter[_Line] = TypeAdapter(_Line)
_FIELDS = set(_Line.__annotations__)


def parse_metrics(line: bytes) -> TrialMetrics:
    """Read one line of a records file.

    Raises:
        pydantic.ValidationError: when it is no record, or a value in it is impossible.
    """
    return _metrics_of(_LINES.validate_json(line))


def metrics_of(record: TrialRecord) -> TrialMetrics:
    """A record's part in a comparison.

    Raises:
        pydantic.ValidationError: when a value is impossible, such as a negative cost.
    """
    return _metrics_of(_LINES.validate_python(record.model_dump(mode="json", include=_FIELDS)))


def _metrics_of(line: _Line) -> TrialMetrics:
    cost, cut_off, model, tools = (
        line.get("cost_usd"),
        line.get("tokens_partial", False),
        line.get("model"),
        line.get("tools_offered"),
    )
    # Most lines lack what stands behind these `if`s: a hundred thousand of them are to be read in seconds.
    return TrialMetrics(
        run_id=line["run_id"],
        trial_id=line["trial_id"],
        task=line["task"],
        task_hash=line["task_hash"],
        variant=line["variant"],
        variant_hash=line["variant_hash"],
        index=line["index"],
        agent=line["agent"],
        outcome=line["outcome"],
        excluded_because=None if line["outcome"] in ("passed", "failed") else _excluded_because(line),
        score=line["score"],
        cost_usd=cost,
        spent_usd=_spent(cost, attempts) if (attempts := line.get("attempts")) else cost,
        tokens=None if cut_off else _total(line.get("tokens", {})),
        cut_off=cut_off,
        duration_ms=line.get("duration_ms"),
        start_ms=line.get("start_ms"),
        retry_wait_ms=line.get("retry_wait_ms"),
        mcp_wait_ms=line.get("mcp_wait_ms"),
        # Older records have only the other name.
        turns=line.get("steps", line.get("num_turns")),
        model=model,
        answered=_plain_names(tuple(line.get("answered") or ((model,) if model else ()))),
        cost_source=line.get("cost_source"),
        model_source=line.get("model_source", "none"),
        by_hand=bool(line.get("replay_by_hand")),
        claude_version=line.get("claude_version"),
        template=line.get("template"),
        network_enforced=line.get("sandbox", {}).get("network_enforced"),
        variant_place=line.get("variant_place"),
        started_at=line.get("started_at"),
        tools_offered=None if tools is None else tuple(tools),
        asked=_asked(asked) if (asked := line.get("asked")) else _NOTHING,
    )


_NOTHING: frozenset[str] = frozenset()


def _spent(cost: float | None, attempts: Sequence[_Cost]) -> float | None:
    """The cost of all attempts, as far as known."""
    known = [part for part in (cost, *(one.get("cost_usd") for one in attempts)) if part is not None]
    return sum(known) if known else None


def _asked(asked: Mapping[str, Any]) -> frozenset[str]:
    settings = asked.get("settings")
    inner = settings if isinstance(settings, dict) else {}
    return frozenset((*asked, *(f"settings.{key}" for key in inner)))


@lru_cache(maxsize=1024)
def _plain_names(models: tuple[str, ...]) -> tuple[str, ...]:
    """The models that answered the main agent, by their plain names; of older records, the one that was asked for."""
    return tuple(dict.fromkeys(map(plain_name, models)))


def variants_in_order(records: Sequence[TrialMetrics | TrialRecord]) -> list[str]:
    """The names of the variants: as the run had them, and without that as they come. The first is the baseline."""
    places: dict[str, int] = {}
    for record in records:
        places.setdefault(record.variant, record.variant_place or 0)
    return sorted(places, key=lambda name: places[name])


def _total(tokens: _Tokens) -> int | None:
    """All four kinds together, None if one is unknown."""
    own, said = tokens.get("input"), tokens.get("output")
    read, kept = tokens.get("cache_read"), tokens.get("cache_creation")
    return None if own is None or said is None or read is None or kept is None else own + said + read + kept


def _excluded_because(line: _Line) -> str | None:
    if line["outcome"] == "invalid":
        return next(iter(line.get("differences", ())), "the variant was not really applied")
    if line["outcome"] == "error":
        error = line.get("error")
        return f"{error['cause']}: {error['type']}" if error else "unknown"
    return None
