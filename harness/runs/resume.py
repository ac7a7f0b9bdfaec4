"""A run that is resumed: its records that are still valid, and the attempts behind the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import TaskFault
from harness.records.events import parse_line
from harness.records.files import bounded_lines, open_regular
from harness.records.prices import Price
from harness.records.reading import read_records
from harness.records.record import TrialRecord
from harness.records.record_parts import AttemptRecord, ErrorRecord
from harness.records.session_fields import session_fields
from harness.records.store import TRANSCRIPT, RunFolder, TrialFolder
from harness.records.stream import SessionBuilder
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.templates import name_by_content
from harness.trials.attempt import INTERRUPTED


@dataclass(frozen=True)
class ResumedRun:
    """The records of a run that is resumed; a new run has none."""

    folder: RunFolder | None = None
    records: Mapping[str, TrialRecord] = field(default_factory=dict)
    _templates: dict[tuple[str, Path], str | None] = field(default_factory=dict)

    def reusable_record(self, spec: TrialSpec, model_source: str) -> TrialRecord | None:
        """The record that makes another trial needless, if there is one.

        It must have come to a verdict, on the same task, variant and template by content, with the same agent and
        source of replies.
        """
        record = self.records.get(spec.id)
        if record is None or record.outcome not in ("passed", "failed"):
            return None
        actual = (record.task_hash, record.variant_hash, record.template, record.agent, record.model_source)
        wanted = (spec.task.hash, spec.variant.hash, self._template(spec), spec.agent, model_source)
        return record if actual == wanted else None

    def _template(self, spec: TrialSpec) -> str | None:
        """The name of the trial's template by its content now; None when there is none to be had."""
        key = (spec.template, spec.task.path or Path.cwd())
        if key not in self._templates:
            try:
                self._templates[key] = name_by_content(*key)
            except TaskFault:
                self._templates[key] = None  # The trial will meet the same fault, and report it.
        return self._templates[key]

    def attempts(self, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """The attempts at a trial that is to be run again: their spend is real, and their transcripts are kept.

        Raises:
            InternalFault: when the files of the last one cannot be put aside.
        """
        if self.folder is None:
            return ()
        files = self.folder.trial(spec.task.name, spec.variant.name, spec.index)
        record = self.records.get(spec.id)
        if record is None:
            # A kill left the transcripts, and no record of them.
            files.archive_transcript(len(files.attempts()) + 1)
            prices = spec.variant.prices
            return [
                _of_transcript(attempt, number, prices) for number, attempt in enumerate(files.attempts(), 1)
            ]
        if (record.task_hash, record.variant_hash) != (spec.task.hash, spec.variant.hash):
            return ()  # It was another task or variant.
        number = len(record.attempts) + 1
        return (*record.attempts, _of_record(record, number, files.archive_transcript(number)))


def load_resumed_run(folder: RunFolder) -> ResumedRun:
    """Read the records of a run that is resumed.

    Raises:
        UsageError: when its records cannot be read.
    """
    records = read_records(folder.path).records if folder.records_file.is_file() else ()
    return ResumedRun(folder, {record.trial_id: record for record in records})


def _of_record(record: TrialRecord, number: int, transcript: str | None) -> AttemptRecord:
    error = record.error or ErrorRecord(
        cause="harness", type=record.outcome, message="its verdict did not count"
    )
    return AttemptRecord(
        number=number,
        error=error,
        sandbox_id=record.sandbox_id,
        started_at=record.started_at,
        duration_ms=record.phases_ms.total or 0,
        tokens=record.tokens,
        tokens_partial=record.tokens_partial,
        cost_usd=record.cost_usd,
        transcript=transcript,
    )


def _of_transcript(files: TrialFolder, number: int, prices: Mapping[str, Price]) -> AttemptRecord:
    with open_regular(files.path / TRANSCRIPT) as file:
        lines = (line for line in bounded_lines(file) if line and line.strip())
        session = SessionBuilder().add_all(map(parse_line, lines)).session()
    fields = session_fields(session, prices)
    return AttemptRecord(
        number=number,
        error=ErrorRecord(
            cause="harness", type=INTERRUPTED, message="the harness was killed before it could record this"
        ),
        sandbox_id=None,
        started_at=None,
        duration_ms=None,
        tokens=fields["tokens"],
        tokens_partial=True,
        cost_usd=fields["cost_usd"],
        transcript=f"{files.relative}/{TRANSCRIPT}",
    )
