"""Other people's plugins that repeat, rerun, reorder or time tests, and what a trial makes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from harness.errors import UsageError
from harness.pytest_plugin.items import uses_trials


def notes_on_plugins(config: pytest.Config, trials: Sequence[pytest.Item]) -> Iterator[str]:
    """Notes on options of other plugins that do not hold for trials, and on what to use instead."""
    # Each of the two has an option that no other plugin has.
    if hasattr(config.option, "reruns") and (_reruns(config) or _has_marker(trials, "flaky")):
        yield (
            "pytest-rerunfailures reruns no trial, since a failure is not to be tried away: --retries N answers faults "
            "of the infrastructure, --trials N gives more trials"
        )
    if hasattr(config.option, "timeout_method") and (_timeout_s(config) or _has_marker(trials, "timeout")):
        yield (
            "pytest-timeout ends no trial, since its time would count while a trial waits, and what was paid would be "
            "lost: give the agent's time as `timeout` in @pytest.mark.task or task.toml"
        )


def why_not_run(config: pytest.Config) -> UsageError | None:
    """The reason for which no trial can be run as pytest was asked to; None if there is none."""
    if config.option.setuponly:
        return UsageError(
            "--setup-only and --setup-plan do not go with trials: a trial's setup costs what the trial does",
            remedy="--collect-only lists them, --plan tells what they will cost",
        )
    return None


def _has_marker(items: Sequence[pytest.Item], name: str) -> bool:
    return any(item.get_closest_marker(name) for item in items)


def _reruns(config: pytest.Config) -> bool:
    given = config.getoption("force_reruns", None), config.getoption("reruns"), config.getini("reruns")
    return any(str(value) not in ("None", "", "0") for value in given)


def _timeout_s(config: pytest.Config) -> float:
    """The time that pytest-timeout has for every test; 0 for none. The first place that gives one counts."""
    given = config.getoption("timeout"), os.environ.get("PYTEST_TIMEOUT"), config.getini("timeout")
    return next((float(value) for value in given if value not in (None, "")), 0.0)


class OnceOnly:
    """A pytest plugin that has each trial run once and to its end, whatever would run or end its test."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a trial as pytest itself does, before a plugin that would run it again."""
        if not uses_trials(item):
            return None
        runner: Any = item.config.pluginmanager.get_plugin("runner")
        return bool(runner.pytest_runtest_protocol(item=item, nextitem=nextitem))

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """Set no timer for a trial: the run's note says what bounds it."""
        return True if uses_trials(item) else None
