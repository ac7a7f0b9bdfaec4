"""`task.toml`: its keys and their types, and what is said about a file that does not keep to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationError,
)
from pydantic_core import ErrorDetails

from harness.errors import Problem
from harness.tasks.hosts import Host
from harness.tasks.tomlfile import abbreviate, describe_error, display_path, field_for, read_toml, suggest_key

MANIFEST = "task.toml"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
"""The form of names of tasks and checks, which are part of test ids and of file names."""

_NOT_TAGS = frozenset(
    [
        "and",
        "or",
        "not",
        "True",
        "False",
        "None",
        "task",
        "skip",
        "skipif",
        "xfail",
        "parametrize",
        "usefixtures",
        "filterwarnings",
    ]
)


def _not_reserved(tag: str) -> str:
    if tag in _NOT_TAGS:
        raise ValueError("has a meaning of its own for pytest")
    return tag


Seconds = Annotated[float, Strict(), Field(gt=0, le=86_400)]
TaskTag = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$"), AfterValidator(_not_reserved)]
Variable = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
# No option, no refspec: one name as git would list it, or an id.
GitRef = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./@#+=~^-]*$")]
Network = Annotated[
    Annotated[Literal["model", "none", "open"], Tag("word")] | Annotated[tuple[Host, ...], Tag("hosts")],
    Discriminator(lambda value: "hosts" if isinstance(value, list | tuple) else "word"),
]


class _ManifestTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Repo(_ManifestTable):
    """`[repo]`."""

    path: str = Field("repo", description='a folder, such as "repo"')
    git: str | None = Field(
        None,
        min_length=1,
        description='a URL such as "https://github.com/OWNER/NAME.git", a path such as "../.." or a bundle',
    )
    ref: GitRef | None = Field(
        None,
        description='a tag, a branch or a whole commit id; of a local repository also "HEAD~3" or "WORKTREE"',
    )
    env: Literal["auto", "none"] = Field(
        "none", description='"auto" for a template with what the repo declares, or "none"'
    )
    depth: Annotated[int, Strict()] = Field(1, gt=0, description="a whole number from 1 on")
    subdir: str | None = Field(
        None, min_length=1, description='a folder of the cloned repository, such as "packages/core"'
    )
    token_env: Variable | None = Field(
        None, description='the name of the variable that holds the token, such as "GITHUB_TOKEN"'
    )


class Setup(_ManifestTable):
    """`[setup]`."""

    run: list[str] = Field([], description='a list of shell commands, such as ["make deps"]')
    timeout: Seconds = Field(
        600.0, description="the seconds that the setup commands have together, up to 86400"
    )


class WorkSpec(_ManifestTable):
    """`[checks.work]`: the bounds of what is carried from the agent's sandbox to where the checks run."""

    max_mb: Annotated[int, Strict()] = Field(1024, gt=0, description="a whole number of MiB")
    max_files: Annotated[int, Strict()] = Field(200_000, gt=0, description="a whole number")
    max_depth: Annotated[int, Strict()] = Field(100, gt=0, description="a whole number")
    timeout: Seconds = Field(300.0, description="the seconds that packing may take, up to 86400")

    @property
    def max_bytes(self) -> int:
        """The most that the work may have, on disk and packed."""
        return self.max_mb * 1024 * 1024


def _is_absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/") or path.rstrip("/") == "":
        raise ValueError("is no absolute path")
    return path.rstrip("/")


def _is_folder_of_system(path: str) -> str:
    return path if path == "/" else _is_absolute(path)


def _is_relative(path: str) -> str:
    if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ValueError("is no path within the repo")
    return path


RelativePath = Annotated[str, AfterValidator(_is_relative)]


class RunnerSpec(_ManifestTable):
    """`[checks.tests.NAME]`: tests that the harness itself has run, and whose report it reads."""

    runner: Literal["pytest", "unittest", "node", "junit"] = Field(
        description='"pytest", "unittest", "node" or "junit"'
    )
    paths: tuple[RelativePath, ...] = Field(
        (), description='a list of test files or folders, in the repo or in checks/, such as ["tests"]'
    )
    must_pass: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description='a list of tests\' names, * for any text, such as ["tests/test_a.py::*"]'
    )
    must_still_pass: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="a list of names as must_pass has, of tests that passed before"
    )
    at_least: Annotated[int, Strict()] | None = Field(None, gt=0, description="a whole number from 1 on")
    command: str | None = Field(
        None, min_length=1, description='for "junit": a shell command, such as "make test"'
    )
    report: RelativePath | None = Field(
        None, description='for "junit": the files that the command writes, such as "build/reports/*.xml"'
    )
    plugins: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")], ...] = Field(
        (), description='for "pytest": a list of plugins\' modules, such as ["pytest_asyncio.plugin"]'
    )
    pythonpath: tuple[RelativePath, ...] = Field(
        (".",), description='folders of the repo that Python imports from, such as ["src"]'
    )


def _is_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return pattern


Regex = Annotated[str, Field(min_length=1), AfterValidator(_is_regex)]
ToolName = Annotated[str, Field(min_length=1)]


class AnswerSpec(_ManifestTable):
    """`[checks.answer]`: what the agent's last message has to be."""

    equals: str | None = Field(None, description="a text, but for the room around it")
    contains: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description='a list of texts, such as ["42"]'
    )
    regex: Regex | None = Field(None, description="a regular expression, as Python reads it")
    json_: dict[str, Any] | None = Field(
        None, alias="json", description='a JSON Schema, such as {type = "object"}'
    )

    @property
    def demands(self) -> int:
        """The number of demands."""
        return len(self.contains) + sum(one is not None for one in (self.equals, self.regex, self.json_))


class ToolsSpec(_ManifestTable):
    """`[checks.tools]`: what the agent has to use. `Skill:NAME` is a skill, `mcp__SERVER__TOOL` a tool of MCP."""

    used: tuple[ToolName, ...] = Field((), description='a list of tools, such as ["Bash", "mcp__github__*"]')
    not_used: tuple[ToolName, ...] = Field((), description='a list of tools, such as ["WebFetch"]')
    order: tuple[ToolName, ...] = Field((), description='a list of tools, such as ["Read", "Edit"]')
    at_most: dict[ToolName, Annotated[int, Strict(), Field(ge=0)]] = Field(
        {}, description="whole numbers by tools, such as {Bash = 10}"
    )
    arguments: dict[ToolName, dict[str, Regex]] = Field(
        {}, description='regular expressions by tools and arguments, such as {Bash = {command = "pytest"}}'
    )

    @property
    def demands(self) -> int:
        """The number of demands."""
        lists = (self.used, self.not_used, self.at_most, self.arguments)
        return sum(map(len, lists)) + bool(self.order)


class Checks(_ManifestTable):
    """`[checks]`."""

    timeout: Seconds = Field(60.0, description="the seconds that each check has, up to 86400")
    protect: list[str] = Field(
        [], description='a list of patterns of files in the repo, such as ["tests/**"]'
    )
    overlay: RelativePath | None = Field(
        None,
        description='a folder in checks/ whose files are laid over the repo for the checks, such as "overlay"',
    )
    run: dict[Annotated[str, Field(pattern=f"^{NAME}$")], str] = Field(
        {}, description='shell commands by name (letters, digits, _ - .), such as {tests = "make test"}'
    )
    tests: dict[Annotated[str, Field(pattern=f"^{NAME}$")], RunnerSpec] = Field(
        {}, description="tables by name (letters, digits, _ - .), such as [checks.tests.unit]"
    )
    answer: AnswerSpec | None = Field(None, description="a table: [checks.answer]")
    tools: ToolsSpec | None = Field(None, description="a table: [checks.tools]")
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {}, description="numbers above 0 by checks, such as {unit = 3}"
    )
    sandbox: Literal["fresh", "agent"] = Field(
        "fresh", description='"fresh", or "agent" for work that is a running process or a whole system'
    )
    keep_processes: Annotated[bool, Strict()] = Field(
        False, description='true with sandbox = "agent": what the agent left running is there for the checks'
    )
    prepare: str = Field("", description='a shell command, such as "pip install -r requirements.txt"')
    carry: list[Annotated[str, AfterValidator(_is_absolute)]] = Field(
        [], description='a list of absolute paths, such as ["/home/user/.config/app"]'
    )
    leave: list[str] = Field(
        [], description='a list of patterns of files in the repo, such as ["node_modules/*"]'
    )
    work: WorkSpec = Field(WorkSpec(), description="a table: [checks.work]")


class SandboxSpec(_ManifestTable):
    """`[sandbox]`."""

    template: str = Field(
        "claude",
        min_length=1,
        description='a template\'s name, such as "claude", FILE.py:NAME or a path to a Dockerfile',
    )
    env: dict[Variable, str] = Field(
        {}, description='strings by the names of variables, such as {LANG = "C.UTF-8"}'
    )
    network: Network = Field(
        "model", description='"model", "none", "open" or a list of hosts, such as ["pypi.org"]'
    )
    ca: str = Field(
        "",
        description='a file with certificates (PEM) that programs in the sandbox trust too, such as "corp.pem"',
    )
    cpus: Annotated[float, Strict()] | None = Field(
        None, ge=0.1, le=1024, description="a number of processors, such as 2.0"
    )
    memory: Annotated[int, Strict()] | None = Field(None, ge=16, le=1 << 24, description="MiB, from 16 on")
    disk: Annotated[int, Strict()] | None = Field(
        None, ge=16, le=1 << 24, description="MiB that may be written, from 16 on"
    )
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]*$")] | None = Field(
        None, description='an account of the template, such as "root"'
    )
    workdir: Annotated[str, AfterValidator(_is_folder_of_system)] | None = Field(
        None, description='a folder of the template by its absolute path, such as "/app"'
    )

    def bounds(self, *, disk: bool) -> dict[str, str]:
        """The bounds as tags of a sandbox, by which the local server bounds it; with that of the disk or without."""
        given = {"cpus": self.cpus, "memory_mb": self.memory, "disk_mb": self.disk if disk else None}
        return {f"harness_{name}": str(value) for name, value in given.items() if value is not None}


class Limits(_ManifestTable):
    """`[limits]`."""

    max_turns: Annotated[int, Strict()] | None = Field(None, gt=0, description="a whole number from 1 on")
    max_cost_usd: Annotated[float, Strict()] | None = Field(
        None, gt=0, allow_inf_nan=False, description="US dollars, more than 0"
    )


class TurnTable(_ManifestTable):
    """`[[turns]]`."""

    prompt: str = Field(min_length=1, description='a file with the prompt, such as "1-fix.md"')
    checks: list[str] = Field([], description="a list of names of checks")
    solution: str | None = Field(None, min_length=1, description='a folder, such as "solution-1"')
    min_score: float | None = Field(
        None, gt=0, le=1, description="what its checks have to score for the session to go on, up to 1"
    )


class Manifest(_ManifestTable):
    """The whole file. A field's description says what to give, and is the remedy for what is wrong there."""

    schema_: Annotated[int, Strict(), Field(ge=1, le=1)] = Field(
        alias="schema", description="1: `schema = 1`"
    )
    description: str = Field("", description="a line of text")
    tags: list[TaskTag] = Field(
        [], description='a list of words (a letter, then letters, digits, _ -), such as ["python", "bugfix"]'
    )
    prompts: list[str] = Field(
        ["prompt.md"], min_length=1, description='a list of files, such as ["prompt.md"]'
    )
    turns: list[TurnTable] = Field(
        [], min_length=1, description='tables with a prompt each: [[turns]], prompt = "1.md"'
    )
    rows: str | None = Field(
        None, min_length=1, description='a file with a JSON object on each line, such as "rows.jsonl"'
    )
    timeout: Seconds = Field(600.0, description="the seconds that the agent has, up to 86400")
    repo: Repo = Field(Repo(), description="a table: [repo]")
    setup: Setup = Field(Setup(), description="a table: [setup]")
    checks: Checks = Field(Checks(), description="a table: [checks]")
    sandbox: SandboxSpec = Field(SandboxSpec(), description="a table: [sandbox]")
    limits: Limits = Field(Limits(), description="a table: [limits]")


def read_manifest(folder: Path) -> tuple[Manifest, list[Problem]]:
    """Read a folder's `task.toml`, as `validated` does.

    Raises:
        ProblemsError: when nothing can be told about it, since it cannot be read or is no TOML.
    """
    file = read_toml(folder / MANIFEST, f"task {folder.name!r} cannot be used:")
    return validated(file.data, file.path)


def validated(data: Mapping[str, Any], file: Path) -> tuple[Manifest, list[Problem]]:
    """A manifest and the problems in it. Where fields are wrong, the others are kept, with defaults for the wrong."""
    good, problems = dict(data), list[Problem]()
    while True:
        try:
            return Manifest.model_validate(good), problems
        except ValidationError as error:
            wrong = error.errors(include_url=False)
            problems += (_problem(file, details) for details in wrong)
            for details in wrong:
                good = _without(good, _what_to_leave_out(_location(details)))
            good.setdefault("schema", 1)


def _what_to_leave_out(location: list[str]) -> list[str]:
    """A table of tests that has one of its keys wrong can be no default's."""
    return location[:3] if location[:2] == ["checks", "tests"] else location


def _without(data: Mapping[str, Any], location: list[str]) -> dict[str, Any]:
    """The data without what stands at a location, or without the innermost table's key that leads there."""
    key, *deeper = location
    inner = data.get(key)
    if deeper and isinstance(inner, dict) and deeper[0] in inner:
        return {**data, key: _without(inner, deeper)}
    return {name: value for name, value in data.items() if name != key}


def _location(details: ErrorDetails) -> list[str]:
    """The keys that lead to what is wrong; pydantic adds words of its own to them."""
    location = [str(part) for part in details["loc"]]
    if location[:2] == ["sandbox", "network"]:
        del location[2:3]
    elif location[:2] in (["checks", "run"], ["sandbox", "env"]) or location[3:] == ["[key]"]:
        del location[3:]
    return location


def _problem(file: Path, details: ErrorDetails) -> Problem:
    location = _location(details)
    name, kind = ".".join(location), details["type"]
    if kind == "extra_forbidden":
        return Problem(display_path(file), name, "is not a known key", suggest_key(Manifest, location))
    if kind == "missing" and name == "schema":
        return Problem(display_path(file), name, "is missing", "add `schema = 1` as the first line")
    if name == "schema":
        return Problem(
            display_path(file),
            name,
            f"is {abbreviate(details['input'])}, not 1",
            "write `schema = 1`; a later one needs a newer harness",
        )
    field = field_for(Manifest, location)
    what = "is missing" if kind == "missing" else describe_error(details)
    return Problem(display_path(file), name, what, f"give {field.description}" if field else None)


def is_name(text: str) -> bool:
    """True if it can be the name of a task or a check."""
    return re.fullmatch(NAME, text) is not None
