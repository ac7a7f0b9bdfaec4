"""The fixtures for those who prefer Python to folders: the same trials and records, step by step from a test."""

from __future__ import annotations

import functools
from collections.abc import Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from harness.agents.claude import Claude
from harness.errors import Fault, NotAppliedError, SandboxFault, UsageError
from harness.pytest_plugin.items import spec_of_test
from harness.pytest_plugin.own_verdict import OwnVerdict, verdict_of
from harness.pytest_plugin.reporting import properties
from harness.pytest_plugin.session import RunSession
from harness.records.prices import Price, cost_by_model, total_cost
from harness.records.record import Stop, TrialRecord
from harness.records.record_parts import CheckResult, TokenCounts
from harness.records.session import Session
from harness.records.trial_spec import TrialSpec
from harness.runs.budget import NotStartedError
from harness.sandboxes.faults import OF_CONTENT
from harness.sandboxes.layout import HOME, REPO
from harness.sandboxes.sandbox import (
    CommandResult,
    CommandTimeoutError,
    Sandbox,
    TooLargeError,
)
from harness.sandboxes.shell import run_without_profile
from harness.tasks.prompts import ends_session
from harness.trials.attempt import Attempt, interrupted
from harness.trials.runner import Retries, TrialRunner
from harness.trials.trial import PreparedTrial, open_trial

T = TypeVar("T")


@dataclass(frozen=True)
class ClaudeResult:
    """The result of one call of `claude(...)`. Tokens and cost are the session's up to here."""

    stop: Stop
    session: Session
    _trial: FixtureTrial

    @property
    def text(self) -> str | None:
        """Claude's last message."""
        return self.session.turns[-1].text if self.session.turns else None

    @property
    def tokens(self) -> TokenCounts:
        """The session's tokens so far, as billed."""
        return TokenCounts.of(self.session.tokens)

    @property
    def cost_usd(self) -> float | None:
        """The session's cost so far."""
        return total_cost(self.session, cost_by_model(self.session, self._trial.prices)).usd

    @property
    def duration_ms(self) -> int | None:
        """Claude Code's own time, over all calls so far."""
        return self.session.duration_ms

    @property
    def num_turns(self) -> int | None:
        """Its tool results, and one more for each call so far: what Claude Code calls turns."""
        return self.session.num_turns

    @property
    def tools(self) -> Mapping[str, Any]:
        """Calls and errors by tool."""
        return self.session.tools

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """The marker's checks, run now on the work, in a second sandbox."""
        return self._trial.run_checks()

    @property
    def passed_checks(self) -> bool:
        """True if all of the marker's checks pass."""
        return all(check.passed for check in self.checks)


class SandboxHandle:
    """The test's sandbox, for a test that is not async. Relative paths are below the repo."""

    def __init__(self, trial: FixtureTrial) -> None:
        self._trial = trial

    @property
    def id(self) -> str:
        """The sandbox's id on its platform."""
        return self._trial.prepared.agent_context.sandbox.id

    def run(
        self, command: str, *, timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> CommandResult:
        """Run a shell command in the repo; a non-zero exit is a result (`.exit_code`).

        Raises:
            TimeoutError: when it takes longer than `timeout` seconds.
            OSError: when the repo or the shell is gone.
        """
        run = run_without_profile(self._sandbox, command, timeout=timeout, cwd=REPO, env=env, home=HOME)
        return self._do(run, command)

    def read(self, path: str) -> bytes:
        """A file's content. Raises OSError where there is none that can be read."""
        return self._do(self._sandbox.read(_below_repo(path)), path)

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file, making its folders. Raises OSError where it cannot be written."""
        data = content.encode() if isinstance(content, str) else content
        self._do(self._sandbox.write(_below_repo(path), data), path)

    @property
    def _sandbox(self) -> Sandbox:
        return self._trial.prepared.agent_context.sandbox

    def _do(self, work: Coroutine[Any, Any, T], subject: str) -> T:
        return self._trial.call(_judged_by_test(work, subject))


async def _judged_by_test(work: Coroutine[Any, Any, T], subject: str) -> T:
    """A step of the test's own: what the sandbox has or has not is what is judged, and no fault of infrastructure."""
    try:
        return await work
    except CommandTimeoutError as error:
        raise TimeoutError(f"{subject!r}: {error}") from error
    except TooLargeError as error:
        raise OSError(f"{subject!r}: {error}") from error
    except SandboxFault as fault:
        if fault.kind not in OF_CONTENT:
            raise
        kind = FileNotFoundError if fault.kind == "file_not_found" else OSError
        raise kind(fault.message) from fault


def _below_repo(path: str) -> str:
    return path if path.startswith("/") else f"{REPO}/{path}"


class FixtureTrial:
    """One trial behind a test's fixtures."""

    __test__ = False
    _opening: AbstractAsyncContextManager[PreparedTrial]

    def __init__(self, session: RunSession, spec: TrialSpec) -> None:
        self._client, self._owner = session.client, session.owner
        earlier = session.begin_external(spec)
        host = session.fixture_host
        self._loop = host.loop
        self._trial = TrialRunner(spec, host.context, tuple(earlier))
        self._prompts = 0
        self.prepared = self._open(Retries(session.options.retries))
        self.sandbox = SandboxHandle(self)

    @property
    def prices(self) -> Mapping[str, Price]:
        """The prices that were given for models."""
        return self._trial.spec.variant.prices

    def _open(self, retries: Retries) -> PreparedTrial:
        """Open the sandbox. None of the test's own lines has run yet, so a fault may be answered by a new attempt.

        Raises:
            Fault: when there is none to be had; the record is stored.
        """
        while attempt := self._loop.call(self._trial.next_attempt(retries)):
            self._opening = open_trial(self._trial.spec, self._trial.context, attempt)
            try:
                return self.call(self._opening.__aenter__())
            except Fault as error:
                attempt.end()
                fault = error
        self._store(self._trial.record())
        raise fault

    def _store(self, record: TrialRecord) -> None:
        self._loop.call(self._trial.store(record))
        self._client.end_external(self._owner, record)

    @property
    def _attempt(self) -> Attempt:
        return self._trial.attempts[-1]

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a step on the trial's loop; a fault, or a variant that was not applied, is noted for the record."""
        try:
            return self._loop.call(work, self._report)
        except Fault as fault:
            self._attempt.fault = fault
            raise
        except NotAppliedError as error:
            self._attempt.differences = error.differences
            raise
        except KeyboardInterrupt:
            self._attempt.fault = interrupted()
            raise

    def claude(self, prompt: str, *, timeout: float | None = None) -> ClaudeResult:
        """Have Claude Code (or the agent that --agent names) do a prompt; a further call goes on in the same session.

        `timeout` is in seconds, by default the marker's.
        """
        if why := ends_session(prompt):
            raise UsageError(why, remedy="take a test of its own for what comes after it")
        self._attempt.checks = ()
        self._prompts += 1
        try:
            stop = self.call(self._prompt(prompt, timeout or self._trial.spec.task.timeout))
        finally:
            self._report()
        self._attempt.stop = stop
        self.call(self.prepared.verify_variant())
        return ClaudeResult(stop, self._attempt.session, self)

    def _report(self) -> None:
        self._client.report_external(self._owner, self._trial.spent(), self._trial.doing)

    async def _prompt(self, prompt: str, timeout: float) -> Stop:
        prepared, spec = self.prepared, self._trial.spec
        if not isinstance(prepared.agent, Claude):
            return await prepared.run_agent()
        ask = functools.partial(prepared.agent.prompt, spec, prepared.agent_context, prompt, timeout)
        return await prepared.run_agent(ask)

    def run_checks(self) -> tuple[CheckResult, ...]:
        """Run the marker's checks, once after each prompt.

        Raises:
            UsageError: when the marker names none.
        """
        if not self._trial.spec.task.checks:
            raise UsageError(
                "this test has no checks to run",
                remedy='name them: @pytest.mark.task(..., checks={"tests": "python3 -m unittest"}), or a task folder',
            )
        if not self._attempt.checks:
            self.call(self.prepared.grade_now())
        return self._attempt.checks

    def finish(self, verdict: OwnVerdict) -> list[tuple[str, object]]:
        """Close the sandbox and store the record, judged as the test was; by a fixture, where that asked the agent."""
        has_failed_in_fixture = verdict.setup is not None and self._prompts > 0
        passed = not (verdict.failed or has_failed_in_fixture)
        if passed and not self._attempt.fault and not self._attempt.differences:
            self._attempt.fault = verdict.fault
        try:
            if not self._attempt.fault and not self._attempt.diff:
                self.call(self.prepared.collect())
        finally:
            self._attempt.test_passed = passed
            self._loop.call(self._opening.__aexit__(None, None, None))
            if not self._attempt.fault and not self._attempt.diff:
                self._loop.call(self.prepared.grade(checks=False))
            self._loop.call(self.prepared.finish())
            self._attempt.end()
            record = self._trial.record()
            if record.outcome in ("passed", "failed"):
                score = record.score if record.score is not None else float(passed)
                record = record.model_copy(update={"score": score})
            self._store(record)
        return properties(record, late=True)


def run_fixture_trial(request: pytest.FixtureRequest, session: RunSession) -> Generator[FixtureTrial]:
    """Open a trial for a test, hand it over, and record it with the test's verdict."""
    try:
        trial = FixtureTrial(session, spec_of_test(request.node, session))
    except NotStartedError as reason:
        pytest.skip(reason.message)
    yield trial
    request.node.user_properties += trial.finish(verdict_of(request.node))
