"""A task's folder, written: from nothing, or from a commit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.authoring.commits import Commit, file_at, mode_at, names_in, patch_of
from harness.authoring.prompts import draft_prompt
from harness.errors import UsageError
from harness.tasks.manifest import MANIFEST, is_name

OVERLAY = "overlay"
"""The folder in `checks/` with a commit's tests."""
_TEST_CONFIGS = ("conftest.py", "pytest.ini", "tests/conftest.py", "test/conftest.py")

_EXAMPLE = {
    "prompt.md": "`greet.sh` greets everybody alike. With a name, as in `sh greet.sh Ada`, it should print\n"
    "`Hello, Ada!`; without one it should go on as it does today.\n",
    "repo/greet.sh": '#!/bin/sh\necho "Hello!"\n',
    "repo/README.md": "# A task's starter repo\n\nWhat stands here is what the agent finds.\n",
    "solution/greet.sh": '#!/bin/sh\nif [ $# -gt 0 ]; then\n  echo "Hello, $1!"\nelse\n  echo "Hello!"\nfi\n',
}
_EXAMPLE_CHECK = """#!/bin/sh
# A check passes if it ends with 0. It runs in the repo, as the agent left it.
expect() {
  [ "$2" = "$1" ] || { echo "expected: $1, got: $2"; exit 1; }
}
expect "Hello, Ada!" "$(sh greet.sh Ada)"
expect "Hello, Bob Lee!" "$(sh greet.sh "Bob Lee")"
expect "Hello!" "$(sh greet.sh)"
"""
_NOTES_CHECK = """#!/bin/sh
# A check passes if it ends with 0. It runs in the repo, as the agent left it.
[ "$(head -n 1 NOTES.md 2>/dev/null)" = "# Notes" ] || { echo "NOTES.md does not begin with # Notes"; exit 1; }
"""


@dataclass(frozen=True)
class Runner:
    """The way in which a commit's tests are run."""

    name: str
    paths: tuple[str, ...] = ()
    pythonpath: tuple[str, ...] = (".",)
    plugins: tuple[str, ...] = ()


def new_folder(tasks: Path, name: str) -> Path:
    """The folder for a task that is not there yet.

    Raises:
        UsageError: when the name cannot be one, or is taken.
    """
    if not is_name(name):
        raise UsageError(
            f"{name!r} cannot be a task's name",
            remedy="use letters, digits, _ - and ., a letter or digit first",
        )
    folder = tasks / name
    if folder.exists():
        raise UsageError(f"{folder} is there already", remedy="give another name, or remove it")
    return folder


def write_example(folder: Path) -> None:
    """A small task that validates as it stands, to be changed bit by bit."""
    toml = 'schema = 1\ndescription = "Greets by name"\ntimeout = 300\n'
    _write(folder, {MANIFEST: toml, **_EXAMPLE})
    _write(folder, {"checks/greets.sh": _EXAMPLE_CHECK}, executable=True)


def write_of_repo(folder: Path, repo: Path, head: str) -> None:
    """A task about a repository of this machine, with an example of a job that validates as it stands."""
    toml = f'schema = 1\ndescription = "What this task is about"\ntimeout = 600\n\n{_repo_table(folder, repo, head)}'
    prompt = "Write `NOTES.md` at the top of this repo. Its first line is to be `# Notes`.\n"
    _write(folder, {MANIFEST: toml, "prompt.md": prompt, "solution/NOTES.md": "# Notes\n"})
    _write(folder, {"checks/notes.sh": _NOTES_CHECK}, executable=True)


def write_of_commit(
    folder: Path,
    repo: Path,
    commit: Commit,
    runner: Runner,
    *,
    must_pass: Sequence[str] = (),
    must_still_pass: Sequence[str] = (),
) -> None:
    """A task of a commit: its parent is the starter, its tests are the checks, the rest of it is the solution.

    Without `must_pass`, it is one to find out with which tests these are.
    """
    if folder.exists():
        shutil.rmtree(folder)
    source_patch, test_patch = patch_of(repo, commit, tests=False), patch_of(repo, commit, tests=True)
    known = "".join(
        file_at(repo, commit.parent, path).decode("utf-8", "replace")
        for path in (*commit.sources, *commit.deleted)
        if mode_at(repo, commit.parent, path)
    )
    prompt = draft_prompt(commit.message, source_patch, test_patch, known, must_pass)
    toml = _toml_of_commit(folder, repo, commit, runner, must_pass, must_still_pass)
    _write(folder, {MANIFEST: toml, "prompt.md": prompt, "solution.patch": source_patch})
    for path in commit.tests:
        target = folder / "checks" / OVERLAY / path
        target.parent.mkdir(parents=True, exist_ok=True)
        mode, content = mode_at(repo, commit.id, path), file_at(repo, commit.id, path)
        if mode == "120000":
            target.symlink_to(os.fsdecode(content))
        else:
            target.write_bytes(content)
            target.chmod(0o755 if mode == "100755" else 0o644)


def _toml_of_commit(
    folder: Path,
    repo: Path,
    commit: Commit,
    runner: Runner,
    must_pass: Sequence[str],
    must_still_pass: Sequence[str],
) -> str:
    there = set(names_in(repo, commit.parent))
    protect = sorted({*commit.tests, *_TEST_CONFIGS} & there)
    lines = [
        "schema = 1",
        f"description = {_text(commit.subject)}",
        'tags = ["mined"]',
        "timeout = 1200",
        "",
        f"# Of commit {commit.id}: its parent is the starter, its tests are the checks.",
        _repo_table(folder, repo, commit.parent),
        "[checks]",
        "timeout = 300",
        f"overlay = {_text(OVERLAY)}",
        *([f"protect = {_texts(protect)}"] if protect else []),
        "",
        "[checks.tests.hidden]",
        f"runner = {_text(runner.name)}",
        f"paths = {_texts(runner.paths)}",
        *([f"must_pass = {_texts(must_pass)}"] if must_pass else ["at_least = 1"]),
        *([f"must_still_pass = {_texts(must_still_pass)}"] if must_still_pass else []),
        *([f"plugins = {_texts(runner.plugins)}"] if runner.plugins else []),
        *([f"pythonpath = {_texts(runner.pythonpath)}"] if runner.pythonpath != (".",) else []),
    ]
    return "\n".join(lines) + "\n"


def _repo_table(folder: Path, repo: Path, commit: str) -> str:
    path = os.path.relpath(repo.resolve(), folder.absolute())
    return f'[repo]\ngit = {_text(path)}\nref = "{commit}"\nenv = "auto"\n'


def _text(value: str) -> str:
    # JSON's strings are TOML's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(values: Sequence[str]) -> str:
    if len(values) < 2:
        return f"[{', '.join(map(_text, values))}]"
    return "[\n" + "".join(f"    {_text(value)},\n" for value in values) + "]"


def _write(folder: Path, files: Mapping[str, str], *, executable: bool = False) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(content))
        if executable:
            path.chmod(0o755)
