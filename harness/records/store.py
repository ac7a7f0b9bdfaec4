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
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonlines

from harness.errors import InternalFault, UsageError
from harness.records.cut_record import STEPS, cut_record
from harness.records.files import open_regular, sha256_of
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
        self.write_raw(name, self.redact(data))
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
        content = record.line()
        line = self._encoded(content)
        for step in STEPS:
            if len(line) <= MAX_RECORD:
                break
            line = self._encoded(cut_record(content, step))
        return line

    def _encoded(self, content: Mapping[str, Any]) -> bytes:
        buffer = io.StringIO()
        with jsonlines.Writer(buffer, compact=True) as writer:
            writer.write(content)
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
