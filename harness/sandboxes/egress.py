"""The report of a sandbox's proxy, from the local server that runs it: the SDK has no call for it."""

from __future__ import annotations

import httpx

from harness.records.egress import EgressSight, parse_egress

_TIMEOUT_S = 30.0


async def ask_proxy(api_url: str, api_key: str, sandbox_id: str) -> EgressSight | None:
    """All that the sandbox's proxy has seen until now; None in a tier without one.

    Raises:
        httpx.HTTPError: when the server does not tell.
    """
    # The server is on this machine's loopback: no proxy, and no certificates that would have to be read.
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=_TIMEOUT_S) as client:
        reply = await client.get(f"{api_url}/sandboxes/{sandbox_id}/egress", headers={"X-API-KEY": api_key})
        reply.raise_for_status()
    report = reply.json()
    return None if report is None else parse_egress(report)
