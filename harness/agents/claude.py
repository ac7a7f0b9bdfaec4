"""Claude Code, headless: how it is called, followed, and judged to have ended."""

from __future__ import annotations

import asyncio
import functools
import math
import shlex
import uuid
from collections.abc import Mapping
from contextlib import aclosing

from harness.agents.base import AgentContext
from harness.agents.endings import (
    NO_REPLAY,
    SILENCE_S,
    Ending,
    Exit,
    Outside,
    Run,
    judge_death,
    judge_result,
    judge_timeout,
    refused_key,
)
from harness.errors import NotAppliedError, SandboxFault
from harness.models.model import REPLAY_COMMAND
from harness.models.provider import ProviderState
from harness.records.events import turn_marker
from harness.records.record import Stop
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.faults import OF_CONTENT
from harness.sandboxes.job import Job
from harness.sandboxes.job_runner import JobRunner
from harness.sandboxes.layout import turn_folder, work_folder
from harness.sandboxes.sandbox import Sandbox
from harness.variants.apply import arguments, expected_mcp_servers, flags

ENV = {
    "IS_SANDBOX": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    # Servers are connected before the first turn, so that a setup's tools are there from the start.
    "MCP_CONNECTION_NONBLOCKING": "false",
}
HOOK_EVENTS = "--include-hook-events"
"""Has Claude Code tell in its stream what hooks say; older versions do not know it, and do not start with it."""
_AS_LONG = 0.8
"""The part of the stream's silence that the API's must be, to be its cause."""
MAX_STREAM = 1024**3
"""Bytes that a session may tell; more would fill the disk that all trials share."""
GRACE_S = 5.0
"""How long Claude Code may take to go on or to end after its result: a server that the agent left running keeps it."""

# The recorded session's server runs beside the CLI, into which this shell turns, and ends with it. Its first line is
# its URL.
_START_REPLAY = (
    f"exec {{said}}< <(exec {REPLAY_COMMAND})\n"
    'read -r ANTHROPIC_BASE_URL <&"$said" && [ -n "$ANTHROPIC_BASE_URL" ] || '
    f"exit {NO_REPLAY}\n"
    "export ANTHROPIC_BASE_URL; exec {said}<&-"
)


class Claude:
    """One session of Claude Code in a sandbox, prompt after prompt."""

    needs_model = True
    is_proved = True

    def __init__(self) -> None:
        # Chosen ahead, so that it is known even when the CLI is killed before it says it.
        self.session_id = str(uuid.uuid4())
        self._turn_number = self._told_bytes = 0
        self._login: Mapping[str, str] | None = None
        self._first_model: str | None = None

    async def run(self, spec: TrialSpec, context: AgentContext) -> Stop:
        """Have each of the task's prompts done in turn, within its timeout.

        Raises:
            ProviderFault: the API refused, failed or fell silent.
            AgentFault: the CLI did not start, or died.
            SandboxFault: the sandbox was lost.
        """
        clock = asyncio.get_running_loop().time
        left = spec.task.timeout
        stop: Stop = "completed"
        for turn, asked in enumerate(spec.task.turns, 1):
            start = clock()
            stop = await self.prompt(spec, context, asked.prompt, left)
            left -= clock() - start
            if stop != "completed":
                break
            if turn < len(spec.task.turns) and not await context.on_turn_end(turn):
                break
        return stop

    async def prompt(self, spec: TrialSpec, context: AgentContext, text: str, seconds: float) -> Stop:
        """Have the next prompt done within `seconds`.

        Raises as `run` does.
        """
        context.model.require_recording(spec.task)
        self._turn_number += 1
        context.mark(turn_marker(self._turn_number, text))
        job = self._job(spec, context, text)
        if self._turn_number == 1 and len(spec.task.turns) != 1:
            # A turn's agent could write into the shell's start-up files what the next turn's CLI would run under.
            self._login = await JobRunner(context.sandbox).login_environment()
        context.starts_now()
        has_timed_out = await self._follow(job, context, seconds)
        if context.tells_hooks and f"unknown option '{HOOK_EVENTS}'" in job.stderr:
            context.tells_hooks = False
            job = self._job(spec, context, text)
            context.starts_now()
            has_timed_out = await self._follow(job, context, seconds)
        context.take_stderr(job.stderr)
        ending = await self._judge(spec, context, job, has_timed_out=has_timed_out)
        if ending.note:
            context.note(ending.note)
        return ending.stop

    def _job(self, spec: TrialSpec, context: AgentContext, text: str) -> Job:
        turn = self._turn_number
        model = _model(spec, context)
        words = [
            shlex.join(argv(spec, self.session_id, turn, model, tells_hooks=context.tells_hooks)),
            arguments(spec.variant),
        ]
        return Job(
            command=f"{' '.join(words)} <~/{turn_folder(turn)}/prompt.md",
            prepare=_START_REPLAY if context.model.source == "replay" else "",
            folder=turn_folder(turn),
            files={"prompt.md": text.encode()},
            cwd=work_folder(spec.task),
            env={**ENV, **_account_env(spec), **context.model.env, **context.env},
            login_env=self._login,
        )

    async def _follow(self, job: Job, context: AgentContext, seconds: float) -> bool:
        """Take one prompt's run as it comes, to its end; whether it had to be stopped, since its time was up.

        Raises:
            ProviderFault: when the API refuses the key.
            SandboxFault: when the sandbox is lost.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + max(seconds, 0)
        has_asked = False
        jobs = JobRunner(context.sandbox)
        try:
            async with asyncio.timeout_at(end) as limit, aclosing(jobs.start(job)) as lines:
                async for line in lines:
                    self._told_bytes += len(line)
                    if self._told_bytes > MAX_STREAM:
                        await jobs.kill(job)
                        job.stderr = f"it was stopped: its output had more than {MAX_STREAM // 2**20} MiB"
                        return False
                    context.on_line(line)
                    limit.reschedule(min(end, clock() + _limit_s(context)))
                    if not has_asked and context.session_builder.last_retry_status in (401, 403):
                        has_asked = True
                        await self._stop_if_refused(job, context)
        except TimeoutError:
            await jobs.kill(job)
            return True
        except NotAppliedError:
            # Nothing more is spent on it, while others look why.
            await jobs.kill(job)
            raise
        except SandboxFault as fault:
            # An agent can leave a sandbox in which nothing can be started for its next prompt.
            if fault.kind not in OF_CONTENT or not context.session_builder.has_called_tool:
                raise
            job.stderr = fault.message
        return False

    async def _stop_if_refused(self, job: Job, context: AgentContext) -> None:
        session = context.session_builder.session()
        refused = await refused_key(session, self._outside(context))
        if refused:
            await JobRunner(context.sandbox).kill(job)
            raise refused

    async def _judge(
        self, spec: TrialSpec, context: AgentContext, job: Job, *, has_timed_out: bool
    ) -> Ending:
        builder = context.session_builder
        run = Run(
            builder.session(),
            has_acted=builder.has_called_tool,
            has_result=builder.ended,
            waits=builder.awaits_model,
            is_retrying=builder.is_retrying,
            idle_s=context.idle_s(),
        )
        is_silent = has_timed_out and run.waits and not run.is_retrying
        outside = self._outside(context, run.idle_s if is_silent else None)
        if run.has_result:
            return await judge_result(run, outside)
        if has_timed_out:
            silence_s = min(SILENCE_S, context.model_idle_timeout_s, spec.task.timeout / 2)
            is_held_up = bool(expected_mcp_servers(spec.variant))
            return await judge_timeout(run, silence_s, is_held_up, outside)
        return judge_death(run, Exit(job.exit_code, job.stderr))

    def _outside(self, context: AgentContext, idle_s: float | None = None) -> Outside:
        # Settings that the agent writes may name a model that there is not, for its next prompt.
        self._first_model = self._first_model or context.session_builder.session().model
        return Outside(
            functools.partial(_ask_provider, context, self._first_model),
            functools.partial(_ask_proxy, context.sandbox, idle_s),
        )


def _account_env(spec: TrialSpec) -> dict[str, str]:
    """Claude Code skips permissions as root only where it is told that it is in a sandbox."""
    return {"IS_SANDBOX": "1"} if spec.task.sandbox.user == "root" else {}


def _limit_s(context: AgentContext) -> float:
    """Seconds for which the stream may now be silent. A tool may work in silence for as long as the agent has time."""
    builder = context.session_builder
    if builder.ended:
        return GRACE_S
    return context.model_idle_timeout_s if builder.awaits_model else math.inf


async def _ask_proxy(sandbox: Sandbox, idle_s: float | None) -> ProviderState | None:
    """The last failure of the API that the proxy saw; also silence, where it is as long as the stream's, `idle_s`."""
    try:
        sight = await sandbox.egress()
    except SandboxFault:
        return None  # whoever needs the sandbox next meets it
    if sight is None or sight.api is None:
        return None
    if idle_s is not None and sight.api.silent_s >= idle_s * _AS_LONG:
        return ProviderState(None, f"it had sent nothing for {sight.api.silent_s:.0f} s")
    trouble = sight.api.trouble
    return ProviderState(trouble.status, trouble.words) if trouble else None


async def _ask_provider(context: AgentContext, model: str | None) -> ProviderState | None:
    """The harness's own request to the API that Claude Code asked first, for the model that it asked for then."""
    return await context.provider.ask(context.model, {**context.model.env, **context.env}, model)


def _model(spec: TrialSpec, context: AgentContext) -> str | None:
    """The model to ask for: a replay asks for the recorded one, or the CLI would report and price another."""
    if spec.variant.model or context.model.source != "replay":
        return spec.variant.model
    recording = context.model.recording(spec.task)
    return recording.model if recording else None


def argv(
    spec: TrialSpec, session_id: str, turn: int, model: str | None, *, tells_hooks: bool = True
) -> list[str]:
    """The CLI's arguments for one prompt of a session (turns from 1)."""
    arguments = [
        "claude",
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
    ]
    if not spec.variant.asks_permissions:
        arguments.append("--dangerously-skip-permissions")
    if tells_hooks:
        arguments.append(HOOK_EVENTS)
    arguments += ["--session-id" if turn == 1 else "--resume", session_id]
    if model:
        arguments += ["--model", model]
    if spec.task.limits.max_turns is not None:
        arguments += ["--max-turns", str(spec.task.limits.max_turns)]
    if spec.task.limits.max_cost_usd is not None:
        arguments += ["--max-budget-usd", f"{spec.task.limits.max_cost_usd:g}"]
    return [*arguments, *flags(spec.variant), *spec.variant.args]
