"""Trials of the real CLI in real sandboxes against a scripted Messages API, for tests that look at the record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Fault
from harness.local.launch import LocalServer
from harness.models.model import api_model, move_key_to_platform
from harness.records.reading import read_records
from harness.records.record import TrialRecord
from harness.records.redaction import Redactor
from harness.records.store import RunFolder
from harness.records.trial_spec import TrialSpec
from harness.runs.resources import local_platform, templates_of
from harness.sandboxes.platform import Platform
from harness.tasks.gitrepo import Repos
from harness.tasks.loading import load_task
from harness.trials.context import RunContext
from harness.trials.runner import Retries, TrialRunner
from harness.trials.timeouts import DEFAULT_TIMEOUTS, Timeouts
from harness.variants.variant import DEFAULT, Variant
from tests.support.folders import task_folder
from tests.support.messages_api import MessagesApi

HELPER = {"description": "d", "prompt": "COUNT", "subagent_type": "general-purpose", "model": "haiku"}
"""A subagent's input, whose model is another than the agent's."""


def two_prompts_task(root: Path) -> Path:
    """A task of two prompts to a model that is named."""
    return task_folder(
        root,
        toml='prompts = ["one.md", "two.md"]\n[sandbox]\nenv = {ANTHROPIC_MODEL = "claude-sonnet-4-5"}\n',
        prompts={"one.md": "Write the answer.\n", "two.md": "Check it.\n"},
    )


@dataclass(frozen=True)
class Story:
    """A trial that has ended: its record as it was stored, and all that was kept of it."""

    fault: Fault | None
    record: TrialRecord
    folder: RunFolder

    @property
    def transcript(self) -> bytes:
        """The raw stream."""
        assert self.record.transcript
        return (self.folder.path / self.record.transcript).read_bytes()

    def told(self) -> tuple[str, str | None, str | None, str | None]:
        """Outcome, what stopped the agent, and the fault's cause and kind."""
        error = self.record.error
        return (self.record.outcome, self.record.stop, error and error.cause, error and error.type)


def tell(
    server: LocalServer,
    api: MessagesApi,
    task: Path,
    *,
    key: str = "sk-ant-scripted",
    env: Mapping[str, str] | None = None,
    retries: int = 0,
    results: Path | None = None,
    variant: Variant = DEFAULT,
    secrets: Mapping[str, str] | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    platform: Platform | None = None,
    key_outside: bool = False,
) -> Story:
    """Run one trial of a task folder with the model API `api`, and read its record back.

    `secrets` has the values that the variant refers to, `platform` is the server's as a run would see it. With
    `key_outside` the proxy adds the key, and sees the model's API.
    """
    model = api_model({**api.env(key), **(env or {})}, loopback=True)
    model = move_key_to_platform(model) if key_outside else model
    redact = Redactor({**model.secrets, **(secrets or {})})
    folder = RunFolder.create(results or task.parent / "results", "run", {}, redact)
    platform = platform or local_platform(server)
    context = RunContext(
        platform,
        model,
        folder,
        Repos(folder.path / "repos"),
        templates_of(platform, folder),
        secrets=secrets or {},
        timeouts=timeouts,
    )
    spec = TrialSpec(load_task(task), variant, 1, "claude")
    _, fault = asyncio.run(TrialRunner(spec, context).run(Retries(retries, base_s=0.01)))
    (record,) = read_records(folder.path).records
    return Story(fault, record, folder)
