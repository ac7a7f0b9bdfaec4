"""Hostile and honest agents, as trials: a script is the agent, by the oracle or by the real CLI."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from harness.local.launch import LocalServer
from harness.models.model import NO_MODEL
from harness.records.reading import read_records
from harness.records.record import TrialRecord
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.records.trial_spec import TrialSpec
from harness.runs.resources import local_platform
from harness.sandboxes.templates import Templates
from harness.tasks.gitrepo import Repos
from harness.tasks.loading import load_task
from harness.trials.context import RunContext
from harness.trials.runner import Retries, TrialRunner
from harness.variants.variant import DEFAULT, Variant
from tests.support.folders import task_folder
from tests.support.messages_api import MessagesApi, Say, Use
from tests.support.trials import tell

CALC = {
    "calc.py": "def add(a, b): return a - b\n",
    "tests/__init__.py": "",
    "tests/test_calc.py": (
        "import unittest, calc\n\n"
        "class T(unittest.TestCase):\n"
        "    def test(self): self.assertEqual(calc.add(2, 3), 5)\n"
    ),
}


@dataclass(frozen=True)
class Judged:
    """A trial's record, and its diff."""

    record: TrialRecord
    diff: str = field(repr=False)

    @property
    def why(self) -> str:
        """What a failing assertion should show."""
        record = self.record
        checks = [(check.name, check.passed, check.output_tail[-300:]) for check in record.checks]
        return (
            f"{record.outcome} {record.error} {checks} {record.notes} {record.tampering} {record.differences}"
        )


def calc_task(
    root: Path,
    script: str,
    *,
    check: str | None,
    toml: str = "",
    repo: dict[str, str] | None = None,
    name: str = "calc",
) -> Path:
    """A task whose oracle runs a script. Its tests are protected; `toml` begins within `[checks]`."""
    run = f"run = {{ c = '''{check}''' }}\n" if check else ""
    return task_folder(
        root,
        name,
        toml=f'[checks]\nprotect = ["tests/**"]\n{run}{toml}',
        repo={**CALC, **(repo or {})},
        checks={},
        solution={"solve.sh": script},
    )


def judge(server: LocalServer, task: Path) -> Judged:
    """One trial of a task by its oracle."""
    folder = RunFolder.create(task.parent / "results", "run", {}, NO_REDACTION)
    platform = local_platform(server)
    context = RunContext(
        platform,
        NO_MODEL,
        folder,
        Repos(folder.path / "repos"),
        Templates(platform, folder.path / "templates"),
    )
    spec = TrialSpec(load_task(task), DEFAULT, 1, "oracle")
    asyncio.run(TrialRunner(spec, context).run(Retries(0, base_s=0.01)))
    return _read(folder)


def judge_claude(server: LocalServer, task: Path, script: str, variant: Variant = DEFAULT) -> Judged:
    """One trial of a task by the real CLI, whose model runs a script with its Bash tool."""
    return judge_claude_turns(server, task, script, variant=variant)


def judge_claude_turns(server: LocalServer, task: Path, *scripts: str, variant: Variant = DEFAULT) -> Judged:
    """One trial by the real CLI, whose model runs one script in each turn."""
    steps = [step for script in scripts for step in (Use("Bash", {"command": script}), Say("Done."))]
    with MessagesApi(steps) as api:
        return _read(tell(server, api, task, variant=variant).folder)


def _read(folder: RunFolder) -> Judged:
    (record,) = read_records(folder.path).records
    diff = (folder.path / record.diff).read_text(errors="replace") if record.diff else ""
    return Judged(record, diff)
