"""The pytest plugin: options, task folders to items, fixtures, live progress, the summary, xdist.

This module is imported by every pytest run on a machine that has harness installed, so it imports nothing heavy:
the rest is loaded when there is a task to run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.options import (
    CONTROLLER,
    SEED,
    SESSION,
    add_options,
    any_given,
    option,
    options_of,
)

if TYPE_CHECKING:
    from harness.pytest_plugin.rpc import ControllerServer
    from harness.pytest_plugin.session import RunSession

_MANIFEST = "task.toml"
_RELAY: pytest.StashKey[ControllerServer] = pytest.StashKey()
HEADER_PRINTED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option group, with ini twins."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Say which markers there are, and refuse wrong options before anything is collected."""
    if any_given(config):
        options_of(config)
    from harness.pytest_plugin.verdict import VerdictPlugin

    config.pluginmanager.register(
        VerdictPlugin(config, option(config, "baseline"), option(config, "fail-on"))
    )
    config.addinivalue_line(
        "markers",
        "task(folder=None, *, repo=None, template=None, checks=None, timeout=600, ...): what the fixtures `claude` and "
        "`sandbox` work on; a task folder, or the parts of one",
    )


def _is_task(path: Path) -> bool:
    return (path / _MANIFEST).is_file()


def _asked_for(config: pytest.Config) -> bool:
    """Task folders may cost money, so that a bare `pytest` that walks over them does not run them."""
    return config.args_source is not pytest.Config.ArgsSource.INVOCATION_DIR


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A bare `pytest` leaves task folders alone, and so the tests of their starter repos."""
    if not _asked_for(config) and _is_task(collection_path):
        return True
    return None


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A folder with a task.toml is one collector, and nothing in it is collected by anybody else."""
    if not _is_task(path):
        return None
    from harness.pytest_plugin.items import TaskFolder

    return TaskFolder.from_parent(parent, path=path)


def _session(config: pytest.Config) -> RunSession | None:
    return config.stash.get(SESSION, None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with one of the fixtures is run once for each variant and trial, as a task folder is."""
    if "harness_trial" in metafunc.fixturenames:
        name = metafunc.definition.nodeid
        from harness.pytest_plugin.session import session_of

        plan = session_of(metafunc.config).plan(name, metafunc.definition.path)
        metafunc.parametrize("harness_trial", plan, indirect=True, ids=[f"{v.name}-t{i}" for v, i in plan])


@pytest.fixture
def harness_trial(request: pytest.FixtureRequest) -> Generator[Any]:
    """The trial behind the fixtures `claude` and `sandbox`."""
    from harness.pytest_plugin.fixtures import run_fixture_trial
    from harness.pytest_plugin.session import session_of

    yield from run_fixture_trial(request, session_of(request.config))


@pytest.fixture
def claude(harness_trial: Any) -> Any:
    """Claude Code in the test's sandbox: `result = claude("Fix the failing test")`."""
    return harness_trial.claude


@pytest.fixture
def sandbox(harness_trial: Any) -> Any:
    """The test's sandbox: `sandbox.run("ls")`, `sandbox.read("x.txt")`, `sandbox.write("x.txt", "...")`."""
    return harness_trial.sandbox


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`--shard` leaves the trials of the other parts out; `--resume` has a test's valid record stand for the test."""
    ours = _session(config)
    if ours and ours.options.resume is not None:
        from harness.pytest_plugin.fixtures import reporting_item

        items[:] = [reporting_item(item, ours) for item in items]
    if _session(config) and option(config, "shard"):
        from harness.pytest_plugin.items import trial_id

        shard = options_of(config).shard
        others = [item for item in items if (name := trial_id(item)) is not None and not shard.has(name)]
        if others:
            config.hook.pytest_deselected(items=others)
            gone = set(others)
            items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Where there is something to run, start what it needs; the header tells of it."""
    ours = _session(session.config)
    if ours and ours.broken:
        ours.refuse(ours.broken)
    elif ours and not session.config.option.collectonly and not ours.options.plan:
        from harness.pytest_plugin.items import uses_trials

        if any(uses_trials(item) for item in session.items):
            ours.open()


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """The run's header, once it is known that there is something to run."""
    ours = _session(config)
    if ours and ours.options.plan:
        from harness.pytest_plugin.items import forecast

        return forecast(ours, items)
    if CONTROLLER not in config.stash:
        return []
    from harness.pytest_plugin.session import header

    return header(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Trials run ahead of the items that report them; a task that cannot be used does not hold up the others."""
    ours = _session(session.config)
    if option(session.config, "plan"):
        return True
    if ours and not session.config.option.collectonly:
        from harness.pytest_plugin.items import TrialItem

        if session.testsfailed == ours.bad_tasks:
            session.config.option.continue_on_collection_errors = True
        if not session.testsfailed or session.config.option.continue_on_collection_errors:
            ours.start(
                [item.spec for item in session.items if isinstance(item, TrialItem) and item.is_folder_task]
            )
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """An infrastructure fault is an ERROR wherever it shows, never a FAILED; and no report shows a key."""
    report = yield
    ours = _session(item.config)
    if ours:
        from harness.pytest_plugin.items import hide_secrets, mark_fault

        mark_fault(item, call, report)
        hide_secrets(report, ours.redact)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """What a trial cost stands beside its result in verbose output."""
    fields = dict(getattr(report, "user_properties", ()))
    if "harness_line" not in fields or getattr(report, "when", None) != "call" or not report.passed:
        return None
    return report.outcome, ".", f"PASSED {fields['harness_line']}"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table, and where the records are."""
    if CONTROLLER not in config.stash:
        return
    from harness.pytest_plugin.session import not_started, run_shown

    run = run_shown(config)
    if run:
        from harness.report.terminal import write_summary

        write_summary(terminalreporter, run, not_started=not_started(config))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Trials that still run end first; then the tests' fixtures, and with them what this process has."""
    if CONTROLLER in session.config.stash:
        from harness.pytest_plugin.session import finish

        finish(session)
    yield
    ours = _session(session.config)
    if ours:
        ours.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker the way to the run, which is led from here."""
    from harness.pytest_plugin.rpc import ControllerServer

    config: pytest.Config = node.config
    relay = config.stash.get(_RELAY, None)
    if relay is None:
        relay = config.stash[_RELAY] = ControllerServer(
            lambda question, about: _answer(config, question, about)
        )
        config.add_cleanup(relay.close)
    if SEED not in config.stash:
        from harness.runs.order import draw_seed

        given = option(config, "seed")
        config.stash[SEED] = draw_seed() if given is None else int(given)
    node.workerinput["harness"] = {
        "address": relay.address,
        "key": relay.key,
        "seed": str(config.stash[SEED]),
    }


def _answer(config: pytest.Config, question: str, about: Any) -> Any:
    from harness.pytest_plugin.session import answer

    return answer(config, question, about)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker that is gone leads no trial any more."""
    if CONTROLLER in node.config.stash:
        from harness.errors import Fault

        # A disk that takes no record any more is told by the trials that still run.
        with contextlib.suppress(Fault):
            node.config.stash[CONTROLLER].leave(node.workerinput["workerid"], None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """The run's header, when the first worker knows that there is something to run."""
    config: pytest.Config = node.config
    if CONTROLLER in config.stash and not config.stash.get(HEADER_PRINTED, False):
        from harness.pytest_plugin.session import header

        config.stash[HEADER_PRINTED] = True
        terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        for line in header(config):
            terminal.write_line(line)
