"""The checks: they enter the sandbox when the agent has stopped, run one by one, and give verdicts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from harness.errors import SandboxFault
from harness.records.record import CheckResult
from harness.sandboxes.archive import pack_folder, unpack_command
from harness.sandboxes.sandbox import CommandResult, CommandTimeoutError, Sandbox
from harness.sandboxes.shell import (
    SandboxScript,
    ScriptOutcome,
    handed_over,
    random_token,
    run_without_profile,
)
from harness.tasks.task import Check, Task

OUTPUT_BYTES = 1_000_000
"""How much of a check's output is kept: the end of it."""
_TAIL_CHARS = 2_000
_GRACE_S = 10.0

# Bytecode that is left in the repo may be older than its source, or lie about it.
_NO_BYTECODE = "cd ~/repo && find . -name __pycache__ -prune -exec rm -rf {} +"
_NOT_IN_PLACE = 96
# The check's output goes to a file, so that a flood of it cannot hurt. That and its score have names that nobody could
# know before, so that nothing is in their place.
_RUN = """
{ %(first)s; } >&2 || exit %(not_in_place)s
cd ~/repo && export HARNESS_SCORE=$HOME/.harness/score-%(word)s HARNESS_CHECKS=$HOME/.harness/checks
out=~/.harness/out-%(word)s start=${EPOCHREALTIME/[^0-9]/}
score=; timeout -k 2 %(timeout)s bash -c %(command)s >"$out" 2>&1 </dev/null; code=$?
ms=$(( (${EPOCHREALTIME/[^0-9]/} - start) / 1000 ))
[ -f "$HARNESS_SCORE" ] && IFS= read -r -d '' -n 100 score <"$HARNESS_SCORE"
[ ! -s "$out" ] || tail -c %(bytes)s "$out"
echo "$code $ms ${score//[[:space:]]/ }" >&2
"""
# Ends what ran before in front of a check's own script, which starts in the same place as without it.
_ENDED = "[harness] nothing runs any more"
_END_FIRST = """
( %(end)s
) >&2 && echo '%(ended)s' >&2 || exit %(not_in_place)s
"""
_REPORT = re.compile(r"^(\d+) (\d+) (.*?) ?$\s*\Z", re.MULTILINE)
_TIMED_OUT = (124, 137)


@dataclass(frozen=True)
class Between:
    """How what a check has left running is ended before the next.

    `alone` does it by itself. `script` does the same as the sandbox's user, in front of the next check's own script,
    which saves a command; it is for where root is no other account than that user, so that nothing is lost by it.
    """

    alone: Callable[[], Awaitable[None]]
    script: SandboxScript | None = None


async def run_checks(
    sandbox: Sandbox,
    task: Task,
    keep: Callable[[str, bytes], Awaitable[str]] | None = None,
    checks: Sequence[Check] | None = None,
    between: Between | None = None,
) -> tuple[CheckResult, ...]:
    """Run a task's checks (or those given) in the repo.

    A check may run what the agent wrote. So the files of `checks/` are put in place anew before each that is one.

    Args:
        sandbox: with the agent's work in it, and nobody at it any more.
        task: whose checks they are.
        keep: stores an output under a name, and gives its path for the record; None: outputs are not kept.
        checks: only these.
        between: done before each check but the first.

    Raises:
        SandboxFault: when the sandbox is lost on the way; there are no verdicts then.
    """
    packed = pack_folder(task.checks_folder, task.hash, "checks") if task.checks_folder else None
    results: list[CheckResult] = []
    for check in task.checks if checks is None else checks:
        files = packed if check.file or not results else None
        end = between if results else None
        # What is written by itself must not be in reach of what still runs.
        if end and (end.script is None or (files and not unpack_command(files))):
            await end.alone()
            end = None
        first = ["true"] if results else [_NO_BYTECODE]
        if files:
            anew = await handed_over(sandbox, files, ".harness/checks.tar", anew=True)
            first.append(f"cd ~/.harness && {anew}")
        seen = await _seen(sandbox, task, _script(task, check, " && ".join(first)), end)
        verdict, output = _verdict(task, check, seen)
        if keep and output is not None:
            path = await keep(f"checks/{check.name}.txt", output)
            verdict = verdict.model_copy(update={"output": path})
        results.append(verdict)
    return tuple(results)


def _script(task: Task, check: Check, first: str) -> str:
    """What does `first`, then runs one check."""
    command = (
        check.command
        if check.command is not None
        else f"exec ~/.harness/checks/{shlex.quote(check.file or '')}"
    )
    return _RUN % {
        "first": first,
        "not_in_place": _NOT_IN_PLACE,
        "word": random_token(),
        "timeout": f"{task.check_timeout:g}",
        "command": shlex.quote(command),
        "bytes": OUTPUT_BYTES,
    }


async def _seen(sandbox: Sandbox, task: Task, script: str, end: Between | None) -> ScriptOutcome:
    """What a check's script gives back, once what ran before has been ended.

    Raises:
        SandboxFault: when it cannot be ended, or the sandbox is lost.
    """
    if end and end.script:
        seen = await _seen_together(sandbox, task, script, end.script)
        if seen:
            return seen
    if end:
        await end.alone()
    try:
        return await _run(sandbox, task, script, 0)
    except CommandTimeoutError as error:
        return error


async def _seen_together(
    sandbox: Sandbox, task: Task, script: str, end: SandboxScript
) -> CommandResult | None:
    """The same in one command; None when it has not come to the check, or has not come to its end."""
    first = _END_FIRST % {"end": end.text, "ended": _ENDED, "not_in_place": _NOT_IN_PLACE}
    try:
        result = await _run(sandbox, task, first + script, end.timeout)
    except CommandTimeoutError:
        return None
    except SandboxFault as fault:
        if fault.kind != "invalid_request":
            raise
        return None  # a home that was closed is no folder to start in
    _, ended, told = result.stderr.partition(f"{_ENDED}\n")
    return replace(result, stderr=told) if ended else None


async def _run(sandbox: Sandbox, task: Task, script: str, longer_s: float) -> CommandResult:
    timeout = task.check_timeout + _GRACE_S + longer_s
    return await run_without_profile(sandbox, script, timeout=timeout, env=task.sandbox.env)


def _failed(check: Check, words: str, *, timed_out: bool = False) -> CheckResult:
    return CheckResult(
        name=check.name,
        passed=False,
        score=0.0,
        exit_code=None,
        timed_out=timed_out,
        duration_ms=None,
        output_tail=words,
    )


def _verdict(task: Task, check: Check, seen: ScriptOutcome) -> tuple[CheckResult, bytes | None]:
    """A check's result, and its output, where it has come to one.

    Raises:
        SandboxFault: when it was not run, because what it needs could not be put in place.
    """
    if isinstance(seen, CommandTimeoutError):
        return _failed(check, f"stopped: it took longer than {task.check_timeout:g} s", timed_out=True), None
    report = _REPORT.search(seen.stderr)
    if report is None and seen.exit_code == _NOT_IN_PLACE:
        words = seen.stderr.strip()[-2000:]
        raise SandboxFault("checks", f"the checks could not be put in place: {words}")
    if report is None:
        return _failed(check, f"the check's shell was killed (exit code {seen.exit_code})"), None
    code, ms, score = report.groups()
    timed_out = int(code) in _TIMED_OUT and int(ms) >= task.check_timeout * 1000
    passed = code == "0"
    output = seen.stdout
    problem = ""
    value = 1.0 if passed else 0.0
    if score.strip():
        try:
            value = _score(score)
        except ValueError as error:
            passed, value, problem = False, 0.0, f"\n[harness] {error}"
    if timed_out:
        problem += f"\n[harness] stopped: it took longer than {task.check_timeout:g} s"
    output += problem
    result = CheckResult(
        name=check.name,
        passed=passed,
        score=value,
        exit_code=None if timed_out else int(code),
        timed_out=timed_out,
        duration_ms=int(ms),
        output_tail=output[-_TAIL_CHARS:],
    )
    return result, output.encode("utf-8", "replace")


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"$HARNESS_SCORE holds {text!r}, not a number from 0 to 1")
    return value
