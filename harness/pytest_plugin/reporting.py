"""The words in which pytest reports a trial: its failure, its fault, its numbers; and without secrets."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from _pytest._code.code import TerminalRepr

from harness.errors import Fault, NotAppliedError, UsageError, is_users_own
from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult
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
    """Lines about the checks that failed, their names first, their output, and the command that shows more of it."""
    failed = [check for check in record.checks if not check.passed]
    yield failed_headline(record)
    for check in failed:
        yield f"  FAILED  {check_headline(check)}"
        yield from (f"          {line}" for line in last_lines(check))
        if check.output:
            yield f"          log: {shown_path(results / record.run_id / check.output)}"
    for sentence in side_notes(record):
        yield f"note: {sentence}"
    yield f"all of it: {show_command(record, results)}"


def failed_headline(record: TrialRecord) -> str:
    """The names of the checks that failed."""
    failed = [check.name for check in record.checks if not check.passed]
    if not failed:
        return "the test itself has failed, as the run that is resumed says"
    passed = len(record.checks) - len(failed)
    return f"failed: {', '.join(failed)} ({passed} of {len(record.checks)} checks passed)"


def check_headline(check: CheckResult) -> str:
    """A failed check's name, and how it ended."""
    why = "timed out" if check.timed_out else check.tests_passed or f"exit code {check.exit_code}"
    return f"{check.name} ({why})"


def last_lines(check: CheckResult, most: int = 15) -> list[str]:
    """The end of a check's output."""
    return check.output_tail.strip().splitlines()[-most:]


def side_notes(record: TrialRecord) -> Iterator[str]:
    """The sentences that a reader of a failure should know beside its checks."""
    yield from (change.sentence for change in record.tampering)
    yield from record.notes
    if record.stop not in (None, "completed"):
        yield f"the agent was stopped: {record.stop}"


def show_command(record: TrialRecord, results: Path) -> str:
    """The command that shows the whole of a trial."""
    return f"harness show {record.run_id} {shlex.quote(record.trial_id)}{results_option(results)}"


def results_option(results: Path) -> str:
    """The option that a command needs to find a run; nothing where it looks there by itself."""
    return (
        ""
        if results.resolve() == Path.cwd().resolve() / "results"
        else f" --results {shlex.quote(shown_path(results))}"
    )


def shown_path(path: Path) -> str:
    """A path as a command may name it from here."""
    relative = os.path.relpath(path)
    return os.path.abspath(path) if relative.startswith("..") else relative


def fault_lines(fault: Fault, record: TrialRecord | None) -> Iterator[str]:
    """Lines about a fault: its cause, and what can be done."""
    whose = "yours to mend" if is_users_own(fault.cause, fault.kind) else "infrastructure"
    yield f"{whose} ({fault.cause}, {fault.kind}): {fault.message}"
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


def properties(record: TrialRecord, *, late: bool = False) -> list[tuple[str, object]]:
    """The properties for junit's XML, and the line for verbose output: `late` if the result is reported already."""
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
    return [*known, ("harness_late_line" if late else "harness_line", short_line(record))]


def short_line(record: TrialRecord) -> str:
    """Time, tokens and cost in a few characters."""
    parts = [seconds(record.phases_ms.own)]
    if record.tokens.total is not None:
        parts.append(f"{count(record.tokens.total)} tokens")
    if record.total_cost_usd is not None:
        parts.append(cost(record.total_cost_usd))
    return f"({', '.join(parts)})"


FAILED_TRIAL = "harness_failed_trial"
"""The attribute of a report of a failed trial that has its id; like all attributes, xdist hands it on."""
FAULT = "harness_fault"
"""The attribute of a report that says that its text is a fault's, without a traceback."""


def mark_fault(call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Report a fault as an ERROR, also in a test's call: as pytest reports one of the setup."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, TrialFailedError):
        setattr(report, FAILED_TRIAL, error.record.trial_id)
    elif isinstance(error, TrialFaultError | NotAppliedError | Fault):
        report.longrepr = "\n".join(_error_lines(error))
        setattr(report, FAULT, True)
        if not isinstance(error, TrialFaultError):
            report.when = "setup" if report.when == "call" else report.when
    elif isinstance(error, UsageError):
        report.longrepr = str(error)


def _error_lines(error: TrialFaultError | NotAppliedError | Fault) -> Iterator[str]:
    if isinstance(error, TrialFaultError):
        return fault_lines(error.fault, error.record)
    return (
        invalid_lines(error.differences) if isinstance(error, NotAppliedError) else fault_lines(error, None)
    )


def hide_secrets(report: pytest.TestReport, redact: Redactor, *, of_trial: bool) -> None:
    """Take secrets out of a report, and, of a trial's, what steers a terminal: a check's output, what was captured."""

    def hidden(text: str) -> str:
        text = redact.text(text)
        return sanitize(text) if of_trial else text

    _hide_in_failure(report, hidden)
    report.sections = [(name, hidden(text)) for name, text in report.sections]
    report.user_properties = [
        (name, hidden(value) if isinstance(value, str) else value) for name, value in report.user_properties
    ]


def hide_secrets_of_collection(report: pytest.CollectReport, redact: Redactor) -> None:
    """Take secrets out of what could not be collected, such as a module that raises when it is imported."""
    _hide_in_failure(report, redact.text)
    report.sections = [(name, redact.text(text)) for name, text in report.sections]


def _hide_in_failure(report: pytest.TestReport | pytest.CollectReport, hidden: Callable[[str], str]) -> None:
    if isinstance(report.longrepr, tuple):  # of a test that was skipped: file, line, reason
        file, line, reason = report.longrepr
        report.longrepr = file, line, hidden(reason)
    elif report.longrepr:
        shown = str(report.longrepr)
        said = hidden(shown)
        report.longrepr = said if said != shown else report.longrepr


def hide_secrets_of_crash(crash: TerminalRepr, redact: Redactor) -> None:
    """Take secrets, and what steers a terminal, out of pytest's INTERNALERROR."""
    shown = str(crash)
    hidden = sanitize(redact.text(shown))
    if hidden != shown:
        setattr(crash, "toterminal", lambda writer: writer.line(hidden))  # noqa: B010  # it is what str() calls


def hide_secrets_of_expected_failure(report: pytest.TestReport, redact: Redactor) -> None:
    """Take the same out of the reason of an expected failure, which pytest gives to a report last."""
    if isinstance(why := getattr(report, "wasxfail", None), str):
        report.__dict__["wasxfail"] = sanitize(redact.text(why))


def hide_secrets_of_warning(warning: warnings.WarningMessage, redact: Redactor) -> None:
    """Take the same out of a warning, before pytest keeps its text for the summary."""
    shown = str(warning.message)
    hidden = sanitize(redact.text(shown))
    if hidden != shown:
        warning.message = hidden
