"""The lines of a transcript as typed events: those of Claude Code's stream-json, and harness's own between them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.records.files import MAX_LINE
from harness.records.json_values import as_mapping

MARKER = "harness"
"""`type` of the lines that harness itself puts into a transcript, between the turns of a session."""
_MAX_LEVELS = 200
"""What lies deeper in an event is null: neither Python nor a record takes values of any depth."""
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True)
class Event:
    """One line of the stream. `raw` is all of it, whatever its kind; a line that is no JSON object has kind
    `malformed` and its text under `line`."""

    kind: str
    subtype: str | None
    raw: Mapping[str, Any]

    @property
    def parent(self) -> str | None:
        """Id of the tool call whose subagent this event belongs to; None for the main agent."""
        parent = self.raw.get("parent_tool_use_id")
        return parent if isinstance(parent, str) else None

    @property
    def message(self) -> Mapping[str, Any]:
        """The API message of an `assistant` or `user` event, else an empty mapping."""
        return as_mapping(self.raw.get("message"))

    def blocks(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """The content blocks of one kind (`text`, `tool_use`, `tool_result`, ...)."""
        content = self.message.get("content")
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") == kind:
                yield block


class Lines:
    """Cuts a byte stream into whole lines, wherever its chunks end. What a line has over `MAX_LINE` is dropped."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines completed by this chunk, without their ends; empty ones left out."""
        start = len(self._rest)
        self._rest += chunk
        if self._rest.find(b"\n", start) < 0:
            del self._rest[MAX_LINE:]
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return [line for line in lines if line.strip()]

    def finish(self) -> list[bytes]:
        """The bytes after the last line end: a torn line, or nothing."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest.strip() else []


def parse_line(line: bytes) -> Event:
    """One line as an event; never raises. All text in it can be encoded: a lone surrogate becomes `?`."""
    try:
        # Of bytes, json would take UTF-16 too, and halves of surrogates as they are.
        raw = json.loads(_without_depths(line).decode())
        if b"\\ud" in line or b"\\uD" in line:
            raw = json.loads(json.dumps(raw, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return Event("malformed", None, {"line": line.decode("utf-8", "replace")})
    subtype = raw.get("subtype")
    return Event(raw["type"], subtype if isinstance(subtype, str) else None, raw)


def _without_depths(line: bytes) -> bytes:
    """A line of JSON with null in the place of what lies too deep in it."""
    if line.count(b"[") + line.count(b"{") <= _MAX_LEVELS:
        return line
    kept, start, level = list[bytes](), 0, 0
    for token in _TOKENS.finditer(line):
        if token[0] in (b"[", b"{"):
            level += 1
            if level == _MAX_LEVELS + 1:
                kept += (line[start : token.start()], b"null")
        elif token[0] in (b"]", b"}"):
            if level == _MAX_LEVELS + 1:
                start = token.end()
            level -= 1
    return b"".join((*kept, line[start:])) if level == 0 else line


def parse_transcript(data: bytes) -> list[Event]:
    """All events of a whole transcript."""
    lines = Lines()
    return [parse_line(line) for line in (*lines.feed(data), *lines.finish())]


def without_piece(event: Event, line: bytes) -> bytes:
    """The line as a transcript keeps it: without what a piece of a message says, since a secret may be cut between two.

    The whole message comes in a line of its own.
    """
    piece = as_mapping(event.raw.get("event"))
    if event.kind != "stream_event" or piece.get("type") != "content_block_delta":
        return line
    kept = {**piece, "delta": {"type": as_mapping(piece.get("delta")).get("type")}}
    return json.dumps({**event.raw, "event": kept}).encode()


def turn_marker(turn: int, prompt: str) -> bytes:
    """The line with which the transcript of a turn (from 1) begins, and what was asked: the CLI does not tell it."""
    return json.dumps({"type": MARKER, "subtype": "turn", "turn": turn, "prompt": prompt}).encode() + b"\n"


def start_marker(ms: int) -> bytes:
    """The line that tells how long Claude Code took to start, after its first word: it does not tell that either."""
    return json.dumps({"type": MARKER, "subtype": "started", "ms": ms}).encode() + b"\n"


def event_time(event: Event) -> datetime | None:
    """The time at which Claude Code wrote an event; older versions do not tell."""
    try:
        told = datetime.fromisoformat(event.raw.get("timestamp") or "")
    except (TypeError, ValueError):
        return None
    return told if told.tzinfo else None
