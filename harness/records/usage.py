"""The bill of a session: tokens, cost and time at the API, by model, as Claude Code tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from harness.records.json_values import as_count, as_float, as_int, as_mapping, as_str, total_of


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
        """True if any kind is less than the other's."""
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
        cost = total_of((self.cost_usd, other.cost_usd))
        return _told_after(self, replace(other, tokens=self.tokens + other.tokens, cost_usd=cost))


@dataclass(frozen=True)
class Bill:
    """The bill of some runs, by model, with Claude Code's word on their cost and their time at the API."""

    models: Mapping[str, ModelUsage] = field(default_factory=dict)
    cost_usd: float | None = 0.0
    api_ms: int | None = 0

    @property
    def tokens(self) -> Tokens:
        """The sum over all models."""
        return sum((usage.tokens for usage in self.models.values()), Tokens())

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            add_usage(self.models, other.models.items()),
            total_of((self.cost_usd, other.cost_usd)),
            total_of((self.api_ms, other.api_ms)),
        )

    def after(self, before: Bill) -> Bill:
        """It, as the session's up to now: what was told before of a model's price, and is not told again, stands."""
        return replace(
            self, models={name: _told_after(before.models.get(name), u) for name, u in self.models.items()}
        )


def add_usage(
    models: Mapping[str, ModelUsage], more: Iterable[tuple[str, ModelUsage]]
) -> dict[str, ModelUsage]:
    """The usage by model, and more of it."""
    sums = dict(models)
    for name, usage in more:
        sums[name] = sums[name] + usage if name in sums else usage
    return sums


def _told_after(before: ModelUsage | None, usage: ModelUsage) -> ModelUsage:
    """A model's usage up to now; a price that was a guess in a part of it stays one."""
    if before is None:
        return usage
    basis = "unknown" if "unknown" in (before.basis, usage.basis) else usage.basis or before.basis
    return replace(usage, basis=basis, canonical=usage.canonical or before.canonical)


def told_models(told: object) -> dict[str, ModelUsage] | None:
    """The usage by model, as a result tells it; None where any of it is no count."""
    if not isinstance(told, dict):
        return None
    models = {name: _told_usage(as_mapping(usage)) for name, usage in told.items()}
    return None if None in models.values() else cast(dict[str, ModelUsage], models)


def _told_usage(usage: Mapping[str, Any]) -> ModelUsage | None:
    keys = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    told = {key: as_int(usage[key]) for key in keys if key in usage}
    if not told or None in told.values():
        return None
    tokens = Tokens(*(told.get(key) or 0 for key in keys))
    return ModelUsage(
        tokens,
        as_float(usage.get("costUSD")),
        as_str(usage.get("costBasis")),
        as_str(usage.get("canonicalModel")),
    )


def api_tokens(usage: Mapping[str, Any]) -> Tokens:
    """The tokens of one message, by its API's names."""
    return Tokens(
        input=as_count(usage.get("input_tokens")),
        output=as_count(usage.get("output_tokens")),
        cache_read=as_count(usage.get("cache_read_input_tokens")),
        cache_creation=as_count(usage.get("cache_creation_input_tokens")),
    )
