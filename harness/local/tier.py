"""What a server tells of its sandboxes' isolation to one who knows no more of it than its URL."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable
from http.client import HTTPException

_TIER, _ENFORCES = "Harness-Isolation", "Harness-Enforces"
_TIMEOUT_S = 5.0


def health_headers(tier: str, enforces: Iterable[str]) -> dict[str, str]:
    """The header fields that say it in a reply to `GET /health`."""
    return {_TIER: tier, _ENFORCES: ",".join(sorted(enforces))}


def probe_tier(url: str) -> tuple[str, tuple[str, ...]] | None:
    """The tier, and what it enforces, of the server at a URL; None for one that is no local server of the harness."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url.rstrip('/')}/health", timeout=_TIMEOUT_S) as reply:
            tier, enforces = reply.headers.get(_TIER), reply.headers.get(_ENFORCES, "")
    except (OSError, ValueError, HTTPException):
        # One that is not there, or speaks something else, shows when a sandbox is asked for.
        return None
    return (tier, tuple(filter(None, enforces.split(",")))) if tier else None
