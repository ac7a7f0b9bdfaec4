"""Many trials at once: order, concurrency, new attempts after faults, and one record for each, stored as it ends."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from harness.errors import Fault
from harness.record import TrialRecord, TrialSpec
from harness.trial import Attempt, World, run_attempt, trial_record

T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """How often a fault is answered by a new attempt, and how long to wait before: base * 2^k, with jitter."""

    limit: int = 2
    base_s: float = 1.0
    cap_s: float = 60.0

    def wait(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after attempt number `attempt` (from 1)."""
        return min(self.base_s * 2.0 ** (attempt - 1), self.cap_s) * (0.5 + draw())


@dataclass(frozen=True)
class Ended:
    """A trial's record, and the fault behind it where there was one."""

    record: TrialRecord
    fault: Fault | None


async def run_trial(
    spec: TrialSpec,
    world: World,
    retries: Retries,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Ended:
    """Run a trial to its one record, which is stored before this returns; a failed task is never tried again.

    Raises:
        InternalFault: when the record cannot be stored.
    """
    attempts: list[Attempt] = []
    while True:
        attempt = await run_attempt(spec, world, len(attempts) + 1)
        attempts.append(attempt)
        if not attempt.fault or not attempt.fault.retry or len(attempts) > retries.limit:
            break
        attempt.set_aside()
        await sleep(retries.wait(len(attempts)))
    record = trial_record(spec, world, attempts)
    world.folder.append(record)
    return Ended(record, attempts[-1].fault)


class Engine:
    """Runs trials on an asyncio loop in a thread of its own, so that callers may simply wait for results.

    `on_start` and `on_end` are called in that thread, for each trial.
    """

    def __init__(
        self,
        world: World,
        *,
        concurrency: int,
        retries: Retries,
        on_start: Callable[[TrialSpec], None] = lambda spec: None,
        on_end: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self.world = world
        self.concurrency = concurrency
        self._retries = retries
        self._on_start, self._on_end = on_start, on_end
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(concurrency)
        self._fatal: Fault | None = None
        self._trials: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._serve, name="harness-engine", daemon=True)
        self._thread.start()

    def submit(self, spec: TrialSpec) -> Future[Ended]:
        """Have a trial run as soon as there is a slot; trials start in the order in which they are submitted."""
        return asyncio.run_coroutine_threadsafe(self._run(spec), self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the engine's loop, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, wait until its sandboxes are gone, and end the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    async def _run(self, spec: TrialSpec) -> Ended:
        trial = cast(asyncio.Task[Any], asyncio.current_task())
        self._trials.add(trial)
        trial.add_done_callback(self._trials.discard)
        async with self._slots:
            if self._fatal:
                # Every trial would meet it again; that is said once for each, and costs nothing.
                raise self._fatal
            self._on_start(spec)
            ended = await run_trial(spec, self.world, self._retries)
            if ended.fault and ended.fault.fatal:
                self._fatal = ended.fault
            self._on_end(ended.record)
            return ended

    async def _cancel_all(self) -> None:
        # Only the trials: what they have under way, such as a sandbox being made, they end by themselves.
        trials = list(self._trials)
        for trial in trials:
            trial.cancel()
        await asyncio.gather(*trials, return_exceptions=True)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
