"""Task folders as pytest's collectors, their trials as its items."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import Fault, HarnessError, NotAppliedError, Problem, ProblemsError, UsageError
from harness.pytest_plugin.session import RunSession, controller_of, session_of
from harness.records.record import CheckResult, TrialRecord, TrialSpec, trial_name
from harness.records.store import Redactor
from harness.runs.budget import NotStartedError
from harness.runs.forecast import Planned
from harness.tasks.loading import load_task
from harness.tasks.manifest import MANIFEST
from harness.variants.variant import Variant

CALL_PASSED = pytest.StashKey[bool]()
"""Whether an item's call passed: what a trial behind fixtures is judged by."""


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


class TaskFolder(pytest.Directory):
    """A folder with a task.toml. Nothing else in it is collected, its starter repo's tests least of all."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the manifest."""
        yield TaskFile.from_parent(self, path=self.path / MANIFEST)


class TaskFile(pytest.File):
    """A task.toml: one item for each variant and trial."""

    def collect(self) -> Iterator[pytest.Item]:
        """Read the task, and yield its trials."""
        session, folder = session_of(self.config), self.path.parent
        try:
            owner = session.take_name(folder.name, folder)
            if owner:
                raise _same_name(folder, owner)
            task = load_task(folder)
        except ProblemsError:
            session.bad_tasks += 1
            raise
        for tag in task.tags:
            self.config.addinivalue_line("markers", f"{tag}: a tag of tasks")
        for variant, index in session.plan(task.name, folder, session.options.most_trials):
            spec = session.spec(task, variant, index)
            name = trial_name(task.name, variant.name, index)
            # Given as text, so that pytest reads the brackets as a parametrized test's, as --lf and others do.
            item = TrialItem.from_parent(self, name=name, nodeid=f"{self.nodeid}::{name}", spec=spec)
            for tag in task.tags:
                item.add_marker(tag)
            yield item

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The problems, without a traceback."""
        if isinstance(excinfo.value, HarnessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


def _same_name(path: Path, owner: Path) -> ProblemsError:
    problem = Problem(
        os.path.relpath(path / MANIFEST),
        None,
        f"the task in {os.path.relpath(owner)} has the same name",
        "rename one of the two folders",
    )
    return ProblemsError(f"task {path.name!r} cannot be used:", [problem])


class TrialItem(pytest.Item):
    """One trial. Its setup waits for the trial, so that a fault is an ERROR; its call tells what the checks said."""

    def __init__(self, *, spec: TrialSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self._record: TrialRecord | None = None

    @property
    def is_folder_task(self) -> bool:
        """Whether it is a task folder's, not one that reports the record of a test with the fixtures."""
        return isinstance(self.parent, TaskFile)

    @property
    def trials(self) -> RunSession:
        """The run in this process."""
        return session_of(self.config)

    def setup(self) -> None:
        """Wait for the trial."""
        try:
            self._record = self.trials.result(self.spec)
        except NotStartedError as reason:
            pytest.skip(reason.message)
        except Fault as fault:
            raise TrialFaultError(fault, None) from None
        self.user_properties += properties(self._record)
        if self._record.error:
            raise TrialFaultError(self._record.error.fault(), self._record)
        if self._record.outcome == "invalid":
            raise NotAppliedError(self._record.differences)

    def runtest(self) -> None:
        """Pass when the checks did."""
        assert self._record, "setup comes first"
        if self._record.outcome != "passed":
            raise TrialFailedError(self._record)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What a person needs to know, without a traceback."""
        if isinstance(excinfo.value, TrialFailedError):
            return "\n".join(failed_lines(excinfo.value.record, self.trials.options.results))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the task is."""
        return self.spec.task.path / MANIFEST if self.spec.task.path else self.path, None, self.name


def failed_lines(record: TrialRecord, results: Path) -> Iterator[str]:
    """Which checks failed, what they said, and where in `results` there is more."""
    passed = [check for check in record.checks if check.passed]
    failed = ", ".join(check.name for check in record.checks if not check.passed)
    if failed:
        yield f"{len(passed)} of {len(record.checks)} checks passed; failed: {failed}"
    else:
        yield "the test itself has failed, as the run that is resumed says"
    for check in record.checks:
        yield from _check_lines(check)
    for change in record.tampering:
        yield f"note: the agent had {change.change} the protected file {change.path}; it was put back"
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
    why = "timed out" if check.timed_out else f"exit code {check.exit_code}"
    yield f"  FAILED  {check.name} ({why})"
    for line in check.output_tail.strip().splitlines()[-15:]:
        yield f"          {line}"


def fault_lines(fault: Fault, record: TrialRecord | None) -> Iterator[str]:
    """Whose fault it was, and what can be done."""
    yield f"infrastructure ({fault.cause}, {fault.kind}): {fault.message}"
    if fault.remedy:
        yield f"  {fault.remedy}"
    if record and record.attempts:
        yield f"  {len(record.attempts) + 1} attempts were made"
    if fault.fatal:
        yield "  every other trial would meet it too, so that no more are started"
    yield "This counts neither as passed nor as failed."


def invalid_lines(differences: Sequence[str]) -> Iterator[str]:
    """What was otherwise than the variant asks for."""
    yield "invalid: the variant was not really applied"
    for difference in differences:
        yield f"  {difference}"
    yield "This counts neither as passed nor as failed."


def properties(record: TrialRecord) -> list[tuple[str, object]]:
    """What goes into junit's XML, and the line for verbose output."""
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
    found: list[tuple[str, object]] = [(name, value) for name, value in pairs.items() if value is not None]
    return [*found, ("harness_line", short_line(record))]


def short_line(record: TrialRecord) -> str:
    """Time, tokens and cost in a few characters."""
    from harness.report.text import cost, count, seconds

    parts = [seconds(record.phases_ms.total)]
    if record.tokens.total is not None:
        parts.append(f"{count(record.tokens.total)} tokens")
    if record.total_cost_usd is not None:
        parts.append(cost(record.total_cost_usd))
    return f"({', '.join(parts)})"


def mark_fault(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """A fault is an ERROR, also in a test's call: there it is reported as pytest does one of the setup."""
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
    if report.when == "call":
        item.stash[CALL_PASSED] = report.passed


def hide_secrets(report: pytest.TestReport, redact: Redactor) -> None:
    """What is shown of a test holds no secret either: a check's output, an assertion's values, what was captured."""
    if report.longrepr:
        shown = str(report.longrepr)
        hidden = redact.text(shown)
        report.longrepr = hidden if hidden != shown else report.longrepr
    report.sections = [(name, redact.text(text)) for name, text in report.sections]


def uses_trials(item: pytest.Item) -> bool:
    """Whether an item is a trial, or a test that has one behind its fixtures."""
    return isinstance(item, TrialItem) or "harness_trial" in getattr(item, "fixturenames", ())


def task_name_of_test(nodeid: str) -> str:
    """The name of the task behind a test's fixtures."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", nodeid.partition("[")[0].replace("::", "."))


def trial_of_item(item: pytest.Item) -> tuple[str, Variant, int] | None:
    """The task's name, the variant and the index of an item that is a trial or has one behind its fixtures."""
    if isinstance(item, TrialItem):
        return item.spec.task.name, item.spec.variant, item.spec.index
    if not uses_trials(item):
        return None
    variant, index = cast(Any, item).callspec.params["harness_trial"]
    return task_name_of_test(item.nodeid), variant, index


def trial_id(item: pytest.Item) -> str | None:
    """The id of the trial that an item is or has; None for any other test."""
    found = trial_of_item(item)
    return trial_name(found[0], found[1].name, found[2]) if found else None


def forecast(session: RunSession, items: Sequence[pytest.Item]) -> list[str]:
    """What `--plan` prints.

    Raises:
        pytest.UsageError: when something asked for cannot be had.
    """
    try:
        controller = controller_of(session.config)
        left = [item for item in items if not (isinstance(item, TrialItem) and controller.has(item.spec))]
        trials = [Planned(found[0], found[1].name) for item in left if (found := trial_of_item(item))]
        return [f"harness: {line}" for line in controller.forecast(trials)]
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
