"""A transcript as a sequence of entries that a person can read: a view model for every renderer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.records.events import MARKER, Event

Kind = Literal["start", "turn", "text", "thinking", "tool", "result", "note", "end"]


@dataclass(frozen=True)
class TranscriptEntry:
    """One thing that was said or done in a session. `subagent` entries belong to a tool call of the main agent.

    `call` is the same in a `tool` entry and in the `result` that answers it, however far apart they are.
    """

    kind: Kind
    title: str
    body: str = ""
    error: bool = False
    subagent: bool = False
    call: str | None = None


def entries(events: Iterable[Event]) -> Iterator[TranscriptEntry]:
    """The readable parts of a transcript, in order. Events that no reader needs are left out."""
    for event in events:
        maker = _MAKERS.get(event.kind)
        if maker:
            yield from maker(event)


def _system(event: Event) -> Iterator[TranscriptEntry]:
    raw = event.raw
    if event.subtype == "init":
        servers = raw.get("mcp_servers")
        told = servers if isinstance(servers, list) else []
        names = [f"{s.get('name')} ({s.get('status')})" for s in told if isinstance(s, dict)]
        about = f"Claude Code {raw.get('claude_code_version')}, {raw.get('model')}, in {raw.get('cwd')}"
        yield TranscriptEntry("start", about, f"MCP servers: {', '.join(names)}" if names else "")
    elif event.subtype == "api_retry":
        yield TranscriptEntry(
            "note",
            f"the API failed ({raw.get('error_status') or raw.get('error')}); trying again",
            error=True,
        )


def _assistant(event: Event) -> Iterator[TranscriptEntry]:
    inside = event.parent is not None
    content = event.message.get("content")
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        if block.get("type") == "text" and str(block.get("text", "")).strip():
            yield TranscriptEntry("text", "Claude", str(block["text"]), subagent=inside)
        elif block.get("type") == "thinking" and str(block.get("thinking", "")).strip():
            yield TranscriptEntry("thinking", "thinking", str(block["thinking"]), subagent=inside)
        elif block.get("type") == "tool_use":
            title, body = _call(str(block.get("name")), block.get("input"))
            yield TranscriptEntry("tool", title, body, subagent=inside, call=str(block.get("id")))


def _user(event: Event) -> Iterator[TranscriptEntry]:
    for block in event.blocks("tool_result"):
        yield TranscriptEntry(
            "result",
            "error" if block.get("is_error") is True else "result",
            _content_text(block.get("content")),
            error=block.get("is_error") is True,
            subagent=event.parent is not None,
            call=str(block.get("tool_use_id")),
        )


def _result(event: Event) -> Iterator[TranscriptEntry]:
    reason = str(event.raw.get("terminal_reason") or event.subtype or "")
    yield TranscriptEntry("end", f"ended: {reason}", error=event.raw.get("is_error") is True)


def _marker(event: Event) -> Iterator[TranscriptEntry]:
    if event.subtype == "turn":
        yield TranscriptEntry("turn", f"prompt {event.raw.get('turn')}", str(event.raw.get("prompt") or ""))


def _malformed(event: Event) -> Iterator[TranscriptEntry]:
    yield TranscriptEntry("note", "a line that is no JSON", str(event.raw.get("line", "")), error=True)


_MAKERS = {
    "system": _system,
    "assistant": _assistant,
    "user": _user,
    "result": _result,
    MARKER: _marker,
    "malformed": _malformed,
}

_HEAD_FIELDS = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")


def _call(name: str, given: object) -> tuple[str, str]:
    """A tool call's title (its name and most telling argument), and the rest of its input."""
    fields = dict(given) if isinstance(given, Mapping) else {}
    head = next((field for field in _HEAD_FIELDS if isinstance(fields.get(field), str)), None)
    if head is None:
        return name, _shown(fields) if fields else ""
    text = str(fields.pop(head))
    first, _, more = text.partition("\n")
    rest = [more] if more else []
    if name == "Edit":
        rest.append(_edit(fields))
    elif fields:
        rest.append(_shown(fields))
    return f"{name}  {first}", "\n".join(part for part in rest if part)


def _edit(fields: Mapping[str, Any]) -> str:
    """An edit as the lines that go and those that come."""
    old = [f"- {line}" for line in str(fields.get("old_string", "")).splitlines()]
    new = [f"+ {line}" for line in str(fields.get("new_string", "")).splitlines()]
    return "\n".join([*old, *new])


def _shown(fields: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
    )


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = []
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            parts.append(str(block.get("text", f"[{block.get('type')}]")))
    return "\n".join(parts)
