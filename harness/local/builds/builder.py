"""Builds: each in a box of its own, from the last layer that has been made before."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from harness.local.boxes.box import Box
from harness.local.boxes.file_tree import remove_tree
from harness.local.boxes.isolation import Isolation
from harness.local.boxes.types import BoxError, BoxSpec
from harness.local.builds import export
from harness.local.builds.build_request import Recipe, Step
from harness.local.builds.images import ImageError, template_for
from harness.local.builds.steps import StepFailed, Workshop, perform
from harness.local.builds.store import Build, Layer, Record, Shelf
from harness.local.control.startup import StartUpError, start_up
from harness.local.envd.journal import Level, LogEntry
from harness.local.template import PLACES, Template

BUILD_SECONDS = 3600.0
"""As long as a build may take on E2B."""

_GENERATION = 2
"""To be raised when steps come to mean something else: layers of before are then not taken again."""

_LOCAL = "/opt/local"
"""Where programs go that a build installs for all users, since /usr is this machine's own."""

_INSTALLING = {"NPM_CONFIG_PREFIX": _LOCAL, "PYTHONUSERBASE": _LOCAL, "PIP_BREAK_SYSTEM_PACKAGES": "1"}

Status = Literal["waiting", "building", "ready", "error"]


class BuildFailed(Exception):
    """Why a build ended, and at which step: "base", a number from 1, or "finalize"."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


@dataclass
class Progress:
    """One build, as its client follows it."""

    id: str
    record: Record
    """The template that it is a build of, as it was when the build was asked for."""
    tags: tuple[str, ...]
    status: Status = "waiting"
    failure: BuildFailed | None = None
    log: list[LogEntry] = field(default_factory=list)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def say(self, message: str, level: Level = "info", step: str = "") -> None:
        """Add a line to the log."""
        fields = {"step": step} if step else {}
        self.log.append(LogEntry(datetime.now(UTC), level, message, fields))


class Builder:
    """All builds of a server."""

    def __init__(
        self, isolation: Isolation, boxes: Path, shelf: Shelf, find: Callable[[str], Template | None]
    ) -> None:
        self._isolation = isolation
        self._boxes = boxes
        self._shelf = shelf
        self._find = find
        self._builds: dict[str, Progress] = {}
        self._running: set[asyncio.Task[None]] = set()

    def request(self, name: str, tags: tuple[str, ...]) -> Progress:
        """A new build of the template with this name, which is made when there is none."""
        known = self._shelf.find(name)
        record = known or Record(secrets.token_hex(10), name, datetime.now(UTC))
        build = Progress(str(uuid.uuid4()), record, tags)
        self._builds[build.id] = build
        return build

    def find(self, template_id: str, build_id: str) -> Progress | None:
        """The build with this id."""
        build = self._builds.get(build_id)
        return build if build and template_id in (build.record.id, build.record.name) else None

    def knows(self, template_id: str) -> bool:
        """Whether a build of this template has been asked for."""
        return any(build.record.id == template_id for build in self._builds.values())

    def start(self, build: Progress, recipe: Recipe) -> None:
        """Build it, in the background."""
        build.status = "building"
        task = asyncio.create_task(self._build(build, recipe))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def remove(self, record: Record) -> None:
        """Remove a template and what only it needs, once nothing is being built."""
        await asyncio.to_thread(self._shelf.remove, record)

    async def close(self) -> None:
        """Give up all that is being built."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _build(self, build: Progress, recipe: Recipe) -> None:
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                await self._make(build, recipe)
            build.status = "ready"
        except BuildFailed as failure:
            self._fail(build, failure)
        except TimeoutError:
            self._fail(build, BuildFailed("finalize", f"the build took longer than {BUILD_SECONDS:.0f} s"))
        except (BoxError, OSError) as error:
            self._fail(build, BuildFailed("base", f"the build could not go on: {error}"))
        except BaseException:
            build.status = "error"  # its client need not wait on; what is wrong goes to the server's log
            raise

    def _fail(self, build: Progress, failure: BuildFailed) -> None:
        build.say(f"Build failed: {failure}", "error", failure.step)
        build.failure = failure
        build.status = "error"

    async def _make(self, build: Progress, recipe: Recipe) -> None:
        with ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, self._shelf.locked())
            root, beginning = self._base(recipe)
            build.say(f"[base] FROM {recipe.template or recipe.image} [{root.name}]", step="base")
            bench = _Bench(self._isolation, self._boxes, self._shelf, root, build)
            try:
                layers = await bench.follow(recipe, beginning)
            finally:
                await bench.close()
            self._put(build, recipe, root, layers)

    def _base(self, recipe: Recipe) -> tuple[Template, Layer]:
        """The built-in template at the bottom, and the layer to go on from."""
        try:
            name = recipe.template or template_for(recipe.image or "")
        except ImageError as error:
            raise BuildFailed("base", str(error)) from error
        found = self._find(name)
        if found is None:
            raise BuildFailed("base", f"template '{name}' not found")
        record = self._shelf.find(found.id)
        if record is None:
            return found, self._blank(found)
        parent = record.builds[found.build_id]
        root = self._find(parent.root)
        if root is None:
            raise BuildFailed("base", f"template '{parent.root}' not found")
        return root, parent.layer

    def _blank(self, root: Template) -> Layer:
        said = f"{_GENERATION} {root.build_id} {self._isolation.tier}"
        key = hashlib.sha256(said.encode()).hexdigest()
        if self._isolation.tier != "bubblewrap":
            return Layer(key)
        return Layer(key, env=_INSTALLING, places={**PLACES, _LOCAL: "local"})

    def _put(self, build: Progress, recipe: Recipe, root: Template, layers: list[Layer]) -> None:
        """From now on sandboxes can be made from it."""
        record = self._shelf.find(build.record.id) or build.record
        keys = {key for layer in layers for key in (layer.key, layer.files) if key}
        built = Build(
            id=build.id,
            root=root.name,
            layer=layers[-1],
            start=recipe.start,
            layers=tuple(sorted(keys)),
            archives=tuple(step.files_hash for step in recipe.steps if step.files_hash),
            created_at=build.created_at,
            finished_at=datetime.now(UTC),
        )
        self._shelf.put(record.with_build(built).tagged(build.id, build.tags))


class _Bench:
    """Where one build is done: a box, once there is something to do in it."""

    def __init__(
        self, isolation: Isolation, boxes: Path, shelf: Shelf, root: Template, build: Progress
    ) -> None:
        self._isolation = isolation
        self._boxes = boxes
        self._shelf = shelf
        self._root = root
        self._build = build
        self._box: Box | None = None
        self._baseline: frozenset[str] = frozenset()

    async def follow(self, recipe: Recipe, layer: Layer) -> list[Layer]:
        """Do all steps; the layers that the result stands on, the last one being the result."""
        layers, force, count = [layer], recipe.force, len(recipe.steps)
        for number, step in enumerate(recipe.steps, 1):
            force = force or step.force
            key = step.after(layers[-1].key + (self._build.id if force else ""))
            words = f"[builder {number}/{count}] {step.words}"
            cached = self._shelf.layer(key)
            self._build.say(f"CACHED {words}" if cached else words, step=str(number))
            if cached is None:
                try:
                    cached = await self._do(step, layers[-1], key, str(number))
                except StepFailed as error:
                    raise BuildFailed(str(number), str(error)) from error
            layers.append(cached)
        if recipe.start is not None:
            layers.append(await self._try_start(recipe, layers[-1]))
        return layers

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._box:
            await self._box.destroy()

    async def _do(self, step: Step, before: Layer, key: str, number: str) -> Layer:
        box = self._box or await self._open(before)

        def say(line: str) -> None:
            self._build.say(f"[{number}] {line}", step=number)

        after = replace(await perform(Workshop(box, say, self._shelf.archive), step, before), key=key)
        filled = self._shelf.new_layer()
        try:
            if step.kind in ("RUN", "COPY", "WORKDIR"):
                places, links = await export.files(box, self._baseline, filled)
                after = replace(after, files=key, places=places, links=links)
            return self._shelf.keep(after, filled)
        except export.CannotKeep as error:
            raise StepFailed(str(error)) from error
        finally:
            if filled.exists():
                await asyncio.to_thread(remove_tree, filled)

    async def _open(self, layer: Layer) -> Box:
        self._box = await self._start_box(self._shelf.laid_over(self._root, layer), open_root=True)
        self._baseline = await export.baseline(self._box)
        return self._box

    async def _start_box(self, template: Template, *, open_root: bool = False) -> Box:
        name = f"build{secrets.token_hex(8)}"
        spec = BoxSpec(name, self._boxes / name, template, open_root=open_root)
        return await Box.start(spec, self._isolation)

    async def _try_start(self, recipe: Recipe, layer: Layer) -> Layer:
        """Whether the start command works, found out once in a box like the sandboxes to be made."""
        said = json.dumps([layer.key, "START", asdict(recipe.start) if recipe.start else None])
        key = hashlib.sha256(said.encode()).hexdigest()
        if known := self._shelf.layer(key):
            return known
        self._build.say("[finalize] Starting up", step="finalize")
        template = replace(self._shelf.laid_over(self._root, layer), start=recipe.start)
        box = await self._start_box(template)
        try:
            await start_up(box, lambda line: self._build.say(f"[finalize] {line}", step="finalize"))
        except StartUpError as error:
            raise BuildFailed("finalize", str(error)) from error
        finally:
            await box.destroy()
        return self._shelf.keep(replace(layer, key=key), self._shelf.new_layer())
