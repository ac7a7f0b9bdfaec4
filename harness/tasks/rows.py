"""A table of cases as tasks: each row of a JSONL file fills the gaps of one task folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
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


class _MissingError(Exception):
    """A gap that a row does not fill."""


def tasks_of_rows(task: Task, file: Path) -> tuple[list[Task], list[Problem]]:
    """A task for each row, named TASK.ID, and what is wrong with the rows. `{{ KEY }}` in prompts, the reference's answer
    and `[checks.answer]` is the row's value.
    """
    tasks, problems, seen = list[Task](), list[Problem](), set[str]()
    for number, line in enumerate(read_text(file, MAX_ROWS_BYTES, errors="replace").splitlines(), 1):
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
            problems.append(Problem(place, "id", f"{name!r} {what}", "give each row an id of letters, digits, _ - ."))
            continue
        seen.add(name)
        try:
            tasks.append(_of_row(task, name, row))
        except _MissingError as error:
            problems.append(Problem(place, None, f"has no {error}, which the task asks for", "add it to the row"))
    if not tasks and not problems:
        problems.append(Problem(display_path(file), None, "has no rows", _REMEDY))
    return tasks, problems[:_PROBLEMS_SHOWN]


def _of_row(task: Task, name: str, row: Mapping[str, Any]) -> Task:
    content = json.dumps(row, sort_keys=True)
    return replace(
        task,
        name=f"{task.name}.{name}",
        hash=hashlib.sha256(f"{task.hash} {content}".encode()).hexdigest(),
        turns=tuple(replace(turn, prompt=_filled(turn.prompt, row)) for turn in task.turns),
        checks=tuple(_check(check, row) for check in task.checks),
        answer=_filled(task.answer, row) if task.answer is not None else None,
        rows=None,
    )


def _check(check: Check, row: Mapping[str, Any]) -> Check:
    if check.answer is None:
        return check
    given = check.answer
    filled = given.model_copy(
        update={
            "equals": _filled(given.equals, row) if given.equals is not None else None,
            "contains": tuple(_filled(one, row) for one in given.contains),
            # The row's value is a text, and no pattern.
            "regex": _filled(given.regex, row, re.escape) if given.regex is not None else None,
        }
    )
    assert isinstance(filled, AnswerSpec)
    return replace(check, answer=filled)


def _filled(text: str, row: Mapping[str, Any], write: Any = str) -> str:
    def value(found: re.Match[str]) -> str:
        if found.group(1) not in row:
            raise _MissingError(repr(found.group(1)))
        told = row[found.group(1)]
        return str(write(told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)))

    return _GAP.sub(value, text)
