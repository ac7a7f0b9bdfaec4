"""The isolation tier of a server, as a client that knows only its URL can read it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable
from http.client import HTTPException

_TIER, _ENFORCES = "Harness-Isolation", "Harness-Enforces"
_TIMEOUT_S = 5.0


def health_headers(tier: str, enforces: Iterable[str]) -> dict[str, str]:
    """Return the header fields that name the tier in a reply to `GET /health`."""
    return {_TIER: tier, _ENFORCES: ",".join(sorted(enforces))}


def probe_tier(url: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the tier of the server at a URL, and the limits that it enforces.

    Returns None if the server is not a local server of the harness.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url.rstrip('/')}/health", timeout=_TIMEOUT_S) as reply:
            tier, enforces = reply.headers.get(_TIER), reply.headers.get(_ENFORCES, "")
    except (OSError, ValueError, HTTPException):
        # A missing server, or one of another kind, is reported when a sandbox is requested.
        return None
    return (tier, tuple(filter(None, enforces.split(",")))) if tier else None
