"""Datasets of tasks: JSONL, Parquet and CSV files and the Hugging Face Hub, by `datasets`."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Problem, ProblemsError, UsageError
from harness.tasks.formats.base import ConvertedTask
from harness.tasks.formats.rows import FIELDS, SWE_BENCH, Mapped, task_of_row
from harness.tasks.formats.skipped import skipped_folder
from harness.tasks.rows import has_gaps
from harness.tasks.tomlfile import TomlFile, abbreviate, display_path, read_toml

MAPPING = "dataset.toml"
_LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
_KEYS = ("columns", "mirrors", "task")


@dataclass(frozen=True)
class Wanted:
    """The rows that are wanted of a dataset: all, or `limit` of them, drawn by `sample` or the first."""

    name: str
    limit: int | None = None
    sample: int | None = None


def write_dataset(wanted: Wanted, target: Path, here: Path) -> Path:
    """Write the rows' tasks as folders below `target`, and return the folder that has them.

    Raises:
        UsageError: when there is no such dataset, or its columns say too little.
        ProblemsError: when its dataset.toml cannot be used.
    """
    source, split = _source_of(wanted.name, here)
    rows = _load(source, split)
    chosen = list(range(len(rows)))
    if wanted.sample is not None:
        random.Random(wanted.sample).shuffle(chosen)
    chosen = sorted(chosen[: wanted.limit])
    mapped = _mapping(source, here, rows.column_names)
    made = list(_named(task_of_row(rows[number], mapped, number) for number in chosen))
    content = repr([(name, task.manifest, sorted(task.files.items())) for name, task in made])
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(str(source)).stem).strip("-") or "dataset"
    folder = target / f"{stem}-{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    for name, task in made:
        if not (folder / name).is_dir():
            task.write(folder / name)
    return folder


def _named(made: Iterable[tuple[str, ConvertedTask]]) -> Iterator[tuple[str, ConvertedTask]]:
    """The tasks with a name each: where an earlier row has it, a folder that says so."""
    seen: dict[str, int] = {}
    for name, task in made:
        seen[name] = seen.get(name, 0) + 1
        if seen[name] == 1:
            yield name, task
        else:
            yield f"{name}.{seen[name]}", skipped_folder(f"another row has the name {name} too")


def _source_of(name: str, here: Path) -> tuple[Path | str, str | None]:
    """The file, or the Hub's dataset, and the split."""
    for text, split in ((name, None), name.rsplit(":", 1) if ":" in name else (name, None)):
        if (here / text).is_file():
            return (here / text).resolve(), split
    text, _, split_name = name.partition(":")
    if Path(text).suffix in _LOADERS or text.startswith((".", "/")):
        raise UsageError(
            f"--dataset: there is no file {text}", remedy="paths are relative to where pytest is called"
        )
    return text, split_name or None


def _load(source: Path | str, split: str | None) -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        if isinstance(source, Path):
            kind = _LOADERS.get(source.suffix)
            if kind is None:
                known = ", ".join(_LOADERS)
                raise UsageError(
                    f"--dataset: {source.name} is no kind of file that is known", remedy=f"give {known}"
                )
            found = datasets.load_dataset(kind, data_files=str(source))
        else:
            found = datasets.load_dataset(source)
    except UsageError:
        raise
    except Exception as error:
        if isinstance(error, StopIteration):  # it is what comes of a file without a line
            raise UsageError(f"--dataset {source} has no rows") from error
        told = error.__cause__ or error  # "An error occurred while generating the dataset" hides why
        words = " ".join(str(told).split())[:500]
        raise UsageError(f"--dataset {source}: {type(told).__name__}: {words}") from error
    splits = list(found)
    chosen = split or ("test" if "test" in splits else splits[0])
    if chosen not in splits:
        raise UsageError(f"--dataset {source} has no split {chosen!r}", remedy=f"it has {', '.join(splits)}")
    return found[chosen]


def _mapping(source: Path | str, here: Path, columns: Iterable[str]) -> Mapped:
    """The columns' meaning: as dataset.toml beside the file (or here) says, else by SWE-bench's names and ours."""
    columns = list(columns)
    places = [source.parent, here] if isinstance(source, Path) else [here]
    file = next((place / MAPPING for place in places if (place / MAPPING).is_file()), None)
    known = {field: column for field, column in SWE_BENCH.items() if column in columns}
    known = {**{field: field for field in FIELDS if field in columns}, **known}
    if file is None:
        mapped = Mapped(known)
    else:
        toml = read_toml(file, f"{display_path(file)} cannot be used:")
        mapped = _read_mapping(toml, known, columns)
    if "prompt" not in mapped.columns:
        raise UsageError(
            f"--dataset {source}: no column is known to be the prompt; it has {', '.join(columns)}",
            remedy=f'say it in a {MAPPING} beside it: [columns], prompt = "COLUMN"',
        )
    return mapped


def _read_mapping(toml: TomlFile, known: Mapping[str, str], columns: list[str]) -> Mapped:
    problems: list[Problem] = []

    def complain(place: list[str], what: str, remedy: str) -> None:
        problems.append(Problem(toml.place(place), ".".join(place), what, remedy))

    for key in toml.data:
        if key not in _KEYS:
            complain([key], "is not a known key", f"known here: {', '.join(_KEYS)}")
    given = toml.data.get("columns", {})
    if not isinstance(given, Mapping):
        complain(["columns"], f"should be a table, not {abbreviate(given)}", 'such as prompt = "question"')
        given = {}
    for field, column in given.items():
        if field not in FIELDS:
            complain(["columns", field], "is nothing of a task", f"known here: {', '.join(FIELDS)}")
        elif column not in columns and not (isinstance(column, str) and has_gaps(column)):
            remedy = f"it has {', '.join(columns)}"
            complain(["columns", field], f"{abbreviate(column)} is no column of the dataset", remedy)
    mirrors, task = toml.data.get("mirrors"), toml.data.get("task", {})
    if mirrors is not None and not (isinstance(mirrors, str) and (toml.path.parent / mirrors).is_dir()):
        remedy = "give a folder with clones, as OWNER/NAME or OWNER__NAME"
        complain(["mirrors"], f"{abbreviate(mirrors)} is no folder", remedy)
    if not isinstance(task, Mapping):
        complain(["task"], f"should be a table, not {abbreviate(task)}", "it is laid over each task.toml")
    if problems:
        raise ProblemsError(f"{display_path(toml.path)} cannot be used:", problems)
    folder = (toml.path.parent / mirrors).resolve() if mirrors else None
    return Mapped({**known, **given}, folder, task)
