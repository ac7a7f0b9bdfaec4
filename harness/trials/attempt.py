"""One attempt at a trial, and the record that attempts come to."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from harness import __version__
from harness.errors import Fault, InternalFault
from harness.models.model import TaskRecording
from harness.records.egress import ApiSight, Refusal
from harness.records.prices import Price
from harness.records.record import Outcome, Stop, TrialRecord
from harness.records.record_parts import (
    AttemptRecord,
    CheckResult,
    ErrorRecord,
    InstructionsRecord,
    Phases,
    SandboxRecord,
    StartRecord,
    Tampering,
    TokenCounts,
    score_of,
)
from harness.records.session import Session
from harness.records.session_fields import forgeries, notes_of, session_fields
from harness.records.store import TRANSCRIPT, LineWriter, TrialFolder
from harness.records.stream import SessionBuilder
from harness.records.trial_spec import TrialSpec
from harness.tasks.task import Check
from harness.trials.checks import failed_check
from harness.trials.context import RunContext
from harness.trials.sight import api_record, refusal_notes, sight_notes

_PHASE_NAMES = {"build": "building template", "create": "starting sandbox", "seed": "uploading"}

INTERRUPTED = "interrupted"
"""The type of the error of a trial that was cut off."""


@dataclass
class Attempt:
    """One attempt, filled in as it goes: nothing is lost when it breaks off.

    `early_stderr` is that of the prompts before which the agent had called no tool.
    `is_sandbox_lost`: the platform, which answers, has not got the sandbox of an agent that had called a tool.
    `verdict` is a Python test's own, where one judges in the checks' agent_context.
    """

    number: int
    files: TrialFolder
    transcript: LineWriter
    started_at: str = field(default_factory=lambda: _now())
    started_monotonic: float = field(default_factory=time.monotonic)
    phases: dict[str, int] = field(default_factory=dict)
    _phase_stack: list[str] = field(default_factory=list)
    repo_commit: str | None = None
    recording: TaskRecording | None = None
    sandbox_id: str | None = None
    template: str | None = None
    template_id: str | None = None
    network_enforced: bool | None = None
    session_builder: SessionBuilder | None = None
    stop: Stop | None = None
    checks: tuple[CheckResult, ...] = ()
    tampering: tuple[Tampering, ...] = ()
    diff: str | None = None
    notes: tuple[str, ...] = ()
    fault: Fault | None = None
    is_sandbox_lost: bool = False
    test_passed: bool | None = None
    kept: bool = False
    is_collected: bool = False
    grading_sandbox_id: str | None = None
    ignored: tuple[str, ...] = ()
    work: str | None = None
    work_hashes: Mapping[str, str] = field(default_factory=dict)
    has_own_secret: bool = False
    differences: tuple[str, ...] = ()
    instructions: tuple[InstructionsRecord, ...] = ()
    starts: tuple[StartRecord, ...] = ()
    api: ApiSight | None = None
    refused: tuple[Refusal, ...] = ()
    api_unseen: str | None = None
    sent: str | None = None
    stderr: str = ""
    early_stderr: str = ""
    stderr_file: str | None = None
    claude_sha256: str | None = None

    @classmethod
    def begin(cls, spec: TrialSpec, context: RunContext, number: int) -> Attempt:
        """A new attempt at a trial, its files in the trial's folder."""
        files = context.folder.trial(spec.task.name, spec.variant.name, spec.index)
        return cls(number, files, files.line_writer(TRANSCRIPT))

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, also when it breaks off; one that comes again is added up, one within another taken off it."""
        start = time.monotonic()
        self._phase_stack.append(name)
        try:
            yield
        finally:
            self._phase_stack.pop()
            took = _ms(start)
            self.phases[name] = self.phases.get(name, 0) + took
            for outer in self._phase_stack[-1:]:
                self.phases[outer] = self.phases.get(outer, 0) - took

    @property
    def doing(self) -> str:
        """The phase that it is in, as a person would name it; empty between two."""
        stack = self._phase_stack
        return _PHASE_NAMES.get(stack[-1], stack[-1]) if stack else ""

    def note(self, sentence: str) -> None:
        """Something that a reader of the record should know."""
        self.notes += (sentence,)

    def take_stderr(self, text: str) -> None:
        """Take in what Claude Code wrote on stderr for a prompt."""
        if text.strip():
            said = f"{text.rstrip()}\n"
            self.stderr += said
            self.early_stderr += "" if self.session.is_late else said

    def redact_also(self, name: str, secret: str) -> None:
        """Keep a secret of the sandbox's own out of the trial's files, none of which is begun yet."""
        self.has_own_secret = True
        self.files = replace(self.files, redact=self.files.redact.knowing({name: secret}))
        self.transcript = self.files.line_writer(TRANSCRIPT)

    @property
    def session(self) -> Session:
        """The session so far, from the transcript."""
        return self.session_builder.session() if self.session_builder else Session()

    def judge_lost_sandbox(self, checks: Sequence[Check]) -> None:
        """Make it a failure: nothing of what the agent did can be judged, and not for the first time."""
        assert self.fault, "a sandbox that is lost is a fault"
        why = f"the agent's sandbox was lost again after a tool call: {self.fault.message}"
        self.checks = tuple(failed_check(check, why) for check in checks)
        self.stop, self.fault = "sandbox_lost", None
        self.note(why)

    def archive_transcript(self) -> None:
        """Make room for the next attempt; this one's transcript is kept."""
        self.transcript.move(self.files.attempt(self.number))

    def end(self) -> None:
        """Nothing more comes."""
        self.transcript.close()
        self.phases["total"] = _ms(self.started_monotonic)


def internal_fault(error: Exception, files: TrialFolder) -> InternalFault:
    """A defect of ours, its traceback kept in the trial's folder."""
    told = "".join(traceback.format_exception(error))
    with contextlib.suppress(InternalFault):
        files.write("traceback.txt", told.encode("utf-8", "replace"))
    fault = InternalFault(
        "bug",
        f"{type(error).__name__}: {error}",
        remedy="this is a defect of harness; traceback.txt in the trial's folder says where",
    )
    fault.__cause__ = error
    return fault


def interrupted() -> InternalFault:
    """The fault of a trial that is cut off."""
    return InternalFault(INTERRUPTED, "the run was stopped before this trial had ended")


def trial_record(
    spec: TrialSpec, context: RunContext, attempts: Sequence[Attempt], earlier: Sequence[AttemptRecord] = ()
) -> TrialRecord:
    """The record of a trial, from its attempts; the last one decides. `earlier` are those of a run that is resumed."""
    last = attempts[-1]
    record = TrialRecord(
        **_fields_of_spec(spec, context),
        differences=last.differences,
        instructions=last.instructions,
        starts=last.starts,
        stderr=last.stderr_file,
        claude_sha256=last.claude_sha256,
        outcome=outcome_of(last),
        score=score_of(last.checks),
        checks=last.checks,
        stop=last.stop,
        phases_ms=Phases(**last.phases),
        api=last.api and api_record(last.api, last.session, last.sent),
        api_unseen=last.api_unseen,
        repo_commit=last.repo_commit,
        replay_by_hand=last.recording.by_hand if last.recording else None,
        template=last.template or spec.template,
        sandbox=_sandbox_record(context, last),
        sandbox_id=last.sandbox_id,
        grading_sandbox_id=last.grading_sandbox_id,
        graded_in=_graded_in(spec, last),
        ignored=last.ignored,
        judged_by="checks" if last.test_passed is None else "test",
        work=last.work,
        work_hashes=last.work_hashes,
        kept=last.kept,
        error=ErrorRecord.of(last.fault) if last.fault else None,
        attempts=(*earlier, *(_attempt_record(attempt, spec.variant.prices) for attempt in attempts[:-1])),
        tampering=(*last.tampering, *forgeries(last.session, TRANSCRIPT)),
        transcript=last.transcript.path if last.transcript.started else None,
        diff=last.diff,
        notes=(
            *last.notes,
            *notes_of(last.session),
            *sight_notes(last.api, last.session),
            *refusal_notes(last.refused),
        ),
        started_at=attempts[0].started_at,
        finished_at=_now(),
        **session_fields(last.session, spec.variant.prices),
    )
    return _without_secrets(record, [attempt for attempt in attempts if attempt.has_own_secret])


def _fields_of_spec(spec: TrialSpec, context: RunContext) -> dict[str, Any]:
    """The fields that were known before the trial began."""
    return {
        "run_id": context.folder.id,
        "trial_id": spec.id,
        "task": spec.task.name,
        "task_hash": spec.task.hash,
        "variant": spec.variant.name,
        "variant_hash": spec.variant.hash,
        "variant_place": spec.variant.position,
        "asked": spec.variant.as_record(),
        "index": spec.index,
        "agent": spec.agent,
        "model_source": context.model.source,
        "model_key": context.model.key_place,
        "git_commit": context.git_commit,
        "harness_version": __version__,
        "tags": spec.task.tags,
    }


def _sandbox_record(context: RunContext, attempt: Attempt) -> SandboxRecord:
    return SandboxRecord(
        kind=context.platform.kind,
        isolation=context.platform.isolation,
        enforces=context.platform.enforces,
        network_enforced=attempt.network_enforced,
        shortcoming=context.platform.shortcoming,
        stream_kept=_stream_kept(context, attempt),
        template_id=attempt.template_id,
    )


def _without_secrets(record: TrialRecord, hiding: Sequence[Attempt]) -> TrialRecord:
    """The record without the sandboxes' own secrets, which the run does not know: checks may have printed them."""
    if not hiding:
        return record
    text = record.model_dump_json()
    for attempt in hiding:
        text = attempt.files.redact.text(text)
    return TrialRecord.model_validate_json(text)


def outcome_of(attempt: Attempt) -> Outcome:
    """The outcome. A trial that broke, or whose variant was not applied, is judged by nobody."""
    if attempt.fault:
        return "error"
    if attempt.differences:
        return "invalid"
    if attempt.test_passed is not None:
        return "passed" if attempt.test_passed else "failed"
    return "passed" if attempt.checks and all(check.passed for check in attempt.checks) else "failed"


def _graded_in(spec: TrialSpec, attempt: Attempt) -> Literal["fresh", "agent"] | None:
    if not attempt.checks:
        return None
    return "agent" if spec.task.grade_in_agents_sandbox else "fresh"


def _stream_kept(context: RunContext, attempt: Attempt) -> Literal["server pipe", "user file"] | None:
    if not attempt.session.session_id:
        return None
    return "server pipe" if context.platform.keeps_output else "user file"


def _attempt_record(attempt: Attempt, prices: Mapping[str, Price]) -> AttemptRecord:
    assert attempt.fault, "only a fault makes another attempt"
    fields: dict[str, Any] = session_fields(attempt.session, prices)
    return AttemptRecord(
        number=attempt.number,
        error=ErrorRecord.of(attempt.fault),
        sandbox_id=attempt.sandbox_id,
        started_at=attempt.started_at,
        duration_ms=attempt.phases["total"],
        tokens=fields.get("tokens", TokenCounts()),
        tokens_partial=fields["tokens_partial"],
        cost_usd=fields["cost_usd"],
        transcript=attempt.transcript.path if attempt.transcript.started else None,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(start: float) -> int:
    return round((time.monotonic() - start) * 1000)
