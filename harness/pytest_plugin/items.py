"""Task folders as pytest's collectors, their trials as its items."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import Fault, HarnessError, NotAppliedError, Problem, ProblemsError, UsageError
from harness.pytest_plugin.python_tests import PythonTrial, marked_task, python_trial, unstable_parameter
from harness.pytest_plugin.reporting import TrialFailedError, TrialFaultError, failed_lines, properties
from harness.pytest_plugin.session import Owner, RunSession, session_of
from harness.records.record import TrialRecord
from harness.records.trial_spec import TrialSpec, trial_name
from harness.report.sanitize import sanitize
from harness.report.table import printable
from harness.runs.budget import NotStartedError
from harness.sandboxes.userstate import state_folder
from harness.tasks.formats.base import NoCounterpartError
from harness.tasks.formats.registry import format_of, take_task
from harness.tasks.loading import load_tasks
from harness.tasks.manifest import MANIFEST
from harness.tasks.task import Task
from harness.variants.variant import Variant


class TaskFolder(pytest.Directory):
    """A folder that is a task. Nothing else in it is collected, its starter repo's tests least of all."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the file that stands for it: the manifest, or what another format has."""
        form = format_of(self.path)
        if form is None:
            yield self._file(TaskFile, self.path / MANIFEST)
        else:
            yield self._file(ForeignTaskFile, self.path / form.file_of(self.path))

    def _file(self, kind: type[TaskFile], path: Path) -> TaskFile:
        """The collector of a file. pytest prints its id as it is, and folders may have any names."""
        file: TaskFile = kind.from_parent(self, path=path)
        shown = printable(file.nodeid)
        return file if shown == file.nodeid else kind.from_parent(self, path=path, nodeid=shown)


class TaskFile(pytest.File):
    """A task.toml: one item for each variant and trial."""

    @property
    def folder(self) -> Path:
        """The task's folder; the file that stands for it may be deeper in it."""
        assert isinstance(self.parent, TaskFolder)
        return self.parent.path

    def read_tasks(self) -> Sequence[Task]:
        """The task, or one for each of its rows.

        Raises:
            ProblemsError: when it cannot be used.
            NoCounterpartError: when it is another format's, and asks for what ours cannot ask for.
        """
        return load_tasks(self.folder)

    def name_of(self, tasks: Sequence[Task]) -> str:
        """The name under which no other folder may have tasks."""
        return self.folder.name

    def collect(self) -> Iterator[pytest.Item]:
        """Read the task, and yield its trials."""
        session, folder = session_of(self.config), self.folder
        try:
            tasks = self.read_tasks()
            owner = session.take_name(self.name_of(tasks), folder)
            if owner:
                raise _same_name(folder, owner)
        except NoCounterpartError as error:
            yield SkippedTask.from_parent(self, name=folder.name, reason=str(error))
            return
        except ProblemsError:
            session.bad_tasks += 1
            raise
        for tag in tasks[0].tags:
            self.config.addinivalue_line("markers", f"{tag}: a tag of tasks")
        for task in tasks:
            yield from self._trials(session, task, folder)

    def _trials(self, session: RunSession, task: Task, folder: Path) -> Iterator[pytest.Item]:
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
            return sanitize(str(excinfo.value))
        return super().repr_failure(excinfo)


class ForeignTaskFile(TaskFile):
    """A file of a task of another format."""

    def read_tasks(self) -> Sequence[Task]:
        """The task as one of ours."""
        folder = self.folder
        form = format_of(folder)
        assert form, "its folder was one of a format's when it was collected"
        task = take_task(folder, form, state_folder() / "imported")
        session_of(self.config).bring_variants(task, folder)
        return [task]

    def name_of(self, tasks: Sequence[Task]) -> str:
        """The name of the task, which another format may have from elsewhere."""
        return tasks[0].name


class SkippedTask(pytest.Item):
    """A task that asks for what no task of ours can ask for."""

    def __init__(self, *, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._reason = reason

    def runtest(self) -> None:
        """Say why it is not run."""
        pytest.skip(self._reason)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The place of the task."""
        return self.path, None, self.name


def _same_name(path: Path, owner: Owner) -> ProblemsError:
    of = f"the task in {os.path.relpath(owner)}" if isinstance(owner, Path) else f"the test {owner}"
    problem = Problem(
        os.path.relpath(path / MANIFEST), None, f"{of} has the same name", "rename one of the two"
    )
    return ProblemsError(f"task {path.name!r} cannot be used:", [problem])


class TrialItem(pytest.Item):
    """One trial. Its setup waits for it, so that a fault is an ERROR; its call passes if the checks did."""

    def __init__(self, *, spec: TrialSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self._record: TrialRecord | None = None

    @functools.cached_property
    def location(self) -> tuple[str, int | None, str]:
        """Its place, as pytest prints it beside its id."""
        file, line, name = super().location
        return printable(file), line, name

    @property
    def is_folder_task(self) -> bool:
        """True for a task folder's trial, false for an item that reports the record of a test with the fixtures."""
        return isinstance(self.parent, TaskFile)

    @property
    def own_seconds(self) -> float | None:
        """The trial's own time, which began before anybody waited for it; None while it is not known."""
        own = self._record.phases_ms.own if self._record else None
        return None if own is None else own / 1000

    @property
    def trials(self) -> RunSession:
        """The run in this process."""
        return session_of(self.config)

    def setup(self) -> None:
        """Wait for the trial."""
        try:
            self._record = self.trials.client.result(self.spec)
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
        """Describe a failure to a person, without a traceback."""
        if isinstance(excinfo.value, TrialFailedError):
            return "\n".join(failed_lines(excinfo.value.record, self.trials.options.results))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The place of the task."""
        return self.spec.task.path / MANIFEST if self.spec.task.path else self.path, None, self.name


def uses_trials(item: pytest.Item) -> bool:
    """Tell whether an item is a trial, or a test that has one behind its fixtures."""
    return isinstance(item, TrialItem) or python_trial(item) is not None


def trial_of_item(item: pytest.Item) -> tuple[str, Variant, int] | None:
    """The task's name, the variant and the index of an item that is a trial or has one behind its fixtures."""
    if isinstance(item, TrialItem):
        return item.spec.task.name, item.spec.variant, item.spec.index
    trial = python_trial(item)
    return (trial.task, trial.variant, trial.index) if trial else None


def trial_id(item: pytest.Item) -> str | None:
    """The id of the trial that an item is or has; None for any other test."""
    found = trial_of_item(item)
    return trial_name(found[0], found[1].name, found[2]) if found else None


def reporting_item(item: pytest.Item, session: RunSession) -> pytest.Item:
    """With --resume, replace a test that has a valid record by an item that reports this record."""
    trial = None if isinstance(item, TrialItem) else python_trial(item)
    if trial is None:
        return item
    try:
        spec = _spec(item, trial, session)
        if not session.client.has_record(spec):
            return item
    except HarnessError:
        return item  # The run or the test reports the error when it starts.
    unstable = unstable_parameter(trial)
    if unstable:
        name, why = unstable
        session.client.note(
            f"{trial.test} runs again where it has a record: nobody can tell whether its parameter {name!r} is still "
            f"the same ({why})"
        )
        return item
    report: TrialItem = TrialItem.from_parent(
        cast(Any, item.parent), name=item.name, nodeid=item.nodeid, spec=spec
    )
    report.own_markers = item.own_markers
    return report


def external_spec(item: pytest.Item, session: RunSession) -> TrialSpec | None:
    """The trial that a test runs itself; None for any other item, and for a test that will report what is wrong."""
    trial = None if isinstance(item, TrialItem) else python_trial(item)
    try:
        return _spec(item, trial, session) if trial else None
    except HarnessError:
        return None


def spec_of_test(item: pytest.Item, session: RunSession) -> TrialSpec:
    """The trial of a test with one of the fixtures.

    Raises:
        UsageError: when its marker cannot be used, or pytest has not made it a test for each variant and trial.
    """
    trial = python_trial(item)
    if trial is None:
        raise UsageError(
            f"{item.nodeid} cannot have a trial, since pytest does not run it once for each variant and trial",
            remedy="take claude or sandbox as an argument of a test function or of a method of a plain class; "
            "neither request.getfixturevalue nor a unittest.TestCase can do this",
        )
    return _spec(item, trial, session)


def _spec(item: pytest.Item, trial: PythonTrial, session: RunSession) -> TrialSpec:
    return session.spec(marked_task(item, trial), trial.variant, trial.index)
