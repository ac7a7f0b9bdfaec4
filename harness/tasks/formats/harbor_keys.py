"""The forms of the keys of Harbor's task.toml that are read here. Harbor too ignores keys that it does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.errors import Problem
from harness.tasks.tomlfile import TomlFile, abbreviate

SIZE = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([GMK])B?\s*", re.IGNORECASE)
_TABLES = ("environment", "verifier", "agent", "metadata", "solution", "task")


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return _is_number(value) or (isinstance(value, str) and SIZE.fullmatch(value) is not None)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


_Kind = tuple[Callable[[object], bool], str]
_TABLE: _Kind = (_is_table, "a table")
_NUMBER: _Kind = (_is_number, "a number")
_SIZE: _Kind = (_is_size, 'a number of MB, or a size such as "2G"')
_LIST: _Kind = (_is_list, "a list")
_TEXT: _Kind = (lambda value: isinstance(value, str), "a text")
_KEYS: Mapping[str, _Kind] = {
    **dict.fromkeys(_TABLES, _TABLE),
    "steps": _LIST,
    "artifacts": _LIST,
    "agent.timeout_sec": _NUMBER,
    "verifier.timeout_sec": _NUMBER,
    "verifier.env": _TABLE,
    "solution.env": _TABLE,
    "environment.env": _TABLE,
    "environment.healthcheck": _TABLE,
    "environment.allowed_hosts": _LIST,
    "environment.docker_image": _TEXT,
    "environment.workdir": _TEXT,
    "environment.cpus": _NUMBER,
    "environment.memory_mb": _NUMBER,
    "environment.memory": _SIZE,
}
_OF_STEP: Mapping[str, _Kind] = {
    "agent": _TABLE,
    "verifier": _TABLE,
    "agent.timeout_sec": _NUMBER,
    "verifier.timeout_sec": _NUMBER,
    "verifier.env": _TABLE,
}


def problems_of_keys(file: TomlFile) -> Iterator[Problem]:
    """The problems of the values in a task.toml of Harbor's, by file, line and key."""

    def wrong(place: list[str], value: object, wanted: str) -> Problem:
        return Problem(
            file.place(place), ".".join(place), f"should be {wanted}, not {abbreviate(value)}", None
        )

    def look(data: Mapping[str, Any], keys: Mapping[str, _Kind], before: list[str]) -> Iterator[Problem]:
        for key, (fits, wanted) in keys.items():
            value = _value_at(data, key)
            # An empty list in a table's place is none.
            if value not in (None, [], {}) and not fits(value):
                yield wrong([*before, *key.split(".")], value, wanted)

    yield from look(file.data, _KEYS, [])
    steps, artifacts = file.data.get("steps"), file.data.get("artifacts")
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        place = ["steps", str(number)]
        if not isinstance(step, Mapping):
            yield wrong(place, step, "a table ([[steps]])")
        elif not isinstance(step.get("name"), str):
            yield wrong([*place, "name"], step.get("name", "absent"), "the name of a folder of steps/")
        else:
            yield from look(step, _OF_STEP, place)
    for number, one in enumerate(artifacts if isinstance(artifacts, list) else ()):
        source = one.get("source") if isinstance(one, Mapping) else one
        if not isinstance(source, str):
            yield wrong(["artifacts", str(number)], one, "a path, or a table with `source`")


def _value_at(data: Mapping[str, Any], key: str) -> Any:
    value: Any = data
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
