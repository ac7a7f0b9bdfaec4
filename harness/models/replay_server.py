"""A Messages API server that plays a recorded session to the real Claude Code, without a model.

    python3 -m harness.models.replay_server --transcript FILE [--port N] [--cwd DIR] [--ready FILE]

It runs inside the sandbox beside Claude Code, as `harness.models.model.TaskRecording.files` puts it there. So it
needs Python 3.9 and the standard library only, and imports nothing of harness but `harness.tasks.recording`.
It listens on loopback, prints its URL (and writes it to `--ready`) once it does, and ends when the process
that started it does. A recording that cannot be played is told on stderr, line by line, with exit code 2.

Which message answers a request depends on the request alone, so that the client may retry: the one after
the last that its `messages` carry. A subagent's requests are known by the prompt of its tool call. What
Claude Code asks beside the conversation (a title, a web search, a summary for compaction) was not recorded,
and is answered with a plain sentence and no usage. A request beyond the recording's end is an
`invalid_request_error` that says so.

The recorded working directory is replaced by `--cwd` in the tool calls' inputs.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading

from harness.tasks.recording import BadRecording, Message, Recording, parse_recording

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from harness.tasks.recording import Json

NOT_RECORDED = "replay: this request is no part of the recorded conversation."
SUMMARY = "<analysis>replay</analysis>\n<summary>replay: {} messages so far</summary>"
SO_FAR = re.compile(r"replay: (\d+) messages so far")
# Claude Code puts this after an interrupted turn when it resumes: no model said it.
FILLER = "No response requested."
ASKS_FOR_SUMMARY = "an <analysis> block followed by a <summary> block"


class MovedPaths:
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


class Player:
    """Answers requests with the messages of a recording, for a session in the directory `cwd`.

    Without `cwd`, paths stay as they were recorded.
    """

    def __init__(self, recording: Recording, cwd: str | None = None) -> None:
        self.recording = recording
        self._cwd = MovedPaths(recording.cwds, cwd)
        self._claims: dict[str, str] = {}
        self._claiming = threading.Lock()

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
        recorded = self.recording.conversations.get(key, [])
        position = _position(recorded, messages[start:])
        if ASKS_FOR_SUMMARY in _last_user_text(messages):
            return _aside(request, SUMMARY.format(position))
        if position >= len(recorded):
            whose = "the recording" if key is None else f"the recording of the subagent of {key}"
            return _error(
                f"replay: {whose} ends after {len(recorded)} messages; this request asks for one more"
            )
        return _reply(recorded[position], request["model"], self._cwd)

    def _is_aside(self, request: Json) -> bool:
        """True if the request has none of the tools that the conversation needs."""
        return self.recording.has_tools and not any(
            "input_schema" in tool for tool in request.get("tools") or []
        )

    def _conversation(self, request: Json, agent: str) -> tuple[str | None, int]:
        """Whose conversation it is (None: the main agent's; "": unknown), and at which message it starts."""
        messages = request["messages"]
        prompts = {key: self._cwd.apply(prompt) for key, prompt in self.recording.prompts.items()}
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
    """The positions of the user's messages, the last one first."""
    return [index for index in reversed(range(len(messages))) if messages[index]["role"] == "user"]


def _first_text(messages: list[Json]) -> str:
    return "\n".join(text for message in messages[:1] for text in _texts(message))


def _last_user_text(messages: list[Json]) -> str:
    return "\n".join(text for index in _user_indexes(messages)[:1] for text in _texts(messages[index]))


def _position(recorded: list[Message], messages: list[Json]) -> int:
    """The number of recorded messages that the request carries.

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


def _reply(message: Message, model: str, cwd: MovedPaths) -> Json:
    """The message as the API sends it."""
    usage = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {
        "id": message.id,
        "type": "message",
        "role": "assistant",
        "model": message.model or model,
        "content": [
            {**block, "input": cwd.apply(block["input"])} if block["type"] == "tool_use" else block
            for block in message.content
        ],
        "stop_reason": message.stop_reason or ("tool_use" if message.tool_uses else "end_turn"),
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 0, **message.usage},
    }


def _wants_json(request: Json) -> bool:
    config = request.get("output_config") or {}
    return bool(request.get("output_format") or config.get("format"))


def _aside(request: Json, text: str) -> Json:
    recorded = {"id": "msg_replay_aside", "content": [{"type": "text", "text": text}]}
    return _reply(Message(recorded, 0, 0), request["model"], MovedPaths(set(), None))


def _error(message: str, kind: str = "invalid_request_error") -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


# The server


def _sse(message: Json) -> bytes:
    """The message as server-sent events; as on the real API, its start tells one output token, its end all."""
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

    def __init__(self, player: Player, client: socket.socket) -> None:
        self.player = player
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
            answer = self.player.reply(request, headers.get("x-claude-code-agent-id", ""))
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


def serve(player: Player, port: int, ready: str | None) -> None:
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
            threading.Thread(target=Connection(player, client).serve, daemon=True).start()


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = {argv[index]: argv[index + 1] for index in range(0, len(argv) - 1, 2)}
    unknown = [name for name in options if name not in ("--transcript", "--port", "--cwd", "--ready")]
    if len(argv) % 2 or unknown or "--transcript" not in options or not options.get("--port", "0").isdigit():
        sys.stderr.write("usage: replay_server --transcript FILE [--port N] [--cwd DIR] [--ready FILE]\n")
        return 2
    try:
        with open(options["--transcript"], "rb") as file:
            player = Player(parse_recording(file), options.get("--cwd"))
        serve(player, int(options.get("--port", "0")), options.get("--ready"))
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
