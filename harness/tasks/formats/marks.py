"""The files that make a folder a task, for each format. Every pytest run asks, so this imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MARKS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "harness": (("task.toml",),),
    "harbor": (("task.toml",), ("instruction.md", "tests/test.sh")),
    "exercism": ((".meta/config.json", ".docs"),),
    "terminal-bench-1": (("task.yaml", "run-tests.sh"), ("task.yaml", "Dockerfile")),
    "plugin-eval": (("case.yaml",), ("prompt.md", "graders")),
    "skipped": (("no-counterpart.txt",),),
}
"""By the formats' names: the files that stand beside each other, in one way or another."""
_ALL = tuple(dict.fromkeys(names for ways in MARKS.values() for names in ways))


def is_marked(folder: Path, form: str | None = None) -> bool:
    """True for a folder that has the files of a format, or of any."""
    ways = MARKS[form] if form else _ALL
    return any(all((folder / name).exists() for name in names) for names in ways)
