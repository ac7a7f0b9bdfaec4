"""The progress of a run: on the terminal it was started in, and in its folder for who looks from another one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

from harness.records.record import TrialRecord
from harness.records.trial_spec import TrialSpec
from harness.report.live import (
    RunningTrial,
    RunStatus,
    remove_status,
    spent_words,
    status_line,
    write_status,
)
from harness.report.sanitize import sanitize
from harness.runs.budget import Budget
from harness.trials.context import RunContext

TICK_S = 0.5
HEARTBEAT_S = 30.0


class ProgressTerminal(Protocol):
    """The terminal to which a run tells how it goes, and which others write to as well."""

    @property
    def is_live(self) -> bool:
        """True when a line on it can be redrawn."""

    @property
    def columns(self) -> int:
        """Its width."""

    def write(self, text: str) -> None:
        """Write text as it is, at once, also while a test's output is captured."""

    def write_line(self, text: str) -> None:
        """Write a line of its own."""

    def before_output(self, clear: Callable[[], None]) -> None:
        """Have `clear` called before others write."""


class Progress:
    """A status line below the terminal's other output. Where no line can be redrawn, a new one now and then.

    `doing` names the phase that a trial is in.
    """

    def __init__(self, terminal: ProgressTerminal | None, context: RunContext, budget: Budget) -> None:
        self.doing: Callable[[str], str] = lambda trial: ""
        self._terminal = terminal
        self._folder = context.folder
        self._source = context.model.source
        self._budget = budget
        self._lock = threading.Lock()
        self._running: dict[str, tuple[TrialSpec, float]] = {}
        self._outcomes = {"passed": 0, "failed": 0, "error": 0, "invalid": 0}
        self._durations: list[float] = []
        self._expected = 0
        self._last_output = time.monotonic()
        self._is_drawn = False
        self._closed = threading.Event()
        if terminal:
            terminal.before_output(self.clear)
        self._thread = threading.Thread(target=self._tick, name="harness-progress", daemon=True)
        self._thread.start()

    def expect(self, trials: int) -> None:
        """Add to the number of expected trials."""
        self._expected += trials

    def started(self, spec: TrialSpec) -> None:
        """Note that a trial has got its slot."""
        with self._lock:
            self._running[spec.id] = (spec, time.monotonic())

    def ended(self, record: TrialRecord) -> None:
        """Note that a trial's record is stored, now or by the run that is resumed."""
        with self._lock:
            found = self._running.pop(record.trial_id, None)
            self._outcomes[record.outcome] += 1
            if found:
                built_s = (record.phases_ms.build or 0) / 1000
                self._durations.append(time.monotonic() - found[1] - built_s)

    def close(self) -> None:
        """Stop, and leave nothing on the screen."""
        self._closed.set()
        self._thread.join()
        self.clear()
        remove_status(self._folder)

    def status(self) -> RunStatus:
        """The run as it is now."""
        with self._lock:
            now = time.monotonic()
            running = tuple(
                RunningTrial(
                    spec.id,
                    spec.task.name,
                    spec.variant.name,
                    spec.index,
                    now - began,
                    self.doing(spec.id),
                    self._budget.used_usd(spec.id) if self._source == "api" else None,
                )
                for spec, began in sorted(self._running.values(), key=lambda pair: pair[1])
            )
            done = sum(self._outcomes.values())
            errors = self._outcomes["error"] + self._outcomes["invalid"]
            left = self._left_s(done, [one.seconds for one in running])
            return RunStatus(
                self._expected, done, self._outcomes["failed"], errors, self._spent(), left, running
            )

    def _spent(self) -> str | None:
        if self._source == "api":
            return spent_words(self._budget.used_usd(), self._budget.limit)
        return "replayed" if self._source == "replay" else None

    def _left_s(self, done: int, running: list[float]) -> float | None:
        """The time that is left, if trials go on taking as long; None while none has ended, or all take longer."""
        if not self._durations:
            return None
        mean = sum(self._durations) / len(self._durations)
        waiting = max(self._expected - done - len(running), 0)
        work = waiting * mean + sum(max(mean - age, 0.0) for age in running)
        return work / max(len(running), 1) or None

    def note(self, text: str) -> None:
        """Write a line that does not belong to one trial, between pytest's own lines."""
        if self._terminal:
            self.clear()
            with self._lock:
                self._terminal.write(f"\nharness: {sanitize(text)}")

    def clear(self) -> None:
        """Take the status line away, so that pytest can write."""
        self._last_output = time.monotonic()
        with self._lock:
            if self._terminal and self._is_drawn:
                # Save the cursor, empty the line below, come back.
                self._terminal.write("\x1b7\x1b[1B\r\x1b[2K\x1b8")
                self._is_drawn = False

    def _tick(self) -> None:
        while not self._closed.wait(TICK_S):
            status = self.status()
            # A disk that takes nothing is told of by the trials, whose records matter.
            with contextlib.suppress(OSError):
                write_status(self._folder, status)
            if self._terminal is None:
                continue
            if self._terminal.is_live:
                # Before the first starts, pytest may be in the middle of a header.
                if status.running or status.done:
                    self._draw(self._terminal, status_line(status))
            elif time.monotonic() - self._last_output > HEARTBEAT_S:
                self._last_output = time.monotonic()
                self._terminal.write(f"\nharness: {status_line(status)}\n")

    def _draw(self, terminal: ProgressTerminal, line: str) -> None:
        text = line[: terminal.columns - 1]
        with self._lock:
            # Make sure that there is a line below (scrolling keeps the column), then write into it.
            terminal.write(f"\x1bD\x1b[1A\x1b7\x1b[1B\r\x1b[2K\x1b[2m{text}\x1b[0m\x1b8")
            self._is_drawn = True
