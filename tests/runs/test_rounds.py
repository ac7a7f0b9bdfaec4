"""Trials are added until the verdict is settled: what is asked for, in what order, and when it ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from harness.records.record import TrialRecord
from harness.records.trial_spec import TrialSpec
from harness.report.gate import Condition, read_fail_on
from harness.runs.budget import NotStartedError
from harness.runs.rounds import RoundScheduler
from harness.tasks.loading import load_task
from harness.variants.variant import Variant
from tests.support.folders import task_folder
from tests.support.records import a_record

TASKS, MOST = 6, 10
Passes = Callable[[TrialSpec], bool]


@pytest.fixture
def specs(tmp_path: Path) -> list[TrialSpec]:
    """Every trial that there may be, task by task, as pytest collects them."""
    tasks = [load_task(task_folder(tmp_path, f"t{place}")) for place in range(TASKS)]
    return [
        TrialSpec(task, Variant(name), index, "claude")
        for task in tasks
        for index in range(1, MOST + 1)
        for name in ("a", "b", "c")
    ]


class Engine:
    """Ends trials when it is told to."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.asked: list[TrialSpec] = []
        self.under_way: list[tuple[TrialSpec, Future[TrialRecord]]] = []

    def submit(self, spec: TrialSpec) -> Future[TrialRecord]:
        self.asked.append(spec)
        self.under_way.append((spec, Future()))
        return self.under_way[-1][1]

    def end_one(self) -> None:
        spec, future = self.under_way.pop(0)
        passed = self.passes(spec)
        outcome = "passed" if passed else "failed"
        future.set_result(
            a_record(spec.task.name, spec.variant.name, spec.index, outcome=outcome, score=float(passed))
        )

    def run(self) -> None:
        while self.under_way:
            self.end_one()


def rounds(engine: Engine, first: int = 1, fail_on: str = "regression", **more: Any) -> RoundScheduler:
    return scheduler(engine, read_fail_on(fail_on), first=first, **more)


def scheduler(
    engine: Engine, conditions: Sequence[Condition], *, first: int = 1, **more: Any
) -> RoundScheduler:
    return RoundScheduler(
        ["a", "b", "c"],
        "a",
        first=first,
        max_rounds=MOST,
        submit=engine.submit,
        conditions=conditions,
        **more,
    )


def only_b_is_better(spec: TrialSpec) -> bool:
    """a and c pass every second trial, b all."""
    return spec.variant.name == "b" or (spec.index + int(spec.task.name[1])) % 2 == 0


def test_a_round_is_a_trial_of_every_task_and_variant(specs: list[TrialSpec]) -> None:
    """The next begins when all of the last have ended, and not before."""
    engine = Engine(only_b_is_better)
    rounds(engine).add(specs)
    assert {(spec.task.name, spec.variant.name) for spec in engine.asked} == {
        (f"t{place}", name) for place in range(TASKS) for name in "abc"
    }
    for _ in range(TASKS * 3 - 1):
        engine.end_one()
    assert {spec.index for spec in engine.asked} == {1}
    engine.end_one()
    assert {spec.index for spec in engine.asked} == {1, 2}


def test_what_is_settled_ends_and_what_is_open_goes_on(specs: list[TrialSpec]) -> None:
    """b ends when it is better for sure; a goes on for c, to the last round; nobody waits for ever."""
    engine = Engine(only_b_is_better)
    futures = rounds(engine).add(specs)
    engine.run()
    tried = {name: max(spec.index for spec in engine.asked if spec.variant.name == name) for name in "abc"}
    assert tried["a"] == tried["c"] == MOST
    assert 1 < tried["b"] < MOST
    assert all(future.done() for future in futures.values())
    with pytest.raises(NotStartedError, match=f"improvement against a is settled after {tried['b']} trials"):
        futures[f"t0[b-t{MOST}]"].result()


def test_when_all_is_settled_the_baseline_ends_too(specs: list[TrialSpec]) -> None:
    """It has nobody left to be compared with."""
    engine = Engine(lambda spec: spec.variant.name != "a")
    futures = rounds(engine).add(specs)
    engine.run()
    assert max(spec.index for spec in engine.asked) < MOST
    with pytest.raises(NotStartedError, match="every verdict is settled"):
        futures[f"t0[a-t{MOST}]"].result()


def test_the_first_look_waits_for_the_trials_asked_for(specs: list[TrialSpec]) -> None:
    """--trials is the least: the look after 3 rounds is left out."""
    engine = Engine(lambda spec: spec.variant.name != "a")
    rounds(engine, first=4).add(specs)
    engine.run()
    assert max(spec.index for spec in engine.asked) == 5


def test_verdicts_are_settled_against_the_margin_asked_for(specs: list[TrialSpec]) -> None:
    """Variants that do the same are equivalent sooner where more would still be no difference."""
    narrow, wide = Engine(lambda _: True), Engine(lambda _: True)
    rounds(narrow).add(specs)
    rounds(wide, fail_on="regression=pass:0.8").add(specs)
    narrow.run()
    wide.run()
    assert max(spec.index for spec in narrow.asked) == MOST
    assert max(spec.index for spec in wide.asked) == 3


def test_few_tasks_are_not_tried_in_vain(specs: list[TrialSpec]) -> None:
    """Of other tasks they tell nothing, so there are as many trials as were asked for; of these tasks they do."""
    few = [spec for spec in specs if spec.task.name in ("t0", "t1")]
    engine, of_these = (
        Engine(lambda spec: spec.variant.name != "a"),
        Engine(lambda spec: spec.variant.name != "a"),
    )
    futures = rounds(engine, first=2, fail_on="regression@population").add(few)
    engine.run()
    assert max(spec.index for spec in engine.asked) == 2
    with pytest.raises(NotStartedError, match="fewer than 6 tasks"):
        futures["t0[b-t3]"].result()
    rounds(of_these, first=2).add(few)
    of_these.run()
    assert max(spec.index for spec in of_these.asked) in (3, 5)


def test_each_look_is_told_in_a_line(specs: list[TrialSpec]) -> None:
    """What is open, what the next look needs, and what is settled."""
    engine, said = Engine(only_b_is_better), list[str]()
    rounds(engine, say=said.append).add(specs)
    engine.run()
    assert any(
        re.fullmatch(
            r"look after 3 trials of each task: c against a: open, pass rate .*; the next is after 5: "
            r"12 more trials of each of the two",
            line,
        )
        for line in said
    )
    assert any(line.startswith("look after 3 trials of each task: b against a: improvement") for line in said)
    assert any("c against a: open" in line and line.endswith("it was the last") for line in said)


def test_a_stopped_run_begins_no_round(specs: list[TrialSpec]) -> None:
    """What waits is cancelled, as it is in the engine."""
    engine = Engine(only_b_is_better)
    futures = rounds(engine).add(specs)
    for _, future in engine.under_way:
        future.cancel()
    assert len(engine.asked) == TASKS * 3
    with pytest.raises(CancelledError):
        futures[f"t0[a-t{MOST}]"].result(timeout=0)


def test_trials_that_broke_settle_nothing(specs: list[TrialSpec]) -> None:
    """Trials that the budget did not admit neither."""
    engine = Engine(only_b_is_better)
    futures = rounds(engine).add(specs)
    while engine.under_way:
        _, future = engine.under_way.pop(0)
        future.set_exception(NotStartedError("the money is spent"))
    assert len(engine.asked) == len(specs)
    with pytest.raises(NotStartedError, match="the money is spent"):
        futures[f"t0[b-t{MOST}]"].result()


def test_whoever_waits_for_a_round_learns_what_kept_it_from_starting(specs: list[TrialSpec]) -> None:
    """A look that fails ends the waiting with what went wrong, and does not leave it without an end."""
    engine = Engine(only_b_is_better)
    senseless = Condition("regression", margin=-1.0)
    futures = scheduler(engine, (senseless,)).add(specs)
    engine.run()
    assert all(future.done() for future in futures.values())
    assert {type(futures[spec.id].exception()) for spec in specs if spec.index == MOST} == {ValueError}
