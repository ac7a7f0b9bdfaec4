"""A table's rows fill gaps: `{{ KEY }}` in a text is the row's value. A task folder with rows is a task for each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import Problem
from harness.tasks.contents import read_text
from harness.tasks.manifest import AnswerSpec, is_name
from harness.tasks.task import Check, Task
from harness.tasks.tomlfile import display_path

_GAP = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_REMEDY = 'a row is a JSON object with an id, such as {"id": "sum", "question": "1 + 1", "answer": "2"}'
_PROBLEMS_SHOWN = 5
MAX_ROWS_BYTES = 256 * 1024**2


class MissingError(Exception):
    """A gap that a row does not fill: the text is its key."""


def tasks_of_rows(task: Task, file: Path) -> tuple[list[Task], list[Problem]]:
    """Return a task for each row, named TASK.ID, and what is wrong with the rows.

    `{{ KEY }}` in prompts, the reference's answer and `[checks.answer]` is the row's value.
    """
    tasks, problems, seen = list[Task](), list[Problem](), set[str]()
    for number, line in enumerate(read_text(file, MAX_ROWS_BYTES, errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        place = f"{display_path(file)}:{number}"
        try:
            row = json.loads(line)
            name = str(row["id"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = "has no id" if isinstance(error, KeyError) else "is no JSON object"
            problems.append(Problem(place, None, what, _REMEDY))
            continue
        if not is_name(f"{task.name}.{name}") or name in seen:
            what = "is there twice" if name in seen else "cannot be part of a task's name"
            problems.append(
                Problem(place, "id", f"{name!r} {what}", "give each row an id of letters, digits, _ - .")
            )
            continue
        seen.add(name)
        try:
            tasks.append(_of_row(task, name, row))
        except MissingError as error:
            problems.append(
                Problem(place, None, f"has no {error}, which the task asks for", "add it to the row")
            )
    if not tasks and not problems:
        problems.append(Problem(display_path(file), None, "has no rows", _REMEDY))
    return tasks, problems[:_PROBLEMS_SHOWN]


def _of_row(task: Task, name: str, row: Mapping[str, Any]) -> Task:
    content = json.dumps(row, sort_keys=True)
    return replace(
        task,
        name=f"{task.name}.{name}",
        hash=hashlib.sha256(f"{task.hash} {content}".encode()).hexdigest(),
        turns=tuple(replace(turn, prompt=fill_gaps(turn.prompt, row)) for turn in task.turns),
        checks=tuple(_check(check, row) for check in task.checks),
        answer=fill_gaps(task.answer, row) if task.answer is not None else None,
        rows=None,
    )


def _check(check: Check, row: Mapping[str, Any]) -> Check:
    if check.answer is None:
        return check
    given = check.answer
    spec = given.model_copy(
        update={
            "equals": fill_gaps(given.equals, row) if given.equals is not None else None,
            "contains": tuple(fill_gaps(one, row) for one in given.contains),
            # The row's value is a text, and no pattern.
            "regex": fill_gaps(given.regex, row, re.escape) if given.regex is not None else None,
        }
    )
    assert isinstance(spec, AnswerSpec)
    return replace(check, answer=spec)


def has_gaps(text: str) -> bool:
    """True for a text that a row has to fill."""
    return _GAP.search(text) is not None


def fill_gaps(text: str, row: Mapping[str, Any], write: Callable[[str], str] = str) -> str:
    """A text with its gaps filled. Raises MissingError."""

    def value(found: re.Match[str]) -> str:
        if row.get(found.group(1)) is None:
            raise MissingError(repr(found.group(1)))
        told = row[found.group(1)]
        return write(told if isinstance(told, str) else json.dumps(told, ensure_ascii=False, default=str))

    return _GAP.sub(value, text)


def filled_table(value: Any, row: Mapping[str, Any]) -> Any:
    """A table, a list or a value of TOML with the gaps of all its texts filled. Raises MissingError."""
    if isinstance(value, str):
        return fill_gaps(value, row)
    if isinstance(value, Mapping):
        return {key: filled_table(inner, row) for key, inner in value.items()}
    return [filled_table(inner, row) for inner in value] if isinstance(value, list) else value
