"""`--until-decided`: trials are added in rounds, until what the gate asks of the pass rate is settled, or to the end.

A round is one more trial of every task under every variant that is still open, and of the baseline. The verdicts are
read from intervals that stay valid under looking again and again (`harness.stats.sequential`), after the rounds that
it plans a look for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

from harness.records.metrics import TrialMetrics, metrics_of
from harness.records.record import TrialRecord
from harness.records.trial_spec import TrialSpec
from harness.report import phrases
from harness.report.arms import arms_by_variant
from harness.report.comparison import PairView, compare_arms
from harness.report.gate import Condition, margins, settled_words
from harness.runs.budget import NotStartedError
from harness.stats.data import RoundsPlan

FEWEST_TASKS = 6
"""With fewer there is no verdict on tasks like these, whatever the trials (see `stats.population`)."""
Submit = Callable[[TrialSpec], "Future[TrialRecord]"]


class RoundScheduler:
    """Submits the trials of a round when those of the last have ended and its verdicts are known.

    Called from several threads: from those who add trials, and from the one in which trials end. `conditions` are the
    gate's: a pair is settled when each of them is. `say` is told of each look in a line.
    """

    def __init__(
        self,
        variants: Sequence[str],
        baseline: str,
        *,
        first: int,
        max_rounds: int,
        submit: Submit,
        conditions: Sequence[Condition] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._pairs = [(name, baseline) for name in variants if name != baseline]
        self._first, self._plan = first, RoundsPlan(max_rounds)
        self._submit, self._conditions, self._say = submit, conditions, say
        self._lock = threading.RLock()
        self._waiting: dict[int, list[tuple[TrialSpec, Future[TrialRecord]]]] = {}
        self._pending: set[str] = set()
        self._records: list[TrialMetrics] = []
        self._settled: dict[str, str] = {}
        self._tasks: set[str] = set()

    def add(self, specs: Sequence[TrialSpec]) -> Mapping[str, Future[TrialRecord]]:
        """Take trials, each into the round of its index, and begin with the first round.

        The exception of a future is a `NotStartedError` when its trial was not needed any more.
        """
        with self._lock:
            futures: dict[str, Future[TrialRecord]] = {spec.id: Future() for spec in specs}
            self._tasks.update(spec.task.name for spec in specs)
            for spec in specs:
                self._waiting.setdefault(spec.index, []).append((spec, futures[spec.id]))
            if not self._pending:
                self._begin()
            return futures

    def _begin(self) -> None:
        """Submit the next round in which anything is left to do."""
        while self._waiting and not self._pending:
            index = min(self._waiting)
            trials = [(spec, future, self._not_needed(spec)) for spec, future in self._waiting.pop(index)]
            self._pending = {spec.id for spec, _, reason in trials if reason is None}
            for spec, future, reason in trials:
                if reason is None:
                    self._submit(spec).add_done_callback(partial(self._ended, spec, future))
                else:
                    future.set_exception(NotStartedError(reason))

    def _not_needed(self, spec: TrialSpec) -> str | None:
        """The reason why a trial is not needed any more; None if it is."""
        name = spec.variant.name
        if name in self._settled:
            return self._settled[name]
        if self._pairs and len(self._settled) == len(self._pairs):
            return "not needed: every verdict is settled"
        asks_of_others = any(condition.question == "population" for condition in self._conditions)
        if asks_of_others and spec.index > self._first and len(self._tasks) < FEWEST_TASKS:
            return f"not needed: with fewer than {FEWEST_TASKS} tasks no trials settle a verdict on tasks like these"
        return None

    def _ended(self, spec: TrialSpec, outer: Future[TrialRecord], inner: Future[TrialRecord]) -> None:
        with self._lock:
            self._pending.discard(spec.id)
            if inner.cancelled():
                outer.cancel()
                self._stop()
                return
            error = inner.exception()
            if error:
                outer.set_exception(error)
            else:
                self._records.append(metrics_of(inner.result()))
                outer.set_result(inner.result())
            if not self._pending:
                try:
                    if spec.index >= self._first and spec.index in self._plan.looks:
                        self._settle_verdicts(spec.index)
                except Exception as problem:  # noqa: BLE001 - see below
                    # A callback's exception reaches nobody, and whoever waits for the next round would wait for ever.
                    self._fail(problem)
                self._begin()

    def _fail(self, problem: Exception) -> None:
        for _, future in (trial for trials in self._waiting.values() for trial in trials):
            future.set_exception(problem)
        self._waiting.clear()

    def _stop(self) -> None:
        """Cancel what waits, since the run was stopped."""
        for _, future in (trial for trials in self._waiting.values() for trial in trials):
            future.cancel()
        self._waiting.clear()

    def _settle_verdicts(self, index: int) -> None:
        """Settle what can be. A verdict once given stays, whatever later rounds say."""
        arms = arms_by_variant(self._records, "")
        if {arm.name for arm in arms} != {name for pair in self._pairs for name in pair}:
            return
        limits = margins(self._conditions)
        for pair in compare_arms(arms, self._pairs, margins=limits, plan=self._plan).pairs:
            if pair.arm in self._settled:
                continue
            if said := settled_words(pair, self._conditions):
                self._settled[pair.arm] = (
                    f"not needed: {said} against {pair.baseline} is settled after {index} trials of each task"
                )
            for line in self._look(pair, index, said):
                self._say(line)

    def _look(self, pair: PairView, index: int, said: str | None) -> Iterator[str]:
        """The result of a look at one pair, and what the next one needs."""
        contrast = pair.contrasts["pass"]
        shown = f"look after {index} trials of each task: {pair.arm} against {pair.baseline}"
        if said:
            yield f"{shown}: {said}, pass rate {phrases.difference(contrast)}"
            return
        later = [look for look in self._plan.looks if look > index]
        more = (later[0] - index) * len(self._tasks) if later else 0
        then = (
            f"the next is after {later[0]}: {more} more trials of each of the two"
            if later
            else "it was the last"
        )
        yield f"{shown}: open, pass rate {phrases.difference(contrast)}; {then}"
