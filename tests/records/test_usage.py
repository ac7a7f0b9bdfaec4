"""What sessions are counted with and priced at: every version of Claude Code, and results that tell nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.records.events import parse_transcript, start_marker, turn_marker
from harness.records.metrics import parse_metrics as metrics_in
from harness.records.prices import plain_name
from harness.records.record import TrialRecord
from harness.records.session import Session
from harness.records.session_fields import notes_of, session_fields
from harness.records.stream import SessionBuilder
from harness.records.usage import Tokens
from tests.support.records import a_record

VERSIONS = Path(__file__).parents[1] / "data" / "streams" / "versions"
SERVED: dict[str, Any] = json.loads((VERSIONS / "served.json").read_text())
KINDS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")

Json = dict[str, Any]


def line(**raw: Any) -> bytes:
    return json.dumps(raw).encode() + b"\n"


def init(version: str | None = None) -> bytes:
    return line(
        type="system", subtype="init", session_id="s", model="claude-opus-5", claude_code_version=version
    )


def message(identity: str, *counts: int, model: str = "claude-opus-5", **raw: Any) -> bytes:
    keys = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    usage = dict(zip(keys, counts, strict=False))
    return line(
        type="assistant", message={"id": identity, "model": model, "usage": usage, "content": []}, **raw
    )


def usage(*counts: Any, cost: float | None = None, **more: Any) -> Json:
    return {**dict(zip(KINDS, counts, strict=False)), **({} if cost is None else {"costUSD": cost}), **more}


def result(model_usage: Any, cost: float | None = 1.0, **raw: Any) -> bytes:
    told = {} if model_usage is None else {"modelUsage": model_usage}
    return line(type="result", total_cost_usd=cost, duration_api_ms=5, num_turns=1, **told, **raw)


def session(*runs: bytes) -> Session:
    """The session of these runs, each of a prompt."""
    data = b"".join(turn_marker(turn, "go") + run for turn, run in enumerate(runs, 1))
    return SessionBuilder().add_all(parse_transcript(data)).session()


def record(found: Session, prices: Any = None) -> TrialRecord:
    """The record that a session comes to."""
    return a_record(**session_fields(found, prices))


def version_runs(version: str) -> list[bytes]:
    return [(VERSIONS / f"{version}-{number}.jsonl").read_bytes() for number in (1, 2, 3)]


# Versions


@pytest.mark.parametrize("version", sorted(SERVED))
def test_a_resumed_session_is_counted_to_the_digit_by_every_version(version: str) -> None:
    """Up to 2.1.273 each run's usage is its own; from 2.1.277 on it is the session's. Cost and API time go with it."""
    runs = version_runs(version)
    found = session(*runs)
    raw = [event.raw for run in runs for event in parse_transcript(run) if event.kind == "result"]
    is_whole = raw[2]["total_cost_usd"] > raw[0]["total_cost_usd"]

    assert found.claude_version == version
    assert found.tokens == sum((Tokens(**one) for one in SERVED[version].values()), Tokens())
    assert is_whole == (version >= "2.1.277")
    assert found.cost_usd == pytest.approx(
        raw[-1]["total_cost_usd"] if is_whole else sum(one["total_cost_usd"] for one in raw)
    )
    assert found.duration_api_ms == (
        raw[-1]["duration_api_ms"] if is_whole else sum(one["duration_api_ms"] for one in raw)
    )
    assert not found.is_bound
    assert [turn.tokens and turn.tokens.output for turn in record(found).turns] == [73, 20, 13]


@pytest.mark.parametrize("version", sorted(SERVED))
def test_the_numbers_tell_whose_usage_it_is_without_a_version(version: str) -> None:
    """The messages of a run tell what it used; what is beyond that is of the runs before."""
    nameless = [
        run.replace(f'"claude_code_version":"{version}"'.encode(), b'"x":1') for run in version_runs(version)
    ]
    found = session(*nameless)

    assert found.claude_version is None
    assert found.tokens == session(*version_runs(version)).tokens
    assert not found.is_bound


def test_what_cannot_be_told_is_marked() -> None:
    """A later run's usage may be its own or the session's: tokens are a lower bound then, and the cost is unknown."""
    first = init() + message("a", 100) + result({"m": usage(100, 1)})
    unclear = init() + message("b", 50) + result({"m": usage(100, 2)})
    found = session(first, unclear)

    assert found.is_bound
    assert (found.cost_usd, found.tokens.input) == (None, 150)
    assert any("lower bound" in note for note in notes_of(found))


def test_an_old_version_is_believed_even_where_a_later_run_used_more() -> None:
    """Usage that grows from run to run is no sign that it is the session's."""
    first = init("2.0.76") + result({"m": usage(10, 1, cost=1.0)})
    second = init("2.0.76") + result({"m": usage(500, 9, cost=2.0)}, cost=2.0)
    found = session(first, second)

    assert found.tokens == Tokens(510, 10)
    assert found.cost_usd == 3.0


# Results that do not tell


NONSENSE: list[Any] = [
    None,
    "much",
    [],
    {"claude-opus-5": None},
    {"claude-opus-5": {}},
    *(
        {"claude-opus-5": usage(40, bad)}
        for bad in (-5, 3.5, "7", True, float("nan"), 2**60, 10**400, None, [])
    ),
    {"claude-opus-5": usage(40, 30), "claude-haiku-4-5": usage(-1, 5)},
    {},
    {"claude-opus-5": usage(0, 0)},
]


@pytest.mark.parametrize("told", NONSENSE)
def test_a_result_that_tells_no_count_gives_null_and_lowers_nothing(told: Any) -> None:
    """Its own numbers are null; what was counted before and the messages since stay, as a lower bound."""
    first = init("2.1.332") + message("a", 20, 1) + result({"claude-opus-5": usage(20, 9, costBasis="list")})
    found = session(first, init() + message("b", 30, 1) + result(told))
    line = record(found)

    assert found.tokens == Tokens(50, 10)
    assert (line.tokens_partial, line.cost_usd, line.cost_source) == (True, None, None)
    assert line.turns[1].tokens.total is None
    assert line.turns[1].cost_usd is None
    assert line.duration_ms is None
    assert metrics_in(json.dumps(line.line()).encode()).tokens is None


@pytest.mark.parametrize("told", NONSENSE[:-2])
def test_a_session_of_which_nothing_is_told_has_null(told: Any) -> None:
    """Not 0, which would say that nothing was used."""
    line = record(session(init() + result(told)))
    assert (line.tokens.total, line.tokens.input, line.cost_usd) == (None, None, None)


def test_an_api_that_refused_at_once_has_used_nothing() -> None:
    """Claude Code tells it by an empty table, and is believed where no message came."""
    line = record(session(init("2.1.332") + result({}, cost=0.0)))
    assert (line.tokens.total, line.cost_usd, line.tokens_partial) == (0, 0.0, False)


def test_a_later_result_of_the_same_run_cannot_take_back_what_was_counted() -> None:
    """One that tells less is not believed; one that tells all makes the run known again."""
    background = line(
        type="system", subtype="background_tasks_changed", session_id="s", tasks=[{"task_id": "b"}]
    )
    start = init("2.1.332") + message("a", 20) + background
    less = session(start + result({"m": usage(50, 5)}) + init() + result({"m": usage(30, 5)}))
    more = session(start + result({"m": usage("?", 5)}) + init() + result({"m": usage(60, 5)}))

    assert (less.tokens.input, less.is_bound) == (50, True)
    assert (more.tokens.input, more.is_bound) == (60, False)


# Prices


def priced(basis: str | None = None, name: str = "glm-4.6", **raw: Any) -> Session:
    told = usage(1_000_000, 100_000, 0, 0, cost=0.4, **({"costBasis": basis} if basis else {}))
    return session(init() + message("a", 1_000_000, 1, model=name) + result({name: told}, cost=0.4, **raw))


def test_a_model_that_claude_code_does_not_know_has_no_cost() -> None:
    """It says so itself, or, of older versions, its name and its price do not fit."""
    for found in (
        priced("unknown"),
        priced(None),
        priced("unknown", "claude-opus-9"),
        priced(None, "claude-opus-5"),
    ):
        line = record(found)
        assert (line.cost_usd, line.cost_source) == (None, None)
        assert [model.cost_usd for model in line.models.values()] == [None]
        assert line.turns[0].cost_usd is None
        assert line.tokens.total == 1_100_000
    assert found.cost_usd == 0.4, "what Claude Code guessed is known, for a limit of spending"


def test_a_known_models_cost_is_claude_codes_and_says_so() -> None:
    """By list prices, or by those of the organization."""
    for basis in ("list", "managed"):
        line = record(priced(basis))
        assert (line.cost_usd, line.cost_source) == (0.4, basis)
    assert record(session(*version_runs("2.1.228"))).cost_source == "list"
    assert record(session(*version_runs("2.1.332"))).cost_source == "list"


def test_a_price_that_is_given_goes_first() -> None:
    """By kind, for a million tokens; the record says that it was given, and has it."""
    given = {"glm-4.6": {"input": 0.6, "output": 2.2}}
    for basis in ("unknown", "list", None):
        line = record(priced(basis), given)
        assert line.cost_usd == pytest.approx(0.6 + 0.22)
        assert (line.cost_source, line.models["glm-4.6"].cost_source) == ("given", "given")
        assert line.prices == given


def test_a_kind_without_a_price_leaves_the_cost_unknown() -> None:
    """It is not guessed from the others."""
    told = {"glm-4.6": usage(1000, 10, 500, 0, cost=0.1)}
    found = session(init() + result(told))
    given = {"glm-4.6": {"input": 0.6, "output": 2.2}}
    assert record(found, given).cost_usd is None
    given["glm-4.6"]["cache_read"] = 0.1
    assert record(found, given).cost_usd == pytest.approx((600 + 22 + 50) / 1e6)


def test_a_guess_in_one_run_makes_the_whole_cost_a_guess() -> None:
    """Claude Code tells the basis of the last request only."""
    first = init() + message("a", 10) + result({"m": usage(10, 5, cost=1.0, costBasis="unknown")})
    second = init() + message("b", 10) + result({"m": usage(20, 9, cost=2.0, costBasis="list")}, cost=2.0)
    assert record(session(first, second)).cost_usd is None


def test_a_basis_that_is_not_told_again_stands() -> None:
    """After --resume a model that is not asked again has none."""
    first = init() + message("a", 10, model="x") + result({"x": usage(10, 5, cost=1.0, costBasis="list")})
    both = {"x": usage(10, 5, cost=1.0), "y": usage(3, 3, cost=0.5, costBasis="list")}
    line = record(session(first, init() + message("b", 3, model="y") + result(both, cost=1.5)))
    assert (line.cost_usd, line.cost_source) == (1.5, "list")


# Who answered


def test_a_gateway_that_answers_with_another_model_is_told() -> None:
    """Claude Code counts and prices by the name that it asked for."""
    told = {"claude-opus-5": usage(1_000_000, 0, cost=5.0, costBasis="list")}
    found = session(init() + message("a", 5, model="glm-4.6") + result(told))
    line = record(found)

    assert line.answered == {"glm-4.6": 1}
    assert (line.cost_usd, line.tokens.total) == (None, 1_000_000)
    assert notes_of(found) == (
        "claude-opus-5 was asked for, and another model answered: glm-4.6 (1 of 1 replies)",
    )
    assert record(found, {"glm-4.6": {"input": 0.6, "output": 2}}).cost_usd == pytest.approx(0.6)


def test_a_fallback_is_told() -> None:
    """Both have answered, and each is priced."""
    told = {
        "claude-opus-5": usage(10, 0, cost=1.0, costBasis="list"),
        "claude-sonnet-5": usage(10, 0, cost=0.5, costBasis="list"),
    }
    answers = message("a", 10) + message("b", 10, model="claude-sonnet-5")
    line = record(session(init() + answers + result(told, cost=1.5)))
    assert line.answered == {"claude-opus-5": 1, "claude-sonnet-5": 1}
    assert (line.cost_usd, line.requests) == (1.5, 2)
    assert metrics_in(json.dumps(line.line()).encode()).answered == ("claude-opus-5", "claude-sonnet-5")


@pytest.mark.parametrize(
    "name",
    ["claude-opus-4-5", "claude-opus-4-5-20251101", "us.anthropic.claude-opus-4-5-20251101-v1:0", "claude-opus-4-5[1m]",
     "anthropic/claude-opus-4-5", "CLAUDE-OPUS-4-5", "claude-opus-4-5@20251101"],
)  # fmt: skip
def test_names_of_one_model_are_one(name: str) -> None:
    """A dated name or a provider's is no other model."""
    assert plain_name(name) == "claude-opus-4-5"


# Waits


def stamped(second: float, kind: str, *blocks: Json, **content: Any) -> bytes:
    moment = f"2026-11-27T09:00:{second:06.3f}Z"
    return line(type=kind, timestamp=moment, message={"content": list(blocks), **content})


def call(identity: str, second: float, name: str = "mcp__s__t") -> bytes:
    block = {"type": "tool_use", "id": identity, "name": name, "input": {}}
    return stamped(second, "assistant", block, id=f"m{identity}", model="m")


def answer(identity: str, second: float) -> bytes:
    return stamped(second, "user", {"type": "tool_result", "tool_use_id": identity})


def test_waits_are_fields_of_their_own() -> None:
    """For the API before it is asked again, for MCP servers' answers (once, where they overlap), for the start."""
    retries = line(type="system", subtype="api_retry", retry_delay_ms=592.4) * 2
    calls = (
        call("a", 1) + call("b", 2) + answer("a", 4) + answer("b", 5) + call("c", 7, "Bash") + answer("c", 9)
    )
    found = session(init() + start_marker(700) + retries + calls + result({"m": usage(1, 1)}))
    line_ = record(found)
    assert (line_.start_ms, line_.retry_wait_ms, line_.mcp_wait_ms) == (700, 1185, 4000)


def test_a_wait_that_is_not_told_is_unknown() -> None:
    """Older versions give no times; nonsense is none either."""
    untimed = [
        call("a", 1).replace(b'"timestamp"', b'"x"') + answer("a", 2),
        call("a", 1) + answer("a", 2).replace(b"2026-11-27T", b"soon"),
    ]
    for calls in untimed:
        assert record(session(init() + calls + result({}))).mcp_wait_ms is None
    told = line(type="system", subtype="api_retry", retry_delay_ms="long")
    found = record(session(init() + told + result({})))
    assert (found.retry_wait_ms, found.start_ms, found.api_retries) == (None, None, 1)


def test_steps_are_what_claude_code_calls_turns() -> None:
    """An older record has only the other name."""
    line_ = record(session(init() + message("a", 1) + result({"m": usage(1, 1)})))
    assert (line_.steps, line_.num_turns, line_.requests) == (1, 1, 1)
    old = {name: value for name, value in line_.line().items() if name not in ("steps", "answered")}
    assert metrics_in(json.dumps({**old, "num_turns": 7}).encode()).turns == 7
