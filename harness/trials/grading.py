"""Grading: the work, judged in a second sandbox where nothing is that the agent started, installed or configured."""

from __future__ import annotations

import contextlib
import math
import secrets
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import SandboxFault
from harness.records.egress import Refusal
from harness.records.record_parts import CheckResult, Tampering
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.archive import pack, print_command
from harness.sandboxes.faults import OF_CONTENT
from harness.sandboxes.sandbox import (
    MAX_READ_BYTES,
    CommandTimeoutError,
    Sandbox,
    TooLargeError,
)
from harness.sandboxes.shell import (
    call,
    chain,
    decode_bytes,
    decode_names,
    read_answers,
    run_as_root,
    run_without_profile,
)
from harness.tasks.globs import any_glob_regex, fixed_start
from harness.tasks.task import Check, Task
from harness.text import keep_end
from harness.trials import scripts
from harness.trials.checks import Keep, Place, failed_check, run_checks
from harness.trials.context import RunContext
from harness.trials.opening import Start, open_sandbox, process_mark, setup_network
from harness.trials.seeding import Baseline, Seeded, seed
from harness.trials.session_checks import Told, session_files
from harness.trials.sight import refusal_notes
from harness.trials.work import NotCarriedError, Work
from harness.variants.apply import repo_files, repo_names

MAX_DIFF_BYTES = MAX_READ_BYTES
"""A longer diff is not kept."""
_MAX_FILE_BYTES = 8 * 1024 * 1024
"""A larger file is left out of the diff."""
_INLINE_CHARS = 80 * 1024
"""A tar that takes fewer characters goes with the command that unpacks it: one trip less."""
_TOLD_BYTES = 256 * 1024
"""A longer diff is read from its file."""
_IGNORED_NAMES = 200
_TAMPERING_NAMES = 1_000
"""So many are named: an agent may make any number, and a record that is too large could not be read."""
_CARRIED, _STARTER, _WORK = ".harness/carried.tar", ".harness/starter.tar", ".harness/work.tar"
_STEP_S = 300.0
_DIFF_S = 120
_MAX_TRIES = 3
_MAX_TRIES_IN_PLACE = 2
_WORKS_OWN = OF_CONTENT | {"checks", "grade", "not_found"}
"""Kinds of faults that the work can bring about in a sandbox that is there."""
_CLEAR_WAY = """
if [ -L ~/.harness ] || [ ! -d ~/.harness ]; then rm -rf ~/.harness; mkdir ~/.harness; fi
chmod u+rwx ~ ~/.harness ~/repo
rm -rf ~/.harness/{starter,starter.tar,checks.tar}
chown %s ~/.harness
"""
_NOT_UNPACKED = 97
# The repository by which diff.sh compares. No settings of the repo's own take part.
_DIFF_GIT = {
    f".harness/diff.git/{name}": text.encode()
    for name, text in {
        "HEAD": "ref: refs/heads/none\n",
        "config": (
            "[core]\n\tprotectHFS = false\n\tprotectNTFS = false\n\tautocrlf = false\n"
            "\tbigFileThreshold = 1g\n\texcludesFile = /dev/null\n"
        ),
        "info/attributes": "* -text -ident !eol !filter !working-tree-encoding !diff\n",
        "objects/info/alternates": "../../starter/.git/objects\n",
        "refs/": "",
    }.items()
}


class UnusableWorkError(Exception):
    """The work cannot be laid over the starter repo, by its own doing."""


@dataclass(frozen=True)
class Grade:
    """The result of grading. `diff` is None where it is not known; a note says why then."""

    checks: tuple[CheckResult, ...] = ()
    diff: bytes | None = None
    tampering: tuple[Tampering, ...] = ()
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sandbox_id: str | None = None


Works = Mapping[int | None, Work | NotCarriedError]
"""What was carried after each turn that has checks (from 1), and at the end (None)."""


async def grade_works(
    spec: TrialSpec,
    context: RunContext,
    start: Start,
    works: Works,
    keep: Keep,
    told: Told | None = None,
    *,
    checks: bool = True,
) -> Grade:
    """Grade each turn's work and the last, each in a sandbox of its own; without `checks`, tell only the diff.

    Checks of turns that the agent did not come to judge the last work.

    Raises:
        Fault: when the platform gives no sandbox that lasts.
    """
    grade, results, tampering = Grade(), list[CheckResult](), dict[Tampering, None]()
    for turn, work in sorted(works.items(), key=lambda pair: pair[0] or math.inf):
        asked = asked_checks(spec.task, works, turn) if checks else ()
        if turn is None and spec.task.grade_in_agents_sandbox:
            asked = ()
        if isinstance(work, NotCarriedError):
            found = Grade(tuple(failed_check(check, str(work)) for check in asked), notes=(str(work),))
        else:
            files = session_files(spec.task, told, turn) if told and asked else None
            found = await grade_work(spec, context, start, work, asked, keep, files)
        results += (one.model_copy(update={"turn": turn}) for one in found.checks)
        tampering |= dict.fromkeys(found.tampering)
        if turn is None:
            grade = found
    return replace(grade, checks=tuple(results), tampering=tuple(tampering))


def asked_checks(task: Task, works: Works, turn: int | None) -> tuple[Check, ...]:
    """The checks of a turn's work; those of the last work are all that no earlier turn's work was carried for."""
    checks = [check for check in task.checks if not check.is_of_session]
    if turn is not None:
        return tuple(check for check in checks if check.turn == turn)
    return tuple(check for check in checks if check.turn is None or check.turn not in works)


async def grade_work(
    spec: TrialSpec,
    context: RunContext,
    start: Start,
    work: Work,
    checks: Sequence[Check],
    keep: Keep,
    told: Mapping[str, bytes] | None = None,
) -> Grade:
    """Grade the work in a fresh sandbox, and in another one when that is lost: the same bytes are graded again.

    What goes wrong each time, in sandboxes that were there, goes wrong by the work's own doing: its checks have failed.

    Raises:
        Fault: when the platform gives no sandbox that lasts.
    """
    lost = 0
    for number in range(1, _MAX_TRIES + 1):
        try:
            return await _grade_once(spec, context, start, work, checks, keep, told)
        except UnusableWorkError as error:
            return Grade(tuple(failed_check(check, str(error)) for check in checks), notes=(str(error),))
        except SandboxFault as fault:
            is_own = fault.policy.is_gone or fault.kind in _WORKS_OWN
            lost += is_own
            if lost == _MAX_TRIES:
                why = f"the work could not be graded in any of {lost} sandboxes: {fault.message}"
                return Grade(tuple(failed_check(check, why) for check in checks), notes=(why,))
            if number == _MAX_TRIES or not (fault.retry or is_own):
                raise
    raise AssertionError("the last try returns or raises")


async def _grade_once(
    spec: TrialSpec,
    context: RunContext,
    start: Start,
    work: Work,
    checks: Sequence[Check],
    keep: Keep,
    told: Mapping[str, bytes] | None,
) -> Grade:
    async with open_grading_sandbox(spec, context, start, work) as (place, graded):
        problem = await prepare(place, spec) if checks else None
        if problem:
            results = tuple(failed_check(check, problem) for check in checks)
        else:
            results = await run_checks(place, spec.task, checks, keep, told=told)
        has_failed = any(not check.passed for check in results)
        refused = await refused_so_far(place.sandbox) if has_failed else ()
        notes = (*graded.notes, *notes_of_judging(results, refused))
        return replace(graded, checks=results, notes=notes, sandbox_id=place.sandbox.id)


async def refused_so_far(sandbox: Sandbox) -> tuple[Refusal, ...]:
    """The hosts that the network rules refused, and those that could not be reached, as far as that can be seen."""
    with contextlib.suppress(SandboxFault):  # the checks have their verdicts
        seen = await sandbox.egress()
        return seen.refused if seen else ()
    return ()


def notes_of_judging(results: Sequence[CheckResult], refused: Sequence[Refusal]) -> tuple[str, ...]:
    """The hosts that the checks could not reach, if one has failed, perhaps for want of them."""
    if all(check.passed for check in results):
        return ()
    return tuple(refusal_notes(refused, "while the work was judged, "))


@contextlib.asynccontextmanager
async def open_grading_sandbox(
    spec: TrialSpec, context: RunContext, start: Start, work: Work
) -> AsyncIterator[tuple[Place, Grade]]:
    """A sandbox with the work in it, and what `lay_work` tells. Nothing of the variant is there but what the repo gets.

    Raises:
        UnusableWorkError: when the work cannot be unpacked.
        SandboxFault: when the sandbox does not do it.
    """
    env, network = spec.task.sandbox.env, setup_network(spec)
    async with open_sandbox(spec, context, start, env=env, network=network) as sandbox:
        baseline, grade = await lay_work(sandbox, spec, work, is_set_up=start.is_set_up)
        mark = process_mark(context.folder.id, spec.id)
        yield (
            Place(sandbox, baseline, context.platform.has_own_processes, mark, repo_names(spec.variant)),
            grade,
        )


async def lay_work(
    sandbox: Sandbox, spec: TrialSpec, work: Work, *, is_set_up: bool = False
) -> tuple[Baseline, Grade]:
    """Lay the work over the starter repo in a fresh sandbox, tell the diff, and protect what is the starter's.

    Raises:
        UnusableWorkError: when the work cannot be unpacked.
        SandboxFault: when the sandbox does not do it.
    """
    lay = await _lay_command(sandbox, spec, work.repo) if work.repo else "true"
    try:
        seeded = await seed(
            sandbox,
            spec.task,
            extra=_DIFF_GIT,
            variant=repo_files(spec.variant),
            is_set_up=is_set_up,
            then=lay,
        )
    except SandboxFault as fault:
        if not isinstance(fault.__cause__, CommandTimeoutError):
            raise
        # The agent's sandbox had its repo in time: what takes so long here is most likely the work.
        words = f"the work could not be laid over the starter repo: {fault.__cause__}"
        raise SandboxFault("grade", words) from fault
    if work.repo:
        _fail_unless_laid(seeded)
    await _lay_carried(sandbox, seeded.baseline, work)
    grade = await _read_grade(sandbox, seeded.answers, seeded.stderr) if work.repo else Grade()
    return seeded.baseline, grade


async def _lay_command(sandbox: Sandbox, spec: TrialSpec, work: Path) -> str:
    """A command that replaces the repo by the work, tells the diff, and makes protected paths the starter's again.

    It does not fail: `not_laid` tells the exit code where it could not.
    """
    lay = await _from_tar(sandbox, work, call(scripts.LAY_WORK))
    since = "setup" if spec.task.setup else "commit"
    diff = call(scripts.DIFF, since, str(_MAX_FILE_BYTES), str(_TOLD_BYTES), str(_IGNORED_NAMES))
    # Without a diff the checks can judge the work all the same.
    diff = f'timeout -k 1 {_DIFF_S} bash -c {shlex.quote(diff)}\necho "diff_code=$?"'
    protect = _protect(spec.task.protect)
    return f'(cd && {chain(lay, diff, protect)}\n)\ncode=$?; [ $code = 0 ] || echo "not_laid=$code"'


def _fail_unless_laid(seeded: Seeded) -> None:
    code, words = seeded.answers.get("not_laid"), seeded.stderr.strip()
    if code == str(_NOT_UNPACKED):
        raise UnusableWorkError(f"the repo cannot be unpacked elsewhere: {keep_end(words, 500)}")
    if code is not None:
        raise SandboxFault(
            "grade", f"the work could not be laid over the starter repo: {keep_end(words, 2000)}"
        )


async def _from_tar(sandbox: Sandbox, file: Path, command: str) -> str:
    """A command that reads a tar of this machine; the tar goes with it, or by an upload where it is large."""
    told = print_command(_start_of(file), _INLINE_CHARS)
    if told is None:
        await sandbox.upload(_WORK, file)
        return chain(f"{command} <~/{_WORK}", f"rm ~/{_WORK}")
    return f"{told} | {command}"


def _start_of(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(_INLINE_CHARS + 1)


async def grade_in_place(
    place: Place,
    task: Task,
    checks: Sequence[Check],
    keep: Keep,
    told: Mapping[str, bytes] | None = None,
) -> tuple[CheckResult, ...]:
    """Judge the work in the agent's own sandbox: its processes are ended, and protected files uploaded over.

    It is for work that cannot be carried, such as a running system. What the agent installed or configured is there.

    Raises:
        SandboxFault: when the sandbox is lost.
    """
    why = ""
    for _ in range(_MAX_TRIES_IN_PLACE):
        try:
            why = await _make_ready(place, task)
            if not why:
                return await run_checks(place, task, checks, keep, told=told)
            break
        except CommandTimeoutError as error:
            why = str(error)
            break
        except SandboxFault as fault:
            # One that is there, and in which nothing can be started again and again: an agent can bring that about.
            if fault.kind not in _WORKS_OWN | {"timeout"} or not await place.sandbox.is_running():
                raise
            why = fault.message
            if fault.kind != "timeout":
                break
    why = f"the sandbox could not be made ready for the checks: {why}"
    return tuple(failed_check(check, why) for check in checks)


async def _make_ready(place: Place, task: Task) -> str:
    """End all processes, clear the way of what the checks need, and make protected paths the starter's again.

    Returns why it could not be done, or nothing.
    """
    owner = place.baseline.owner
    script = chain(place.end_processes(), _CLEAR_WAY % owner)
    why = await _done_by_a_shell(place, script)
    # Tests are told from the agent's files by the starter's.
    needs_starter = task.protect or any(check.tests for check in task.checks)
    if why or not (needs_starter and task.repo):
        return why
    await place.sandbox.write(_STARTER, pack({}, {"starter": task.repo}, {"starter": task.hash}))
    unpack = f"tar -xf ~/{_STARTER} -C ~/.harness && rm ~/{_STARTER}"
    protect = _protect(task.protect)
    return await _done_by_a_shell(place, chain(unpack, protect, f"chown -R {owner} ~/repo"))


async def _done_by_a_shell(place: Place, script: str) -> str:
    """Run a script, and have the shell reckon, since `true` in its place would end well; why it failed, or nothing."""
    one, other = secrets.randbelow(10_000), secrets.randbelow(10_000)
    script = chain(script, f'echo "sum=$(({one} + {other}))"')
    done = await run_as_root(place.sandbox, script, home=place.baseline.home, timeout=_STEP_S)
    if done.exit_code:
        return keep_end(done.stderr.strip(), 1000) or f"exit code {done.exit_code}"
    is_shell = read_answers(done.stdout).get("sum") == str(one + other)
    return "" if is_shell else "something else stands in the place of the shell"


def _protect(patterns: Sequence[str]) -> str:
    starts = sorted({fixed_start(pattern) for pattern in patterns} - {""})
    return call(scripts.PROTECT, any_glob_regex(patterns) if patterns else "", *starts)


async def _lay_carried(sandbox: Sandbox, baseline: Baseline, work: Work) -> None:
    """Put what `[checks] carry` names in its places, as root: whatever was there goes first."""
    for path, file in work.carried:
        if file:
            await sandbox.upload(_CARRIED, file)
        script = call(scripts.LAY_CARRIED, path, baseline.owner, _CARRIED if file else "")
        try:
            done = await run_as_root(sandbox, script, home=baseline.home, timeout=_STEP_S)
        except CommandTimeoutError as error:
            raise SandboxFault("grade", f"{path} could not be laid down: {error}") from error
        if done.exit_code:
            raise UnusableWorkError(
                f"{path} cannot be unpacked elsewhere: {keep_end(done.stderr.strip(), 500)}"
            )


async def _read_grade(sandbox: Sandbox, answers: Mapping[str, str], stderr: str) -> Grade:
    tampering = [
        Tampering(path=name, change=change)
        for change in ("modified", "deleted", "added")
        for name in sorted(decode_names(answers.get(change, "")))
    ]
    left_out = len(tampering) - _TAMPERING_NAMES
    more: tuple[str, ...] = (
        (f"{left_out} more changes of protected paths are not named",) if left_out > 0 else ()
    )
    tampering = tampering[:_TAMPERING_NAMES]
    if answers.get("diff_code") != "0":
        words = keep_end(stderr.strip(), 500)
        return Grade(tampering=tuple(tampering), notes=(*more, f"there is no diff: {words or 'git failed'}"))
    reasons = {
        "large": f"it has more than {_MAX_FILE_BYTES // 2**20} MiB",
        "refused": "git takes no such name",
    }
    names = [(name, why) for answer, why in reasons.items() for name in decode_names(answers.get(answer, ""))]
    more += tuple(f"{name} is left out of the diff: {why}" for name, why in names[:_IGNORED_NAMES])
    left_out = len(names) - _IGNORED_NAMES
    notes = (*more, f"{left_out} more are left out of the diff") if left_out > 0 else more
    ignored = decode_names(answers.get("ignored", ""))
    if "diff" in answers:
        return Grade((), decode_bytes(answers["diff"]), tuple(tampering), ignored, notes)
    try:
        diff: bytes | None = await sandbox.read(answers["path"], MAX_DIFF_BYTES)
    except TooLargeError as error:
        diff, notes = None, (*notes, f"there is no diff: {error}")
    return Grade((), diff, tuple(tampering), ignored, notes)


async def prepare(place: Place, spec: TrialSpec) -> str | None:
    """Run `[checks] prepare` in the repo; why it failed, if it did."""
    if not spec.task.prepare:
        return None
    try:
        done = await run_without_profile(
            place.sandbox,
            f"cd ~/repo || exit\n{spec.task.prepare}",
            timeout=spec.task.setup_timeout,
            env=spec.task.sandbox.env,
        )
    except CommandTimeoutError as error:
        return f"[checks] prepare was stopped: {error}"
    words = keep_end(done.stderr.strip() or done.stdout.strip(), 1500)
    return f"[checks] prepare ended with {done.exit_code}: {words}" if done.exit_code else None
