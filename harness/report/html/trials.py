"""A trial's transcript, diff and checks, packed for the page: JSON, gzip, base64.

A browser unpacks a trial when a reader opens it, so that a page of thousands opens at once. A text that is too long is
cut in the middle, with a note that says how much is missing and which file has it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any

from harness.errors import InternalFault, UsageError
from harness.records.events import parse_transcript
from harness.records.files import file_below, open_regular
from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult
from harness.report.formatting import seconds
from harness.report.sanitize import sanitize
from harness.report.transcript import TranscriptEntry, entries
from harness.report.trial_summary import check_verdict, summary_facts

_LEVEL = 5
_MOST_READ = 32_000_000
_MOST_OF_ALL = 120_000_000
_ONE_PROCESS = 400
_AT_ONCE = 16
_TESTS = 30


@dataclass(frozen=True)
class PackLimits:
    """The most characters of a trial in the page: of its whole transcript, of one piece of it, and of its diff."""

    transcript: int = 600_000
    piece: int = 30_000
    diff: int = 200_000

    @classmethod
    def for_trials(cls, trials: int) -> PackLimits:
        """Smaller for many trials, so that a browser can open the page at once."""
        share = _MOST_OF_ALL // max(1, trials)
        return cls(min(cls.transcript, share), min(cls.piece, share // 8), min(cls.diff, share // 4))


def pack_trial(run: Path, record: TrialRecord, limits: PackLimits) -> str:
    """A trial for the page, in characters that mean nothing in HTML. `run` is its run's folder."""
    text = json.dumps(_TrialPacker(run, record, limits).content(), ensure_ascii=False, separators=(",", ":"))
    data = gzip.compress(text.encode("utf-8", "replace"), _LEVEL, mtime=0)
    return base64.b64encode(data).decode("ascii")


def pack_trials(trials: Sequence[tuple[Path, TrialRecord]]) -> Iterator[str]:
    """Many trials with their runs' folders, packed in order; thousands use all of the machine's cores.

    Raises:
        InternalFault: when a process that packs is killed.
    """
    limits = PackLimits.for_trials(len(trials))
    runs, records = [run for run, _ in trials], [record for _, record in trials]
    if len(trials) < _ONE_PROCESS:
        yield from map(pack_trial, runs, records, repeat(limits))
        return
    pool = ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=signal, initargs=(SIGINT, SIG_IGN)
    )
    try:
        yield from pool.map(pack_trial, runs, records, repeat(limits), chunksize=_AT_ONCE)
    except BrokenProcessPool as error:
        raise InternalFault(
            "killed",
            "a process that packs trials was ended from outside, perhaps for want of memory",
        ) from error
    finally:
        # After an early stop, by Ctrl-C or a full disk, only the trials that are being packed are waited for.
        pool.shutdown(cancel_futures=True)


class _TrialPacker:
    def __init__(self, run: Path, record: TrialRecord, limits: PackLimits) -> None:
        self._run = run
        self._record = record
        self._limits = limits

    def content(self) -> dict[str, Any]:
        transcript, transcript_note = self._transcript()
        diff, diff_note = self._diff()
        return {
            "facts": [[name, sanitize(value)] for name, value in summary_facts(self._record)],
            "notices": [sanitize(notice) for notice in _notices(self._record)],
            "transcript": transcript,
            "transcript_note": transcript_note,
            "diff": diff,
            "diff_note": diff_note,
            "outcome": self._record.outcome,
            "checks": [
                self._check(check) for check in sorted(self._record.checks, key=lambda check: check.passed)
            ],
            "record": self._record.line(),
        }

    def _transcript(self) -> tuple[list[dict[str, Any]], str | None]:
        relative = self._record.transcript
        data, note = self._file(relative, "transcript")
        if data is None:
            return [], note
        shown = _steps(entries(parse_transcript(data)), self._limits.piece)
        kept, left_out = _within(shown, self._limits.transcript)
        if left_out:
            note = f"{left_out} of {len(shown)} steps are left out here; {self._where(relative)} has all of them."
        return kept, note

    def _diff(self) -> tuple[str | None, str | None]:
        relative = self._record.diff
        data, note = self._file(relative, "diff")
        if data is None:
            return None, note
        text = sanitize(data.decode("utf-8", "replace"))
        if len(text) > self._limits.diff:
            note = f"Only its first {self._limits.diff:,} of {len(text):,} characters; {self._where(relative)} has all."
            text = text[: self._limits.diff]
        return text, note

    def _check(self, check: CheckResult) -> dict[str, Any]:
        output = check.output_tail.strip("\n")
        after = f"after prompt {check.turn}, " if check.turn else ""
        return {
            "name": sanitize(check.name),
            "passed": check.passed,
            "verdict": check_verdict(check),
            "about": f"{after}score {check.score:g}, {seconds(check.duration_ms)}",
            "tests": _failed_tests(check),
            "output": _cut(sanitize(output), self._limits.piece),
            "file": self._where(check.output) if check.output and output else None,
        }

    def _file(self, relative: str | None, what: str) -> tuple[bytes | None, str | None]:
        """A file of the run and a note on it. A record that points out of its run's folder gets nothing."""
        if relative is None:
            return None, f"This trial has no {what}: it ended before there was one."
        try:
            path = file_below(self._run, relative)
        except UsageError:
            return None, f"The record names a {what} outside of its run's folder: {sanitize(relative)}"
        if not path.is_file():
            return None, f"The {what} is missing: {self._where(relative)} is not there."
        try:
            with open_regular(path) as stream:
                data = stream.read(_MOST_READ + 1)
        except OSError as error:
            return None, f"The {what} cannot be read: {self._where(relative)}: {error.strerror}"
        if len(data) <= _MOST_READ:
            return data, None
        return data[:_MOST_READ], f"Only the file's first {_MOST_READ:,} bytes; see {self._where(relative)}."

    def _where(self, relative: str | None) -> str:
        return sanitize(f"{self._run.name}/{relative}") if relative else ""


def _failed_tests(check: CheckResult) -> list[str]:
    """The first of a check's tests that did not pass, with what they came to."""
    failed = [test for test in check.tests or () if test.outcome not in ("passed", "skipped")]
    more = [f"and {len(failed) - _TESTS} more"] if len(failed) > _TESTS else []
    return [sanitize(f"{test.name}: {test.outcome}") for test in failed[:_TESTS]] + more


def _notices(record: TrialRecord) -> Iterable[str]:
    """Sentences that a reader must know of the trial before all else."""
    if record.error:
        remedy = f" ({record.error.remedy})" if record.error.remedy else ""
        yield f"{record.error.cause} fault, {record.error.type}: {record.error.message}{remedy}"
    for attempt in record.attempts:
        where = f"; its transcript: {attempt.transcript}" if attempt.transcript else ""
        yield f"Attempt {attempt.number} was broken off: {attempt.error.message}{where}"
    yield from record.differences
    for change in record.tampering:
        yield f"{change.sentence[0].upper()}{change.sentence[1:]}."
    yield from record.notes


def _steps(found: Iterable[TranscriptEntry], piece: int) -> list[dict[str, Any]]:
    """Entries as the page's steps, each result in the step of its call."""
    steps: list[dict[str, Any]] = []
    calls: dict[str, dict[str, Any]] = {}
    for entry in found:
        call = calls.pop(entry.call, None) if entry.kind == "result" and entry.call else None
        if call is not None:
            call["result"] = _cut(sanitize(entry.body), piece)
            call["error"] = entry.error
            continue
        step = _step(entry, piece)
        steps.append(step)
        if entry.kind == "tool" and entry.call:
            calls[entry.call] = step
    return steps


def _step(entry: TranscriptEntry, piece: int) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "title": _cut(sanitize(entry.title), piece),
        "body": _cut(sanitize(entry.body), piece),
        "error": entry.error,
        "inside": entry.subagent,
    }


def _cut(text: str, most: int) -> str:
    """The text, or its beginning and its end with the number of characters between."""
    if len(text) <= most:
        return text
    head, tail = most * 3 // 4, most // 4
    return f"{text[:head]}\n… {len(text) - head - tail:,} characters left out …\n{text[len(text) - tail :]}"


def _within(steps: Sequence[dict[str, Any]], most: int) -> tuple[list[dict[str, Any]], int]:
    """The first and the last steps that fit, with a note between them, and how many are left out."""
    sizes = [len(step["title"]) + len(step["body"]) + len(step.get("result", "")) for step in steps]
    if sum(sizes) <= most:
        return list(steps), 0
    first = _fitting(sizes, most * 3 // 4)
    last = _fitting(sizes[: first - 1 : -1] if first else sizes[::-1], most // 4)
    gap = len(steps) - first - last
    note = TranscriptEntry("note", f"{gap} steps are left out here")
    return [*steps[:first], _step(note, most), *steps[len(steps) - last :]], gap


def _fitting(sizes: Sequence[int], most: int) -> int:
    total = 0
    for number, size in enumerate(sizes):
        total += size
        if total > most:
            return number
    return len(sizes)
