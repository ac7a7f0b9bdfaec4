"""A run's folder under `results/`: records appended one by one, and beside them transcripts, diffs and outputs.

```
results/RUN/
  run.json                     what was asked for: options, versions, tasks
  records.jsonl                one record a line, appended and flushed the moment a trial ends
  manifest.sha256              the hash of each file, once the run has ended; report.json has what it came to
  trials/TASK/VARIANT-tN/      transcript.jsonl, diff.patch, stderr.txt, checks/NAME.txt, attempt-K/ of faulty attempts,
                               record.json, which is its line of records.jsonl once more
```
Several processes may append to the same run. Secrets are taken out of everything on its way in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import itertools
import json
import os
import re
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import jsonlines
from pydantic import ValidationError

from harness.errors import InternalFault, UsageError
from harness.records.files import bounded_lines, file_below, open_regular, read_bounded, sha256_of
from harness.records.metrics import TrialMetrics, parse
from harness.records.record import TrialRecord
from harness.records.redaction import NO_REDACTION, Redactor

RECORDS = "records.jsonl"
RECORD = "record.json"
"""In a trial's folder: its record once more."""
TRANSCRIPT = "transcript.jsonl"
ABOUT = "run.json"
_LOCK = "lock"
MAX_RECORD = 16 * 1024 * 1024
"""A longer line is no record: nobody's memory has to hold it."""
_NAME_CHARS = 150


_RUN_ID_TIME = re.compile(r"\d{8}-\d{6}-")


def new_run_id(now: datetime | None = None) -> str:
    """A name that sorts by time and does not meet another's: `20261123-090141-3f9c`."""
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial. Paths in records are relative to the run's folder."""

    run: Path
    relative: str
    redact: Redactor = NO_REDACTION

    @property
    def path(self) -> Path:
        """The folder itself; it exists once something was written."""
        return self.run / self.relative

    def write(self, name: str, data: bytes) -> str:
        """Write a file whole, and return its path for the record.

        Raises:
            InternalFault: when the disk does not take it.
        """
        target = self.path / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.redact(data))
        except OSError as error:
            raise disk_fault(target, error) from error
        return f"{self.relative}/{name}"

    def write_raw(self, name: str, data: bytes) -> Path:
        """Write a file as it is, secrets and all, and return where it is.

        Raises:
            InternalFault: when the disk does not take it.
        """
        target = self.path / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        except OSError as error:
            raise disk_fault(target, error) from error
        return target

    def remove(self, name: str) -> None:
        """Remove a folder, if it is there."""
        shutil.rmtree(self.path / name, ignore_errors=True)

    def keep_without_secrets(self, name: str) -> tuple[str | None, tuple[str, ...]]:
        """Keep a folder, but for its files that hold a secret; its path for the record, and what is to be told."""
        folder = self.path / name
        if not folder.is_dir():
            return None, ()
        held = [file for file in sorted(folder.rglob("*")) if file.is_file() and self.redact.is_in(file)]
        if not held:
            return f"{self.relative}/{name}", ()
        shutil.rmtree(folder)
        return None, ("what the agent left is not kept: it holds a secret of the run",)

    def hashes(self, name: str) -> dict[str, str]:
        """SHA-256 of each file of a folder, by its path in it.

        Raises:
            InternalFault: when one cannot be read.
        """
        folder = self.path / name
        files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
        try:
            return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
        except OSError as error:
            raise disk_fault(folder, error) from error

    def line_writer(self, name: str) -> LineWriter:
        """A file that grows line by line while the trial runs."""
        return LineWriter(self, name)

    def attempt(self, number: int) -> TrialFolder:
        """The folder for the files of an attempt that a fault ended."""
        return TrialFolder(self.run, f"{self.relative}/attempt-{number}", self.redact)

    def attempts(self) -> list[TrialFolder]:
        """The attempts whose transcripts were put aside, oldest first."""
        found = (self.attempt(number) for number in itertools.count(1))
        return list(itertools.takewhile(lambda attempt: (attempt.path / TRANSCRIPT).is_file(), found))

    def archive_transcript(self, number: int) -> str | None:
        """Make this attempt's transcript that of attempt `number`, and return its path; None when there is none.

        Raises:
            InternalFault: when it cannot be moved.
        """
        source, target = self.path / TRANSCRIPT, self.attempt(number)
        if not source.is_file():
            return None
        try:
            target.path.mkdir(parents=True, exist_ok=True)
            source.rename(target.path / TRANSCRIPT)
        except OSError as error:
            raise disk_fault(target.path, error) from error
        return f"{target.relative}/{TRANSCRIPT}"


class LineWriter:
    """Appends whole lines to a file of a trial; the file is made with the first."""

    def __init__(self, folder: TrialFolder, name: str) -> None:
        self._folder = folder
        self._file: io.FileIO | None = None
        self._target = folder.path / name
        self.path = f"{folder.relative}/{name}"

    @property
    def started(self) -> bool:
        """True if anything was written."""
        return self._file is not None

    def write(self, line: bytes) -> None:
        """Append one line (its end is added), whole or not at all, and hand it to the system.

        Raises:
            InternalFault: when the disk does not take it.
        """
        try:
            if self._file is None:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._file = io.FileIO(self._target, "w")
            _write_whole(self._file.fileno(), self._folder.redact(line.rstrip(b"\n")) + b"\n")
        except OSError as error:
            raise disk_fault(self._target, error) from error

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file:
            self._file.close()

    def move(self, folder: TrialFolder) -> None:
        """Close the file, and put it into another folder under the same name."""
        self.close()
        if self._file:
            target = folder.path / self._target.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._target.rename(target)
            except OSError as error:
                raise disk_fault(target, error) from error
            self._target, self.path = target, f"{folder.relative}/{target.name}"


def disk_fault(path: Path, error: OSError) -> InternalFault:
    """The fault that a failed write means. Every other trial would meet it too."""
    return InternalFault("disk", f"{path} cannot be written: {error.strerror or error}")


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path, redact: Redactor = NO_REDACTION) -> None:
        self.path = path
        self.id = path.name
        self.redact = redact
        self._journal = _GroupCommit(self.records_file)

    @classmethod
    def create(cls, results: Path, run_id: str, about: Mapping[str, Any], redact: Redactor) -> RunFolder:
        """Make a run's folder, or join it where another process of the same run has made it.

        Raises:
            UsageError: when `results` cannot be written to.
        """
        folder = cls(results / run_id, redact)
        try:
            _make_results(results)
            folder.path.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"run_id": run_id, **about}, indent=2)
            with (
                contextlib.suppress(FileExistsError),
                (folder.path / "run.json").open("x", encoding="utf-8") as file,
            ):
                file.write(redact.text(text) + "\n")
        except OSError as error:
            raise UsageError(
                f"the results folder {folder.path} cannot be made: {error.strerror or error}",
                remedy="name another with --results",
            ) from error
        return folder

    @property
    def records_file(self) -> Path:
        """The run's JSON Lines file."""
        return self.path / RECORDS

    def trial(self, task: str, variant: str, index: int) -> TrialFolder:
        """The folder of one trial."""
        return TrialFolder(
            self.path, f"trials/{_file_name(task)}/{_file_name(variant)}-t{index}", self.redact
        )

    def lock(self) -> RunLock:
        """Claim the run for this process, as long as it lives or until the lock is released.

        Raises:
            UsageError: when another process has it.
        """
        return RunLock(self.path)

    def append(self, record: TrialRecord) -> None:
        """Append a record, whole or not at all, and make it last (fsync).

        Raises:
            InternalFault: when the disk does not take it; the file is as it was before.
        """
        self.prepare_append(record)()

    def write_copy(self, record: TrialRecord) -> None:
        """Write a record into its trial's folder, before it is appended to the others: `harness verify` compares them.

        Raises:
            InternalFault: when the disk does not take it.
        """
        self.trial(record.task, record.variant, record.index).write_raw(RECORD, self._line_of(record))

    def _line_of(self, record: TrialRecord) -> bytes:
        buffer = io.StringIO()
        with jsonlines.Writer(buffer, compact=True) as writer:
            writer.write(record.line())
        # A lone surrogate (from a name or an output that is no UTF-8) would make the line unreadable.
        return self.redact(buffer.getvalue().encode("utf-8", "replace"))

    def prepare_append(self, record: TrialRecord) -> Callable[[], None]:
        """A function that appends a record, as `append` does. The first of many that is called appends all of them."""
        written = self._journal.queue(self._line_of(record))

        def append() -> None:
            try:
                self._journal.write(written)
            except OSError as error:
                raise disk_fault(self.records_file, error) from error

        return append


def _make_results(results: Path) -> None:
    """Make the folder with the runs, where it is not there yet; git passes over a new one."""
    if results.exists():
        return
    results.mkdir(parents=True, exist_ok=True)
    (results / ".gitignore").write_text("*\n", encoding="utf-8")


class _GroupCommit:
    """Appends lines to a file and makes them last; those that wait go together, with one fsync."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[tuple[bytes, Future[None]]] = deque()
        self._writing = threading.Lock()

    def queue(self, line: bytes) -> Future[None]:
        """Have a line written with the next."""
        written: Future[None] = Future()
        self._waiting.append((line, written))
        return written

    def write(self, written: Future[None]) -> None:
        """Return when this line is on the disk. Raises OSError when it is not; the file is as it was before then."""
        with self._writing:
            # Whoever held the lock may have written this line with its own.
            if not written.done():
                self._write_all()
        written.result()

    def _write_all(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            _append(self._path, b"".join(line for line, _ in taken))
        except BaseException as error:
            for _, written in taken:
                written.set_exception(error)
            raise
        else:
            for _, written in taken:
                written.set_result(None)


class RunLock:
    """Says that a run is being worked on. The system takes it away from a process that dies."""

    def __init__(self, run: Path) -> None:
        self._descriptor = os.open(run / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise UsageError(
                f"run {run.name} is being worked on by another process", remedy="wait for it, or stop it"
            ) from error

    @staticmethod
    def is_held(run: Path) -> bool:
        """True if a process works on a run. What stands in the lock's place may be anything, and is not waited for."""
        try:
            with open_regular(run / _LOCK) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def release(self) -> None:
        """Let others have the run."""
        os.close(self._descriptor)


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        end = os.lseek(descriptor, 0, os.SEEK_END)
        torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
        _write_whole(descriptor, b"\n" + line if torn else line, lasting=True)
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, data: bytes, *, lasting: bool = False) -> None:
    """Write at the present position, which is the file's end; where that fails, the file is as it was before."""
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        if lasting:
            os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, start)
        os.lseek(descriptor, start, os.SEEK_SET)
        raise


def _file_name(name: str) -> str:
    """A name for a file: the given one where it can be, else one like it that no other name gets."""
    safe = re.sub(r"[^A-Za-z0-9_.=-]", "_", name).lstrip(".")[:_NAME_CHARS]
    if name and safe == name:
        return name
    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


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
    """What to raise where nothing is left to tell of: it says what was left out, and why."""
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
    return _read(file, _lines(file), parse)


def _file_of(path: Path) -> Path:
    """A records file, or a run's own: that of another, which a link would lead to, is not the run's."""
    return file_below(path, RECORDS) if path.is_dir() else path


def measured_in(data: bytes, name: str) -> Records[TrialMetrics]:
    """The same for a records file's content; `name` is what to call it."""
    return _read(Path(name), _numbered(data.splitlines()), parse)


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
        # Where in the line it goes wrong is of no use to anybody: mostly at its end, where a process was killed.
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
    # What is no possible name raises, too.
    return os.path.isfile(folder / ABOUT)


def read_about(run: Path) -> dict[str, Any]:
    """What a run was asked for; empty where that cannot be read."""
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
                yield parse(line), line


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
