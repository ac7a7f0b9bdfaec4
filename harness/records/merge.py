"""`harness merge`: several runs, such as the shards of a CI matrix, put together as one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.records.files import file_below, open_regular
from harness.records.reading import find_run, list_runs, read_about, read_records
from harness.records.record import TrialRecord
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder, disk_fault, new_run_id

_SHOWN = 5


def merge(results: Path, names: Sequence[str], into: str | None) -> tuple[RunFolder, list[str]]:
    """Make a new run of the records and files of others, which stay as they are; and what should be said of it.

    Of a trial that several runs have, the record with a verdict is taken, and of several without one the last run's.

    Args:
        results: where the runs are, and the new one goes.
        names: the runs, by name, unique beginning or folder; a folder of runs stands for all of them.
        into: the new run's name; None: one made of the time.

    Raises:
        UsageError: when a run is not there, or two have a verdict on the same trial.
        InternalFault: when the disk does not take it.
    """
    runs = [run for name in names for run in _named_runs(results, name)]
    if len({run.path.resolve() for run in runs}) < 2:
        raise UsageError("there is nothing to merge", remedy="name two runs or more; `harness ls` lists them")
    target = results / (into or new_run_id())
    if target.exists():
        raise UsageError(f"{target} exists already", remedy="name another with --into")
    chosen, notes = _choose(runs)
    about = {
        "merged": [run.id for run in runs],
        "agent": _only(chosen, "agent"),
        "model_source": _only(chosen, "model_source"),
        **asked_in(runs),
    }
    merged = RunFolder.create(results, target.name, about, NO_REDACTION)
    try:
        for run, record in chosen.values():
            _copy_files(run, merged, record)
            renamed = record.model_copy(update={"run_id": merged.id})
            merged.write_copy(renamed)
            merged.append(renamed)
    except BaseException:
        # A part of the trials would be read as a run of its own.
        shutil.rmtree(merged.path, ignore_errors=True)
        raise
    return merged, notes


def asked_in(runs: Sequence[RunFolder]) -> dict[str, dict[str, Any]]:
    """The runs' requests together (variants' keys and texts, tasks' words): a report on the merged run shows them."""
    found: dict[str, dict[str, Any]] = {}
    for about in (read_about(run.path) for run in runs):
        for key in ("variants", "texts", "tasks"):
            if isinstance(about.get(key), dict):
                found[key] = about[key] | found.get(key, {})
    return found


def _named_runs(results: Path, name: str) -> Iterator[RunFolder]:
    """The run of that name; of a folder that is none, such as a shard's results, the runs with records in it."""
    folder = Path(name)
    if not os.path.isdir(folder) or os.path.isfile(folder / "run.json"):
        yield find_run(results, name)
        return
    # CI puts an artifact into a folder of its own, or keeps the folder `results` within.
    levels = [folder, *folder.glob("*/"), *folder.glob("*/*/")]
    found = [run for level in levels for run in list_runs(level)]
    with_records = [run for run in found if run.records_file.is_file()]
    if not with_records:
        raise UsageError(
            f"there is no run with records in {folder}", remedy="name a run, or a results folder"
        )
    yield from with_records


_Chosen = dict[str, tuple[RunFolder, TrialRecord]]


def _choose(runs: Sequence[RunFolder]) -> tuple[_Chosen, list[str]]:
    chosen: _Chosen = {}
    twice: list[str] = []
    notes: list[str] = []
    for run in runs:
        found = read_records(run.path)
        notes += [f"{bad.file}:{bad.number} is no whole record ({bad.reason})" for bad in found.bad]
        for record in found.records:
            other = chosen.get(record.trial_id)
            if other and _has_verdict(other[1]) and _has_verdict(record):
                twice.append(f"{record.trial_id} ({other[0].id}, {run.id})")
            if not other or _has_verdict(record) or not _has_verdict(other[1]):
                chosen[record.trial_id] = (run, record)
    if twice:
        shown = ", ".join(twice[:_SHOWN]) + (" ..." if len(twice) > _SHOWN else "")
        raise UsageError(
            f"these have a verdict in two of the runs ({len(twice)}): {shown}",
            remedy="merge the shards of one run; runs of the same trials can be compared, with `harness compare`",
        )
    return chosen, notes


def _has_verdict(record: TrialRecord) -> bool:
    return record.outcome in ("passed", "failed")


def _only(chosen: _Chosen, field: str) -> str:
    return ", ".join(sorted({str(getattr(record, field)) for _, record in chosen.values()}))


def _copy_files(run: RunFolder, merged: RunFolder, record: TrialRecord) -> None:
    source = file_below(run.path, run.trial(record.task, record.variant, record.index).relative)
    target = merged.trial(record.task, record.variant, record.index).path
    try:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)
    except shutil.Error as error:
        name, _, why = error.args[0][0]
        raise UsageError(
            f"{name} cannot be copied: {why}", remedy="remove it there, if it is not needed"
        ) from error
    except OSError as error:
        raise disk_fault(target, error) from error


def _copy_file(source: str, target: str) -> None:
    open_regular(Path(source)).close()  # refuses what cannot be one of a run's files
    shutil.copy2(source, target)
