"""A Python test's task: a task folder, or parts named one by one in its marker."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import ProblemsError
from harness.tasks.check_reader import CheckReader
from harness.tasks.contents import file_hash, folder_hash
from harness.tasks.loading import TaskReader, load_task, unreadable
from harness.tasks.manifest import Manifest, validated
from harness.tasks.task import Check, Task

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
    reader = TaskReader(base, base, problems)
    try:
        parts = _read_parts(reader, manifest, folder, repo, replay)
        data_paths = _find_data(reader, data)
        if problems:
            raise ProblemsError(subject, [replace(p, field=_as_argument(p.field)) for p in problems])
        task = load_task(base / folder) if folder is not None else Task(name, None, "")
        contents = [folder_hash(parts.repo) if parts.repo else None, file_hash(parts.replay)]
        contents += [folder_hash(path) if path.is_dir() else file_hash(path) for path in data_paths]
    except OSError as error:
        raise ProblemsError(subject, [unreadable(error, base)]) from error
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


def _read_parts(reader: TaskReader, manifest: Manifest, folder: Any, repo: Any, recording: Any) -> _Parts:
    """Read the parts that a Python test names. Its paths may lead anywhere."""
    _find_part(reader, "folder", folder, os.path.isdir, "folder")
    repo_path = _find_part(reader, "repo", repo, os.path.isdir, "folder")
    checks = CheckReader(reader.folder, reader.file, reader.problems)
    checks.protect(manifest, repo_path)
    if repo_path:
        reader.links(repo_path)
    recording_path = _find_part(reader, "replay", recording, os.path.isfile, "file")
    if recording_path:
        reader.recording(recording_path)
    return _Parts(manifest, tuple(checks.commands(manifest)), repo_path, recording_path)


def _find_part(
    reader: TaskReader, argument: str, given: Any, is_there: Callable[[Path], bool], kind: str
) -> Path | None:
    if given is None:
        return None
    if isinstance(given, str | Path) and is_there(reader.folder / given):
        return reader.folder / given
    remedy = "paths are relative to the test's file"
    reader.complain(reader.file, argument, f"{str(given)!r} is not a {kind}", remedy)
    return None


def _find_data(reader: TaskReader, given: Any) -> list[Path]:
    """The files and folders that a Python test reads."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        remedy = 'give a list, such as data=["rows.jsonl"]'
        reader.complain(reader.file, "data", f"{given!r} is not a list of paths", remedy)
        return []
    found = [
        _find_part(reader, f"data.{n}", path, os.path.exists, "file or folder")
        for n, path in enumerate(given)
    ]
    return [path for path in found if path]
