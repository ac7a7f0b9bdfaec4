"""`harness import`: other people's tasks, kept as folders of ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ProblemsError, UsageError
from harness.tasks.formats.base import ConvertedTask, NoCounterpartError
from harness.tasks.formats.dataset import Wanted, write_dataset
from harness.tasks.formats.registry import format_of, name_of
from harness.tasks.formats.skipped import FILE
from harness.tasks.loading import load_task
from harness.tasks.wholefile import written_whole


def import_tasks(source: str, to: Path, here: Path, limit: int | None, sample: int | None) -> str:
    """Write the tasks of a folder, or a dataset's rows, below `to`; a line for each.

    Raises:
        UsageError: when there is nothing to import, or a folder of one's name is there already.
        ProblemsError: when a dataset.toml cannot be used.
    """
    to.mkdir(parents=True, exist_ok=True)
    if (here / source).is_dir():
        if limit is not None or sample is not None:
            raise UsageError("--limit and --sample are for a dataset's rows", remedy="leave them out")
        lines = [_import(folder, to) for folder in _tasks_in((here / source).absolute())]
    else:
        lines = list(_import_rows(Wanted(source, limit, sample), to, here))
    if not lines:
        raise UsageError(
            f"{source} has no task of a format that is known", remedy="docs/other-tasks.md lists them"
        )
    return "".join(f"{line}\n" for line in lines)


def _tasks_in(folder: Path) -> Iterator[Path]:
    if format_of(folder):
        yield folder
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink() and not child.name.startswith((".", "__")):
            yield from _tasks_in(child)


def _import(folder: Path, to: Path) -> str:
    form, name = format_of(folder), name_of(folder)
    assert form, "it is one of a format's"
    try:
        task = form.convert(folder)
    except NoCounterpartError as error:
        return f"skipped {name}: {error}"
    except ProblemsError as error:
        return f"skipped {name}: {error}"
    return _keep(task, name, to)


def _keep(task: ConvertedTask, name: str, to: Path) -> str:
    if (to / name).exists():
        raise UsageError(
            f"{to / name} is there already", remedy="name another folder with --to, or remove it"
        )
    taken = [
        where
        for where in dict.fromkeys(where.partition("/")[0] for where in task.beside)
        if _differs(task, to, where)
    ]
    if taken:
        raise UsageError(
            f"{to / taken[0]} is there already, and has something else",
            remedy="name another folder with --to",
        )
    task.write_shared(to)
    task.write_beside(to)
    with written_whole(to / name) as made:
        task.write(made)
    load_task(to / name)
    return f"{to / name}"


def _differs(task: ConvertedTask, to: Path, where: str) -> bool:
    """True if something is there in the place of what a task has beside it."""
    wanted = {name: content for name, content in task.beside.items() if name.partition("/")[0] == where}
    return (to / where).exists() and any(
        not (to / name).is_file()
        or (to / name).read_bytes()
        != (content.read_bytes() if isinstance(content, Path) else content.encode())
        for name, content in wanted.items()
    )


def _import_rows(wanted: Wanted, to: Path, here: Path) -> Iterator[str]:
    written = write_dataset(wanted, to, here)
    for folder in sorted(written.iterdir()):
        if (folder / FILE).is_file():
            yield f"skipped {folder.name}: {(folder / FILE).read_text(encoding='utf-8').strip()}"
            shutil.rmtree(folder)
        else:
            load_task(folder)
            yield str(folder)
