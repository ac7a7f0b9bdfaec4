"""The engine and what decides for it: money, history, shards, resume; without a sandbox, and in simulated time."""

from __future__ import annotations

import asyncio
import gc
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InternalFault, UsageError
from harness.records.history import History, read_history, wall_seconds
from harness.records.merge import merge
from harness.records.reading import read_records
from harness.records.record import Outcome, TrialRecord
from harness.records.record_parts import ErrorRecord, Phases, TokenCounts
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.records.trial_spec import TrialSpec
from harness.runs.budget import ASSUMED_USD, Budget, NotStartedError, spent_before
from harness.runs.engine import Engine
from harness.runs.forecast import Planned, cannot_find, forecast
from harness.runs.order import SEEDS, draw_seed, interleaved
from harness.runs.resume import load_resumed_run
from harness.runs.shard import Shard, read_shard
from harness.tasks.manifest import Limits
from harness.tasks.task import Task
from harness.trials.context import RunContext
from harness.trials.runner import Retries
from harness.variants.variant import Variant
from tests.support.records import a_record


def spec(task: str = "answer", index: int = 1, **fields: Any) -> TrialSpec:
    return TrialSpec(Task(task, None, "0" * 64, **fields), Variant("default"), index, "claude")


def paid(usd: float, index: int = 1, task: str = "answer", **fields: Any) -> TrialRecord:
    tokens = TokenCounts(input=600, output=400, cache_read=0, cache_creation=0)
    phases = Phases(total=10_000)
    return a_record(
        task, index=index, cost_usd=usd, tokens=tokens, model_source="api", phases_ms=phases, **fields
    )


def history(*costs: float) -> History:
    found = History()
    for usd in costs:
        found.add(paid(usd))
    return found


def nothing() -> tuple[float, int]:
    return 0.0, 0


# Money


def test_nothing_starts_that_could_go_beyond_the_limit() -> None:
    """Running trials count with their forecast: 1 USD is enough for two of 0.40, and the third waits for one's end."""
    budget = Budget(1.0, history(0.4))
    for index in (1, 2):
        assert budget.can_start(spec(index=index))
        budget.started(spec(index=index), nothing)
    assert not budget.can_start(spec(index=3))
    budget.ended(spec(index=1).id, paid(0.1))
    assert budget.can_start(spec(index=3))


def test_what_a_running_trial_has_used_counts_when_it_is_more_than_expected() -> None:
    """A trial that runs away is noticed while it runs."""
    now = [0.0]
    budget = Budget(1.0, history(0.1), clock=lambda: now[0])
    budget.started(spec(), lambda: (0.95, 0))
    now[0] = 2.0
    assert not budget.can_start(spec(index=2))
    assert budget.committed_usd() == pytest.approx(0.95)


def test_tokens_without_a_price_yet_cost_what_earlier_ones_did() -> None:
    """Claude Code says its cost at the end; until then tokens tell: 1,000 were 0.10 USD."""
    now = [0.0]
    budget = Budget(10.0, history(0.1), clock=lambda: now[0])
    budget.started(spec(), lambda: (0.0, 20_000))
    now[0] = 2.0
    assert budget.committed_usd() == pytest.approx(2.0)


def test_a_reached_limit_says_why_and_stays() -> None:
    """The reason has the numbers; nothing starts later either, not even what would be within the limit."""
    known = history(0.4)
    known.add(paid(0.01, task="cheap"))
    assert Budget(1.0, known, spent=0.7).can_start(spec("cheap"))
    budget = Budget(1.0, known, spent=0.7)
    with pytest.raises(NotStartedError, match=r"--max-cost 1 is reached: 0.70 USD are spent, .* cost 0.40"):
        budget.can_start(spec())
    with pytest.raises(NotStartedError, match=r"0.70 USD are spent, and the next trial would cost 0.40"):
        budget.can_start(spec("cheap"))


def test_without_history_few_start_at_first() -> None:
    """Nothing is known, so that a trial is taken to be dear; what the first cost decides on the others."""
    budget = Budget(2.0, History())
    started = 0
    while budget.can_start(spec(index=started + 1)):
        started += 1
        budget.started(spec(index=started), nothing)
    assert started == 2.0 / ASSUMED_USD
    budget.ended(spec(index=1).id, paid(0.01))
    # 0.01 is spent and three run, taken to cost 0.50 each: no room for another of 0.50, but for those of 0.01.
    assert budget.committed_usd() + ASSUMED_USD > 2.0
    assert budget.can_start(spec(index=9))


def test_a_limit_below_any_assumption_still_starts_one() -> None:
    """--max-cost 0.10 on a machine without records runs one trial, and then knows."""
    budget = Budget(0.1, History())
    assert budget.can_start(spec())
    budget.started(spec(), nothing)
    assert not budget.can_start(spec(index=2))
    budget.ended(spec().id, paid(0.09))
    with pytest.raises(NotStartedError, match=r"0.09 USD are spent, and the next trial would cost 0.09$"):
        budget.can_start(spec(index=2))


def test_a_tasks_own_limit_bounds_its_forecast() -> None:
    """`[limits] max_cost_usd` is the most that Claude Code may spend on it."""
    budget = Budget(0.3, History())
    budget.started(spec(limits=Limits(max_cost_usd=0.1)), nothing)
    assert budget.committed_usd() == pytest.approx(0.1)


def test_an_end_without_a_cost_counts_by_its_tokens() -> None:
    """A trial that was cut off or broke has spent money all the same."""
    budget = Budget(10.0, history(0.1))
    budget.started(spec(), lambda: (0.5, 5_000))
    budget.ended(spec().id, paid(0.0).model_copy(update={"cost_usd": None, "tokens_partial": True}))
    assert budget.spent == pytest.approx(0.5 + 0.5)


@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=40), st.floats(0.05, 10))
def test_spending_stays_within_the_limit_when_forecasts_hold(costs: list[float], limit: float) -> None:
    """Whatever the order: with each trial costing at most its forecast, the limit is kept."""
    budget = Budget(limit, history(max(costs)))
    waiting = [(index, usd) for index, usd in enumerate(costs, 1)]
    running: list[tuple[int, float]] = []
    spent = 0.0
    while waiting or running:
        try:
            admitted = bool(waiting) and budget.can_start(spec(index=waiting[0][0]))
        except NotStartedError:
            waiting, admitted = [], False
        if admitted:
            running.append(waiting.pop(0))
            budget.started(spec(index=running[-1][0]), nothing)
        elif running:
            index, usd = running.pop(0)
            spent += usd
            # Cheaper than forecast: the mean that is learnt must not let the dear ones through.
            budget.ended(spec(index=index).id, paid(usd, index).model_copy(update={"model_source": "replay"}))
    assert spent <= limit + 1e-9


# History and forecast


def test_forecasts_are_of_the_closest_kin(tmp_path: Path) -> None:
    """The same task and variant, else the task, else all; replays and errors tell nothing about cost."""
    run = RunFolder.create(tmp_path, "20260101-000000-aaaa", {}, NO_REDACTION)
    for record in (
        paid(0.2),
        paid(0.4, 2),
        paid(1.2, task="dear"),
        paid(9.0, 3, outcome="error"),
        a_record(index=4, model_source="replay"),
    ):
        run.append(record)
    found = read_history(tmp_path, "claude", "api")
    assert found.cost_usd("answer", "default") == pytest.approx(0.3)
    assert found.cost_usd("answer", "other") == pytest.approx(0.3)
    assert found.cost_usd("new", "default") == pytest.approx(0.6)
    assert not found.knows("new")
    assert found.seconds("dear", "default") == 10


def test_wall_time_is_that_of_a_full_house() -> None:
    """Four trials of 10 s take 20 s when two run at once; the last may be long."""
    assert wall_seconds([10, 10, 10, 10], 2) == 20
    assert wall_seconds([10, 10, 30], 2) == 40
    assert wall_seconds([], 2) == 0


def test_a_plan_tells_trials_cost_time_and_what_it_rests_on() -> None:
    """The forecast, or that there is none."""
    trials = [Planned("answer", "a"), Planned("answer", "b"), Planned("new", "a")]
    lines = list(forecast(trials, history(0.2, 0.4), concurrency=2, paid=True, limit_usd=0.5))
    assert lines[0] == "plan: 3 trials (2 tasks, 2 variants), 2 at once"
    assert "cost: about 0.90 USD; the limit is 0.50 USD (--max-cost)" in lines
    assert any("more than the limit" in line for line in lines)
    assert "time: about 20 s" in lines
    assert any("never run before" in line and "new" in line for line in lines)
    assert any("as 1 of its tasks passed before" in line for line in lines)
    none = list(forecast(trials, History(), concurrency=2, paid=True, limit_usd=None))
    assert "cost: no earlier trials to tell from; no limit (--max-cost none)" in none
    assert "time: no earlier trials to tell from" in none


def test_a_plan_says_what_its_design_finds_and_what_other_money_would() -> None:
    """More trials find less; one that finds next to nothing is told, also before a run."""
    trials = [Planned(f"t{place}", name) for place in range(8) for name in "ab" for _ in range(5)]
    lines = list(forecast(trials, History(), concurrency=2, paid=False, limit_usd=None))
    assert any("if its tasks pass in 50 to 95% of trials" in line for line in lines)
    points = [int(found[1]) for line in lines if (found := re.search(r"trials: (\d+) points", line))]
    assert len(points) == 5
    assert points == sorted(points, reverse=True)
    assert any("more tasks are the cheaper way" in line for line in lines)
    assert cannot_find(8, 5, looking=False) is None
    assert "cannot find 50 points" in str(cannot_find(1, 3, looking=False))
    assert "even the last look" in str(cannot_find(1, 5, looking=True))


# Starts


def test_a_trial_starts_when_those_before_it_have_had_their_turn() -> None:
    """Asked for at once, they start one by one, and what the first has to do next comes before the second."""
    order: list[tuple[str, int]] = []

    def on_start(spec: TrialSpec) -> None:
        order.append(("starts", spec.index))
        asyncio.get_running_loop().call_soon(order.append, ("goes on", spec.index))

    before = gc.get_threshold()
    engine = Engine(
        cast(RunContext, None),
        concurrency=9,
        retries=Retries(),
        budget=Budget(None, History()),
        on_start=on_start,
    )

    async def ask() -> list[Any]:
        return [engine.acquire(spec(index=index), nothing) for index in (1, 2, 3)]

    for future in engine.loop.call(ask()):
        future.result()
    engine.finish(0)
    engine.close()
    started = [index for what, index in order if what == "starts"]
    assert sorted(started) == [1, 2, 3]
    assert order == [(what, index) for index in started for what in ("starts", "goes on")]
    assert gc.get_threshold() == before


# Retries


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_waits_grow_and_are_bounded(attempt: int, draw: float) -> None:
    """Half to one and a half times 1, 2, 4, ... seconds, and never more than one and a half minutes."""
    wait = Retries().wait(attempt, lambda: draw)
    expected = min(2.0 ** (attempt - 1), 60)
    assert 0.5 * expected <= wait <= 1.5 * expected


# Shards


@given(st.text(max_size=30), st.integers(1, 12))
def test_each_trial_is_in_exactly_one_shard(name: str, total: int) -> None:
    """Whatever others there are."""
    assert sum(Shard(number, total).has(name) for number in range(1, total + 1)) == 1


def test_a_shard_is_the_same_on_every_machine() -> None:
    """CI's machines must agree, today and tomorrow."""
    names = [f"task[default-t{index}]" for index in range(1, 9)]
    assert [Shard(1, 2).has(name) for name in names] == [False, False, False, True, False, False, False, True]


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3"])
def test_a_wrong_shard_is_refused(text: str) -> None:
    """With what would be right."""
    with pytest.raises(UsageError, match="give I/N"):
        read_shard(text)


@pytest.mark.parametrize("text", ["1/1", "1/4", "4/4"])
def test_the_first_and_the_last_shard_are_right(text: str) -> None:
    """They are read as they are written."""
    assert str(read_shard(text)) == text


# Resume


def folder_with(tmp_path: Path, *records: TrialRecord) -> RunFolder:
    run = RunFolder.create(tmp_path, "20260101-000000-aaaa", {}, NO_REDACTION)
    for record in records:
        run.append(record.model_copy(update={"run_id": run.id}))
    return run


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"outcome": "failed"}, True),
        ({"outcome": "error"}, False),
        ({"outcome": "invalid"}, False),
        ({"task_hash": "9" * 64}, False),
        ({"variant_hash": "9" * 64}, False),
        ({"template": "other"}, False),
        ({"agent": "nop"}, False),
        ({"model_source": "replay"}, False),
    ],
)
def test_a_record_holds_while_nothing_changes(tmp_path: Path, change: dict[str, Any], valid: bool) -> None:
    """By content of task, variant and template; a verdict it must be."""
    fields = {"variant_hash": Variant("default").hash, "template": "claude", "model_source": "api", **change}
    before = load_resumed_run(folder_with(tmp_path, a_record(**fields)))
    assert (before.reusable_record(spec(), "api") is not None) is valid


def test_an_attempt_before_the_resume_is_kept(tmp_path: Path) -> None:
    """Its transcript, its tokens and its cost are the new record's first attempt."""
    error = ErrorRecord.of(InternalFault("interrupted", "cut"))
    fields = {"variant_hash": Variant("default").hash, "outcome": "error", "error": error, "score": None}
    run = folder_with(tmp_path, paid(0.3, **fields))
    files = run.trial("answer", "default", 1)
    files.write("transcript.jsonl", b'{"type":"system"}\n')
    (attempt,) = load_resumed_run(run).attempts(spec())
    assert (attempt.number, attempt.cost_usd, attempt.error.type) == (1, 0.3, "interrupted")
    assert attempt.transcript == "trials/answer/default-t1/attempt-1/transcript.jsonl"
    assert (run.path / attempt.transcript).is_file()


def test_what_a_kill_left_without_a_record_is_kept_too(tmp_path: Path) -> None:
    """All its attempts' transcripts; their tokens are lower bounds."""
    run = folder_with(tmp_path)
    files = run.trial("answer", "default", 1)
    files.attempt(1).write("transcript.jsonl", b"{}\n")
    files.write("transcript.jsonl", b"{}\n")
    attempts = load_resumed_run(run).attempts(spec())
    assert [attempt.number for attempt in attempts] == [1, 2]
    assert all(attempt.tokens_partial and attempt.duration_ms is None for attempt in attempts)
    assert not (files.path / "transcript.jsonl").exists()


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    """The second is told so; when the first has ended, it may."""
    run = folder_with(tmp_path)
    lock = run.lock()
    with pytest.raises(UsageError, match="another process"):
        run.lock()
    lock.release()
    run.lock().release()


# Merge


def test_shards_become_one_run(tmp_path: Path) -> None:
    """All records under the new name, and their files beside them; a verdict goes before an error."""
    one = RunFolder.create(tmp_path, "one", {}, NO_REDACTION)
    two = RunFolder.create(tmp_path, "two", {}, NO_REDACTION)
    one.append(a_record(index=1))
    one.append(a_record(index=2, outcome="error", score=None))
    two.append(a_record(index=2))
    two.append(a_record(index=3, outcome="error", score=None))
    two.trial("answer", "default", 2).write("transcript.jsonl", b"{}\n")
    merged, notes = merge(tmp_path, ["one", "two"], "all")
    found = {record.index: record for record in read_records(merged.path).records}
    assert {index: record.outcome for index, record in found.items()} == {
        1: "passed",
        2: "passed",
        3: "error",
    }
    assert {record.run_id for record in found.values()} == {"all"}
    assert (merged.path / "trials/answer/default-t2/transcript.jsonl").read_bytes() == b"{}\n"
    assert notes == []


@pytest.mark.parametrize(
    ("outcomes", "kept"),
    [
        (("passed", "error"), "one"),
        (("error", "passed"), "two"),
        (("invalid", "failed"), "two"),
        (("error", "error"), "two"),
    ],
)
def test_a_verdict_is_kept_whichever_run_has_it(
    tmp_path: Path, outcomes: tuple[Outcome, Outcome], kept: str
) -> None:
    """Of two trials without one, that of the later run."""
    for name, outcome in zip(("one", "two"), outcomes, strict=True):
        score = 1.0 if outcome == "passed" else None
        run = RunFolder.create(tmp_path, name, {}, NO_REDACTION)
        run.append(a_record(outcome=outcome, score=score, session_id=name))
    merged, _ = merge(tmp_path, ["one", "two"], None)
    (record,) = read_records(merged.path).records
    assert record.session_id == kept


def test_two_verdicts_on_one_trial_are_not_merged(tmp_path: Path) -> None:
    """One of them would be lost without a word."""
    for name in ("one", "two"):
        RunFolder.create(tmp_path, name, {}, NO_REDACTION).append(a_record())
    with pytest.raises(UsageError, match="these have a verdict in two of the runs"):
        merge(tmp_path, ["one", "two"], None)
    with pytest.raises(UsageError, match="nothing to merge"):
        merge(tmp_path, ["one", "one"], None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


# Money, what only some runs meet


def test_replays_and_trials_without_a_record_teach_nothing() -> None:
    """What a recorded session cost says nothing of the next one's cost; one that left no record, neither."""
    budget = Budget(10.0, History())
    for index in (1, 2):
        budget.started(spec(index=index), nothing)
    budget.ended(spec(index=1).id, paid(0.01).model_copy(update={"model_source": "replay"}))
    budget.ended(spec(index=2).id, None)
    budget.started(spec(index=3), nothing)
    assert budget.committed_usd() == pytest.approx(0.01 + ASSUMED_USD)


def test_a_trial_without_a_record_has_spent_what_it_used() -> None:
    """Its test was ended from outside; the money is gone."""
    budget = Budget(10.0, history(0.1))
    budget.started(spec(), lambda: (0.5, 5_000))
    budget.ended(spec().id, None)
    assert (budget.spent, budget.committed_usd()) == (pytest.approx(1.0), pytest.approx(1.0))


def test_a_lower_bound_is_not_taken_for_the_cost() -> None:
    """A record with partial tokens knows an earlier attempt's cost only: what the trial used counts."""
    budget = Budget(10.0, history(0.1))
    budget.started(spec(), lambda: (0.5, 5_000))
    budget.ended(spec().id, paid(0.2).model_copy(update={"tokens_partial": True}))
    assert budget.spent == pytest.approx(1.0)


def test_a_resumed_run_that_knows_no_price_starts_nothing_beyond_its_limit() -> None:
    """Only a run that has spent nothing needs somebody to be the first."""
    budget = Budget(0.3, History(), spent=0.1)
    with pytest.raises(
        NotStartedError, match=r"0.10 USD are spent, and the next trial would cost perhaps 0.50"
    ):
        budget.can_start(spec())


def test_a_limit_that_is_spent_to_the_cent_says_no_more_than_that() -> None:
    """What the next one would cost does not matter then."""
    budget = Budget(0.5, history(0.4), spent=0.5)
    with pytest.raises(NotStartedError, match=r"--max-cost 0.5 is reached: 0.50 USD are spent$"):
        budget.can_start(spec())


def test_running_trials_are_looked_at_once_a_second() -> None:
    """A look reads what each has streamed so far, which takes time where many run."""
    now, looks = [0.0], [0]

    def spent() -> tuple[float, int]:
        looks[0] += 1
        return 0.0, 0

    budget = Budget(10.0, history(0.1), clock=lambda: now[0])
    budget.started(spec(), spent)
    for at, seen in ((0.0, 1), (0.5, 1), (1.0, 2), (1.9, 2), (2.0, 3)):
        now[0] = at
        budget.committed_usd()
        assert looks[0] == seen


def test_what_was_spent_before_a_resume_is_all_attempts_cost() -> None:
    """As far as it is known."""
    unknown = paid(0.0).model_copy(update={"cost_usd": None})
    assert spent_before([paid(0.2), unknown, paid(0.3, 2)]) == pytest.approx(0.5)
    assert spent_before([]) == 0


# The order of trials


EIGHT = [Variant(f"v{place}") for place in range(8)]


def order(task: str = "answer", seed: int = 1, index: int = 1) -> list[str]:
    """The names of one block's variants."""
    found = interleaved(task, EIGHT, index, seed)
    return [variant.name for variant, at in found if at == index]


def test_each_block_has_every_variant_once() -> None:
    """Block by block, so that drift hits all alike; a second process finds the same."""
    found = interleaved("answer", EIGHT, 5, 7)
    assert [index for _, index in found] == [index for index in range(1, 6) for _ in EIGHT]
    for index in range(1, 6):
        names = [variant.name for variant, at in found if at == index]
        assert sorted(names) == [variant.name for variant in EIGHT]
    assert interleaved("answer", EIGHT, 5, 7) == found
    assert interleaved("answer", EIGHT, 0, 7) == []


def test_each_block_has_an_order_of_its_own() -> None:
    """By task, index and seed: else one variant would always come first."""
    orders = [order(), order(index=2), order(seed=2), order("other"), [variant.name for variant in EIGHT]]
    assert len({tuple(names) for names in orders}) == len(orders)


def test_the_order_is_the_same_on_every_machine() -> None:
    """A run that is resumed, or split into shards, goes on in it."""
    assert order() == ["v5", "v0", "v3", "v1", "v7", "v6", "v2", "v4"]


def test_a_drawn_seed_is_short_enough_to_be_typed() -> None:
    """And another each time."""
    seeds = {draw_seed() for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed < SEEDS for seed in seeds)
    assert SEEDS == 2**32
