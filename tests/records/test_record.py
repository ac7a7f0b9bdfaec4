"""The record is what its shipped schema says, now and for readers of an older version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import harness.records.record
from harness.errors import AgentFault, SandboxFault
from harness.records.events import parse_transcript
from harness.records.record import TrialRecord, schema
from harness.records.record_parts import AttemptRecord, ErrorRecord, TokenCounts
from harness.records.session import Session, TurnResult
from harness.records.session_fields import session_fields
from harness.records.stream import SessionBuilder
from harness.records.trial_spec import TrialSpec
from harness.records.usage import Tokens
from harness.tasks.manifest import SandboxSpec
from harness.tasks.task import Task
from harness.variants.variant import DEFAULT, Variant
from tests.support.records import a_record, any_record

SHIPPED = Path(harness.records.record.__file__).with_name("record.schema.json")
STREAMS = Path(__file__).parents[1] / "data" / "streams"

Json = dict[str, Any]

fewer = settings(max_examples=40)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SHIPPED.read_text()))


# The schema


def test_the_shipped_schema_is_the_codes() -> None:
    """Users and their tools read the file."""
    remedy = "write it anew: python -m harness.records.record > harness/records/record.schema.json"
    assert json.loads(SHIPPED.read_text()) == schema(), remedy


def test_the_schema_is_one() -> None:
    """JSON Schema 2020-12, by its own schema."""
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema())


def objects(part: Any) -> Iterator[Json]:
    """Every object in the schema that has properties."""
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict) and part.get("type") == "object":
            yield part
        for inner in part.values():
            yield from objects(inner)


def test_every_field_is_documented() -> None:
    """In words, so that nobody has to guess a meaning or a unit."""
    found = {part["title"]: part for part in objects(schema())}
    assert "TrialRecord" in found
    for name, part in found.items():
        assert part.get("description"), name
        bare = [field for field, about in part["properties"].items() if not about.get("description")]
        assert not bare, f"{name} has fields without a description: {bare}"


@fewer
@given(record=any_record())
def test_every_record_is_valid(validator: jsonschema.Draft202012Validator, record: TrialRecord) -> None:
    """Whatever its values."""
    validator.validate(record.line())


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "great"},
        {"score": 1.5},
        {"index": 0},
        {"duration_ms": -1},
        {"tokens": {"input": "many"}},
        {"sandbox": {"kind": "cloud"}},
        {"schema_version": 2},
        {"checks": None},
    ],
    ids=str,
)
def test_what_is_no_record_is_invalid(validator: jsonschema.Draft202012Validator, change: Json) -> None:
    """The schema tells it as the code does."""
    line = {**a_record().line(), **change}
    assert not validator.is_valid(line)
    with pytest.raises(ValueError, match=next(iter(change))):
        TrialRecord.model_validate_json(json.dumps(line))


@pytest.mark.parametrize("field", ["cost_usd", "score"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_is_finite(field: str, number: float) -> None:
    """JSON has no other."""
    line = {**a_record().line(), field: number}
    with pytest.raises(ValueError, match=field):
        TrialRecord.model_validate(line)


# Versions


def places(line: Json) -> list[Json]:
    """Every object of a line where a newer version could have a field more."""
    parts = [line, line["sandbox"], line["tokens"], line["phases_ms"], line["error"]]
    return [
        *(part for part in parts if part),
        *line["checks"],
        *line["turns"],
        *line["models"].values(),
        *line["tools"].values(),
    ]


@fewer
@given(record=any_record(), data=st.data())
def test_fields_of_a_newer_version_are_kept(
    validator: jsonschema.Draft202012Validator, record: TrialRecord, data: st.DataObject
) -> None:
    """A record that passes through an older harness loses nothing, and is valid to it."""
    line = record.line()
    place = data.draw(st.sampled_from(places(line)))
    place["new_in_9"] = data.draw(
        st.none() | st.integers(0, 9) | st.text(max_size=5) | st.lists(st.booleans(), max_size=2)
    )
    again = TrialRecord.model_validate_json(json.dumps(line)).line()
    assert again == line
    validator.validate(again)


def test_a_record_of_an_older_version_is_read() -> None:
    """Fields that it does not have yet are unknown."""
    required = {name for name, info in TrialRecord.model_fields.items() if info.is_required()}
    line = {name: value for name, value in a_record().line().items() if name in required}
    found = TrialRecord.model_validate_json(json.dumps(line))
    assert found.tokens == TokenCounts()
    assert (found.cost_usd, found.duration_ms, found.tokens.total) == (None, None, None)


# What goes into it


def test_a_trial_has_a_name_of_its_own() -> None:
    """Task, variant and index, as pytest's ids have it; the variant's template goes before the task's."""
    task = Task("answer", None, "", sandbox=SandboxSpec(template="base"))
    assert TrialSpec(task, DEFAULT, 3, "claude").id == "answer[default-t3]"
    assert TrialSpec(task, DEFAULT, 1, "claude").template == "base"
    assert TrialSpec(task, Variant("v", template="mine"), 1, "claude").template == "mine"
    assert TrialSpec(task, Variant("v", mcp_gateway={}), 1, "claude").template == "base"
    plain = replace(task, sandbox=SandboxSpec())
    assert TrialSpec(plain, Variant("v", mcp_gateway={}), 1, "claude").template == "mcp-gateway"
    assert TrialSpec(plain, Variant("v", mcp_gateway={}, template="mine"), 1, "claude").template == "mine"


VARIANTS = [
    Variant("a"),
    Variant("a", model="opus"),
    Variant("a", template="base"),
    Variant("a", args=("--x",)),
    Variant("a", args=("--x", "--y")),
    Variant("a", env={"A": "1"}),
    Variant("a", env={"A": "2"}),
]


def test_a_variants_hash_is_what_it_sets() -> None:
    """Not its name, nor the order in which its variables were written."""
    assert len({variant.hash for variant in VARIANTS}) == len(VARIANTS)
    assert Variant("a").hash == Variant("b").hash == DEFAULT.hash
    assert Variant(env={"A": "1", "B": "2"}).hash == Variant(env={"B": "2", "A": "1"}).hash


def test_what_a_session_used_is_in_the_record() -> None:
    """By model and by prompt, tools and servers too."""
    events = parse_transcript((STREAMS / "subagent.jsonl").read_bytes())
    session = SessionBuilder().add_all(events).session()
    record = a_record(**session_fields(session))
    assert record.tokens == TokenCounts.of(session.tokens)
    assert record.tokens.total == session.tokens.total
    assert {name: counts.cost_usd for name, counts in record.models.items()} == {
        name: usage.cost_usd for name, usage in session.models.items()
    }
    assert (record.cost_usd, record.duration_ms, record.num_turns) == (
        session.cost_usd,
        session.duration_ms,
        session.num_turns,
    )
    assert record.tools["Bash"].model_dump() == {"calls": 1, "errors": 0, "in_subagents": 1}
    assert [turn.result for turn in record.turns] == ["There are two files."]
    assert (record.session_id, record.model) == (session.session_id, session.model)
    assert not record.tokens_partial


def test_what_nobody_knows_is_null() -> None:
    """Before the first event, and for an agent without a model: no zero stands for 'unknown'."""
    record = a_record(**session_fields(Session()))
    assert record.tokens == TokenCounts(input=None, output=None, cache_read=None, cache_creation=None)
    assert (record.tokens.total, record.cost_usd, record.duration_ms, record.num_turns) == (None,) * 4
    assert TokenCounts(input=1, output=2, cache_read=3).total is None
    assert TokenCounts.of(Tokens(1, 2, 3, 4)).total == 10


def test_a_run_without_a_reply_used_nothing() -> None:
    """A refused key costs nothing, and that is known."""
    events = parse_transcript((STREAMS / "unauthorized.jsonl").read_bytes())
    record = a_record(**session_fields(SessionBuilder().add_all(events).session()))
    assert record.tokens.total == 0
    assert record.cost_usd == 0


def test_a_fault_is_told_in_the_record() -> None:
    """Whose it was, its kind, its words and what to do."""
    fault = SandboxFault("timeout", "no answer", remedy="try again")
    assert ErrorRecord.of(fault).model_dump() == {
        "cause": "sandbox",
        "type": "timeout",
        "message": "no answer",
        "remedy": "try again",
    }


def attempt(cost: float | None) -> AttemptRecord:
    return AttemptRecord(
        number=1,
        error=ErrorRecord.of(AgentFault("died", "it died")),
        sandbox_id=None,
        started_at="2026-11-23T09:01:41.000Z",
        duration_ms=5,
        tokens=TokenCounts(),
        tokens_partial=True,
        cost_usd=cost,
        transcript=None,
    )


@pytest.mark.parametrize(
    ("last", "before", "total"),
    [
        (0.5, [], 0.5),
        (0.5, [0.25, 0.125], 0.875),
        (0.5, [None], 0.5),
        (None, [0.25], 0.25),
        (None, [None], None),
        (0.0, [], 0.0),
    ],
)
def test_earlier_attempts_spend_is_real(
    last: float | None, before: list[float | None], total: float | None
) -> None:
    """What all attempts cost, as far as it is known."""
    record = a_record(cost_usd=last, attempts=tuple(attempt(cost) for cost in before))
    assert record.total_cost_usd == total


def a_turn(cost: float | None, tokens: Tokens, api_ms: int | None) -> TurnResult:
    """A run's result, with the session's counts up to it."""
    return TurnResult(
        duration_ms=7,
        duration_api_ms=api_ms,
        num_turns=2,
        tokens=tokens,
        cost_usd=cost,
        terminal_reason="completed",
        is_error=False,
        api_error_status=None,
        text="done",
    )


def test_a_turns_own_numbers_are_what_it_added() -> None:
    """Cost, API time and tokens count up over the session; a turn that added nothing used 0."""
    first = a_turn(0.5, Tokens(10, 20, 30, 40), 100)
    second = a_turn(0.75, Tokens(11, 22, 33, 44), 150)
    turns = a_record(**session_fields(Session(turns=(first, second, second)))).turns
    assert [turn.cost_usd for turn in turns] == [0.5, 0.25, 0.0]
    assert [turn.duration_api_ms for turn in turns] == [100, 50, 0]
    assert [turn.tokens for turn in turns] == [
        TokenCounts.of(Tokens(*n)) for n in ((10, 20, 30, 40), (1, 2, 3, 4), ())
    ]
    assert [(turn.duration_ms, turn.num_turns) for turn in turns] == [(7, 2)] * 3


def test_a_count_that_goes_down_tells_nothing_of_its_turn() -> None:
    """A session that began anew, or an agent that writes into its own stream: null, and no number below 0."""
    first = a_turn(0.5, Tokens(10, 20, 30, 40), 100)
    turns = (first, a_turn(0.25, Tokens(9, 19, 29, 39), 99), a_turn(0.75, Tokens(12, 22, 32, 42), 101))
    record = a_record(**session_fields(Session(turns=turns)))
    _, lower, last = record.turns
    assert (lower.cost_usd, lower.duration_api_ms, lower.tokens) == (None, None, TokenCounts())
    assert (lower.duration_ms, lower.num_turns, lower.result) == (7, 2, "done")
    assert (last.cost_usd, last.duration_api_ms) == (0.5, 2)
    assert last.tokens == TokenCounts.of(Tokens(3, 3, 3, 3))
    assert record.cost_usd == 0.75


def test_each_count_of_a_turn_is_unknown_by_itself() -> None:
    """One that goes down, or that nobody told, takes no other with it."""
    first = a_turn(None, Tokens(10, 20, 30, 40), 100)
    turns = (first, a_turn(0.5, Tokens(11, 19, 31, 39), None), a_turn(0.5, Tokens(11, 19, 31, 39), 200))
    one, two, three = a_record(**session_fields(Session(turns=turns))).turns
    assert (one.cost_usd, two.cost_usd, three.cost_usd) == (None, None, 0.0)
    assert (one.duration_api_ms, two.duration_api_ms, three.duration_api_ms) == (100, None, None)
    assert two.tokens == TokenCounts(input=1, output=None, cache_read=1, cache_creation=None)
