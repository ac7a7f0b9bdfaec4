"""The isolation tier of a server, as a client that knows only its URL can read it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import quote, unquote

_TIER, _ENFORCES, _SHORTCOMING = "Harness-Isolation", "Harness-Enforces", "Harness-Shortcoming"
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class TierInUse:
    """The tier of a server, the limits that it enforces, and why it is not a better one."""

    name: str
    enforces: tuple[str, ...]
    shortcoming: str | None


def health_headers(tier: str, enforces: Iterable[str], shortcoming: str | None) -> dict[str, str]:
    """Return the header fields that name the tier in a reply to `GET /health`."""
    fields = {_TIER: tier, _ENFORCES: ",".join(sorted(enforces))}
    return {**fields, _SHORTCOMING: quote(shortcoming, safe=" ()/:;,=")} if shortcoming else fields


def probe_tier(url: str) -> TierInUse | None:
    """Return the tier of the server at a URL.

    Returns None if the server is not a local server of the harness.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url.rstrip('/')}/health", timeout=_TIMEOUT_S) as reply:
            tier, enforces = reply.headers.get(_TIER), reply.headers.get(_ENFORCES, "")
            shortcoming = unquote(reply.headers.get(_SHORTCOMING, "")) or None
    except (OSError, ValueError, HTTPException):
        # A missing server, or one of another kind, is reported when a sandbox is requested.
        return None
    return TierInUse(tier, tuple(filter(None, enforces.split(","))), shortcoming) if tier else None
