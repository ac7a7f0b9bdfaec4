"""The order of a run's trials: the plan's, whatever reorders pytest's items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.pytest_plugin.items import TaskFile, trial_id, trial_of_item
from harness.pytest_plugin.session import RunSession

_Place = tuple[int, int, int]
"""The number of the task, of the block of variants within it (in rounds: the other way round), and of the trial."""


class PlanOrder:
    """Tasks as they were collected, and of each its blocks of variants. It knows the trials that it is made with."""

    def __init__(self, items: Sequence[pytest.Item], session: RunSession) -> None:
        tasks: dict[str, int] = {}
        self._places: dict[str, _Place] = {}
        for item in _as_pytest_orders(items):
            found = trial_of_item(item)
            if found:
                task, variant, index = found
                within = session.place_in_block(task, _place_of_variants(item), variant, index)
                number = tasks.setdefault(task, len(tasks))
                # A round of a test's trials waits for the round before, of all tasks.
                first = (index, number) if session.has_rounds_of_tests else (number, index)
                self._places[_id(item)] = *first, within

    def restore(self, items: list[pytest.Item]) -> None:
        """Put trials into their order among themselves. Other tests stay where they are."""
        slots = [number for number, item in enumerate(items) if _id(item) in self._places]
        trials = sorted((items[number] for number in slots), key=lambda item: self._places[_id(item)])
        for number, item in zip(slots, trials, strict=True):
            items[number] = item


def _id(item: pytest.Item) -> str:
    return trial_id(item) or ""


def _place_of_variants(item: pytest.Item) -> Path:
    """The place from which an item's variants are looked for: a task's folder, or a test's file."""
    return item.parent.folder if isinstance(item.parent, TaskFile) else item.path


def _as_pytest_orders(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The items as pytest itself orders them: tests that share a parametrized fixture of a wider scope together."""
    ordered = list(items)
    if ordered:
        session = ordered[0].session
        plugins = session.config.pluginmanager
        fixtures = plugins.get_plugin("funcmanage")
        others = [plugin for plugin in plugins.get_plugins() if plugin is not fixtures]
        hook = plugins.subset_hook_caller("pytest_collection_modifyitems", others)
        hook(session=session, config=session.config, items=ordered)
    return ordered
