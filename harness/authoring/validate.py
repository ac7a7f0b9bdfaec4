"""`harness validate`: what running tasks by the oracle, by nobody and with mutants of the solution shows of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from harness.authoring import clock, leaks
from harness.authoring.findings import Finding, Level, Sharpness, Survivor, ValidationReport
from harness.authoring.folders import find_folders, has_solution, look_at_folder, look_at_prompts
from harness.authoring.mutants import ANOTHER_CONTENT, Change, Mutant, at_turn, judged_changes, mutants
from harness.authoring.proving import GitHistory, ProvenTrial, Prover, fault_of, histories_in
from harness.authoring.reasons import wrong_reason
from harness.authoring.stability import ALONE, GIVEN, CheckVerdicts, findings_of, orders_of, run_twice
from harness.authoring.work_files import changes_between, read_files
from harness.errors import Fault, ProblemsError, UsageError
from harness.models.model import NO_MODEL
from harness.records.record_parts import CheckResult
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder, new_run_id
from harness.runs.options import Options
from harness.runs.resources import default_concurrency, platform_of
from harness.sandboxes.cleanup import delete_snapshots
from harness.sandboxes.platform import Platform
from harness.sandboxes.shell import call
from harness.sandboxes.templates import Templates
from harness.tasks.contents import files_in
from harness.tasks.gitcommand import environment, plain_environment
from harness.tasks.gitrepo import Repos
from harness.tasks.globs import matching_files
from harness.tasks.loading import load_tasks
from harness.tasks.task import Check, Task
from harness.tasks.tomlfile import display_path
from harness.trials.context import RunContext
from harness.trials.work import Work

SHARP, BLUNT = 0.9, 0.7
"""A task whose checks notice fewer of the mutants is told to be blunt; below the second that is an error."""
_WHOLE_TRIALS = 2
_SLOWEST_FACTOR, _LEAST_TIMEOUT_S = 5.0, 5.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """The amount of work spent on a task: judgements of the solution and of no work, and mutants."""

    times: int = 8
    mutants: int = 20


def validate(
    roots: Sequence[Path], options: Options, effort: Effort, say: Say = lambda line: None
) -> list[ValidationReport]:
    """Prove the tasks at or below some folders; the reports, by the tasks' places.

    Raises:
        UsageError: when there is no task, or no platform.
    """
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"{root} is no folder", remedy="name folders of tasks: harness validate tasks")
    folders, reports = find_folders(roots)
    if not folders and not reports:
        where = ", ".join(map(str, roots))
        raise UsageError(f"there is no task in {where}", remedy="make one: harness new NAME")
    loaded = [one for folder in folders for one in _load(folder)]
    reports += [one for one in loaded if isinstance(one, ValidationReport)]
    tasks = [one for one in loaded if isinstance(one, Task)]
    if tasks:
        # Around the loop: what is cancelled writes what it came to before the loop is closed.
        with (
            platform_of(options) as platform,
            tempfile.TemporaryDirectory(prefix="harness-validate-") as name,
        ):
            reports += asyncio.run(_prove_all(tasks, Path(name), platform, options, effort, say))
    return sorted(reports, key=lambda report: report.path)


def _load(folder: Path) -> Sequence[Task | ValidationReport]:
    try:
        return load_tasks(folder)
    except ProblemsError as error:
        found = tuple(Finding("task", str(problem)) for problem in error.problems)
        return [ValidationReport(folder.absolute().name, display_path(folder), found)]


async def _prove_all(
    tasks: Sequence[Task], folder: Path, platform: Platform, options: Options, effort: Effort, say: Say
) -> list[ValidationReport]:
    slots = asyncio.Semaphore(options.concurrency or default_concurrency(local=platform.kind == "local"))
    run = RunFolder.create(folder, new_run_id(), {"agent": "oracle"}, NO_REDACTION)
    templates = Templates(platform, options.results / "templates", say)
    context = RunContext(platform, NO_MODEL, run, Repos(run.path / "repos"), templates)
    try:
        return list(await asyncio.gather(*(prove(task, context, slots, effort, say) for task in tasks)))
    finally:
        if context.snapshots.is_used:
            await delete_snapshots(run.id, platform)
        context.repos.close()


async def prove(
    task: Task,
    context: RunContext,
    slots: asyncio.Semaphore,
    effort: Effort,
    say: Say = lambda line: None,
) -> ValidationReport:
    """One task's report. What breaks outside of it is a finding, too: nothing is known then."""
    assert task.path, "a task of a folder"
    begun = time.monotonic()
    proving = _Proving(task, context, slots, effort)
    try:
        await proving.run()
    except Fault as fault:
        proving.findings.append(_of_fault(fault))
    report = ValidationReport(
        task.name,
        display_path(task.path),
        tuple(_once(proving.findings)),
        tuple(check.name for check in task.checks),
        proving.verdicts.runs(),
        proving.nop_verdicts.runs(),
        proving.sharpness,
        round(time.monotonic() - begun, 1),
    )
    say(f"{task.name}: {'ok' if report.is_clean else 'wrong'} ({report.seconds:.0f} s)")
    return report


def _of_fault(fault: Fault) -> Finding:
    return Finding("cannot_run", f"it cannot be run: {fault.message}", fault.remedy)


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Each finding once, errors first."""
    levels = ("error", "warning", "note")
    yield from sorted(dict.fromkeys(findings), key=lambda finding: levels.index(finding.level))


@dataclass
class _Proving:
    """One task being proven; `findings` grow as it goes."""

    task: Task
    context: RunContext
    slots: asyncio.Semaphore
    effort: Effort
    findings: list[Finding] = field(default_factory=list)
    verdicts: CheckVerdicts = field(default_factory=CheckVerdicts)
    nop_verdicts: CheckVerdicts = field(default_factory=CheckVerdicts)
    sharpness: Sharpness = field(default_factory=Sharpness)
    slowest_ms: int = 0

    def __post_init__(self) -> None:
        folder = self.context.folder.path / "mutants" / self.task.name
        folder.mkdir(parents=True, exist_ok=True)
        self.prover = Prover(self.task, self.context, self.slots, folder)

    async def run(self) -> None:
        """Run all of it."""
        if self.task.git is not None:
            checkout = await self.context.repos.checkout(self.task.git)
            self.findings += (Finding("repo", note, level="note") for note in checkout.notes)
            self.task = self.prover.task = replace(self.task, repo=checkout.folder, git=None)
        self.findings += look_at_folder(self.task, self.task.repo)
        nop, oracle = await asyncio.gather(
            self.prover.trial("nop"), self.prover.trial("oracle") if has_solution(self.task) else _nothing()
        )
        if self._broken(nop) or (oracle and self._broken(oracle)):
            return
        self.findings += (Finding("repo", note, level="note") for note in nop.record.notes)
        self._count(self.nop_verdicts, nop)
        starter = _files(nop) or _files_of_folder(self.task.repo)
        if oracle is None:
            self._look_at_nop(nop, {})
            return
        self._count(self.verdicts, oracle)
        self.findings += self._of_session(oracle)
        solved = _files(oracle)
        changes = changes_between(starter, solved)
        self._look_at_nop(nop, changes)
        self.findings += look_at_prompts(self.task, starter, solved, self._made())
        if not self._in_sandbox():
            return
        self.slowest_ms = max((result.duration_ms or 0 for result in oracle.record.checks), default=0)
        await asyncio.gather(
            self._look_for_leaks(starter, changes),
            self._repeat_nop(nop),
            self._repeat_oracle(oracle),
        )
        if any(finding.kind == "oracle_fails" for finding in self.findings):
            return
        await asyncio.gather(self._move_clock(oracle), self._sharpness(oracle, starter))

    def _broken(self, proof: ProvenTrial) -> bool:
        fault = fault_of(proof.record)
        if fault:
            who = "the oracle's" if proof.record.agent == "oracle" else "a"
            kind = "oracle_fails" if fault.kind == "solution_failed" else "cannot_run"
            self.findings.append(Finding(kind, f"{who} trial broke: {fault.message}", fault.remedy))
        return fault is not None

    def _count(self, verdicts: CheckVerdicts, proof: ProvenTrial) -> None:
        names = {check.name for check in self._in_sandbox()}
        verdicts.add(GIVEN, self._in_sandbox(), [one for one in proof.record.checks if one.name in names])

    def _in_sandbox(self) -> tuple[Check, ...]:
        """The checks that run; the others only read what the agent said."""
        return tuple(check for check in self.task.checks if not check.is_of_session)

    def _of_session(self, oracle: ProvenTrial) -> Iterator[Finding]:
        """The findings on the checks of the answer and of the tools."""
        results = {result.name: result for result in oracle.record.checks}
        for check in self.task.checks:
            if not check.is_of_session:
                continue
            if check.name not in results:
                lacking = "session" if check.tools else "answer"
                what = f"check {check.name} cannot be proven: the oracle has no {lacking}"
                remedy = None if check.tools else "put the right answer into answer.md"
                yield Finding("not_proven", what, remedy, level="note", check=check.name)
            elif not results[check.name].passed:
                what = f"the oracle fails: check {check.name}: {results[check.name].output_tail}"
                yield Finding("oracle_fails", what, "mend answer.md or the check", check=check.name)

    def _made(self) -> str:
        """All texts beside repos that may name files: checks, solutions, commands, variables."""
        checks = [*self._check_files().values()]
        folders = [self.task.solution, *(turn.solution for turn in self.task.turns)]
        solutions = [path.read_bytes() for folder in folders if folder for path in _files_at(folder)]
        text = b" ".join([*checks, *solutions]).decode("utf-8", "replace")
        commands = (check.command or "" for check in self.task.checks)
        return " ".join(
            [text, *self.task.setup, *commands, *self.task.carry, *self.task.sandbox.env.values()]
        )

    def _check_files(self) -> dict[str, bytes]:
        folder = self.task.checks_folder
        if folder is None:
            return {}
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in files_in(folder)
            if path.is_file()
        }

    def _look_at_nop(self, nop: ProvenTrial, changes: Mapping[str, Change]) -> None:
        if nop.record.outcome == "passed":
            what = "nop passes: with nothing done, all checks pass"
            self.findings.append(Finding("nop_passes", what, "add a check that the starter repo fails"))
        prompts = "\n".join(turn.prompt for turn in self.task.turns)
        made = [change.path for change in changes.values() if change.before is None]
        for result in nop.record.checks:
            if nop.works and not result.passed and (finding := wrong_reason(result, prompts, made)):
                self.findings.append(finding)

    async def _judge(
        self, proof: ProvenTrial, order: Sequence[Check], passes: int
    ) -> list[tuple[CheckResult, ...]]:
        if self.task.grade_in_agents_sandbox:
            if proof.record.agent == "nop":
                again = await self.prover.trial("nop", replace(self.task, checks=tuple(order)))
                return [again.record.checks]
            return await self.prover.judge_in_place(order, passes=passes)
        return await self.prover.judge(proof, order, passes=passes)

    async def _repeat_oracle(self, oracle: ProvenTrial) -> None:
        """Judge the solution again and again: whole trials, in other orders, and each check alone."""
        checks, seed = self._in_sandbox(), self.task.name

        async def judge(order: Sequence[Check], passes: int) -> list[tuple[CheckResult, ...]]:
            return await self._judge(oracle, order, passes)

        async def again() -> None:
            self._count(self.verdicts, await self.prover.trial("oracle"))

        ways = list(orders_of(checks, max(self.effort.times - _WHOLE_TRIALS, 2), seed))
        alone = [(f"{ALONE}: {check.name}", (check,)) for check in checks] if len(checks) > 1 else []
        repeats = [again() for _ in range(_WHOLE_TRIALS - 1)]
        await asyncio.gather(
            *repeats, *(run_twice(judge, self.verdicts, how, order) for how, order in [*ways, *alone])
        )
        self.findings += await findings_of(judge, self.verdicts, asyncio.gather)
        self.findings += _never_right(self.verdicts)

    async def _repeat_nop(self, nop: ProvenTrial) -> None:
        async def judge(order: Sequence[Check], passes: int) -> list[tuple[CheckResult, ...]]:
            return await self._judge(nop, order, passes)

        ways = list(orders_of(self._in_sandbox(), max(self.effort.times // 4, 1), self.task.name))
        await asyncio.gather(*(run_twice(judge, self.nop_verdicts, how, order) for how, order in ways))
        # Checks that need what others leave may fail of no work either way; what changes by chance is told.
        found = await findings_of(judge, self.nop_verdicts, asyncio.gather)
        self.findings += (finding for finding in found if finding.kind == "flaky_check")

    async def _move_clock(self, oracle: ProvenTrial) -> None:
        if clock.build_clock_library() is None or self.task.grade_in_agents_sandbox:
            for name, content in self._check_files().items():
                if clock.reads_clock(content.decode("utf-8", "replace")):
                    what = (
                        f"checks/{name} asks what time it is; whether it depends on that could not be tried"
                    )
                    self.findings.append(Finding("clock", what, level="warning"))
            return
        moments = list(clock.moments_to_try(datetime.now(UTC)))[: None if self.effort.times > 1 else 1]
        found = await asyncio.gather(*(self.prover.judge_later(oracle.works, shift) for shift, _ in moments))
        failed = {
            result.name: moment
            for (_, moment), results in zip(moments, found, strict=True)
            for result in results
            if not result.passed
        }
        flaky = {finding.check for finding in self.findings if finding.kind == "flaky_check"}
        for name, moment in failed.items():
            if name not in flaky:
                what = f"check {name} depends on the clock: it fails when it is {moment:%A, %Y-%m-%d %H:%M}"
                remedy = "compare with fixed times, or give the code under test its clock"
                self.findings.append(Finding("clock_dependent", what, remedy, check=name))

    async def _look_for_leaks(self, starter: Mapping[str, bytes], changes: Mapping[str, Change]) -> None:
        secrets = [
            *leaks.secrets_of_solution(changes),
            *leaks.secrets_of_checks(self._hidden(starter, changes), starter),
        ]
        for path, content in starter.items():
            self.findings += (
                _leak(secret, f"the starter repo's {path}")
                for secret in leaks.found_in(secrets, path, content)
            )
        known = {_blob(content) for content in starter.values()}
        blobs = sorted({_blob(one.after) for one in changes.values() if one.after is not None} - known)[:200]
        self.findings += await asyncio.to_thread(_histories_of_folder, self.task, blobs)
        lines = sorted({line for secret in secrets for line in secret.lines})
        files, histories = await self.prover.look_around(lines, blobs)
        for path, content in files.items():
            self.findings += (_leak(secret, path) for secret in leaks.found_in(secrets, path, content))
        self.findings += (finding for history in histories if (finding := _of_history(history, history.path)))

    def _hidden(self, starter: Mapping[str, bytes], changes: Mapping[str, Change]) -> dict[str, bytes]:
        """The files of checks/ that the agent should not find: not those that keep what it gets, to compare with."""
        kept = {change.before for change in changes.values()}
        kept |= (
            {starter.get(name) for name in matching_files(self.task.repo, self.task.protect)}
            if self.task.repo
            else set()
        )
        return {name: content for name, content in self._check_files().items() if content not in kept}

    async def _sharpness(self, oracle: ProvenTrial, starter: Mapping[str, bytes]) -> None:
        candidates = list(self._mutants(oracle, starter))
        limit = _SLOWEST_FACTOR * self.slowest_ms / 1000 + _LEAST_TIMEOUT_S
        timeout = min(self.task.check_timeout, limit)
        tried: list[tuple[Mutant, bool]] = []
        while candidates and len(tried) < self.effort.mutants:
            wanted = self.effort.mutants - len(tried)
            batch, candidates = candidates[:wanted], candidates[wanted:]
            noticed = await asyncio.gather(
                *(self.prover.notices(oracle.works, one, timeout) for one in batch)
            )
            tried += [(one, seen) for one, seen in zip(batch, noticed, strict=True) if seen is not None]
        survivors = tuple(Survivor(one.path, one.how, one.diff) for one, seen in tried if not seen)
        self.sharpness = Sharpness(len(tried), survivors)
        share = self.sharpness.share
        if share is not None and share < SHARP:
            takes_anything = any(one.how == ANOTHER_CONTENT for one in survivors)
            # One alone may mean the same as the solution.
            is_blunt = share < BLUNT and len(survivors) > 1
            level: Level = "error" if is_blunt or takes_anything else "warning"
            what = f"the checks notice {share:.0%} of {len(tried)} mutants of the solution, fewer than {SHARP:.0%}"
            self.findings.append(
                Finding("blunt", what, "let them look at what the mutants below change", level)
            )

    def _mutants(self, oracle: ProvenTrial, starter: Mapping[str, bytes]) -> Iterator[Mutant]:
        named = self._named_by_checks()
        if self.task.grade_in_agents_sandbox:
            yield from mutants(judged_changes(self._solution_files(starter), named), seed=self.task.name)
            return
        of_works = []
        for turn, work in oracle.works.items():
            if isinstance(work, Work) and work.repo:
                changes = judged_changes(changes_between(starter, read_files(work.repo)), named)
                of_works.append(at_turn(mutants(changes, seed=self.task.name), turn))
        for row in zip_longest(*of_works):
            yield from (mutant for mutant in row if mutant)

    def _solution_files(self, starter: Mapping[str, bytes]) -> dict[str, Change]:
        """The solution's own files as changes, for work that cannot be carried; solve.sh if there is nothing else."""
        folder = self.task.solution
        if folder is None or folder.is_file():
            return {}
        names = {path.relative_to(folder).as_posix(): path for path in _files_at(folder)}
        chosen = {name: path for name, path in names.items() if name != "solve.sh"} or names
        return {name: Change(name, starter.get(name), path.read_bytes()) for name, path in chosen.items()}

    def _named_by_checks(self) -> str:
        commands = [check.command or "" for check in self.task.checks]
        return " ".join(
            [*commands, *(content.decode("utf-8", "replace") for content in self._check_files().values())]
        )


async def _nothing() -> None:
    return None


def _files_at(place: Path) -> list[Path]:
    """The files of a folder, or the one file that it is."""
    return [place] if place.is_file() else [path for path in files_in(place) if path.is_file()]


def _files(proof: ProvenTrial) -> dict[str, bytes]:
    work = proof.works.get(None)
    return read_files(work.repo) if isinstance(work, Work) and work.repo else {}


def _files_of_folder(folder: Path | None) -> dict[str, bytes]:
    """The starter's files, where nothing of the work with nothing done could be carried."""
    found = _files_at(folder) if folder else []
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found} if folder else {}


def _never_right(verdicts: CheckVerdicts) -> Iterator[Finding]:
    for name, said in verdicts.by_check.items():
        if not any(passed for found in said.values() for passed in found):
            words = verdicts.words[name].strip()[-500:]
            what = f"the oracle fails: check {name} does not pass the solution: {words}"
            yield Finding("oracle_fails", what, "mend the solution or the check", check=name)


def _leak(secret: leaks.Secret, where: str) -> Finding:
    return Finding("leak", f"{where} gives away {secret.origin}", "take it out of the agent's reach")


def _blob(content: bytes) -> str:
    """The id that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _histories_of_folder(task: Task, blobs: Sequence[str]) -> Iterator[Finding]:
    """Of histories in the starter's folder. Its own .git goes into no sandbox, and tells what an author meant."""
    if task.repo is None:
        return iter(())
    script = call(Path(__file__).parent / "histories.sh", str(task.repo), "0", *blobs)
    env = plain_environment(environment(os.environ))
    done = subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    found = (_of_history(history, display_path(Path(history.path))) for history in histories_in(done.stdout))
    return iter([finding for finding in found if finding])


def _of_history(history: GitHistory, shown: str) -> Finding | None:
    remedy = "remove it; a starter repo has the files of one commit, and no history"
    if history.has:
        return Finding(
            "history", f"{shown} has later commits: {history.has} files of the solution are in it", remedy
        )
    if history.later:
        return Finding("history", f"{shown} has {history.later} commits that come after its HEAD", remedy)
    if history.commits > 1:
        return Finding("history", f"{shown} has a history of {history.commits} commits", remedy, level="note")
    return None
