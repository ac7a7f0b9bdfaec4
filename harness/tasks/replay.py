"""A recorded session as a Messages API server: the real Claude Code plays it again, without a model.

    python3 replay.py --transcript FILE [--port N] [--cwd DIR] [--ready FILE]

One file, standard library only, Python 3.9 or later, because it runs inside the sandbox beside Claude Code.
It listens on loopback, prints its URL (and writes it to `--ready`) once it does, and ends when the process
that started it does. A recording that cannot be played is told on stderr, line by line, with exit code 2.

A recording is the stream-json output of one run, or of several runs one after another (a session of several
prompts). It may be written by hand: a first line `{"type": "replay", "schema": 1, "written_by": "hand",
"cwd": "/home/user/repo"}`, then lines `{"type": "assistant", "message": {"content": [...]}}`. Ids, model,
usage and stop reason may be left out: tool calls then get ids of their own, the model is the one asked for,
the usage is zero, and the stop reason follows from the content. A subagent's lines carry the id of its tool
call, as `parent_tool_use_id`. Lines of other types count only for what they tell about the assistant's
messages.

Which message answers a request depends on the request alone, so that the client may retry: the one after
the last that its `messages` carry. A subagent's requests are known by the prompt of its tool call. What
Claude Code asks beside the conversation (a title, a web search, a summary for compaction) was not recorded,
and is answered with a plain sentence and no usage. A request beyond the recording's end is an
`invalid_request_error` that says so.

The recorded working directory is replaced by `--cwd` in the tool calls' inputs.

Usage is the recorded usage of each message, with one correction: the `assistant` events of a stream tell
the output tokens at a message's start. So where a `result` tells what a run used, by model, its messages
are given what they lack: output tokens in proportion to the length of their content, anything else (a
request that the stream does not show) to the run's last message of that model. What was used by a model
without a recorded message cannot be played: `Recording.notes` tells it. A run without a `result`, a killed
one, keeps its lower bound.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading

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

# What a content block must have to be sent.
NEEDED: Json = {"text": {"text": str}, "tool_use": {"name": str, "input": dict}}

NOT_RECORDED = "replay: this request is no part of the recorded conversation."
SUMMARY = "<analysis>replay</analysis>\n<summary>replay: {} messages so far</summary>"
SO_FAR = re.compile(r"replay: (\d+) messages so far")
# The model of what Claude Code itself says in an assistant's event, an API error above all.
SYNTHETIC = "<synthetic>"
# Claude Code puts this after an interrupted turn when it resumes: no model said it.
FILLER = "No response requested."
ASKS_FOR_SUMMARY = "an <analysis> block followed by a <summary> block"


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

    def reply(self, model: str, cwd: Moved) -> Json:
        """The message as the API sends it."""
        usage = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model or model,
            "content": [
                {**block, "input": cwd.apply(block["input"])} if block["type"] == "tool_use" else block
                for block in self.content
            ],
            "stop_reason": self.stop_reason or ("tool_use" if self.tool_uses else "end_turn"),
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 0, **self.usage},
        }


class Moved:
    """The recorded working directories, and the one that takes their place."""

    def __init__(self, recorded: set[str], live: str | None) -> None:
        self.live = live
        longest_first = sorted((path for path in recorded if path != live), key=len, reverse=True)
        names = "|".join(re.escape(path) for path in longest_first)
        # A whole path or a parent in one: neither `/repo2` nor `/repo.bak` is in `/repo`.
        self.pattern = re.compile(rf"(?<![\w.-])(?:{names})(?![\w-]|\.\w)") if live and names else None

    def apply(self, value: Any) -> Any:
        """The value with the live directory in all its strings."""
        if self.pattern is None or self.live is None:
            return value
        if isinstance(value, str):
            live = self.live
            return self.pattern.sub(lambda _: live, value)
        if isinstance(value, list):
            return [self.apply(item) for item in value]
        if isinstance(value, dict):
            return {key: self.apply(item) for key, item in value.items()}
        return value


class Recording:
    """The conversations of a session: the main agent's, and one for each subagent's tool call.

    `written_by` is the author of a handwritten recording, None for one that a run recorded. `model` is what
    the main agent asked for, None when that is not told: Claude Code reports and prices by the model that it
    asks for, so ask for this one. `notes` tell what will play differently from the recorded session.
    """

    def __init__(self) -> None:
        self.written_by: str | None = None
        self.model: str | None = None
        self.conversations: dict[str | None, list[Message]] = {None: []}
        self.prompts: dict[str, str] = {}
        self.cwds: set[str] = set()
        self.has_tools = False
        self.notes: list[str] = []
        self.cwd = Moved(set(), None)
        self._claims: dict[str, str] = {}
        self._claiming = threading.Lock()

    def move_to(self, cwd: str | None) -> None:
        """Answer from now on for a session in the directory `cwd`; None leaves paths as recorded."""
        self.cwd = Moved(self.cwds, cwd)

    def reply(self, request: Json, agent: str = "") -> Json:
        """The body that answers a request to `/v1/messages`: of type `message`, or `error`.

        `agent` is the request's header `x-claude-code-agent-id`, empty for the main agent.
        """
        messages = request["messages"]
        if not agent and self._is_aside(request):
            return _aside(request, "{}" if _wants_json(request) else NOT_RECORDED)
        key, start = self._conversation(request, agent)
        if key == "":
            return _error(f"replay: no recorded subagent has the prompt {_first_text(messages)[-200:]!r}")
        recorded = self.conversations.get(key, [])
        position = _position(recorded, messages[start:])
        if ASKS_FOR_SUMMARY in _last_user_text(messages):
            return _aside(request, SUMMARY.format(position))
        if position >= len(recorded):
            whose = "the recording" if key is None else f"the recording of the subagent of {key}"
            return _error(
                f"replay: {whose} ends after {len(recorded)} messages; this request asks for one more"
            )
        return recorded[position].reply(request["model"], self.cwd)

    def _is_aside(self, request: Json) -> bool:
        """Whether the request has none of the tools that the conversation needs."""
        return self.has_tools and not any("input_schema" in tool for tool in request.get("tools") or [])

    def _conversation(self, request: Json, agent: str) -> tuple[str | None, int]:
        """Whose conversation it is (None: the main agent's; "": unknown), and at which message it starts."""
        messages = request["messages"]
        prompts = {key: self.cwd.apply(prompt) for key, prompt in self.prompts.items()}
        if not agent and "cc_is_subagent=true" not in json.dumps(request.get("system") or ""):
            texts = _texts(messages[0]) if messages else []
            return next(((key, 0) for key, prompt in prompts.items() if prompt in texts), (None, 0))
        for matches in (_is_prompt, _contains_prompt):
            for index in _user_indexes(messages):
                texts = _texts(messages[index])
                keys = [
                    key for key, prompt in prompts.items() if any(matches(text, prompt) for text in texts)
                ]
                if keys:
                    return self._claim(agent, keys), index
        return "", 0

    def _claim(self, agent: str, keys: list[str]) -> str:
        """Of several subagents with the same prompt, each live one plays a recorded one of its own."""
        with self._claiming:
            if self._claims.get(agent) not in keys:
                free = [key for key in keys if key not in self._claims.values()]
                self._claims[agent] = (free or keys)[0]
            return self._claims[agent]


# Requests


def _texts(message: Json) -> list[str]:
    content = message["content"]
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block["type"] == "text"]


def _is_prompt(text: str, prompt: str) -> bool:
    return text.strip() == prompt.strip()


def _contains_prompt(text: str, prompt: str) -> bool:
    """A fork's prompt stands in a frame of instructions."""
    return prompt in text


def _user_indexes(messages: list[Json]) -> list[int]:
    """Where the user's messages are, the last one first."""
    return [index for index in reversed(range(len(messages))) if messages[index]["role"] == "user"]


def _first_text(messages: list[Json]) -> str:
    return "\n".join(text for message in messages[:1] for text in _texts(message))


def _last_user_text(messages: list[Json]) -> str:
    return "\n".join(text for index in _user_indexes(messages)[:1] for text in _texts(messages[index]))


def _position(recorded: list[Message], messages: list[Json]) -> int:
    """How many of the recorded messages the request carries.

    A known tool call tells it exactly; other messages of the assistant count one each. After a compaction,
    the summary tells how many came before.
    """
    calls = {block["id"]: index for index, message in enumerate(recorded) for block in message.tool_uses}
    position = 0
    for message in messages:
        if message["role"] == "user":
            said = SO_FAR.findall("\n".join(_texts(message)))
            position = int(said[-1]) if said else position
        elif message["role"] == "assistant" and _texts(message) != [FILLER]:
            blocks = message["content"] if isinstance(message["content"], list) else []
            known = [calls[block["id"]] for block in blocks if block.get("id") in calls]
            position = known[-1] + 1 if known else position + 1
    return position


def _wants_json(request: Json) -> bool:
    config = request.get("output_config") or {}
    return bool(request.get("output_format") or config.get("format"))


def _aside(request: Json, text: str) -> Json:
    recorded = {"id": "msg_replay_aside", "content": [{"type": "text", "text": text}]}
    return Message(recorded, 0, 0).reply(request["model"], Moved(set(), None))


def _error(message: str, kind: str = "invalid_request_error") -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


# Loading


def load(lines: Iterable[bytes | str]) -> Recording:
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
        except ValueError as error:
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
        """What the run used, by model; `modelUsage` counts from the session's start, over resumed runs."""
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


# The server


def _sse(message: Json) -> bytes:
    """The message as server-sent events; as on the real API, its start tells one output token, itend all."""
    usage = message["usage"]
    start = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": min(1, usage["output_tokens"])},
    }
    events: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message["content"]):
        empty, deltas = _deltas(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}})
    events.append({"type": "message_stop"})
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def _deltas(block: Json) -> tuple[Json, list[Json]]:
    """A content block as the API streams it: its empty start, and what is added to it."""
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
    if block["type"] in ("tool_use", "server_tool_use"):
        return {**block, "input": {}}, [
            {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        ]
    if block["type"] == "thinking":
        signed = {"type": "signature_delta", "signature": block.get("signature", "")}
        thought = {"type": "thinking_delta", "thinking": block.get("thinking", "")}
        return {**block, "thinking": "", "signature": ""}, [thought, signed]
    return block, []


STATUS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


class Connection:
    """One client's connection, which it owns: requests one after another, as HTTP/1.1 has them."""

    def __init__(self, recording: Recording, client: socket.socket) -> None:
        self.recording = recording
        self.client = client
        self.received = client.makefile("rb")

    def serve(self) -> None:
        """Answer until the client goes."""
        try:
            while self._answer():
                pass
        except OSError:
            return  # The client went away, as clients do.
        finally:
            self.received.close()
            self.client.close()

    def _answer(self) -> bool:
        start = self.received.readline(65536).split()
        if len(start) != 3:
            return False
        method, path = start[0].decode("latin-1"), start[1].decode("latin-1").split("?")[0]
        headers = self._headers()
        if "100-continue" in headers.get("expect", ""):
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(headers)
        status, kind, answer = self._route(method, path, headers, body)
        head = f"HTTP/1.1 {status} {STATUS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}"
        self.client.sendall(head.encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else answer))
        return headers.get("connection", "").lower() != "close"

    def _headers(self) -> dict[str, str]:
        headers = {}
        while (line := self.received.readline(65536)).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.received.read(int(headers.get("content-length", "0")))
        chunks = []
        while size := int(self.received.readline().split(b";")[0], 16):
            chunks.append(self.received.read(size))
            self.received.readline()
        self.received.readline()
        return b"".join(chunks)

    def _route(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body of the answer."""
        if method in ("GET", "HEAD"):
            return 200, "application/json", b"{}"
        if path == "/v1/messages/count_tokens":
            return 200, "application/json", json.dumps({"input_tokens": len(body) // 4}).encode()
        if method != "POST" or path != "/v1/messages":
            return _failed(_error(f"replay: {method} {path} is not played", "not_found_error"))
        try:
            request = json.loads(body)
            answer = self.recording.reply(request, headers.get("x-claude-code-agent-id", ""))
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            return _failed(_error(f"replay: no request for a message: {error!r}"))
        if answer["type"] == "error":
            return _failed(answer)
        if request.get("stream"):
            return 200, "text/event-stream", _sse(answer)
        return 200, "application/json", json.dumps(answer).encode()


def _failed(error: Json) -> tuple[int, str, bytes]:
    status = 404 if error["error"]["type"] == "not_found_error" else 400
    return status, "application/json", json.dumps(error).encode()


def serve(recording: Recording, port: int, ready: str | None) -> None:
    """Serve on loopback until the process that started this one ends; raises OSError for a taken port."""
    parent = os.getppid()
    with socket.create_server(("127.0.0.1", port), backlog=64) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if ready:
            with open(ready + ".part", "w") as file:
                file.write(url + "\n")
            os.replace(ready + ".part", ready)
        sys.stdout.write(url + "\n")
        sys.stdout.flush()
        server.settimeout(0.2)
        while os.getppid() == parent:
            try:
                client, _ = server.accept()
            except socket.timeout:  # noqa: UP041 - its own class before Python 3.10
                continue
            client.settimeout(None)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(recording, client).serve, daemon=True).start()


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = {argv[index]: argv[index + 1] for index in range(0, len(argv) - 1, 2)}
    unknown = [name for name in options if name not in ("--transcript", "--port", "--cwd", "--ready")]
    if len(argv) % 2 or unknown or "--transcript" not in options or not options.get("--port", "0").isdigit():
        sys.stderr.write("usage: replay.py --transcript FILE [--port N] [--cwd DIR] [--ready FILE]\n")
        return 2
    try:
        with open(options["--transcript"], "rb") as file:
            recording = load(file)
        recording.move_to(options.get("--cwd"))
        serve(recording, int(options.get("--port", "0")), options.get("--ready"))
    except BadRecording as bad:
        for problem in bad.problems:
            sys.stderr.write(f"replay: {options['--transcript']}: {problem}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"replay: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
