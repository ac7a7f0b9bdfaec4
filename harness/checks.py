"""The checks: they enter the sandbox when the agent has stopped, run one by one, and give verdicts."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable, Sequence

from harness.archive import pack_folder
from harness.errors import SandboxFault
from harness.record import CheckResult
from harness.sandbox import CommandTimeoutError, Result, Sandbox
from harness.shell import handed_over, run_own
from harness.task import Check, Task

OUTPUT_BYTES = 1_000_000
"""How much of a check's output is kept: the end of it."""
_TAIL_CHARS = 2_000
_GRACE_S = 10.0

# Bytecode that is left in the repo may be older than its source, or lie about it.
_NO_BYTECODE = "cd ~/repo && find . -name __pycache__ -prune -exec rm -rf {} +"
_CLEAR = "rm -rf ~/.harness/score ~/.harness/check.out"
_CLEAR_ALL = "cd ~/.harness && rm -rf score check.out checks"
_NOT_IN_PLACE = 96
# The check's own files are out of its way; its output goes to a file, so that a flood of it cannot hurt.
_RUN = """
{ %(first)s; } >&2 || exit %(not_in_place)s
cd ~/repo && export HARNESS_SCORE=$HOME/.harness/score HARNESS_CHECKS=$HOME/.harness/checks
start=${EPOCHREALTIME/[^0-9]/}
score=; timeout -k 2 %(timeout)s bash -c %(command)s >~/.harness/check.out 2>&1 </dev/null; code=$?
ms=$(( (${EPOCHREALTIME/[^0-9]/} - start) / 1000 ))
[ -f "$HARNESS_SCORE" ] && IFS= read -r -d '' -n 100 score <"$HARNESS_SCORE"
echo "$code $ms ${score//[[:space:]]/ }" >&2
tail -c %(bytes)s ~/.harness/check.out
"""
_REPORT = re.compile(r"^(\d+) (\d+) (.*?) ?$\s*\Z", re.MULTILINE)
_TIMED_OUT = (124, 137)


async def run_checks(
    sandbox: Sandbox,
    task: Task,
    keep: Callable[[str, bytes], str],
    checks: Sequence[Check] | None = None,
    between: Callable[[], Awaitable[None]] | None = None,
) -> tuple[CheckResult, ...]:
    """Run a task's checks (or those given) in the repo.

    A check may run what the agent wrote. So the files of `checks/` are put in place anew before each that is one.

    Args:
        sandbox: with the agent's work in it, and nobody at it any more.
        task: whose checks they are.
        keep: stores an output under a name, and gives its path for the record.
        checks: only these.
        between: awaited before each check but the first, to end what the one before has left running.

    Raises:
        SandboxFault: when the sandbox is lost on the way; there are no verdicts then.
    """
    packed = pack_folder(task.checks_folder, "checks") if task.checks_folder else None
    results: list[CheckResult] = []
    for check in task.checks if checks is None else checks:
        first = [] if results else [_NO_BYTECODE]
        if results and between:
            await between()
        if packed and (check.file or not results):
            first += [_CLEAR_ALL, await handed_over(sandbox, packed, ".harness/checks.tar")]
        else:
            first.append(_CLEAR)
        results.append(await _run_check(sandbox, task, check, keep, " && ".join(first)))
    return tuple(results)


async def _run_check(
    sandbox: Sandbox, task: Task, check: Check, keep: Callable[[str, bytes], str], first: str
) -> CheckResult:
    """Do `first`, then run one check.

    Raises:
        SandboxFault: when `first` did not work out.
    """
    command = (
        check.command
        if check.command is not None
        else f"exec ~/.harness/checks/{shlex.quote(check.file or '')}"
    )
    script = _RUN % {
        "first": first,
        "not_in_place": _NOT_IN_PLACE,
        "timeout": f"{task.check_timeout:g}",
        "command": shlex.quote(command),
        "bytes": OUTPUT_BYTES,
    }
    try:
        result = await run_own(sandbox, script, timeout=task.check_timeout + _GRACE_S, env=task.sandbox.env)
    except CommandTimeoutError:
        return _failed(check, f"stopped: it took longer than {task.check_timeout:g} s", timed_out=True)
    if result.exit_code == _NOT_IN_PLACE and not _REPORT.search(result.stderr):
        words = result.stderr.strip()[-2000:]
        raise SandboxFault("checks", f"the checks could not be put in place: {words}", retry=True)
    # Off the loop: a disk that is busy would hold up every other trial.
    return await asyncio.to_thread(_verdict, task, check, result, keep)


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


def _verdict(task: Task, check: Check, result: Result, keep: Callable[[str, bytes], str]) -> CheckResult:
    report = _REPORT.search(result.stderr)
    if report is None:
        return _failed(check, f"the check's shell was killed (exit code {result.exit_code})")
    code, ms, score = report.groups()
    timed_out = int(code) in _TIMED_OUT and int(ms) >= task.check_timeout * 1000
    passed = code == "0"
    output = result.stdout
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
    return CheckResult(
        name=check.name,
        passed=passed,
        score=value,
        exit_code=None if timed_out else int(code),
        timed_out=timed_out,
        duration_ms=int(ms),
        output_tail=output[-_TAIL_CHARS:],
        output=keep(f"checks/{check.name}.txt", output.encode("utf-8", "replace")),
    )


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"$HARNESS_SCORE holds {text!r}, not a number from 0 to 1")
    return value
