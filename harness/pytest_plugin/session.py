"""One pytest process's part in a run: options, plan, and the way to the trials, made when they are first needed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.errors import HarnessError, UsageError
from harness.pytest_plugin.options import CONTROLLER, SEED, SESSION, options_of
from harness.pytest_plugin.rpc import ControllerClient
from harness.records.record import AttemptRecord, TrialRecord, TrialSpec
from harness.records.store import Redactor, RunFolder
from harness.runs.options import Options
from harness.runs.order import draw_seed, interleaved
from harness.runs.request import RunRequest
from harness.tasks.task import Task
from harness.variants.declared import VariantResolver
from harness.variants.variant import Variant

if TYPE_CHECKING:
    # A worker of xdist needs neither the engine nor the SDK under it: it asks.
    from harness.runs.controller import RunController
    from harness.runs.engine import Engine
    from harness.runs.resources import RunResources


_controller_lock = threading.Lock()
MAIN_PROCESS = "main"
"""The name of the one process of a run without workers."""


class RunSession:
    """The run, as this process sees it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options = options_of(config)
        self.seed = _seed(config, self.options)
        self._variant_resolver = VariantResolver(config.rootpath, self.options.variants, self.options.variant)
        self._variants: dict[str, Variant] = {}
        self.broken: HarnessError | None = None
        self._names: dict[str, Path] = {}
        self.bad_tasks = 0
        self._crew = Worker(config, self.options) if _is_worker(config) else Alone(controller_of(config))

    def spec(self, task: Task, variant: Variant, index: int) -> TrialSpec:
        """The trial of a task that an item stands for."""
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
        return interleaved(task, variants, trials or self.options.trials, self.seed)

    def take_name(self, task: str, path: Path) -> Path | None:
        """Claim a task's name; the path of the one that has it already, or None."""
        owner = self._names.setdefault(task, path)
        return owner if owner != path else None

    def open(self) -> None:
        """Start what the run needs: server, world, engine."""
        try:
            if self.broken:
                raise self.broken
            self._crew.open(self._run_request)
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from error

    def refuse(self, error: HarnessError) -> None:
        """Have the run end as one that was asked for wrongly.

        Raises:
            pytest.UsageError: in the process that the user has started.
        """
        # Its text alone goes from process to process.
        self._crew.refuse(UsageError(str(error)))

    @property
    def _run_request(self) -> RunRequest:
        return RunRequest(tuple(self._variants.values()), self.seed)

    @property
    def redact(self) -> Redactor:
        """Takes the run's secrets out of whatever is shown or kept."""
        return self._crew.redact

    def start(self, specs: Sequence[TrialSpec]) -> None:
        """Have the trials run ahead."""
        self._crew.start(specs)

    def result(self, spec: TrialSpec) -> TrialRecord:
        """Wait for a trial.

        Raises:
            NotStartedError: when it was not to be run any more.
            Fault: when there can be no record of it.
        """
        return self._crew.result(spec)

    def enter(self, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """Wait until a trial that a test here leads itself may start; the attempts at it that there were before.

        Raises:
            NotStartedError: when it is not to be run.
            Fault: when no trial can be run any more.
        """
        self.open()
        return self._crew.enter(spec)

    def spend(self, spent: tuple[float, int]) -> None:
        """Tell the known cost of that trial so far, and its tokens without one."""
        self._crew.spend(spent)

    def leave(self, record: TrialRecord) -> None:
        """That trial has ended."""
        self._crew.leave(record)

    def has(self, spec: TrialSpec) -> bool:
        """Whether the run that is resumed has a valid record of a trial.

        Raises:
            UsageError: when there is no such run.
        """
        return self._crew.has(spec)

    @property
    def engine(self) -> Engine:
        """An engine in this process, for tests that lead their trials themselves."""
        self.open()
        return self._crew.engine_for(self._run_request)

    def close(self) -> None:
        """End what this process has under way."""
        self._crew.close()


class Alone:
    """The one process of a run: the conductor is here."""

    def __init__(self, controller: RunController) -> None:
        self._conductor = controller

    def open(self, request: RunRequest) -> None:
        """Start what the run needs."""
        self._conductor.open(request)

    def refuse(self, error: UsageError) -> None:
        """End the run before it starts."""
        raise pytest.UsageError(str(error))

    def start(self, specs: Sequence[TrialSpec]) -> None:
        """Have the trials run ahead."""
        self._conductor.start(specs)

    def result(self, spec: TrialSpec) -> TrialRecord:
        """Wait for a trial."""
        return self._conductor.result(spec)

    def enter(self, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """Wait until a test's own trial may start."""
        return self._conductor.enter(MAIN_PROCESS, spec)

    def spend(self, spent: tuple[float, int]) -> None:
        """Tell what it has used."""
        self._conductor.spend(MAIN_PROCESS, spent)

    def leave(self, record: TrialRecord) -> None:
        """It has ended."""
        self._conductor.leave(MAIN_PROCESS, record)

    def has(self, spec: TrialSpec) -> bool:
        """Whether there is a valid record."""
        return self._conductor.has(spec)

    @property
    def redact(self) -> Redactor:
        """What takes the run's secrets out."""
        return self._conductor.redact

    def engine_for(self, request: RunRequest) -> Engine:
        """The engine."""
        return self._conductor.open(request).engine

    def close(self) -> None:
        """The conductor is closed by itself."""


class Worker:
    """A worker process of xdist: the conductor is in the controller; only tests' own trials run here."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        told: dict[str, str] = cast(Any, config).workerinput["harness"]
        self._asker = ControllerClient(told["address"], told["key"])
        self._name: str = cast(Any, config).workerinput["workerid"]
        self._options = options
        self._resources: RunResources | None = None
        self._engine: Engine | None = None

    def open(self, request: RunRequest) -> None:
        """Have the controller start what the run needs. That something cannot be had is told there."""
        with contextlib.suppress(UsageError):
            self._asker.ask("open", request)

    def refuse(self, error: UsageError) -> None:
        """Have the controller end the run before it starts."""
        self._asker.ask("refuse", error)

    @property
    def redact(self) -> Redactor:
        """What takes the run's secrets out."""
        return cast(Redactor, self._asker.ask("redact"))

    def start(self, specs: Sequence[TrialSpec]) -> None:
        """Have the trials run ahead."""
        self._asker.ask("start", list(specs))

    def result(self, spec: TrialSpec) -> TrialRecord:
        """Wait for a trial."""
        return cast(TrialRecord, self._asker.ask("result", spec))

    def enter(self, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """Wait until a test's own trial may start."""
        return cast(Sequence[AttemptRecord], self._asker.ask("enter", (self._name, spec)))

    def spend(self, spent: tuple[float, int]) -> None:
        """Tell what it has used."""
        self._asker.ask("spend", (self._name, spent))

    def leave(self, record: TrialRecord) -> None:
        """It has ended."""
        self._asker.ask("leave", (self._name, record))

    def has(self, spec: TrialSpec) -> bool:
        """Whether there is a valid record."""
        return bool(self._asker.ask("has", spec))

    def engine_for(self, request: RunRequest) -> Engine:
        """An engine of this process's own, in the run and on the platform of all."""
        if self._engine is None:
            from harness.records.history import History
            from harness.runs.budget import Budget
            from harness.runs.engine import Engine
            from harness.runs.resources import open_run_resources
            from harness.trials.runner import Retries

            run_id, results, platform = self._asker.ask("world", request)
            options = replace(self._options, results=results)
            self._resources = open_run_resources(options, run_id, request, platform=platform)
            self._engine = Engine(
                self._resources.context, concurrency=1, retries=Retries(), budget=Budget(None, History())
            )
        return self._engine

    def close(self) -> None:
        """End what this process has under way."""
        if self._engine:
            self._engine.finish(0)
            self._engine.close()
        if self._resources:
            self._resources.close()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _seed(config: pytest.Config, options: Options) -> int:
    """The order's seed: the controller's, else the one asked for, else a new one."""
    if _is_worker(config):
        return int(cast(Any, config).workerinput["harness"]["seed"])
    if SEED not in config.stash:
        config.stash[SEED] = draw_seed() if options.seed is None else options.seed
    return config.stash[SEED]


def session_of(config: pytest.Config) -> RunSession:
    """The run's session in this process, made when it is first asked for."""
    session: RunSession | None = config.stash.get(SESSION, None)
    if session is None:
        session = config.stash[SESSION] = RunSession(config)
    return session


def controller_of(config: pytest.Config) -> RunController:
    """The run's conductor; closed when pytest is. Several workers may ask at once."""
    from harness.runs.controller import RunController

    with _controller_lock:
        controller: RunController | None = config.stash.get(CONTROLLER, None)
        if controller is None:
            controller = config.stash[CONTROLLER] = RunController(config, options_of(config))
            config.add_cleanup(controller.close)
    return controller


def answer(config: pytest.Config, question: str, about: Any) -> Any:
    """What a worker asks of the conductor: to open the run, what it runs on, to start trials, the record of one, ..."""
    controller = controller_of(config)
    match question:
        case "open" | "world":
            context = controller.open(about).resources.context
            return (
                (controller.run_id, context.folder.path.parent, context.platform)
                if question == "world"
                else None
            )
        case "redact":
            return controller.redact
        case "refuse":
            controller.error = about
            return None
        case "start":
            return controller.start(about)
        case "has":
            return controller.has(about)
        case "enter":
            return controller.enter(*about)
        case "spend":
            return controller.spend(*about)
        case "leave":
            return controller.leave(*about)
        case _:
            return controller.result(about)


def run_shown(config: pytest.Config) -> RunFolder | None:
    """The run that the summary is about; None when no trial was to be run, and in workers."""
    controller: RunController | None = config.stash.get(CONTROLLER, None)
    return controller.shown if controller else None


def not_started(config: pytest.Config) -> int:
    """How many trials never got their turn, since the run was stopped."""
    return controller_of(config).not_started


def header(config: pytest.Config) -> list[str]:
    """What the run says of itself at its start.

    Raises:
        pytest.UsageError: when it cannot start.
    """
    controller = controller_of(config)
    if controller.error:
        raise pytest.UsageError(str(controller.error))
    controller.heed_signals()
    return controller.header()


def finish(session: pytest.Session) -> None:
    """Stop the trials that still run, after Ctrl-C with some grace; the exit code tells when money was short."""
    controller = controller_of(session.config)
    controller.finish()
    from harness.runs.controller import EXIT_BUDGET

    if controller.out_of_money:
        session.exitstatus = EXIT_BUDGET
