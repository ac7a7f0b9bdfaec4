"""A folder with a `task.toml` becomes a frozen `Task`; every problem in it is reported, with file, field and remedy."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import Problem, ProblemsError
from harness.tasks import runnerspec, sessionspec
from harness.tasks.contents import (
    MAX_RECORDING_BYTES,
    escapes_folder,
    file_hash,
    files_in,
    folder_hash,
    is_executable,
    open_regular,
    read_text,
)
from harness.tasks.globs import is_pattern
from harness.tasks.prompts import ends_session
from harness.tasks.gitsource import GitSource, local_path, problems_of
from harness.tasks.manifest import MANIFEST, Limits, Manifest, SandboxSpec, is_name, read_manifest, validated
from harness.tasks.recording import BadRecording, parse_recording
from harness.tasks.rows import tasks_of_rows
from harness.tasks.task import Check, Task, Turn
from harness.tasks.templatefile import find_template_file, names_no_template, template_file
from harness.tasks.tomlfile import display_path

_BAD_LINES_SHOWN = 5
SOLUTION_ANSWER = "answer.md"
"""The file with the reference's last message, for tasks whose answer is judged."""
SOLUTION_PATCH = "solution.patch"
"""What may stand in the place of the folder `solution`: a patch for the starter repo."""


def load_task(folder: Path) -> Task:
    """Read a task folder.

    Raises:
        ProblemsError: with every problem that the folder has.
    """
    folder = folder.absolute()
    manifest, problems = read_manifest(folder)
    reader = _Reader(folder, folder / MANIFEST, problems)
    subject = f"task {folder.name!r} cannot be used:"
    try:
        task = reader.task(manifest)
    except (OSError, RecursionError) as error:
        raise ProblemsError(subject, [*problems, _unreadable(error, folder)]) from error
    if problems:
        raise ProblemsError(subject, problems)
    return task


def load_tasks(folder: Path) -> list[Task]:
    """The tasks of a folder: one, or with `rows` one for each row.

    Raises:
        ProblemsError: with every problem that the folder has.
    """
    task = load_task(folder)
    if task.rows is None:
        return [task]
    try:
        tasks, problems = tasks_of_rows(task, task.rows)
    except OSError as error:
        tasks, problems = [], [_unreadable(error, folder)]
    if problems:
        raise ProblemsError(f"task {folder.name!r} cannot be used:", problems)
    return tasks


_PARTS = {
    "timeout": "timeout",
    "setup": "setup.run",
    "checks": "checks.run",
    "protect": "checks.protect",
    "template": "sandbox.template",
    "env": "sandbox.env",
    "network": "sandbox.network",
}
"""The keys of a manifest that a Python test can give, by the names of its marker's arguments."""


def task_of_parts(
    name: str,
    base: Path,
    folder: str | None = None,
    *,
    repo: str | None = None,
    replay: str | None = None,
    data: Sequence[str] = (),
    **parts_of_manifest: Any,
) -> Task:
    """A task for a Python test, which brings its own prompts: from a task folder, or from parts named one by one.

    Args:
        name: the task's name in records.
        base: what paths are relative to.
        folder: a task folder; the other parts replace its own.
        repo: a folder with the starter repo; by default an empty one.
        replay: a recorded session.
        data: files and folders that the test reads.
        parts_of_manifest: values for keys of a manifest, as `_PARTS` names them.

    Raises:
        ProblemsError: when a part cannot be used.
        TypeError: when there is no such part.
    """
    given: dict[str, Any] = {"timeout": None, "setup": {}, "checks": {}, "sandbox": {}}
    for argument, value in _named(**parts_of_manifest).items():
        if argument not in _PARTS:
            raise TypeError(f"task_of_parts() got an unexpected keyword argument {argument!r}")
        table, _, key = _PARTS[argument].rpartition(".")
        (given[table] if table else given)[key] = value
    subject = f"@pytest.mark.task of {name} cannot be used:"
    manifest, problems = validated({"schema": 1, **_named(**given)}, base)
    reader = _Reader(base, base, problems)
    try:
        parts = reader.parts(manifest, folder, repo, replay)
        data_paths = reader.data(data)
        if problems:
            raise ProblemsError(subject, [replace(p, field=_as_argument(p.field)) for p in problems])
        task = load_task(base / folder) if folder is not None else Task(name, None, "")
        contents = [folder_hash(parts.repo) if parts.repo else None, file_hash(parts.replay)]
        contents += [folder_hash(path) if path.is_dir() else file_hash(path) for path in data_paths]
    except OSError as error:
        raise ProblemsError(subject, [_unreadable(error, base)]) from error
    hashed = json.dumps([task.hash, given, contents], sort_keys=True, default=str)
    return replace(
        parts.laid_over(task), name=name, turns=(), hash=hashlib.sha256(hashed.encode()).hexdigest()
    )


def _named(**values: object) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _as_argument(field_: str | None) -> str | None:
    """The marker's name for a manifest's field."""
    for argument, key in _PARTS.items():
        if field_ and f"{field_}.".startswith(f"{key}."):
            return argument + field_.removeprefix(key)
    return field_


def _unreadable(error: OSError | RecursionError, folder: Path) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(display_path(folder), None, "has too many folders within folders", "lay it out flatter")
    where = display_path(Path(os.fsdecode(error.filename))) if error.filename else "a file"
    return Problem(where, None, f"cannot be read: {error.strerror or error}", "check its permissions")


@dataclass(frozen=True)
class _Parts:
    """The parts of a task that a Python test names."""

    manifest: Manifest
    checks: tuple[Check, ...]
    repo: Path | None
    replay: Path | None

    def laid_over(self, task: Task) -> Task:
        """The task with the parts that were named in place of its own."""
        env = {**task.sandbox.env, **self.manifest.sandbox.env}
        named = {**self.manifest.sandbox.model_dump(exclude_unset=True), "env": env}
        return replace(
            task,
            timeout=self.manifest.timeout if "timeout" in self.manifest.model_fields_set else task.timeout,
            setup=tuple(self.manifest.setup.run) or task.setup,
            checks=self.checks or task.checks,
            protect=tuple(self.manifest.checks.protect) or task.protect,
            sandbox=task.sandbox.model_copy(update=named),
            repo=self.repo or task.repo,
            git=None if self.repo else task.git,
            replay=self.replay or task.replay,
        )


@dataclass
class _Reader:
    """Reads everything that a manifest names, and collects problems. `file` is the one with its fields.

    A problem of the manifest itself is there already. What follows from it is not reported again.
    """

    folder: Path
    file: Path
    problems: list[Problem]

    def wrong(self, field_: str) -> bool:
        """True if the manifest has this field wrong, or something in it."""
        return any(f"{problem.field}.".startswith(f"{field_}.") for problem in self.problems)

    def task(self, manifest: Manifest) -> Task:
        self.name()
        turns = () if self.wrong("prompts") or self.wrong("turns") else self.turns(manifest)
        repo = self.repo(manifest)
        return Task(
            name=self.folder.name,
            path=self.folder,
            description=manifest.description,
            tags=tuple(manifest.tags),
            turns=turns,
            timeout=manifest.timeout,
            repo=repo,
            git=self.git(manifest),
            has_own_env=manifest.repo.env == "auto",
            setup=tuple(manifest.setup.run),
            setup_timeout=manifest.setup.timeout,
            checks=self.checks(manifest),
            check_timeout=manifest.checks.timeout,
            protect=self.protect(manifest, repo),
            overlay=self.overlay(manifest),
            prepare=manifest.checks.prepare,
            carry=tuple(manifest.checks.carry),
            leave=tuple(manifest.checks.leave),
            work=manifest.checks.work,
            grade_in_agents_sandbox=manifest.checks.sandbox == "agent",
            keep_processes=manifest.checks.keep_processes,
            sandbox=self.sandbox(manifest),
            limits=manifest.limits,
            solution=self.solution(),
            rows=self.rows(manifest),
            answer=self.answer(),
            replay=self.replay(),
            hash=folder_hash(self.folder, but=frozenset({"README.md"})),
        )

    def parts(self, manifest: Manifest, folder: Any, repo: Any, recording: Any) -> _Parts:
        """The parts that a Python test names. Its paths may lead anywhere."""
        self.part("folder", folder, os.path.isdir, "folder")
        repo_path = self.part("repo", repo, os.path.isdir, "folder")
        self.protect(manifest, repo_path)
        if repo_path:
            self.links(repo_path)
        recording_path = self.part("replay", recording, os.path.isfile, "file")
        if recording_path:
            self.recording(recording_path)
        return _Parts(manifest, tuple(self.commands(manifest)), repo_path, recording_path)

    def part(self, argument: str, given: Any, is_there: Callable[[Path], bool], kind: str) -> Path | None:
        if given is None:
            return None
        if isinstance(given, str | Path) and is_there(self.folder / given):
            return self.folder / given
        remedy = "paths are relative to the test's file"
        self.complain(self.file, argument, f"{str(given)!r} is not a {kind}", remedy)
        return None

    def data(self, given: Any) -> list[Path]:
        """The files and folders that a Python test reads."""
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            remedy = 'give a list, such as data=["rows.jsonl"]'
            self.complain(self.file, "data", f"{given!r} is not a list of paths", remedy)
            return []
        found = [
            self.part(f"data.{n}", path, os.path.exists, "file or folder") for n, path in enumerate(given)
        ]
        return [path for path in found if path]

    def complain(self, file: Path, field_: str | None, what: str, remedy: str | None = None) -> None:
        self.problems.append(Problem(display_path(file), field_, what, remedy))

    def name(self) -> None:
        if not is_name(self.folder.name):
            remedy = "use up to 100 letters, digits, _ - and ., a letter or digit first"
            self.complain(self.folder, None, "cannot be a task's name", remedy)

    def inside(self, relative: str, field_: str | None = None) -> Path | None:
        """The path, if it stays within the folder, links followed. Without a field it is one of a task's own names."""
        path, root = self.folder / relative, os.path.realpath(self.folder)
        if "\0" not in relative and os.path.realpath(path).startswith(root + os.sep):
            return path
        if field_:
            self.complain(
                self.file, field_, f"{relative!r} is not inside the task's folder", "use a path inside it"
            )
        else:
            self.complain(
                path, None, "is a link that leads out of the task's folder", "copy what it leads to"
            )
        return None

    def turns(self, manifest: Manifest) -> tuple[Turn, ...]:
        if manifest.turns and "prompts" in manifest.model_fields_set:
            remedy = "keep one of them: [[turns]] has a prompt each"
            self.complain(self.file, "prompts", "there are [[turns]] too", remedy)
        named = [(table.prompt, f"turns.{n}.prompt") for n, table in enumerate(manifest.turns)]
        named = named or [(name, f"prompts.{n}") for n, name in enumerate(manifest.prompts)]
        found = [self.turn(name, field_) for name, field_ in named]
        for n, table in enumerate(manifest.turns):
            turn, folder = found[n], self.solution_of_turn(table.solution, f"turns.{n}.solution")
            found[n] = replace(turn, solution=folder, min_score=table.min_score) if turn else None
            if table.min_score is not None:
                self.min_score(manifest, n)
        return tuple(turn for turn in found if turn)

    def min_score(self, manifest: Manifest, n: int) -> None:
        field_ = f"turns.{n}.min_score"
        if not (manifest.sandbox.workdir and manifest.checks.sandbox == "agent"):
            remedy = 'add workdir to [sandbox] and sandbox = "agent" to [checks], or leave it out'
            self.complain(self.file, field_, "is for work that is judged where it is", remedy)
        elif n == len(manifest.turns) - 1:
            self.complain(self.file, field_, "no prompt comes after it", "leave it out")
        elif not manifest.turns[n].checks:
            self.complain(self.file, field_, "there is nothing to score", "name checks for this prompt")

    def solution_of_turn(self, name: str | None, field_: str) -> Path | None:
        path = self.inside(name, field_) if name else None
        if path is None:
            return None
        if not os.path.isdir(path):
            remedy = "put files to lay over the repo, or solve.sh, in it"
            self.complain(self.file, field_, f"{name!r} is not a folder", remedy)
            return None
        self.links(path)
        return path

    def turn(self, name: str, field_: str) -> Turn | None:
        path = self.inside(name, field_)
        if path is None:
            return None
        if not os.path.isfile(path):
            what = "is not a file" if os.path.lexists(path) else "does not exist"
            self.complain(self.file, field_, f"{name!r} {what}", "write the prompt there")
            return None
        try:
            text = read_text(path)
        except UnicodeDecodeError as error:
            self.complain(path, None, f"is not UTF-8 text: {error}", "save it as UTF-8")
            return None
        if not text.strip():
            self.complain(path, None, "is empty", "say what Claude Code should do")
        if why := ends_session(text):
            self.complain(path, None, why, "make what comes after it a task of its own")
        return Turn(prompt=text, source=name)

    def sandbox(self, manifest: Manifest) -> SandboxSpec:
        template = manifest.sandbox.template
        if template_file(template) and not find_template_file(template, self.folder):
            remedy = "give a path relative to the task's folder, or to one that it is in"
            self.complain(self.file, "sandbox.template", f"{template!r} is nowhere", remedy)
        if incomplete := names_no_template(template):
            self.complain(self.file, "sandbox.template", f"{template!r} names a file alone", incomplete)
        if manifest.sandbox.workdir and manifest.checks.sandbox != "agent" and not manifest.checks.carry:
            remedy = 'add sandbox = "agent" to [checks], or name in carry what of the system is judged elsewhere'
            self.complain(self.file, "sandbox.workdir", "is for work that is judged where it is", remedy)
        if manifest.sandbox.workdir and (manifest.repo.git or os.path.lexists(self.folder / "repo")):
            remedy = "keep one: a starter repo, or a folder of the template"
            self.complain(self.file, "sandbox.workdir", "there is a starter repo too", remedy)
        if manifest.checks.keep_processes and manifest.checks.sandbox != "agent":
            remedy = 'add sandbox = "agent" to [checks], or leave it out'
            self.complain(self.file, "checks.keep_processes", "there are none in a fresh sandbox", remedy)
        if not manifest.sandbox.ca:
            return manifest.sandbox
        ca = (self.folder / Path(manifest.sandbox.ca).expanduser()).resolve()
        try:
            is_pem = b"-----BEGIN CERTIFICATE-----" in read_text(ca, errors="replace").encode()
        except OSError as error:
            self.complain(self.file, "sandbox.ca", f"{manifest.sandbox.ca!r}: {error.strerror}", "give a file")
        else:
            if not is_pem:
                what = f"{manifest.sandbox.ca!r} has no certificates"
                self.complain(self.file, "sandbox.ca", what, "give a file in PEM form")
        return manifest.sandbox.model_copy(update={"ca": str(ca)})

    def git(self, manifest: Manifest) -> GitSource | None:
        given = manifest.repo
        if given.git is None:
            for key in sorted(given.model_fields_set & {"ref", "depth", "subdir", "token_env"}):
                remedy = "name the repository to clone with git, or leave this out"
                self.complain(self.file, f"repo.{key}", "is for a cloned repository", remedy)
            return None
        local = local_path(given.git, self.folder)
        beside = os.fspath(self.folder.parent) if local else None
        source = GitSource(given.git, given.ref, given.depth, given.subdir, given.token_env, local, beside)
        for key, what, remedy in problems_of(source):
            self.complain(self.file, f"repo.{key}", what, remedy)
        return source

    def repo(self, manifest: Manifest) -> Path | None:
        if manifest.repo.git is not None:
            if "path" in manifest.repo.model_fields_set or os.path.lexists(self.folder / "repo"):
                remedy = "keep one: the folder with the starter repo, or the repository to clone"
                self.complain(self.file, "repo.git", "there is a folder with a starter repo too", remedy)
            return None
        path = self.inside(manifest.repo.path, "repo.path")
        if path is None:
            return None
        if not os.path.isdir(path):
            if "path" in manifest.repo.model_fields_set or os.path.lexists(path):
                remedy = "put the starter repo there, or leave it out for an empty one"
                self.complain(self.file, "repo.path", f"{manifest.repo.path!r} is not a folder", remedy)
            return None
        self.links(path)
        return path

    def solution(self) -> Path | None:
        """The folder `solution`, or the file `solution.patch`."""
        folder = self.subfolder("solution", "put files to lay over the repo, or solve.sh, in it")
        patch = self.folder / SOLUTION_PATCH
        if not os.path.lexists(patch) or not self.inside(SOLUTION_PATCH):
            return folder
        if folder:
            self.complain(patch, None, "there is solution/ too", "keep one of them")
        elif not patch.is_file():
            self.complain(patch, None, "is not a file", "put a patch there, as `git diff` writes it")
        return folder or patch

    def rows(self, manifest: Manifest) -> Path | None:
        """The file with the rows."""
        path = self.inside(manifest.rows, "rows") if manifest.rows else None
        if path and not path.is_file():
            self.complain(self.file, "rows", f"{manifest.rows!r} is not a file", "put the rows there")
            return None
        return path

    def answer(self) -> str | None:
        """The reference's last message."""
        path = self.folder / SOLUTION_ANSWER
        if not os.path.lexists(path) or not self.inside(SOLUTION_ANSWER):
            return None
        try:
            return read_text(path)
        except UnicodeDecodeError as error:
            self.complain(path, None, f"is not UTF-8 text: {error}", "save it as UTF-8")
            return None

    def subfolder(self, name: str, remedy: str) -> Path | None:
        """One of a task's folders, if it is there."""
        path = self.folder / name
        if not os.path.lexists(path) or not self.inside(name):
            return None
        if not os.path.isdir(path):
            self.complain(path, None, "is not a folder", remedy)
            return None
        self.links(path)
        return path

    def links(self, folder: Path) -> None:
        """A folder goes into the sandbox alone: nothing that its links lead to beside it is there."""
        for path in files_in(folder):
            if path.is_symlink() and escapes_folder(path, folder):
                self.complain(
                    path, None, f"is a link that leads out of {folder.name}/", "copy what it leads to"
                )

    def checks(self, manifest: Manifest) -> tuple[Check, ...]:
        # Commands may run what the agent wrote, which could lie in wait for the files.
        found = [*self.scripts(), *self.tests(manifest), *self.commands(manifest), *self.of_session(manifest)]
        names = [check.name for check in found]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.complain(self.folder / "checks", name, "two checks have this name", "rename one of them")
        if not found and not any(self.wrong(f"checks.{kind}") for kind in ("run", "tests", "answer", "tools")):
            remedy = "add an executable file (chmod +x), [checks.tests] or [checks] run"
            self.complain(self.folder / "checks", None, "has no check", remedy)
        found = list(self.weighted(found, manifest))
        return tuple(self.bound(found, manifest)) if manifest.turns else tuple(found)

    def of_session(self, manifest: Manifest) -> Iterator[Check]:
        """What is demanded of the answer and of the tools."""
        answer, tools = manifest.checks.answer, manifest.checks.tools
        for name, spec in (("answer", answer), ("tools", tools)):
            if spec and not spec.demands and not self.wrong(f"checks.{name}"):
                known = ", ".join(info.alias or key for key, info in type(spec).model_fields.items())
                self.complain(self.file, f"checks.{name}", "demands nothing", f"give one of {known}")
        problems = [("answer", one) for one in sessionspec.problems_of_answer(answer)] if answer else []
        problems += [("tools", one) for one in sessionspec.problems_of_tools(tools)] if tools else []
        for name, (key, what, remedy) in problems:
            self.complain(self.file, f"checks.{name}.{key}", what, remedy)
        if answer and answer.json_ is not None and (wrong := sessionspec.problem_of_schema(answer.json_)):
            self.complain(self.file, "checks.answer.json", wrong, "see https://json-schema.org")
        if answer and answer.demands:
            yield Check(name="answer", answer=answer)
        if tools and tools.demands:
            yield Check(name="tools", tools=tools)

    def weighted(self, checks: list[Check], manifest: Manifest) -> Iterator[Check]:
        """The checks with their weights."""
        weights, names = manifest.checks.weights, {check.name for check in checks}
        for name in weights:
            if name not in names:
                remedy = f"there are: {', '.join(sorted(names))}"
                self.complain(self.file, f"checks.weights.{name}", f"there is no check {name!r}", remedy)
        for check in checks:
            yield replace(check, weight=weights.get(check.name, 1.0))

    def bound(self, checks: list[Check], manifest: Manifest) -> Iterator[Check]:
        """The checks, each with the turn that names it."""
        turn_of: dict[str, int] = {}
        names = ", ".join(check.name for check in checks)
        for index, table in enumerate(manifest.turns):
            for place, name in enumerate(table.checks):
                field_ = f"turns.{index}.checks.{place}"
                if all(check.name != name for check in checks):
                    self.complain(self.file, field_, f"there is no check {name!r}", f"there are: {names}")
                elif turn_of.setdefault(name, index + 1) != index + 1:
                    remedy = "give it a second name in [checks] run"
                    self.complain(self.file, field_, f"{name!r} belongs to an earlier turn", remedy)
        for check in checks:
            # After the last turn is after all of them.
            turn = turn_of.get(check.name)
            yield replace(check, turn=turn if turn != len(manifest.turns) else None)

    def tests(self, manifest: Manifest) -> Iterator[Check]:
        checks, repo = self.folder / "checks", self.folder / manifest.repo.path
        is_known = manifest.repo.git is None and not self.wrong("repo") and repo.is_dir()
        overlay = checks / manifest.checks.overlay if manifest.checks.overlay else None
        for name, spec in manifest.checks.tests.items():
            if self.wrong(f"checks.tests.{name}"):
                continue
            for key, what, remedy in runnerspec.problems_of(spec, checks, repo if is_known else None, overlay):
                self.complain(self.file, f"checks.tests.{name}.{key}", what, remedy)
            yield Check(name=name, tests=spec)

    def commands(self, manifest: Manifest) -> Iterator[Check]:
        for name, command in manifest.checks.run.items():
            if not command.strip():
                self.complain(self.file, f"checks.run.{name}", "is empty", "give a shell command")
            yield Check(name=name, command=command)

    def scripts(self) -> Iterator[Check]:
        folder = self.subfolder("checks", "put executable files in it")
        for path in sorted(folder.iterdir()) if folder else []:
            if not path.is_file():
                continue
            problem = _script_problem(path)
            if problem:
                self.complain(path, None, *problem)
            elif is_executable(path):
                if not is_name(path.stem):
                    remedy = "use up to 100 letters, digits, _ - and ., a letter or digit first"
                    self.complain(path, None, "cannot be a check's name", remedy)
                yield Check(name=path.stem, file=path.name)

    def protect(self, manifest: Manifest, repo: Path | None) -> tuple[str, ...]:
        for index, glob in enumerate(manifest.checks.protect):
            if not glob or glob.startswith("/") or ".." in glob.split("/"):
                self.complain(
                    self.file,
                    f"checks.protect.{index}",
                    f"{glob!r} is no pattern of files in the repo",
                    "use a path relative to the repo, such as tests/**",
                )
            elif not is_pattern(glob):
                remedy = "use * ? ** and, in [...], letters, digits and _ . , + @ - alone"
                self.complain(self.file, f"checks.protect.{index}", f"{glob!r} is no pattern of files", remedy)
            elif repo and os.path.isdir(repo / glob):
                remedy = f"write {glob.rstrip('/')}/** for all that is in it"
                self.complain(self.file, f"checks.protect.{index}", f"{glob!r} is a folder", remedy)
        return tuple(manifest.checks.protect)

    def overlay(self, manifest: Manifest) -> Path | None:
        """The folder of files that are laid over the repo for the checks."""
        name = manifest.checks.overlay
        path = self.inside(f"checks/{name}", "checks.overlay") if name else None
        if path and not os.path.isdir(path):
            self.complain(self.file, "checks.overlay", f"checks/{name} is not a folder", "put the files there")
            return None
        return path

    def replay(self) -> Path | None:
        path = self.folder / "replay.jsonl"
        if not os.path.lexists(path) or not self.inside("replay.jsonl"):
            return None
        self.recording(path)
        return path

    def recording(self, path: Path) -> None:
        try:
            with open_regular(path, MAX_RECORDING_BYTES) as lines:
                parse_recording(lines)
        except BadRecording as bad:
            for problem in bad.problems[:_BAD_LINES_SHOWN]:
                self.complain(path, None, f"cannot be played: {problem}", "record it again, or remove it")
            if len(bad.problems) > _BAD_LINES_SHOWN:
                more = len(bad.problems) - _BAD_LINES_SHOWN
                self.complain(path, None, f"cannot be played for {more} more reasons")


def _script_problem(path: Path) -> tuple[str, str] | None:
    """The problem and the remedy of a file of `checks/` that is probably not what its author thinks."""
    with open_regular(path) as file:
        first = file.readline(1000)
    if first.startswith(b"#!"):
        if not is_executable(path):
            remedy = f"chmod +x {display_path(path)}, or take the #! line out of a helper"
            return "begins with #! but is not executable, so it is no check", remedy
        if first.endswith(b"\r\n"):
            return "has a #! line that ends with a carriage return", "save it with Unix line ends"
    elif is_executable(path) and path.suffix not in ("", ".sh", ".bash") and not first.startswith(b"\x7fELF"):
        remedy = "begin it with a line such as #!/usr/bin/env python3, or chmod -x a helper"
        return "is executable without a #! line, so it would run as a shell script", remedy
    return None


def find_tasks(root: Path) -> Iterator[Path]:
    """Folders below (or at) `root` that hold a `task.toml`; a task's own folder is not searched further."""
    if (root / MANIFEST).is_file():
        yield root
        return
    if root.is_dir():
        for child in sorted(root.iterdir()):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith((".", "__")):
                yield from find_tasks(child)
