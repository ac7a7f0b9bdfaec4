"""The defects that a task's folder shows before anything is run: what only looks like a task, and unused parts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from harness.authoring.edits import language_of
from harness.authoring.findings import Finding, ValidationReport
from harness.authoring.mutants import is_test
from harness.tasks.contents import IGNORED_NAMES, files_in, is_executable
from harness.tasks.globs import matching_files
from harness.tasks.manifest import MANIFEST
from harness.tasks.task import Task
from harness.tasks.tomlfile import display_path

_LOADED_BY_ITSELF = frozenset({"conftest.py", "__init__.py"})
_PROGRAMS = frozenset({"python", "javascript", "typescript", "shell", "ruby", "perl"})
_REMARK = re.compile(r"^\s*(?:#\s|//).*$", re.MULTILINE)
_NOT_ENTERED = frozenset({"node_modules", ".venv", "venv"})


def find_folders(roots: Sequence[Path]) -> tuple[list[Path], list[ValidationReport]]:
    """The task folders at or below some folders, and reports of folders that look like tasks and are none."""
    tasks: list[Path] = []
    others: list[ValidationReport] = []
    for root in roots:
        for folder in _searched(root):
            names = {path.name for path in folder.iterdir()}
            if MANIFEST in names:
                tasks.append(folder)
            elif finding := _almost_a_task(names):
                others.append(ValidationReport(folder.name, display_path(folder), (finding,)))
    return tasks, others


def _searched(folder: Path) -> Iterator[Path]:
    """The folder and those below it; what is in a task, or in what looks like one, is not searched."""
    yield folder
    names = {path.name for path in folder.iterdir()}
    if MANIFEST in names or _almost_a_task(names):
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink() and not _is_passed_over(child.name):
            yield from _searched(child)


def _is_passed_over(name: str) -> bool:
    return name.startswith((".", "__")) or name in _NOT_ENTERED


def _almost_a_task(names: set[str]) -> Finding | None:
    others = sorted(
        name for name in names if name.lower() in ("task.toml", "tasks.toml", "task.tml") and name != MANIFEST
    )
    if others:
        remedy = f"rename it to {MANIFEST}; pytest collects no other name"
        return Finding(
            "manifest_name", f"{others[0]} is no task's manifest, so this folder is no task", remedy
        )
    if "prompt.md" in names:
        remedy = f"add a {MANIFEST} with `schema = 1`, or move the prompt away"
        return Finding(
            "no_manifest", f"there is a prompt.md and no {MANIFEST}, so this folder is no task", remedy
        )
    if "checks" in names and names & {"repo", "solution"}:
        remedy = f"add a {MANIFEST} with `schema = 1`"
        return Finding(
            "no_manifest", f"there is checks/ and no {MANIFEST}, so this folder is no task", remedy
        )
    return None


def look_at_folder(task: Task, starter: Path | None) -> Iterator[Finding]:
    """Find the defects that a task's files alone show. `starter` is the folder of its starter repo."""
    if not has_solution(task):
        remedy = "add solution/ (files laid over the repo, or solve.sh), so that the checks can be proven"
        yield Finding("no_solution", "there is no solution", remedy)
    yield from _protected(task, starter)
    yield from _never_run(task)
    yield from _dropped(task)


def has_solution(task: Task) -> bool:
    """True if the oracle has something to do, or to say."""
    return task.solution is not None or task.answer is not None or any(turn.solution for turn in task.turns)


def _protected(task: Task, starter: Path | None) -> Iterator[Finding]:
    for pattern in task.protect:
        if starter is None or not matching_files(starter, [pattern]):
            remedy = "name files that the starter repo has, relative to it"
            yield Finding(
                "protect_missing", f"[checks] protect: {pattern!r} fits no file of the repo", remedy
            )


def _never_run(task: Task) -> Iterator[Finding]:
    folder = task.checks_folder
    if folder is None:
        return
    files = {path.relative_to(folder).as_posix(): path for path in files_in(folder) if path.is_file()}
    checks = {check.file for check in task.checks if check.file}
    texts = {name: path.read_bytes().decode("utf-8", "replace") for name, path in files.items()}
    told = " ".join(check.command or (check.tests and check.tests.command) or "" for check in task.checks)
    paths = [path for check in task.checks if check.tests for path in check.tests.paths]
    for name, path in files.items():
        if name in checks or path.name in _LOADED_BY_ITSELF:
            continue
        if not (is_executable(path) or is_test(name) or language_of(name, texts[name]) in _PROGRAMS):
            continue
        if task.overlay and path.is_relative_to(task.overlay):
            continue
        if any(name == given or name.startswith(f"{given.rstrip('/')}/") for given in paths):
            continue
        if _is_named(name, told) or any(
            _is_named(name, text) for other, text in texts.items() if other != name
        ):
            continue
        what = f"checks/{name} is never run: no check is it, and none names it"
        remedy = "put it right into checks/ and make it executable, or name it in [checks.tests]"
        yield Finding("check_never_run", what, remedy)


def _is_named(name: str, text: str) -> bool:
    """True if a text, but for its remarks, names a file, its module, or the folder that it is in.

    A module's and a folder's name may be any word, so these count where something is loaded, or as part of a path.
    """
    pure, code = PurePosixPath(name), _REMARK.sub("", text)
    if re.search(rf"(?<![\w-]){re.escape(pure.name)}(?![\w-])", code):
        return True
    for word in map(re.escape, {pure.stem, *(parent.name for parent in pure.parents if parent.name)}):
        whole = rf"(?<![\w-]){word}(?![\w-])"
        loaded = rf"(?:\b(?:import|from|require|source|use|load|cd)\b|-m\b|^\s*\.)[^\n]*{whole}"
        if re.search(rf"{loaded}|[\"'/]{word}(?=[\"'/])|{whole}/", code, re.MULTILINE):
            return True
    return False


def _dropped(task: Task) -> Iterator[Finding]:
    """A notice of what in the starter folder goes into no sandbox."""
    if task.repo is None or task.path is None:
        return
    dropped = sorted(_dropped_names(task.repo))
    if dropped:
        names = ", ".join(dropped[:5]) + (", ..." if len(dropped) > 5 else "")
        yield Finding("dropped", f"of the starter repo this goes into no sandbox: {names}", level="note")


def _dropped_names(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        here = Path(parent).relative_to(folder)
        yield from ((here / name).as_posix() for name in (*folders, *names) if name in IGNORED_NAMES)
        folders[:] = [name for name in folders if name not in IGNORED_NAMES]


_TICKED = re.compile(r"`([^`\n]+)`")
_BARE = re.compile(r"(?<![\w/.:~-])(?<!\w@)((?:[\w-][\w.-]*/)+[\w.-]*[\w-]|[\w-]+\.[A-Za-z]\w{0,4})(?![\w/])")
_FOLDER = re.compile(r"(?:\./)?(?:[\w-][\w.-]*/)+")
_BARE_NAMES = frozenset({"Makefile", "Dockerfile", "Gemfile", "Rakefile", "Procfile", "Justfile", "LICENSE"})
_EXTENSIONS = frozenset(
    "py js mjs cjs ts tsx jsx json jsonl toml yaml yml md rst txt csv tsv sh bash cfg ini html css sql go rs java "  # noqa: SIM905
    "c h cpp rb php xml lock env ipynb".split()
)


def look_at_prompts(
    task: Task, starter: Mapping[str, bytes], solved: Mapping[str, bytes], made: str
) -> Iterator[Finding]:
    """The files that a prompt names and that are nowhere: neither in the starter repo nor in what the solution makes.

    `made` is text that says what else there is: of setup, solution and checks.
    """
    known = {*starter, *solved}
    folders = {parent.as_posix() for name in known for parent in PurePosixPath(name).parents}
    names = {PurePosixPath(name).name for name in known} | {PurePosixPath(name).name for name in folders}
    for turn in task.turns:
        for named in sorted(set(_named_files(turn.prompt))):
            path = named.removeprefix("./").rstrip("/")
            is_there = path in known or path in folders or ("/" not in path and path in names)
            if not is_there and PurePosixPath(path).name not in made:
                remedy = "correct the name, or put the file into the starter repo"
                yield Finding(
                    "prompt_names_missing", f"{turn.source} names {named!r}, which is not there", remedy
                )


def _named_files(prompt: str) -> Iterator[str]:
    """The names of files that a prompt has, relative to the repo."""
    prompt = re.sub(r"(?:/home/user|~)/repo/", "", prompt)
    for ticked in _TICKED.findall(prompt):
        for word in ticked.split():
            bare = word.removeprefix("@").rstrip(",;:")
            if _looks_like_file(bare) or _FOLDER.fullmatch(bare) or PurePosixPath(bare).name in _BARE_NAMES:
                yield bare
    plain = re.sub(r"\w+://\S+", " ", _TICKED.sub(" ", prompt))
    for found in _BARE.findall(plain):
        if _looks_like_file(found) and ("/" in found or "." in found):
            yield found


def _looks_like_file(word: str) -> bool:
    if not re.fullmatch(r"(\./)?[\w-][\w./-]*", word) or "//" in word or word.startswith("-"):
        return False
    extension = PurePosixPath(word).suffix.removeprefix(".").lower()
    return extension in _EXTENSIONS and bool(PurePosixPath(word).stem)
