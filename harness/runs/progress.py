"""While trials run: what runs, what is done, what is spent, what is left."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from typing import Any

import pytest

from harness.records.record import TrialRecord, TrialSpec
from harness.report.formatting import cost
from harness.trials.context import RunContext

TICK_S = 0.5
HEARTBEAT_S = 30.0


class Progress:
    """A status line below pytest's own output on a terminal; elsewhere a line when nothing was said for long."""

    def __init__(self, config: pytest.Config, context: RunContext) -> None:
        self._terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._live = bool(self._terminal and self._terminal.isatty)
        self._replayed = context.model.source == "replay"
        self._lock = threading.Lock()
        self._running: dict[str, float] = {}
        self._expected = 0
        self._done = 0
        self._spent = 0.0
        self._said = time.monotonic()
        self._drawn = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="harness-progress", daemon=True)
        if self._terminal:
            config.pluginmanager.register(_Around(self), "harness-progress")
            self._thread.start()

    def expect(self, trials: int) -> None:
        """So many are to come."""
        self._expected += trials

    def started(self, spec: TrialSpec) -> None:
        """A trial has got its slot."""
        with self._lock:
            self._running[spec.id] = time.monotonic()

    def ended(self, record: TrialRecord) -> None:
        """A trial's record is stored."""
        with self._lock:
            self._running.pop(record.trial_id, None)
            self._done += 1
            self._spent += record.total_cost_usd or 0.0

    def close(self) -> None:
        """Stop, and leave nothing on the screen."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.clear()

    def line(self) -> str:
        """The status in one line."""
        with self._lock:
            now = time.monotonic()
            running = ", ".join(
                f"{name} {_clock(now - began)}"
                for name, began in sorted(self._running.items(), key=_second)[:4]
            )
            more = len(self._running) - 4
            waiting = max(self._expected - self._done - len(self._running), 0)
            spent = "replayed" if self._replayed else f"{cost(self._spent)} spent"
            parts = [f"{self._done}/{self._expected} done", spent, f"{waiting} to go"]
            if running:
                parts.append(f"running: {running}" + (f" and {more} more" if more > 0 else ""))
        return " · ".join(parts)

    def note(self, text: str) -> None:
        """Say something that does not belong to one trial, between pytest's own lines."""
        if not self._terminal:
            return
        # While a test waits for its trial, pytest captures what is written.
        with self._capture.global_and_fixture_disabled() if self._capture else contextlib.nullcontext():
            self.clear()
            with self._lock:
                self._write(f"\nharness: {text}")

    def clear(self) -> None:
        """Take the status line away, so that pytest can write."""
        self._said = time.monotonic()
        with self._lock:
            if self._drawn:
                # Save the cursor, empty the line below, come back.
                self._write("\x1b7\x1b[1B\r\x1b[2K\x1b8")
                self._drawn = False

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            if self._live:
                self._draw()
            elif time.monotonic() - self._said > HEARTBEAT_S:
                self._said = time.monotonic()
                self._write(f"\nharness: {self.line()}\n")

    def _draw(self) -> None:
        text = self.line()[: shutil.get_terminal_size().columns - 1]
        with self._lock:
            # Make sure that there is a line below (scrolling keeps the column), then write into it.
            self._write(f"\x1bD\x1b[1A\x1b7\x1b[1B\r\x1b[2K\x1b[2m{text}\x1b[0m\x1b8")
            self._drawn = True

    def _write(self, text: str) -> None:
        self._terminal._tw._file.write(text)
        self._terminal._tw._file.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


class _Around:
    """Clears the status line before pytest writes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self._progress.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        self._progress.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._progress.clear()
