"""The cost of a session, by Claude Code's prices, where it knows the model, or by those that were given."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.records.session import Session
from harness.records.usage import ModelUsage, Tokens

CostSource = Literal["list", "managed", "given", "mixed"]
Price = Mapping[str, float]
"""US dollars for a million tokens, by kind: `input`, `output`, `cache_read`, `cache_creation`."""

_KINDS = ("input", "output", "cache_read", "cache_creation")
_MILLION = 1_000_000
_CLAUDE = re.compile(r"claude-[a-z0-9]+(?:-[a-z0-9]+)*")
_EDITION = re.compile(r"-(?:\d{8}|latest)(?:-v\d+)?$|-v\d+$")
_OPUS, _OLD_OPUS, _SONNET, _HAIKU, _OLD_HAIKU, _TOP = (5, 25), (15, 75), (3, 15), (1, 5), (0.8, 4), (10, 50)
_KNOWN: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("claude-opus-4", "claude-opus-4-1"), _OLD_OPUS),
    **dict.fromkeys(("claude-opus-4-5", "claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8"), _OPUS),
    "claude-opus-5": _OPUS,
    **dict.fromkeys(("claude-3-5-sonnet", "claude-3-7-sonnet", "claude-sonnet-4"), _SONNET),
    **dict.fromkeys(("claude-sonnet-4-5", "claude-sonnet-4-6", "claude-sonnet-5"), _SONNET),
    "claude-3-5-haiku": _OLD_HAIKU,
    "claude-haiku-4-5": _HAIKU,
    **dict.fromkeys(("claude-fable-5", "claude-mythos-5"), _TOP),
}
"""List prices of input and output by model, for versions of Claude Code that do not say whether they know a model."""
_LOWEST, _HIGHEST = (1.25, 0.1), (2.0, 0.1)
"""What is put into a cache and read from it costs so many times the input, at least and at most. What is dearer by the
length of a prompt or by its speed is not told from what is priced as another model."""


@dataclass(frozen=True)
class Cost:
    """US dollars, and whose price that is; both None where it is not known."""

    usd: float | None = None
    source: CostSource | None = None


def cost_by_model(session: Session, given: Mapping[str, Price]) -> dict[str, Cost]:
    """The cost of each model. A price that was given goes before Claude Code's own.

    Claude Code prices a model by the name that it asked for. Where the API names another one in its replies, that
    other's price counts, if it was given.
    """
    strangers = [
        name for name in session.answered if not any(same_model(name, billed) for billed in session.models)
    ]
    return {name: _cost(name, usage, session, given, strangers) for name, usage in session.models.items()}


def total_cost(session: Session, by_model: Mapping[str, Cost]) -> Cost:
    """The session's cost, as Claude Code sums it up where all prices are its own."""
    sources = {cost.source for cost in by_model.values()}
    if session.is_bound or not session.turns or None in sources:
        return Cost()
    if "given" not in sources:
        source: CostSource = "list" if sources <= {"list"} else "managed" if len(sources) == 1 else "mixed"
        return Cost(session.cost_usd, source) if session.cost_usd is not None else Cost()
    usd = sum(cost.usd for cost in by_model.values() if cost.usd is not None)
    return Cost(usd, "given" if sources == {"given"} else "mixed")


def is_claudes_price(session: Session, given: Mapping[str, Price]) -> bool:
    """True if all that Claude Code tells of costs is by prices that it knows, and that none was given for."""
    own = all(_claudes_source(name, usage) for name, usage in session.models.items() if name not in given)
    return own and given.keys().isdisjoint({*session.models, *session.answered})


def _cost(
    name: str, usage: ModelUsage, session: Session, given: Mapping[str, Price], strangers: Sequence[str]
) -> Cost:
    has_answered = not strangers or any(same_model(name, other) for other in session.answered)
    priced_as = [name] if has_answered else strangers
    price = given.get(name) or (given.get(priced_as[0]) if len(priced_as) == 1 else None)
    if price:
        usd = None if session.is_bound else _at(price, usage.tokens)
        return Cost(usd, "given") if usd is not None else Cost()
    source = _claudes_source(name, usage) if has_answered else None
    return Cost(usage.cost_usd, source) if source and usage.cost_usd is not None else Cost()


def _at(price: Price, tokens: Tokens) -> float | None:
    """The cost of tokens; None where a kind of them has no price."""
    counts: dict[str, int] = {kind: getattr(tokens, kind) for kind in _KINDS if getattr(tokens, kind)}
    if not counts.keys() <= price.keys():
        return None
    return sum(count * price[kind] for kind, count in counts.items()) / _MILLION


def _claudes_source(name: str, usage: ModelUsage) -> CostSource | None:
    """Whose price Claude Code's is; None where it knows the model no more than by guess."""
    if usage.basis in ("list", "managed"):
        return usage.basis  # type: ignore[return-value]  # one of the two literals
    return "list" if usage.basis is None and _is_list_price(name, usage) else None


def _is_list_price(name: str, usage: ModelUsage) -> bool:
    """True if a cost can be what the model of that name costs, of a version that does not say so."""
    prices = _KNOWN.get(plain_name(name))
    if prices is None or usage.cost_usd is None:
        return False
    tokens, (price, price_out) = usage.tokens, prices
    low, high = (
        (tokens.input + put * tokens.cache_creation + read * tokens.cache_read) * price
        + tokens.output * price_out
        for put, read in (_LOWEST, _HIGHEST)
    )
    return 0.99 * low <= usage.cost_usd * _MILLION <= 1.01 * high


def same_model(one: str, other: str) -> bool:
    """True if two names are of one model: with its provider's prefix, its date, its context's size or without."""
    return plain_name(one) == plain_name(other)


@functools.lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """A name without what providers and editions add: `us.anthropic.claude-x-5-20260101-v1:0` is `claude-x-5`."""
    found = _CLAUDE.search(name.lower())
    if not found:
        return name.lower().partition("[")[0]
    return _EDITION.sub("", found[0].partition(":")[0])


def answer_notes(session: Session) -> Iterator[str]:
    """Notes for a reader on the models that answered."""
    others = {name: n for name, n in session.answered.items() if not same_model(name, session.model or name)}
    if others:
        replies = sum(session.answered.values())
        told = ", ".join(f"{name} ({count} of {replies} replies)" for name, count in others.items())
        yield f"{session.model} was asked for, and another model answered: {told}"
