"""pytest's terminal, as a run writes to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import pytest

from harness.runs.progress import ProgressTerminal


class PytestTerminal:
    """Writes beside pytest's own reporter. Implements `ProgressTerminal`."""

    def __init__(self, plugins: pytest.PytestPluginManager, reporter: Any) -> None:
        self._plugins = plugins
        self._reporter = reporter
        self._clear: Callable[[], None] = lambda: None
        self._descriptor = self._uncaptured_descriptor()

    def _uncaptured_descriptor(self) -> int | None:
        """A descriptor of the terminal itself: while a test runs, pytest has a file of its own behind number 1."""
        capture: Any = self._plugins.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            try:
                return os.dup(self._reporter._tw._file.fileno())
            except (OSError, ValueError, AttributeError):
                return None  # It writes into memory, where nobody captures.

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def is_live(self) -> bool:
        """True on a terminal that can redraw a line, false for a file or a pipe."""
        return bool(self._reporter.isatty) and os.environ.get("TERM") != "dumb"

    @property
    def columns(self) -> int:
        """The terminal's own width, which may change, and which nobody can ask of a captured number 1."""
        try:
            return os.get_terminal_size(self._descriptor or 1).columns
        except OSError:
            return int(self._reporter._tw.fullwidth)

    def write(self, text: str) -> None:
        """Write text as it is, past any capture. pytest's own way would count its columns."""
        if self._descriptor is None:
            self._reporter._tw._file.write(text)
            self._reporter._tw._file.flush()
            return
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._descriptor, data) :]

    def write_line(self, text: str) -> None:
        """Write a line of its own."""
        write_line(self._reporter, text)

    def before_output(self, clear: Callable[[], None]) -> None:
        """Have `clear` called before pytest writes."""
        self._clear = clear
        self._plugins.register(self, "harness-progress")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Make room for the line of a test that starts."""
        self._clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Make room for a test's result."""
        self._clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Make room for the summary."""
        self._clear()


def write_line(reporter: Any, text: str) -> None:
    """Write a line of its own: also below xdist's words and dots, of which the reporter does not know."""
    reporter.ensure_newline()
    if reporter._tw.width_of_current_line:
        reporter._tw.line()
    reporter.write_line(text)


def terminal_of(config: pytest.Config) -> ProgressTerminal | None:
    """pytest's terminal; None where it has none."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return None
    terminal = PytestTerminal(config.pluginmanager, reporter)
    config.add_cleanup(terminal.close)
    return terminal
