"""The work: what the agent leaves that is judged. It leaves the agent's sandbox as data that nobody trusts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import SandboxFault
from harness.sandboxes.sandbox import CommandResult, CommandTimeoutError, Sandbox, TooLargeError
from harness.sandboxes.shell import call, decode_bytes, read_answers, run_as_root
from harness.tasks.manifest import WorkSpec
from harness.tasks.task import Task
from harness.text import keep_end
from harness.trials import scripts
from harness.trials.seeding import Baseline

_INLINE_BYTES = 96 * 1024
"""A smaller tar comes with the answer of the command that packs it: one trip less."""
_OUTSIDE_NAMES = 20
_PATIENCE_S = 30.0
"""After so long it is asked whether the sandbox does anything; that answer may take as long."""
_MAX_SLOW = 2
"""So often it is tried to start a command where each try takes a minute."""
_RETRY_DELAYS_S = (0.5, 2.0)

Store = Callable[[str, bytes], Awaitable[Path]]
"""Writes a file of the trial's folder, and gives its path."""


class NotCarriedError(Exception):
    """The work cannot be carried, by the agent's own doing: its failure, for the reason given."""


@dataclass(frozen=True)
class Work:
    """Tars on this machine that nobody opens here: of the repo (None: the work is on the template's own system), and of
    each path of `[checks] carry`, by its path (None: it is absent).

    `outside` names what else the agent changed where an honest one may install something.
    """

    repo: Path | None
    carried: tuple[tuple[str, Path | None], ...] = ()
    outside: tuple[str, ...] = ()


async def collect_work(
    sandbox: Sandbox, task: Task, baseline: Baseline, store: Store, name: str = "work"
) -> Work:
    """Carry the work out of the agent's sandbox. Nothing is stopped for it.

    Args:
        sandbox: the agent's.
        task: says what is carried, and its bounds.
        baseline: the sandbox's.
        store: keeps the tars.
        name: of their folder.

    Raises:
        NotCarriedError: when it cannot be carried though the sandbox is there and answers.
        SandboxFault: when the sandbox is lost.
    """
    slow = 0
    for wait in (*_RETRY_DELAYS_S, None):
        try:
            return await _collect(sandbox, task, baseline, store, name)
        except SandboxFault as fault:
            # The platform that is there, and a sandbox in which nothing can be run: an agent can bring that about.
            if fault.fatal or fault.policy.is_gone or not await sandbox.is_running():
                raise
            slow += fault.kind == "timeout"
            if wait is None or slow == _MAX_SLOW:
                what = f"the repo cannot be carried: the sandbox runs, and does not do it: {fault.message}"
                raise NotCarriedError(what) from fault
            await asyncio.sleep(wait)
    raise AssertionError("the last try returns or raises")


async def _collect(sandbox: Sandbox, task: Task, baseline: Baseline, store: Store, name: str) -> Work:
    outside = call(scripts.OUTSIDE, str(_OUTSIDE_NAMES))
    repo = (
        None
        if task.is_system
        else await _pack(sandbox, Path(f"{baseline.home}/repo"), ".", task, baseline, outside)
    )
    if repo is None and not task.is_system:
        raise NotCarriedError("the repo cannot be carried: it is gone")
    carried: list[tuple[str, Path | None]] = []
    for number, path in enumerate(task.carry, 1):
        packed = await _pack(sandbox, Path(path).parent, f"./{Path(path).name}", task, baseline)
        file = f"{name}/carried-{number}.tar"
        carried.append((path, await _keep(sandbox, packed, file, task.work, store) if packed else None))
    if repo is None:
        return Work(None, tuple(carried))
    kept = await _keep(sandbox, repo, f"{name}/repo.tar", task.work, store)
    return Work(kept, tuple(carried), repo.outside)


@dataclass(frozen=True)
class _Packed:
    """A tar of `subject`, or the file in the sandbox that holds it."""

    subject: str
    data: bytes | None
    path: str | None
    outside: tuple[str, ...]


async def _pack(
    sandbox: Sandbox, folder: Path, what: str, task: Task, baseline: Baseline, also: str = ""
) -> _Packed | None:
    """Have a folder, or what is below it under a name, packed in the sandbox; None where there is nothing."""
    spec = task.work
    subject = "the repo" if what == "." else str(folder / what)
    bounds = (spec.max_files, spec.max_bytes // 1024, spec.max_depth, spec.max_bytes, _INLINE_BYTES)
    leave = task.leave if what == "." else ()
    script = f"{call(scripts.COLLECT, str(folder), what, *map(str, bounds), *leave)}\n{also}"
    try:
        result = await _run_while_alive(sandbox, script, baseline.home, spec.timeout)
    except CommandTimeoutError as error:
        raise NotCarriedError(f"{subject} cannot be carried: {error}") from error
    answers = read_answers(result.stdout)
    if "absent" in answers:
        return None
    if "refused" in answers:
        raise NotCarriedError(f"{subject} cannot be carried: {answers['refused']}")
    outside = tuple(line for line in result.stdout.splitlines() if line.startswith("/"))
    if "tar" in answers:
        try:
            return _Packed(subject, decode_bytes(answers["tar"]), None, outside)
        except ValueError as error:
            raise NotCarriedError(f"{subject} cannot be carried: {error}") from error
    if "path" not in answers:
        words = keep_end(result.stderr.strip(), 500)
        raise NotCarriedError(f"{subject} cannot be carried: packing ended with {result.exit_code}: {words}")
    return _Packed(subject, None, answers["path"], outside)


async def _run_while_alive(sandbox: Sandbox, script: str, home: str, seconds: float) -> CommandResult:
    """Run a script as root, as long as the sandbox does anything at all: an agent can see to it that it does not.

    Raises:
        CommandTimeoutError: when it took longer, or when not even `true` came to its end meanwhile.
    """
    running = asyncio.ensure_future(run_as_root(sandbox, script, home=home, timeout=seconds))
    try:
        done, _ = await asyncio.wait({running}, timeout=_PATIENCE_S)
        if not done:
            try:
                await run_as_root(sandbox, "true", home=home, timeout=_PATIENCE_S)
            except CommandTimeoutError as error:
                words = f"the sandbox does nothing any more: `true` had not ended after {_PATIENCE_S:g} s"
                raise CommandTimeoutError(words) from error
        return await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _keep(sandbox: Sandbox, packed: _Packed, name: str, spec: WorkSpec, store: Store) -> Path:
    if packed.data is not None:
        return await store(name, packed.data)
    assert packed.path, "a tar has data or a path"
    target = await store(name, b"")
    try:
        await sandbox.download(packed.path, target, spec.max_bytes, user="root")
    except TooLargeError as error:
        raise NotCarriedError(f"{packed.subject} cannot be carried: {error}") from error
    except SandboxFault as fault:
        # The file was there a moment ago: what takes it away or bars the way to it is the agent's.
        if fault.kind not in ("file_not_found", "not_found", "invalid_request"):
            raise
        raise NotCarriedError(f"{packed.subject} cannot be carried: {fault.message}") from fault
    return target
