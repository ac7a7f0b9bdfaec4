"""Old trials, judged again by today's checks, from the work that was kept of them."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import Fault, UsageError
from harness.models.model import NO_MODEL
from harness.records.binary_patch import without_secret_binaries
from harness.records.events import parse_transcript
from harness.records.files import file_below, read_bounded
from harness.records.merge import asked_in
from harness.records.reading import find_run, read_about, read_records
from harness.records.record import Outcome, TrialRecord
from harness.records.record_parts import CheckResult, score_of
from harness.records.store import RunFolder, new_run_id
from harness.records.stream import SessionBuilder
from harness.records.trial_spec import TrialSpec
from harness.report.statement import seal_run
from harness.runs.options import Options
from harness.runs.resources import default_concurrency, platform_of, templates_of
from harness.runs.secrets import SECRETS, redactor_of_run
from harness.sandboxes.cleanup import delete_snapshots
from harness.sandboxes.platform import Platform
from harness.tasks.gitrepo import Repos
from harness.tasks.loading import load_tasks
from harness.tasks.task import Task
from harness.trials.attempt import Attempt
from harness.trials.context import RunContext
from harness.trials.grading import Grade, Works, grade_works
from harness.trials.opening import prepare_start
from harness.trials.session_checks import Told, judge_session
from harness.trials.work import Work
from harness.variants.declared import VariantResolver
from harness.variants.variant import Variant

_SHOWN = 5
_MOST_OF_TRANSCRIPT = 1024**3


class NotRegradableError(Exception):
    """A trial that cannot be judged again, for the reason given."""


@dataclass(frozen=True)
class _Regraded:
    """A trial's old record, and the new one; without it the reason."""

    old: TrialRecord
    new: TrialRecord | None
    reason: str = ""


def regrade(results: Path, run: str | None, tasks: Sequence[Path], options: Options) -> str:
    """Judge a run's trials again, and write new records beside the old ones, in a run of their own.

    Args:
        results: the folder with the runs.
        run: the run's name or folder; None: the last.
        tasks: folders of tasks as they are now; trials of other tasks are left out.
        options: where the sandboxes are, and how many at once.

    Returns:
        A line for each trial, and where the new records are.

    Raises:
        UsageError: when there is no such run, or nothing of it can be judged again.
    """
    old = find_run(results, run)
    known = {task.name: task for folder in tasks for task in load_tasks(folder)}
    records = [record for record in read_records(old.path).records if record.task in known]
    if not records:
        raise UsageError(
            f"run {old.id} has no trial of {', '.join(known) or 'any task'}",
            remedy="name the folders of its tasks: harness regrade RUN tasks/*",
        )
    about = {
        "regraded_from": old.id,
        "agent": records[0].agent,
        SECRETS: read_about(old.path).get(SECRETS),
        **asked_in([old]),
    }
    new = RunFolder.create(results, new_run_id(), about, redactor_of_run(os.environ, old))
    with platform_of(options) as platform:
        regraded = asyncio.run(_regrade_all(old, new, records, known, platform, options))
    if not any(one.new for one in regraded):
        shutil.rmtree(new.path)
        reasons = "; ".join(f"{one.old.trial_id}: {one.reason}" for one in regraded[:_SHOWN])
        raise UsageError(
            f"no trial of run {old.id} could be judged again: {reasons}",
            remedy="keep what agents leave for it: --keep-work all",
        )
    seal_run(new)
    return _told(old, new, regraded)


async def _regrade_all(
    old: RunFolder,
    new: RunFolder,
    records: Sequence[TrialRecord],
    tasks: Mapping[str, Task],
    platform: Platform,
    options: Options,
) -> list[_Regraded]:
    templates = templates_of(platform, new)
    context = RunContext(platform, NO_MODEL, new, Repos(new.path / "repos"), templates)
    variants = VariantResolver(Path.cwd(), options.variants, ())
    slots = asyncio.Semaphore(options.concurrency or default_concurrency(local=platform.kind == "local"))

    async def one(record: TrialRecord) -> _Regraded:
        async with slots:
            try:
                task = tasks[record.task]
                spec = TrialSpec(task, _variant(variants, task, record), record.index, record.agent)
                return _Regraded(record, await _regrade_one(old, context, spec, record))
            except NotRegradableError as reason:
                return _Regraded(record, None, str(reason))
            except (Fault, UsageError) as error:
                return _Regraded(record, None, error.message)

    try:
        return list(await asyncio.gather(*map(one, records)))
    finally:
        if context.snapshots.is_used:
            await delete_snapshots(new.id, platform)
        context.repos.close()


def _variant(variants: VariantResolver, task: Task, record: TrialRecord) -> Variant:
    assert task.path, "a task of a folder"
    found = {variant.name: variant for variant in variants.for_task(task.path)}
    if record.variant not in found:
        raise NotRegradableError(f"no file declares the variant {record.variant!r} any more")
    return found[record.variant]


async def _regrade_one(
    old: RunFolder, context: RunContext, spec: TrialSpec, record: TrialRecord
) -> TrialRecord:
    if record.outcome == "invalid":
        raise NotRegradableError("it is invalid: its variant was not really applied")
    if spec.task.grade_in_agents_sandbox:
        raise NotRegradableError("its task is judged in the agent's sandbox, which is gone")
    works = stored_works(old, record, spec.task)
    if spec.task.git:
        checkout = await context.repos.checkout(spec.task.git)
        spec = replace(spec, task=replace(spec.task, repo=checkout.folder))
    attempt = Attempt.begin(spec, context, 1)
    start = await prepare_start(spec, context, attempt)

    async def keep(name: str, data: bytes) -> str:
        return await context.disk.run(functools.partial(attempt.files.write, name, data))

    told = _session_of(old, record, spec.task)
    grade = await grade_works(spec, context, start, works, keep, told)
    grade = replace(grade, checks=grade.checks + await judge_session(spec.task.checks, told))
    diff = None
    if grade.diff is not None:
        patch, notes = without_secret_binaries(grade.diff, attempt.files.redact)
        diff, grade = await keep("diff.patch", patch), replace(grade, notes=grade.notes + notes)
    new = _new_record(old, context.folder, spec.task, record, grade, diff)
    await context.disk.run(functools.partial(context.folder.write_copy, new))
    await context.disk.run(context.folder.prepare_append(new))
    return new


def _session_of(old: RunFolder, record: TrialRecord, task: Task) -> Told:
    """The session of a trial, from its transcript; the oracle's answer is what answer.md says now.

    Raises:
        NotRegradableError: when that cannot be read.
    """
    given = task.answer if record.agent == "oracle" else None
    file = file_below(old.path, record.transcript) if record.transcript else None
    try:
        raw = read_bounded(file, _MOST_OF_TRANSCRIPT) if file and file.is_file() else b""
    except OSError as error:
        raise NotRegradableError(f"its transcript cannot be read: {error.strerror}") from error
    return Told(
        lambda: raw,
        SessionBuilder().add_all(parse_transcript(raw)).session(),
        given,
        is_known=file is not None,
    )


def stored_works(old: RunFolder, record: TrialRecord, task: Task) -> Works:
    """The works of a trial that were kept.

    Raises:
        NotRegradableError: when it was not, or is gone.
    """
    if record.work is None:
        raise NotRegradableError("its work was not kept (--keep-work)")
    folder = file_below(old.path, record.work)
    works: dict[int | None, Work] = {None: _stored_work(folder, task)}
    for turn in {check.turn for check in task.checks if check.turn is not None}:
        at_turn = file_below(folder, f"turn-{turn}")
        if at_turn.is_dir():
            works[turn] = _stored_work(at_turn, task)
    return works


def _stored_work(folder: Path, task: Task) -> Work:
    repo = None if task.is_system else file_below(folder, "repo.tar")
    if repo and not repo.is_file():
        raise NotRegradableError(f"{repo} is not there")
    files = [file_below(folder, f"carried-{number}.tar") for number in range(1, len(task.carry) + 1)]
    found = [(path, file if file.is_file() else None) for path, file in zip(task.carry, files, strict=True)]
    return Work(repo, tuple(found))


def _new_record(
    old: RunFolder, new: RunFolder, task: Task, record: TrialRecord, grade: Grade, diff: str | None
) -> TrialRecord:
    passed: Outcome = "passed" if grade.checks and all(check.passed for check in grade.checks) else "failed"
    return record.model_copy(
        update={
            "run_id": new.id,
            "regraded_from": old.id,
            "task_hash": task.hash,
            "outcome": passed,
            "score": score_of(grade.checks),
            "checks": grade.checks,
            "error": None,
            "tampering": (*grade.tampering, *(one for one in record.tampering if one.change == "forged")),
            "ignored": grade.ignored,
            "notes": (*record.notes, *(note for note in grade.notes if note not in record.notes)),
            "diff": diff,
            "work": None,
            "work_hashes": {},
            "judged_by": "checks",
            "transcript": _copied(old, new, record.transcript),
            "grading_sandbox_id": grade.sandbox_id,
            "graded_in": "fresh",
        }
    )


def _copied(old: RunFolder, new: RunFolder, file: str | None) -> str | None:
    if file is None or not file_below(old.path, file).is_file():
        return None
    target = file_below(new.path, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(old.path / file, target)
    return file


def _told(old: RunFolder, new: RunFolder, regraded: Sequence[_Regraded]) -> str:
    lines = [line for one in regraded for line in _lines(one)]
    done = [one for one in regraded if one.new]
    changed = sum(one.new is not None and one.new.outcome != one.old.outcome for one in done)
    lines.append(f"{len(done)} of {len(regraded)} trials judged again, {changed} with another outcome")
    if done:
        lines.append(f"records: {new.records_file}")
        lines.append(f"compare: harness compare {old.id} {new.id}")
    return "".join(f"{line}\n" for line in lines)


def _lines(one: _Regraded) -> list[str]:
    if one.new is None:
        return [f"left out  {one.old.trial_id}: {one.reason}"]
    outcome = (
        one.old.outcome if one.old.outcome == one.new.outcome else f"{one.old.outcome} -> {one.new.outcome}"
    )
    before = {check.name: check.passed for check in one.old.checks}
    changes = [_change(check, before.get(check.name)) for check in one.new.checks]
    told = ", ".join(change for change in changes if change)
    return [f"{outcome:<16}  {one.new.trial_id}" + (f"  ({told})" if told else "")]


def _change(check: CheckResult, before: bool | None) -> str:
    now = "passes" if check.passed else "fails"
    if before is None:
        return f"{check.name} is new and {now}"
    return "" if before == check.passed else f"{check.name} {now} now"
