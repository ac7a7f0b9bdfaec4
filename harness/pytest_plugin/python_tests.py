"""Tests with the fixtures `claude` and `sandbox`: which trial each of them is, and what its verdict stands on.

Each set of a test's parameters is a task of its own. Its name is the test's with the parameters' id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import UsageError
from harness.pytest_plugin.options import name_from_root, root_of
from harness.pytest_plugin.parameters import UnstableError, stable_text
from harness.pytest_plugin.session import session_of
from harness.tasks.task import Task
from harness.tasks.task_parts import task_of_parts
from harness.variants.variant import Variant

TRIAL = "harness_trial"
"""The fixture behind the others. Its parameter is the variant and the index of a test's trial."""
_REPETITION = "__pytest_repeat_step_number"
"""The fixture of pytest-repeat. Its parameter counts a test's repetitions from 0."""
_LONGEST_ID = 60
_PLACES = pytest.StashKey[str]()
"""Of a test that shares its node id with another: the places of its parameters in their lists."""


@dataclass(frozen=True)
class PythonTrial:
    """The trial of a test: `test` is its node id without parameters, `parameters` are those of its author."""

    test: str
    task: str
    variant: Variant
    index: int
    parameters: Mapping[str, object]


def trial_label(variant: Variant, index: int) -> str:
    """The part of a test's id that tells its trials apart."""
    return f"{variant.name}-t{index}"


def python_trial(item: pytest.Item) -> PythonTrial | None:
    """The trial of a test; None for a test that has none, or is not parametrized as it should be."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or TRIAL not in callspec.params:
        return None
    parameters = dict(callspec.params)
    variant, index = parameters.pop(TRIAL)
    repetition = parameters.pop(_REPETITION, None)
    shown = _without(trial_label(variant, index), callspec.id)
    if repetition is not None:
        # pytest-repeat's own id is `2-3`, for the second of three. Each repetition is a trial.
        shown = re.sub(rf"-{repetition + 1}-[0-9]+$", "", shown)
        index += repetition * session_of(item.config).trials_of_tests
    test = name_from_root(item.config, item.nodeid.removesuffix(f"[{callspec.id}]"))
    task = task_name(test) + _parameters_name(shown) + item.stash.get(_PLACES, "")
    return PythonTrial(test, task, variant, index, parameters)


def _without(label: str, callspec_id: str) -> str:
    """A test's id without the part about its trial: each other part has a hyphen before it."""
    if callspec_id == label or callspec_id.startswith(f"{label}-"):
        return callspec_id.removeprefix(label)
    # Somebody else's hook was faster than ours.
    return "-" + f"{callspec_id}-".replace(f"-{label}-", "-", 1).removesuffix("-")


def task_name(test: str) -> str:
    """The name of a test's task, but for its parameters: its node id, made safe for files."""
    plain = test.replace("::", ".").replace("/", "_")
    return _safe(plain, len(plain))


def _parameters_name(shown: str) -> str:
    """The part of a task's name that tells of its parameters: nothing, or a hyphen and an id."""
    return f"-{_safe(shown[1:], _LONGEST_ID)}" if shown else ""


def _safe(name: str, longest: int) -> str:
    """A name in which each character can be a file's: itself if possible, else one like it that no other gets.

    It depends on nothing but the name, so that a new row in a table renames no other.
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:longest]
    return name if name and safe == name else f"{safe}-{_digest(name)[:8]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def tell_namesakes_apart(items: Sequence[pytest.Item]) -> None:
    """Have the tests that pytest gives one node id be tasks of their own: the ids `a-b`, `c` and `a`, `b-c`."""
    by_id: dict[str, list[tuple[pytest.Item, str]]] = defaultdict(list)
    for item in items:
        if python_trial(item):
            indices = {**cast(Any, item).callspec.indices, TRIAL: 0}
            by_id[item.nodeid].append((item, repr(sorted(indices.items()))))
    for namesakes in by_id.values():
        # A test that was named twice is one task.
        if len({places for _, places in namesakes}) > 1:
            for item, places in namesakes:
                item.stash[_PLACES] = f"-{_digest(places)[:8]}"


def unstable_parameter(trial: PythonTrial) -> tuple[str, str] | None:
    """The first parameter whose value cannot be recognized by another process, and why; None if there is none."""
    for name, value in trial.parameters.items():
        try:
            stable_text(value)
        except UnstableError as error:
            return name, str(error)
    return None


def marked_task(item: pytest.Item, trial: PythonTrial) -> Task:
    """The task of a test: what its marker names. All that its verdict stands on is in its hash.

    Raises:
        UsageError: when its marker cannot be used.
    """
    marker = item.get_closest_marker("task")
    args, parts = (marker.args, marker.kwargs) if marker else ((), {})
    try:
        task = task_of_parts(trial.task, item.path.parent, *args, **parts)
    except TypeError as error:
        raise UsageError(f"@pytest.mark.task: {error}") from error
    files = [item.path, *_conftests(item.path, root_of(item.config))]
    # The test's prompts and its verdict are in these.
    contents = [session_of(item.config).file_hash(path) for path in files]
    values = [(name, _text_if_stable(value)) for name, value in sorted(trial.parameters.items())]
    return replace(task, hash=_digest(json.dumps([task.hash, contents, values])))


def _text_if_stable(value: object) -> str | None:
    try:
        return stable_text(value)
    except UnstableError:
        return None


def _conftests(path: Path, root: Path) -> Iterator[Path]:
    """The conftest.py files that a test sees, from its own folder up to pytest's root."""
    for folder in path.parents:
        if (folder / "conftest.py").is_file():
            yield folder / "conftest.py"
        if folder == root:
            return
