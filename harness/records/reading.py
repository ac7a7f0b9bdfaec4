"""Reading runs and their records, past whatever is torn or foreign in them."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from harness.errors import UsageError
from harness.records.files import bounded_lines, file_below, open_regular, read_bounded
from harness.records.metrics import TrialMetrics, parse_metrics
from harness.records.record import TrialRecord
from harness.records.store import ABOUT, MAX_RECORD, RECORDS, RunFolder

_RUN_ID_TIME = re.compile(r"\d{8}-\d{6}-")


@dataclass(frozen=True)
class BadLine:
    """A line of a records file that is no record: torn by a kill, or not harness's."""

    file: Path
    number: int
    reason: str


_SHOWN = 5
_LISTED = 8
_NAMED = b'"trial_id"'
"""A line without it is no record: to find all else that it lacks would take a thousand times as long."""
_NO_NAME, _NO_JSON = "trial_id: Field required", "it is no JSON, or cut off"


def bad_line_notes(bad: Sequence[BadLine]) -> list[str]:
    """A sentence on each line that is no record, and how many more there are."""
    told = [f"{one.file}:{one.number} is no record, and left out: {one.reason}" for one in bad[:_SHOWN]]
    return [*told, f"... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else told


R = TypeVar("R", TrialRecord, TrialMetrics)


@dataclass(frozen=True)
class Records(Generic[R]):
    """The content of a records file: for each trial its last record, and the lines that could not be read."""

    records: tuple[R, ...]
    bad: tuple[BadLine, ...]


def no_records(subject: str, bad: Sequence[BadLine]) -> UsageError:
    """The error where there are no records: it says which lines were left out, and why."""
    remedy = "\n  ".join(bad_line_notes(bad)) or "`harness ls` lists the runs"
    return UsageError(f"{subject} has no records", remedy=remedy)


def read_records(path: Path) -> Records[TrialRecord]:
    """Read a records file, or a run's folder, past whatever is torn in it.

    Raises:
        UsageError: when there is no such file.
    """
    file = _file_of(path)
    return _read(file, _lines(file), TrialRecord.model_validate_json)


def read_measured(path: Path) -> Records[TrialMetrics]:
    """The same, with only what a comparison needs.

    Raises:
        UsageError: when there is no such file.
    """
    file = _file_of(path)
    return _read(file, _lines(file), parse_metrics)


def _file_of(path: Path) -> Path:
    """A records file, or a run's own: that of another, which a link would lead to, is not the run's."""
    return file_below(path, RECORDS) if path.is_dir() else path


def measured_in(data: bytes, name: str) -> Records[TrialMetrics]:
    """The same for a records file's content; `name` is what to call it."""
    return _read(Path(name), _numbered(data.splitlines()), parse_metrics)


def record_in(line: bytes) -> TrialRecord | None:
    """The record in a line; None where it is none."""
    try:
        return TrialRecord.model_validate_json(line) if _NAMED in line else None
    except ValidationError:
        return None


def _read(file: Path, lines: Iterable[tuple[int, bytes | None]], read: Callable[[bytes], R]) -> Records[R]:
    found: dict[tuple[str, str], R] = {}
    bad: list[BadLine] = []
    for number, line in lines:
        if line is None:
            bad.append(BadLine(file, number, f"it has more than {MAX_RECORD // 2**20} MiB"))
            continue
        if _NAMED not in line and line.startswith(b"{"):
            bad.append(BadLine(file, number, _NO_NAME if line.rstrip().endswith(b"}") else _NO_JSON))
            continue
        try:
            record = read(line)
        except ValidationError as error:
            bad.append(BadLine(file, number, _reason(error)))
        else:
            found[record.run_id, record.trial_id] = record
    return Records(tuple(found.values()), tuple(bad))


def _lines(file: Path) -> Iterator[tuple[int, bytes | None]]:
    try:
        with open_regular(file) as stream:
            yield from _numbered(bounded_lines(stream, MAX_RECORD))
    except OSError as error:
        raise UsageError(
            f"no records can be read from {file}: {error.strerror or error}",
            remedy="`harness ls` lists the runs",
        ) from error


def _numbered(lines: Iterable[bytes | None]) -> Iterator[tuple[int, bytes | None]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line is None or not line.isspace())


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        # The place in the line is of no use to anybody: mostly its end, where a process was killed.
        return _NO_JSON
    where = ".".join(str(part) for part in first["loc"])
    if where == "schema_version":
        return "its schema_version is not 1: a newer harness can read it"
    return f"{where}: {first['msg']}" if where else first["msg"]


def list_runs(results: Path) -> list[RunFolder]:
    """The runs in a results folder, oldest first."""
    if not results.is_dir():
        return []
    try:
        found = [path for path in results.iterdir() if _is_run(path)]
    except OSError as error:
        raise UsageError(f"{results} cannot be read: {error.strerror or error}") from error
    return [RunFolder(path) for path in sorted(found, key=_sort_key)]


def _is_run(folder: Path) -> bool:
    # An impossible name raises, too.
    return os.path.isfile(folder / ABOUT)


def read_about(run: Path) -> dict[str, Any]:
    """The request of a run, its run.json; empty where that cannot be read."""
    try:
        about = json.loads(read_bounded(file_below(run, ABOUT), MAX_RECORD))
    except (OSError, ValueError, RecursionError, UsageError):
        return {}
    return about if isinstance(about, dict) else {}


def _sort_key(run: Path) -> tuple[str, int, str]:
    """The order of runs: by their names, which begin with a second; within one, by the time when they began."""
    second = _RUN_ID_TIME.match(run.name)
    return second[0] if second else run.name, (run / "run.json").stat().st_mtime_ns, run.name


def find_record(run: RunFolder, name: str) -> TrialRecord:
    """The record of the trial of that id, or of its unique beginning. The others are read past: they may be many.

    Raises:
        UsageError: when there is none, or several begin so.
    """
    exact: dict[tuple[str, str], TrialRecord] = {}
    beginning: dict[tuple[str, str], TrialRecord] = {}
    ids: dict[str, None] = {}
    broken: str | None = None
    for one, line in _measured_lines(_file_of(run.path)):
        key = one.run_id, one.trial_id
        found = exact if one.trial_id == name else beginning if one.trial_id.startswith(name) else None
        if found is not None and (key in found or len(found) < _LISTED):
            if record := record_in(line):
                found[key] = record
            else:
                broken = one.trial_id
        if len(ids) < _LISTED:
            ids[one.trial_id] = None
    records = list((exact or beginning).values())
    if len(records) == 1:
        return records[0]
    if broken and not records:
        raise UsageError(
            f"the record of {broken} is no whole one", remedy=f"`harness show {run.id}` says why"
        )
    what = f"several trials of run {run.id} begin" if records else f"no trial of run {run.id} begins"
    listed = ", ".join(dict.fromkeys(record.trial_id for record in records) or ids)
    raise UsageError(f"{what} with {name!r}", remedy=f"there are: {listed}" if listed else None)


def _measured_lines(file: Path) -> Iterator[tuple[TrialMetrics, bytes]]:
    """The lines that are records, as far as a comparison reads them."""
    for _, line in _lines(file):
        if line is not None and _NAMED in line:
            with contextlib.suppress(ValidationError):
                yield parse_metrics(line), line


def find_run(results: Path, name: str | None) -> RunFolder:
    """The run of that name (or its unique beginning), a path to one, or the last.

    Raises:
        UsageError: when there is none, or several begin so.
    """
    if name and _is_run(Path(name)):
        return RunFolder(Path(name))
    runs = list_runs(results)
    if not runs:
        raise UsageError(
            f"there are no runs in {results}", remedy="run `pytest tasks` first, or give --results"
        )
    if not name:
        return runs[-1]
    found = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    what = "several runs begin" if found else "no run begins"
    raise UsageError(f"{what} with {name!r} in {results}", remedy="`harness ls` lists them")
