"""The templates of a run's trials: built when their content is new, once for all that ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import GIVE_UP, InternalFault, TaskFault, UsageError
from harness.records.redaction import NO_REDACTION, Redactor
from harness.sandboxes import npm
from harness.sandboxes.building import (
    BuiltTemplate,
    TemplateBuild,
    build,
    claude_template_build,
    is_built,
    list_built_templates,
    read_template_build,
    remove,
)
from harness.sandboxes.platform import Platform
from harness.sandboxes.repo_env import repo_env
from harness.sandboxes.userstate import state_folder
from harness.tasks.single_flight import SingleFlight, locked
from harness.tasks.templatefile import TemplateFile, find_template_file, template_file

LATEST = "latest"


class Templates:
    """Gives each `template` the name by which the platform knows it.

    `folder` keeps the builds' logs; `say` is given each of their lines, both through `redact`. `claude_cache` is where
    a server on this machine finds versions of Claude Code.
    """

    def __init__(
        self,
        platform: Platform,
        folder: Path,
        say: Callable[[str], None] = lambda line: None,
        claude_cache: Path | None = None,
        redact: Redactor = NO_REDACTION,
    ) -> None:
        self._platform = platform
        self._folder = folder
        self._claude_cache = claude_cache
        self._redact = redact
        self.say = say
        self._known = SingleFlight(self._ready)
        self._latest = SingleFlight[str, str](lambda _: asyncio.to_thread(npm.latest))
        self._with_claude = SingleFlight(self._make_with_claude)
        self._envs = SingleFlight(self._env_ready)

    async def claude_version(self, asked: str) -> str:
        """The number of a version of Claude Code; what the latest is, is asked once. Raises TaskFault."""
        return await self._latest.get(asked) if asked == LATEST else asked

    async def with_claude(self, template: str, version: str) -> str:
        """The name of a template as it is, but for the version of Claude Code in it. Raises as `ensure_built` does."""
        return await self._with_claude.get((template, version))

    async def _make_with_claude(self, key: tuple[str, str]) -> str:
        template, version = key
        # A server of the harness's own has each template with any version that was fetched, as NAME:VERSION.
        if not self._claude_cache or not self._platform.keeps_output:
            return await self._build_once(claude_template_build(template, version))
        folder = self._claude_cache / version
        with _raising_disk_faults(f"Claude Code {version} cannot be kept"):
            async with locked(_lock(f"claude-code-{version}")):
                if not folder.exists():
                    self.say(f"fetching Claude Code {version} from npm")
                    await asyncio.to_thread(npm.download, version, folder)
        return f"{template}:{version}"

    async def ensure_built(
        self, template: str, start: Path, hosts: tuple[str, ...] = (), ca: str = ""
    ) -> str:
        """The name of a template, which is built first if need be. Files are looked for from `start` upwards.

        `hosts` are reached by its build beside the internet, such as have private addresses; `ca` is a file with
        certificates that it trusts.

        Raises:
            TaskFault: when it cannot be built.
            SandboxFault: when the platform cannot be reached.
        """
        if template_file(template) is None:
            return template
        return await self._known.get((resolve_template_file(template, start), hosts, ca))

    async def ensure_env(self, base: str, repo: Path) -> tuple[str, tuple[str, ...]]:
        """The name of a template that has what a repo declares, over another one; and what could not be had.

        Raises:
            TaskFault: when it cannot be built.
            SandboxFault: when the platform cannot be reached.
        """
        return await self._envs.get((base, repo))

    async def _env_ready(self, asked: tuple[str, Path]) -> tuple[str, tuple[str, ...]]:
        base, repo = asked
        is_local = self._platform.kind == "local" or self._platform.isolation is not None
        try:
            async with locked(_lock("repo-env")):
                found = await asyncio.to_thread(repo_env, repo, base, local=is_local, say=self.say)
        except OSError as error:
            what = f"the repo's environment cannot be made: {error.strerror or error}"
            raise InternalFault("disk", what, policy=GIVE_UP) from error
        if isinstance(found.template, TemplateFile):
            return await self._known.get((found.template, (), "")), found.notes
        return await self.ensure_built(found.template, repo), found.notes

    async def _ready(self, wanted: tuple[TemplateFile, tuple[str, ...], str]) -> str:
        file, hosts, ca = wanted
        return await self._build_once(await asyncio.to_thread(read_template_build, file), hosts, ca)

    async def _build_once(
        self, template_build: TemplateBuild, hosts: tuple[str, ...] = (), ca: str = ""
    ) -> str:
        with _raising_disk_faults(f"{template_build.name} cannot be built"):
            async with locked(_lock(template_build.name)):
                if not await is_built(template_build.name, self._platform.params):
                    await self.build(template_build, hosts, ca)
        return template_build.name

    async def build(self, template_build: TemplateBuild, hosts: tuple[str, ...] = (), ca: str = "") -> None:
        """Build it, whether it is there already or not. Raises as `ensure_built` does, and OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.say(f"building template {template_build.name} from {template_build.file.shown}")
        with (self._folder / f"{template_build.name}.log").open("a", encoding="utf-8") as log:

            def take(line: str) -> None:
                line = self._redact.text(line)
                log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")
                log.flush()
                self.say(f"{template_build.name}: {line}")

            await build(template_build, self._platform.params_with(hosts=hosts, ca=ca), take)


@contextlib.contextmanager
def _raising_disk_faults(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InternalFault("disk", f"{what}: {error.strerror or error}", policy=GIVE_UP) from error


def name_by_content(template: str, start: Path) -> str:
    """The name that a template has or will have on the platform; of a file, with the hash of its content.

    Raises:
        TaskFault: when the file cannot be read.
    """
    return (
        template
        if template_file(template) is None
        else read_template_build(resolve_template_file(template, start)).name
    )


def resolve_template_file(template: str, start: Path) -> TemplateFile:
    """The file that a template is built from. Raises TaskFault when it is nowhere."""
    file = find_template_file(template, start)
    if file is None:
        raise TaskFault(
            "template_file",
            f"template {template!r} is neither in {start} nor in a folder that it is in",
            remedy="give a path relative to one of them",
        )
    return file


def _lock(name: str) -> Path:
    folder = state_folder() / "templates"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{name}.lock"


def build_now(platform: Platform, template: str, logs: Path, say: Callable[[str], None]) -> str:
    """Build a template from its file, and return its name; what is unchanged comes from the platform's cache.

    Raises:
        UsageError: when it names no file.
        TaskFault: when it cannot be built.
        SandboxFault: when the platform cannot be reached.
    """
    if template_file(template) is None:
        raise UsageError(
            f"{template!r} is no file to build from", remedy="give FILE.py:NAME or a path to a Dockerfile"
        )
    template_build = read_template_build(resolve_template_file(template, Path.cwd()))
    asyncio.run(Templates(platform, logs, say).build(template_build))
    return template_build.name


def list_built(platform: Platform) -> str:
    """The templates that harness has built, a line each. Raises SandboxFault."""
    lines = [
        f"{one.name}  {one.created_at.isoformat(timespec='seconds')}  {one.id}" for one in _built(platform)
    ]
    return "".join(f"{line}\n" for line in lines) or "no template was built by harness\n"


def _built(platform: Platform) -> list[BuiltTemplate]:
    return sorted(asyncio.run(list_built_templates(platform.params)), key=lambda one: one.name)


def remove_built(platform: Platform, names: list[str], *, every: bool) -> str:
    """Remove templates: those named, or `every` one that harness has built; and say which.

    Raises:
        UsageError: when one is not there.
        SandboxFault: when the platform cannot be reached.
    """
    lines = []
    for name in [one.name for one in _built(platform)] if every else names:
        if not asyncio.run(remove(name, platform.params)):
            raise UsageError(
                f"there is no template {name!r}",
                remedy="`harness template list` lists what harness has built",
            )
        lines.append(f"removed {name}\n")
    return "".join(lines) or "no template was built by harness\n"
