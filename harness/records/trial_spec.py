"""A trial before it runs: task, variant, index and agent."""

from __future__ import annotations

from dataclasses import dataclass

from harness.tasks.task import Task
from harness.variants.variant import TemplateSource, Variant

PLAIN_TEMPLATE = "claude"
GATEWAY_TEMPLATE = "mcp-gateway"
"""E2B's own template for `create(mcp=...)`: as `claude`, with the gateway in it."""


def trial_name(task: str, variant: str, index: int) -> str:
    """A trial's stable id within a run, and its pytest item's name: `TASK[VARIANT-tN]`."""
    return f"{task}[{variant}-t{index}]"


@dataclass(frozen=True)
class TrialSpec:
    """One task x one variant x one index (from 1), to be run by one agent."""

    task: Task
    variant: Variant
    index: int
    agent: str

    @property
    def id(self) -> str:
        """The trial's id, unique within its run."""
        return trial_name(self.task.name, self.variant.name, self.index)

    @property
    def template(self) -> str:
        """The variant's template, else the task's; `mcp-gateway` in place of the default if the variant uses it."""
        plain = self.task.sandbox.template == PLAIN_TEMPLATE and self.variant.mcp_gateway is not None
        chosen = self.variant.template
        if isinstance(chosen, TemplateSource):
            return chosen.path
        return chosen or (GATEWAY_TEMPLATE if plain else self.task.sandbox.template)
