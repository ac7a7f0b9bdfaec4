"""The checks: run one by one in a sandbox with the work in it, each by a command of its own, and what they say."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.errors import SandboxFault
from harness.records.record_parts import CheckResult
from harness.sandboxes.owner import process_identity
from harness.sandboxes.sandbox import CommandResult, CommandTimeoutError, Sandbox
from harness.sandboxes.shell import (
    call,
    chain,
    decode_bytes,
    random_token,
    read_answers,
    run_as_root,
    run_without_profile,
)
from harness.tasks.task import Check, Task
from harness.text import decode_end, keep_end
from harness.trials import scripts
from harness.trials.check_files import CheckFiles
from harness.trials.check_kinds import plan_check
from harness.trials.check_plan import CheckPlan, Ended
from harness.trials.seeding import Baseline
from harness.trials.session_checks import VARIABLES

OUTPUT_BYTES = 1_000_000
"""How much of a check's output is kept: the end of it."""
_TAIL_CHARS = 2_000
_GRACE_S = 10.0
_STEP_S = 120.0

# The check is the command's own process in the end: its exit code is the one that the sandbox's daemon saw. Its output
# goes to a file, so that a flood of it cannot hurt.
_RUN = """
cd %(folder)s || exit
export HARNESS_CHECKS=%(checks)s
%(steps)s
exec timeout -k 2 %(timeout)s bash -c %(command)s >~/%(output)s 2>&1 %(stdin)s
"""
# An earlier check may have closed them: to the sandbox's user, or, without another account, to the harness too.
_OPEN = """
for folder in ~ ~/.harness ~/repo; do
  if [ ! -r "$folder" ] || [ ! -w "$folder" ] || [ ! -x "$folder" ]; then chmod u+rwx "$folder" 2>/dev/null || true; fi
done
"""
_TIMED_OUT = (124, 137, -1)

Keep = Callable[[str, bytes], Awaitable[str]]
"""Stores an output under a name, and gives its path for the record."""


@dataclass(frozen=True)
class Place:
    """A sandbox with the work in it and no agent at it.

    `own_processes`: every process in sight is the sandbox's own; otherwise those with `mark` in their environment are.
    `laid_by_variant` names files of the repo that are the variant's, and not the starter's. `keep_processes`: what the
    agent has started goes on.
    """

    sandbox: Sandbox
    baseline: Baseline
    own_processes: bool
    mark: str
    laid_by_variant: frozenset[str] = frozenset()
    keep_processes: bool = False

    @property
    def checks_folder(self) -> str:
        """The folder for the files that checks go by: root alone can rename and replace them.

        Below the home, its user could move the folder away. Where a sandbox has no root of its own, it is there all the
        same: nothing else can be written.
        """
        return "/var/lib/harness" if self.own_processes else f"{self.baseline.home}/.harness/for-checks"

    def end_processes(self) -> str:
        """A script that ends what was started since the baseline; it has to run as root."""
        if self.keep_processes:
            return "true"
        scope = "all" if self.own_processes else "marked"
        return call(scripts.END_PROCESSES, self.baseline.since, scope, self.mark, *process_identity())


async def run_checks(
    place: Place,
    task: Task,
    checks: Sequence[Check],
    keep: Keep | None = None,
    *,
    told: Mapping[str, bytes] | None = None,
    until_failed: bool = False,
) -> tuple[CheckResult, ...]:
    """Run checks in the repo, all of them or `until_failed` is known.

    A check may run what the agent wrote. So its processes are ended before its score is read, and the files of
    `checks/` and the protected ones are put in place anew before the next one; after `[checks] prepare` too.

    Args:
        place: where.
        task: whose checks they are.
        checks: which of them.
        keep: stores their outputs; None: they are not kept.
        told: files of the agent's session that they can read.
        until_failed: none is run after one that has failed.

    Raises:
        SandboxFault: when the sandbox is lost on the way; there are no verdicts then.
    """
    results: list[CheckResult] = []
    has_run = bool(task.prepare)
    files = _files_of(place, task, told or {}, is_anew=has_run or len(checks) > 1)
    if told:
        env = {name: f"{place.checks_folder}/told/{file}" for name, file in VARIABLES.items()}
        task = replace(task, sandbox=task.sandbox.model_copy(update={"env": {**task.sandbox.env, **env}}))
    if has_run or files.tar:
        await _lay(place, files, after=place.end_processes() if has_run else "true")
    for number, check in enumerate(checks, 1):
        is_last = number == len(checks)
        with_it = files.is_small and not is_last
        again = await files.lay_command(place.sandbox) if with_it else "true"
        result, output, evidence = await _run_check(place, task, check, again)
        if result is None:
            why = "what an earlier check left running could not be ended"
            results += [
                failed_check(one, output.decode("utf-8", "replace") or why) for one in checks[number - 1 :]
            ]
            break
        if not files.is_small and not is_last:
            # Only now that nothing runs any more that could change what is uploaded.
            await _lay(place, files)
        if keep and result.duration_ms is not None:
            path = await keep(f"checks/{check.name}.txt", output)
            await keep(f"checks/{check.name}.json", evidence)
            result = result.model_copy(update={"output": path})
        results.append(result)
        if until_failed and not result.passed:
            break
    return tuple(results)


def _files_of(place: Place, task: Task, told: Mapping[str, bytes], *, is_anew: bool) -> CheckFiles:
    folder, repo = place.checks_folder, f"{place.baseline.home}/repo"
    return CheckFiles.of(task, told, folder=folder, repo=repo, is_anew=is_anew, but=place.laid_by_variant)


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
        weight=check.weight,
    )


async def _lay(place: Place, files: CheckFiles, after: str = "true") -> None:
    script = chain(after, await files.lay_command(place.sandbox))
    try:
        done = await run_as_root(place.sandbox, script, home=place.baseline.home, timeout=_STEP_S)
    except CommandTimeoutError as error:
        raise SandboxFault("checks", f"the checks could not be put in place: {error}") from error
    if done.exit_code:
        words = keep_end(done.stderr.strip(), 2000)
        raise SandboxFault("checks", f"the checks could not be put in place: {words}")


async def _run_check(
    place: Place, task: Task, check: Check, laid: str
) -> tuple[CheckResult | None, bytes, bytes]:
    """One check's result, output and evidence; no result, and why, where its processes could not be ended.

    `laid` is done after it, for the next one.
    """
    token = random_token()
    plan, output = plan_check(check, task, place.baseline.home, token), f".harness/out-{token}"
    script = _OPEN + _RUN % {
        "folder": shlex.quote(task.sandbox.workdir) if task.sandbox.workdir else "~/repo",
        "checks": shlex.quote(f"{place.checks_folder}/checks"),
        "steps": plan.steps,
        "output": output,
        "timeout": f"{task.check_timeout:g}",
        "command": shlex.quote(plan.command),
        "stdin": f"<<<{shlex.quote(plan.stdin)}" if plan.stdin else "</dev/null",
    }
    start = time.monotonic()
    try:
        # It starts where the work can close no door.
        done: CommandResult | None = await run_without_profile(
            place.sandbox,
            script,
            timeout=task.check_timeout + _GRACE_S,
            cwd="/",
            env=task.sandbox.env,
            home=place.baseline.home,
        )
    except CommandTimeoutError:
        done = None
    took_s = time.monotonic() - start
    after = await _after(place, output, plan, laid)
    if after.exit_code:
        return None, keep_end(after.stderr.strip(), 2000).encode(), b""
    # A report may have 16 MiB, whose parsing takes seconds.
    return await asyncio.to_thread(_result, task, check, plan, done, took_s, read_answers(after.stdout))


async def _after(place: Place, output: str, plan: CheckPlan, laid: str) -> CommandResult:
    home = place.baseline.home
    # One byte more says that there was more.
    bounds = (str(OUTPUT_BYTES + 1), plan.reports, str(plan.report_bytes))
    told = call(scripts.AFTER_CHECK, f"{home}/{output}", *bounds)
    script = chain(place.end_processes(), _OPEN, told, laid)
    try:
        return await run_as_root(place.sandbox, script, home=home, timeout=_STEP_S)
    except CommandTimeoutError as error:
        return CommandResult("", f"the check's processes could not be ended: {error}", 1)


def _result(
    task: Task,
    check: Check,
    plan: CheckPlan,
    done: CommandResult | None,
    took_s: float,
    answers: Mapping[str, str],
) -> tuple[CheckResult, bytes, bytes]:
    code = done.exit_code if done else -1
    timed_out = done is None or (code in _TIMED_OUT and took_s >= task.check_timeout)
    exit_code = None if timed_out or code < 0 else code
    try:
        report = decode_bytes(answers["report"]) if "report" in answers else None
        text = decode_end(decode_bytes(answers.get("output", "")), OUTPUT_BYTES)
    except ValueError:
        # Only with `sandbox = "agent"` can the agent have replaced the programs that tell it.
        return failed_check(check, "what it said could not be read out of the sandbox"), b"", b""
    verdict = plan.judge(Ended(exit_code, report))
    words = [verdict.words] if verdict.words else []
    if timed_out:
        words.append(f"stopped: it took longer than {task.check_timeout:g} s")
    elif code < 0:
        words.append("the check's process was killed")
    text += "".join(f"\n[harness] {one}" for one in words)
    result = CheckResult(
        name=check.name,
        passed=verdict.passed,
        score=verdict.score,
        exit_code=exit_code,
        timed_out=timed_out,
        duration_ms=round(took_s * 1000),
        output_tail=keep_end(text, _TAIL_CHARS),
        tests=verdict.tests,
        scores=verdict.scores,
        weight=check.weight,
    )
    seen = {"exit_code": exit_code, "timed_out": timed_out, "duration_ms": result.duration_ms}
    evidence = json.dumps({"name": check.name, **seen, **verdict.evidence}, indent=1)
    return result, text.encode("utf-8", "replace"), evidence.encode() + b"\n"
