"""`harness verify`: what a run's records and report say, recomputed from the evidence in its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import HarnessError, UsageError
from harness.records.files import bounded_lines, file_below, open_regular, read_bounded
from harness.records.manifest import MANIFEST, REPORT, differences, read_manifest
from harness.records.reading import find_run, record_in
from harness.records.store import MAX_RECORD, RECORD, RECORDS, RunFolder
from harness.report.html.render import first_difference
from harness.report.statement import STATEMENT, statement_text
from harness.runs.recompute import TrialCheck, abbreviate_json, contradictions, error_line
from harness.runs.verified import Verified

_DIFFERENCES = {
    "changed": "is not what it was at the run's end",
    "missing": "is missing",
    "link": "is a link, which harness never writes",
}
_CLOSE = 1e-9
_NAMED = 5
"""So many lines that are no records are told by their numbers."""


def verify(results: Path, name: str | None) -> Verified:
    """Verify a run by its name or folder; None: the last.

    Raises:
        UsageError: when there is no such run, or it has no records.
    """
    run = find_run(results, name)
    found = Verified(run.id)
    _verify_manifest(run, found)
    is_sealed = found.manifest != "missing"
    lines = _Lines(run, found)
    found.records = len(lines.last)
    for trial_id in lines.last:
        TrialCheck(run, lines.read(trial_id), found, is_sealed=is_sealed).run()
    lines.verify_superseded(found)
    _verify_folders(run, lines, found, is_sealed=is_sealed)
    _verify_statement(run, found, is_sealed=is_sealed)
    if is_sealed and (run.path / REPORT).is_file():
        _verify_report(run, found)
    return found


def _verify_manifest(run: RunFolder, found: Verified) -> None:
    try:
        known, is_whole = read_manifest(run.path)
    except (OSError, UsageError) as error:
        found.manifest = "missing"
        if not isinstance(error, FileNotFoundError):
            found.find(MANIFEST, f"cannot be read: {error_line(error)}")
        return
    if not is_whole:
        found.manifest = "differs"
        found.find(MANIFEST, "was changed: its last line is not over the others")
    found.files = len(known)
    for one in differences(run.path, known):
        if one.what == "added":
            found.unverified[f"{one.path} was added after the run's end"] += 1
        else:
            found.manifest = "differs"
            found.find(one.path, _DIFFERENCES[one.what])


class _Lines:
    """The lines of a run's records, by trial: where the last of each is, and those before it. None is kept."""

    def __init__(self, run: RunFolder, found: Verified) -> None:
        self._file = file_below(run.path, RECORDS)
        self.last: dict[str, int] = {}
        self._bad = 0
        self._earlier: list[tuple[str, int]] = []
        at = 0
        try:
            with open_regular(self._file) as file:
                for number, line in enumerate(bounded_lines(file, MAX_RECORD), 1):
                    if line is None or line.strip():
                        self._take(number, at, line, found)
                    at = file.tell()
        except OSError as error:
            raise UsageError(
                f"no records can be read from {self._file}: {error.strerror or error}",
                remedy="`harness ls` lists the runs",
            ) from error

    def _take(self, number: int, at: int, line: bytes | None, found: Verified) -> None:
        record = record_in(line or b"")
        if record is None:
            self._bad += 1
            which = f"line {number}" if self._bad <= _NAMED else "a further line"
            found.unverified[f"{which} of {RECORDS} is no record, or cut off"] += 1
            return
        if record.trial_id in self.last:
            self._earlier.append((record.trial_id, self.last[record.trial_id]))
        self.last[record.trial_id] = at

    def read(self, trial_id: str) -> Mapping[str, Any]:
        """The trial's record, as JSON values."""
        return self._read(self.last[trial_id])

    def _read(self, at: int) -> Mapping[str, Any]:
        with open_regular(self._file) as file:
            file.seek(at)
            line: Mapping[str, Any] = json.loads(file.readline())
            return line

    def verify_superseded(self, found: Verified) -> None:
        """Records of a resumed run that later ones replaced: they are attempts of those."""
        for trial_id, at in self._earlier:
            old, new = self._read(at), self.read(trial_id)
            if (old["task_hash"], old["variant_hash"]) != (new["task_hash"], new["variant_hash"]):
                found.unverified["a record of a task or variant that was changed before --resume"] += 1
                continue
            kept = [one for one in new.get("attempts") or () if one.get("started_at") == old["started_at"]]
            if not kept:
                found.find(
                    RECORDS, f"an earlier record ({old['outcome']}) is no attempt of the last", trial_id
                )
            for field in ("tokens", "cost_usd", "tokens_partial") if kept else ():
                for path, says, has in contradictions(old.get(field), kept[0].get(field), field):
                    found.find(
                        RECORDS, f"{path} of an earlier record is {says}, and in the last {has}", trial_id
                    )


def _verify_folders(run: RunFolder, lines: _Lines, found: Verified, *, is_sealed: bool) -> None:
    """Trials with a copy of their record have one in the run's file too."""
    for copy in sorted(run.path.glob(f"trials/*/*/{RECORD}")):
        name = str(copy.relative_to(run.path))
        try:
            trial_id = str(json.loads(read_bounded(file_below(run.path, name))).get("trial_id"))
        except (OSError, ValueError, AttributeError, RecursionError, UsageError):
            continue  # Its trial's own comparison tells.
        if trial_id not in lines.last and not is_sealed:
            found.unverified["a trial that was recorded only in its own folder when the run was killed"] += 1
        elif trial_id not in lines.last:
            found.find(RECORDS, f"has no record of it, and {name} has", trial_id)


def _verify_statement(run: RunFolder, found: Verified, *, is_sealed: bool) -> None:
    """Compare the run's statement at its end (counts, means, verdicts) with what its records give."""
    try:
        stated = json.loads(read_bounded(file_below(run.path, STATEMENT)))
        baseline, fail_on = (_text_or_none(stated[name]) for name in ("baseline", "fail_on"))
    except FileNotFoundError:
        if is_sealed:
            found.find(STATEMENT, "is missing")
        else:
            found.unverified["the run's verdicts: it has not said any"] += 1
        return
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        found.find(STATEMENT, f"cannot be read: {error_line(error)}")
        return
    if baseline is not None and os.sep in baseline and not baseline.startswith("git:"):
        found.unverified["verdicts against records that are not in the run's folder"] += 1
        return
    try:
        computed = json.loads(statement_text(run, baseline, fail_on))
    except HarnessError as error:
        found.find(STATEMENT, f"cannot be computed again: {error.message}")
        return
    if stated.get("harness_version") != __version__:
        found.unverified[
            f"verdicts, by harness {abbreviate_json(stated.get('harness_version'))}: this is {__version__}"
        ] += 1
        return
    for path, says, has in contradictions(stated, computed, "", whole=True):
        if not _is_close(says, has):
            found.find(
                STATEMENT,
                f"{path.removeprefix('.')} is {abbreviate_json(says)}, and by the records {abbreviate_json(has)}",
            )
    found.recomputed["verdicts and means of the report"] += 1


def _verify_report(run: RunFolder, found: Verified) -> None:
    """Make what `harness report` wrote into the folder again, and compare."""
    try:
        line = first_difference(run)
    except OSError as error:
        found.find(REPORT, f"cannot be read: {error.strerror or error}")
    except HarnessError as error:
        found.unverified[f"{REPORT}: {error.message}; `harness report` makes it again"] += 1
    else:
        found.recomputed[REPORT] += 1
        if line is not None:
            found.find(REPORT, f"line {line} is not what the records say; `harness report` makes it again")


def _text_or_none(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError("a text stands elsewhere")


def _is_close(one: object, other: object) -> bool:
    """True if two numbers differ by no more than two versions of NumPy may."""
    if not isinstance(one, float) or not isinstance(other, float):
        return False
    return abs(one - other) <= _CLOSE * max(abs(one), abs(other))
