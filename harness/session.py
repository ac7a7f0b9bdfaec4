"""One pytest process's part in a run: options, plan, world and engine, made when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from harness import plugin
from harness.budget import Budget
from harness.engine import Engine
from harness.errors import HarnessError
from harness.history import History
from harness.options import Options
from harness.progress import Progress
from harness.record import TrialRecord, TrialSpec
from harness.run import Retries
from harness.setup import Stage, default_concurrency, open_stage, uses_local
from harness.store import RunFolder, new_run_id
from harness.task import Task, find_tasks
from harness.variant import DEFAULT, Variant

SHOWN = pytest.StashKey[RunFolder]()
_SHARED = pytest.StashKey["Shared"]()


@dataclass(frozen=True)
class Shared:
    """What the processes of an xdist run have in common; made by the controller."""

    run_id: str
    stage: Stage | None


class TrialSession:
    """The run, as this process sees it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.options = plugin.options_of(config)
        self.worker = _is_worker(config)
        self._shared = _worker_input(config)
        self.run_id = self._shared["run_id"] if self.worker else new_run_id()
        self.plan = plan(self.options)
        self._stage: Stage | None = None
        self._engine: Engine | None = None
        self._names: dict[str, Path] = {}
        self._futures: dict[str, Any] = {}
        self.bad_tasks = 0
        self.progress: Progress | None = None

    def spec(self, task: Task, variant: Variant, index: int) -> TrialSpec:
        """The trial of a task that an item stands for."""
        return TrialSpec(task, variant, index, self.options.agent)

    def take_name(self, task: str, path: Path) -> Path | None:
        """Claim a task's name; the path of the one that has it already, or None."""
        owner = self._names.setdefault(task, path)
        return owner if owner != path else None

    def open(self) -> None:
        """Start what the run needs: server, world, engine."""
        if self._engine:
            return
        try:
            self._stage = self._join() or open_stage(self.options, self.run_id)
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from error
        self._config.stash[SHOWN] = self._stage.world.folder
        concurrency = self.options.concurrency or default_concurrency(self._stage.world.platform)
        self.progress = Progress(self._config, self._stage.world)
        self._engine = Engine(
            self._stage.world,
            concurrency=1 if self.worker else concurrency,
            retries=Retries(self.options.retries),
            budget=Budget(None, History()),
            on_start=self.progress.started,
            on_end=self.progress.ended,
        )

    def _join(self) -> Stage | None:
        """In a worker, the platform that the controller has started."""
        platform = self._shared.get("platform")
        if platform is None:
            return None
        from harness.sandbox import Platform

        return open_stage(self.options, self.run_id, platform=Platform(**platform))

    def start(self, specs: Sequence[TrialSpec]) -> None:
        """Have the trials run ahead; in an xdist worker they run one by one, as the controller hands them out."""
        if self.worker:
            return
        if self.progress:
            self.progress.expect(len(specs))
        for spec in specs:
            self._submit(spec)

    def _submit(self, spec: TrialSpec) -> Any:
        if spec.id not in self._futures:
            self._futures[spec.id] = self.engine.submit(spec)
        return self._futures[spec.id]

    @property
    def engine(self) -> Engine:
        """The engine; opened when it is not yet."""
        self.open()
        return cast(Engine, self._engine)

    def result(self, spec: TrialSpec) -> TrialRecord:
        """Wait for a trial.

        Raises:
            NotStartedError: when it was not to be run any more.
            Fault: when there can be no record of it.
        """
        return cast(TrialRecord, self._submit(spec).result())

    def header(self) -> list[str]:
        """What runs, where, and where the records go."""
        if not self._stage:
            return []
        world = self._stage.world
        engine = cast(Engine, self._engine)
        return [
            f"harness: agent {self.options.agent}, model {world.model.description}, sandbox "
            f"{world.platform.description}, {engine.concurrency} at once, results {_shown(world.folder.path)}",
            *_warnings(world.platform),
        ]

    def close(self) -> None:
        """End what still runs; its sandboxes go."""
        if self.progress:
            self.progress.close()
        if self._engine:
            self._engine.finish(0)
            self._engine.close()
        if self._stage:
            self._stage.close()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _worker_input(config: pytest.Config) -> dict[str, Any]:
    """What the controller told this xdist worker; empty elsewhere."""
    return cast(dict[str, Any], getattr(config, "workerinput", {}).get("harness", {}))


def _warnings(platform: Any) -> list[str]:
    if platform.kind == "local" and platform.isolation != "bubblewrap":
        enforced = ", ".join(platform.enforces or ()) or "nothing"
        return [
            f"harness: restricted isolation ({platform.isolation}): enforced are {enforced}; see docs/isolation.md"
        ]
    return []


def plan(options: Options) -> list[tuple[Variant, int]]:
    """Variants x trials: those of one index side by side."""
    return [(DEFAULT, index) for index in range(1, options.trials + 1)]


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def run_shown(config: pytest.Config) -> RunFolder | None:
    """The run that the summary is about; None when no trial was to be run, and in workers."""
    if _is_worker(config):
        return None
    shared = config.stash.get(_SHARED, None)
    if shared:
        folder = RunFolder(plugin.options_of(config).results / shared.run_id)
        return folder if folder.path.is_dir() else None
    return config.stash.get(SHOWN, None)


def prepare_worker(node: Any) -> None:
    """Give an xdist worker the run's id and, where tasks are named on the command line, the server to use."""
    config = node.config
    shared = config.stash.get(_SHARED, None)
    if shared is None:
        shared = config.stash[_SHARED] = _share(config)
    node.workerinput["harness"] = {"run_id": shared.run_id}
    if shared.stage:
        platform = shared.stage.world.platform
        node.workerinput["harness"]["platform"] = {
            "kind": platform.kind,
            "params": dict(platform.params),
            "isolation": platform.isolation,
            "enforces": platform.enforces,
        }


def _share(config: pytest.Config) -> Shared:
    """Start the server once for all workers. Where only Python tests use the fixtures, each worker has its own."""
    run_id, options = new_run_id(), plugin.options_of(config)
    try:
        named = any(True for arg in config.args for _ in find_tasks(_path(config, arg)))
        if not named or not uses_local(options) or config.option.collectonly:
            return Shared(run_id, None)
        stage = open_stage(options, run_id)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    config.add_cleanup(stage.close)
    return Shared(run_id, stage)


def _path(config: pytest.Config, arg: str) -> Path:
    return config.invocation_params.dir / arg.partition("::")[0]
