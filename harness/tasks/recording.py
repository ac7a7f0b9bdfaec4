"""A recorded session of Claude Code, read from its stream-json output.

A recording is the stream-json output of one run, or of several runs one after another (a session of several
prompts). It may be written by hand: a first line `{"type": "replay", "schema": 1, "written_by": "hand",
"cwd": "/home/user/repo"}`, then lines `{"type": "assistant", "message": {"content": [...]}}`. Ids, model,
usage and stop reason may be left out. Tool calls then get ids of their own, the model is the one asked for,
the usage is zero, and the stop reason follows from the content. A subagent's lines carry the id of its tool
call, as `parent_tool_use_id`. Lines of other types count only for what they tell about the assistant's
messages.

A message's usage is the recorded one, with one correction: the `assistant` events of a stream have only the
output tokens at a message's start. A `result` has what a run used, by model. Where there is one, its messages
are given what they lack: output tokens in proportion to the length of their content, anything else (a
request that the stream does not show) to the run's last message of that model. What was used by a model
without a recorded message cannot be played: `Recording.notes` says so. A run without a `result`, a killed
one, keeps its lower bound.

This file also runs inside a sandbox, with `harness/models/replay_server.py`. So it needs Python 3.9 and the
standard library only.
"""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Json = dict[str, Any]

SCHEMA = 1

# Where a message's usage has a count -> its name in a result's `modelUsage`.
COUNTS = {
    ("input_tokens",): "inputTokens",
    ("output_tokens",): "outputTokens",
    ("cache_read_input_tokens",): "cacheReadInputTokens",
    ("cache_creation_input_tokens",): "cacheCreationInputTokens",
    ("cache_creation", "ephemeral_5m_input_tokens"): "cacheCreationEphemeral5mInputTokens",
    ("cache_creation", "ephemeral_1h_input_tokens"): "cacheCreationEphemeral1hInputTokens",
}
OUTPUT = ("output_tokens",)

# The keys that a content block must have to be sent.
NEEDED: Json = {"text": {"text": str}, "tool_use": {"name": str, "input": dict}}

# The model of what Claude Code itself says in an assistant's event, an API error above all.
SYNTHETIC = "<synthetic>"


class BadRecording(ValueError):
    """The recording cannot be played; `problems` has one sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Message:
    """One recorded message of the assistant, its content put together."""

    def __init__(self, recorded: Json, run: int, number: int) -> None:
        """Start with the message's first event: it is the recording's `number`-th, in its `run`-th run."""
        self.id: str = recorded.get("id") or f"msg_replay_{number}"
        self.model: str | None = recorded.get("model")
        self.content: list[Json] = []
        self.usage: Json = json.loads(json.dumps(recorded.get("usage") or {}))
        self.stop_reason: str | None = None
        self.run = run
        self.usage_is_final = False
        self.extend(recorded)

    def extend(self, recorded: Json) -> None:
        """Append the content of one more event of the same message."""
        for block in recorded["content"]:
            if block["type"] == "tool_use" and not block.get("id"):
                block = {**block, "id": f"toolu_{self.id}_{len(self.content)}"}
            self.content.append(block)
        self.stop_reason = recorded.get("stop_reason") or self.stop_reason

    @property
    def tool_uses(self) -> list[Json]:
        """The tool calls."""
        return [block for block in self.content if block["type"] == "tool_use"]

    @property
    def text(self) -> str:
        """The text, over all blocks."""
        return "".join(block["text"] for block in self.content if block["type"] == "text")


class Recording:
    """The conversations of a session: the main agent's, and one for each subagent's tool call.

    `written_by` is the author of a handwritten recording, None for one that a run recorded. `model` is the model that
    the main agent asked for, None when that is not known. Claude Code reports and prices by the model that it asks for,
    so a replay asks for this one. `prompts` are the subagents' by their tool call, `cwds` the recorded working
    directories. `notes` say what will play differently from the recorded session.
    """

    def __init__(self) -> None:
        self.written_by: str | None = None
        self.model: str | None = None
        self.conversations: dict[str | None, list[Message]] = {None: []}
        self.prompts: dict[str, str] = {}
        self.cwds: set[str] = set()
        self.has_tools = False
        self.notes: list[str] = []


def parse_recording(lines: Iterable[bytes | str]) -> Recording:
    """Read a recording; raises BadRecording with all that is wrong with it."""
    loader = _Loader()
    for number, event in _events(lines, loader):
        loader.take(number, event)
    return loader.finish()


def _events(lines: Iterable[bytes | str], loader: _Loader) -> Iterator[tuple[int, Json]]:
    """The objects, with their line numbers. A killed run's last line may be cut: noted, and no problem."""
    cut: str | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if cut:
            loader.problems.append(cut)
            cut = None
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut = f"line {number} is not JSON: {error}"
            continue
        if isinstance(event, dict):
            yield number, event
        else:
            loader.problems.append(f"line {number} is not a JSON object")
    if cut and loader.is_recorded:
        loader.recording.notes.append("the last line is cut: the recorded run was killed")
    elif cut:
        loader.problems.append(cut)


class _Loader:
    """Builds a Recording from one event after another."""

    def __init__(self) -> None:
        self.recording = Recording()
        self.problems: list[str] = []
        self.is_recorded = False
        self.billed: list[dict[str, Json]] = []
        self.session_id: Any = None
        self.used: dict[str, Json] = {}
        self.seen: dict[tuple[str | None, str], Message] = {}
        self.calls: dict[str, Message] = {}

    def take(self, number: int, event: Json) -> None:
        """Add what one event tells."""
        kind = event.get("type")
        takers = {
            "replay": self._header,
            "system": self._system,
            "assistant": self._assistant,
            "user": self._subagent_end,
            "result": self._result,
        }
        if kind not in takers:
            return
        try:
            takers[kind](event)
        except ValueError as error:
            self.problems.append(f"line {number}: {error}")
        except (TypeError, AttributeError, LookupError) as error:
            self.problems.append(f"line {number}: no {kind} event has this form: {error!r}")

    def finish(self) -> Recording:
        """The recording, its usage settled; raises BadRecording."""
        main = self.recording.conversations[None]
        if not main and not self.problems:
            self.problems.append("there is no assistant message in it")
        if main and main[-1].tool_uses and self.recording.written_by:
            self.problems.append("it ends with a tool call: the last message must answer with text only")
        if self.problems:
            raise BadRecording(self.problems)
        self.recording.model = self.recording.model or main[0].model
        everything = [message for messages in self.recording.conversations.values() for message in messages]
        for run, billed in enumerate(self.billed):
            self.recording.notes += _settle([message for message in everything if message.run == run], billed)
        return self.recording

    def _header(self, event: Json) -> None:
        if event.get("schema") != SCHEMA:
            raise ValueError(f"schema is {event.get('schema')!r}, this version plays {SCHEMA}")
        self.recording.written_by = _string(event, "written_by")
        self._cwd(event)

    def _system(self, event: Json) -> None:
        if event.get("subtype") == "init":
            self.is_recorded = True
            self.recording.model = self.recording.model or _string(event, "model")
            self.recording.has_tools = self.recording.has_tools or bool(event.get("tools"))
            self._cwd(event)
        elif event.get("subtype") == "task_started":
            call, prompt = _string(event, "tool_use_id"), _string(event, "prompt")
            if call and prompt:
                self.recording.prompts.setdefault(call, prompt)

    def _cwd(self, event: Json) -> None:
        cwd = _string(event, "cwd")
        if cwd:
            self.recording.cwds.add(cwd.rstrip("/"))

    def _assistant(self, event: Json) -> None:
        recorded = _checked(event.get("message"))
        if recorded.get("model") == SYNTHETIC:
            return
        key = _string(event, "parent_tool_use_id")
        if key is not None and key not in self.calls:
            raise ValueError(f"parent_tool_use_id {key!r} names no tool call before it")
        known = self.seen.get((key, recorded.get("id") or ""))
        if known:
            known.extend(recorded)
        self._index(known or self._add(key, recorded))

    def _add(self, key: str | None, recorded: Json) -> Message:
        message = Message(recorded, len(self.billed), len(self.seen) + 1)
        self.recording.conversations.setdefault(key, []).append(message)
        self.seen[key, message.id] = message
        return message

    def _index(self, message: Message) -> None:
        for block in message.tool_uses:
            if self.calls.setdefault(block["id"], message) is not message:
                raise ValueError(f"the tool call id {block['id']!r} is used twice")
            self.recording.has_tools = True
            if isinstance(block["input"].get("prompt"), str) and block["name"] in ("Agent", "Task"):
                self.recording.prompts[block["id"]] = block["input"]["prompt"]

    def _subagent_end(self, event: Json) -> None:
        """The last message of a subagent in the foreground has no event: it is in the tool call's result."""
        result = event.get("tool_use_result")
        if not isinstance(result, dict) or result.get("status") != "completed" or "agentId" not in result:
            return
        (key,) = (block["tool_use_id"] for block in event["message"]["content"])
        notes, tail = result.get("harnessNoteCount", 0), result.get("harnessTailCount", 0)
        content = result["content"][notes : len(result["content"]) - tail]
        said = "".join(block["text"] for block in content)
        messages = self.recording.conversations.setdefault(key, [])
        if messages and not messages[-1].tool_uses and messages[-1].text == said:
            return
        last = _checked(
            {"model": result.get("resolvedModel"), "content": content, "usage": result.get("usage")}
        )
        self._add(key, last).usage_is_final = "usage" in result

    def _result(self, event: Json) -> None:
        """Note what the run used, by model; `modelUsage` counts from the session's start, over resumed runs."""
        used = {model: _used(counts) for model, counts in (event.get("modelUsage") or {}).items()}
        since = event.get("model_usage_since_last_result")
        if since is not None:
            share = {model: _used(counts) for model, counts in since.items()}
        elif event.get("session_id") == self.session_id:
            share = {model: _less(counts, self.used.get(model, {})) for model, counts in used.items()}
        else:
            share = used
        self.session_id, self.used = event.get("session_id"), used
        self.billed.append(share)


def _string(event: Json, field: str) -> str | None:
    value = event.get(field)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{field} must be a string, it is {value!r}")
    return value


def _checked(message: Any) -> Json:
    """The recorded message; raises ValueError with what is wrong with it."""
    if (
        not isinstance(message, dict)
        or not isinstance(message.get("content"), list)
        or not message["content"]
    ):
        raise ValueError("an assistant event needs a message with a list of content blocks")
    for field in ("id", "model", "stop_reason"):
        _string(message, field)
    for index, block in enumerate(message["content"]):
        _check_block(block, f"content[{index}]")
    usage = message.get("usage")
    if usage is not None and not isinstance(usage, dict):
        raise ValueError("usage must be an object")
    for path in COUNTS:
        count = _count(usage or {}, path)
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"usage.{'.'.join(path)} must be a whole number, it is {count!r}")
    return message


def _check_block(block: Any, where: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise ValueError(f"{where} needs a type")
    for field, kind_of_value in NEEDED.get(kind, {}).items():
        if not isinstance(block.get(field), kind_of_value):
            a = "a string" if kind_of_value is str else "an object"
            raise ValueError(f"{where} is a {kind} and needs {a} `{field}`")
    _string(block, "id")


# Usage


def _count(usage: Json, path: tuple[str, ...]) -> int:
    value: Any = usage
    for name in path:
        value = (value or {}).get(name) or 0
    return value if value != {} else 0


def _set_count(usage: Json, path: tuple[str, ...], count: int) -> None:
    for name in path[:-1]:
        usage = usage.setdefault(name, {})
    usage[path[-1]] = count


def _used(counts: Json) -> Json:
    """One model's part of a result's `modelUsage`: its counts, and the name that it is known by."""
    used = {name: counts[name] for name in (*COUNTS.values(), "canonicalModel") if name in counts}
    for name, count in used.items():
        if name != "canonicalModel" and not isinstance(count, int):
            raise ValueError(f"modelUsage has {name} {count!r}, which is no whole number")
    return used


def _less(used: Json, before: Json) -> Json:
    return {**used, **{name: used[name] - before.get(name, 0) for name in COUNTS.values() if name in used}}


def _settle(messages: list[Message], billed: Json) -> list[str]:
    """Make the messages of one run use what was billed for it, by model; returns what they cannot use."""
    notes = []
    by_model: dict[str, list[Message]] = {}
    for message in messages:
        by_model.setdefault(_billed_as(message.model or "", billed), []).append(message)
    for model, used in billed.items():
        counts = {path: used[name] for path, name in COUNTS.items() if name in used}
        if model in by_model:
            for path, count in counts.items():
                _settle_count(by_model[model], path, count)
        elif any(counts.values()):
            told = ", ".join(f"{count} {'.'.join(path)}" for path, count in counts.items() if count)
            notes.append(f"{model} was used beside the recorded messages, which will not be played: {told}")
    return notes


def _billed_as(model: str, billed: Json) -> str:
    """The name under which `model` was billed: the one asked for, not always the one that answered."""

    def plain(name: str) -> str:
        return re.sub(r"(-\d{8})?(\[.*\])?$", "", name)

    names = [name for name in billed if plain(model) in (plain(name), billed[name].get("canonicalModel"))]
    only = list(billed) if len(billed) == 1 else []
    return model if model in billed else (names or only or [model])[0]


def _settle_count(messages: list[Message], path: tuple[str, ...], billed: int) -> None:
    lacking = billed - sum(_count(message.usage, path) for message in messages)
    open_ones = [message for message in messages if not message.usage_is_final] or messages
    if path == OUTPUT and lacking > 0:
        shares = _shares(lacking, [len(json.dumps(message.content)) for message in open_ones])
        for index, message in enumerate(open_ones):
            _set_count(message.usage, path, _count(message.usage, path) + shares[index])
        return
    for message in reversed(open_ones):
        count = _count(message.usage, path)
        settled = max(0, count + lacking)
        if settled != count:
            _set_count(message.usage, path, settled)
        lacking -= settled - count


def _shares(total: int, weights: list[int]) -> list[int]:
    """`total` in whole parts in proportion to the weights; what rounding leaves goes to the last."""
    shares = [total * weight // sum(weights) for weight in weights]
    shares[-1] += total - sum(shares)
    return shares
