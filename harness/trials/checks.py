"""The checks: run one by one in a sandbox with the work in it, each by a command of its own, and what they say."""

from __future__ import annotations

import shlex
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from harness.errors import SandboxFault
from harness.records.record import CheckResult
from harness.sandboxes.archive import pack_folder
from harness.sandboxes.sandbox import CommandResult, CommandTimeoutError, Sandbox
from harness.sandboxes.shell import (
    call,
    chain,
    decode_bytes,
    handed_over,
    random_token,
    read_answers,
    run_as_root,
    run_without_profile,
)
from harness.tasks.task import Check, Task
from harness.trials import scripts
from harness.trials.seeding import Baseline

OUTPUT_BYTES = 1_000_000
"""How much of a check's output is kept: the end of it."""
_TAIL_CHARS = 2_000
_GRACE_S = 10.0
_STEP_S = 120.0

# The check is the command's own process in the end: its exit code is the one that the sandbox's daemon saw. Its output
# goes to a file, so that a flood of it cannot hurt.
_RUN = """
cd ~/repo || exit
export HARNESS_SCORE=$HOME/%(score)s HARNESS_CHECKS=$HOME/.harness/checks
exec timeout -k 2 %(timeout)s bash -c %(command)s >~/%(output)s 2>&1 </dev/null
"""
_TIMED_OUT = (124, 137, -1)

Keep = Callable[[str, bytes], Awaitable[str]]
"""Stores an output under a name, and gives its path for the record."""


@dataclass(frozen=True)
class Place:
    """A sandbox with the work in it and no agent at it.

    `own_processes`: every process in sight is the sandbox's own; otherwise those with `mark` in their environment are.
    """

    sandbox: Sandbox
    baseline: Baseline
    own_processes: bool
    mark: str

    def end_processes(self) -> str:
        """A script that ends what was started since the baseline; it has to run as root."""
        scope = "all" if self.own_processes else "marked"
        return call(scripts.END_PROCESSES, self.baseline.since, scope, self.mark)


async def run_checks(
    place: Place, task: Task, checks: Sequence[Check], keep: Keep | None = None
) -> tuple[CheckResult, ...]:
    """Run checks in the repo.

    A check may run what the agent wrote. So its processes are ended before its score is read, and the files of
    `checks/` are put in place anew before the next one.

    Args:
        place: where.
        task: whose checks they are.
        checks: which of them.
        keep: stores their outputs; None: they are not kept.

    Raises:
        SandboxFault: when the sandbox is lost on the way; there are no verdicts then.
    """
    results: list[CheckResult] = []
    laid = await _lay_command(place, task) if checks else ""
    if laid:
        await _lay(place, laid)
    for number, check in enumerate(checks, 1):
        is_last = number == len(checks)
        result, output = await _run_check(place, task, check, "" if is_last else laid)
        if result is None:
            why = "what an earlier check left running could not be ended"
            results += [
                failed_check(one, output.decode("utf-8", "replace") or why) for one in checks[number - 1 :]
            ]
            break
        if keep and result.duration_ms is not None:
            path = await keep(f"checks/{check.name}.txt", output)
            result = result.model_copy(update={"output": path})
        results.append(result)
    return tuple(results)


def failed_check(check: Check, words: str, *, timed_out: bool = False) -> CheckResult:
    """The result of a check that could not be run, or not to its end, by the work's own doing."""
    return CheckResult(
        name=check.name,
        passed=False,
        score=0.0,
        exit_code=None,
        timed_out=timed_out,
        duration_ms=None,
        output_tail=words,
    )


async def _lay_command(place: Place, task: Task) -> str:
    """A command that puts the files of `checks/` in place anew; empty without any."""
    if task.checks_folder is None:
        return ""
    packed = pack_folder(task.checks_folder, task.hash, "checks")
    unpack = await handed_over(place.sandbox, packed, ".harness/checks.tar", anew=True)
    # A large one stays where it was put, for the checks to come.
    return f"cd ~/.harness && {unpack.replace(' && rm ~/.harness/checks.tar', '')}"


async def _lay(place: Place, command: str) -> None:
    try:
        done = await run_without_profile(place.sandbox, command, timeout=_STEP_S)
    except CommandTimeoutError as error:
        raise SandboxFault("checks", f"the checks could not be put in place: {error}") from error
    if done.exit_code:
        words = done.stderr.strip()[-2000:]
        raise SandboxFault("checks", f"the checks could not be put in place: {words}")


async def _run_check(place: Place, task: Task, check: Check, laid: str) -> tuple[CheckResult | None, bytes]:
    """One check's result and output; no result, and why, where its processes could not be ended.

    `laid` is done after it, for the next one.
    """
    token = random_token()
    output, score = f".harness/out-{token}", f".harness/score-{token}"
    script = _RUN % {
        "score": score,
        "output": output,
        "timeout": f"{task.check_timeout:g}",
        "command": shlex.quote(_command(check)),
    }
    start = time.monotonic()
    try:
        done: CommandResult | None = await run_without_profile(
            place.sandbox, script, timeout=task.check_timeout + _GRACE_S, env=task.sandbox.env
        )
    except CommandTimeoutError:
        done = None
    took_s = time.monotonic() - start
    after = await _after(place, output, score, laid)
    if after.exit_code:
        return None, after.stderr.strip()[-2000:].encode()
    answers = read_answers(after.stdout)
    told = decode_bytes(answers.get("output", ""))
    return _verdict(task, check, done, took_s, told, answers.get("score"))


def _command(check: Check) -> str:
    return (
        check.command
        if check.command is not None
        else f"exec ~/.harness/checks/{shlex.quote(check.file or '')}"
    )


async def _after(place: Place, output: str, score: str, laid: str) -> CommandResult:
    home = place.baseline.home
    told = call(scripts.AFTER_CHECK, f"{home}/{output}", f"{home}/{score}", str(OUTPUT_BYTES))
    again = (
        f"rm -rf ~/.harness/checks; {laid} && chown -R {place.baseline.owner} ~/.harness/checks"
        if laid
        else "true"
    )
    # The check may have closed them.
    opened = "chmod u+rwx ~ ~/.harness ~/repo 2>/dev/null; true"
    script = chain(place.end_processes(), opened, told, again)
    try:
        return await run_as_root(place.sandbox, script, home=home, timeout=_STEP_S)
    except CommandTimeoutError as error:
        return CommandResult("", f"the check's processes could not be ended: {error}", 1)


def _verdict(
    task: Task, check: Check, done: CommandResult | None, took_s: float, output: bytes, score: str | None
) -> tuple[CheckResult, bytes]:
    code = done.exit_code if done else -1
    timed_out = done is None or (code in _TIMED_OUT and took_s >= task.check_timeout)
    passed = code == 0
    text = output.decode("utf-8", "replace")
    problem, value = "", 1.0 if passed else 0.0
    if score is not None and decode_bytes(score).strip():
        try:
            value = _score(decode_bytes(score).decode("utf-8", "replace"))
        except ValueError as error:
            passed, value, problem = False, 0.0, f"\n[harness] {error}"
    if timed_out:
        problem += f"\n[harness] stopped: it took longer than {task.check_timeout:g} s"
    elif code < 0:
        problem += "\n[harness] the check's process was killed"
    text += problem
    result = CheckResult(
        name=check.name,
        passed=passed,
        score=value,
        exit_code=None if timed_out or code < 0 else code,
        timed_out=timed_out,
        duration_ms=round(took_s * 1000),
        output_tail=text[-_TAIL_CHARS:],
    )
    return result, text.encode("utf-8", "replace")


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"$HARNESS_SCORE holds {text.strip()!r}, not a number from 0 to 1")
    return value
