"""Terminal-Bench 1's tasks, which are known by sight only: none of their tests is run on this machine."""

from __future__ import annotations

from pathlib import Path

from harness.tasks.formats.base import ConvertedTask, NoCounterpartError
from harness.tasks.formats.marks import is_marked


class TerminalBench1:
    """Terminal-Bench 1: task.yaml, docker-compose.yaml, run-tests.sh."""

    name = "terminal-bench-1"

    def is_task(self, folder: Path) -> bool:
        """True for two of its files beside each other."""
        return is_marked(folder, self.name)

    def file_of(self, folder: Path) -> str:
        """Its task.yaml."""
        return "task.yaml"

    def convert(self, folder: Path) -> ConvertedTask:
        """None has a counterpart."""
        raise NoCounterpartError(
            "it is of Terminal-Bench 1: Harbor's own `harbor task migrate` makes version 2 of it"
        )
