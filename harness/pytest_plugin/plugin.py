"""The pytest plugin's entry: options, task folders, fixtures, and the plugins that are registered when they are needed.

Every pytest run on a machine that has harness installed imports this module, so it imports nothing heavy. The first
task, or the first test with one of the fixtures, registers `RunPlugin`; the run's controller, `ControllerPlugin`.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.pytest_plugin.options import (
    DATASET,
    SESSION,
    STARTING,
    add_options,
    any_given,
    name_from_root,
    option,
    options_of,
    root_of,
    seed_of,
)
from harness.tasks.formats.marks import is_marked

if TYPE_CHECKING:
    from harness.pytest_plugin.rpc import ControllerServer
    from harness.pytest_plugin.session import RunSession
    from harness.records.redaction import Redactor
    from harness.runs.controller import RunController

_DEEPEST = 100
_SERVER: pytest.StashKey[ControllerServer] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add one option group, with ini twins."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and refuse wrong options before anything is collected."""
    if any_given(config):
        options_of(config)
    if option(config, "dataset"):
        from harness.pytest_plugin.datasets import name_dataset

        name_dataset(config)
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
    """True for a folder that is a task, of ours or of another format."""
    if not is_marked(path):
        return False
    from harness.tasks.formats.registry import format_of

    return is_marked(path, "harness") or format_of(path) is not None


def _names_tests(config: pytest.Config) -> bool:
    """Tell whether tests were named. Tasks may cost money, so a bare `pytest` that walks over them runs none."""
    return config.args_source is not pytest.Config.ArgsSource.INVOCATION_DIR


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave task folders alone in a bare `pytest`, and with them the tests of their starter repos.

    A link to a folder that it is in brings nothing new, and each task again, forty times.
    """
    if not _names_tests(config) and _is_task(collection_path):
        return True
    if collection_path.is_symlink():
        leads_to, stands_in = os.path.realpath(collection_path), os.path.realpath(collection_path.parent)
        return os.path.commonpath((leads_to, stands_in)) == leads_to or None
    return None


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Make a folder with a task.toml one collector, so that nobody else collects anything in it.

    Folders within very many folders are somebody's trap: each costs pytest more than the one before.
    """
    if len(path.parts) - len(parent.config.rootpath.parts) > _DEEPEST:
        raise pytest.Collector.CollectError(f"folders within more than {_DEEPEST} folders are not collected")
    if not _is_task(path):
        return None
    _start_session(parent.config)
    from harness.pytest_plugin.items import TaskFolder

    return TaskFolder.from_parent(parent, path=path)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Take secrets out of what says why something cannot be collected, and of what was printed; after all others."""
    report = yield
    if report.longrepr or report.sections:
        from harness.pytest_plugin.reporting import hide_secrets_of_collection

        hide_secrets_of_collection(report, _redactor_at(collector))
    return report


def _redactor_at(collector: pytest.Collector) -> Redactor:
    """The redactor of the secrets of the variants declared for a place, whether tasks have been met there or not."""
    from harness.runs.secrets import redactor_of_machine
    from harness.variants.declared import VariantResolver

    session = collector.config.stash.get(SESSION, None)
    options = options_of(collector.config)
    try:
        variants = VariantResolver(root_of(collector.config), options.variants, ()).for_task(collector.path)
    except UsageError:
        variants = ()  # Tasks there are told why.
    names = {name for variant in variants for name in variant.secrets}
    known = {name: os.environ[name] for name in names if os.environ.get(name)}
    return (session.redactor() if session else redactor_of_machine(os.environ)).knowing(known)


def _start_session(config: pytest.Config) -> RunSession:
    if SESSION not in config.stash and not hasattr(config, "workerinput"):
        _begin_server(config)
    from harness.pytest_plugin.run_plugin import start_session

    return start_session(config)


def _begin_server(config: pytest.Config) -> None:
    """Start this machine's sandbox server, where the run will need it: it comes up while modules are loaded here."""
    if config.option.collectonly or option(config, "plan"):
        return
    from harness.runs.early import begin_server

    if starting := begin_server(options_of(config)):
        config.stash[STARTING] = starting
        config.add_cleanup(starting.cancel)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with one of the fixtures once for each variant and trial, as a task folder is."""
    if "harness_trial" not in metafunc.fixturenames:
        return
    session = _start_session(metafunc.config)
    from harness.pytest_plugin.python_tests import task_name, trial_label

    test = name_from_root(metafunc.config, metafunc.definition.nodeid)
    owner = session.take_name(task_name(test), test)
    if owner:
        raise pytest.Collector.CollectError(
            f"{test}: in records its name is that of {owner}; rename one of the two"
        )
    plan = session.plan(task_name(test), metafunc.definition.path, session.trials_of_tests)
    ids = [trial_label(variant, index) for variant, index in plan]
    metafunc.parametrize("harness_trial", plan, indirect=True, ids=ids)


@pytest.fixture
def harness_trial(request: pytest.FixtureRequest) -> Generator[Any]:
    """The trial behind the fixtures `claude` and `sandbox`."""
    from harness.pytest_plugin.fixtures import run_fixture_trial

    yield from run_fixture_trial(request, _start_session(request.config))


@pytest.fixture
def claude(harness_trial: Any) -> Any:
    """Claude Code in the test's sandbox: `result = claude("Fix the failing test")`."""
    return harness_trial.claude


@pytest.fixture
def sandbox(harness_trial: Any) -> Any:
    """The test's sandbox: `sandbox.run("ls")`, `sandbox.read("x.txt")`, `sandbox.write("x.txt", "...")`."""
    return harness_trial.sandbox


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run nothing with `--plan`, neither trials nor other tests."""
    return True if option(session.config, "plan") else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist the way to the run's controller, which is in this process."""
    from harness.pytest_plugin.rpc import ControllerServer

    config: pytest.Config = node.config
    server = config.stash.get(_SERVER, None)
    if server is None:
        server = config.stash[_SERVER] = ControllerServer(lambda: _controller(config))
        config.add_cleanup(server.close)
    node.workerinput["harness"] = {
        "address": server.address,
        "key": server.key,
        "seed": str(seed_of(config)),
        "root": str(root_of(config)),
        "dataset": config.stash.get(DATASET, ""),
    }


def _controller(config: pytest.Config) -> RunController:
    from harness.pytest_plugin.controller_plugin import controller_of

    return controller_of(config)
