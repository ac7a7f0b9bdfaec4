"""Harbor's tasks, which are Terminal-Bench 2's: an image, an instruction, and a test script that writes a reward.

The agent works on the image's own system, as the image's account and in its working directory. The test script runs
there too, once the agent has ended, as Harbor has it; where the task wants a separate verifier, in a fresh sandbox of
the same image that gets the artifacts alone. A verifier's own image, several containers, GPUs and what else a task of
ours cannot ask for are told as that.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Problem, ProblemsError, TaskFault
from harness.tasks.contents import read_text
from harness.tasks.dockerfile import RunsAs, one_stage, runs_as
from harness.tasks.formats.base import ConvertedTask, NoCounterpartError, host_secrets, host_values, tag
from harness.tasks.formats.harbor_keys import SIZE, problems_of_keys
from harness.tasks.formats.marks import is_marked
from harness.tasks.manifest import MANIFEST, is_name
from harness.tasks.tomlfile import display_path, read_toml

_AGENT_S = 3600.0
"""The time of an agent that the task gives none: to Harbor it has no end."""
_VERIFIER_S, _MOST_S = 600.0, 86_400.0
_OURS = "schema"

_PLACES = "/logs /tests /solution"
_SIZES = frozenset(("cpus", "memory", "memory_mb", "storage", "storage_mb", "build_timeout_sec"))
"""Keys of an environment that do not make it another one."""
_SCRIPTS = Path(__file__).parent / "scripts"

_TEMPLATE = '''"""The task's image, with Claude Code on top."""

from pathlib import Path

from e2b import Template

from harness.sandboxes.claude_template import with_claude
from harness.sandboxes.dockerfile import template_of_dockerfile

image = {image!r}
dockerfile = Path(__file__).parent / "Dockerfile"
# Harbor has containers sleep, in the place of the image's own command.
base = (
    Template().from_image(image)
    if image
    else template_of_dockerfile(dockerfile, without=frozenset(("CMD", "ENTRYPOINT", "HEALTHCHECK")))
)
template = with_claude(base, programs=("bash", "tar")){more}
'''
_LOGS = "/logs/artifacts"
"""What Harbor hands to a separate verifier, whether or not the task names it."""


class Harbor:
    """Harbor and Terminal-Bench 2."""

    name = "harbor"

    def is_task(self, folder: Path) -> bool:
        """True for a task.toml that is not ours, or for the rest of such a task, whose tests are not run here."""
        manifest = folder / MANIFEST
        if not manifest.exists():
            return is_marked(folder, self.name)
        if not manifest.is_file():
            return False
        try:
            text = read_text(manifest, errors="replace")
        except OSError:  # A task of ours that cannot be read says so.
            return False
        if re.search(rf"^\s*{_OURS}\s*=", text, re.MULTILINE):
            return False
        return bool(
            re.search(r"^\s*(schema_version|version)\s*=|^\s*\[(environment|verifier)", text, re.MULTILINE)
        )

    def file_of(self, folder: Path) -> str:
        """Its task.toml."""
        return MANIFEST

    def convert(self, folder: Path) -> ConvertedTask:
        """The task as one of ours. Raises as `Format` says."""
        task = _Harbor.read(folder)
        task.refuse()
        return ConvertedTask(task.manifest(), task.files(), secrets=host_secrets(task.data))


@dataclass(frozen=True)
class _Harbor:
    folder: Path
    data: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> _Harbor:
        subject = f"task {folder.name!r} of Harbor cannot be used:"
        file = read_toml(folder / MANIFEST, subject)
        wrong = list(problems_of_keys(file))
        task = cls(folder, file.data)
        wrong += [
            Problem(display_path(folder / name), None, "does not exist", "Harbor needs it too")
            for name in (() if wrong else task.needed())
            if not (folder / name).is_file()
        ]
        if wrong:
            raise ProblemsError(subject, wrong)
        return task

    def table(self, name: str) -> Mapping[str, Any]:
        """A table of the manifest."""
        found: Mapping[str, Any] = self.data.get(name) or {}
        return found

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """The steps of a task that has several prompts."""
        return list(self.data.get("steps") or [])

    def needed(self) -> Iterator[str]:
        if not self.steps:
            yield "instruction.md"
            yield "tests/test.sh" if not (self.folder / "tests/test.bat").is_file() else "tests/test.bat"
        for step in self.steps:
            yield f"steps/{step.get('name')}/instruction.md"

    def refuse(self) -> None:
        """Say what has no counterpart."""
        for reason in self._reasons():
            raise NoCounterpartError(reason)

    def _reasons(self) -> Iterator[str]:
        environment, verifier = self.table("environment"), self.table("verifier")
        yield from self._reasons_of_dockerfile()
        if str(environment.get("os", "linux")).lower() != "linux":
            yield f"it needs {environment['os']}, and sandboxes run Linux"
        if environment.get("gpus") or environment.get("tpu"):
            yield "it needs a GPU or a TPU, which no sandbox has"
        for name in ("docker-compose.yaml", "docker-compose.yml"):
            if (self.folder / "environment" / name).is_file():
                yield f"environment/{name}: it needs several containers, and a trial has one sandbox"
        yield from self._reasons_of_verifier()
        for key in ("mcp_servers", "skills_dir"):
            if environment.get(key):
                yield f"[environment] {key} has no counterpart"
        for name, table in (("agent", self.table("agent")), ("verifier", verifier)):
            if table.get("network_mode") not in (None, self._mode()):
                yield f"[{name}] network_mode: a trial has one network"
        if (self.folder / "trajectory.json").is_file():
            yield "trajectory.json: an agent that has been at it already has no counterpart"
        if not (self.folder / "environment" / "Dockerfile").is_file() and not environment.get("docker_image"):
            yield "environment/ has no Dockerfile, and [environment] names no docker_image"
        yield from self._reasons_of_steps()
        account = verifier.get("user")
        if account is not None and str(account) != self.user and self.user != "root":
            yield f"[verifier] user: it is judged as {account}, and the agent is {self.user}"

    def _reasons_of_dockerfile(self) -> Iterator[str]:
        dockerfile = self.folder / "environment" / "Dockerfile"
        if not dockerfile.is_file():
            return
        try:
            one_stage(dockerfile.read_text(encoding="utf-8", errors="replace"), "environment/Dockerfile")
        except TaskFault as fault:
            yield fault.message

    def _reasons_of_verifier(self) -> Iterator[str]:
        verifier = self.table("verifier")
        own = verifier.get("environment") or {}
        if verifier.get("collect"):
            yield "[[verifier.collect]] has no counterpart"
        if not self.is_separate:
            return
        if self.steps:
            yield "[verifier] steps that are judged in an environment of their own have no counterpart"
        for name in ("Dockerfile", "docker-compose.yaml", "docker-compose.yml"):
            if (self.folder / "tests" / name).is_file():
                yield f"tests/{name}: it is judged in an environment made from another image"
        if not isinstance(own, Mapping) or own.keys() - _SIZES:
            yield "[verifier.environment] it is judged in an environment of its own, made from another image"
        for one in self._artifacts:
            if one.get("service") not in (None, "main") or one.get("exclude"):
                yield f"artifact {one.get('source')!r}: neither service nor exclude has a counterpart"
            elif str(one.get("source", "")).rstrip("/") == "":
                yield "artifacts: the whole system cannot be carried to another sandbox"

    def _reasons_of_steps(self) -> Iterator[str]:
        for step in self.steps:
            where = f"step {step.get('name')!r}"
            if not is_name(str(step.get("name"))):
                yield f"{where}: it is no name of a folder"
            if step.get("min_reward") is not None and self._min_score(step) is None:
                yield f"{where}: min_reward {step['min_reward']!r} has no counterpart"
            if (self.folder / "steps" / str(step.get("name")) / "workdir").exists():
                yield f"{where}: files that come between two prompts have no counterpart"
            own = step.get("verifier") or {}
            if own.get("environment") or own.get("environment_mode") == "separate":
                yield f"{where} is judged in an environment of its own"
            if step.get("healthcheck"):
                yield f"{where}: healthcheck has no counterpart"

    def _min_score(self, step: Mapping[str, Any]) -> float | None:
        """The reward without which a session ends early, where it is one that our score of the step has."""
        given = step.get("min_reward")
        least = given.get("reward") if isinstance(given, Mapping) and len(given) == 1 else given
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 < least <= 1:
            return None
        return float(least) if step in self._judged_steps else None

    @property
    def is_separate(self) -> bool:
        """True if the tests run where no agent has been."""
        verifier = self.table("verifier")
        return (
            str(verifier.get("environment_mode") or ("separate" if "environment" in verifier else ""))
            == "separate"
        )

    @property
    def _artifacts(self) -> list[Mapping[str, Any]]:
        given = self.data.get("artifacts") or []
        return [one if isinstance(one, Mapping) else {"source": str(one)} for one in given]

    @property
    def carried(self) -> list[str]:
        """The artifacts by their absolute paths."""
        paths = [
            posixpath.normpath(posixpath.join(self.workdir, str(one["source"]))) for one in self._artifacts
        ]
        return list(dict.fromkeys([_LOGS, *(path for path in paths if not path.startswith(f"{_LOGS}/"))]))

    @property
    def image(self) -> RunsAs:
        """The folder and account with which the image starts, as far as they are known here."""
        dockerfile = self.folder / "environment" / "Dockerfile"
        return (
            runs_as(dockerfile.read_text(encoding="utf-8", errors="replace"))
            if dockerfile.is_file()
            else RunsAs()
        )

    @property
    def user(self) -> str:
        """The account of the agent."""
        given = self.table("agent").get("user")
        if given is None:
            return self.image.user or "root"
        return "root" if str(given) == "0" else str(given)

    @property
    def workdir(self) -> str:
        """The folder in which the agent starts."""
        return str(self.table("environment").get("workdir") or self.image.workdir or "/")

    def manifest(self) -> dict[str, Any]:
        """Our task.toml."""
        environment, verifier, metadata = (
            self.table("environment"),
            self.table("verifier"),
            self.table("metadata"),
        )
        tags = metadata.get("tags")
        words = [
            *(tags if isinstance(tags, list) else [tags]),
            metadata.get("category"),
            metadata.get("difficulty"),
        ]
        tags = [found for word in words if word and (found := tag(str(word)))]
        package = self.table("task")
        return {
            "description": str(package.get("description") or metadata.get("description") or "").strip()[:300],
            "tags": list(dict.fromkeys(tags)),
            "timeout": self._agent_seconds(),
            **self._turns(),
            "checks": {
                "timeout": _seconds(verifier.get("timeout_sec"), _VERIFIER_S),
                **(
                    {"carry": self.carried}
                    if self.is_separate
                    else {"sandbox": "agent", "keep_processes": True}
                ),
            },
            "sandbox": {
                "template": "environment/template.py:template",
                "network": self._network(),
                "user": self.user,
                "workdir": self.workdir,
                "env": host_values(environment.get("env") or {}, "[environment.env]"),
                "cpus": _amount(environment.get("cpus"), 0.1),
                "memory": _whole(_amount(environment.get("memory_mb", environment.get("memory")), 16)),
            },
        }

    def _agent_seconds(self) -> float:
        given = [(step.get("agent") or {}).get("timeout_sec") for step in self.steps]
        own = self.table("agent").get("timeout_sec")
        if any(given):
            return min(sum(_seconds(one, _seconds(own, _AGENT_S)) for one in given), _MOST_S)
        return min(_seconds(own, _AGENT_S) * max(len(self.steps), 1), _MOST_S)

    def _mode(self) -> str:
        environment = self.table("environment")
        mode = "no-network" if environment.get("allow_internet") is False else "public"
        return str(environment.get("network_mode") or mode)

    def _network(self) -> str | list[str]:
        mode = self._mode()
        if mode == "allowlist":
            return [str(host) for host in self.table("environment").get("allowed_hosts") or []] or "model"
        return "open" if mode == "public" else "model"

    def _turns(self) -> dict[str, Any]:
        if not self.steps:
            return {"prompts": ["instruction.md"]}
        return {
            "turns": [
                {
                    "prompt": f"steps/{step['name']}.md",
                    "checks": [_check_name(step)] if step in self._judged_steps else [],
                    "solution": self._solution_of(step),
                    "min_score": None if step is self.steps[-1] else self._min_score(step),
                }
                for step in self.steps
            ]
        }

    @property
    def _judged_steps(self) -> list[Mapping[str, Any]]:
        """The steps whose rewards count."""
        return self.steps[-1:] if self.data.get("multi_step_reward_strategy") == "final" else self.steps

    def _solution_of(self, step: Mapping[str, Any]) -> str | None:
        has = (self.folder / "steps" / str(step["name"]) / "solution" / "solve.sh").is_file()
        return f"solutions/{step['name']}" if has else None

    def files(self) -> dict[str, str | bytes | Path]:
        """The files beside the manifest."""
        folder, files = self.folder, dict[str, str | bytes | Path]()
        if (folder / "environment").is_dir():
            files["environment"] = folder / "environment"
        files["environment/template.py"] = self._template()
        if not self.steps:
            files["instruction.md"] = folder / "instruction.md"
            files["checks/files"] = folder / "tests"
            files["checks/reward"] = self._verify(["files"], {})
        for step in self.steps:
            files |= self._files_of(step)
        if (folder / "solution" / "solve.sh").is_file():
            files |= self._solution("solution", folder / "solution")
        return files

    def _files_of(self, step: Mapping[str, Any]) -> Iterator[tuple[str, str | bytes | Path]]:
        own, name = self.folder / "steps" / str(step["name"]), str(step["name"])
        folders = []
        yield f"steps/{name}.md", own / "instruction.md"
        for source, target in ((self.folder / "tests", "files"), (own / "tests", f"files-{name}")):
            if source.is_dir():
                folders.append(target)
                yield f"checks/{target}", source
        if step in self._judged_steps:
            yield f"checks/{_check_name(step)}", self._verify(folders, step.get("verifier") or {})
        if self._solution_of(step):
            yield from self._solution(f"solutions/{name}", own / "solution").items()

    def _solution(self, target: str, source: Path) -> dict[str, str | bytes | Path]:
        env = host_values(self.table("solution").get("env") or {}, "[solution.env]")
        script = _script("solve.sh", self.workdir, env=env)
        return {f"{target}/files": source, f"{target}/solve.sh": script}

    def _verify(self, folders: list[str], own: Mapping[str, Any]) -> str:
        verifier = {**self.table("verifier"), **own}
        env = host_values(
            {**(self.table("verifier").get("env") or {}), **(own.get("env") or {})}, "[verifier.env]"
        )
        account = verifier.get("user")
        command = "bash /tests/test.sh"
        if account is not None and str(account) not in (self.user, "0" if self.user == "root" else self.user):
            command = f"runuser -u {shlex.quote(str(account))} -- {command}"
        return _script("verify.sh", self.workdir, command, *folders, env=env)

    def _template(self) -> str:
        environment = self.table("environment")
        image = environment.get("docker_image")
        has_file = (self.folder / "environment" / "Dockerfile").is_file()
        entrypoint, ready = self.image.entrypoint, (environment.get("healthcheck") or {}).get("command")
        start = f"exec {entrypoint} sh -c 'sleep infinity'" if entrypoint else "exec sleep infinity"
        steps = []
        if self.user != "root":  # Harbor makes these as root, and has tests and solution run as the account
            make = f"mkdir -p {_PLACES} && chown -R {shlex.quote(self.user)} {_PLACES}"
            steps.append(f"run_cmd({make!r}, user='root')")
        if entrypoint or ready:
            steps.append(f"set_start_cmd({start!r}, {ready or 'true'!r})")
        more = "".join(f"\ntemplate = template.{step}" for step in steps)
        return _TEMPLATE.format(image=None if has_file else str(image), more=more)


def _script(name: str, *arguments: str, env: Mapping[str, str]) -> str:
    """A script of ours with its arguments and variables in it."""
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in env.items())
    text = (_SCRIPTS / name).read_text(encoding="utf-8")
    return f"#!/bin/bash\n{exports}set -- {shlex.join(arguments)}\n{text}"


def _check_name(step: Mapping[str, Any]) -> str:
    return f"reward-{re.sub(r'[^A-Za-z0-9_.-]', '-', str(step.get('name')))}"


_MOST = 1e9
"""No machine has more CPUs, or MiB; TOML's whole numbers have no end."""


def _amount(value: object, least: float) -> float | None:
    """A number, or a size such as "2G" in MiB; None for what is none, or too small to be a bound."""
    if isinstance(value, str) and (found := SIZE.fullmatch(value)):
        value = float(found[1]) * {"G": 1024.0, "M": 1.0, "K": 1 / 1024}[found[2].upper()]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(value, _MOST)) if value >= least else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _seconds(value: object, default: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(min(value, _MOST_S))
    return default
