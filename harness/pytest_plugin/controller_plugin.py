"""The hooks of the process that has the run's controller: header, end, and xdist's workers."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Generator
from typing import Any

import pytest

from harness.errors import Fault, UsageError
from harness.pytest_plugin.failures import GroupedFailures
from harness.pytest_plugin.options import CONTROLLER, STARTING, options_of
from harness.pytest_plugin.terminal import terminal_of, write_line
from harness.runs.controller import EXIT_BUDGET, RunController

_controller_lock = threading.Lock()


class ControllerPlugin:
    """Registered with the run's controller."""

    def __init__(self, controller: RunController) -> None:
        self._controller = controller
        self._is_header_printed = False
        self._is_over = False

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
                write_line(terminal, line)

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
        told = dict(getattr(report, "user_properties", ()))
        line, late = told.get("harness_line"), told.get("harness_late_line")
        when = getattr(report, "when", None)
        if when == "teardown" and report.passed and late and not self._is_over:
            # Of a test with fixtures: its record is made after its result is shown.
            return "", "", str(late)
        # Tools read pytest's list at the end, which has the same word before each test's name.
        if (
            self._is_over
            or line is None
            or hasattr(report, "wasxfail")
            or not (report.passed or report.failed)
        ):
            return None
        if when == "call":
            letter, word = (".", "PASSED") if report.passed else ("F", "FAILED")
            return report.outcome, letter, f"{word} {line}"
        return ("error", "E", f"ERROR {line}") if when == "setup" and report.failed else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Finish the trials that still run, before pytest tears the tests' fixtures down."""
        self._is_over = True
        try:
            self._controller.finish()
        except KeyboardInterrupt:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        if self._controller.out_of_money:
            session.exitstatus = EXIT_BUDGET
        yield

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """End the external trial of a worker that is gone."""
        # The trials that still run tell of a disk that takes no record any more.
        with contextlib.suppress(Fault):
            self._controller.end_external(node.workerinput["workerid"], None)


def _command(config: pytest.Config) -> str:
    """The command as it was typed, but for how pytest was called."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])


def controller_of(config: pytest.Config) -> RunController:
    """The run's controller, made with its plugin when it is first asked for; several workers may ask at once.

    It is closed when pytest is.
    """
    with _controller_lock:
        controller: RunController | None = config.stash.get(CONTROLLER, None)
        if controller is None:
            starting = config.stash.get(STARTING, None)
            controller = RunController(options_of(config), terminal_of(config), starting, _command(config))
            config.stash[CONTROLLER] = controller
            config.add_cleanup(controller.close)
            config.pluginmanager.register(ControllerPlugin(controller), "harness-controller")
            config.pluginmanager.register(GroupedFailures(lambda: controller.shown), "harness-failures")
    return controller
