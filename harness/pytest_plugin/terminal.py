"""pytest's terminal, as a run writes to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from harness.runs.progress import Terminal


class PytestTerminal:
    """Writes beside pytest's own reporter. Implements `Terminal`."""

    def __init__(self, plugins: pytest.PytestPluginManager, reporter: Any) -> None:
        self._plugins = plugins
        self._reporter = reporter
        self._clear: Callable[[], None] = lambda: None

    @property
    def is_live(self) -> bool:
        """True on a terminal, false for a file or a pipe."""
        return bool(self._reporter.isatty)

    def write(self, text: str) -> None:
        """Write text as it is. pytest's own way would count its columns."""
        file = self._reporter._tw._file
        file.write(text)
        file.flush()

    def write_line(self, text: str) -> None:
        """Write a line of its own."""
        self._reporter.ensure_newline()
        self._reporter.write_line(text)

    def uncaptured(self) -> AbstractContextManager[Any]:
        """Let text through, while this is open, that pytest would capture as a test's output."""
        capture: Any = self._plugins.get_plugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()

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


def terminal_of(config: pytest.Config) -> Terminal | None:
    """pytest's terminal; None where it has none."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return PytestTerminal(config.pluginmanager, reporter) if reporter else None
