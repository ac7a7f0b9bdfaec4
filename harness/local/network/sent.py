"""The content of requests to the Messages API: texts, tools, settings; by hash, and the first one's in full."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

MAX_TEXT = 1 << 18
"""The most that is kept of the first request's texts, in characters."""
_MAX_HASHES = 4096
_AGENT = "x-claude-code-agent-id"


class SentRequests:
    """All requests of a sandbox. The first of the main agent is described in full."""

    def __init__(self) -> None:
        self._first: dict[str, Any] | None = None
        self._is_main = False
        self._hashes: set[str] = set()
        self._values: dict[str, set[str]] = {
            "models": set(),
            "tools": set(),
            "efforts": set(),
            "betas": set(),
        }

    @property
    def first_model(self) -> str | None:
        """The model of the main agent's first request."""
        return self._first["model"] if self._first else None

    def add(self, headers: Mapping[str, str], text: bytes) -> tuple[str | None, bool]:
        """Take a request's body into account; its model, and whether it asks for a stream.

        What is no JSON is the API's to refuse.
        """
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return None, False
        if not isinstance(body, dict):
            return None, False
        system, context = _texts(body.get("system")), _first_texts(body.get("messages"))
        tools = {
            _name(tool): _sha256(json.dumps(tool, sort_keys=True)) for tool in _objects(body.get("tools"))
        }
        effort, betas = _effort(body), _betas(headers)
        self._hashes |= {_sha256(part) for part in (*system, *context)} | set(tools.values())
        while len(self._hashes) > _MAX_HASHES:
            self._hashes.pop()
        for name, values in (
            ("models", [str(body.get("model"))]),
            ("tools", tools),
            ("efforts", [effort] if effort else []),
            ("betas", betas),
        ):
            self._values[name] |= set(values)
        # Claude Code asks some things beside its loop, without tools, and has subagents.
        is_main = bool(tools) and _AGENT not in headers
        if self._first is None or (is_main and not self._is_main):
            self._is_main = is_main
            self._first = {
                "model": str(body.get("model")),
                "system": _bounded(system),
                "context": _bounded(context),
                "tools": tools,
                "effort": effort,
                "thinking": body.get("thinking") if isinstance(body.get("thinking"), dict) else None,
                "max_tokens": body.get("max_tokens"),
                "betas": betas,
            }
        return str(body.get("model")), body.get("stream") is True

    def report(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "first": self._first,
            "hashes": sorted(self._hashes),
            **{name: sorted(values) for name, values in self._values.items()},
        }


def _bounded(texts: Iterable[str]) -> list[dict[str, Any]]:
    left, kept = MAX_TEXT, []
    for text in texts:
        kept.append({"sha256": _sha256(text), "chars": len(text), "text": text[:left]})
        left = max(0, left - len(text))
    return kept


def _texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [text for block in _objects(content) if isinstance(text := block.get("text"), str)]


def _first_texts(messages: object) -> list[str]:
    """The texts before the model's first answer: what Claude Code puts around the prompt (CLAUDE.md, an output style),
    and the prompt. Newer versions send a part of it as a message of the role `system`."""
    before = itertools.takewhile(lambda message: message.get("role") != "assistant", _objects(messages))
    return [text for message in before for text in _texts(message.get("content"))]


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("name", tool.get("type")))


def _effort(body: Mapping[str, Any]) -> str | None:
    config = body.get("output_config")
    effort = config.get("effort") if isinstance(config, dict) else None
    return effort if isinstance(effort, str) else None


def _betas(headers: Mapping[str, str]) -> list[str]:
    return [beta for part in headers.get("anthropic-beta", "").split(",") if (beta := part.strip())]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
