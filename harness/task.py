"""A folder with a `task.toml` becomes a frozen `Task`; every problem in it is reported, with file, field and remedy."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from harness import replay
from harness.errors import Problem, ProblemsError

MANIFEST = "task.toml"
Network = Literal["model", "none", "open"] | tuple[str, ...]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_REMEDIES = {
    "extra_forbidden": "remove it, or correct the name",
    "missing": "add it",
}


@dataclass(frozen=True)
class Turn:
    """One prompt of a task's session."""

    prompt: str
    source: str


@dataclass(frozen=True)
class Check:
    """One verdict to be asked for: a file of `checks/` or a command of `[checks] run`.

    Exactly one of `file` (its name within `checks/`) and `command` (for bash) is set.
    """

    name: str
    file: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class SandboxSpec:
    """What a task asks of its sandbox."""

    template: str = "claude"
    env: Mapping[str, str] = field(default_factory=dict)
    network: Network = "model"


@dataclass(frozen=True)
class Limits:
    """What ends an agent early: turns, US dollars (None: no limit of the task's own)."""

    max_turns: int | None = None
    max_cost_usd: float | None = None


@dataclass(frozen=True)
class Task:
    """A starter repo, prompts, checks and a reference solution.

    `timeout` is the agent's and `check_timeout` each check's, in seconds. `hash` changes when anything in the
    folder does that could change a result. Paths are absolute; `repo`, `solution` and `replay` may be None.
    """

    name: str
    path: Path | None
    hash: str
    description: str = ""
    tags: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    timeout: float = 600.0
    repo: Path | None = None
    setup: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    check_timeout: float = 60.0
    protect: tuple[str, ...] = ()
    sandbox: SandboxSpec = field(default_factory=SandboxSpec)
    limits: Limits = field(default_factory=Limits)
    solution: Path | None = None
    replay: Path | None = None

    @property
    def checks_folder(self) -> Path | None:
        """The folder that is put beside the repo when the checks run, if there is one."""
        folder = self.path / "checks" if self.path else None
        return folder if folder and folder.is_dir() else None


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class _Repo(_Strict):
    path: str = "repo"


class _Setup(_Strict):
    run: list[str] = []


class _Checks(_Strict):
    timeout: Seconds = 60.0
    protect: list[str] = []
    run: dict[Annotated[str, Field(pattern=_NAME)], str] = {}


class _Sandbox(_Strict):
    template: Annotated[str, Field(min_length=1)] = "claude"
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    network: Literal["model", "none", "open"] | list[str] = "model"


class _Limits(_Strict):
    max_turns: Annotated[int, Field(gt=0)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0)] | None = None


class _Manifest(_Strict):
    schema_: Annotated[Literal[1], Field(alias="schema")]
    description: str = ""
    tags: list[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]] = []
    prompts: Annotated[list[str], Field(min_length=1)] = ["prompt.md"]
    timeout: Seconds = 600.0
    repo: _Repo = _Repo()
    setup: _Setup = _Setup()
    checks: _Checks = _Checks()
    sandbox: _Sandbox = _Sandbox()
    limits: _Limits = _Limits()


def load_task(folder: Path) -> Task:
    """Read a task folder.

    Raises:
        ProblemsError: with every problem that the folder has.
    """
    folder = folder.absolute()
    manifest, problems = _read_manifest(folder)
    reader = _Reader(folder, problems)
    task = reader.task(manifest)
    if problems:
        raise ProblemsError(f"task {folder.name!r} cannot be used:", problems)
    return task


def task_of_parts(
    name: str,
    base: Path,
    folder: str | None = None,
    *,
    repo: str | None = None,
    template: str | None = None,
    checks: Mapping[str, str] | None = None,
    protect: Sequence[str] = (),
    setup: Sequence[str] = (),
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    network: str | Sequence[str] | None = None,
    replay: str | None = None,
) -> Task:
    """A task for a Python test, which brings its own prompts: from a task folder, or from parts named one by one.

    Args:
        name: the task's name in records.
        base: what paths are relative to.
        folder: a task folder; the other parts replace its own.
        repo: a folder with the starter repo; by default an empty one.
        template: the sandbox's template.
        checks: shell commands by name.
        protect: patterns of files that the agent must not change.
        setup: shell commands to run before the agent.
        timeout: seconds for each prompt.
        env: the sandbox's environment.
        network: `model`, `none`, `open` or hosts.
        replay: a recorded session.

    Raises:
        ProblemsError: when a part cannot be used.
    """
    given: dict[str, Any] = {
        "setup": {"run": list(setup)} if setup else None,
        "timeout": timeout,
        "checks": {"run": dict(checks or {}), "protect": list(protect)},
        "sandbox": {
            k: v for k, v in (("template", template), ("env", env), ("network", network)) if v is not None
        },
    }
    source = _shown(base)
    try:
        manifest = _Manifest.model_validate(
            {"schema": 1, **{k: v for k, v in given.items() if v is not None}}
        )
    except ValidationError as error:
        problems = [_manifest_problem(Path(source), details) for details in error.errors(include_url=False)]
        raise ProblemsError(f"@pytest.mark.task of {name} cannot be used:", problems) from error
    for part, path in (("folder", folder), ("repo", repo), ("replay", replay)):
        if path is not None and not (base / path).exists():
            problem = Problem(
                source, part, f"{path!r} does not exist", "paths are relative to the test's file"
            )
            raise ProblemsError(f"@pytest.mark.task of {name} cannot be used:", [problem])
    task = load_task(base / folder) if folder else Task(name, None, "")
    chosen = manifest.sandbox
    fields = chosen.model_fields_set
    wanted = chosen.network
    parts: dict[str, Any] = {
        "sandbox": SandboxSpec(
            chosen.template if "template" in fields else task.sandbox.template,
            {**task.sandbox.env, **chosen.env},
            (wanted if isinstance(wanted, str) else tuple(wanted))
            if "network" in fields
            else task.sandbox.network,
        ),
        "timeout": manifest.timeout if timeout is not None else task.timeout,
        "setup": tuple(setup) or task.setup,
        "protect": tuple(protect) or task.protect,
        "checks": tuple(Check(n, command=c) for n, c in (checks or {}).items()) or task.checks,
        "repo": base / repo if repo else task.repo,
        "replay": base / replay if replay else task.replay,
    }
    hashed = json.dumps(
        [task.hash, given, folder_hash(base / repo) if repo else None], sort_keys=True, default=str
    )
    return replace(task, name=name, turns=(), hash=hashlib.sha256(hashed.encode()).hexdigest(), **parts)


def _read_manifest(folder: Path) -> tuple[_Manifest, list[Problem]]:
    """The manifest; where fields are wrong, what is right of it with defaults for the rest, and the problems."""
    file = folder / MANIFEST
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemsError(
            f"task {folder.name!r} cannot be used:", [Problem(_shown(file), None, f"cannot be read: {error}")]
        ) from error
    except tomllib.TOMLDecodeError as error:
        problem = Problem(_shown(file), None, f"is not valid TOML: {error}")
        raise ProblemsError(f"task {folder.name!r} cannot be used:", [problem]) from error
    problems: list[Problem] = []
    while True:
        try:
            return _Manifest.model_validate(data), problems
        except ValidationError as error:
            for details in error.errors(include_url=False):
                problems.append(_manifest_problem(file, details))
            _drop(data, [details["loc"] for details in error.errors()])
            data.setdefault("schema", 1)


def _drop(data: dict[str, Any], locations: list[tuple[int | str, ...]]) -> None:
    """Remove the wrong fields, so that what else is wrong can be seen in the same go."""
    for location in locations:
        table: Any = data
        for key in location[:-1]:
            inner = table.get(key) if isinstance(table, dict) else None
            if not isinstance(inner, dict):
                break
            table = inner
        leaf = next((key for key in location if isinstance(table, dict) and key in table), None)
        if leaf is not None:
            table.pop(leaf)


def _manifest_problem(file: Path, details: ErrorDetails) -> Problem:
    location = [str(part) for part in details["loc"] if not str(part).startswith(("literal[", "list["))]
    name = ".".join(location)
    kind = details["type"]
    if kind == "extra_forbidden":
        return Problem(_shown(file), name, "is not a known key", _suggestion(location))
    if kind == "missing":
        remedy = "add `schema = 1` as the first line" if name == "schema" else "add it"
        return Problem(_shown(file), name, "is missing", remedy)
    what = f"{_lower(details['msg'])}, not {details['input']!r}"
    if kind == "string_pattern_mismatch":
        what = f"{details['input']!r} has characters that cannot be used here"
    return Problem(_shown(file), name, what, _REMEDIES.get(kind))


def _suggestion(location: list[str]) -> str:
    fields = _Manifest.model_fields
    for part in location[:-1]:
        fields = getattr(fields[part].annotation, "model_fields", {}) if part in fields else {}
    known = [info.alias or name for name, info in fields.items()]
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(path: Path) -> str:
    """A path as the user would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@dataclass
class _Reader:
    """Turns a manifest and its folder into a Task, collecting problems on the way."""

    folder: Path
    problems: list[Problem]

    def task(self, manifest: _Manifest) -> Task:
        network = manifest.sandbox.network
        return Task(
            name=self.folder.name,
            path=self.folder,
            hash=folder_hash(self.folder),
            description=manifest.description,
            tags=tuple(manifest.tags),
            turns=self.turns(manifest.prompts),
            timeout=manifest.timeout,
            repo=self.repo(manifest.repo),
            setup=tuple(manifest.setup.run),
            checks=self.checks(manifest.checks),
            check_timeout=manifest.checks.timeout,
            protect=tuple(self.protect(manifest.checks.protect)),
            sandbox=SandboxSpec(
                template=manifest.sandbox.template,
                env=dict(manifest.sandbox.env),
                network=network if isinstance(network, str) else tuple(network),
            ),
            limits=Limits(manifest.limits.max_turns, manifest.limits.max_cost_usd),
            solution=self.solution(),
            replay=self.replay(),
        )

    def complain(self, file: Path, field_: str | None, what: str, remedy: str | None = None) -> None:
        self.problems.append(Problem(_shown(file), field_, what, remedy))

    def inside(self, relative: str, field_: str) -> Path | None:
        """The path, if it stays within the folder (links followed)."""
        path = self.folder / relative
        if relative and path.resolve().is_relative_to(self.folder.resolve()):
            return path
        self.complain(
            self.folder / MANIFEST, field_, f"{relative!r} leaves the task's folder", "use a path inside it"
        )
        return None

    def turns(self, prompts: list[str]) -> tuple[Turn, ...]:
        return tuple(
            turn for index, name in enumerate(prompts) if (turn := self.turn(name, f"prompts.{index}"))
        )

    def turn(self, name: str, field_: str) -> Turn | None:
        path = self.inside(name, field_)
        if path is None:
            return None
        if not path.is_file():
            self.complain(
                self.folder / MANIFEST, field_, f"{name!r} does not exist", "write the prompt there"
            )
            return None
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            self.complain(path, None, f"is not UTF-8 text: {error}")
            return None
        if not text.strip():
            self.complain(path, None, "is empty", "say what Claude Code should do")
        return Turn(prompt=text, source=name)

    def repo(self, repo: _Repo) -> Path | None:
        path = self.inside(repo.path, "repo.path")
        if path is None:
            return None
        if not path.is_dir():
            if "path" in repo.model_fields_set or path.exists():
                self.complain(self.folder / MANIFEST, "repo.path", f"{repo.path!r} is not a folder")
            return None
        for found in _links_out_of(path):
            self.complain(found, None, "is a link that leads out of the repo", "copy the file instead")
        return path

    def checks(self, checks: _Checks) -> tuple[Check, ...]:
        folder = self.folder / "checks"
        found = [Check(name=name, command=command) for name, command in checks.run.items()]
        for name, command in checks.run.items():
            if not command.strip():
                self.complain(
                    self.folder / MANIFEST, f"checks.run.{name}", "is empty", "give a shell command"
                )
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_file() and os.access(path, os.X_OK):
                found.append(Check(name=path.stem, file=path.name))
        self.same_names(found)
        if not found:
            self.complain(folder, None, "has no check", "add an executable file (chmod +x), or [checks] run")
        return tuple(found)

    def same_names(self, checks: list[Check]) -> None:
        seen: dict[str, Check] = {}
        for check in checks:
            if check.name in seen:
                self.complain(
                    self.folder / "checks", check.name, "two checks have this name", "rename one of them"
                )
            seen[check.name] = check

    def protect(self, globs: list[str]) -> Iterator[str]:
        for index, glob in enumerate(globs):
            if glob.startswith("/") or ".." in glob.split("/"):
                self.complain(
                    self.folder / MANIFEST,
                    f"checks.protect.{index}",
                    f"{glob!r} leaves the repo",
                    "use a pattern relative to the repo, such as tests/**",
                )
            else:
                yield glob

    def solution(self) -> Path | None:
        path = self.folder / "solution"
        if path.exists() and not path.is_dir():
            self.complain(path, None, "is not a folder", "put files to lay over the repo, or solve.sh, in it")
        return path if path.is_dir() else None

    def replay(self) -> Path | None:
        path = self.folder / "replay.jsonl"
        if not path.exists():
            return None
        try:
            with path.open("rb") as lines:
                replay.load(lines)
        except replay.BadRecording as bad:
            for problem in bad.problems:
                self.complain(path, None, f"cannot be played: {problem}")
        return path


def _links_out_of(repo: Path) -> Iterator[Path]:
    root = repo.resolve()
    for path in repo.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            yield path


_NOT_CONTENT = {"__pycache__", ".git", ".DS_Store"}


def folder_hash(folder: Path) -> str:
    """SHA-256 over names, executable bits and contents of all files of a folder, in hexadecimal.

    A task's README does not change a result, nor do caches, so they do not change the hash.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        relative = path.relative_to(folder)
        if _NOT_CONTENT.intersection(relative.parts) or relative.as_posix() == "README.md":
            continue
        if path.is_symlink():
            kind, content = b"l", os.fsencode(os.readlink(path))
        elif path.is_file():
            executable = path.stat().st_mode & stat.S_IXUSR
            kind, content = b"x" if executable else b"f", path.read_bytes()
        else:
            continue
        for part in (relative.as_posix().encode(), kind, content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def find_tasks(root: Path) -> Iterator[Path]:
    """Folders below (or at) `root` that hold a `task.toml`; a task's own folder is not searched further."""
    if (root / MANIFEST).is_file():
        yield root
        return
    if root.is_dir():
        for child in sorted(root.iterdir()):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith((".", "__")):
                yield from find_tasks(child)
