"""The model's API as the harness sees it: one small request of its own, which no agent can bring about or forge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from harness import __version__
from harness.models.model import Model, key_headers
from harness.tasks.hosts import is_loopback
from harness.text import keep_start

PROBE_S = 10.0
"""How long the API may take for its reply."""
FRESH_S = 5.0
"""For how long an answer stands for all trials of a run."""
_API = "https://api.anthropic.com"
_OAUTH = "CLAUDE_CODE_OAUTH_TOKEN"


@dataclass(frozen=True)
class ProviderState:
    """The API's answer to the harness, or as its proxy saw it: HTTP status (None: no answer), and what it said."""

    status: int | None
    words: str = ""

    @property
    def is_well(self) -> bool:
        """True if it does what it is asked for."""
        return self.status is not None and self.status < 400

    def is_the_apis(self, seen: int | None) -> bool:
        """True if it is the trouble that Claude Code told of, and none that an agent's own request is bound to meet.

        Other statuses an agent gets at will, by asking for too much, or for what the key may not do (403). The key
        itself is the proxy's.
        """
        return self.status == seen == 401 or _kind(self.status) == _kind(seen) == "down"

    def confirms(self, seen: int | None) -> bool:
        """True if it is the trouble that Claude Code told of, by its status there (None: no answer, or silence)."""
        if self.is_well:
            return False
        kinds = [_kind(self.status), _kind(seen)]
        # A key that is refused, or an API that is down, explains every trouble but a request of the agent's own.
        return kinds[0] == kinds[1] or (kinds[1] == "down" and kinds[0] in ("down", "refused"))


def _kind(status: int | None) -> str | int:
    if status is None or status in (408, 409, 429) or status >= 500:
        return "down"
    return "refused" if status in (401, 403) else status


@dataclass
class Provider:
    """Asks the model's API, for all trials of a run: an answer is kept for some seconds."""

    _answers: dict[tuple[str, ...], tuple[float, ProviderState]] = field(default_factory=dict)
    _asking: defaultdict[tuple[str, ...], asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    async def ask(self, model: Model, env: Mapping[str, str], name: str | None) -> ProviderState | None:
        """Have the API answer one word, as the model `name`, with the key of Claude Code's environment `env`.

        None where it cannot be asked: in a replay, without a model's name, and where requests are signed (Bedrock,
        Vertex AI).
        """
        if model.source != "api" or name is None or model.is_signed(env):
            return None
        url = env.get("ANTHROPIC_BASE_URL", _API)
        headers = dict(key_headers(env))
        for added in model.headers.values():
            headers |= added
        key = (url, name, *sorted(headers.values()))
        async with self._asking[key]:
            asked_at, known = self._answers.get(key, (0.0, None))
            if known is None or time.monotonic() - asked_at > FRESH_S:
                known = await _ask(url, headers, name, is_oauth=_OAUTH in env)
                self._answers[key] = (time.monotonic(), known)
        return known


async def check_key(env: Mapping[str, str], name: str) -> ProviderState:
    """Have the API count the tokens of one word, which costs nothing, with the key of an environment."""
    url = env.get("ANTHROPIC_BASE_URL", _API)
    headers = {
        **dict(key_headers(env)),
        "anthropic-version": "2023-06-01",
        "User-Agent": f"harness/{__version__}",
    }
    if _OAUTH in env:
        headers["anthropic-beta"] = "oauth-2025-04-20"
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}]}
    try:
        async with asyncio.timeout(PROBE_S), httpx.AsyncClient(timeout=PROBE_S) as client:
            reply = await client.post(
                f"{url.rstrip('/')}/v1/messages/count_tokens", headers=headers, json=body
            )
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
        return ProviderState(None, str(error) or f"no answer within {PROBE_S:g} s")
    return _state(reply, "input_tokens")


async def _ask(url: str, headers: Mapping[str, str], name: str, *, is_oauth: bool) -> ProviderState:
    body: dict[str, Any] = {
        "model": name.partition("[")[0],
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    extra = {"anthropic-version": "2023-06-01", "User-Agent": f"harness/{__version__}"}
    if is_oauth:
        # Without these such a key is refused.
        extra["anthropic-beta"] = "oauth-2025-04-20"
        body["system"] = "You are Claude Code, Anthropic's official CLI for Claude."
    try:
        async with asyncio.timeout(PROBE_S), httpx.AsyncClient(timeout=PROBE_S) as client:
            reply = await client.post(
                f"{url.rstrip('/')}/v1/messages", headers={**headers, **extra}, json=body
            )
    except httpx.ConnectError as error:
        here = is_loopback(httpx.URL(url).host)
        return ProviderState(None, f"nothing listens at {url}" if here else str(error))
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
        return ProviderState(None, str(error) or f"no answer within {PROBE_S:g} s")
    return _state(reply, "content")


def _state(reply: httpx.Response, owed: str) -> ProviderState:
    """The API's state by its reply: a good one is JSON with the field that is `owed`; a login page is none."""
    body = None
    with contextlib.suppress(ValueError):
        body = reply.json()
    if reply.status_code < 400 and not (isinstance(body, dict) and owed in body):
        return ProviderState(None, f"HTTP {reply.status_code} with something else than the API's answer")
    return ProviderState(reply.status_code, _words(reply))


def _words(reply: httpx.Response) -> str:
    """The API's words on an error."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(reply.json()["error"]["message"])
    return keep_start(reply.text, 500)
