"""A folder with a `task.toml` becomes a frozen `Task`; every problem in it is reported, with file, field and remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.errors import Problem, ProblemsError
from harness.tasks.check_reader import CheckReader
from harness.tasks.contents import (
    MAX_RECORDING_BYTES,
    folder_hash,
    open_regular,
    read_text,
)
from harness.tasks.folder_reader import FolderReader
from harness.tasks.gitsource import GitSource, local_path, problems_of
from harness.tasks.manifest import MANIFEST, Manifest, SandboxSpec, is_name, read_manifest
from harness.tasks.prompts import ends_session
from harness.tasks.recording import BadRecording, parse_recording
from harness.tasks.rows import tasks_of_rows
from harness.tasks.task import Task, Turn
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
    reader = TaskReader(folder, folder / MANIFEST, problems)
    subject = f"task {folder.name!r} cannot be used:"
    try:
        task = reader.task(manifest)
    except (OSError, RecursionError) as error:
        raise ProblemsError(subject, [*problems, unreadable(error, folder)]) from error
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
        tasks, problems = [], [unreadable(error, folder)]
    if problems:
        raise ProblemsError(f"task {folder.name!r} cannot be used:", problems)
    return tasks


def unreadable(error: OSError | RecursionError, folder: Path) -> Problem:
    """The problem that a folder has which cannot be read."""
    if isinstance(error, RecursionError):
        return Problem(
            display_path(folder), None, "has too many folders within folders", "lay it out flatter"
        )
    where = display_path(Path(os.fsdecode(error.filename))) if error.filename else "a file"
    return Problem(where, None, f"cannot be read: {error.strerror or error}", "check its permissions")


class TaskReader(FolderReader):
    """Reads everything that a manifest names."""

    def task(self, manifest: Manifest) -> Task:
        """Read the whole folder."""
        self.name()
        turns = () if self.wrong("prompts") or self.wrong("turns") else self.turns(manifest)
        repo = self.repo(manifest)
        checks = CheckReader(self.folder, self.file, self.problems)
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
            checks=checks.checks(manifest),
            check_timeout=manifest.checks.timeout,
            protect=checks.protect(manifest, repo),
            overlay=checks.overlay(manifest),
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

    def name(self) -> None:
        """Check the folder's name, which is the task's."""
        if not is_name(self.folder.name):
            remedy = "use up to 100 letters, digits, _ - and ., a letter or digit first"
            self.complain(self.folder, None, "cannot be a task's name", remedy)

    def turns(self, manifest: Manifest) -> tuple[Turn, ...]:
        """Read the prompts."""
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
        """Check that a prompt's `min_score` can decide anything."""
        field_ = f"turns.{n}.min_score"
        if not (manifest.sandbox.workdir and manifest.checks.sandbox == "agent"):
            remedy = 'add workdir to [sandbox] and sandbox = "agent" to [checks], or leave it out'
            self.complain(self.file, field_, "is for work that is judged where it is", remedy)
        elif n == len(manifest.turns) - 1:
            self.complain(self.file, field_, "no prompt comes after it", "leave it out")
        elif not manifest.turns[n].checks:
            self.complain(self.file, field_, "there is nothing to score", "name checks for this prompt")

    def solution_of_turn(self, name: str | None, field_: str) -> Path | None:
        """Find the folder with the reference solution of one prompt."""
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
        """Read a prompt's file."""
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
        """Check `[sandbox]`, and make its paths absolute."""
        template = manifest.sandbox.template
        if template_file(template) and not find_template_file(template, self.folder):
            remedy = "give a path relative to the task's folder, or to one that it is in"
            self.complain(self.file, "sandbox.template", f"{template!r} is nowhere", remedy)
        if incomplete := names_no_template(template):
            self.complain(self.file, "sandbox.template", f"{template!r} names a file alone", incomplete)
        if manifest.sandbox.workdir and manifest.checks.sandbox != "agent" and not manifest.checks.carry:
            remedy = (
                'add sandbox = "agent" to [checks], or name in carry what of the system is judged elsewhere'
            )
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
            self.complain(
                self.file, "sandbox.ca", f"{manifest.sandbox.ca!r}: {error.strerror}", "give a file"
            )
        else:
            if not is_pem:
                what = f"{manifest.sandbox.ca!r} has no certificates"
                self.complain(self.file, "sandbox.ca", what, "give a file in PEM form")
        return manifest.sandbox.model_copy(update={"ca": str(ca)})

    def git(self, manifest: Manifest) -> GitSource | None:
        """Read which repository is to be cloned, if any."""
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
        """Find the folder with the starter repo."""
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

    def replay(self) -> Path | None:
        """Find the recorded session."""
        path = self.folder / "replay.jsonl"
        if not os.path.lexists(path) or not self.inside("replay.jsonl"):
            return None
        self.recording(path)
        return path

    def recording(self, path: Path) -> None:
        """Check that a recorded session can be played."""
        try:
            with open_regular(path, MAX_RECORDING_BYTES) as lines:
                parse_recording(lines)
        except BadRecording as bad:
            for problem in bad.problems[:_BAD_LINES_SHOWN]:
                self.complain(path, None, f"cannot be played: {problem}", "record it again, or remove it")
            if len(bad.problems) > _BAD_LINES_SHOWN:
                more = len(bad.problems) - _BAD_LINES_SHOWN
                self.complain(path, None, f"cannot be played for {more} more reasons")


def find_tasks(root: Path) -> Iterator[Path]:
    """Folders below (or at) `root` that hold a `task.toml`; a task's own folder is not searched further."""
    if (root / MANIFEST).is_file():
        yield root
        return
    if root.is_dir():
        for child in sorted(root.iterdir()):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith((".", "__")):
                yield from find_tasks(child)
