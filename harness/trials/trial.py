"""One trial, from a fresh sandbox to what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.agents.base import Agent, AgentContext
from harness.agents.registry import agent_class
from harness.errors import Fault, NotAppliedError, SandboxFault
from harness.records.binary_patch import without_secret_binaries
from harness.records.egress import Refusal
from harness.records.record import Stop
from harness.records.record_parts import CheckResult, score_of
from harness.records.session import Session
from harness.records.store import TRANSCRIPT
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.layout import work_folder
from harness.sandboxes.sandbox import Sandbox, is_answering
from harness.tasks.task import Check, Task
from harness.trials.attempt import Attempt, internal_fault, interrupted, outcome_of
from harness.trials.blame import blaming_env
from harness.trials.checks import Place
from harness.trials.context import Keep, RunContext
from harness.trials.explanation import explain, invalid_settings
from harness.trials.grading import asked_checks, grade_in_place, grade_works, notes_of_judging, refused_so_far
from harness.trials.opening import Start, open_sandbox, prepare_start, process_mark
from harness.trials.proof import Proof
from harness.trials.seeding import Baseline, seed
from harness.trials.session_checks import Told, judge_session, session_files
from harness.trials.sight import SENT, refused_since, sent_file, why_unseen
from harness.trials.timeouts import Timeouts
from harness.trials.work import NotCarriedError, Work, collect_work
from harness.variants.apply import hosts, variant_files
from harness.variants.variant import Variant, with_secrets

WORK = "work"
"""The folder of what the agent left, in a trial's folder."""
STDERR = "stderr.txt"
KEPT = "kept.json"
"""In a trial's folder: what `harness attach` and `harness checks` need to know of a sandbox that was kept."""


async def run_attempt(spec: TrialSpec, context: RunContext, attempt: Attempt) -> None:
    """Try a trial once, in sandboxes of its own. A fault ends it and is kept; sandboxes go whatever happens.

    Raises:
        CancelledError: when it was cancelled; the attempt says so, too.
    """
    trial: PreparedTrial | None = None
    try:
        if agent_class(spec.agent).needs_model:
            context.model.require_recording(spec.task)
        async with (
            open_trial(spec, context, attempt) as trial,
            _attempt_timeout(trial.task, context.timeouts),
        ):
            await trial.run_agent()
            await trial.collect()
            await trial.verify_variant()
            await trial.check_in_place()
        await trial.grade()
    except NotAppliedError as error:
        attempt.differences = error.differences
    except Fault as fault:
        attempt.fault = fault
        attempt.is_sandbox_lost = await _is_sandbox_lost(fault, context, attempt)
    except asyncio.CancelledError:
        attempt.fault = interrupted()
        raise
    except Exception as error:  # noqa: BLE001  (a defect of ours must not take the other trials down)
        attempt.fault = internal_fault(error, attempt.files)
    finally:
        if trial:
            await trial.finish()
        attempt.end()


async def _is_sandbox_lost(fault: Fault, context: RunContext, attempt: Attempt) -> bool:
    """True if an agent may have brought about that its sandbox is gone or does not answer: the platform does."""
    if attempt.is_collected or not isinstance(fault, SandboxFault) or fault.kind == "prove":
        return False
    has_acted = attempt.session_builder is not None and attempt.session_builder.has_called_tool
    return has_acted and fault.retry and await is_answering(context.platform)


@contextlib.asynccontextmanager
async def open_trial(spec: TrialSpec, context: RunContext, attempt: Attempt) -> AsyncIterator[PreparedTrial]:
    """A fresh sandbox with the task's repo in it, for the agent; gone, or kept on purpose, when this closes."""
    spec = await _resolve_repo(spec, context, attempt)
    start = await prepare_start(spec, context, attempt)
    attempt.recording = context.model.recording(spec.task)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(blaming_env(spec.task.sandbox.env, spec.variant))
        with attempt.phase("create"):
            sandbox = await stack.enter_async_context(_open_agent_sandbox(spec, context, start))
        attempt.sandbox_id = sandbox.id
        if sandbox.mcp_token:
            attempt.redact_also("MCP_GATEWAY_TOKEN", sandbox.mcp_token)
        async with _attempt_timeout(spec.task, context.timeouts):
            trial = await _prepare(spec, context, attempt, start, sandbox)
        try:
            yield trial
        except BaseException as error:
            if isinstance(error, Fault):
                await trial.look_at_egress()
            await trial.keep_sandbox(error)
            raise
        await trial.keep_sandbox(None)


def _open_agent_sandbox(
    spec: TrialSpec, context: RunContext, start: Start
) -> contextlib.AbstractAsyncContextManager[Sandbox]:
    return open_sandbox(
        spec,
        context,
        start,
        env=_env(spec, context),
        network=context.model.network(spec.task, hosts(spec.variant)),
        mcp=with_secrets(spec.variant.mcp_gateway, context.secrets),
    )


async def _prepare(
    spec: TrialSpec, context: RunContext, attempt: Attempt, start: Start, sandbox: Sandbox
) -> PreparedTrial:
    """Put the repo and what else the trial needs into its sandbox."""
    with attempt.phase("seed"):
        attempt.template_id = await context.remember_template_id(start.template, start.is_set_up, sandbox)
        seeded = await seed(
            sandbox,
            spec.task,
            extra=attempt.recording.files() if attempt.recording else {},
            variant=variant_files(spec.variant, context.secrets, sandbox.mcp_token),
            is_set_up=start.is_set_up,
        )
        if start.claude_version:
            attempt.claude_sha256 = await context.remember_claude_sha256(start.template, sandbox)
    return PreparedTrial(spec, context, attempt, start, sandbox, seeded.baseline)


@contextlib.asynccontextmanager
async def _attempt_timeout(task: Task, timeouts: Timeouts) -> AsyncIterator[None]:
    """The limit of a whole attempt, from when its sandbox is there.

    Setup, agent and checks have limits of their own. So whoever comes to this one was held up by the platform.

    Raises:
        SandboxFault: when it is reached.
    """
    limit_s = task.own_seconds + timeouts.platform_s
    try:
        async with asyncio.timeout(limit_s) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise SandboxFault(
            "trial_timeout",
            f"the trial had not ended after {limit_s:g} s: {task.own_seconds:g} s are its task's own, "
            f"and the platform took more than {timeouts.platform_s:g} s beside them",
        ) from error


async def _resolve_repo(spec: TrialSpec, context: RunContext, attempt: Attempt) -> TrialSpec:
    """The trial with its starter repo on this machine, cloned if need be."""
    if spec.task.git is None:
        return spec
    with attempt.phase("seed"):
        checkout = await context.repos.checkout(spec.task.git)
    attempt.repo_commit = checkout.commit
    attempt.notes += checkout.notes
    return replace(spec, task=replace(spec.task, repo=checkout.folder))


def _env(spec: TrialSpec, context: RunContext) -> dict[str, str]:
    """The task's environment, and the variant's over it."""
    return {**spec.task.sandbox.env, **with_secrets(spec.variant.env, context.secrets)}


def _expected_env(variant: Variant, context: RunContext) -> dict[str, str]:
    """The variant's environment that there must be: a replay puts its own server in the place of the model's."""
    replaced = ("ANTHROPIC_BASE_URL",) if context.model.source == "replay" else ()
    env: dict[str, str] = with_secrets(variant.env, context.secrets)
    return {name: value for name, value in env.items() if name not in replaced}


@dataclass
class PreparedTrial:
    """An attempt whose sandbox is open and seeded. The steps fill the attempt in."""

    spec: TrialSpec
    context: RunContext
    attempt: Attempt
    start: Start
    sandbox: Sandbox
    baseline: Baseline
    agent: Agent = field(init=False)
    agent_context: AgentContext = field(init=False)
    proof: Proof = field(init=False)
    _works: dict[int | None, Work | NotCarriedError] = field(default_factory=dict)
    _refused_to_checks: tuple[Refusal, ...] = ()

    def __post_init__(self) -> None:
        self.agent = agent_class(self.spec.agent)()
        self.agent_context = AgentContext(
            self.sandbox,
            self.context.model,
            self.attempt.transcript.write,
            _env(self.spec, self.context),
            self._prove,
            self._end_turn,
            provider=self.context.provider,
            note=self.attempt.note,
            take_stderr=self.attempt.take_stderr,
            model_idle_timeout_s=self.context.timeouts.model_s,
        )
        self.attempt.session_builder = self.agent_context.session_builder
        self.proof = Proof(
            self.spec.variant,
            self.attempt,
            _expected_env(self.spec.variant, self.context),
            self.baseline.home,
            self.start.claude_version,
            self.context.platform.keeps_output,
        )

    def _prove(self, session: Session, has_answer: bool) -> None:
        context = self.agent_context
        self.proof.look(session, has_answer=has_answer, tells_hooks=context.tells_hooks)

    @property
    def task(self) -> Task:
        """The trial's task."""
        return self.spec.task

    async def run_agent(self, work: Callable[[], Awaitable[Stop]] | None = None) -> Stop:
        """Have the agent do the task's prompts, or `work` of them.

        Raises:
            NotAppliedError: when what it works with is not what the variant asks for.
            Fault: when infrastructure keeps it from being done.
        """
        await self.check_settings()
        with self.attempt.phase("agent"):
            try:
                self.attempt.stop = await (work or self._run_all)()
                return self.attempt.stop
            except NotAppliedError as error:
                raise NotAppliedError(await self.explained(error.differences)) from error

    async def _run_all(self) -> Stop:
        return await self.agent.run(self.spec, self.agent_context)

    async def check_settings(self) -> None:
        """Have Claude Code itself validate the settings that the variant brings, once a run, before a model is asked.

        Raises:
            NotAppliedError: when it would pass over them, or over a part.
        """
        if not self.agent.is_proved:
            return
        key = (self.spec.variant.hash, self.start.source)
        ask = functools.partial(invalid_settings, self.sandbox, self.spec.variant)
        if problems := await self.context.ask_once(self.context.invalid_settings, key, ask):
            raise NotAppliedError(problems)

    async def explained(self, differences: tuple[str, ...]) -> tuple[str, ...]:
        """Differences with the reasons that the sandbox can still tell."""
        try:
            return await explain(self.sandbox, self.spec.variant, self.context.secrets, differences)
        except SandboxFault:
            return differences

    async def verify_variant(self) -> None:
        """Hold what the agent ran with against what the variant asks for, as far as it was not looked at as it came.

        Raises:
            NotAppliedError: when it is something else.
            SandboxFault: when that cannot be seen.
        """
        if not self.agent.is_proved:
            return
        if self.attempt.api is None and self.attempt.api_unseen is None:
            await self.look_at_egress()
        self.proof.look_at_end(tells_hooks=self.agent_context.tells_hooks)

    async def look_at_egress(self) -> None:
        """Take what the proxy outside of the sandbox has seen until now. Where it cannot be had, the record says so."""
        attempt = self.attempt
        try:
            seen = await self.sandbox.egress()
        except SandboxFault as fault:
            attempt.api_unseen = f"the proxy could not be asked: {fault.message}"
            return
        attempt.api_unseen = why_unseen(self.context.model, seen)
        if seen:
            attempt.api, attempt.refused = seen.api, refused_since(seen.refused, self._refused_to_checks)
        if attempt.api and attempt.api.first:
            attempt.sent = await self._keep(SENT, sent_file(attempt.api))

    async def store_stderr(self) -> None:
        """Keep what Claude Code wrote on stderr, also after a good end."""
        if self.attempt.stderr:
            data = self.attempt.stderr.encode("utf-8", "replace")
            self.attempt.stderr_file = await self._keep(STDERR, data)

    async def collect(self) -> None:
        """Carry the work out of the sandbox."""
        with self.attempt.phase("collect"):
            await self.look_at_egress()
            await self.store_stderr()
            if not self._is_judged_where_it_is:
                self._works[None] = await self._collected(WORK)

    @property
    def _is_judged_where_it_is(self) -> bool:
        return self.task.is_system and self.task.grade_in_agents_sandbox

    async def check_in_place(self) -> None:
        """Judge the work in the agent's own sandbox, where the task asks for it."""
        if self.task.grade_in_agents_sandbox:
            judged = {check.name for check in self.attempt.checks}
            asked = asked_checks(self.task, self._works, None)
            await self._judge_in_place([check for check in asked if check.name not in judged], None)

    async def _judge_in_place(self, checks: Sequence[Check], turn: int | None) -> tuple[CheckResult, ...]:
        with self.attempt.phase("checks"):
            files = session_files(self.task, self._told(), turn)
            before = await refused_so_far(self.sandbox)
            results = await grade_in_place(self._place(), self.task, checks, self._keep, files)
            refused = refused_since(await refused_so_far(self.sandbox), before)
        self._refused_to_checks += refused
        self.attempt.notes += notes_of_judging(results, refused)
        self.attempt.checks += tuple(result.model_copy(update={"turn": turn}) for result in results)
        return results

    async def _end_turn(self, turn: int) -> bool:
        """Carry a turn's work, where the turn has checks. Nothing is stopped, and the agent finds nothing of them.

        What cannot be carried, the template's own system, is judged where it is. False where that has scored too
        little for the session to go on.
        """
        named = [check for check in self.task.checks if check.turn == turn]
        checks = [check for check in named if not check.is_of_session]
        if named and self._is_judged_where_it_is:
            results = await self._judge_in_place(checks, turn) if checks else ()
            told = await judge_session(named, self._told())
            return self._has_enough(turn, (*results, *told))
        if checks:
            with self.attempt.phase("collect"):
                self._works[turn] = await self._collected(f"{WORK}/turn-{turn}")
        return True

    def _has_enough(self, turn: int, results: Sequence[CheckResult]) -> bool:
        score, wanted = score_of(results) or 0.0, self.task.turns[turn - 1].min_score
        if wanted is None or score >= wanted:
            return True
        self.attempt.note(
            f"the session ended after prompt {turn}: its checks scored {score:.2f}, min_score is {wanted:g}"
        )
        return False

    async def _collected(self, name: str) -> Work | NotCarriedError:
        try:
            return await collect_work(self.sandbox, self.task, self.baseline, self._store, name)
        except NotCarriedError as error:
            return error

    async def grade(self, *, checks: bool = True) -> None:
        """Judge what was carried, in fresh sandboxes: each turn's, then the last; without `checks`, only the diff.

        Raises:
            Fault: when the platform gives no sandbox that lasts. Nothing that was paid for is done again for it.
        """
        attempt = self.attempt
        attempt.is_collected = True
        with attempt.phase("checks"):
            told = self._told()
            grade = await grade_works(
                self.spec, self.context, self.start, self._works, self._keep, told, checks=checks
            )
        attempt.checks += grade.checks + (await judge_session(self.task.checks, told) if checks else ())
        attempt.grading_sandbox_id = grade.sandbox_id
        attempt.tampering, attempt.ignored = grade.tampering, grade.ignored
        attempt.notes += grade.notes + self._outside_notes()
        if grade.diff is not None:
            diff, notes = without_secret_binaries(grade.diff, attempt.files.redact)
            attempt.notes += notes
            attempt.diff = await self._keep("diff.patch", diff)

    def _told(self) -> Told:
        """The session so far."""
        attempt, transcript = self.attempt, self.attempt.files.path / TRANSCRIPT
        read = transcript.read_bytes if attempt.transcript.started else bytes
        return Told(read, attempt.session, self.agent_context.answer, is_known=self.agent.needs_model)

    async def grade_now(self) -> None:
        """Judge the work as it is, in the middle of a test: the agent's sandbox sleeps meanwhile, and goes on then.

        Raises:
            Fault: when the platform gives no sandbox that lasts, or the agent's does not wake.
        """
        await self.collect()
        await self.check_in_place()
        await self.sandbox.pause()
        try:
            await self.grade()
        finally:
            await self.sandbox.resume()

    def _outside_notes(self) -> tuple[str, ...]:
        """Names of what was changed and not carried, where a check has failed, perhaps for want of it."""
        work = self._works.get(None)
        if (
            not isinstance(work, Work)
            or not work.outside
            or all(check.passed for check in self.attempt.checks)
        ):
            return ()
        names = ", ".join(work.outside[:5]) + (", ..." if len(work.outside) > 5 else "")
        return (
            f"the agent also changed what is not carried to where the checks run: {names} "
            "([checks] carry names more of it, [checks] prepare installs what the work needs)",
        )

    def _place(self) -> Place:
        mark = process_mark(self.context.folder.id, self.spec.id)
        own = self.context.platform.has_own_processes
        return Place(self.sandbox, self.baseline, own, mark, keep_processes=self.task.keep_processes)

    async def _keep(self, name: str, data: bytes) -> str:
        """Write one of the trial's files, and return its path for the record."""
        return await self.context.disk.run(functools.partial(self.attempt.files.write, name, data))

    async def _store(self, name: str, data: bytes) -> Path:
        """Write one of the trial's files as it is, and return where it is."""
        return await self.context.disk.run(functools.partial(self.attempt.files.write_raw, name, data))

    async def keep_sandbox(self, error: BaseException | None) -> None:
        """Pause the sandbox, where it is to be kept, or may have to be once the trial is judged."""
        if not _should_keep(self.context.keep, error):
            return
        try:
            await self.sandbox.pause()
        except Fault as fault:
            self.attempt.notes += (f"the sandbox could not be kept: {fault.message}",)
            return
        self.attempt.kept = self.sandbox.is_kept = True
        folder = str(self.task.path) if self.task.path else None
        about = {
            "sandbox": self.context.platform.kind,
            "sandbox_id": self.sandbox.id,
            "task": folder,
            "user": self.task.sandbox.user,
            "folder": work_folder(self.task),
        }
        self.attempt.files.write(KEPT, json.dumps(about, indent=2).encode() + b"\n")

    async def finish(self) -> None:
        """End a sandbox that was paused in case the trial would fail, and drop work that is not to be kept."""
        attempt, has_passed = self.attempt, outcome_of(self.attempt) == "passed"
        if attempt.kept and self.context.keep == "failed" and has_passed:
            attempt.kept = False
            with contextlib.suppress(Fault):
                await self.sandbox.kill()
        wanted = self.context.keep_work
        if wanted == "all" or (wanted == "failed" and not has_passed):
            keep = functools.partial(attempt.files.keep_without_secrets, WORK)
            attempt.work, notes = await self.context.disk.run(keep)
            attempt.notes += notes
            attempt.work_hashes = await self.context.disk.run(functools.partial(attempt.files.hashes, WORK))
        else:
            await self.context.disk.run(functools.partial(attempt.files.remove, WORK))


def _should_keep(keep: Keep, error: BaseException | None) -> bool:
    """True if the sandbox is to be kept: not after faults that are retried or end the run, and not when cancelled."""
    if keep == "none" or not (error is None or isinstance(error, NotAppliedError | Fault)):
        return False
    return not (isinstance(error, Fault) and (error.retry or error.fatal))
