"""Timeouts for the sandbox platform and the model's API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """In seconds.

    `platform_s` is what a platform may take for all that is not the task's own, from when the sandbox is there: a
    transfer has up to 600 s, and is tried again.

    `model_s` is how long the agent's stream may be silent while the model owes a reply. Claude Code itself asks again
    after 5 to 10 minutes without a byte, and says so in its stream; a reply that is being written, of which
    the stream says nothing before a whole block of it is there, hardly ever takes as long as this.
    """

    platform_s: float = 1800.0
    model_s: float = 1200.0


DEFAULT_TIMEOUTS = Timeouts()
"""Of every run."""
