"""`--until-decided`: trials are added in rounds, until every verdict on the pass rate is settled or rounds run out.

A round is one more trial of every task under every variant that is still open, and of the baseline. The verdicts are
read from intervals that stay valid under looking again and again (`harness.stats.sequential`), after the rounds that
it plans a look for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

from harness.records.metrics import TrialMetrics, metrics_of
from harness.records.record import TrialRecord, TrialSpec
from harness.report.arms import arms_by_variant
from harness.report.comparison import compare_arms
from harness.runs.budget import NotStartedError
from harness.stats.data import MetricName, Plan

Submit = Callable[[TrialSpec], "Future[TrialRecord]"]


class RoundScheduler:
    """Submits the trials of a round when those of the last have ended and its verdicts are known.

    Called from several threads: from those who add trials, and from the one in which trials end. `margins` replaces the
    metrics' defaults: what is equivalent is what the gate at the end will call so.
    """

    def __init__(
        self,
        variants: Sequence[str],
        baseline: str,
        *,
        first: int,
        max_rounds: int,
        submit: Submit,
        margins: Mapping[MetricName, float] | None = None,
    ) -> None:
        self._pairs = [(name, baseline) for name in variants if name != baseline]
        self._first, self._plan = first, Plan(max_rounds)
        self._submit, self._margins = submit, margins
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
        if len(self._tasks) == 1 and spec.index > self._first:
            return "not needed: one task alone settles no verdict, however often it is tried"
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
        for pair in compare_arms(arms, self._pairs, margins=self._margins, plan=self._plan).pairs:
            verdict = pair.verdict("pass")
            if verdict != "inconclusive":
                self._settled.setdefault(
                    pair.arm,
                    f"not needed: {verdict} against {pair.baseline} is settled after {index} trials of each task",
                )
