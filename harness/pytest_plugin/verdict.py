"""A run's verdicts at its end: judge them, show them, and let the gate set the exit code."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.options import CONTROLLER, SESSION, option, options_of

if TYPE_CHECKING:
    from harness.records.store import RunFolder
    from harness.report.run_verdict import ComparisonTarget, RunVerdict
    from harness.runs.controller import RunController

_TRIAL = "harness_trial"
_SHORT = 12
"""Lines of verdicts that stay on any screen."""


class VerdictPlugin:
    """A pytest plugin that judges the run. It is registered in every process, and does nothing where no trial runs."""

    def __init__(self, config: pytest.Config, baseline: str | None, fail_on: str | None) -> None:
        self._config = config
        self._options = (baseline, fail_on)
        self._worker = hasattr(config, "workerinput")
        self._target: ComparisonTarget | None = None
        self._verdict: RunVerdict | None = None
        self._comparison_error: str | None = None
        self._other_failures = 0
        self._reported = 0

    def pytest_sessionstart(self) -> None:
        """Load the comparison target now, so that one which cannot be read is refused before the run."""
        if not any(self._options) or self._worker:
            return
        from harness.errors import UsageError

        try:
            self._load_target()
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse a run that could not be judged at its end, before anything is spent. A shard is not judged."""
        if option(self._config, "shard"):
            return
        if not any(self._options) or self._worker or SESSION not in self._config.stash:
            return
        from harness.errors import UsageError
        from harness.pytest_plugin.items import TrialItem
        from harness.report.run_verdict import refuse_nothing_to_compare

        names = dict.fromkeys(item.spec.variant.name for item in session.items if isinstance(item, TrialItem))
        try:
            if names:
                refuse_nothing_to_compare(self._load_target(), tuple(names))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mark the reports of trials, so that the controller of xdist can tell them from those of other tests."""
        report = yield
        if SESSION in item.config.stash:
            from harness.pytest_plugin.items import uses_trials

            setattr(report, _TRIAL, uses_trials(item))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the trials' verdicts, and the failures that are no trial's own: those are for the gate to judge."""
        is_verdict = getattr(report, _TRIAL, False) and report.when == "call"
        self._reported += is_verdict
        if report.failed and not is_verdict:
            self._other_failures += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a task that cannot be used: it is no trial's failure either."""
        if report.failed:
            self._other_failures += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the run. With a gate its verdict sets the exit code, unless something else failed too."""
        controller = self._controller()
        run = controller.shown if controller else None
        if controller is None or run is None or not run.records_file.is_file():
            return
        gated, failed = bool(self._options[1]), False
        if not self._is_part(controller):
            failed = self._judge(run)
        if gated and failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        only_trials = not self._other_failures and not session.shouldfail
        if gated and not failed and only_trials and session.exitstatus == pytest.ExitCode.TESTS_FAILED:
            session.exitstatus = pytest.ExitCode.OK

    def _judge(self, run: RunFolder) -> bool:
        """Judge the run; true when the gate fails, or what was asked for cannot be compared."""
        from harness.errors import UsageError
        from harness.report.run_verdict import judge_run

        try:
            self._verdict = judge_run(run, self._load_target())
        except UsageError as error:
            # Without options nobody asked for a comparison.
            self._comparison_error = str(error) if any(self._options) else None
        gate = self._verdict.gate if self._verdict else None
        return self._comparison_error is not None or bool(gate and gate.failed)

    @pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_sessionfinish")
    def pytest_write_end(self, session: pytest.Session) -> Generator[None]:
        """Write table and verdicts below all that pytest writes, so that they are what is on the screen at the end."""
        yield
        controller = self._controller()
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal and controller and controller.shown:
            from harness.pytest_plugin.reporting import results_option
            from harness.report.terminal import write_summary

            is_cut_short = bool(session.shouldfail or session.shouldstop)
            reported = self._reported if is_cut_short else None
            write_summary(terminal, controller.shown, not_started=controller.not_started, reported=reported)
            if controller.shown.records_file.is_file():
                where = results_option(controller.shown.path.parent)
                terminal.write_line(f"a page for your browser: harness report {controller.run_id}{where}")
            self._write_verdict(terminal, controller)
            for line in self._last_lines(session, controller):
                terminal.write_line(line)

    def _write_verdict(self, terminal: Any, controller: RunController) -> None:
        """Write the verdicts, here and into GitHub's summary of the job; or why there are none."""
        if self._is_part(controller):
            terminal.write_line(
                f"shard {controller.options.shard}: no verdict, since the other shards have the rest; `harness merge` "
                "puts their results folders together, and `harness compare` judges them"
            )
        if self._comparison_error is not None:
            terminal.write_line(f"the run cannot be compared: {self._comparison_error}")
        if self._verdict is None:
            return
        terminal.section("verdict")
        text = self._verdict.text(color=terminal._tw.hasmarkup)
        terminal.write(text)
        if self._verdict.gate and not self._verdict.gate.failed:
            terminal.write_line("trials that failed are data here: they do not fail the run")
        problem = _append_to_job_summary(self._verdict.markdown())
        if problem:
            terminal.write_line(problem)
        if text.count("\n") > _SHORT:
            # The tables may have scrolled the answers away.
            terminal.write(f"\n{self._verdict.headlines()}", bold=True)

    def _last_lines(self, session: pytest.Session, controller: RunController) -> Iterator[str]:
        """Lines on why the run is not whole, and on the command that goes on with it."""
        reason, run = controller.out_of_money, controller.run_id
        if reason:
            trials = "1 trial" if controller.unpaid == 1 else f"{controller.unpaid} trials"
            yield (
                f"{reason}. {trials} did not run: what is said here is of the others "
                f"(exit code {int(session.exitstatus)})"
            )
            yield f"go on with more money: {_resume_command(self._config, run, '--max-cost')} --max-cost USD"
        elif session.exitstatus == pytest.ExitCode.INTERRUPTED:
            yield f"go on with it: {_resume_command(self._config, run)}"

    def _controller(self) -> RunController | None:
        return None if self._worker else self._config.stash.get(CONTROLLER, None)

    @staticmethod
    def _is_part(controller: RunController) -> bool:
        """True for a shard: a verdict on it would be one on a part of the trials."""
        return controller.options.shard.total > 1

    def _load_target(self) -> ComparisonTarget:
        if self._target is None:
            from harness.report.run_verdict import load_comparison_target

            self._target = load_comparison_target(options_of(self._config).results, *self._options)
        return self._target


def _resume_command(config: pytest.Config, run: str, *left_out: str) -> str:
    """The command that was given, without some options, and that it goes on with this run."""
    given = [str(argument) for argument in config.invocation_params.args]
    kept = [
        argument
        for before, argument in zip(["", *given], given, strict=False)
        if argument.partition("=")[0] not in ("--resume", *left_out)
        and before not in left_out
        and not (before == "--resume" and argument == option(config, "resume"))
    ]
    return shlex.join(["pytest", *kept, f"--resume={run}"])


def _append_to_job_summary(text: str) -> str | None:
    """Append to the file that GitHub Actions shows with the job. Returns the problem, if there was one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return None
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        return f"the job's summary {path} cannot be written: {error.strerror or error}"
    return None
