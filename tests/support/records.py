"""Records for tests: one to start from, and any at all."""

from __future__ import annotations

import collections.abc
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.records.record import TrialRecord
from harness.records.record_parts import SandboxRecord
from harness.records.trial_spec import trial_name

ENOUGH = 3


def a_record(task: str = "answer", variant: str = "default", index: int = 1, **fields: Any) -> TrialRecord:
    """A record of a trial that passed, with what a test cares about."""
    given: dict[str, Any] = {
        "run_id": "20261123-090141-3f9c",
        "trial_id": trial_name(task, variant, index),
        "task": task,
        "task_hash": "0" * 64,
        "variant": variant,
        "variant_hash": "1" * 64,
        "index": index,
        "agent": "claude",
        "outcome": "passed",
        "score": 1.0,
        "sandbox": SandboxRecord(kind="local", isolation="bubblewrap"),
        "started_at": "2026-11-23T09:01:41.000Z",
        "finished_at": "2026-11-23T09:01:43.000Z",
        "harness_version": "0.1.0",
        **fields,
    }
    return TrialRecord(**given)


def any_model(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Any value of a model, by its fields' types and bounds."""
    fields = {name: _any(info.annotation, info.metadata) for name, info in model.model_fields.items()}
    return st.fixed_dictionaries(fields).map(lambda values: model(**values))


def any_record() -> st.SearchStrategy[TrialRecord]:
    """Any record."""
    return any_model(TrialRecord)


def _any(kind: Any, bounds: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner = [
            part
            for extra in arguments[1:]
            for part in (extra.metadata if isinstance(extra, FieldInfo) else [extra])
        ]
        return _any(arguments[0], [*bounds, *inner])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_any(argument, bounds) for argument in arguments))
    if origin is tuple:
        return st.lists(_any(arguments[0], []), max_size=ENOUGH).map(tuple)
    if origin is collections.abc.Mapping:
        return st.dictionaries(st.text(max_size=8), _any(arguments[1], []), max_size=ENOUGH)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return any_model(kind)
    return _any_plain(kind, bounds)


def _any_plain(kind: Any, bounds: list[Any]) -> st.SearchStrategy[Any]:
    least: Any = next((bound.ge for bound in bounds if isinstance(bound, Ge)), None)
    most: Any = next((bound.le for bound in bounds if isinstance(bound, Le)), None)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        Any: st.none() | st.text(max_size=20) | st.lists(st.integers(0, 9), max_size=ENOUGH),
        type(None): st.none(),
        bool: st.booleans(),
        str: st.text(max_size=20),
        int: st.integers(least if least is not None else -(2**53), most if most is not None else 2**53),
        float: st.floats(least, most, allow_nan=False, allow_infinity=False),
    }
    return plain[kind]
