"""The request of a run, as its run.json tells it: the command, what each variant sets, its texts, the tasks.

A run.json may come from anywhere: what is not as harness writes it is taken as unknown. Texts in here are untrusted.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records.reading import read_about

_MOST_LINES = 3_000
"""Longer texts are shown whole, and not as a difference."""
_TITLES = {
    "claude_md": "CLAUDE.md",
    "agents_md": "AGENTS.md",
    "system_prompt": "system prompt",
    "append_system_prompt": "appended system prompt",
}
_FACTS = (
    ("command", "command"),
    ("seed", "seed"),
    ("harness_version", "harness"),
    ("agent", "agent"),
    ("python", "Python"),
    ("machine", "machine"),
)


@dataclass(frozen=True)
class TaskWords:
    """A task's own description, for those who read a report on it."""

    description: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunSetup:
    """The request of a run; empty where that is unknown.

    `facts` are names and values, `variants` what each sets, by key, `texts` the texts that it brings, by their titles.
    """

    facts: tuple[tuple[str, str], ...] = ()
    variants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tasks: Mapping[str, TaskWords] = field(default_factory=dict)


UNKNOWN_SETUP = RunSetup()


def read_setup(run: Path) -> RunSetup:
    """The setup of the run in a folder."""
    about = _readable(read_about(run))
    facts = [(name, about.get(key)) for key, name in _FACTS]
    return RunSetup(
        facts=tuple(
            (name, str(value)) for name, value in facts if isinstance(value, str | int) and value != ""
        ),
        variants={name: dict(_settings(asked)) for name, asked in _tables(about.get("variants"))},
        texts={
            name: {_TITLES.get(key, key): text for key, text in texts.items() if isinstance(text, str)}
            for name, texts in _tables(about.get("texts"))
        },
        tasks={name: _words(task) for name, task in _tables(about.get("tasks"))},
    )


def _readable(value: Any) -> Any:
    """It with strings that can be written: JSON may hold halves of characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_readable(key): _readable(one) for key, one in value.items()}
    return [_readable(one) for one in value] if isinstance(value, list) else value


def _tables(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, table in value.items() if isinstance(value, dict) else ():
        if isinstance(table, dict):
            yield name, table


def _words(task: Mapping[str, Any]) -> TaskWords:
    described, tags = task.get("description"), task.get("tags")
    return TaskWords(
        described if isinstance(described, str) else "",
        tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
    )


def _settings(asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A variant's keys and their values, a line for each; a table's keys have lines of their own."""
    for key, value in asked.items():
        if isinstance(value, dict) and value and "sha256" not in value:
            yield from ((f"{key}.{inner}", _shown(one)) for inner, one in value.items())
        else:
            yield key, "taken away" if value is False else _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("sha256"), str):
        return ", ".join(_of_content(value))
    return json.dumps(value, ensure_ascii=False)


def _of_content(value: Mapping[str, Any]) -> Iterator[str]:
    """A text, folder or program that is told by its hash."""
    for key, word in (("name", ""), ("object", ""), ("chars", "character"), ("files", "file")):
        if key in value:
            yield f"{value[key]} {word}{'s' if word and value[key] != 1 else ''}".rstrip()
    if value.get("mode") == "append":
        yield "after the repo's own"
    if "sham_of" in value:
        yield "a sham: it says nothing"
    yield f"sha256 {value['sha256'][:12]}"


def merged_tasks(setups: Sequence[RunSetup]) -> dict[str, TaskWords]:
    """The tasks of several runs; the first that tells of one counts."""
    return {name: words for setup in reversed(setups) for name, words in setup.tasks.items()}


def difference(own: str, base: str) -> str | None:
    """A text's difference from the baseline's, as a unified diff; None where both are too long for one."""
    before, after = base.splitlines(), own.splitlines()
    if max(len(before), len(after)) > _MOST_LINES:
        return None
    return "\n".join(list(difflib.unified_diff(before, after, lineterm=""))[2:])
