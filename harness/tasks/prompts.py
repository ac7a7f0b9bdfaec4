"""Prompts that Claude Code takes for a command of its own."""

from __future__ import annotations

_ENDING = ("/clear", "/reset", "/new", "/exit", "/quit")


def ends_session(prompt: str) -> str | None:
    """The reason for which a prompt cannot be given: it would end the session of the others; None for any other."""
    words = prompt.split(maxsplit=1)
    if not words or words[0] not in _ENDING:
        return None
    return f"{words[0]} asks no model, and headless Claude Code goes on in the same session all the same"
