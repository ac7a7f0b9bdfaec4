"""`task.toml`: its keys and their types, and what is said about a file that does not keep to them."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from harness.errors import Problem, ProblemsError

MANIFEST = "task.toml"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
"""What names of tasks and checks look like: they stand in test ids and in file names."""

_NOT_TAGS = frozenset(
    [
        "and",
        "or",
        "not",
        "True",
        "False",
        "None",
        "task",
        "skip",
        "skipif",
        "xfail",
        "parametrize",
        "usefixtures",
        "filterwarnings",
    ]
)
_SHOWN_CHARS = 60


def _not_reserved(tag: str) -> str:
    if tag in _NOT_TAGS:
        raise ValueError("has a meaning of its own for pytest")
    return tag


Seconds = Annotated[float, Strict(), Field(gt=0, le=86_400)]
TaskTag = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$"), AfterValidator(_not_reserved)]
# A host, *.host, an address or a network (CIDR), perhaps with a port: no URL.
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9*_.:\[\]-]+(/[0-9]{1,3})?$")]
Network = Annotated[
    Annotated[Literal["model", "none", "open"], Tag("word")] | Annotated[list[Host], Tag("hosts")],
    Discriminator(lambda value: "hosts" if isinstance(value, list | tuple) else "word"),
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Repo(_Table):
    """`[repo]`."""

    path: str = Field("repo", description='a folder, such as "repo"')


class Setup(_Table):
    """`[setup]`."""

    run: list[str] = Field([], description='a list of shell commands, such as ["make deps"]')


class Checks(_Table):
    """`[checks]`."""

    timeout: Seconds = Field(60.0, description="the seconds that each check has, up to 86400")
    protect: list[str] = Field(
        [], description='a list of patterns of files in the repo, such as ["tests/**"]'
    )
    run: dict[Annotated[str, Field(pattern=f"^{NAME}$")], str] = Field(
        {}, description='shell commands by name (letters, digits, _ - .), such as {tests = "make test"}'
    )


class Sandbox(_Table):
    """`[sandbox]`."""

    template: str = Field("claude", min_length=1, description='the name of a template, such as "claude"')
    env: dict[Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")], str] = Field(
        {}, description='strings by the names of variables, such as {LANG = "C.UTF-8"}'
    )
    network: Network = Field("model", description='"model", "none", "open" or a list of hosts')


class Limits(_Table):
    """`[limits]`."""

    max_turns: Annotated[int, Strict()] | None = Field(None, gt=0, description="a whole number from 1 on")
    max_cost_usd: Annotated[float, Strict()] | None = Field(
        None, gt=0, allow_inf_nan=False, description="US dollars, more than 0"
    )


class Manifest(_Table):
    """The whole file. A field's description says what to give, and is the remedy for what is wrong there."""

    schema_: Annotated[int, Strict(), Field(ge=1, le=1)] = Field(
        alias="schema", description="1: `schema = 1`"
    )
    description: str = Field("", description="a line of text")
    tags: list[TaskTag] = Field(
        [], description='a list of words (a letter, then letters, digits, _ -), such as ["python", "bugfix"]'
    )
    prompts: list[str] = Field(
        ["prompt.md"], min_length=1, description='a list of files, such as ["prompt.md"]'
    )
    timeout: Seconds = Field(600.0, description="the seconds that the agent has, up to 86400")
    repo: Repo = Field(Repo(), description="a table: [repo]")
    setup: Setup = Field(Setup(), description="a table: [setup]")
    checks: Checks = Field(Checks(), description="a table: [checks]")
    sandbox: Sandbox = Field(Sandbox(), description="a table: [sandbox]")
    limits: Limits = Field(Limits(), description="a table: [limits]")


def read_manifest(folder: Path) -> tuple[Manifest, list[Problem]]:
    """Read a folder's `task.toml`, as `validated` does.

    Raises:
        ProblemsError: when nothing can be told about it, since it cannot be read or is no TOML.
    """
    file = folder / MANIFEST
    problem: Problem
    try:
        return validated(tomllib.loads(file.read_text(encoding="utf-8")), file)
    except OSError as error:
        problem = Problem(
            shown(file), None, f"cannot be read: {error.strerror or error}", "make it a readable file"
        )
    except UnicodeDecodeError as error:
        problem = Problem(shown(file), None, f"is not UTF-8 text: {error}", "save it as UTF-8")
    except (ValueError, RecursionError) as error:
        remedy = "strings stand in quotes, names of tables in brackets, one key a line"
        problem = Problem(shown(file), None, f"is not valid TOML: {error}", remedy)
    raise ProblemsError(f"task {folder.name!r} cannot be used:", [problem])


def validated(data: Mapping[str, Any], file: Path) -> tuple[Manifest, list[Problem]]:
    """A manifest and the problems in it. Where fields are wrong, the others are kept, with defaults for the wrong."""
    good, problems = dict(data), list[Problem]()
    while True:
        try:
            return Manifest.model_validate(good), problems
        except ValidationError as error:
            wrong = error.errors(include_url=False)
            problems += (_problem(file, details) for details in wrong)
            for details in wrong:
                good = _without(good, _location(details))
            good.setdefault("schema", 1)


def _without(data: Mapping[str, Any], location: list[str]) -> dict[str, Any]:
    """The data without what stands at a location, or without the innermost table's key that leads there."""
    key, *deeper = location
    inner = data.get(key)
    if deeper and isinstance(inner, dict) and deeper[0] in inner:
        return {**data, key: _without(inner, deeper)}
    return {name: value for name, value in data.items() if name != key}


def _location(details: ErrorDetails) -> list[str]:
    """The keys that lead to what is wrong; pydantic adds words of its own to them."""
    location = [str(part) for part in details["loc"]]
    if location[:2] == ["sandbox", "network"]:
        del location[2:3]
    elif location[:2] in (["checks", "run"], ["sandbox", "env"]):
        del location[3:]
    return location


def _problem(file: Path, details: ErrorDetails) -> Problem:
    location = _location(details)
    name, kind = ".".join(location), details["type"]
    if kind == "extra_forbidden":
        return Problem(shown(file), name, "is not a known key", _suggestion(location))
    if kind == "missing":
        return Problem(shown(file), name, "is missing", "add `schema = 1` as the first line")
    given = _short(details["input"])
    if name == "schema":
        return Problem(
            shown(file), name, f"is {given}, not 1", "write `schema = 1`; a later one needs a newer harness"
        )
    field = _field(location)
    return Problem(shown(file), name, _what(details, given), f"give {field.description}" if field else None)


def _what(details: ErrorDetails, given: str) -> str:
    """What is wrong with a value, in words that go with TOML."""
    kind = details["type"]
    if kind == "string_pattern_mismatch":
        return f"{given} cannot be used"
    if kind in ("too_short", "string_too_short"):
        return f"{given} is empty"
    if kind == "value_error":
        return f"{given} {details['ctx']['error']}"
    if kind in ("model_type", "dict_type"):
        return f"should be a table, not {given}"
    return f"{details['msg'].removeprefix('Input ')}, not {given}"


def _field(location: list[str]) -> FieldInfo | None:
    """The field of a manifest that a location is at, or in."""
    fields, found = Manifest.model_fields, None
    for part in location:
        info = fields.get(part) or fields.get(f"{part}_")
        if info is None:
            break
        found, fields = info, getattr(info.annotation, "model_fields", {})
    return found


def _suggestion(location: list[str]) -> str:
    """What was probably meant: a similar key of the same table, or the same key of another."""
    table, name = location[:-1], location[-1]
    known = [key for where, key in _keys() if where == table]
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    for where, key in _keys():
        if key == name:
            return (
                f"it belongs into [{where[0]}]" if where else "it belongs to the top, above the first [table]"
            )
    return f"known here: {', '.join(known)}"


def _keys() -> Iterator[tuple[list[str], str]]:
    """Every key, with the table that it is in."""
    for name, info in Manifest.model_fields.items():
        yield [], info.alias or name
        for key in getattr(info.annotation, "model_fields", {}):
            yield [name], key


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def shown(path: Path) -> str:
    """A path as the user would type it."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)


def is_name(text: str) -> bool:
    """Whether it can be the name of a task or a check."""
    return re.fullmatch(NAME, text) is not None
