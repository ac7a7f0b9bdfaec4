"""A task at work, to prove it: whole trials of the oracle and of nop, and works judged again and again."""

from __future__ import annotations

import asyncio
import functools
import itertools
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from harness.authoring import clock
from harness.authoring.mutants import Mutant, syntax_command
from harness.authoring.work_files import write_mutated
from harness.errors import Fault, SandboxFault
from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult
from harness.records.stream import SessionBuilder
from harness.records.trial_spec import TrialSpec
from harness.runs.regrade import NotRegradableError, stored_works
from harness.sandboxes.sandbox import CommandTimeoutError, Sandbox
from harness.sandboxes.shell import call
from harness.tasks.task import Check, Task
from harness.trials.attempt import Attempt
from harness.trials.checks import Place, failed_check, run_checks
from harness.trials.context import RunContext
from harness.trials.grading import (
    UnusableWorkError,
    Works,
    asked_checks,
    open_grading_sandbox,
    prepare,
)
from harness.trials.opening import Start, prepare_start
from harness.trials.runner import Retries, TrialRunner
from harness.trials.session_checks import Told, session_files
from harness.trials.trial import open_trial
from harness.trials.work import Work
from harness.variants.variant import DEFAULT

T = TypeVar("T")
_TRIES = 3
_PARSES = "harness-parses"
_NOT_KEPT = "nothing of the work could be carried"
_FOLDER = Path(__file__).parent
_REACH = "~ /opt /srv /app /workspace /workspaces /code /data /mnt /media /root /tmp /usr/local"
_LOOK_S = 150.0
_NO_FIELDS = 5
_READ_BYTES = 1_000_000


@dataclass(frozen=True)
class ProvenTrial:
    """A whole trial: its record, and what was kept of its work."""

    record: TrialRecord
    works: Works


@dataclass(frozen=True)
class GitHistory:
    """A git repository, or a bundle, in an agent's reach: its commits, those that its HEAD has not, and how many
    of the solution's files it has.
    """

    path: str
    commits: int
    later: int
    has: int


@dataclass
class Prover:
    """Runs one task. `slots` are those of all tasks that are proven at once."""

    task: Task
    context: RunContext
    slots: asyncio.Semaphore
    folder: Path
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _start: Start | None = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def trial(self, agent: str, task: Task | None = None) -> ProvenTrial:
        """A whole trial by an agent that needs no model."""
        spec = TrialSpec(task or self.task, DEFAULT, next(self._numbers), agent)
        async with self.slots:
            record, _ = await TrialRunner(spec, self.context).run(Retries())
        try:
            works = stored_works(self.context.folder, record, spec.task)
        except NotRegradableError:
            works = {}
        return ProvenTrial(record, works)

    async def judge(
        self, proof: ProvenTrial, checks: Sequence[Check], *, passes: int = 1
    ) -> list[tuple[CheckResult, ...]]:
        """Have checks judge a trial's works in fresh sandboxes, in this order, `passes` times in each."""
        if not proof.works:
            return [tuple(failed_check(check, _NOT_KEPT) for check in checks)] * passes
        results: list[tuple[CheckResult, ...]] = []
        for turn, work in proof.works.items():
            asked = list(asked_checks(replace(self.task, checks=tuple(checks)), proof.works, turn))
            if not isinstance(work, Work):
                found = tuple(failed_check(check, str(work)) for check in asked * passes)
            else:
                found = await self._graded(work, asked * passes, told=self._told(proof.record.agent))
            size = len(asked)
            parts = [found[size * number : size * (number + 1)] for number in range(passes)]
            empty: tuple[CheckResult, ...] = ()
            results = [
                before + part for before, part in itertools.zip_longest(results, parts, fillvalue=empty)
            ]
        return results

    async def judge_in_place(
        self, checks: Sequence[Check], *, passes: int = 1
    ) -> list[tuple[CheckResult, ...]]:
        """The same for a task whose checks run where the agent was: a whole trial."""
        proof = await self.trial("oracle", replace(self.task, checks=tuple(checks) * passes))
        found, size = proof.record.checks, len(checks)
        return [found[size * number : size * (number + 1)] for number in range(passes)] if found else []

    async def judge_later(self, works: Works, shift: int) -> tuple[CheckResult, ...]:
        """The checks' verdicts on works when the clock in their sandbox has been moved on; none where it cannot be."""
        moved = clock.build_clock_library()
        if moved is None:
            return ()
        results: tuple[CheckResult, ...] = ()
        for turn, work in works.items():
            if isinstance(work, Work):
                asked = asked_checks(self.task, works, turn)
                results += await self._tried(functools.partial(self._shifted, work, asked, shift, moved))
        return results

    async def _shifted(
        self, work: Work, checks: Sequence[Check], shift: int, moved: bytes
    ) -> tuple[CheckResult, ...]:
        async with self._place(work) as place:
            library = f"{place.baseline.home}/.harness-clock.so"
            await place.sandbox.write(library, moved)
            env = {**self.task.sandbox.env, "LD_PRELOAD": library, "HARNESS_CLOCK_SHIFT": str(shift)}
            task = replace(self.task, sandbox=self.task.sandbox.model_copy(update={"env": env}))
            return await run_checks(place, task, checks, told=self._told("oracle"))

    async def notices(self, works: Works, mutant: Mutant, timeout: float) -> bool | None:
        """True if a check fails for a mutant; None for one that does not parse."""
        if self.task.grade_in_agents_sandbox:
            return await self._notices_in_place(mutant)
        work = works[mutant.turn]
        assert isinstance(work, Work), "mutants are made of what was carried"
        assert work.repo, "and of a repo"
        target = self.folder / f"mutant-{next(self._numbers)}.tar"
        await asyncio.to_thread(write_mutated, work.repo, mutant.path, mutant.content, target)
        parses = syntax_command(mutant.path, mutant.content)
        checks = [Check(_PARSES, command=parses)] if parses else []
        asked = [*checks, *asked_checks(self.task, works, mutant.turn)]
        try:
            limited = replace(self.task, check_timeout=timeout)
            told = self._told("oracle")
            found = await self._graded(
                replace(work, repo=target), asked, task=limited, until_failed=True, told=told
            )
        finally:
            target.unlink()
        if any(result.name == _PARSES and not result.passed for result in found):
            return None
        return not all(result.passed for result in found)

    async def _notices_in_place(self, mutant: Mutant) -> bool | None:
        assert self.task.solution, "mutants are made of it"
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            solution = Path(folder) / "solution"
            await asyncio.to_thread(_copy_mutated, self.task.solution, mutant, solution)
            proof = await self.trial("oracle", replace(self.task, solution=solution))
        if proof.record.outcome == "error":
            return None
        return proof.record.outcome != "passed"

    def _told(self, agent: str) -> dict[str, bytes] | None:
        """The session that the checks can read; the oracle has none, but an answer."""
        answer = self.task.answer if agent == "oracle" else None
        return session_files(self.task, Told(bytes, SessionBuilder().session(), answer, is_known=False))

    async def _graded(
        self,
        work: Work,
        checks: Sequence[Check],
        task: Task | None = None,
        *,
        until_failed: bool = False,
        told: Mapping[str, bytes] | None = None,
    ) -> tuple[CheckResult, ...]:
        async def once() -> tuple[CheckResult, ...]:
            async with self._place(work) as place:
                problem = await prepare(place, self._spec())
                if problem:
                    return tuple(failed_check(check, problem) for check in checks)
                return await run_checks(
                    place, task or self.task, checks, until_failed=until_failed, told=told
                )

        try:
            return await self._tried(once)
        except UnusableWorkError as error:
            return tuple(failed_check(check, str(error)) for check in checks)

    @asynccontextmanager
    async def _place(self, work: Work) -> AsyncIterator[Place]:
        spec = self._spec()
        async with open_grading_sandbox(spec, self.context, await self._started(), work) as (place, _):
            yield place

    async def _started(self) -> Start:
        async with self._starting:
            if self._start is None:
                spec = self._spec()
                self._start = await prepare_start(spec, self.context, Attempt.begin(spec, self.context, 1))
            return self._start

    def _spec(self) -> TrialSpec:
        return TrialSpec(self.task, DEFAULT, 1, "oracle")

    async def _tried(self, do: Callable[[], Awaitable[T]]) -> T:
        """Do it in a slot; when the platform breaks, in another sandbox again."""
        for number in range(1, _TRIES + 1):
            try:
                async with self.slots:
                    return await do()
            except SandboxFault as fault:
                if number == _TRIES or not (fault.retry or fault.policy.is_gone):
                    raise
        raise AssertionError("the last try returns or raises")

    async def look_around(
        self, lines: Sequence[str], blobs: Sequence[str]
    ) -> tuple[dict[str, bytes], tuple[GitHistory, ...]]:
        """Look at what an agent finds in its sandbox before it has done anything.

        Returns the files beside the repo that hold one of the lines, with their content, and histories.
        """

        async def look() -> tuple[dict[str, bytes], tuple[GitHistory, ...]]:
            spec = TrialSpec(self.task, DEFAULT, next(self._numbers), "nop")
            attempt = Attempt.begin(spec, self.context, 1)
            async with open_trial(spec, self.context, attempt) as trial:
                return await _look(trial.sandbox, trial.baseline.home, lines, blobs)

        return await self._tried(look)


async def _look(
    sandbox: Sandbox, home: str, lines: Sequence[str], blobs: Sequence[str]
) -> tuple[dict[str, bytes], tuple[GitHistory, ...]]:
    wanted = f"{home}/.harness-lines"
    script = call(_FOLDER / "histories.sh", home, "1", *blobs)
    if lines:
        await sandbox.write(wanted, "".join(f"{line}\n" for line in lines).encode())
        script += "\n" + call(_FOLDER / "lying_around.sh", wanted, _REACH.replace("~", home))
    try:
        told = (await sandbox.run(script, timeout=_LOOK_S)).stdout
    except CommandTimeoutError:
        return {}, ()
    files = {}
    for line in told.splitlines():
        if line.startswith("file="):
            path = line.removeprefix("file=")
            files[path] = (await sandbox.run(f"cat -- {shlex.quote(path)}", timeout=30)).stdout.encode()[
                :_READ_BYTES
            ]
    return files, histories_in(told)


def histories_in(told: str) -> tuple[GitHistory, ...]:
    """Read the answer of `histories.sh`."""
    rows = [line.split("\t") for line in told.splitlines() if line.startswith("history\t")]
    return tuple(GitHistory(row[1], *map(int, row[2:])) for row in rows if len(row) == _NO_FIELDS)


def _copy_mutated(solution: Path, mutant: Mutant, target: Path) -> None:
    shutil.copytree(solution, target, symlinks=True)
    file = target / mutant.path
    if mutant.content is None:
        file.unlink()
    else:
        file.write_bytes(mutant.content)


def fault_of(record: TrialRecord) -> Fault | None:
    """The fault that broke a trial, if any."""
    return record.error.fault() if record.error else None


def by_name(results: Sequence[CheckResult]) -> Mapping[str, CheckResult]:
    """Checks' results by their names."""
    return {result.name: result for result in results}
