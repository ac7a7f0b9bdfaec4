"""The template of a repo's own environment: what the repo declares, installed over another template.

On this machine packages come from where this machine's pip and npm have them (caches, wheels, an index), since a build
has no network of its own; elsewhere the build fetches them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.sandboxes.node_install import Way, in_the_sandbox, ways_to_install
from harness.sandboxes.npm_packages import npm_command
from harness.sandboxes.own_wheel import write_wheel
from harness.sandboxes.userstate import state_folder
from harness.tasks.devcontainer import Container
from harness.tasks.repoenv import Declared, read_declared
from harness.tasks.templatefile import TemplateFile

Say = Callable[[str], None]
_VERSION = 6
_FETCH_S = 900
_TOLD = 300
_PIP_INSTALL = (
    "env -u PIP_PREFIX -u PIP_TARGET python3 -m pip install --user --break-system-packages --quiet "
    "--disable-pip-version-check --no-warn-script-location"
)
# Checks read no profile; a sandbox without root has the commands on the agent's PATH alone.
_COMMANDS_ON_PATH = (
    "echo 'PATH=/home/user/.local/bin:$PATH' >>~/.profile && "
    "{ sudo -n ln -st /usr/local/bin ~/.local/bin/* 2>/dev/null || true; }"
)
_REMEDY = "put its wheel where pip finds it, or name a template that has it in [sandbox] template"


@dataclass(frozen=True)
class RepoEnv:
    """The template to build, as `[sandbox] template` would name it, and what is to be told of it."""

    template: str | TemplateFile
    notes: tuple[str, ...] = ()


def repo_env(repo: Path, base: str, *, local: bool, say: Say) -> RepoEnv:
    """Make the template's file for what a repo declares, over the template `base`; once for each content.

    Raises:
        OSError: when the disk does not take it.
    """
    found = read_declared(repo)
    if not found.requirements and not found.node:
        if found.container:
            return RepoEnv(_container_file(found.container, repo), found.notes)
        if not found.package:
            return RepoEnv(base, found.notes)
    if found.container:
        named = found.container.image or found.container.dockerfile
        unused = f"{found.container.source} is not used: name {named} in [sandbox] template to start from it"
        found = replace(found, notes=(*found.notes, unused))
    folder = state_folder() / "repo-env" / _key(found, repo, base, local)
    if not (folder / "notes.json").is_file():
        say(f"the repo's environment: {', '.join(found.sources) or 'the runner of its tests'}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            made = Path(name) / "env"
            made.mkdir()
            notes = _Making(found, repo, made, local, say).make(base)
            (made / "notes.json").write_text(json.dumps(notes), encoding="utf-8")
            if not folder.exists():
                made.rename(folder)
    made_notes = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    return RepoEnv(f"{folder}/env.py:template", (*found.notes, *made_notes))


def _container_file(container: Container, repo: Path) -> TemplateFile:
    """The Dockerfile of a container that a repo declares; of an image alone, one that is written."""
    if container.dockerfile:
        return TemplateFile(repo / container.dockerfile, context=repo / container.context)
    text = f"FROM {container.image}\n"
    folder = state_folder() / "repo-env" / f"image-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    return TemplateFile(folder / "Dockerfile")


def _key(found: Declared, repo: Path, base: str, local: bool) -> str:
    content = {
        **asdict(found),
        "base": base,
        "local": local,
        "version": _VERSION,
        "python": _python_of_sandbox(),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in found.node:
        digest.update((repo / name).read_bytes())
    return digest.hexdigest()[:16]


def _python_of_sandbox() -> str:
    """This machine's own Python, which is that of its sandboxes."""
    return shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable


@dataclass
class _Making:
    """One template being made in a folder."""

    found: Declared
    repo: Path
    folder: Path
    local: bool
    say: Say

    def make(self, base: str) -> list[str]:
        """Write its file, and gather what it copies; returns what could not be had."""
        steps, notes = list[str](), list[str]()
        if self.found.requirements or self.found.package:
            self._python(steps, notes)
        if self.found.node:
            self._node(steps, notes)
        text = "from e2b import Template\n\ntemplate = (\n    Template()\n"
        text += "".join(f"    {step}\n" for step in [f".from_template({base!r})", *steps]) + ")\n"
        (self.folder / "env.py").write_text(text, encoding="utf-8")
        return notes

    def _python(self, steps: list[str], notes: list[str]) -> None:
        wanted = list(self.found.requirements)
        if self.local and wanted:
            wanted = self._gather_wheels(wanted, notes)
            options = "--no-index --find-links /tmp/harness-wheels -r /tmp/harness-requirements.txt"
            if wanted:
                steps.append('.copy("wheels", "/tmp/harness-wheels")')
        elif wanted:
            (self.folder / "pins.txt").write_text("".join(f"{pin}\n" for pin in self.found.pins))
            steps.append('.copy("pins.txt", "/tmp/harness-pins.txt")')
            options = "-c /tmp/harness-pins.txt -r /tmp/harness-requirements.txt"
        commands = list[str]()
        if wanted:
            (self.folder / "requirements.txt").write_text("".join(f"{one}\n" for one in wanted))
            steps.append('.copy("requirements.txt", "/tmp/harness-requirements.txt")')
            commands.append(f"{_PIP_INSTALL} {options}")
        if self.found.package:
            wheel = write_wheel(self.found.package, self.folder)
            steps.append(f".copy({wheel!r}, {f'/tmp/{wheel}'!r})")
            commands.append(f"{_PIP_INSTALL} --no-index --no-deps --force-reinstall /tmp/{wheel}")
        if commands:
            # Each step is a layer, which costs more than what it does.
            steps.append(f".run_cmd({' && '.join([*commands, _COMMANDS_ON_PATH])!r})")

    def _gather_wheels(self, wanted: Sequence[str], notes: list[str]) -> list[str]:
        """Have pip put wheels of the requirements, and of what these need, into a folder; those that it got."""
        pins = self.folder / "pins.txt"
        pins.write_text("".join(f"{pin}\n" for pin in self.found.pins))
        words = self._wheel(wanted, pins)
        if words is None:
            return list(wanted)
        if self.found.pins and self._wheel(wanted, None) is None:
            told = "so packages are of other versions: put the wheels of those where pip finds them"
            notes.append(f"not all versions that the repo locks can be had here, {told} ({words})")
            return list(wanted)
        got = list[str]()
        for one in wanted:
            words = self._wheel([*got, one], None)
            if words is None:
                got.append(one)
            else:
                notes.append(f"{one} could not be installed: {words} ({_REMEDY})")
        return got

    def _wheel(self, requirements: Sequence[str], pins: Path | None) -> str | None:
        """Build the wheel. Returns the reason why that could not be done; None if it was."""
        python = _python_of_sandbox()
        command = [
            python,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--disable-pip-version-check",
            "-w",
            str(self.folder / "wheels"),
        ]
        return self._run([*command, *(["-c", str(pins)] if pins else []), *requirements], self.folder)

    def _node(self, steps: list[str], notes: list[str]) -> None:
        place = self.folder / "node"
        for name in self.found.node:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.repo / name, place / name)
        ways = list(ways_to_install(place))
        if not self.local:
            steps.append('.copy("node", "/tmp/harness-node")')
            command = f"cd /tmp/harness-node && {ways[0].command()} && mv node_modules /home/user/"
            steps.append(f".run_cmd({command!r})")
            return
        if self._installed(place, ways, notes) and (place / "node_modules").is_dir():
            with tarfile.open(self.folder / "node_modules.tar", "w") as archive:
                archive.add(place / "node_modules", "node_modules", filter=in_the_sandbox)
            steps.append('.copy("node_modules.tar", "/tmp/harness-node.tar")')
            # Node looks for packages in the folders above the repo, too; there they are no part of the work.
            steps.append(".run_cmd('tar -xf /tmp/harness-node.tar -C /home/user')")
            below = [(place / name).parent / "node_modules" for name in self.found.node if "/" in name]
            own = [str(folder.relative_to(place)) for folder in below if folder.is_dir()]
            if own:
                notes.append(f"packages of a workspace alone are not installed: {', '.join(own)}")
        shutil.rmtree(place)

    def _installed(self, place: Path, ways: Sequence[Way], notes: list[str]) -> bool:
        """True if one of the ways did it; what is not as the lock file has it is told."""
        problem = None
        for way in ways:
            words = self._run([*npm_command(), *way.words], place, way.env)
            if words is None:
                if problem:
                    told = "packages are of versions that package.json allows"
                    notes.append(f"{ways[0].lock} could not be followed, so {told}: {problem}")
                return True
            problem = problem or words
        notes.append(f"the packages of package.json could not be installed: {problem} ({_REMEDY})")
        return False

    def _run(self, command: Sequence[str], folder: Path, more: Mapping[str, str] | None = None) -> str | None:
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        env |= more or {}
        try:
            done = subprocess.run(
                command, cwd=folder, env=env, capture_output=True, text=True, timeout=_FETCH_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        for line in (done.stdout + done.stderr).splitlines():
            self.say(line)
        if done.returncode == 0:
            return None
        said = [
            line
            for line in done.stderr.splitlines() + done.stdout.splitlines()
            if "for help visit" not in line
        ]
        lines = [line for line in said if "err" in line.lower()] or said
        return " ".join(lines[-2:])[-_TOLD:]
