"""An agent is a class, and a line in a table."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.agents.registry import AGENTS, agent_class


@pytest.mark.parametrize("name", AGENTS)
def test_each_name_leads_to_its_class(name: str) -> None:
    """One that can be made without arguments, says what it needs, and runs."""
    agent = agent_class(name)()
    assert callable(agent.run)
    assert (agent.needs_model, agent.is_proved) == (name == "claude", name == "claude")


def test_the_option_offers_every_agent(pytester: pytest.Pytester) -> None:
    """With the words of the table."""
    help_ = " ".join(pytester.runpytest_subprocess("--help").stdout.str().split())
    assert f"--agent={{{','.join(AGENTS)}}}" in help_
    assert all(f"{name} ({entry.about})" in help_ for name, entry in AGENTS.items())


def test_reading_the_table_imports_no_agent() -> None:
    """The options are read in every pytest run on the machine, also in those that do not use harness."""
    program = (
        "import harness.agents.registry, sys; print([m for m in sys.modules if m.startswith('harness')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "['harness', 'harness.agents', 'harness.agents.registry']"
