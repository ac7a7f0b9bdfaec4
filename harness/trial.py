"""One trial, from a fresh sandbox to its record."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from harness import __version__
from harness.agents.base import Agent, Workplace
from harness.agents.claude import Claude
from harness.agents.nop import Nop
from harness.agents.oracle import Oracle
from harness.apply import hosts, luggage
from harness.checks import run_checks
from harness.errors import Fault, InternalFault, NotAppliedError, SandboxFault
from harness.gitrepo import Repos
from harness.model import Model, Recorded
from harness.pacing import Pacer
from harness.patience import PATIENT, Patience
from harness.proof import (
    INSTRUCTIONS,
    differences_at_end,
    differences_at_start,
    differences_in_instructions,
    loaded_instructions,
)
from harness.protect import protected_files, restore
from harness.record import (
    AgentName,
    AttemptRecord,
    CheckResult,
    ErrorRecord,
    InstructionsRecord,
    Outcome,
    Phases,
    SandboxRecord,
    StartRecord,
    Stop,
    Tampering,
    TokenCounts,
    TrialRecord,
    TrialSpec,
    session_fields,
)
from harness.sandbox import Platform, Sandbox
from harness.shell import Seen, look_each
from harness.starts import differences_in_starts, not_seen, seen_starts, start_records
from harness.store import TRANSCRIPT, Appender, RunFolder, TrialFolder
from harness.stream import Session
from harness.task import Check, Task
from harness.templates import Templates
from harness.variant import Variant, revealed
from harness.workspace import Baseline, NoDiffError, diff_since, in_copy, seed, stop_processes, take_diff

AGENTS: dict[AgentName, type[Agent]] = {"claude": Claude, "oracle": Oracle, "nop": Nop}
Keep = Literal["none", "failed", "all"]
KEPT = "kept.json"
"""In a trial's folder: what `harness attach` and `harness checks` need to know of a sandbox that was kept."""

INTERRUPTED = "interrupted"
"""The type of the error of a trial that was cut off."""
_REPLAY_SERVER = Path(__file__).with_name("replay.py")


@dataclass(frozen=True)
class World:
    """What all trials of a run share. `secrets` has the values that variants refer to by name."""

    platform: Platform
    model: Model
    folder: RunFolder
    repos: Repos
    templates: Templates
    git_commit: str | None = None
    pacer: Pacer = field(default_factory=Pacer)
    patience: Patience = PATIENT
    template_ids: dict[str, str] = field(default_factory=dict)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    secrets: Mapping[str, str] = field(default_factory=dict)
    keep: Keep = "none"


@dataclass
class Attempt:
    """What is known of one attempt so far; filled in as it goes, so that nothing is lost when it breaks off.

    `verdict` is a Python test's own, where one judges in the checks' place.
    """

    number: int
    files: TrialFolder
    transcript: Appender
    started_at: str = field(default_factory=lambda: _now())
    began: float = field(default_factory=time.monotonic)
    phases: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    repo_commit: str | None = None
    recording: Recorded | None = None
    sandbox_id: str | None = None
    template: str | None = None
    template_id: str | None = None
    place: Workplace | None = None
    stop: Stop | None = None
    checks: tuple[CheckResult, ...] = ()
    tampering: tuple[Tampering, ...] = ()
    diff: str | None = None
    notes: tuple[str, ...] = ()
    fault: Fault | None = None
    verdict: bool | None = None
    kept: bool = False
    hides: bool = False
    differences: tuple[str, ...] = ()
    instructions: tuple[InstructionsRecord, ...] = ()
    starts: tuple[StartRecord, ...] = ()

    @classmethod
    def begin(cls, spec: TrialSpec, world: World, number: int) -> Attempt:
        """A new attempt at a trial, its files in the trial's folder."""
        files = world.folder.trial(spec.task.name, spec.variant.name, spec.index)
        return cls(number, files, files.appender(TRANSCRIPT))

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, also when it breaks off; one that comes again is added up, one within another taken off it."""
        start = time.monotonic()
        self.running.append(name)
        try:
            yield
        finally:
            self.running.pop()
            took = _ms(start)
            self.phases[name] = self.phases.get(name, 0) + took
            for outer in self.running[-1:]:
                self.phases[outer] = self.phases.get(outer, 0) - took

    def hide(self, name: str, secret: str) -> None:
        """Keep a secret of the sandbox's own out of the trial's files, none of which is begun yet."""
        self.hides = True
        self.files = replace(self.files, redact=self.files.redact.also(name, secret))
        self.transcript = self.files.appender(TRANSCRIPT)

    @property
    def session(self) -> Session:
        """What the transcript tells so far."""
        return self.place.tally.session() if self.place else Session()

    def set_aside(self) -> None:
        """Make room for the next attempt; this one's transcript is kept."""
        self.transcript.move(self.files.attempt(self.number))

    def end(self) -> None:
        """Nothing more comes."""
        self.transcript.close()
        self.phases["total"] = _ms(self.began)


async def run_attempt(spec: TrialSpec, world: World, attempt: Attempt) -> None:
    """Try a trial once, in a sandbox of its own. A fault ends it and is kept; the sandbox goes whatever happens.

    Raises:
        CancelledError: when it was cut off; the attempt says so, too.
    """
    try:
        if spec.agent == "claude":
            world.model.require_way(spec.task)
        spec = await _with_repo(spec, world, attempt)
        async with _created(spec, world, attempt) as sandbox, _whole(spec.task, world.patience):
            live = await _furnished(spec, world, attempt, sandbox)
            await live.agent_runs()
            await live.prove(await live.collect())
            await live.check()
    except NotAppliedError as error:
        attempt.differences = error.differences
    except Fault as fault:
        attempt.fault = fault
    except asyncio.CancelledError:
        attempt.fault = interrupted()
        raise
    except Exception as error:  # noqa: BLE001  (a defect of ours must not take the other trials down)
        attempt.fault = _bug(error, attempt.files)
    finally:
        attempt.end()


def _bug(error: Exception, files: TrialFolder) -> InternalFault:
    """A defect of ours, its traceback kept in the trial's folder."""
    told = "".join(traceback.format_exception(error))
    with contextlib.suppress(InternalFault):
        files.write("traceback.txt", told.encode("utf-8", "replace"))
    fault = InternalFault(
        "bug",
        f"{type(error).__name__}: {error}",
        retry=False,
        remedy="this is a defect of harness; traceback.txt in the trial's folder says where",
    )
    fault.__cause__ = error
    return fault


def interrupted() -> InternalFault:
    """What a trial that is cut off has for a fault."""
    return InternalFault(INTERRUPTED, "the run was stopped before this trial had ended", retry=False)


@contextlib.asynccontextmanager
async def opened(spec: TrialSpec, world: World, attempt: Attempt) -> AsyncIterator[LiveTrial]:
    """A fresh sandbox with the task's repo in it; gone, or kept on purpose, when this closes."""
    spec = await _with_repo(spec, world, attempt)
    async with _created(spec, world, attempt) as sandbox:
        yield await _furnished(spec, world, attempt, sandbox)


@contextlib.asynccontextmanager
async def _created(spec: TrialSpec, world: World, attempt: Attempt) -> AsyncIterator[Sandbox]:
    """A fresh sandbox from the trial's template; gone, or kept on purpose, when this closes."""
    with attempt.phase("build"):
        attempt.template = await world.templates.name(spec.template, spec.task.path or Path.cwd())
    attempt.recording = world.model.recording(spec.task)
    with attempt.phase("create"):
        sandbox = await world.pacer.create(functools.partial(_create, spec, world, attempt.template))
    attempt.sandbox_id = sandbox.id
    if sandbox.mcp_token:
        attempt.hide("MCP_GATEWAY_TOKEN", sandbox.mcp_token)
    try:
        async with sandbox.kept_alive():
            yield sandbox
    except BaseException as error:
        await _end(spec, world, attempt, sandbox, error)
        raise
    else:
        await _end(spec, world, attempt, sandbox, None)


@contextlib.asynccontextmanager
async def _whole(task: Task, patience: Patience) -> AsyncIterator[None]:
    """The limit of a whole attempt, from when its sandbox is there.

    Setup, agent and checks have limits of their own. So whoever comes to this one was held up by the platform.

    Raises:
        SandboxFault: when it is reached.
    """
    limit_s = task.own_seconds + patience.platform_s
    try:
        async with asyncio.timeout(limit_s) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise SandboxFault(
            "trial_timeout",
            f"the trial had not ended after {limit_s:g} s: {task.own_seconds:g} s are its task's own, "
            f"and the platform took more than {patience.platform_s:g} s beside them",
            retry=True,
        ) from error


async def _furnished(spec: TrialSpec, world: World, attempt: Attempt, sandbox: Sandbox) -> LiveTrial:
    """Put the repo and what else the trial needs into its sandbox."""
    assert attempt.template
    with attempt.phase("seed"):
        attempt.template_id = await _template_id(attempt.template, world, sandbox)
        brought = luggage(spec.variant, world.secrets, sandbox.mcp_token)
        baseline = await seed(sandbox, spec.task, _extra(attempt.recording), brought)
    attempt.place = _workplace(spec, world, attempt, sandbox)
    live = LiveTrial(spec, world, attempt, attempt.place, baseline)
    attempt.place.after_turn = live.check_turn
    return live


async def _template_id(name: str, world: World, sandbox: Sandbox) -> str:
    """The platform's id of the trial's template, asked for once a run."""
    async with world.asking:
        if name not in world.template_ids:
            world.template_ids[name] = await sandbox.template_id()
    return world.template_ids[name]


async def _with_repo(spec: TrialSpec, world: World, attempt: Attempt) -> TrialSpec:
    """The trial with its starter repo on this machine, cloned if need be."""
    if spec.task.git is None:
        return spec
    with attempt.phase("seed"):
        checkout = await world.repos.checkout(spec.task.git)
    attempt.repo_commit = checkout.commit
    attempt.notes += checkout.notes
    return replace(spec, task=replace(spec.task, repo=checkout.folder))


async def _create(spec: TrialSpec, world: World, template: str, again: bool) -> Sandbox:
    return await Sandbox.open(
        world.platform,
        template=template,
        env={**_env(spec, world), "HARNESS_TRIAL": _mark(spec, world)},
        network=world.model.network(spec.task, hosts(spec.variant)),
        mcp=revealed(spec.variant.mcp_gateway, world.secrets),
        run=world.folder.id,
        trial=spec.id,
        again=again,
    )


def _env(spec: TrialSpec, world: World) -> dict[str, str]:
    """The task's environment, and the variant's over it."""
    return {**spec.task.sandbox.env, **revealed(spec.variant.env, world.secrets)}


def _env_to_see(variant: Variant, world: World) -> dict[str, str]:
    """The variant's environment that there must be: a replay puts its own server in the place of the model's."""
    replaced = ("ANTHROPIC_BASE_URL",) if world.model.source == "replay" else ()
    env: dict[str, str] = revealed(variant.env, world.secrets)
    return {name: value for name, value in env.items() if name not in replaced}


def _workplace(spec: TrialSpec, world: World, attempt: Attempt, sandbox: Sandbox) -> Workplace:
    prove = functools.partial(_prove_start, spec.variant)
    return Workplace(
        sandbox,
        world.model,
        attempt.transcript.line,
        _env(spec, world),
        prove,
        silence_s=world.patience.model_s,
    )


@dataclass(frozen=True)
class LiveTrial:
    """An attempt whose sandbox is open and seeded. The steps fill the attempt in."""

    spec: TrialSpec
    world: World
    attempt: Attempt
    place: Workplace
    baseline: Baseline
    agent: Agent = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "agent", AGENTS[self.spec.agent]())

    async def agent_runs(self) -> None:
        """The agent does the task's prompts."""
        with self.attempt.phase("agent"):
            self.attempt.stop = await self.agent.run(self.spec, self.place)

    async def collect(self) -> Seen:
        """The agent's processes end; its diff is taken; what it must not touch is put back.

        Returns what `prove` goes by.
        """
        sandbox, attempt, task = self.place.sandbox, self.attempt, self.spec.task
        with attempt.phase("collect"):
            await self._stop_processes(sandbox, self.baseline)
            scripts = [diff_since(self.baseline), INSTRUCTIONS, protected_files(task)]
            diff, instructions, *protected = await look_each(sandbox, scripts[: 3 if task.protect else 2])
            try:
                found = await take_diff(sandbox, self.baseline, diff)
                attempt.diff = attempt.files.write("diff.patch", found)
            except NoDiffError as error:
                attempt.notes += (f"there is no diff: {error}",)
            attempt.tampering = await restore(sandbox, task, self.baseline.protected, *protected)
        return instructions

    async def prove(self, seen: Seen | None = None) -> None:
        """Is what the agent ran with what the variant asks for? The session's start is looked at as it comes.

        Args:
            seen: what `collect` has seen of it, when nothing ran since.

        Raises:
            NotAppliedError: when it is not.
        """
        if self.spec.agent != "claude":
            return
        applied, loaded = await loaded_instructions(self.place.sandbox, self.baseline.home, seen)
        self.attempt.instructions = loaded
        variant = self.spec.variant
        env, starts = _env_to_see(variant, self.world), await seen_starts(variant, self.place.sandbox)
        self.attempt.starts = start_records(variant, env, starts)
        if self.attempt.session.session_id:
            self.attempt.notes += not_seen(variant, starts)
        differences = (
            *differences_at_end(variant, self.attempt.session),
            *differences_in_instructions(variant, applied, loaded),
            *differences_in_starts(variant, env, starts),
        )
        if differences:
            raise NotAppliedError(differences)

    async def check(self) -> None:
        """The checks enter, and give their verdicts; also those of turns that the agent did not come to."""
        judged = {check.name for check in self.attempt.checks}
        left = [check for check in self.spec.task.checks if check.name not in judged]
        with self.attempt.phase("checks"):
            self.attempt.checks += await self._verdicts(self.place.sandbox, self.baseline, left)

    async def check_turn(self, turn: int) -> None:
        """A turn's own checks, in a copy of the sandbox: the agent finds nothing of them there, and nothing ended."""
        checks = [check for check in self.spec.task.checks if check.turn == turn]
        if not checks:
            return
        with self.attempt.phase("checks"):
            async with self.place.sandbox.forked() as copy:
                baseline = await in_copy(copy, self.baseline)
                await self._stop_processes(copy, baseline)
                await restore(copy, self.spec.task, baseline.protected)
                found = await self._verdicts(copy, baseline, checks)
        self.attempt.checks += tuple(result.model_copy(update={"turn": turn}) for result in found)

    async def _verdicts(
        self, sandbox: Sandbox, baseline: Baseline, checks: Sequence[Check]
    ) -> tuple[CheckResult, ...]:
        stop = functools.partial(self._stop_processes, sandbox, baseline)
        return await run_checks(sandbox, self.spec.task, self.attempt.files.write, checks, between=stop)

    async def _stop_processes(self, sandbox: Sandbox, baseline: Baseline) -> None:
        private = self.world.platform.isolation in (None, "bubblewrap")
        await stop_processes(sandbox, baseline, private=private, mark=_mark(self.spec, self.world))


def _prove_start(variant: Variant, session: Session) -> None:
    differences = differences_at_start(variant, session)
    if differences:
        raise NotAppliedError(differences)


def _mark(spec: TrialSpec, world: World) -> str:
    return f"{world.folder.id}-{spec.id}".replace("[", "-").replace("]", "")


async def _end(
    spec: TrialSpec, world: World, attempt: Attempt, sandbox: Sandbox, error: BaseException | None
) -> None:
    """Keep the sandbox where that was asked for; else it goes."""
    if _to_keep(world.keep, attempt, error):
        try:
            await sandbox.pause()
        except Fault as fault:
            attempt.notes += (f"the sandbox could not be kept: {fault.message}",)
        else:
            attempt.kept = True
            folder = str(spec.task.path) if spec.task.path else None
            about = {"sandbox": world.platform.kind, "sandbox_id": sandbox.id, "task": folder}
            attempt.files.write(KEPT, json.dumps(about, indent=2).encode() + b"\n")
            return
    await _remove(sandbox)


def _to_keep(keep: Keep, attempt: Attempt, error: BaseException | None) -> bool:
    """A trial that a new attempt may mend, or that was cut off, leaves nothing that is worth a look."""
    if keep == "none" or not (error is None or isinstance(error, NotAppliedError | Fault)):
        return False
    if isinstance(error, Fault) and (error.retry or error.fatal):
        return False
    return keep == "all" or error is not None or _outcome(attempt) != "passed"


async def _remove(sandbox: Sandbox) -> None:
    """Kill the sandbox, even when this trial is being cancelled.

    A sandbox that cannot be killed now ends with its lifetime, which nobody extends any more.
    """
    with contextlib.suppress(Fault):
        await asyncio.shield(sandbox.kill())


def _extra(recording: Recorded | None) -> dict[str, bytes]:
    """What goes into the sandbox beside the repo and the prompts."""
    if recording is None:
        return {}
    return {
        ".harness/replay.py": _REPLAY_SERVER.read_bytes(),
        ".harness/replay.jsonl": recording.path.read_bytes(),
    }


def trial_record(
    spec: TrialSpec, world: World, attempts: Sequence[Attempt], earlier: Sequence[AttemptRecord] = ()
) -> TrialRecord:
    """The record of a trial, from its attempts; the last one decides. `earlier` are those of a run that is resumed."""
    last = attempts[-1]
    record = TrialRecord(
        run_id=world.folder.id,
        trial_id=spec.id,
        task=spec.task.name,
        task_hash=spec.task.hash,
        variant=spec.variant.name,
        variant_hash=spec.variant.hash,
        variant_place=spec.variant.place,
        asked=spec.variant.told(),
        differences=last.differences,
        instructions=last.instructions,
        starts=last.starts,
        index=spec.index,
        agent=spec.agent,
        outcome=_outcome(last),
        score=fmean(check.score for check in last.checks) if last.checks else None,
        checks=last.checks,
        stop=last.stop,
        phases_ms=Phases(**last.phases),
        model_source=world.model.source,
        model_key=world.model.key_place,
        repo_commit=last.repo_commit,
        replay_by_hand=last.recording.by_hand if last.recording else None,
        template=last.template or spec.template,
        sandbox=SandboxRecord(
            kind=world.platform.kind,
            isolation=world.platform.isolation,
            enforces=world.platform.enforces,
            template_id=last.template_id,
        ),
        sandbox_id=last.sandbox_id,
        kept=last.kept,
        error=ErrorRecord.of(last.fault) if last.fault else None,
        attempts=(*earlier, *(_attempt_record(attempt) for attempt in attempts[:-1])),
        tampering=last.tampering,
        transcript=last.transcript.path if last.transcript.started else None,
        diff=last.diff,
        notes=last.notes,
        started_at=attempts[0].started_at,
        finished_at=_now(),
        git_commit=world.git_commit,
        harness_version=__version__,
        tags=spec.task.tags,
        **session_fields(last.session),
    )
    return _without_secrets(record, [attempt for attempt in attempts if attempt.hides])


def _without_secrets(record: TrialRecord, hiding: Sequence[Attempt]) -> TrialRecord:
    """The record without the sandboxes' own secrets, which the run does not know: checks may have printed them."""
    if not hiding:
        return record
    text = record.model_dump_json()
    for attempt in hiding:
        text = attempt.files.redact.text(text)
    return TrialRecord.model_validate_json(text)


def _outcome(attempt: Attempt) -> Outcome:
    if attempt.fault:
        return "error"
    if attempt.differences:
        return "invalid"
    if attempt.verdict is not None:
        return "passed" if attempt.verdict else "failed"
    return "passed" if attempt.checks and all(check.passed for check in attempt.checks) else "failed"


def _attempt_record(attempt: Attempt) -> AttemptRecord:
    assert attempt.fault, "only a fault makes another attempt"
    fields: dict[str, Any] = session_fields(attempt.session)
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
