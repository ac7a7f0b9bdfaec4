"""The hooks of the process that has the run's controller: header, summary, end, and xdist's workers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any

import pytest

from harness.errors import Fault, UsageError
from harness.pytest_plugin.options import CONTROLLER, options_of
from harness.pytest_plugin.terminal import terminal_of
from harness.report.terminal import write_summary
from harness.runs.controller import EXIT_BUDGET, RunController

_controller_lock = threading.Lock()


class ControllerPlugin:
    """Registered with the run's controller."""

    def __init__(self, controller: RunController) -> None:
        self._controller = controller
        self._is_header_printed = False

    def pytest_report_collectionfinish(self) -> list[str]:
        """Show the run's header, once it is known that there is something to run."""
        return self._start_lines()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Show the run's header when the first worker knows that there is something to run."""
        if not self._is_header_printed:
            self._is_header_printed = True
            terminal: Any = node.config.pluginmanager.get_plugin("terminalreporter")
            for line in self._start_lines():
                terminal.write_line(line)

    def _start_lines(self) -> list[str]:
        try:
            lines = self._controller.header()
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        self._controller.handle_signals()
        return lines

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport | pytest.CollectReport
    ) -> tuple[str, str, str] | None:
        """Show a trial's time, tokens and cost beside its result in verbose output."""
        fields = dict(getattr(report, "user_properties", ()))
        if "harness_line" not in fields or getattr(report, "when", None) != "call" or not report.passed:
            return None
        return report.outcome, ".", f"PASSED {fields['harness_line']}"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Finish the trials that still run, before pytest tears the tests' fixtures down."""
        self._controller.finish()
        if self._controller.is_out_of_money:
            session.exitstatus = EXIT_BUDGET
        yield

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the table, and where the records are."""
        if self._controller.shown:
            write_summary(terminalreporter, self._controller.shown, not_started=self._controller.not_started)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """End the external trial of a worker that is gone."""
        # The trials that still run tell of a disk that takes no record any more.
        with contextlib.suppress(Fault):
            self._controller.end_external(node.workerinput["workerid"], None)


def controller_of(config: pytest.Config) -> RunController:
    """The run's controller, made with its plugin when it is first asked for; several workers may ask at once.

    It is closed when pytest is.
    """
    with _controller_lock:
        controller: RunController | None = config.stash.get(CONTROLLER, None)
        if controller is None:
            controller = RunController(options_of(config), terminal_of(config))
            config.stash[CONTROLLER] = controller
            config.add_cleanup(controller.close)
            config.pluginmanager.register(ControllerPlugin(controller), "harness-controller")
    return controller
