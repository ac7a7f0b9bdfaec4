"""TOML files as users write them: read, held to a pydantic model, and told what is wrong with them, and where."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from harness.errors import Problem, ProblemsError
from harness.tasks.contents import read_text

_SHOWN_CHARS = 60
_KEYS_SHOWN = 8
_MAX_BYTES = 1024**2
_MOST_READ_FOR_LINES = 4 * 1024**2
"""So many characters are read again to tell in which line something stands."""


@dataclass(frozen=True)
class TomlFile:
    """A file that could be read: its content, and where in it what stands."""

    path: Path
    text: str
    data: Mapping[str, Any]

    @cached_property
    def _lines(self) -> dict[tuple[str, ...], int]:
        return dict(reversed(list(_places(self.text))))

    def place(self, location: Sequence[str]) -> str:
        """The file and the line that a location (keys, from the outside in) is at, or in, as far as can be told."""
        for length in range(len(location), 0, -1):
            line = self._lines.get(tuple(location[:length]))
            if line:
                return f"{display_path(self.path)}:{line}"
        return display_path(self.path)


def _places(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The keys that lead to each table and value, and its line. A statement is what can be read by itself."""
    table: tuple[str, ...] = ()
    statement, start, read = "", 1, 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        statement += line
        read += len(statement)
        if read > _MOST_READ_FOR_LINES:
            return
        try:
            data = tomllib.loads(statement)
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
        if statement.lstrip().startswith("["):
            table = next(reversed([keys for keys, _ in _paths(data)]))
            yield table, start
        else:
            yield from ((table + keys, start) for keys, _ in _paths(data))
        statement, start = "", number + 1


def _paths(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in data.items():
        yield (key,), value
        if isinstance(value, dict):
            yield from (((key, *keys), inner) for keys, inner in _paths(value))


def read_toml(file: Path, subject: str) -> TomlFile:
    """Read a file.

    Raises:
        ProblemsError: about `subject`, when it cannot be read or is no TOML.
    """
    problem: Problem
    try:
        text = read_text(file, _MAX_BYTES)
        toml = TomlFile(file, text, tomllib.loads(text))
    except OSError as error:
        problem = Problem(
            display_path(file), None, f"cannot be read: {error.strerror or error}", "make it a readable file"
        )
    except UnicodeDecodeError as error:
        problem = Problem(display_path(file), None, f"is not UTF-8 text: {error}", "save it as UTF-8")
    except (ValueError, RecursionError) as error:
        remedy = "strings stand in quotes, names of tables in brackets, one key a line"
        problem = Problem(display_path(file), None, f"is not valid TOML: {error}", remedy)
    else:
        nulls = [(keys, abbreviate(value)) for keys, value in _strings(toml.data) if "\0" in value]
        if not nulls:
            return toml
        where = (
            (toml.place(keys), ".".join(keys) or None, f"{value} holds a null character")
            for keys, value in nulls
        )
        raise ProblemsError(
            subject, [Problem(*problem, "no command, path or variable can have one") for problem in where]
        )
    raise ProblemsError(subject, [problem])


def _strings(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """All keys and strings, each with the first keys that lead to it: `a.a.a` may go as deep as a file is long."""
    rest: list[tuple[tuple[str, ...], Any]] = [((), data)]
    for keys, value in rest:
        if isinstance(value, str):
            yield keys, value
        elif isinstance(value, dict):
            yield from ((keys, key) for key in value)
            rest += (((*keys, key)[:_KEYS_SHOWN], inner) for key, inner in value.items())
        elif isinstance(value, list):
            rest += (((*keys, str(place))[:_KEYS_SHOWN], inner) for place, inner in enumerate(value))


def describe_error(details: ErrorDetails) -> str:
    """Say what is wrong with a value, in TOML's words."""
    kind, given = details["type"], abbreviate(details["input"])
    if kind == "string_pattern_mismatch":
        return f"{given} cannot be used"
    if kind in ("too_short", "string_too_short"):
        return f"{given} is empty"
    if kind == "value_error":
        return f"{given} {details['ctx']['error']}"
    if kind in ("model_type", "dict_type"):
        return f"should be a table, not {given}"
    # TOML has lists; that some are tuples here is nobody's business.
    return f"{details['msg'].removeprefix('Input ').replace('valid tuple', 'valid list')}, not {given}"


def field_for(model: type[BaseModel], location: Sequence[str]) -> FieldInfo | None:
    """The field of a model that a location is at, or in. Its description says what to give."""
    fields, found = model.model_fields, None
    parts = iter(_keys_of(location))
    for part in parts:
        info = fields.get(part) or fields.get(f"{part}_")
        if info is None:
            break
        found, fields = info, _fields_in(info)
        if _has_names(info):
            next(parts, None)
    return found


def _keys_of(location: Sequence[str]) -> list[str]:
    """A location without the places in lists: all tables of a list are alike."""
    return [part for part in location if not part.isdigit()]


def _has_names(info: FieldInfo) -> bool:
    """True for a table of tables, whose keys are names that the user gives."""
    return get_origin(info.annotation) is dict and bool(_fields_in(info))


def _fields_in(info: FieldInfo) -> dict[str, FieldInfo]:
    """The fields of the table that a field is, or of those that it has a list of, or that it has by name."""
    is_of_many = get_origin(info.annotation) in (list, dict)
    inner = get_args(info.annotation)[-1] if is_of_many else info.annotation
    if get_origin(inner) is UnionType:  # a table, or none
        inner = get_args(inner)[0]
    fields: dict[str, FieldInfo] = getattr(inner, "model_fields", {})
    return fields


def suggest_key(model: type[BaseModel], location: Sequence[str]) -> str:
    """The key that was probably meant by an unknown one: the same of another table, or a similar one."""
    table, name = _table_of(model, location[:-1]), location[-1]
    known = [key for where, key in _keys(model) if where == table]
    for where, key in _keys(model):
        if key == name:
            return (
                f"it belongs into [{'.'.join(where)}]"
                if where
                else "it belongs to the top, above the first [table]"
            )
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(known)}"


def _table_of(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The table that a location is, as `_keys` writes it: with NAME for what the user names."""
    table, fields = list[str](), model.model_fields
    parts = iter(_keys_of(location))
    for part in parts:
        info = fields.get(part)
        if info is None:
            break
        table.append(part)
        fields = _fields_in(info)
        if _has_names(info) and next(parts, None) is not None:
            table.append("NAME")
    return table


def _keys(model: type[BaseModel]) -> Iterator[tuple[list[str], str]]:
    """Every key, with the table that it is in; the outer tables come first."""
    tables: list[tuple[list[str], dict[str, FieldInfo]]] = [([], model.model_fields)]
    for table, fields in tables:
        for name, info in fields.items():
            yield table, info.alias or name
            inner = _fields_in(info)
            if inner:
                tables.append(([*table, name, *(["NAME"] if _has_names(info) else [])], inner))


def abbreviate(value: object) -> str:
    """A value as it can be shown in a line."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def display_path(path: Path) -> str:
    """A path as the user would type it."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)
