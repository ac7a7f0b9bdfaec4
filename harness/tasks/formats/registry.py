"""The formats of other people's tasks. A new one is a class with a module of its own, and a line here."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from harness.errors import Problem, ProblemsError
from harness.tasks.contents import file_hash, folder_hash
from harness.tasks.formats.base import ConvertedTask, Format, NoCounterpartError
from harness.tasks.formats.exercism import Exercism
from harness.tasks.formats.harbor import Harbor
from harness.tasks.formats.plugin_eval import PluginEval
from harness.tasks.formats.skipped import Skipped
from harness.tasks.formats.terminal_bench import TerminalBench1
from harness.tasks.loading import load_task
from harness.tasks.manifest import is_name
from harness.tasks.task import Task
from harness.tasks.tomlfile import display_path

FORMATS: tuple[Format, ...] = (Harbor(), Exercism(), TerminalBench1(), PluginEval(), Skipped())
_VERSION = 5
"""Raised when what a format writes changes, so that what was written earlier is not taken for it."""


def format_of(folder: Path) -> Format | None:
    """The format of which a folder is a task; None for any other folder, ours too."""
    return next((one for one in FORMATS if one.is_task(folder)), None)


def take_task(folder: Path, form: Format, cache: Path) -> Task:
    """A task of another format as one of ours, written to a folder of the cache once for each content.

    Raises:
        NoCounterpartError: when it asks for what ours cannot ask for.
        ProblemsError: when it is no valid task.
    """
    try:
        key = f"{form.name} {folder_hash(folder)}"
        return written_task(form.convert(folder), name_of(folder), cache, key)
    except (OSError, RecursionError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is nested too deeply"
        subject = f"task {folder.name!r} of {form.name} cannot be used:"
        raise ProblemsError(
            subject, [Problem(display_path(folder), None, f"cannot be read: {why}", None)]
        ) from error


def written_task(task: ConvertedTask, name: str, cache: Path, key: str) -> Task:
    """A task that was read elsewhere, in a folder of the cache; `key` says what it came from."""
    if not is_name(name):
        raise NoCounterpartError(f"{name!r} cannot be a task's name here")
    # The files may depend on this machine's variables too.
    beside = sorted(
        (where, file_hash(what) if isinstance(what, Path) else what) for where, what in task.beside.items()
    )
    content = repr((_VERSION, key, name, sorted(task.manifest.items()), sorted(task.files.items()), beside))
    place = cache / hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    task.write_shared(cache)
    if not place.is_dir():
        making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        task.write(making / name)
        task.write_beside(making)
        try:
            os.rename(making, place)
        except OSError:
            if not place.is_dir():
                raise  # another process may have been faster, with the same content
    return replace(load_task(place / name), host_secrets=task.secrets)


def name_of(folder: Path) -> str:
    """A task's name here: its folder's. Exercises have the same in many languages, whose folder comes first then."""
    if folder.parts[-3:-1] in (("exercises", "practice"), ("exercises", "concept")) and len(folder.parts) > 4:
        return f"{folder.parts[-4]}-{folder.name}"
    return folder.name
