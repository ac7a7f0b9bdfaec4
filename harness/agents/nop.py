"""The agent that does nothing: every check worth its name fails with it."""

from __future__ import annotations

from harness.agents.base import AgentContext
from harness.records.record import Stop
from harness.records.trial_spec import TrialSpec


class Nop:
    """Leaves the repo as it is."""

    needs_model = False
    is_proved = False

    async def run(self, spec: TrialSpec, context: AgentContext) -> Stop:
        """Do nothing."""
        return "completed"
