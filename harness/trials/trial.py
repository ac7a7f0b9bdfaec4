"""One trial, from a fresh sandbox to its record."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.agents.base import Agent, AgentContext
from harness.agents.registry import agent_class
from harness.errors import Fault, NotAppliedError, SandboxFault
from harness.records.record import (
    CheckResult,
    TrialSpec,
)
from harness.records.stream import Session
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.shell import SandboxScript, ScriptOutcome, run_scripts
from harness.tasks.task import Check, Task
from harness.trials.attempt import Attempt, internal_fault, interrupted, outcome_of
from harness.trials.checks import Between, run_checks
from harness.trials.cli_starts import (
    STARTED,
    differences_in_starts,
    read_cli_starts,
    start_records,
    unseen_notes,
)
from harness.trials.context import Keep, RunContext
from harness.trials.protect import protected_files, restore
from harness.trials.timeouts import Timeouts
from harness.trials.verification import (
    READ_INSTRUCTIONS,
    differences_in_init,
    differences_in_instructions,
    differences_without_init,
    missing_evidence_notes,
    read_loaded_instructions,
)
from harness.trials.workspace import (
    Baseline,
    NoDiffError,
    diff_since,
    in_copy,
    require_stopped,
    seed,
    stop_processes,
    stop_script,
    take_diff,
)
from harness.variants.apply import hosts, needs_start_evidence, variant_files
from harness.variants.variant import Variant, revealed

KEPT = "kept.json"
"""In a trial's folder: what `harness attach` and `harness checks` need to know of a sandbox that was kept."""


async def run_attempt(spec: TrialSpec, context: RunContext, attempt: Attempt) -> None:
    """Try a trial once, in a sandbox of its own. A fault ends it and is kept; the sandbox goes whatever happens.

    Raises:
        CancelledError: when it was cut off; the attempt says so, too.
    """
    try:
        if agent_class(spec.agent).needs_model:
            context.model.require_recording(spec.task)
        spec = await _resolve_repo(spec, context, attempt)
        async with (
            _open_sandbox(spec, context, attempt) as sandbox,
            _attempt_timeout(spec.task, context.timeouts),
        ):
            live = await _prepare(spec, context, attempt, sandbox)
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
        attempt.fault = internal_fault(error, attempt.files)
    finally:
        attempt.end()


@contextlib.asynccontextmanager
async def open_trial(spec: TrialSpec, context: RunContext, attempt: Attempt) -> AsyncIterator[PreparedTrial]:
    """A fresh sandbox with the task's repo in it; gone, or kept on purpose, when this closes."""
    spec = await _resolve_repo(spec, context, attempt)
    async with _open_sandbox(spec, context, attempt) as sandbox:
        yield await _prepare(spec, context, attempt, sandbox)


@contextlib.asynccontextmanager
async def _open_sandbox(spec: TrialSpec, context: RunContext, attempt: Attempt) -> AsyncIterator[Sandbox]:
    """A fresh sandbox from the trial's template; gone, or kept on purpose, when this closes."""
    with attempt.phase("build"):
        attempt.template = await context.templates.ensure_built(spec.template, spec.task.path or Path.cwd())
    attempt.recording = context.model.recording(spec.task)
    with attempt.phase("create"):
        sandbox = await context.pacer.create(functools.partial(_create, spec, context, attempt.template))
    attempt.sandbox_id = sandbox.id
    if sandbox.mcp_token:
        attempt.redact_also("MCP_GATEWAY_TOKEN", sandbox.mcp_token)
    try:
        async with sandbox.kept_alive():
            yield sandbox
    except BaseException as error:
        await _end(spec, context, attempt, sandbox, error)
        raise
    else:
        await _end(spec, context, attempt, sandbox, None)


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


async def _prepare(spec: TrialSpec, context: RunContext, attempt: Attempt, sandbox: Sandbox) -> PreparedTrial:
    """Put the repo and what else the trial needs into its sandbox."""
    assert attempt.template
    with attempt.phase("seed"):
        attempt.template_id = await _template_id(attempt.template, context, sandbox)
        brought = variant_files(spec.variant, context.secrets, sandbox.mcp_token)
        replay = attempt.recording.files() if attempt.recording else {}
        baseline = await seed(sandbox, spec.task, replay, brought)
    attempt.agent_context = _agent_context(spec, context, attempt, sandbox)
    live = PreparedTrial(spec, context, attempt, attempt.agent_context, baseline)
    attempt.agent_context.on_turn_end = live.check_turn
    return live


async def _template_id(name: str, context: RunContext, sandbox: Sandbox) -> str:
    """The platform's id of the trial's template, asked for once a run."""
    async with context.asking:
        if name not in context.template_ids:
            context.template_ids[name] = await sandbox.template_id()
    return context.template_ids[name]


async def _resolve_repo(spec: TrialSpec, context: RunContext, attempt: Attempt) -> TrialSpec:
    """The trial with its starter repo on this machine, cloned if need be."""
    if spec.task.git is None:
        return spec
    with attempt.phase("seed"):
        checkout = await context.repos.checkout(spec.task.git)
    attempt.repo_commit = checkout.commit
    attempt.notes += checkout.notes
    return replace(spec, task=replace(spec.task, repo=checkout.folder))


async def _create(spec: TrialSpec, context: RunContext, template: str, after_rate_limit: bool) -> Sandbox:
    return await Sandbox.open(
        context.platform,
        template=template,
        env={**_env(spec, context), "HARNESS_TRIAL": _process_mark(spec, context)},
        network=context.model.network(spec.task, hosts(spec.variant)),
        mcp=revealed(spec.variant.mcp_gateway, context.secrets),
        run=context.folder.id,
        trial=spec.id,
        after_rate_limit=after_rate_limit,
    )


def _env(spec: TrialSpec, context: RunContext) -> dict[str, str]:
    """The task's environment, and the variant's over it."""
    return {**spec.task.sandbox.env, **revealed(spec.variant.env, context.secrets)}


def _expected_env(variant: Variant, context: RunContext) -> dict[str, str]:
    """The variant's environment that there must be: a replay puts its own server in the place of the model's."""
    replaced = ("ANTHROPIC_BASE_URL",) if context.model.source == "replay" else ()
    env: dict[str, str] = revealed(variant.env, context.secrets)
    return {name: value for name, value in env.items() if name not in replaced}


def _agent_context(spec: TrialSpec, context: RunContext, attempt: Attempt, sandbox: Sandbox) -> AgentContext:
    prove = functools.partial(_prove_start, spec.variant)
    return AgentContext(
        sandbox,
        context.model,
        attempt.transcript.write,
        _env(spec, context),
        prove,
        model_idle_timeout_s=context.timeouts.model_s,
    )


@dataclass(frozen=True)
class PreparedTrial:
    """An attempt whose sandbox is open and seeded. The steps fill the attempt in."""

    spec: TrialSpec
    context: RunContext
    attempt: Attempt
    agent_context: AgentContext
    baseline: Baseline
    agent: Agent = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "agent", agent_class(self.spec.agent)())

    async def agent_runs(self) -> None:
        """The agent does the task's prompts."""
        with self.attempt.phase("agent"):
            self.attempt.stop = await self.agent.run(self.spec, self.agent_context)

    async def collect(self) -> Mapping[str, ScriptOutcome]:
        """The agent's processes end; its diff is taken; what it must not touch is put back.

        Returns what `prove` goes by.
        """
        sandbox, attempt, task = self.agent_context.sandbox, self.attempt, self.spec.task
        with attempt.phase("collect"):
            seen = await self._look_at_what_is_left()
            require_stopped(seen["stopped"])
            try:
                found = await take_diff(sandbox, self.baseline, seen["diff"])
                attempt.diff = await self._keep("diff.patch", found)
            except NoDiffError as error:
                attempt.notes += (f"there is no diff: {error}",)
            attempt.tampering = await restore(sandbox, task, self.baseline.protected, seen.get("protected"))
        return seen

    async def _look_at_what_is_left(self) -> Mapping[str, ScriptOutcome]:
        """What each script sees: the first ends whatever still runs, so that nothing changes under the others.

        Where it fails, nothing else is looked at.
        """
        stop = self._stop_script(self.baseline)
        scripts = {"stopped": stop, "diff": diff_since(self.baseline), "instructions": READ_INSTRUCTIONS}
        if needs_start_evidence(self.spec.variant):
            scripts["starts"] = STARTED
        if self.spec.task.protect:
            scripts["protected"] = protected_files(self.spec.task)
        seen = await run_scripts(
            self.agent_context.sandbox, list(scripts.values()), root_in=self.baseline.home
        )
        return dict(zip(scripts, seen, strict=False))

    async def prove(self, seen: Mapping[str, ScriptOutcome] | None = None) -> None:
        """Is what the agent ran with what the variant asks for? The session's start is looked at as it comes.

        Args:
            seen: what `collect` has seen of it, when nothing ran since.

        Raises:
            NotAppliedError: when it is not.
            SandboxFault: when that cannot be seen.
        """
        if not self.agent.is_proved:
            return
        sandbox, variant, seen = self.agent_context.sandbox, self.spec.variant, seen or {}
        told = await read_loaded_instructions(sandbox, self.baseline.home, seen.get("instructions"))
        self.attempt.instructions = told.loaded
        self.attempt.notes += missing_evidence_notes(told)
        env = _expected_env(variant, self.context)
        starts = await read_cli_starts(variant, sandbox, seen.get("starts"))
        self.attempt.starts = start_records(variant, env, starts)
        if self.attempt.session.session_id:
            self.attempt.notes += unseen_notes(variant, starts)
        differences = (
            *differences_without_init(variant, self.attempt.session),
            *differences_in_instructions(variant, told),
            *differences_in_starts(variant, env, starts),
        )
        if differences:
            raise NotAppliedError(differences)

    async def check(self) -> None:
        """The checks enter, and give their verdicts; also those of turns that the agent did not come to."""
        judged = {check.name for check in self.attempt.checks}
        left = [check for check in self.spec.task.checks if check.name not in judged]
        with self.attempt.phase("checks"):
            self.attempt.checks += await self._verdicts(self.agent_context.sandbox, self.baseline, left)

    async def check_turn(self, turn: int) -> None:
        """A turn's own checks, in a copy of the sandbox: the agent finds nothing of them there, and nothing ended."""
        checks = [check for check in self.spec.task.checks if check.turn == turn]
        if not checks:
            return
        with self.attempt.phase("checks"):
            async with self.agent_context.sandbox.forked() as copy:
                baseline = await in_copy(copy, self.baseline)
                await stop_processes(copy, baseline, self._stop_script(baseline))
                await restore(copy, self.spec.task, baseline.protected)
                found = await self._verdicts(copy, baseline, checks)
        self.attempt.checks += tuple(result.model_copy(update={"turn": turn}) for result in found)

    async def _verdicts(
        self, sandbox: Sandbox, baseline: Baseline, checks: Sequence[Check]
    ) -> tuple[CheckResult, ...]:
        stop = self._stop_script(baseline)
        alone = functools.partial(stop_processes, sandbox, baseline, stop)
        between = Between(alone, stop if self.context.platform.root_is_user else None)
        return await run_checks(sandbox, self.spec.task, self._keep, checks, between=between)

    async def _keep(self, name: str, data: bytes) -> str:
        """Write one of the trial's files, and return its path for the record."""
        return await self.context.disk.run(functools.partial(self.attempt.files.write, name, data))

    def _stop_script(self, baseline: Baseline) -> SandboxScript:
        return stop_script(
            baseline, private=_only_own_processes(self.context), mark=_process_mark(self.spec, self.context)
        )


def _prove_start(variant: Variant, session: Session) -> None:
    differences = differences_in_init(variant, session)
    if differences:
        raise NotAppliedError(differences)


def _only_own_processes(context: RunContext) -> bool:
    """Whether every process in sight inside a sandbox is the sandbox's own."""
    return context.platform.isolation in (None, "bubblewrap")


def _process_mark(spec: TrialSpec, context: RunContext) -> str:
    return f"{context.folder.id}-{spec.id}".replace("[", "-").replace("]", "")


async def _end(
    spec: TrialSpec, context: RunContext, attempt: Attempt, sandbox: Sandbox, error: BaseException | None
) -> None:
    """Keep the sandbox where that was asked for; else it goes."""
    if _should_keep(context.keep, attempt, error):
        try:
            await sandbox.pause()
        except Fault as fault:
            attempt.notes += (f"the sandbox could not be kept: {fault.message}",)
        else:
            attempt.kept = True
            folder = str(spec.task.path) if spec.task.path else None
            about = {"sandbox": context.platform.kind, "sandbox_id": sandbox.id, "task": folder}
            attempt.files.write(KEPT, json.dumps(about, indent=2).encode() + b"\n")
            return
    await _remove(sandbox)


def _should_keep(keep: Keep, attempt: Attempt, error: BaseException | None) -> bool:
    """A trial that a new attempt may mend, or that was cut off, leaves nothing that is worth a look."""
    if keep == "none" or not (error is None or isinstance(error, NotAppliedError | Fault)):
        return False
    if isinstance(error, Fault) and (error.retry or error.fatal):
        return False
    return keep == "all" or error is not None or outcome_of(attempt) != "passed"


async def _remove(sandbox: Sandbox) -> None:
    """Kill the sandbox, even when this trial is being cancelled.

    A sandbox that cannot be killed now ends with its lifetime, which nobody extends any more.
    """
    with contextlib.suppress(Fault):
        await asyncio.shield(sandbox.kill())
