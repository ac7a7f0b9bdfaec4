"""Rows of a dataset as tasks: which column says what, known by name for SWE-bench's fields."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.tasks.formats.base import ConvertedTask, NoCounterpartError, task_name
from harness.tasks.formats.skipped import skipped_folder
from harness.tasks.gitcommand import local_git, words_of
from harness.tasks.rows import MissingError, fill_gaps, filled_table, has_gaps

_TIMEOUT_S, _TESTS_S = 1800.0, 600.0
SWE_BENCH = {
    "name": "instance_id",
    "prompt": "problem_statement",
    "repo": "repo",
    "ref": "base_commit",
    "solution": "patch",
    "tests": "test_patch",
    "must_pass": "FAIL_TO_PASS",
    "must_still_pass": "PASS_TO_PASS",
}
"""The columns of SWE-bench and of datasets like it, by what they are to a task."""
FIELDS: Mapping[str, str] = {
    "name": "the task's name",
    "prompt": "what Claude Code is asked",
    "repo": "the repository: OWNER/NAME or a URL",
    "ref": "its commit",
    "solution": "the reference solution, a diff",
    "answer": "the reference's last message",
    "tests": "tests that the agent does not see, a diff",
    "must_pass": "names of pytest's tests that the solution makes pass, a list",
    "must_still_pass": "the same, of those that passed before",
    "setup": "a shell command before the agent",
    "check": "a shell command that judges",
    "template": "what the sandbox is made from",
}
"""What of a task a column can be."""
_NAMED = re.compile(
    r"^(?:(?:\+\+\+ b|--- a)/(.+?)\s*"
    r"|(?:\+\+\+|---) (\"[ab]/.+\")\s*"
    r"|diff --git a/(?P<same>.+) b/(?P=same)"
    r"|(?:rename|copy) (?:from|to) (?P<moved>.+))$",
    re.MULTILINE,
)
"""The files of a diff: what is renamed, or binary, has no lines of its own."""


@dataclass(frozen=True)
class Mapped:
    """The mapping of rows to tasks: columns by what they are, a folder with mirrors of repositories, more of task.toml.

    In the place of a column there may be a text with gaps, `{{ COLUMN }}`; they may be anywhere in `task`, too.
    """

    columns: Mapping[str, str]
    mirrors: Path | None = None
    task: Mapping[str, Any] = field(default_factory=dict)


def task_of_row(row: Mapping[str, Any], mapped: Mapped, number: int) -> tuple[str, ConvertedTask]:
    """A row's task, and its name; where no task of ours can ask for what it asks for, a folder that says so."""
    reader, name = _Row(row, mapped), f"row-{number}"
    try:
        name = task_name(reader.text("name") or name)
        return name, reader.task()
    except MissingError as error:
        return name, skipped_folder(f"it has no {error}, which dataset.toml asks for")
    except NoCounterpartError as error:
        return name, skipped_folder(str(error))


@dataclass(frozen=True)
class _Row:
    row: Mapping[str, Any]
    mapped: Mapped

    def value(self, what: str) -> Any:
        """The value of a column, or of a text with gaps."""
        column = self.mapped.columns.get(what, "")
        return fill_gaps(column, self.row) if has_gaps(column) else self.row.get(column)

    def text(self, what: str) -> str:
        value = self.value(what)
        return value if isinstance(value, str) else "" if value is None else str(value)

    def names(self, what: str) -> list[str]:
        value = self.value(what)
        if isinstance(value, str) and value.strip():
            try:
                value = _list_of(value.strip())
            except ValueError as error:
                column = self.mapped.columns[what]
                raise NoCounterpartError(f"{column} is no list of tests' names: {error}") from error
        return (
            [str(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else []
        )

    def task(self) -> ConvertedTask:
        prompt = self.text("prompt")
        if not prompt.strip():
            raise NoCounterpartError(f"its {self.mapped.columns.get('prompt', 'prompt')} is empty")
        task = ConvertedTask({"timeout": _TIMEOUT_S, "checks": {"timeout": _TESTS_S}}, {"prompt.md": prompt})
        repo = self.repo(task)
        if self.text("setup").strip():
            task.manifest["setup"] = {"run": [self.text("setup")]}
        if self.text("template").strip():
            task.manifest["sandbox"] = {"template": self.text("template").strip()}
        if self.text("solution").strip():
            task.files["solution.patch"] = _ended(self.text("solution"))
        if self.text("answer").strip():
            task.files["answer.md"] = self.text("answer")
        if self.text("check").strip():
            task.manifest["checks"]["run"] = {"check": self.text("check")}
        self.tests(task, repo)
        task.manifest = _merged(task.manifest, filled_table(self.mapped.task, self.row))
        if not ({"run", "tests", "answer", "tools"} & task.manifest["checks"].keys()):
            raise NoCounterpartError(
                "nothing says how it is judged: it has neither tests that must pass nor a check"
            )
        return task

    def repo(self, task: ConvertedTask) -> Path | None:
        """Name the repository, and return where it is on this machine, if it is."""
        named, ref = self.text("repo").strip(), self.text("ref").strip()
        if not named:
            return None
        mirror = _mirror(self.mapped.mirrors, named) if self.mapped.mirrors else None
        url = named if "://" in named or named.startswith("git@") else f"https://github.com/{named}.git"
        task.manifest["repo"] = {"git": str(mirror) if mirror else url, "ref": ref or None}
        if mirror and not self.text("template").strip() and "sandbox" not in self.mapped.task:
            task.manifest["repo"]["env"] = "auto"
        return mirror

    def tests(self, task: ConvertedTask, repo: Path | None) -> None:
        """Have the tests of both lists judged, as the patch of tests makes them."""
        must, still = self.names("must_pass"), self.names("must_still_pass")
        if not must:
            return
        strange = [name for name in (*must, *still) if "::" not in name]
        if strange:
            raise NoCounterpartError(f"{strange[0]!r} is no name of a test of pytest's (FILE::TEST)")
        checks = task.manifest["checks"]
        patch = self.text("tests")
        if patch.strip():
            if repo is None:
                where = self.text("repo")
                raise NoCounterpartError(
                    f"no mirror of {where} is on this machine: dataset.toml names them (mirrors)"
                )
            before, after = files_after_patch(repo, self.text("ref").strip(), _ended(patch))
            task.files |= {f"checks/overlay/{name}": data for name, data in after.items()}
            checks |= {"overlay": "overlay", "protect": before}
        paths = list(dict.fromkeys(name.partition("::")[0] for name in (*must, *still)))
        spec = {"runner": "pytest", "paths": paths, "must_pass": must}
        checks["tests"] = {"tests": {**spec, "must_still_pass": still}}


def _list_of(text: str) -> Any:
    """A list in JSON, or as Python writes it, as a CSV file of pandas' has it. Raises ValueError."""
    try:
        return json.loads(text)
    except ValueError:
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = ast.literal_eval(text)
            if repr(value) == text:  # numpy leaves the commas out, and Python makes one name of them all
                return value
        raise


def _ended(patch: str) -> str:
    return patch if patch.endswith("\n") else f"{patch}\n"


def _mirror(folder: Path, repo: str) -> Path | None:
    """The clone of a repository in a folder of them: as OWNER/NAME, OWNER__NAME or NAME, perhaps with .git."""
    owner, _, name = repo.removesuffix(".git").rstrip("/").rpartition("/")
    owner = re.split(r"[/:]", owner)[-1]
    for stem in (f"{owner}/{name}", f"{owner}__{name}", name):
        for ending in ("", ".git", ".bundle"):
            if (folder / f"{stem}{ending}").exists():
                return (folder / f"{stem}{ending}").absolute()
    return None


def files_after_patch(repo: Path, ref: str, patch: str) -> tuple[list[str], dict[str, bytes]]:
    """The files that a patch changes as they would be, and the names of those that were there before.

    Nothing of the repository is run: git reads its objects, and applies the patch in a folder of its own.

    Raises:
        NoCounterpartError: when the patch or the commit cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="harness-patch-") as folder:
        names = list(_touched(patch))
        before = []
        for name in names:
            shown = _git(repo, "show", f"{ref}:{name}", check=False)
            if shown is not None:
                before.append(name)
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(shown)
        if not before and _git(repo, "cat-file", "-e", f"{ref}^{{commit}}", check=False) is None:
            raise NoCounterpartError(f"{repo} has no commit {ref}")
        _git(Path(folder), "init", "-q")
        _git(Path(folder), "apply", "--whitespace=nowarn", "-", data=patch.encode())
        after = {name: Path(folder, name) for name in names}
        return before, {name: path.read_bytes() for name, path in after.items() if path.is_file()}


def _touched(patch: str) -> Iterator[str]:
    for name in dict.fromkeys(_named_in(patch)):
        if ".." in name.split("/") or name.startswith("/"):
            raise NoCounterpartError(f"the patch of tests leads out of the repo: {name}")
        yield name


def _named_in(patch: str) -> Iterator[str]:
    for found in _NAMED.finditer(patch):
        name = next(filter(None, found.groups()))
        if name.startswith('"') and name.endswith('"'):
            name = _unquoted(name[1:-1])
            name = name if found["moved"] else name[2:]
        yield name


def _unquoted(name: str) -> str:
    """A name as it is, which git writes in quotes: what is not ASCII by its bytes, in octal."""
    try:
        return name.encode().decode("unicode_escape").encode("latin-1").decode()
    except ValueError as error:
        raise NoCounterpartError(f'the patch of tests has a name that cannot be read: "{name}"') from error


def _git(folder: Path, *words: str, data: bytes = b"", check: bool = True) -> bytes | None:
    done = local_git(folder, *words, data=data)
    if done.returncode == 0:
        return done.stdout
    if check:
        raise NoCounterpartError(f"git {shlex.join(words[:2])}: {words_of(done)}")
    return None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(known, value) if both and isinstance(known, Mapping) else value
    return merged
