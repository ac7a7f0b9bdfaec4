"""Builds of templates. Each runs in a box of its own, from the last layer that is cached."""

from __future__ import annotations

import asyncio
import functools
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
from harness.local.boxes.types import BadProgram, BoxError, BoxSpec
from harness.local.builds.build_request import BuildRequest, Step
from harness.local.builds.images import ImageTemplates, find_template_for_image, what_is_here
from harness.local.builds.steps import StepContext, StepFailed, run_step
from harness.local.builds.store import Build, Layer, TemplateRecord, TemplateStore
from harness.local.control.startup import StartUpError, start_up
from harness.local.envd.journal import Level, LogEntry
from harness.local.images.errors import ImageError
from harness.local.limits import BoxLimits
from harness.local.template import Template

BUILD_TIMEOUT_S = 3600.0
"""E2B's timeout for a build."""

_FORMAT_VERSION = 3
"""Part of each layer's key. Raise it when the meaning of a step changes, so that older layers are not reused."""

State = Literal["waiting", "building", "ready", "error"]


class BuildFailed(Exception):
    """A build failed at this step: "base", a number from 1, or "finalize"."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


@dataclass
class BuildStatus:
    """The state of one build, as its client polls it."""

    id: str
    record: TemplateRecord
    """The record of the template when the build was requested."""
    tags: tuple[str, ...]
    limits: BoxLimits
    """The bounds of sandboxes that are made from it."""
    state: State = "waiting"
    failure: BuildFailed | None = None
    log: list[LogEntry] = field(default_factory=list)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def log_line(self, message: str, level: Level = "info", step: str = "") -> None:
        """Add a line to the log."""
        fields = {"step": step} if step else {}
        self.log.append(LogEntry(datetime.now(UTC), level, message, fields))


class Builder:
    """All builds of a server."""

    def __init__(
        self,
        isolation: Isolation,
        boxes: Path,
        store: TemplateStore,
        find: Callable[[str], Template | None],
        find_root: Callable[[str], Template | None],
        images: ImageTemplates,
    ) -> None:
        self._find_root = find_root
        self._images = images
        self._isolation = isolation
        self._boxes = boxes
        self._store = store
        self._find = find
        self._builds: dict[str, BuildStatus] = {}
        self._running: set[asyncio.Task[None]] = set()

    def add_build(self, name: str, tags: tuple[str, ...], limits: BoxLimits) -> BuildStatus:
        """Add a build of the template with this name. The template is made if there is none."""
        known = self._store.find_record(name)
        record = known or TemplateRecord(secrets.token_hex(10), name, datetime.now(UTC))
        build = BuildStatus(str(uuid.uuid4()), record, tags, limits)
        self._builds[build.id] = build
        return build

    def find_build(self, template_id: str, build_id: str) -> BuildStatus | None:
        """Return the build with this id, if it belongs to this template."""
        build = self._builds.get(build_id)
        return build if build and template_id in (build.record.id, build.record.name) else None

    def has_build_of(self, template_id: str) -> bool:
        """True if a build of this template has been requested."""
        return any(build.record.id == template_id for build in self._builds.values())

    def start(self, build: BuildStatus, request: BuildRequest) -> None:
        """Start the build in the background."""
        build.state = "building"
        task = asyncio.create_task(self._build(build, request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def remove(self, record: TemplateRecord) -> None:
        """Remove a template and the files that only it needs, once no build is running."""
        await asyncio.to_thread(self._store.remove_record, record)

    async def close(self) -> None:
        """Cancel all running builds."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _build(self, build: BuildStatus, request: BuildRequest) -> None:
        try:
            async with asyncio.timeout(BUILD_TIMEOUT_S):
                await self._run_build(build, request)
            build.state = "ready"
        except BuildFailed as failure:
            self._fail(build, failure)
        except TimeoutError:
            self._fail(build, BuildFailed("finalize", f"the build took longer than {BUILD_TIMEOUT_S:.0f} s"))
        except BadProgram as error:
            words = f"{error}: the image has none, and steps need it; start from an image that has bash"
            self._fail(build, BuildFailed("base", words))
        except (BoxError, OSError) as error:
            self._fail(build, BuildFailed("base", f"the build could not go on: {error}"))
        except BaseException:
            build.state = "error"  # so that its client stops waiting; the error goes to the server's log
            raise

    def _fail(self, build: BuildStatus, failure: BuildFailed) -> None:
        build.log_line(f"Build failed: {failure}", "error", failure.step)
        build.failure = failure
        build.state = "error"

    async def _run_build(self, build: BuildStatus, request: BuildRequest) -> None:
        with ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, self._store.lock())
            root, base_layer = await self._find_base(build, request)
            build.log_line(f"[base] FROM {request.template or request.image} [{root.name}]", step="base")
            request = replace(request, start=request.start or root.start)
            sandbox = _BuildSandbox(self._isolation, self._boxes, self._store, root, build, request)
            try:
                layers = await sandbox.run_steps(request, base_layer)
            finally:
                await sandbox.close()
            self._save(build, request, root, layers)

    async def _find_base(self, build: BuildStatus, request: BuildRequest) -> tuple[Template, Layer]:
        """Return the template at the bottom, built-in or an image, and the layer to build on."""
        image = request.image or ""
        name = request.template or find_template_for_image(image)
        if name is None:
            say = functools.partial(build.log_line, step="base")
            try:
                root = await asyncio.to_thread(self._images.pull, image, request.credentials, say)
            except ImageError as error:
                raise BuildFailed("base", f"{error}; {what_is_here(image)}") from error
            return root, self._empty_layer(root)
        found = self._find(name)
        if found is None:
            raise BuildFailed("base", f"template '{name}' not found")
        record = self._store.find_record(found.id)
        if record is None:
            return found, self._empty_layer(found)
        parent = record.builds[found.build_id]
        below = self._find_root(parent.root)
        if below is None:
            raise BuildFailed("base", f"template '{parent.root}' not found")
        return below, parent.layer

    def _empty_layer(self, root: Template) -> Layer:
        content = f"{_FORMAT_VERSION} {root.build_id} {self._isolation.tier}"
        key = hashlib.sha256(content.encode()).hexdigest()
        if root.image is None:
            return Layer(key)
        return Layer(key, user=root.user, workdir=root.workdir or "/home/user")

    def _save(self, build: BuildStatus, request: BuildRequest, root: Template, layers: list[Layer]) -> None:
        """Save the finished build, so that sandboxes can be made from it."""
        record = self._store.find_record(build.record.id) or build.record
        keys = {key for layer in layers for key in (layer.key, layer.files) if key}
        built = Build(
            id=build.id,
            root=root.name,
            layer=layers[-1],
            start=request.start,
            layers=tuple(sorted(keys)),
            archives=tuple(step.files_hash for step in request.steps if step.files_hash),
            created_at=build.created_at,
            finished_at=datetime.now(UTC),
            cpus=build.limits.cpus,
            memory_mb=build.limits.memory_mb,
        )
        self._store.save_record(record.with_build(built).with_tags(build.id, build.tags))


class _BuildSandbox:
    """The box in which one build runs. It is started at the first step that is not cached."""

    def __init__(
        self,
        isolation: Isolation,
        boxes: Path,
        store: TemplateStore,
        root: Template,
        build: BuildStatus,
        request: BuildRequest,
    ) -> None:
        self._isolation = isolation
        self._boxes = boxes
        self._store = store
        self._root = root
        self._build = build
        self._request = request
        self._box: Box | None = None

    async def run_steps(self, request: BuildRequest, layer: Layer) -> list[Layer]:
        """Run all steps. Returns all layers from the base on; the last one is the result."""
        layers, force, count = [layer], request.force, len(request.steps)
        for number, step in enumerate(request.steps, 1):
            force = force or step.force
            key = step.cache_key(layers[-1].key + (self._build.id if force else ""))
            words = f"[builder {number}/{count}] {step.text}"
            cached = self._store.find_layer(key)
            self._build.log_line(f"CACHED {words}" if cached else words, step=str(number))
            if cached is None:
                try:
                    cached = await self._run_step(step, layers[-1], key, str(number))
                except StepFailed as error:
                    raise BuildFailed(str(number), str(error)) from error
            layers.append(cached)
        if request.start is not None:
            layers.append(await self._check_start_command(request, layers[-1]))
        return layers

    async def close(self) -> None:
        """Destroy the box."""
        if self._box:
            await self._box.destroy()

    async def _run_step(self, step: Step, before: Layer, key: str, number: str) -> Layer:
        box = self._box or await self._open(before)

        def on_line(line: str) -> None:
            self._build.log_line(f"[{number}] {line}", step=number)

        after = replace(
            await run_step(StepContext(box, on_line, self._store.archive_path), step, before), key=key
        )
        folder, shared = self._store.make_layer_folder(), 0
        try:
            if step.kind in ("RUN", "COPY", "WORKDIR"):
                await box.copy_state(folder)
                after = replace(after, files=key)
                if before.files:
                    earlier = self._store.layer_path(before.files)
                    shared = await asyncio.to_thread(self._isolation.share_files, folder, earlier)
            return await asyncio.to_thread(self._store.add_layer, after, folder, shared)
        finally:
            if folder.exists():
                await asyncio.to_thread(remove_tree, folder)

    async def _open(self, layer: Layer) -> Box:
        self._box = await self._start_box(self._store.apply_layer(self._root, layer))
        return self._box

    async def _start_box(self, template: Template) -> Box:
        name = f"build{secrets.token_hex(8)}"
        spec = BoxSpec(
            name,
            self._boxes / name,
            template,
            network=self._request.policy,
            ca=self._request.ca,
        )
        return await Box.start(spec, self._isolation)

    async def _check_start_command(self, request: BuildRequest, layer: Layer) -> Layer:
        """Run the start command in a fresh box. Returns the layer under a key that marks the command as working."""
        content = json.dumps([layer.key, "START", asdict(request.start) if request.start else None])
        key = hashlib.sha256(content.encode()).hexdigest()
        if known := self._store.find_layer(key):
            return known
        self._build.log_line("[finalize] Starting up", step="finalize")
        template = replace(self._store.apply_layer(self._root, layer), start=request.start)
        box = await self._start_box(template)
        try:
            await start_up(box, lambda line: self._build.log_line(f"[finalize] {line}", step="finalize"))
        except StartUpError as error:
            raise BuildFailed("finalize", str(error)) from error
        finally:
            await box.destroy()
        return await asyncio.to_thread(
            self._store.add_layer, replace(layer, key=key), self._store.make_layer_folder()
        )
