"""The hooks of a process that collects trials: their order, shards, resuming, `--plan`, and the reports of trials."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from typing import Any, cast

import pytest

from harness.errors import HarnessError
from harness.pytest_plugin.items import (
    TrialItem,
    external_spec,
    reporting_item,
    trial_id,
    trial_of_item,
    uses_trials,
)
from harness.pytest_plugin.options import SESSION, seed_of
from harness.pytest_plugin.other_plugins import OnceOnly, notes_on_plugins, why_not_run
from harness.pytest_plugin.own_verdict import note_report
from harness.pytest_plugin.plan_order import PlanOrder
from harness.pytest_plugin.python_tests import python_trial, tell_namesakes_apart
from harness.pytest_plugin.reporting import (
    hide_secrets,
    hide_secrets_of_crash,
    hide_secrets_of_expected_failure,
    hide_secrets_of_warning,
    mark_fault,
)
from harness.pytest_plugin.rpc import ControllerClient
from harness.pytest_plugin.session import MAIN_PROCESS, RunSession
from harness.runs.client import RunClient
from harness.runs.forecast import Planned
from harness.runs.shard import WHOLE


class RunPlugin:
    """Registered with the run's session."""

    def __init__(self, session: RunSession) -> None:
        self._session = session
        self._options = session.options

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Put trials into the plan's order, whatever other plugins make of it, and leave those of this process."""
        tell_namesakes_apart(items)
        order = PlanOrder(items, self._session)
        yield
        order.restore(items)
        self._note(config, [item for item in items if uses_trials(item)])
        if self._options.resume is not None:
            items[:] = [reporting_item(item, self._session) for item in items]
        self._leave_own_shard(config, items)

    def _note(self, config: pytest.Config, trials: Sequence[pytest.Item]) -> None:
        """Have the run's header say what was asked for and does not hold for some trials."""
        for note in notes_on_plugins(config, trials):
            self._session.client.note(note)
        declines = self._options.until_decided and not self._session.has_rounds_of_tests
        if declines and any(python_trial(item) for item in trials):
            self._session.client.note(
                "with -n, --until-decided adds rounds of task folders only: tests with claude or sandbox have "
                "--trials trials"
            )

    def _leave_own_shard(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect the trials of other shards."""
        shard = self._options.shard
        if shard == WHOLE:
            return
        others = {item for item in items if (name := trial_id(item)) is not None and not shard.has(name)}
        if others:
            config.hook.pytest_deselected(items=[item for item in items if item in others])
            items[:] = [item for item in items if item not in others]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Open the run if there is something to run, so that the header can tell of it."""
        runs = not session.config.option.collectonly and not self._options.plan
        runs = runs and any(uses_trials(item) for item in session.items)
        if wrong := self._session.broken or (why_not_run(session.config) if runs else None):
            self._session.refuse(wrong)
        elif runs:
            self._session.open()

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """Show what `--plan` foresees, or warn of a run that can find next to nothing."""
        controller = self._session.controller
        if controller is None:
            return []
        if not self._options.plan:
            return self._too_small(items)
        try:
            left = [
                item
                for item in items
                if not (isinstance(item, TrialItem) and controller.has_record(item.spec))
            ]
            trials = [Planned(found[0], found[1].name) for item in left if (found := trial_of_item(item))]
            return [f"harness: {line}" for line in controller.forecast(trials)]
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from error

    def _too_small(self, items: Sequence[pytest.Item]) -> list[str]:
        specs = [item.spec for item in items if isinstance(item, TrialItem)]
        if len({spec.variant.name for spec in specs}) < 2:
            return []
        from harness.runs.forecast import cannot_find

        tasks, trials = len({spec.task.name for spec in specs}), max(spec.index for spec in specs)
        said = cannot_find(tasks, trials, looking=self._options.until_decided)
        return [f"harness: {said}"] if said else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Have trials run ahead of the items that report them; a task that cannot be used does not hold up others."""
        option = session.config.option
        if option.collectonly or self._options.plan:
            return
        if session.testsfailed == self._session.bad_tasks:
            option.continue_on_collection_errors = True
        if not session.testsfailed or option.continue_on_collection_errors:
            self._start(session.items)

    def _start(self, items: Sequence[pytest.Item]) -> None:
        reported = [item for item in items if isinstance(item, TrialItem)]
        if self._session.controller is None or not self._session.has_rounds_of_tests:
            self._session.client.start([item.spec for item in reported if item.is_folder_task])
            others = [item for item in items if python_trial(item) and not isinstance(item, TrialItem)]
            self._session.client.expect_external([trial_id(item) or "" for item in others])
            return
        tests = [spec for item in items if (spec := external_spec(item, self._session))]
        self._session.controller.start([item.spec for item in reported], tests)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Have no round wait for a test that was skipped."""
        done = yield
        if self._session.controller and python_trial(item) and not isinstance(item, TrialItem):
            self._session.controller.give_up_external(trial_id(item) or "")
        return done

    @pytest.hookimpl(wrapper=True, trylast=True, specname="pytest_runtest_makereport")
    def pytest_show_fault_and_hide_secrets(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Report a fault as an ERROR wherever it shows, and take secrets out, before other plugins see the report."""
        report = yield
        mark_fault(call, report)
        if isinstance(item, TrialItem):
            _give_own_time(report, item.own_seconds)
        hide_secrets(report, self._session.redactor(), of_trial=uses_trials(item))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take secrets out of what other plugins have added, before it is shown, or handed from process to process."""
        hide_secrets_of_expected_failure(report, self._session.redactor())

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: Any) -> None:
        """Take secrets out of a crash, of ours or of another plugin."""
        hide_secrets_of_crash(excrepr, self._session.redactor())

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Take secrets out of a warning before its text is kept for the summary."""
        hide_secrets_of_warning(warning_message, self._session.redactor())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note what a test came to, after the plugins that know of expected failures."""
        report = yield
        note_report(item, report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None]:
        """Let fixtures tear down, then close this process's part in the run."""
        yield
        self._session.close()


def _give_own_time(report: pytest.TestReport, seconds: float | None) -> None:
    """Have junit's XML and --durations tell a trial's own time, not how long its item waited for it."""
    if seconds is not None and report.when != "teardown":
        report.duration = seconds if report.when == "call" or report.failed else 0.0


def start_session(config: pytest.Config) -> RunSession:
    """The run's session in this process, made with its plugin when the first task or fixture is met."""
    session: RunSession | None = config.stash.get(SESSION, None)
    if session is None:
        session = config.stash[SESSION] = _new_session(config)
        config.pluginmanager.register(RunPlugin(session), "harness-run")
        config.pluginmanager.register(OnceOnly(), "harness-once-only")
    return session


def _new_session(config: pytest.Config) -> RunSession:
    if hasattr(config, "workerinput"):
        worker: dict[str, Any] = cast(Any, config).workerinput
        given: dict[str, str] = worker["harness"]
        client = cast(RunClient, ControllerClient(given["address"], given["key"]))
        return RunSession(config, client, worker["workerid"], int(given["seed"]), None)
    # A worker needs neither the controller nor what it imports.
    from harness.pytest_plugin.controller_plugin import controller_of

    controller = controller_of(config)
    return RunSession(config, controller, MAIN_PROCESS, seed_of(config), controller)
