"""Many trials at once, in the order in which they are asked for, as slots and money allow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from harness.errors import Fault
from harness.records.record import TrialRecord
from harness.records.record_parts import AttemptRecord
from harness.records.trial_spec import TrialSpec
from harness.runs.budget import Budget, NotStartedError, Spent
from harness.runs.loop import LoopThread, wait_for
from harness.trials.context import RunContext
from harness.trials.runner import Retries, TrialRunner

_CANCEL_TIMEOUT_S = 30.0
"""Seconds that a cancelled trial may take to end before it is cancelled again."""


@dataclass(frozen=True)
class _Waiting:
    """A trial that waits for its turn. `start` is called then; `future` gets the reason where it is rejected."""

    spec: TrialSpec
    spent: Spent
    start: Callable[[], object]
    future: Future[Any]


class Engine:
    """Runs trials, in the order in which they are submitted, `concurrency` of them at once and as `budget` allows.

    All scheduling happens in the thread of `loop`. `on_start` and `on_end` are called there, once for each trial.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        concurrency: int,
        retries: Retries,
        budget: Budget,
        on_start: Callable[[TrialSpec], None] = lambda spec: None,
        on_end: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self.context = context
        self.concurrency = concurrency
        self.budget = budget
        self.loop = LoopThread()
        self._retries = retries
        self._on_start, self._on_end = on_start, on_end
        self._external: deque[_Waiting] = deque()
        self._submitted: deque[_Waiting] = deque()
        self._scheduled = False
        self._running: set[asyncio.Task[None]] = set()
        self._trials: dict[str, TrialRunner] = {}
        self._cancelling: set[asyncio.Task[None]] = set()
        self._fatal: Fault | None = None
        self._stopped = False

    def submit(self, spec: TrialSpec, earlier: Sequence[AttemptRecord] = ()) -> Future[TrialRecord]:
        """Have a trial run as soon as there is a slot.

        The future is cancelled when the run is stopped before the trial has begun; its exception is a
        `NotStartedError` when the money is spent, and a `Fault` when there can be no record.
        """
        future: Future[TrialRecord] = Future()
        trial = TrialRunner(spec, self.context, tuple(earlier))
        waiting = _Waiting(spec, trial.spent, lambda: self._start(trial, future), future)
        self.loop.post(self._enqueue, self._submitted, waiting)
        return future

    def acquire(self, spec: TrialSpec, spent: Spent) -> Future[None]:
        """Have a trial that is run elsewhere start as soon as the budget allows. It needs no slot, and goes first.

        The future tells that it may start, or why not, as that of `submit` does. `release` tells that it has ended.
        """
        future: Future[None] = Future()
        waiting = _Waiting(spec, spent, lambda: future.set_result(None), future)
        self.loop.post(self._enqueue, self._external, waiting)
        return future

    def release(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Tell that a trial that was acquired has ended."""
        self.loop.post(self._end, spec, record)

    @property
    def running(self) -> int:
        """The number of trials that run here."""
        return len(self._running)

    def doing(self, trial_id: str) -> str:
        """The phase that a trial is in, in a word; empty for one that does not run here."""
        trial = self._trials.get(trial_id)
        return trial.doing if trial else ""

    def stop(self) -> None:
        """Start nothing more. What waits is cancelled; what runs goes on."""
        self.loop.post(self._stop)

    def finish(self, grace_s: float) -> None:
        """Stop, give what runs `grace_s` seconds to end, then cancel it, and wait until all records are stored."""
        self.stop()
        wait_for(self.loop.start(self._finish(grace_s)))

    def cancel_running(self) -> None:
        """Stop, and cancel what runs. Its records are stored and its sandboxes end while nobody waits."""
        self.stop()
        self.loop.post(self._cancel_running)

    def close(self) -> None:
        """End the thread. What still runs must have been finished before."""
        self.loop.close()

    def _enqueue(self, queue: deque[_Waiting], waiting: _Waiting) -> None:
        if self._stopped:
            waiting.future.cancel()
            return
        queue.append(waiting)
        self._schedule()

    def _schedule(self) -> None:
        """Start one trial in each iteration of the loop, so that a thousand do not run every step in lockstep."""
        if not self._scheduled and (self._external or self._submitted):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._schedule_next)

    def _schedule_next(self) -> None:
        self._scheduled = False
        if self._start_or_reject_next():
            self._schedule()

    def _start_or_reject_next(self) -> bool:
        """Start or reject the first that waits. False if it must wait for a slot or for money.

        Those behind it wait then, too.
        """
        queue = self._external or self._submitted
        if not queue or (queue is self._submitted and len(self._running) >= self.concurrency):
            return False
        waiting = queue[0]
        try:
            if self._fatal:
                # Every trial would meet it again. To say so costs nothing.
                raise self._fatal
            if not self.budget.can_start(waiting.spec):
                return False
        except (Fault, NotStartedError) as reason:
            waiting.future.set_exception(reason)
        else:
            self.budget.started(waiting.spec, waiting.spent)
            self._on_start(waiting.spec)
            waiting.start()
        queue.popleft()
        return True

    def _start(self, trial: TrialRunner, future: Future[TrialRecord]) -> None:
        future.set_running_or_notify_cancel()
        self._trials[trial.spec.id] = trial
        self._running.add(asyncio.get_running_loop().create_task(self._run(trial, future)))

    def _end(self, spec: TrialSpec, record: TrialRecord | None) -> None:
        self._trials.pop(spec.id, None)
        self.budget.ended(spec.id, record)
        if record:
            self._on_end(record)
        self._schedule()

    async def _run(self, trial: TrialRunner, future: Future[TrialRecord]) -> None:
        record: TrialRecord | None = None
        reason: BaseException | None = None
        try:
            record, fault = await trial.run(self._retries)
            if fault and fault.fatal:
                self._fatal = fault
        except Fault as fault:
            self._fatal = self._fatal or fault
            reason = fault
        except asyncio.CancelledError:
            reason = NotStartedError("the run was stopped")
        except BaseException as error:
            reason = error
            raise
        finally:
            task = asyncio.current_task()
            assert task
            self._running.discard(task)
            self._end(trial.spec, record)
            if record:
                future.set_result(record)
            else:
                future.set_exception(reason)

    def _stop(self) -> None:
        self._stopped = True
        for queue in (self._external, self._submitted):
            while queue:
                queue.popleft().future.cancel()

    async def _finish(self, grace_s: float) -> None:
        if self._running and grace_s:
            await asyncio.wait(self._running, timeout=grace_s)
        self._cancel_running()
        while self._running:
            await asyncio.wait(self._running, timeout=_CANCEL_TIMEOUT_S)
            # A cancellation can get lost on its way through other people's code.
            self._cancelling.clear()
            self._cancel_running()

    def _cancel_running(self) -> None:
        for task in self._running - self._cancelling:
            # Once only: a second cancellation would cut off the ending of its sandbox.
            self._cancelling.add(task)
            task.cancel()
