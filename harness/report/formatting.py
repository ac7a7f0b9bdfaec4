"""Numbers as people read them. Unknown is a dash, never 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.stats.data import METRIC_NAMES, MetricName

UNKNOWN = "-"
_NAMED = 8
"""The most names that a sentence lists."""

LABELS: Mapping[MetricName, str] = {name: name for name in METRIC_NAMES} | {
    "pass": "pass rate",
    "cost": "cost, typical trial",
    "bill": "cost, the bill",
    "pass_cost": "cost, each pass",
    "tokens": "tokens, typical trial",
    "all_tokens": "tokens, the sum",
    "duration": "time, typical trial",
    "all_duration": "time, the sum",
    "start": "start-up, typical trial",
    "retry_wait": "retry wait, typical trial",
    "mcp_wait": "MCP wait, typical trial",
    "turns": "steps, typical trial",
}


def seconds(ms: float | None) -> str:
    """Milliseconds as seconds or minutes: `0.8 s`, `42 s`, `3:07 min`."""
    if ms is None:
        return UNKNOWN
    if ms < 9_950:
        return f"{ms / 1000:.1f} s"
    whole = round(ms / 1000)
    return f"{whole} s" if whole < 120 else f"{whole // 60}:{whole % 60:02d} min"


def count(number: float | None) -> str:
    """A count: `950`, `12.3k`, `4.56M`."""
    if number is None:
        return UNKNOWN
    if number < 999.5:
        return f"{number:.0f}"
    return f"{number / 1_000:.1f}k" if number < 999_950 else f"{number / 1_000_000:.2f}M"


def cost(usd: float | None) -> str:
    """US dollars, with as many digits as matter: `$0.0042`, `$1.20`; what is not free is never `$0`."""
    if usd is None:
        return UNKNOWN
    if 0 < usd < 0.00005:
        return "<$0.0001"
    return f"${usd:.2f}" if usd >= 0.995 or usd == 0 else f"${usd:.4f}"


def percent(share: float | None) -> str:
    """A share as a whole percentage; only none is `0%`, and only all is `100%`."""
    if share is None:
        return UNKNOWN
    if 0 < share <= 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share * 100:.0f}%"


def plural(number: int, what: str) -> str:
    """A number of things: `1 task`, `2 tasks`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def names(of: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = len(of) - _NAMED
    return ", ".join(of[:_NAMED]) + (f" and {more} more" if more > 0 else "")
