"""A task: what a folder with a `task.toml` comes to, or a Python test with a marker."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

from harness.tasks.gitsource import GitSource
from harness.tasks.manifest import AnswerSpec, Limits, RunnerSpec, SandboxSpec, ToolsSpec, WorkSpec


@dataclass(frozen=True)
class Turn:
    """One prompt of a task's session, and the reference solution of its own where it has one.

    The session ends after it where its checks score less than `min_score`.
    """

    prompt: str
    source: str
    solution: Path | None = None
    min_score: float | None = None


@dataclass(frozen=True)
class Check:
    """One verdict to be asked for: a file of `checks/`, a command of `[checks] run`, tests of `[checks.tests]`, or what
    is demanded of the session.

    Exactly one of `file` (its name within `checks/`), `command` (for bash), `tests`, `answer` and `tools` is set.
    `turn` is the prompt (from 1) after which it is asked; None: after the last.
    """

    name: str
    file: str | None = None
    command: str | None = None
    tests: RunnerSpec | None = None
    turn: int | None = None
    answer: AnswerSpec | None = None
    tools: ToolsSpec | None = None
    weight: float = 1.0

    @property
    def is_of_session(self) -> bool:
        """True for what is judged by the session alone, and not in a sandbox."""
        return self.answer is not None or self.tools is not None


@dataclass(frozen=True)
class Task:
    """A starter repo, prompts, checks and a reference solution.

    `solution` is a folder, or a file with a patch, `answer` the reference's last message. `timeout` is the agent's,
    `setup_timeout` that of all setup commands together and `check_timeout` each check's, in seconds. `hash` changes
    when anything in the folder does that could change a result. Paths are absolute; `repo`, `solution` and `replay` may
    be None. With `has_own_env` the template is made from what the repo declares, over the one that `sandbox` names.
    With `git`, the starter repo is cloned when the first trial needs it.
    """

    name: str
    path: Path | None
    hash: str
    description: str = ""
    tags: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    timeout: float = 600.0
    repo: Path | None = None
    git: GitSource | None = None
    has_own_env: bool = False
    setup: tuple[str, ...] = ()
    setup_timeout: float = 600.0
    checks: tuple[Check, ...] = ()
    check_timeout: float = 60.0
    protect: tuple[str, ...] = ()
    overlay: Path | None = None
    prepare: str = ""
    carry: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    work: WorkSpec = field(default_factory=WorkSpec)
    grade_in_agents_sandbox: bool = False
    keep_processes: bool = False
    sandbox: SandboxSpec = field(default_factory=SandboxSpec)
    limits: Limits = field(default_factory=Limits)
    solution: Path | None = None
    answer: str | None = None
    rows: Path | None = None
    replay: Path | None = None
    host_secrets: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of this machine's variables with secrets that it uses: its repo's token, those of its format."""
        token = self.git.token_env if self.git else None
        return (*self.host_secrets, *([token] if token else ()))

    @functools.cached_property
    def checks_folder(self) -> Path | None:
        """The folder that is put beside the repo when the checks run, if there is one."""
        folder = self.path / "checks" if self.path else None
        return folder if folder and folder.is_dir() else None

    @property
    def is_system(self) -> bool:
        """True if the agent works on the template's own system, in a folder of that, and not on a repo."""
        return self.sandbox.workdir is not None

    @property
    def own_seconds(self) -> float:
        """The most that its setup, agent and checks may take together, and the packing of what the agent leaves."""
        setup = self.setup_timeout if self.setup else 0.0
        judged_turns = {check.turn for check in self.checks} - {None}
        packing = (1 + len(judged_turns)) * (1 + len(self.carry)) * self.work.timeout
        return setup + self.timeout + packing + len(self.checks) * self.check_timeout
