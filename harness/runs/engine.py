"""Many trials at once, on an asyncio loop in a thread of its own, so that callers may simply wait for results."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.errors import Fault
from harness.records.record import AttemptRecord, TrialRecord, TrialSpec
from harness.runs.budget import Budget, NotStartedError, Spent
from harness.trials.context import RunContext
from harness.trials.runner import Retries, TrialRunner

T = TypeVar("T")
_CANCEL_TIMEOUT_S = 30.0
"""How long a trial that is cut off may take to end before it is cut off again."""
_GC_THRESHOLD = 10_000
"""New objects after which Python looks for garbage, while trials run (700 otherwise)."""


@dataclass(frozen=True)
class _Waiting:
    """What is to start when its turn comes; what is `led` by somebody else takes no slot."""

    spec: TrialSpec
    future: Future[Any]
    start: Callable[[], None]
    led: bool = False


class Engine:
    """Runs trials, in the order in which they are submitted, `concurrency` of them at once and as `budget` allows.

    `on_start` and `on_end` are called in the engine's thread, for each trial.
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
        self._retries = retries
        self._on_start, self._on_end = on_start, on_end
        self._loop = _new_loop()
        self._waiting: deque[_Waiting] = deque()
        self._scheduling = False
        self._running: set[asyncio.Task[None]] = set()
        self._cancelling: set[asyncio.Task[None]] = set()
        self._fatal: Fault | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="harness-engine", daemon=True)
        self._thread.start()

    def submit(self, spec: TrialSpec, earlier: Sequence[AttemptRecord] = ()) -> Future[TrialRecord]:
        """Have a trial run as soon as there is a slot.

        The future is cancelled when the run is stopped before the trial has begun; its exception is a
        `NotStartedError` when the money is spent, and a `Fault` when there can be no record.
        """
        future: Future[TrialRecord] = Future()
        trial = TrialRunner(spec, self.context, tuple(earlier))
        waiting = _Waiting(spec, future, lambda: self._start(trial, future))
        self._loop.call_soon_threadsafe(self._enqueue, waiting)
        return future

    def admit(self, spec: TrialSpec, spent: Spent) -> Future[None]:
        """Have a trial that somebody else leads start as soon as the budget allows, ahead of those that wait.

        The future tells that it may start, or why not, as that of `submit` does. `release` tells that it has ended.
        """
        future: Future[None] = Future()
        waiting = _Waiting(spec, future, lambda: self._lead(spec, spent, future), led=True)
        self._loop.call_soon_threadsafe(self._enqueue, waiting)
        return future

    def release(self, spec: TrialSpec, record: TrialRecord) -> None:
        """A trial that was admitted has ended."""
        self._loop.call_soon_threadsafe(self._released, spec, record)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the engine's loop, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    @property
    def running(self) -> int:
        """How many trials run."""
        return len(self._running)

    def stop(self) -> None:
        """Start nothing more: what waits is cancelled, what runs goes on."""
        self._loop.call_soon_threadsafe(self._stop)

    def finish(self, grace_s: float) -> None:
        """Stop, give what runs `grace_s` seconds to end, then cut it off, and wait until all records are stored."""
        self.stop()
        asyncio.run_coroutine_threadsafe(self._finish(grace_s), self._loop).result()

    def cancel_running(self) -> None:
        """Stop, and cut off what runs; its records are stored and its sandboxes end while nobody waits."""
        self._loop.call_soon_threadsafe(self._stop)
        self._loop.call_soon_threadsafe(self._cancel_running)

    def close(self) -> None:
        """End the thread. What still runs must have been finished before."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _enqueue(self, waiting: _Waiting) -> None:
        if self._stopped:
            waiting.future.cancel()
            return
        if waiting.led:
            self._waiting.appendleft(waiting)
        else:
            self._waiting.append(waiting)
        self._schedule()

    def _schedule(self) -> None:
        """Start what may start, one trial in each round of the loop: those that run already come first.

        Started all at once, a thousand would do every step together, and none would wait while another works.
        """
        if not self._scheduling and self._waiting:
            self._scheduling = True
            self._loop.call_soon(self._schedule_next)

    def _schedule_next(self) -> None:
        self._scheduling = False
        if self._start_or_reject_next():
            self._schedule()

    def _start_or_reject_next(self) -> bool:
        """Whether the first that waits has left the queue: nothing overtakes one that has to wait."""
        if not self._waiting or not (self._waiting[0].led or len(self._running) < self.concurrency):
            return False
        waiting = self._waiting[0]
        try:
            if self._fatal:
                # Every trial would meet it again; that is said once for each, and costs nothing.
                raise self._fatal
            if not self.budget.can_start(waiting.spec):
                return False
        except (Fault, NotStartedError) as reason:
            waiting.future.set_exception(reason)
        else:
            waiting.start()
        self._waiting.popleft()
        return True

    def _start(self, trial: TrialRunner, future: Future[TrialRecord]) -> None:
        future.set_running_or_notify_cancel()
        self.budget.started(trial.spec, trial.spent)
        self._on_start(trial.spec)
        task = self._loop.create_task(self._run(trial, future))
        self._running.add(task)

    def _lead(self, spec: TrialSpec, spent: Spent, future: Future[None]) -> None:
        self.budget.started(spec, spent)
        self._on_start(spec)
        future.set_result(None)

    def _released(self, spec: TrialSpec, record: TrialRecord) -> None:
        self.budget.ended(spec.id, record)
        self._on_end(record)
        self._schedule()

    async def _run(self, trial: TrialRunner, future: Future[TrialRecord]) -> None:
        record = None
        try:
            record, fault = await trial.run(self._retries)
            if fault and fault.fatal:
                self._fatal = fault
        except Fault as fault:
            self._fatal = self._fatal or fault
            future.set_exception(fault)
        except asyncio.CancelledError:
            future.set_exception(NotStartedError("the run was stopped"))
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            self._on_end(record)
            future.set_result(record)
        finally:
            self.budget.ended(trial.spec.id, record)
            task = asyncio.current_task()
            assert task
            self._running.discard(task)
            self._schedule()

    def _stop(self) -> None:
        self._stopped = True
        while self._waiting:
            self._waiting.popleft().future.cancel()

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
            # Once only: a second time would cut off the ending of its sandbox.
            self._cancelling.add(task)
            task.cancel()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        with _garbage_collected_seldom():
            self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@contextlib.contextmanager
def _garbage_collected_seldom() -> Iterator[None]:
    """Many trials hold many objects for long: to look through those again and again took a seventh of all CPU."""
    before = gc.get_threshold()
    if 0 < before[0] < _GC_THRESHOLD:
        gc.set_threshold(_GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, where there is one for this Python; asyncio's own does the same, at more of the CPU's time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
