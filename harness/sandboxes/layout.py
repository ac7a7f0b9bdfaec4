"""The places of harness in a sandbox."""

from __future__ import annotations

from harness.tasks.task import Task

HOME = "/home/user"
REPO = f"{HOME}/repo"


def turn_folder(number: int) -> str:
    """The folder of a turn's prompt (`prompt.md`) and of its agent's output, below the home. Turns count from 1."""
    return f".harness/turn-{number}"


def work_folder(task: Task) -> str:
    """The folder in which agent and checks start: the repo, or the folder of the template that the task names."""
    return task.sandbox.workdir or REPO
