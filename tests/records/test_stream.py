"""What a session used and did, told from real streams of Claude Code to the digit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.events import Event, Lines, parse_line, parse_transcript, turn_marker
from harness.records.files import MAX_LINE
from harness.records.session import Session, ToolUse
from harness.records.session_fields import session_fields
from harness.records.stream import AFTER_RESULT, OTHER_SESSION, OUT_OF_ORDER, SessionBuilder
from harness.records.usage import ModelUsage, Tokens

STREAMS = Path(__file__).parents[1] / "data" / "streams"
SERVED: dict[str, Any] = json.loads((STREAMS / "served.json").read_text())

NAMES = sorted(SERVED)
BILLED = sorted(name for name in NAMES if name != "killed")

Json = dict[str, Any]


def stream(*names: str) -> bytes:
    """Recorded streams; several are the runs of one session, with harness's marker between them."""
    first, *more = ((STREAMS / f"{name}.jsonl").read_bytes() for name in names)
    return first + b"".join(turn_marker(turn, "go on") + data for turn, data in enumerate(more, 2))


def tally(data: bytes) -> SessionBuilder:
    return SessionBuilder().add_all(parse_transcript(data))


def session(*names: str) -> Session:
    return tally(stream(*names)).session()


def results(*names: str) -> list[Json]:
    """The raw `result` events."""
    return [dict(event.raw) for event in parse_transcript(stream(*names)) if event.kind == "result"]


def served(name: str) -> dict[str, Tokens]:
    """What the scripted API sent, by model."""
    return {model: Tokens(**usage) for model, usage in SERVED[name]["served"].items()}


def line(**raw: Any) -> bytes:
    return json.dumps(raw).encode() + b"\n"


def message(identity: str, output: int, model: str = "m", *blocks: Json) -> bytes:
    """An `assistant` event."""
    content = {"id": identity, "model": model, "content": list(blocks), "usage": {"output_tokens": output}}
    return line(type="assistant", message=content)


def result(models: dict[str, int], **raw: Any) -> bytes:
    """A `result` event that bills output tokens by model."""
    usage = {model: {"outputTokens": output} for model, output in models.items()}
    return line(type="result", modelUsage=usage, **raw)


INIT = line(type="system", subtype="init", session_id="s")
BACKGROUND = line(type="system", subtype="background_tasks_changed", session_id="s", tasks=[{"task_id": "b"}])
BASH: Json = {"type": "tool_use", "id": "call", "name": "Bash", "input": {}}
BASH_DONE = line(type="user", message={"content": [{"type": "tool_result", "tool_use_id": "call"}]})


# What a session used


@pytest.mark.parametrize("name", BILLED)
def test_tokens_are_what_the_api_served(name: str) -> None:
    """By model, to the digit: with tools, subagents, errors, stops by turns or budget, resumed or not."""
    found = session(name)
    assert {model: usage.tokens for model, usage in found.models.items()} == served(name)
    assert found.tokens == sum(served(name).values(), Tokens())
    assert not found.partial


@pytest.mark.parametrize("name", BILLED)
def test_cost_and_times_are_the_clis_own(name: str) -> None:
    """The last result's cost and API time, which count up; durations and turns of all results together."""
    found, raw = session(name), results(name)
    assert found.cost_usd == raw[-1]["total_cost_usd"]
    assert found.duration_api_ms == raw[-1]["duration_api_ms"]
    assert found.duration_ms == sum(result["duration_ms"] for result in raw)
    assert found.num_turns == sum(result["num_turns"] for result in raw)


def test_cost_is_told_by_model() -> None:
    """A subagent on another model has its own line, and they add up to the session's cost."""
    found = session("subagent")
    costs = [usage.cost_usd for usage in found.models.values()]
    assert sorted(found.models) == ["claude-haiku-5-5", "claude-opus-5-5"]
    assert sum(cost for cost in costs if cost is not None) == pytest.approx(found.cost_usd)


def test_a_resumed_session_counts_everything_once() -> None:
    """Tokens, cost and API time are the last run's, which count from the session's start; the rest adds up."""
    found, (first, second) = session("resumed_1", "resumed_2"), results("resumed_1", "resumed_2")
    assert {model: usage.tokens for model, usage in found.models.items()} == served("resumed_2")
    assert found.cost_usd == second["total_cost_usd"] > first["total_cost_usd"]
    assert found.duration_api_ms == second["duration_api_ms"] > first["duration_api_ms"]
    assert found.duration_ms == first["duration_ms"] + second["duration_ms"]
    assert found.num_turns == first["num_turns"] + second["num_turns"] == 7
    assert [turn.tokens for turn in found.turns] == [
        sum(served(name).values(), Tokens()) for name in ("resumed_1", "resumed_2")
    ]
    assert not found.partial


def test_a_background_subagents_turn_belongs_to_the_same_run() -> None:
    """Such a run has two `result` events, and is one prompt's run all the same."""
    found = session("background")
    assert len(results("background")) == 2
    assert len(found.turns) == 1
    assert found.num_turns == 3
    assert found.turns[0].text == "There are two files."


def test_a_killed_run_is_a_lower_bound() -> None:
    """Without a result: the messages seen, each once, with what its start said; cost and durations unknown."""
    found = session("killed")
    assert found.partial
    seen, true = found.tokens, served("killed")["claude-opus-5-5"]
    assert (seen.input, seen.cache_read, seen.cache_creation) == (
        true.input,
        true.cache_read,
        true.cache_creation,
    )
    assert seen.output == 4 < true.output
    assert found.models == {"claude-opus-5-5": ModelUsage(seen, None)}
    assert (found.cost_usd, found.duration_ms, found.duration_api_ms, found.num_turns) == (None,) * 4
    assert found.session_id is not None


def test_a_message_in_several_events_counts_once() -> None:
    """One event comes for each content block, each repeating the same usage."""
    twice = message("a", 7) + message("a", 7)
    assert tally(INIT + twice).session().tokens == Tokens(output=7)


def test_a_killed_runs_tokens_are_added_to_later_results() -> None:
    """A resumed session's results do not know the runs that were killed; they are a part of the bound."""
    data = (
        INIT
        + message("a", 7)
        + turn_marker(2, "go on")
        + INIT
        + message("b", 1)
        + result({"m": 30}, total_cost_usd=1)
    )
    found = tally(data).session()
    assert found.tokens == Tokens(output=37)
    assert found.partial
    assert found.cost_usd is None
    assert len(found.turns) == 1


def test_what_goes_on_after_a_result_is_not_lost() -> None:
    """A run cut off in a background subagent's turn: what came after the first result counts, as a bound."""
    ended = INIT + message("a", 1) + BACKGROUND + result({"m": 30}, total_cost_usd=1)
    going_on = tally(ended + INIT + message("b", 2))
    found = going_on.session()
    assert found.tokens == Tokens(output=32)
    assert found.partial
    assert found.cost_usd is None
    assert not going_on.ended


def test_a_made_up_message_costs_nothing() -> None:
    """What the CLI itself says in the model's place (an API error) has no model, and no tokens."""
    assert "<synthetic>" in stream("unauthorized").decode()
    assert all(found.models == {} for found in prefixes(stream("unauthorized")))
    found = session("unauthorized")
    assert found.tokens == Tokens()
    assert not found.partial


# What a session did


def test_tools_are_counted_by_name_with_their_errors() -> None:
    """Two calls in one message are two; a failing one is an error."""
    assert session("success").tools == {
        "Bash": ToolUse(calls=2, errors=1),
        "Edit": ToolUse(calls=1),
        "Read": ToolUse(calls=1),
        "Write": ToolUse(calls=1),
    }


@pytest.mark.parametrize("name", ["subagent", "background"])
def test_a_subagents_calls_are_told_apart(name: str) -> None:
    """They count as calls of the tool, and as made by a subagent."""
    assert session(name).tools == {"Agent": ToolUse(calls=1), "Bash": ToolUse(calls=1, in_subagents=1)}


def test_mcp_servers_and_tools_are_told() -> None:
    """From `init`: each server's state, and the tools that were offered."""
    found = session("mcp")
    assert found.mcp_servers == {"echo": "connected", "broken": "failed"}
    assert "mcp__echo__say" in found.tools_offered
    assert found.tools["mcp__echo__say"] == ToolUse(calls=1)


@pytest.mark.parametrize(
    ("name", "retries", "status"), [("success", 0, None), ("retried", 1, 529), ("unauthorized", 1, 401)]
)
def test_retries_are_counted(name: str, retries: int, status: int | None) -> None:
    """Each announced retry, and the status that the last one was for."""
    found = session(name)
    assert (found.api_retries, found.last_retry_status) == (retries, status)


@pytest.mark.parametrize(
    ("name", "reason", "status"),
    [
        ("success", "completed", None),
        ("max_turns", "max_turns", None),
        ("budget", "budget_exhausted", None),
        ("api_error", "api_error", 400),
        ("prompt_too_long", "prompt_too_long", 400),
        ("unauthorized", "api_error", 401),
    ],
)
def test_how_it_ended_is_told(name: str, reason: str, status: int | None) -> None:
    """The reason and the API's status, which decide what became of the run."""
    (turn,) = session(name).turns
    assert (turn.terminal_reason, turn.api_error_status) == (reason, status)
    assert turn.is_error == (name != "success")


@pytest.mark.parametrize("name", NAMES)
def test_who_and_where_is_told(name: str) -> None:
    """Session, model, version and directory, from `init`, known even for a killed run."""
    found = session(name)
    assert found.session_id
    assert found.model == "claude-opus-5-5"
    assert found.claude_version
    assert found.cwd == "/home/user/repo"


def test_whose_turn_it_is() -> None:
    """The model owes a reply unless a tool is running; a subagent at work waits for the model too."""
    events = parse_transcript(stream("subagent"))
    live, owed = SessionBuilder(), []
    for event in events:
        live.add(event)
        owed.append((event.kind, event.parent is not None, live.awaits_model))
    assert owed[0] == ("system", False, True)
    assert ("assistant", False, True) in owed, "a subagent's first reply is awaited"
    assert ("assistant", True, False) in owed, "the subagent's tool runs"
    assert ("user", True, True) in owed
    assert owed[-1] == ("result", False, False)
    assert live.ended


# What Claude Code cannot have written

HONEST = INIT + message("a", 3, "m", BASH) + BASH_DONE + message("b", 4) + result({"m": 30}, num_turns=2)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_claude_code_says_is_taken_for_forged(name: str) -> None:
    """Whatever its real streams hold: subagents in the background, retries, broken messages, torn ends."""
    assert session(name).forged == {}


@pytest.mark.parametrize(
    ("before", "forged", "after", "why"),
    [
        (HONEST, result({"m": 1}, num_turns=1), b"", AFTER_RESULT),
        (HONEST, message("c", 900, "m", {**BASH, "name": "mcp__x__y", "id": "c"}), b"", AFTER_RESULT),
        (HONEST, INIT, b"", AFTER_RESULT),
        (HONEST, line(type="system", subtype="api_retry", error_status=401), b"", AFTER_RESULT),
        (
            INIT,
            line(type="result", session_id="t", terminal_reason="completed"),
            HONEST[len(INIT) :],
            OTHER_SESSION,
        ),
        (
            INIT + message("a", 3, "m", BASH),
            result({"m": 1}, terminal_reason="completed"),
            HONEST[len(INIT + message("a", 3, "m", BASH)) :],
            OUT_OF_ORDER,
        ),
        (
            INIT + message("a", 3, "m", BASH),
            message("x", 900),
            HONEST[len(INIT + message("a", 3, "m", BASH)) :],
            OUT_OF_ORDER,
        ),
        (
            INIT,
            line(type="user", message={"content": [{"type": "tool_result", "tool_use_id": "nobody's"}]}),
            HONEST[len(INIT) :],
            OUT_OF_ORDER,
        ),
        (
            INIT,
            line(type="assistant", parent_tool_use_id="nobody's", message={"id": "x", "model": "m"}),
            HONEST[len(INIT) :],
            OUT_OF_ORDER,
        ),
    ],
)
def test_what_cannot_be_is_told_and_never_counted(
    before: bytes, forged: bytes, after: bytes, why: str
) -> None:
    """After the result, of another session, or out of order: the session is what it would be without."""
    found = tally(before + forged + after).session()
    assert found.forged == {why: 1}
    assert replace(found, forged={}) == tally(HONEST).session()


def test_the_next_turn_is_one_of_its_own() -> None:
    """What follows a turn's result in the next turn is no forgery, and what is forged there is told as well."""
    twice = HONEST + turn_marker(2, "go on") + INIT + message("c", 5) + result({"m": 40})
    assert tally(twice).session().forged == {}
    assert tally(twice + message("d", 5)).session().forged == {AFTER_RESULT: 1}


def test_an_init_that_comes_again_changes_nothing() -> None:
    """Claude Code starts again for what ran in the background; its first word on what it started with stands."""
    other = line(type="system", subtype="init", session_id="s", model="another", tools=["x"])
    found = tally(INIT + BACKGROUND + other).session()
    assert (found.model, found.tools_offered) == (None, ())


# Whatever comes


def test_an_unknown_kind_is_kept_and_changes_nothing() -> None:
    """New kinds appear with every release."""
    strange = line(type="hologram", subtype="new", message=5, usage={"output_tokens": 10**6})
    data = stream("success")
    head, tail = data.split(b"\n", 1)
    events = parse_transcript(head + b"\n" + strange + tail)
    assert events[1] == Event("hologram", "new", json.loads(strange))
    assert SessionBuilder().add_all(events).session() == session("success")


def test_a_line_that_is_no_event_is_kept_and_counted() -> None:
    """A torn line, in the middle of a character too, is one malformed event with all its text."""
    *_, torn = parse_transcript(stream("killed"))
    assert torn.kind == "malformed"
    assert str(torn.raw["line"]).startswith('{"type":"assistant"')
    assert session("killed").malformed == 1
    assert [parse_line(bad).kind for bad in (b"[1]", b"null", b'{"type": 5}', b"{}", b"\xff")] == [
        "malformed"
    ] * 5


def test_a_lone_surrogate_does_not_poison_a_record() -> None:
    """JSON can spell what UTF-8 cannot; whatever an event says can be written down."""
    event = parse_line(rb'{"type": "system", "subtype": "init", "model": "a\ud800b", "cwd": "\ud83d\ude00"}')
    found = SessionBuilder().add_all([event]).session()
    assert found.model == "a?b"
    assert found.cwd == "\N{GRINNING FACE}"


@pytest.mark.parametrize("line", [b'{"type": "x", "a": "\xed\xa0\x80"}', '{"type": "x"}'.encode("utf-16")])
def test_what_is_no_utf_8_is_no_event(line: bytes) -> None:
    """Halves of surrogates as bytes, and other encodings: their text can be written down all the same."""
    event = parse_line(line)
    assert event.kind == "malformed"
    str(event.raw["line"]).encode("utf-8")


def test_numbers_that_cannot_be_are_unknown() -> None:
    """An agent can write into its own stream; a negative or endless count does not reach the record."""
    odd = result(
        {"m": -5}, duration_ms=-1, total_cost_usd=float("inf"), num_turns=True, duration_api_ms=10**400
    )
    found = tally(INIT + odd).session()
    assert found.tokens == Tokens()
    assert (found.duration_ms, found.duration_api_ms, found.num_turns, found.cost_usd) == (None,) * 4


def nested(levels: int) -> Any:
    """A list in a list in a list ..."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("told", "is_kept"),
    [
        ({"sum": 42, "parts": [nested(50)]}, True),
        (nested(195), False),
        ("x" * 300_000, False),
        (float("nan"), False),
    ],
    ids=["honest", "deep", "long", "no number"],
)
def test_a_structured_output_is_what_a_record_can_hold(told: Any, is_kept: bool) -> None:
    """A deeper one could not be written, or not read again; a longer one makes the record too large to be read."""
    found = tally(INIT + result({"m": 5}, structured_output=told)).session()
    (turn,) = session_fields(found)["turns"]
    read = type(turn).model_validate_json(turn.model_dump_json())
    assert read.structured_output == (told if is_kept else None)


def test_an_event_of_any_depth_is_one() -> None:
    """A call whose input is too deep for Python is a call; else nobody would have acted before the CLI was killed."""
    deep = b"[" * 5_000 + b'"]"' + b"]" * 5_000
    call = message("a", 1, "m", {**BASH, "input": {"command": "true", "x": "DEEP"}, "name": "Bash"})
    live = tally(INIT + call.replace(b'"DEEP"', deep))
    found = live.session()
    assert (live.has_called_tool, found.malformed) == (True, 0)
    assert found.calls[0].input["command"] == "true"
    json.dumps(found.calls[0].input)
    # As many brackets, of which none is too deep, and what has no end.
    flat = message("b", 1, "m", {**BASH, "input": {"a": [["]", {"b": '\\"['}]] * 300}})
    assert json.loads(flat) == parse_line(flat).raw
    assert [parse_line(line).kind for line in (b"{" * 300, b'{"' + b'[\\"' * 300_000)] == ["malformed"] * 2


def test_a_line_without_an_end_takes_no_more_memory_than_a_line_may_have() -> None:
    """And the next line is one of its own."""
    lines, piece = Lines(), b"x" * (MAX_LINE // 4)
    found = [line for _ in range(9) for line in lines.feed(piece)] + lines.feed(b"x\nnext\n")
    assert [len(line) for line in found] == [MAX_LINE + 1, 4]


@given(st.data())
def test_chunks_may_end_anywhere(data: st.DataObject) -> None:
    """Inside a line, a character or an escape: the same lines come out."""
    whole = stream(data.draw(st.sampled_from(NAMES)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    lines = Lines()
    found = [
        line
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)
        for line in lines.feed(whole[start:end])
    ]
    assert [*found, *lines.finish()] == [line for line in whole.split(b"\n") if line]
    assert lines.finish() == []


def test_a_chunk_of_one_byte_each() -> None:
    """The finest cut of all, over a stream that ends inside a character."""
    lines = Lines()
    whole = stream("killed")[-4000:]
    found = [line for byte in whole for line in lines.feed(bytes([byte]))]
    assert [*found, *lines.finish()] == whole.split(b"\n")


@given(st.lists(st.binary(max_size=60)))
def test_no_bytes_can_raise(chunks: list[bytes]) -> None:
    """Any bytes at all are events, and a session."""
    data = b"\n".join(chunks)
    events = parse_transcript(data)
    assert len(events) == sum(bool(line.strip()) for line in data.split(b"\n"))
    SessionBuilder().add_all(events).session()


JUNK = st.sampled_from(
    [
        "null",
        "true",
        "-1",
        "1" + "0" * 400,
        "NaN",
        "Infinity",
        '""',
        r'"\ud800"',
        "[]",
        "[[]]",
        "[null]",
        "{}",
        '{"type": []}',
    ]
).map(json.loads)


@given(st.data())
def test_no_event_can_raise(data: st.DataObject) -> None:
    """Whatever stands anywhere in a known event, there is a session, and its numbers can be true."""
    events = [dict(event.raw) for event in parse_transcript(stream(data.draw(st.sampled_from(BILLED))))]
    for _ in range(data.draw(st.integers(1, 4))):
        place: Any = data.draw(st.sampled_from(events))
        while True:
            key = data.draw(st.sampled_from(range(len(place)) if isinstance(place, list) else sorted(place)))
            if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(JUNK)
    found = tally(b"".join(line(**event) for event in events)).session()
    assert (
        min(found.tokens.input, found.tokens.output, found.tokens.cache_read, found.tokens.cache_creation)
        >= 0
    )
    assert found.cost_usd is None or 0 <= found.cost_usd < float("inf")


def prefixes(data: bytes) -> Iterator[Session]:
    """The session as it was known after each line."""
    live = SessionBuilder()
    for event in parse_transcript(data):
        live.add(event)
        yield live.session()


@pytest.mark.parametrize(
    "names", [*((name,) for name in NAMES if name != "resumed_2"), ("resumed_1", "resumed_2")], ids="+".join
)
def test_tokens_only_grow_while_a_session_goes_on(names: tuple[str, ...]) -> None:
    """Messages are a lower bound of their run's result, and each result counts all runs before it."""
    seen = [found.tokens for found in prefixes(stream(*names))]
    for before, after in itertools.pairwise(seen):
        assert before.input <= after.input
        assert before.output <= after.output
        assert before.cache_read <= after.cache_read
        assert before.cache_creation <= after.cache_creation


@pytest.mark.parametrize("name", BILLED)
def test_a_run_is_partial_until_its_result(name: str) -> None:
    """Cost is told only when it is whole."""
    *before, last = prefixes(stream(name))
    first = next(
        index for index, event in enumerate(parse_transcript(stream(name))) if event.kind == "result"
    )
    assert all(found.partial and found.cost_usd is None for found in before[:first])
    assert not last.partial


# Runs without a result, one after the other


def test_two_runs_without_a_result_count_each_message_once() -> None:
    """The first one's messages are kept for the bound, and those of the second come on top."""
    killed = INIT + message("a", 7) + turn_marker(2, "go on")
    assert tally(killed).session().tokens == Tokens(output=7)
    assert tally(killed + INIT + message("b", 1)).session().tokens == Tokens(output=8)
    third = killed + INIT + message("b", 1) + turn_marker(3, "go on") + INIT + message("c", 2)
    assert tally(third).session().tokens == Tokens(output=10)


def test_a_run_without_a_result_adds_to_the_bill_before_it() -> None:
    """The first run's result has its own messages in it: they are not counted again when the second is cut off."""
    billed = INIT + message("a", 7) + result({"m": 30}, total_cost_usd=1)
    found = tally(billed + turn_marker(2, "go on") + INIT + message("b", 2)).session()
    assert found.tokens == Tokens(output=32)
    assert len(found.turns) == 1


@pytest.mark.parametrize("end", [b"", result({"m": 30}, total_cost_usd=1)], ids=["cut off", "with a result"])
def test_a_tool_that_never_answered_is_not_waited_for_in_the_next_run(end: bytes) -> None:
    """Between the runs nothing is awaited; the next run begins with the model's reply."""
    live = tally(INIT + message("a", 7, "m", {"type": "tool_use", "id": "t", "name": "Bash"}))
    assert not live.awaits_model
    live.add_all(parse_transcript(end + turn_marker(2, "go on")))
    assert not live.awaits_model
    live.add_all(parse_transcript(INIT))
    assert live.awaits_model


def test_a_tool_that_never_answered_is_not_waited_for_after_a_result() -> None:
    """A run that goes on with a background subagent's report waits for the model."""
    live = tally(INIT + message("a", 7, "m", {"type": "tool_use", "id": "t", "name": "Bash"}))
    live.add_all(parse_transcript(b'{"type": "system", "subtype": "task_started"}\n'))
    live.add_all(parse_transcript(result({"m": 30}, total_cost_usd=1) + INIT))
    assert live.awaits_model


@pytest.mark.parametrize(
    ("event", "ended", "is_told"),
    [
        ("SessionStart", {"exit_code": 0, "stdout": "context"}, True),
        ("SessionStart", {"exit_code": 1, "stdout": "context"}, False),
        ("SessionStart", {"exit_code": 1, "stdout": ""}, True),
        ("SessionStart", {"exit_code": 1, "outcome": "cancelled"}, False),
        ("UserPromptSubmit", {"exit_code": 1, "stdout": "context"}, False),
        ("UserPromptSubmit", {"exit_code": 2, "stdout": "context"}, True),
        ("PreToolUse", {"exit_code": 1, "stdout": "context"}, True),
        ("PreToolUse", {"exit_code": 127}, False),
        ("SessionStart", {"exit_code": 2, "stderr": "sh: 0: cannot open hook.sh: No such file"}, False),
    ],
)
def test_a_hook_of_which_the_model_cannot_hear_is_broken(event: str, ended: Json, is_told: bool) -> None:
    """A start's or a prompt's hook that fails is not told to the model; a prompt's may say no, a tool's is not told."""
    hook = line(type="system", subtype="hook_response", hook_event=event, hook_id="1", **ended)
    assert [broken.event for broken in tally(hook).session().broken_hooks] == ([] if is_told else [event])
