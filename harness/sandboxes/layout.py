"""The places of harness in a sandbox."""

from __future__ import annotations

HOME = "/home/user"
REPO = f"{HOME}/repo"


def turn_folder(number: int) -> str:
    """The folder of a turn's prompt (`prompt.md`) and of its agent's output, below the home. Turns count from 1."""
    return f".harness/turn-{number}"
