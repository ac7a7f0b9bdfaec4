"""The progress of a run: trials that run, are done and are to come, and the money that is spent."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from harness.records.record import TrialRecord, TrialSpec
from harness.report.formatting import cost
from harness.trials.context import RunContext

TICK_S = 0.5
HEARTBEAT_S = 30.0


class Terminal(Protocol):
    """The terminal to which a run tells how it goes, and which others write to as well."""

    @property
    def is_live(self) -> bool:
        """True when a line on it can be redrawn."""

    def write(self, text: str) -> None:
        """Write text as it is, at once."""

    def write_line(self, text: str) -> None:
        """Write a line of its own."""

    def uncaptured(self) -> AbstractContextManager[object]:
        """Let text through, while this is open, that would be captured as a test's output."""

    def before_output(self, clear: Callable[[], None]) -> None:
        """Have `clear` called before others write."""


class Progress:
    """A status line below the terminal's other output. Where no line can be redrawn, a new one now and then."""

    def __init__(self, terminal: Terminal | None, context: RunContext) -> None:
        self._terminal = terminal
        self._is_replay = context.model.source == "replay"
        self._lock = threading.Lock()
        self._running: dict[str, float] = {}
        self._expected = 0
        self._done = 0
        self._spent = 0.0
        self._last_output = time.monotonic()
        self._is_drawn = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if terminal:
            terminal.before_output(self.clear)
            self._thread = threading.Thread(
                target=self._tick, args=(terminal,), name="harness-progress", daemon=True
            )
            self._thread.start()

    def expect(self, trials: int) -> None:
        """Add to the number of expected trials."""
        self._expected += trials

    def started(self, spec: TrialSpec) -> None:
        """Note that a trial has got its slot."""
        with self._lock:
            self._running[spec.id] = time.monotonic()

    def ended(self, record: TrialRecord) -> None:
        """Note that a trial's record is stored."""
        with self._lock:
            self._running.pop(record.trial_id, None)
            self._done += 1
            self._spent += record.total_cost_usd or 0.0

    def close(self) -> None:
        """Stop, and leave nothing on the screen."""
        self._closed.set()
        if self._thread:
            self._thread.join()
        self.clear()

    def line(self) -> str:
        """The status in one line."""
        with self._lock:
            now = time.monotonic()
            running = ", ".join(
                f"{name} {_clock(now - began)}"
                for name, began in sorted(self._running.items(), key=lambda pair: pair[1])[:4]
            )
            more = len(self._running) - 4
            waiting = max(self._expected - self._done - len(self._running), 0)
            spent = "replayed" if self._is_replay else f"{cost(self._spent)} spent"
            parts = [f"{self._done}/{self._expected} done", spent, f"{waiting} to go"]
            if running:
                parts.append(f"running: {running}" + (f" and {more} more" if more > 0 else ""))
        return " · ".join(parts)

    def note(self, text: str) -> None:
        """Write a line that does not belong to one trial, between pytest's own lines."""
        if self._terminal:
            # While a test waits for its trial, pytest captures what is written.
            with self._terminal.uncaptured():
                self.clear()
                with self._lock:
                    self._terminal.write(f"\nharness: {text}")

    def clear(self) -> None:
        """Take the status line away, so that pytest can write."""
        self._last_output = time.monotonic()
        with self._lock:
            if self._terminal and self._is_drawn:
                # Save the cursor, empty the line below, come back.
                self._terminal.write("\x1b7\x1b[1B\r\x1b[2K\x1b8")
                self._is_drawn = False

    def _tick(self, terminal: Terminal) -> None:
        while not self._closed.wait(TICK_S):
            if terminal.is_live:
                self._draw(terminal)
            elif time.monotonic() - self._last_output > HEARTBEAT_S:
                self._last_output = time.monotonic()
                terminal.write(f"\nharness: {self.line()}\n")

    def _draw(self, terminal: Terminal) -> None:
        text = self.line()[: shutil.get_terminal_size().columns - 1]
        with self._lock:
            # Make sure that there is a line below (scrolling keeps the column), then write into it.
            terminal.write(f"\x1bD\x1b[1A\x1b7\x1b[1B\r\x1b[2K\x1b[2m{text}\x1b[0m\x1b8")
            self._is_drawn = True


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
