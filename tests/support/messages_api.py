"""A scripted Messages API server on loopback, which knows what it served.

    with MessagesApi([Use("Bash", {"command": "ls"}), Say("done")]) as api:
        run_claude(env=api.env())
        assert api.served["claude-sonnet-4-5"] == Usage(input=20, output=10)

A script is a list of steps; a step is a reply, or a callable that makes one from the request. Each request of
a conversation takes the next step, so `[Fail(529), Say("done")]` fails once and then answers the retry. A
conversation is one session of one agent: each Claude Code session plays the script from its start, whatever
others do at the same time, and a resumed session goes on where it stopped. Subagents play `subagents`, chosen
by a text in their prompt. A request beyond the end of its script is answered with a 400 that says so, and
kept in `unscripted`.

Billing is the script's: `served` sums, by model, the usage of the replies that were sent to their end.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]


@dataclass(frozen=True)
class Usage:
    """Tokens as the API bills them; `input` excludes both cache counts."""

    input: int = 10
    output: int = 5
    cache_read: int = 0
    cache_creation: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_creation + other.cache_creation,
        )


NOTHING = Usage(0, 0, 0, 0)


@dataclass(frozen=True)
class Turn:
    """One assistant message: its content blocks in the API's own form."""

    content: Sequence[Json]
    usage: Usage = field(default_factory=Usage)
    stop_reason: str | None = None

    @property
    def ends_with(self) -> str:
        """The stop reason: the one given, or the one that the content implies."""
        wants_tool = any(block["type"] == "tool_use" for block in self.content)
        return self.stop_reason or ("tool_use" if wants_tool else "end_turn")


@dataclass(frozen=True)
class Fail:
    """An API error: its HTTP status, and `Retry-After` in seconds when given."""

    status: int
    message: str = "scripted"
    retry_after: float | None = None


@dataclass(frozen=True)
class Page:
    """What something on the way says in the API's place, with a good status."""

    html: str = "<h1>Sign in to this network</h1>"


@dataclass(frozen=True)
class Hang:
    """The request is read and never answered, until the server stops."""


@dataclass(frozen=True)
class Stall:
    """The reply starts, shows `text`, and never goes on, until the server stops."""

    text: str = "I will"
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Disconnect:
    """The connection closes: before any byte, or after `text` when that is given."""

    text: str | None = None
    usage: Usage = field(default_factory=Usage)


Reply = Turn | Fail | Page | Hang | Stall | Disconnect
Answer = Reply | Callable[["Request"], Reply]


@dataclass(frozen=True)
class Forever:
    """A step that answers its request and all later ones (Claude Code asks again after most errors)."""

    answer: Answer


Step = Answer | Forever

OWN = Turn([{"type": "text", "text": "Hi"}], NOTHING)


def Say(text: str, usage: Usage | None = None, *, stop_reason: str | None = None) -> Turn:
    """A message of text only, which ends the agent's run."""
    return Turn([text_block(text)], usage or Usage(), stop_reason)


def Use(name: str, tool_input: Json, usage: Usage | None = None, *, text: str = "") -> Turn:
    """A message that calls one tool, after `text` when that is given."""
    before = [text_block(text)] if text else []
    return Turn([*before, tool_block(name, tool_input)], usage or Usage())


def text_block(text: str) -> Json:
    """One text block, in the API's form."""
    return {"type": "text", "text": text}


def tool_block(name: str, tool_input: Json, block_id: str | None = None) -> Json:
    """One tool call, in the API's form; without an id it gets one of its own when it is sent."""
    return {"type": "tool_use", "id": block_id, "name": name, "input": tool_input}


@dataclass(frozen=True)
class Request:
    """What one request asked for."""

    path: str
    headers: Mapping[str, str]
    body: Json

    @property
    def model(self) -> str:
        """The model that the client asked for."""
        return str(self.body["model"])

    @property
    def session_id(self) -> str:
        """Claude Code's session, empty for other clients."""
        return self.headers.get("x-claude-code-session-id", "")

    @property
    def agent_id(self) -> str:
        """Claude Code's id of the subagent that asks, empty for the main agent."""
        return self.headers.get("x-claude-code-agent-id", "")

    @property
    def turns(self) -> int:
        """How many assistant messages the request carries."""
        return sum(message["role"] == "assistant" for message in self.body["messages"])

    @property
    def prompt(self) -> str:
        """The text of the first user message."""
        first = next(message for message in self.body["messages"] if message["role"] == "user")
        return "\n".join(texts(first["content"]))

    @property
    def tool_results(self) -> list[Json]:
        """The tool results in the last user message."""
        last = [message for message in self.body["messages"] if message["role"] == "user"][-1]
        content = last["content"] if isinstance(last["content"], list) else []
        return [block for block in content if block["type"] == "tool_result"]


def texts(content: str | list[Json]) -> list[str]:
    """The texts of a message's content, which the API takes as a string or as blocks."""
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block["type"] == "text"]


@dataclass(frozen=True)
class Exchange:
    """One request, and the reply that it was given."""

    request: Request
    reply: Reply
    model: str


class MessagesApi:
    """The server; it listens from `__enter__` to `__exit__`.

    `models` gives requests for a model a script of their own, by the model's name; `subagents` does so by a
    text in the subagent's prompt. `keys` limits the API keys that are accepted (others get 401).
    `answering_as` is the model named in the replies, when it is not the one that was asked for. `own` is the reply
    to requests of the harness itself, which are kept in `own_requests` and not billed.
    """

    def __init__(
        self,
        script: Sequence[Step],
        *,
        subagents: Mapping[str, Sequence[Step]] | None = None,
        models: Mapping[str, Sequence[Step]] | None = None,
        keys: Sequence[str] | None = None,
        answering_as: str | None = None,
        own: Answer = OWN,
    ) -> None:
        self._script = script
        self._subagents = dict(subagents or {})
        self._models = dict(models or {})
        self._keys = keys
        self._answering_as = answering_as
        self._own = own
        self.own_requests: list[Request] = []
        self._lock = threading.Lock()
        self._positions: dict[tuple[str, ...], int] = defaultdict(int)
        self._count = 0
        self.exchanges: list[Exchange] = []
        self.probes: list[str] = []
        self.unscripted: list[Request] = []
        self.served: dict[str, Usage] = {}
        self.stopping = threading.Event()
        self.arrived = threading.Condition(self._lock)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The base URL, as in `ANTHROPIC_BASE_URL`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port on loopback."""
        return int(self._server.server_address[1])

    @property
    def requests(self) -> list[Request]:
        """All requests for messages, in the order of their arrival."""
        return [exchange.request for exchange in self.exchanges]

    @property
    def total(self) -> Usage:
        """What was served, over all models."""
        return sum(self.served.values(), NOTHING)

    def env(self, key: str = "sk-ant-scripted") -> dict[str, str]:
        """The variables that point a Claude Code at this server."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": key}

    def wait_for_requests(self, count: int, timeout: float = 30) -> None:
        """Return once `count` requests have arrived; raises TimeoutError after `timeout` seconds."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.exchanges) >= count, timeout):
                raise TimeoutError(f"{len(self.exchanges)} of {count} requests came within {timeout} s")

    def reply_to(self, request: Request) -> Reply:
        """The next step of the request's conversation; a callable step may wait, others go on."""
        if self._keys is not None and request.headers.get("x-api-key") not in self._keys:
            return Fail(401, "invalid x-api-key")
        name, script = self._script_for(request)
        with self._lock:
            at = self._positions[name]
            stays = at < len(script) and isinstance(script[at], Forever)
            self._positions[name] = at if stays else at + 1
        if at >= len(script):
            self.unscripted.append(request)
            return Fail(400, f"the script ({name[1]}) has {len(script)} steps, this is request {at + 1}")
        step = script[at]
        answer = step.answer if isinstance(step, Forever) else step
        return answer(request) if callable(answer) else answer

    def reply_to_harness(self, request: Request) -> Reply:
        """The reply to a request of the harness's own."""
        self.own_requests.append(request)
        if self._keys is not None and request.headers.get("x-api-key") not in self._keys:
            return Fail(401, "invalid x-api-key")
        return self._own(request) if callable(self._own) else self._own

    def _script_for(self, request: Request) -> tuple[tuple[str, ...], Sequence[Step]]:
        session = request.session_id
        if request.agent_id:
            for marker, script in self._subagents.items():
                if marker in request.prompt:
                    return (session, "subagent", request.agent_id), script
        if request.model in self._models:
            return (session, "model", request.model), self._models[request.model]
        return (session, "main", request.agent_id), self._script

    def note(self, request: Request, reply: Reply) -> tuple[str, str]:
        """Keep the exchange; returns the id and the model of the message that will be sent."""
        with self.arrived:
            self._count += 1
            number = self._count
            model = self._answering_as or request.model
            self.exchanges.append(Exchange(request, reply, model))
            self.arrived.notify_all()
        return f"msg_{number:04d}", model

    def bill(self, model: str, usage: Usage) -> None:
        """Add a reply that was sent to its end."""
        with self._lock:
            self.served[model] = self.served.get(model, NOTHING) + usage


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    api: MessagesApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what many tests are about, and no error of the server's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._probe()

    def do_HEAD(self) -> None:
        self._probe()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.split("?")[0] == "/v1/messages/count_tokens":
            self.server.api.probes.append(f"POST {self.path}")
            return self._json(200, {"input_tokens": 10})
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, json.loads(body))
        if headers.get("user-agent", "").startswith("harness/"):
            return self._answer_harness(self.server.api.reply_to_harness(request))
        return self._send(request, self.server.api.reply_to(request))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept in `exchanges`; nothing is printed."""

    def _probe(self) -> None:
        self.server.api.probes.append(f"{self.command} {self.path}")
        self._json(200, {})

    def _send(self, request: Request, reply: Reply) -> None:
        api = self.server.api
        message_id, model = api.note(request, reply)
        match reply:
            case Turn():
                message = _message(message_id, model, reply)
                if request.body.get("stream"):
                    self._stream(self._billed(_events(message), model, reply.usage))
                else:
                    api.bill(model, reply.usage)
                    self._json(200, message)
            case Fail():
                self._fail(reply)
            case Page():
                self._whole(200, reply.html.encode(), {"content-type": "text/html"})
            case Hang():
                self._hold()
            case Stall() | Disconnect(text=str()):
                turn = Say(reply.text or "", reply.usage)
                self._stream(_cut(_events(_message(message_id, model, turn))), end=False)
                if isinstance(reply, Stall):
                    self._hold()
                self.close_connection = True
            case Disconnect():
                self.close_connection = True

    def _answer_harness(self, reply: Reply) -> None:
        match reply:
            case Fail():
                self._fail(reply)
            case Page():
                self._whole(200, reply.html.encode(), {"content-type": "text/html"})
            case Turn():
                self._json(200, _message("msg_own", "m", reply))
            case _:
                self._hold()

    def _billed(self, events: Iterator[Json], model: str, usage: Usage) -> Iterator[Json]:
        """The events; the bill comes before the client can know the last of them, so no test can be too early."""
        for event in events:
            if event["type"] == "message_stop":
                self.server.api.bill(model, usage)
            yield event

    def _hold(self) -> None:
        self.server.api.stopping.wait()
        self.close_connection = True

    def _fail(self, fail: Fail) -> None:
        after = {} if fail.retry_after is None else {"retry-after": f"{fail.retry_after:g}"}
        error = {"type": _ERRORS.get(fail.status, "api_error"), "message": fail.message}
        self._json(fail.status, {"type": "error", "error": error, "request_id": "req_scripted"}, after)

    def _json(self, status: int, body: Json, headers: Mapping[str, str] | None = None) -> None:
        self._whole(
            status, json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})}
        )

    def _whole(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _stream(self, events: Iterator[Json], end: bool = True) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if end:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def _message(message_id: str, model: str, turn: Turn) -> Json:
    content = [
        {**block, "id": block["id"] or f"toolu_{message_id[4:]}_{index}"}
        if block["type"] == "tool_use"
        else block
        for index, block in enumerate(turn.content)
    ]
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": turn.ends_with,
        "stop_sequence": None,
        "usage": {
            "input_tokens": turn.usage.input,
            "cache_creation_input_tokens": turn.usage.cache_creation,
            "cache_read_input_tokens": turn.usage.cache_read,
            "output_tokens": turn.usage.output,
        },
    }


def _events(message: Json) -> Iterator[Json]:
    """The server-sent events of a message: as the real API does, the first one says one output token."""
    usage = message["usage"]
    start: Json = {
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": min(1, usage["output_tokens"])},
    }
    yield {"type": "message_start", "message": {**message, **start}}
    for index, block in enumerate(message["content"]):
        empty, deltas = _as_deltas(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def _as_deltas(block: Json) -> tuple[Json, list[Json]]:
    """An empty block, and its content in pieces."""
    if block["type"] == "tool_use":
        partial = _pieces(json.dumps(block["input"]))
        return {**block, "input": {}}, [
            {"type": "input_json_delta", "partial_json": each} for each in partial
        ]
    return {"type": "text", "text": ""}, [
        {"type": "text_delta", "text": each} for each in _pieces(block["text"])
    ]


def _pieces(text: str) -> list[str]:
    return [text[at : at + 1000] for at in range(0, max(1, len(text)), 1000)]


def _cut(events: Iterator[Json]) -> Iterator[Json]:
    """The events up to the first delta."""
    for event in events:
        yield event
        if event["type"] == "content_block_delta":
            return
