"""What the proxy counts of the Messages API's answers, however they come."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.local.network.api_meter import ApiMeter

USAGE = {
    "input_tokens": 11,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 3,
    "output_tokens": 1,
}
COUNTED = {"input": 11, "output": 42, "cache_read": 5, "cache_creation": 3}
START: dict[str, Any] = {"type": "message_start", "message": {"model": "m-1", "usage": USAGE}}
TEXT = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'say "usage": 1 ü'}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 42}}
STOP = {"type": "message_stop"}
SSE = {"content-type": "text/event-stream; charset=utf-8"}
MESSAGE = {"type": "message", "model": "m-1", "usage": {**USAGE, "output_tokens": 42}, "content": []}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        f"event: {e['type']}\r\ndata: {json.dumps(e, ensure_ascii=False)}\r\n\r\n".encode() for e in events
    )


def answer(
    meter: ApiMeter,
    chunks: list[bytes],
    status: int = 200,
    headers: dict[str, str] | None = None,
    body: bytes = b'{"model": "m", "messages": []}',
) -> None:
    """One exchange, to the end that HTTP gives it."""
    exchange = meter.begin("POST", "/v1/messages?beta=true", {})
    assert exchange
    exchange.on_body(body)
    exchange.on_sent()
    exchange.on_response(status, SSE if headers is None else headers)
    for chunk in chunks:
        exchange.on_data(chunk)
    exchange.on_end()


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_a_stream_is_counted_wherever_its_chunks_end(cuts: list[int]) -> None:
    """Its last numbers are those that count."""
    data, meter = sse(START, TEXT, DELTA, STOP), ApiMeter()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    answer(meter, [data[a:b] for a, b in pairwise(edges)])
    assert meter.report()["models"] == {"m-1": COUNTED}


@pytest.mark.parametrize(
    ("encoding", "encode"), [("", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)]
)
@pytest.mark.parametrize("kind", ["JSON", "a stream"])
def test_answers_are_counted_in_each_form(encoding: str, encode: Any, kind: str) -> None:
    """Also where a server compresses what it was asked not to."""
    meter = ApiMeter()
    body = json.dumps(MESSAGE).encode() if kind == "JSON" else sse(START, DELTA, STOP)
    headers = {"content-type": "application/json"} if kind == "JSON" else SSE
    answer(meter, [encode(body)], headers={**headers, "content-encoding": encoding})
    assert meter.report()["models"] == {"m-1": COUNTED}
    assert meter.report()["endings"] == {"200": 1}


def test_an_answer_that_nobody_can_read_is_untold_and_not_nothing() -> None:
    meter = ApiMeter()
    answer(meter, [b"\x1b\x03"], headers={"content-type": "application/json", "content-encoding": "br"})
    assert (meter.report()["untold"], meter.report()["models"]) == (1, {})


@pytest.mark.parametrize("status", [401, 403, 429, 500, 529])
def test_an_error_is_a_request_without_tokens(status: int) -> None:
    """It is the API's last trouble until it answers well again."""
    meter = ApiMeter()
    error = {"type": "error", "error": {"type": "x", "message": "not now"}}
    answer(meter, [json.dumps(error).encode()], status, {"content-type": "application/json"})
    report = meter.report()
    assert (report["requests"], report["endings"], report["models"]) == (1, {str(status): 1}, {})
    assert report["trouble"] == {"status": status, "words": "not now"}
    answer(meter, [sse(START, DELTA, STOP)])
    assert meter.report()["trouble"] is None


def test_an_error_within_a_stream_is_that_error() -> None:
    """The HTTP status had said 200 by then; what it had told until then is apart."""
    meter = ApiMeter()
    answer(meter, [sse(START, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})])
    report = meter.report()
    assert report["endings"] == {"529": 1}
    assert report["trouble"] == {"status": 529, "words": "busy"}
    assert (report["models"], report["broken"]["input"]) == ({}, 11)


@pytest.mark.parametrize("body", [b'{"model": "other"}', b"no JSON"])
def test_trouble_with_another_model_is_the_agents_choice(body: bytes) -> None:
    """It may ask for one whose use is limited or forbidden; and a good answer of it ends no trouble with the first."""
    meter = ApiMeter()
    answer(meter, [sse(START, DELTA, STOP)])
    answer(meter, [], 429, {}, body=body)
    assert meter.report()["trouble"] is None
    answer(meter, [], 529, {})
    answer(meter, [sse(START, DELTA, STOP)], body=body)
    assert meter.report()["trouble"] == {"status": 529, "words": ""}


@pytest.mark.parametrize("by_client", [True, False])
def test_a_stream_that_broke_off_is_apart(by_client: bool) -> None:
    """By the API it is its trouble; by the sandbox it is nobody's."""
    meter = ApiMeter()
    exchange = meter.begin("POST", "/v1/messages", {})
    assert exchange
    exchange.on_sent()
    exchange.on_response(200, SSE)
    exchange.on_data(sse(START))
    exchange.on_cut(by_client=by_client)
    report = meter.report()
    assert report["endings"] == {("left" if by_client else "cut"): 1}
    assert (report["models"], report["broken"]["output"]) == ({}, 1)
    assert (report["trouble"] is None) is by_client
    exchange.on_cut(by_client=False)
    assert meter.report() == report


@pytest.mark.parametrize("is_sent", [True, False])
def test_an_api_that_does_not_wait_for_a_request_has_no_trouble(is_sent: bool) -> None:
    """Any agent can begin a request, and let the API lose patience."""
    meter = ApiMeter()
    exchange = meter.begin("POST", "/v1/messages", {})
    assert exchange
    if is_sent:
        exchange.on_sent()
    exchange.on_cut(by_client=False)
    assert meter.report()["endings"] == {"cut": 1}
    assert (meter.report()["trouble"] is not None) is is_sent


@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_that_is_asked_for_at_once_may_take_its_time(streams: bool) -> None:
    """It is no silence, which an agent could bring about by asking for a long one."""
    meter = ApiMeter()
    exchange = meter.begin("POST", "/v1/messages", {})
    assert exchange
    exchange.on_body(json.dumps({"stream": streams}).encode())
    exchange.on_waiting()
    exchange.on_sent()
    assert (meter.report()["silent_s"] > 0) is streams


@pytest.mark.parametrize(
    ("status", "content", "body"),
    [
        (200, "text/html", b"<h1>Log in</h1>"),
        (200, "application/json", b"{}"),
        (200, "", b""),
        (302, "", b""),
    ],
)
def test_an_answer_without_a_message_is_trouble(status: int, content: str, body: bytes) -> None:
    """Something on the way has answered in the API's place."""
    meter = ApiMeter()
    answer(meter, [body], status, {"content-type": content})
    assert meter.report()["trouble"] == {"status": None, "words": f"HTTP {status} without a message"}


def test_what_is_no_request_for_a_message_is_counted_apart() -> None:
    meter = ApiMeter()
    for method, target in (("GET", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("HEAD", "/")):
        assert meter.begin(method, target, {}) is None
    assert (meter.report()["requests"], meter.report()["other_requests"]) == (0, 3)


@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from([200, 400, 500]), st.booleans())
def test_no_answer_breaks_it(chunks: list[bytes], status: int, streams: bool) -> None:
    meter = ApiMeter()
    answer(meter, chunks, status, SSE if streams else {"content-type": "application/json"})
    assert sum(meter.report()["endings"].values()) == 1
