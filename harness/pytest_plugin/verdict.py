"""The plugin's part at a run's end: its verdicts, the gate that they pass or not, and the exit code that says so."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.options import CONTROLLER, SESSION, options_of

if TYPE_CHECKING:
    from harness.report.judgement import Judgement, Yardstick

_TRIAL = "harness_trial"


class Gatekeeper:
    """Registered in every pytest process; one in which no trial runs has nothing to judge."""

    def __init__(self, config: pytest.Config, baseline: str | None, fail_on: str | None) -> None:
        self._config = config
        self._asked = (baseline, fail_on)
        self._worker = hasattr(config, "workerinput")
        self._measure: Yardstick | None = None
        self._judgement: Judgement | None = None
        self._unjudged: str | None = None
        self._other_failures = 0

    def pytest_sessionstart(self) -> None:
        """Read what the run is to be compared with; what cannot be read must not be found out at the end."""
        if not any(self._asked) or self._worker:
            return
        from harness.errors import UsageError

        try:
            self._yardstick()
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse, before anything is spent, what could not be judged at the end."""
        if not any(self._asked) or self._worker or SESSION not in self._config.stash:
            return
        from harness.errors import UsageError
        from harness.pytest_plugin.items import TrialItem
        from harness.report.judgement import refuse_nothing_to_compare

        names = dict.fromkeys(item.spec.variant.name for item in session.items if isinstance(item, TrialItem))
        try:
            if names:
                refuse_nothing_to_compare(self._yardstick(), tuple(names))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell the reports of trials from those of other tests, also across processes."""
        report = yield
        if SESSION in item.config.stash:
            from harness.pytest_plugin.items import uses_trials

            setattr(report, _TRIAL, uses_trials(item))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what fails and is not a trial's own failure, which the gate judges."""
        if report.failed and not (getattr(report, _TRIAL, False) and report.when == "call"):
            self._other_failures += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A task that cannot be used is no trial's failure."""
        if report.failed:
            self._other_failures += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the run. With a gate its verdict is the exit code, unless something else failed too."""
        run = None if self._worker else _run(self._config)
        if run is None or not run.records_file.is_file():
            return
        if not any(self._asked) and not _has_variants(run):
            return
        from harness.errors import UsageError
        from harness.report.judgement import judge

        try:
            self._judgement = judge(run, self._yardstick())
        except UsageError as error:
            self._unjudged = str(error)
        gated = bool(self._asked[1])
        gate = self._judgement.gate if self._judgement else None
        failed = self._unjudged is not None or bool(gate and gate.failed)
        if gated and failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        only_trials = not self._other_failures and not session.shouldfail
        if gated and not failed and only_trials and session.exitstatus == pytest.ExitCode.TESTS_FAILED:
            session.exitstatus = pytest.ExitCode.OK

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None]:
        """The verdicts below the table, and in GitHub's summary of the job."""
        yield
        if self._unjudged is not None:
            terminalreporter.write_line(f"the run cannot be compared: {self._unjudged}")
        if self._judgement is None:
            return
        terminalreporter.section("verdict")
        terminalreporter.write(self._judgement.text(color=terminalreporter._tw.hasmarkup))
        if self._judgement.gate and not self._judgement.gate.failed:
            terminalreporter.write_line("trials that failed are data here: they do not fail the run")
        problem = _append_to_job_summary(self._judgement.markdown())
        if problem:
            terminalreporter.write_line(problem)

    def _yardstick(self) -> Yardstick:
        if self._measure is None:
            from harness.report.judgement import yardstick

            self._measure = yardstick(options_of(self._config).results, *self._asked)
        return self._measure


def _run(config: pytest.Config) -> Any:
    """The run of this session; None if no trial was to be run."""
    controller = config.stash.get(CONTROLLER, None)
    return controller.shown if controller else None


def _has_variants(run: Any) -> bool:
    """Whether there is something to compare: else the arithmetic, which takes half a second to load, is left alone."""
    from harness.records.store import read_measured

    return len({record.variant for record in read_measured(run.path).records}) > 1


def _append_to_job_summary(text: str) -> str | None:
    """Append to the file that GitHub Actions shows with the job; what went wrong, if anything did."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return None
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        return f"the job's summary {path} cannot be written: {error.strerror or error}"
    return None
