"""The ways in which Claude Code can end, and what each means. An `error` is only what an agent cannot bring about.

Before the agent's first tool call nobody has acted in its sandbox, and Claude Code's own word is enough. After it, the
word of the stream alone is not: a fault of the provider is one when the proxy outside of the sandbox saw it, or when
the harness's own request meets it too. All else is the agent's, and its work is judged.

`docs/records.md` has the same as a table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from harness.errors import FAULTS, GIVE_UP, RETRY, AgentFault, ProviderFault
from harness.models.provider import ProviderState
from harness.records.record import Stop
from harness.records.session import Session, TurnResult
from harness.text import keep_end, keep_start

SILENCE_S = 120.0
"""A model that owed a reply for so long when the time was up had fallen silent: not the agent's slowness."""
NO_REPLAY = 96
"""Exit code of a job whose replay server did not come up: the CLI was not started, or it would ask the real API."""

# A conversation that outgrew the model's context is the agent's doing, though the API says it with a 400.
_STOPS: Mapping[str, Stop] = {
    "max_turns": "max_turns",
    "budget_exhausted": "max_cost",
    "prompt_too_long": "prompt_too_long",
}
_API_WORDS = ("API Error", "Failed to authenticate", "Credit balance")
_OUTPUT_LIMIT = "max_output_tokens"
_REFUSED_HERE = "harness refused it:"
"""How the proxy of a server of the harness's own says that network rules forbid a request."""

KIND_BY_STATUS: Mapping[int, str] = {
    400: "bad_request",
    401: "auth",
    403: "auth",
    404: "not_found",
    408: "api_error",
    409: "api_error",
    413: "too_large",
    429: "rate_limit",
    529: "overloaded",
}

AskProvider = Callable[[], Awaitable[ProviderState | None]]


async def _nobody() -> None:
    return None


@dataclass(frozen=True)
class Outside:
    """The views of the model's API from outside of the sandbox.

    `own`: the harness's own request; None where it cannot make one. `proxy`: what the proxy on the way last saw the API
    fail with; None where it saw it well, or not at all.
    """

    own: AskProvider
    proxy: AskProvider = _nobody


@dataclass(frozen=True)
class Ending:
    """The stop of an agent whose run is judged, and what its record should say of it."""

    stop: Stop
    note: str | None = None


@dataclass(frozen=True)
class Exit:
    """The end of Claude Code's process: its exit code (None: it was killed), and the end of its stderr."""

    code: int | None
    stderr: str = ""


@dataclass(frozen=True)
class Run:
    """A prompt's run that has ended: the session so far, and how far the agent had come.

    `has_acted`: it has called a tool. `has_result`: the run's result is there. `idle_s`: how long nothing was said;
    `waits`: for the model.
    """

    session: Session
    has_acted: bool
    has_result: bool
    waits: bool = False
    is_retrying: bool = False
    idle_s: float = 0.0


async def judge_result(run: Run, outside: Outside) -> Ending:
    """Judge a run with a result.

    Raises:
        ProviderFault: when the API failed, and the harness sees it too.
        AgentFault: when Claude Code failed before the agent did anything.
    """
    result = run.session.turns[-1]
    reason = result.terminal_reason
    if reason is not None and reason in _STOPS:
        return Ending(_STOPS[reason])
    if result.stop_reason == "refusal":
        return Ending("refusal", _said("the model refused", result))
    if result.is_error and _OUTPUT_LIMIT in (run.session.api_error or ""):
        return Ending("max_output", _said("the model's output reached its limit again and again", result))
    if is_api_error(result):
        fault = provider_fault(result.api_error_status, result.text or "the API failed")
        return await _judge_provider(run, result.api_error_status, fault, outside, "api_error")
    if not result.is_error:
        return Ending("completed")
    words = result.text or reason or "no reason given"
    if run.has_acted:
        return Ending("killed", f"Claude Code reported an error after the agent's first tool call: {words}")
    raise AgentFault("error_result", f"Claude Code reported an error: {words}")


def judge_death(run: Run, exit: Exit) -> Ending:
    """Judge a run without a result.

    Raises:
        ProviderFault: when a replay's server did not start.
        AgentFault: when Claude Code did not start, or died before the agent did anything.
    """
    words = keep_end(exit.stderr.strip(), 2000) or "it said nothing on stderr"
    how = "killed" if exit.code is None else f"exit code {exit.code}"
    if run.has_acted:
        return Ending(
            "killed", f"Claude Code ended without a result ({how}) after the first tool call: {words}"
        )
    if exit.code == NO_REPLAY:
        raise ProviderFault("replay", f"the replay server did not start: {words}")
    if run.session.session_id is None:
        kind = "not_installed" if exit.code == 127 else "did_not_start"
        raise AgentFault(kind, f"Claude Code did not start ({how}): {words}")
    raise AgentFault("died", f"Claude Code ended without a result ({how}): {words}")


async def judge_timeout(run: Run, silence_s: float, is_held_up: bool, outside: Outside) -> Ending:
    """Judge a run whose time was up.

    Args:
        run: the run.
        silence_s: the silence of a model that owes a reply that is no slowness any more.
        is_held_up: whether the variant's servers may have kept the session from its start.
        outside: who sees the model's API.

    Raises:
        AgentFault: when Claude Code had not even started.
        ProviderFault: when the model had fallen silent, or could not be reached, and the harness sees it too.
    """
    if run.session.session_id is None and not run.has_acted and not is_held_up:
        raise AgentFault(
            "did_not_start", f"Claude Code had not started after {run.idle_s:.0f} s", policy=RETRY
        )
    if run.is_retrying:
        status = run.session.last_retry_status
        fault = provider_fault(status, "the API was being asked again when the time was up")
        return await _judge_provider(run, status, fault, outside, "timeout")
    if run.waits and run.idle_s >= silence_s:
        words = f"the model's API had sent nothing for {run.idle_s:.0f} s when the agent was stopped"
        return await _judge_provider(run, None, ProviderFault("silent", words), outside, "timeout")
    return Ending("timeout")


async def refused_key(session: Session, outside: Outside) -> ProviderFault | None:
    """The fault of a key that the API refuses, as the harness sees it too: it does not get better with retries."""
    status = session.last_retry_status
    if status not in (401, 403):
        return None
    state = await outside.own()  # an agent can make requests that are refused
    if state and state.confirms(status):
        return provider_fault(state.status, f"the API refused the key: {state.words}")
    return None


async def _judge_provider(
    run: Run, status: int | None, fault: ProviderFault, outside: Outside, stop: Stop
) -> Ending:
    """Judge an API's trouble that Claude Code tells of."""
    seen = await outside.proxy()
    if seen and seen.is_the_apis(status):
        fault.policy = replace(fault.policy, fatal=False)  # only what the harness itself meets ends a run
        raise fault
    state = await outside.own()
    if state and state.confirms(status):
        raise fault
    if not run.has_acted:
        # Trouble that only Claude Code met ends no run.
        fault.policy = replace(fault.policy, fatal=False)
        raise fault
    own = "could not be made" if state is None else f"had HTTP {state.status}"
    told = f"Claude Code told of trouble with the API ({fault.message})"
    return Ending(stop, f"{told}; the harness's own request {own}: what the agent left is judged")


def provider_fault(status: int | None, message: str) -> ProviderFault:
    """The fault that an answer of the API with this status is."""
    said = f"HTTP {status}: {message}" if status and str(status) not in message else message
    if status == 403 and _REFUSED_HERE in message:
        remedy = "name its host in [sandbox] network, or correct ANTHROPIC_BASE_URL"
        return ProviderFault("no_way", said, remedy=remedy)
    kind = KIND_BY_STATUS.get(status or 0, "api_error")
    # An unknown status below 500 is a refusal, which a new attempt would meet again.
    is_refusal = status is not None and status < 500 and status not in KIND_BY_STATUS
    return ProviderFault(kind, said, policy=GIVE_UP if is_refusal else FAULTS["provider"][kind])


def is_api_error(result: TurnResult) -> bool:
    """True if the result is Claude Code's own word on the API's trouble, and not the model's."""
    if result.terminal_reason == "api_error" or result.api_error_status is not None:
        return True
    has_output = result.tokens is not None and result.tokens.output > 0
    return bool(result.text and result.text.startswith(_API_WORDS)) and not has_output


def _said(what: str, result: TurnResult) -> str:
    return f"{what}: {keep_start(' '.join((result.text or '').split()), 500)}"
