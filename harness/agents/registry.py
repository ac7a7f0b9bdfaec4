"""The agents by name: one line for each.

pytest's options read this in every run on the machine. So an agent's module is imported only when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.agents.base import Agent


class Entry(NamedTuple):
    """The module and the class of an agent, and the words for it in `pytest --help`."""

    module: str
    class_: str
    about: str


AGENTS: Mapping[str, Entry] = {
    "claude": Entry("harness.agents.claude", "Claude", "Claude Code"),
    "oracle": Entry("harness.agents.oracle", "Oracle", "the reference solution"),
    "nop": Entry("harness.agents.nop", "Nop", "nothing"),
}


def agent_class(name: str) -> type[Agent]:
    """The class of an agent."""
    entry = AGENTS[name]
    found: type[Agent] = getattr(importlib.import_module(entry.module), entry.class_)
    return found
