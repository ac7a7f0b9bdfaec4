"""`harness mine`: the commits of a history that make good tasks, each proven in a sandbox."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.authoring.commits import Commit, history, read_commit, top_of
from harness.authoring.proving import ProvenTrial, Prover, fault_of
from harness.authoring.runners import runner_of
from harness.authoring.validate import Effort, prove
from harness.authoring.writing import Runner, write_of_commit
from harness.errors import Fault, ProblemsError
from harness.models.model import NO_MODEL
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder, new_run_id
from harness.runs.options import Options
from harness.runs.resources import default_concurrency, platform_of
from harness.sandboxes.platform import Platform
from harness.sandboxes.templates import Templates
from harness.tasks.gitrepo import Repos
from harness.tasks.loading import load_task
from harness.tasks.task import Task
from harness.tasks.tomlfile import display_path
from harness.trials.context import RunContext

STATE = "mined.json"
"""In the folder with the mined tasks: what each commit that was tried came to."""
PROVEN = "proven"
_UNPROVEN = ".part"
_TIMES = 2
_TOLD = 300
_CANNOT_RUN = "cannot be run"
_LONGEST_S = 120.0
"""Tests that take longer than this make no task that can be tried often."""
_REASONS = {
    "oracle_fails": "tests that pass by chance",
    "flaky_check": "tests that pass by chance",
    "nop_passes": "tests that pass without the commit's change",
    "wrong_reason": "tests that assert nothing without the commit's change",
    "clock_dependent": "tests that depend on the clock",
    "blunt": "tests that notice too little of the commit's change",
    "leak": "a change that can be read elsewhere in the repo",
    "cannot_run": _CANNOT_RUN,
}
"""By what validating finds wrong with a task, why its commit falls out."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Yield:
    """The result of mining: the number of commits, for each the reason why it is no task, or PROVEN; and the tasks."""

    commits: int
    verdicts: dict[str, str]
    tasks: tuple[str, ...] = ()

    def told(self) -> str:
        """In words: how many, and why the others fell out."""
        tried = {one: why for one, why in self.verdicts.items() if not why.startswith("unsuited: ")}
        proven = [why for why in tried.values() if why == PROVEN]
        lines = [
            f"{_count(self.commits, 'commit')}, {_count(len(tried), 'candidate')}, {len(proven)} proven",
            *_reasons(
                "not tried",
                [
                    why.removeprefix("unsuited: ")
                    for why in self.verdicts.values()
                    if why not in tried.values()
                ],
            ),
            *_reasons("fell out", [why.partition(":")[0] for why in tried.values() if why != PROVEN]),
            *(f"  {task}" for task in self.tasks),
        ]
        return "".join(f"{line}\n" for line in lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _reasons(head: str, reasons: Sequence[str]) -> list[str]:
    return [f"  {head}: {number} {why}" for why, number in sorted(Counter(reasons).items())]


def mine(
    repo: Path,
    into: Path,
    options: Options,
    since: str | None = None,
    say: Say = lambda line: None,
    *,
    mutants: int = 0,
) -> Yield:
    """Make tasks of the commits of a history, and prove each, with so many mutants of its solution. What was tried
    before is not tried again.

    Raises:
        UsageError: when there is no history, or no platform.
    """
    top = top_of(repo)
    ids = history(top, since)
    state = into / STATE
    known: dict[str, str] = json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {}
    commits = [read_commit(top, one) for one in ids if one not in known]
    for commit in commits:
        if reason := commit.unsuited():
            known[commit.id] = f"unsuited: {reason}"
    candidates = [commit for commit in commits if commit.id not in known]
    if candidates:
        into.mkdir(parents=True, exist_ok=True)
        with platform_of(options) as platform:
            _Mining(top, into, platform, options, known, mutants, say).run(candidates)
    verdicts = {one: known[one] for one in ids}
    tasks = [into / read_commit(top, one).name for one in ids if verdicts[one] == PROVEN]
    return Yield(len(ids), verdicts, tuple(display_path(task) for task in tasks))


def prove_commit(repo: Path, commit: Commit, folder: Path, options: Options, say: Say) -> str:
    """Make a task of one commit in a folder, if it can be proven; PROVEN, or why not."""
    if reason := commit.unsuited():
        return f"it {reason}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as name,
        platform_of(options) as platform,
    ):
        into, known = Path(name), dict[str, str]()
        _Mining(repo, into, platform, options, known, say=say).run([commit], at=folder)
    return known[commit.id]


@dataclass
class _Mining:
    """Candidates being proven; `known` has what each came to, and is kept as it grows."""

    repo: Path
    into: Path
    platform: Platform
    options: Options
    known: dict[str, str]
    mutants: int = 0
    say: Say = lambda line: None

    def run(self, candidates: Sequence[Commit], at: Path | None = None) -> None:
        """Prove them all. Each task gets the name of its commit, or that one's is put `at` a place."""
        # Around the loop: what is cancelled ends its sandboxes and writes what it came to before the loop is closed.
        with tempfile.TemporaryDirectory(prefix="harness-mine-") as name:
            asyncio.run(self._run_all(Path(name), candidates, at))

    async def _run_all(self, folder: Path, candidates: Sequence[Commit], at: Path | None) -> None:
        here = self.platform.kind == "local"
        at_once = self.options.concurrency or default_concurrency(local=here)
        # One by one, so that what is interrupted has lost little; each keeps its sandboxes busy by itself.
        slots, turns = asyncio.Semaphore(at_once), asyncio.Semaphore(at_once)
        for left in self.into.glob(f"*{_UNPROVEN}"):
            shutil.rmtree(left)

        async def one(commit: Commit, context: RunContext) -> None:
            async with turns:
                await self._one(commit, context, slots, at)

        run = RunFolder.create(folder, new_run_id(), {"agent": "oracle"}, NO_REDACTION)
        templates = Templates(self.platform, self.options.results / "templates", self.say)
        context = RunContext(self.platform, NO_MODEL, run, Repos(run.path / "repos"), templates)
        try:
            await asyncio.gather(*(one(commit, context) for commit in candidates))
        finally:
            context.repos.close()

    async def _one(
        self, commit: Commit, context: RunContext, slots: asyncio.Semaphore, at: Path | None
    ) -> None:
        try:
            verdict = await self._proven(commit, context, slots, at or self.into / commit.name)
        except ProblemsError as error:
            verdict = f"cannot be a task: {error.problems[0]}"
        except Fault as fault:
            verdict = f"{_CANNOT_RUN}: {fault.message[:_TOLD]}"
        self.known[commit.id] = verdict
        self.say(f"{commit.id[:8]} {commit.subject[:60]}: {verdict}")
        # A fault outside of the commit may not come another time.
        known = {one: why for one, why in self.known.items() if not why.startswith(_CANNOT_RUN)}
        text = json.dumps(dict(sorted(known.items())), indent=2)
        (self.into / STATE).write_text(text + "\n", encoding="utf-8")

    async def _proven(
        self, commit: Commit, context: RunContext, slots: asyncio.Semaphore, target: Path
    ) -> str:
        runner = await asyncio.to_thread(runner_of, self.repo, commit)
        if isinstance(runner, str):
            return f"tests that cannot be run: {runner}"
        # Beside the target: its paths lead to the repo from there.
        folder = target.with_name(f"{target.name}{_UNPROVEN}")
        try:
            verdict = await self._tried(commit, runner, folder, context, slots)
            if verdict == PROVEN:
                shutil.rmtree(target, ignore_errors=True)
                folder.rename(target)
            return verdict
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _tried(
        self, commit: Commit, runner: Runner, folder: Path, context: RunContext, slots: asyncio.Semaphore
    ) -> str:
        await asyncio.to_thread(write_of_commit, folder, self.repo, commit, runner)
        found = await self._run(folder, context, slots)
        if isinstance(found, str):
            return found
        (before, *after), words = found
        steady = set.intersection(*after) if after else set()
        must_pass, still = sorted(steady - before), sorted(steady & before)
        if not steady:
            return f"tests that fail with the commit's own change: {words}"
        if not must_pass:
            return "tests that pass without the commit's change"
        if set.union(*after) - before - steady:
            return "tests that pass by chance"
        await asyncio.to_thread(
            write_of_commit, folder, self.repo, commit, runner, must_pass=must_pass, must_still_pass=still
        )
        return await self._confirmed(folder, context, slots)

    async def _confirmed(self, folder: Path, context: RunContext, slots: asyncio.Semaphore) -> str:
        """True if the task as it is written has no errors that validating it would tell."""
        report = await prove(_named_anew(load_task(folder)), context, slots, Effort(1, self.mutants))
        for finding in report.findings:
            if finding.level == "error":
                return f"{_REASONS.get(finding.kind, finding.kind)}: {finding.what[:_TOLD]}"
        return PROVEN

    async def _run(
        self, folder: Path, context: RunContext, slots: asyncio.Semaphore
    ) -> tuple[list[set[str]], str] | str:
        """The tests that pass with nothing done, and those that pass with the solution, each time; and what was said
        of the last.
        """
        task = replace(_named_anew(load_task(folder)), check_timeout=_LONGEST_S)
        prover = Prover(task, context, slots, context.folder.path)
        proofs = await asyncio.gather(prover.trial("nop"), *(prover.trial("oracle") for _ in range(_TIMES)))
        results = [result for proof in proofs for result in proof.record.checks]
        for proof in proofs:
            if fault := fault_of(proof.record):
                return f"{_CANNOT_RUN}: {fault.message[:_TOLD]}"
        if any(result.timed_out for result in results):
            return f"tests that take longer than {_LONGEST_S:.0f} s"
        words = " ".join(results[-1].output_tail.strip().splitlines()[-3:])[-_TOLD:]
        if not any(result.tests for result in proofs[-1].record.checks):
            return f"tests that cannot be run: {words}"
        return [_passed(proof) for proof in proofs], words


def _named_anew(task: Task) -> Task:
    """The task by a name of its own in each round, and with it folders."""
    return replace(task, name=f"{task.name}.{task.hash[:8]}")


def _passed(proof: ProvenTrial) -> set[str]:
    found = (test for result in proof.record.checks for test in result.tests or ())
    return {test.name for test in found if test.outcome == "passed"}
