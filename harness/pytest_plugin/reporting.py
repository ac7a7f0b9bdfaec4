"""The words in which pytest reports a trial: its failure, its fault, its numbers; and without secrets."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.errors import Fault, NotAppliedError, UsageError
from harness.records.record import CheckResult, TrialRecord
from harness.records.redaction import Redactor
from harness.report.formatting import cost, count, seconds
from harness.report.sanitize import sanitize


class TrialFailedError(Exception):
    """A trial's checks did not all pass."""

    def __init__(self, record: TrialRecord) -> None:
        super().__init__(record.trial_id)
        self.record = record


class TrialFaultError(Exception):
    """Infrastructure broke a trial: pytest's ERROR."""

    def __init__(self, fault: Fault, record: TrialRecord | None) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.record = record


def failed_lines(record: TrialRecord, results: Path) -> Iterator[str]:
    """Lines about the checks that failed, their output, and the command that shows more of it."""
    passed = [check for check in record.checks if check.passed]
    failed = ", ".join(check.name for check in record.checks if not check.passed)
    if failed:
        yield f"{len(passed)} of {len(record.checks)} checks passed; failed: {failed}"
    else:
        yield "the test itself has failed, as the run that is resumed says"
    for check in record.checks:
        yield from _check_lines(check)
    for change in record.tampering:
        yield f"note: {change.sentence}"
    for note in record.notes:
        yield f"note: {note}"
    if record.stop != "completed":
        yield f"note: the agent was stopped: {record.stop}"
    where = "" if results == Path.cwd() / "results" else f" --results {shlex.quote(os.path.relpath(results))}"
    yield f"all of it: harness show {shlex.quote(record.trial_id)}{where}"


def _check_lines(check: CheckResult) -> Iterator[str]:
    if check.passed:
        yield f"  passed  {check.name}"
        return
    why = "timed out" if check.timed_out else check.tests_passed or f"exit code {check.exit_code}"
    yield f"  FAILED  {check.name} ({why})"
    for line in check.output_tail.strip().splitlines()[-15:]:
        yield f"          {line}"


def fault_lines(fault: Fault, record: TrialRecord | None) -> Iterator[str]:
    """Lines about a fault: its cause, and what can be done."""
    yield f"infrastructure ({fault.cause}, {fault.kind}): {fault.message}"
    if fault.remedy:
        yield f"  {fault.remedy}"
    if record and record.attempts:
        yield f"  {len(record.attempts) + 1} attempts were made"
    if fault.fatal:
        yield "  every other trial would meet it too, so that no more are started"
    yield "This counts neither as passed nor as failed."


def invalid_lines(differences: Sequence[str]) -> Iterator[str]:
    """Lines about the differences from what the variant asks for."""
    yield "invalid: the variant was not really applied"
    for difference in differences:
        yield f"  {difference}"
    yield "This counts neither as passed nor as failed."


def properties(record: TrialRecord) -> list[tuple[str, object]]:
    """The properties for junit's XML, and the line for verbose output."""
    pairs = {
        "outcome": record.outcome,
        "score": record.score,
        "duration_ms": record.duration_ms,
        "cost_usd": record.total_cost_usd,
        "tokens_input": record.tokens.input,
        "tokens_output": record.tokens.output,
        "tokens_total": record.tokens.total,
        "num_turns": record.num_turns,
        "model_source": record.model_source,
        "transcript": record.transcript,
    }
    known: list[tuple[str, object]] = [(name, value) for name, value in pairs.items() if value is not None]
    return [*known, ("harness_line", short_line(record))]


def short_line(record: TrialRecord) -> str:
    """Time, tokens and cost in a few characters."""
    parts = [seconds(record.phases_ms.total)]
    if record.tokens.total is not None:
        parts.append(f"{count(record.tokens.total)} tokens")
    if record.total_cost_usd is not None:
        parts.append(cost(record.total_cost_usd))
    return f"({', '.join(parts)})"


def mark_fault(call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Report a fault as an ERROR, also in a test's call: as pytest reports one of the setup."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, TrialFaultError):
        report.longrepr = "\n".join(fault_lines(error.fault, error.record))
    elif isinstance(error, NotAppliedError):
        report.longrepr = "\n".join(invalid_lines(error.differences))
        report.when = "setup" if report.when == "call" else report.when
    elif isinstance(error, Fault):
        report.longrepr = "\n".join(fault_lines(error, None))
        report.when = "setup" if report.when == "call" else report.when
    elif isinstance(error, UsageError):
        report.longrepr = str(error)


def hide_secrets(report: pytest.TestReport, redact: Redactor) -> None:
    """Take secrets, and what steers a terminal, out of a report: a check's output, a value, what was captured."""
    if report.longrepr:
        shown = str(report.longrepr)
        hidden = sanitize(redact.text(shown))
        report.longrepr = hidden if hidden != shown else report.longrepr
    report.sections = [(name, sanitize(redact.text(text))) for name, text in report.sections]


def hide_secrets_of_warning(warning: warnings.WarningMessage, redact: Redactor) -> None:
    """Take the same out of a warning, before pytest keeps its text for the summary."""
    shown = str(warning.message)
    hidden = sanitize(redact.text(shown))
    if hidden != shown:
        warning.message = hidden
