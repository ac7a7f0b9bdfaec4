"""Numbers as people read them. Unknown is a dash, never 0."""

from __future__ import annotations

UNKNOWN = "-"


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
    if number < 1_000:
        return f"{number:.0f}"
    return f"{number / 1_000:.1f}k" if number < 999_950 else f"{number / 1_000_000:.2f}M"


def cost(usd: float | None) -> str:
    """US dollars, with as many digits as matter: `$0.0042`, `$1.20`."""
    if usd is None:
        return UNKNOWN
    return f"${usd:.2f}" if usd >= 0.995 or usd == 0 else f"${usd:.4f}"


def percent(share: float | None) -> str:
    """A share as a whole percentage."""
    return UNKNOWN if share is None else f"{share * 100:.0f}%"
