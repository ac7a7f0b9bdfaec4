"""One pytest process's part in a run: its options, its plan, and its way to the trials."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError, UsageError
from harness.pytest_plugin.options import SESSION, options_of, root_of
from harness.records.record_parts import AttemptRecord
from harness.records.redaction import Redactor
from harness.records.trial_spec import TrialSpec
from harness.report.setup import TaskWords
from harness.runs.client import RunClient
from harness.runs.order import interleaved, shuffled_block
from harness.runs.request import RunRequest
from harness.runs.secrets import redactor_of_machine
from harness.tasks.contents import file_hash
from harness.tasks.task import Task
from harness.variants.declared import VARIANTS, VariantResolver
from harness.variants.variant import Variant

if TYPE_CHECKING:
    # A worker of xdist that runs no test with fixtures needs neither the engine nor the SDK under it.
    from harness.runs.controller import RunController
    from harness.runs.loop import LoopThread
    from harness.trials.context import RunContext

Owner = Path | str
"""Who has a task's name: a task folder, or a test by its node id."""
MAIN_PROCESS = "main"
"""The name of the one process of a run without workers."""


@dataclass(frozen=True)
class FixtureHost:
    """The context and the loop in which the tests of this process run their own trials."""

    context: RunContext
    loop: LoopThread


class RunSession:
    """The run, as this process sees it.

    `client` is the way to its trials: `controller`, where this process has it. `owner` is the name of this process.
    """

    def __init__(
        self,
        config: pytest.Config,
        client: RunClient,
        owner: str,
        seed: int,
        controller: RunController | None,
    ) -> None:
        self.config = config
        self.options = options_of(config)
        self.client = client
        self.owner = owner
        self.controller = controller
        self.broken: HarnessError | None = None
        self.bad_tasks = 0
        self._seed = seed
        self._variant_resolver = VariantResolver(root_of(config), self.options.variants, self.options.variant)
        self._variants: dict[str, Variant] = {}
        self._tasks: dict[str, TaskWords] = {}
        self._names: dict[str, Owner] = {}
        self._task_secrets: set[str] = set()
        self._hashes: dict[Path, str | None] = {}
        self._cleanup = contextlib.ExitStack()

    def spec(self, task: Task, variant: Variant, index: int) -> TrialSpec:
        """The trial of a task that an item stands for; the task is one of the run's from then on."""
        self._tasks.setdefault(task.name, TaskWords(task.description, task.tags))
        self._task_secrets.update(task.secrets)
        return TrialSpec(task, variant, index, self.options.agent)

    def plan(self, task: str, folder: Path, trials: int | None = None) -> list[tuple[Variant, int]]:
        """The trials of a task (as many as asked for, or `trials`), in their order.

        There are none, and `broken` is set, when its variants cannot be used.
        """
        try:
            variants = self._variant_resolver.for_task(folder)
        except HarnessError as error:
            self.broken = error
            return []
        self._variants |= {variant.name: variant for variant in variants}
        return interleaved(task, variants, trials or self.options.trials, self._seed)

    def bring_variants(self, task: Task, folder: Path) -> None:
        """Take the variants that a task of another format comes with, unless somebody has declared others for it."""
        if task.path and (source := task.path.parent / VARIANTS).is_file():
            self._variant_resolver.bring(folder, source)

    @property
    def has_rounds_of_tests(self) -> bool:
        """True if --until-decided adds trials of tests too.

        A test waits for its round, and in another process tests of the round before could wait behind it.
        """
        return self.options.until_decided and self.controller is not None

    @property
    def trials_of_tests(self) -> int:
        """The trials of each test under each variant, at most."""
        return self.options.most_trials if self.has_rounds_of_tests else self.options.trials

    def place_in_block(self, task: str, folder: Path, variant: Variant, index: int) -> int:
        """Tell where a trial stands among those of its task and index, one for each variant."""
        block = shuffled_block(task, self._variant_resolver.for_task(folder), index, self._seed)
        return [other.name for other in block].index(variant.name)

    def take_name(self, task: str, owner: Owner) -> Owner | None:
        """Claim a task's name for a folder or a test; whoever has it already, or None."""
        first = self._names.setdefault(task, owner)
        return first if first != owner else None

    def file_hash(self, path: Path) -> str | None:
        """The hash of a file as it was when this was first asked; None where there is none.

        Raises:
            OSError: when it cannot be read.
        """
        if path not in self._hashes:
            self._hashes[path] = file_hash(path) if path.is_file() else None
        return self._hashes[path]

    def open(self) -> None:
        """Start what the run needs.

        Raises:
            pytest.UsageError: when something asked for cannot be had. A worker leaves it to the controller to say so.
        """
        try:
            if self.broken:
                raise self.broken
            self.client.open(self._request)
        except UsageError as error:
            if self.controller:
                raise pytest.UsageError(str(error)) from error

    def refuse(self, error: HarnessError) -> None:
        """Have the run end before it starts, since it was asked for wrongly.

        Raises:
            pytest.UsageError: in the process that the user has started.
        """
        # Only the error's text can be passed from process to process.
        self.client.refuse(UsageError(str(error)))
        if self.controller:
            raise pytest.UsageError(str(error))

    def redactor(self) -> Redactor:
        """The redactor of the run's secrets; before there is a run, of those that are known by then."""
        of_run = self.client.redactor()
        if of_run.longest:
            return of_run
        named = {name for variant in self._variants.values() for name in variant.secrets}
        return redactor_of_machine(os.environ, named | self._task_secrets)

    def begin_external(self, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """Wait until a trial that a test of this process runs itself may start; see `RunClient.begin_external`."""
        self.open()
        return self.client.begin_external(self.owner, spec)

    @property
    def _request(self) -> RunRequest:
        return RunRequest(
            tuple(self._variants.values()), self._seed, tuple(sorted(self._task_secrets)), self._tasks
        )

    @functools.cached_property
    def fixture_host(self) -> FixtureHost:
        """The context and the loop for trials of this process's own tests: the controller's, or in a worker new ones.

        Raises:
            pytest.UsageError: when something asked for cannot be had.
        """
        self.open()
        if self.controller:
            run = self.controller.run
            return FixtureHost(run.context, run.engine.loop)
        from harness.runs.loop import LoopThread
        from harness.runs.resources import join_run_resources

        resources = join_run_resources(self.options, self.client.address(), self._request)
        self._cleanup.callback(resources.close)
        loop = LoopThread()
        self._cleanup.callback(loop.close)
        return FixtureHost(resources.context, loop)

    def close(self) -> None:
        """Stop the loop that this process started for its tests, if any. The controller is closed by itself."""
        self._cleanup.close()


def session_of(config: pytest.Config) -> RunSession:
    """The run's session in this process. There is one once a task or a test with one of the fixtures was met."""
    session: RunSession = config.stash[SESSION]
    return session
