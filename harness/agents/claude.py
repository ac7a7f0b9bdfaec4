"""Claude Code, headless: how it is called, followed, and judged to have ended."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import uuid
from collections.abc import Mapping
from contextlib import aclosing

from harness.agents.base import AgentContext
from harness.errors import GIVE_UP, RETRY, AgentFault, ProviderFault
from harness.models.model import REPLAY_COMMAND
from harness.records.record import Stop, TrialSpec
from harness.records.stream import Session, TurnResult, turn_marker
from harness.sandboxes.job import Job
from harness.sandboxes.layout import REPO, turn_folder
from harness.sandboxes.sandbox import CommandTimeoutError
from harness.sandboxes.shell import run_without_profile
from harness.variants.apply import arguments, expected_mcp_servers

ENV = {
    "IS_SANDBOX": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    # Servers are connected before the first turn, so that a setup's tools are there from the start.
    "MCP_CONNECTION_NONBLOCKING": "false",
}
SILENCE_S = 120.0
"""A model that owed a reply for so long when the time was up had fallen silent: not the agent's slowness."""

# A conversation that outgrew the model's context is the agent's doing, though the API says it with a 400.
_STOPS: dict[str, Stop] = {
    "max_turns": "max_turns",
    "budget_exhausted": "max_cost",
    "prompt_too_long": "prompt_too_long",
}
_NO_REPLAY = 96
"""Exit code of a job whose replay server did not come up: the CLI was not started, or it would ask the real API."""


class Claude:
    """One session of Claude Code in a sandbox, prompt after prompt."""

    needs_model = True
    is_proved = True

    def __init__(self) -> None:
        # Chosen ahead, so that it is known even when the CLI is killed before it says it.
        self.session_id = str(uuid.uuid4())
        self._turn_number = 0
        self._login: Mapping[str, str] | None = None

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
            if turn < len(spec.task.turns):
                await context.on_turn_end(turn)
        return stop

    async def prompt(self, spec: TrialSpec, context: AgentContext, text: str, seconds: float) -> Stop:
        """Have the next prompt done within `seconds`.

        Raises as `run` does.
        """
        context.model.require_recording(spec.task)
        self._turn_number += 1
        context.on_line(turn_marker(self._turn_number, text))
        job = self._job(spec, context, text)
        if self._turn_number == 1 and len(spec.task.turns) != 1:
            # A turn's agent could write into the shell's start-up files what the next turn's CLI would run under.
            self._login = await context.sandbox.login_environment()
        context.reset_idle()
        try:
            return await self._turn(job, context, seconds)
        except TimeoutError:
            await _kill(context, job)
            _raise_if_nobody_worked(spec, context)
            return "timeout"

    def _job(self, spec: TrialSpec, context: AgentContext, text: str) -> Job:
        turn = self._turn_number
        model = _model(spec, context)
        words = [shlex.join(argv(spec, self.session_id, turn, model)), arguments(spec.variant)]
        command = f"{' '.join(words)} <~/{turn_folder(turn)}/prompt.md"
        if context.model.source == "replay":
            command = _with_replay(command)
        return Job(
            command=command,
            folder=turn_folder(turn),
            files={"prompt.md": text.encode()},
            cwd=REPO,
            env={**ENV, **context.model.env, **context.env},
            login_env=self._login,
        )

    async def _turn(self, job: Job, context: AgentContext, seconds: float) -> Stop:
        """One prompt's run.

        Raises:
            TimeoutError: when it is not done after `seconds`, or the model that owes a reply is silent for too long.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + max(seconds, 0)
        async with asyncio.timeout_at(end) as limit, aclosing(context.sandbox.start(job)) as lines:
            async for line in lines:
                context.on_line(line)
                # A tool may work in silence for as long as the agent has time.
                limit.reschedule(
                    min(end, clock() + context.model_idle_timeout_s)
                    if context.session_builder.awaits_model
                    else end
                )
                refused = _refused(context.session_builder.session())
                if refused:
                    await _kill(context, job)
                    raise refused
        return _ending(context.session_builder.session(), job, ended=context.session_builder.ended)


async def _kill(context: AgentContext, job: Job) -> None:
    """End a job; what of it cannot be ended like this goes with the rest of the agent's processes."""
    with contextlib.suppress(CommandTimeoutError):
        await run_without_profile(context.sandbox, job.kill_script(), timeout=30)


def _model(spec: TrialSpec, context: AgentContext) -> str | None:
    """The model to ask for: a replay asks for the recorded one, or the CLI would report and price another."""
    if spec.variant.model or context.model.source != "replay":
        return spec.variant.model
    recording = context.model.recording(spec.task)
    return recording.model if recording else None


def argv(spec: TrialSpec, session_id: str, turn: int, model: str | None) -> list[str]:
    """The CLI's arguments for one prompt of a session (turns from 1)."""
    arguments = [
        "claude",
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
        "--dangerously-skip-permissions",
    ]
    arguments += ["--session-id" if turn == 1 else "--resume", session_id]
    if model:
        arguments += ["--model", model]
    if spec.task.limits.max_turns is not None:
        arguments += ["--max-turns", str(spec.task.limits.max_turns)]
    if spec.task.limits.max_cost_usd is not None:
        arguments += ["--max-budget-usd", f"{spec.task.limits.max_cost_usd:g}"]
    return [*arguments, *spec.variant.args]


def _with_replay(command: str) -> str:
    """The command, with the recorded session's server beside it, whose first line is its URL."""
    return (
        f"exec {{said}}< <(exec {REPLAY_COMMAND}); replay=$!; "
        'if read -r ANTHROPIC_BASE_URL <&"$said" && [ -n "$ANTHROPIC_BASE_URL" ]; then '
        f"export ANTHROPIC_BASE_URL; exec {{said}}<&-; {command}; code=$?; kill $replay; (exit $code); "
        f"else (exit {_NO_REPLAY}); fi"
    )


def _refused(session: Session) -> ProviderFault | None:
    """A refused key does not get better with the CLI's ten retries, which take minutes."""
    if session.last_retry_status in (401, 403):
        return _provider_fault(session.last_retry_status, "the API refused the key")
    return None


def _ending(session: Session, job: Job, *, ended: bool) -> Stop:
    if not ended:
        raise _died(session, job)
    result = session.turns[-1]
    reason = result.terminal_reason
    if reason in _STOPS:
        return _STOPS[reason]
    if reason == "api_error" or result.api_error_status is not None:
        raise _provider_fault(result.api_error_status, result.text or "the API failed")
    if result.is_error:
        raise _error_result(result)
    return "completed"


def _error_result(result: TurnResult) -> AgentFault:
    what = result.text or result.terminal_reason or "no reason given"
    return AgentFault("error_result", f"Claude Code reported an error: {what}")


def _died(session: Session, job: Job) -> AgentFault | ProviderFault:
    words = job.stderr.strip()[-2000:] or "it said nothing on stderr"
    if job.exit_code == _NO_REPLAY:
        return ProviderFault("replay", f"the replay server did not start: {words}")
    if session.session_id is None:
        kind = "not_installed" if job.exit_code == 127 else "did_not_start"
        return AgentFault(kind, f"Claude Code did not start (exit code {job.exit_code}): {words}")
    how = f"exit code {job.exit_code}" if job.exit_code is not None else "killed"
    return AgentFault("died", f"Claude Code ended without a result ({how}): {words}")


def _provider_fault(status: int | None, message: str) -> ProviderFault:
    said = f"HTTP {status}: {message}" if status and str(status) not in message else message
    # An unknown status below 500 is a refusal, which a new attempt would meet again.
    policy = GIVE_UP if status and status < 500 and status not in KIND_BY_STATUS else None
    return ProviderFault(KIND_BY_STATUS.get(status or 0, "api_error"), said, policy=policy)


KIND_BY_STATUS: Mapping[int, str] = {
    400: "bad_request",
    401: "auth",
    403: "auth",
    404: "not_found",
    413: "too_large",
    429: "rate_limit",
    529: "overloaded",
}


def _raise_if_nobody_worked(spec: TrialSpec, context: AgentContext) -> None:
    """Tell an agent that was slow from one that never came to work.

    Raises:
        AgentFault: when Claude Code had not even started, and not for a variant's servers that it waited for.
        ProviderFault: when the model had fallen silent.
    """
    idle_s = context.idle_s()
    if context.session_builder.session().session_id is None and not expected_mcp_servers(spec.variant):
        raise AgentFault("did_not_start", f"Claude Code had not started after {idle_s:.0f} s", policy=RETRY)
    if context.session_builder.awaits_model and idle_s >= min(
        SILENCE_S, context.model_idle_timeout_s, spec.task.timeout / 2
    ):
        raise ProviderFault(
            "silent", f"the model's API had sent nothing for {idle_s:.0f} s when the agent was stopped"
        )
