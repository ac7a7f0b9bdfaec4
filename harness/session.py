"""One pytest process's part in a run: options, plan, world and engine, made when they are first needed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
from harness.plan import blocks, draw_seed
from harness.progress import Progress
from harness.record import TrialRecord, TrialSpec
from harness.run import Retries
from harness.sandbox import Platform
from harness.setup import Asked, Stage, default_concurrency, open_stage, uses_local
from harness.store import NOTHING_SECRET, Redactor, RunFolder, new_run_id
from harness.task import Task, find_tasks
from harness.variant import Variant
from harness.variants import Catalogue

SHOWN = pytest.StashKey[RunFolder]()
_SHARED = pytest.StashKey["Shared"]()


@dataclass(frozen=True)
class Shared:
    """What the processes of an xdist run have in common; made by the controller."""

    run_id: str
    seed: int
    stage: Stage | None


class TrialSession:
    """The run, as this process sees it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.options = plugin.options_of(config)
        self.worker = _is_worker(config)
        self._shared = _worker_input(config)
        self.run_id = self._shared["run_id"] if self.worker else new_run_id()
        self.seed = _seed(self.options, self._shared)
        self._catalogue = _catalogue(config, self.options)
        self._variants: dict[str, Variant] = {}
        self.broken: HarnessError | None = None
        self._stage: Stage | None = None
        self._engine: Engine | None = None
        self._names: dict[str, Path] = {}
        self._futures: dict[str, Any] = {}
        self.bad_tasks = 0
        self.progress: Progress | None = None

    def spec(self, task: Task, variant: Variant, index: int) -> TrialSpec:
        """The trial of a task that an item stands for."""
        return TrialSpec(task, variant, index, self.options.agent)

    def plan(self, task: str, folder: Path) -> list[tuple[Variant, int]]:
        """The trials of a task, in their order; none, and `broken` is set, when its variants cannot be used."""
        try:
            variants = self._catalogue.of(folder)
        except HarnessError as error:
            self.broken = error
            return []
        self._variants |= {variant.name: variant for variant in variants}
        return blocks(task, variants, self.options.trials, self.seed)

    def take_name(self, task: str, path: Path) -> Path | None:
        """Claim a task's name; the path of the one that has it already, or None."""
        owner = self._names.setdefault(task, path)
        return owner if owner != path else None

    def open(self) -> None:
        """Start what the run needs: server, world, engine."""
        if self._engine:
            return
        try:
            if self.broken:
                raise self.broken
            asked = Asked(tuple(self._variants.values()), self.seed)
            self._stage = open_stage(self.options, self.run_id, asked, platform=self._joined())
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

    def _joined(self) -> Platform | None:
        """In a worker, the platform that the controller has started."""
        platform = self._shared.get("platform")
        return None if platform is None else Platform(**platform)

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

    @property
    def redact(self) -> Redactor:
        """Takes the run's secrets out of whatever is shown or kept."""
        return self._stage.world.folder.redact if self._stage else NOTHING_SECRET

    def header(self) -> list[str]:
        """What runs, where, and where the records go."""
        if not self._stage:
            return []
        world = self._stage.world
        engine = cast(Engine, self._engine)
        return [
            f"harness: agent {self.options.agent}, model {world.model.description}, sandbox "
            f"{world.platform.description}, {engine.concurrency} at once, results {_shown(world.folder.path)}",
            *self._order(),
            *_warnings(world.platform),
        ]

    def _order(self) -> list[str]:
        """Which variants there are, and how to have the same order again."""
        if len(self._variants) < 2:
            return []
        return [f"harness: variants {', '.join(self._variants)}; in an order drawn from --seed {self.seed}"]

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


def _seed(options: Options, shared: Mapping[str, Any]) -> int:
    """The order's seed: the controller's, else the one asked for, else a new one."""
    if "seed" in shared:
        return int(shared["seed"])
    return draw_seed() if options.seed is None else options.seed


def _catalogue(config: pytest.Config, options: Options) -> Catalogue:
    return Catalogue(config.rootpath, options.variants, options.variant)


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
    node.workerinput["harness"] = {"run_id": shared.run_id, "seed": shared.seed}
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
    options = plugin.options_of(config)
    run_id, seed = new_run_id(), _seed(options, {})
    try:
        tasks = [task for arg in config.args for task in find_tasks(_path(config, arg))]
        asked = _asked(config, options, tasks, seed)
        asked.secrets(os.environ)
        if not tasks or not uses_local(options) or config.option.collectonly:
            return Shared(run_id, seed, None)
        stage = open_stage(options, run_id, asked)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    config.add_cleanup(stage.close)
    return Shared(run_id, seed, stage)


def _asked(config: pytest.Config, options: Options, tasks: Sequence[Path], seed: int) -> Asked:
    """What the tasks named on the command line are to be run with."""
    catalogue = _catalogue(config, options)
    variants = {variant.name: variant for task in tasks for variant in catalogue.of(task)}
    return Asked(tuple(variants.values()), seed)


def _path(config: pytest.Config, arg: str) -> Path:
    return config.invocation_params.dir / arg.partition("::")[0]
