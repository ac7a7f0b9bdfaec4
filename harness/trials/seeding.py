"""The starter repo in a sandbox: its files, its one commit, the task's setup, and what the variant brings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import NotAppliedError, SandboxFault, TaskFault
from harness.sandboxes.archive import pack
from harness.sandboxes.layout import work_folder
from harness.sandboxes.sandbox import CommandResult, CommandTimeoutError, Sandbox
from harness.sandboxes.shell import call, chain, handed_over, read_answers
from harness.tasks.task import Task
from harness.text import keep_end
from harness.trials import scripts
from harness.variants.apply import NO_VARIANT_FILES, VariantFiles

_TIMEOUT_S = 300.0
_SEED = ".harness/seed.tar"

# The files of `git init`, and settings of the harness's own; unpacked with the rest, they save a program.
_GIT = {
    "HEAD": "ref: refs/heads/main\n",
    "config": (
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
        "[user]\n\tname = user\n\temail = user@sandbox.invalid\n"
        "[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
    ),
    **dict.fromkeys(("objects/info/", "objects/pack/", "refs/heads/", "refs/tags/"), ""),
}


_NEEDED = "the template needs bash, git, tar and coreutils"
_NO_WORKDIR = 97
"""How link_repo.sh ends where the folder is not to be had."""


@dataclass(frozen=True)
class Baseline:
    """The state of a sandbox before an agent has been in it.

    `since` is the moment in clock ticks since the kernel's start, taken last, so that what the setup has started is
    older. `owner` is the user's UID:GID, and `home` its home as its processes see it.
    """

    since: str
    owner: str
    home: str


@dataclass(frozen=True)
class Seeded:
    """A sandbox's baseline, and what the last script of seeding told: its answers, and its stderr."""

    baseline: Baseline
    answers: Mapping[str, str]
    stderr: str


async def seed(
    sandbox: Sandbox,
    task: Task,
    *,
    extra: Mapping[str, bytes] | None = None,
    variant: VariantFiles = NO_VARIANT_FILES,
    is_set_up: bool = False,
    then: str = "true",
) -> Seeded:
    """Put the starter repo and `extra` files (below the home) in place, run the task's setup, apply the variant.

    With `is_set_up` the sandbox comes from a snapshot that has the repo and the setup already. The script `then` runs
    last, by the same command: a trip less.

    Raises:
        NotAppliedError: when what the variant brings does not go with the repo.
        TaskFault: when a setup command fails, or takes too long.
        SandboxFault: when the sandbox does not do it.
    """
    if is_set_up:
        return await _apply_after_setup(sandbox, task, extra or {}, variant, then)
    archive = pack_starter(task, extra or {}, variant)
    unpack = await _unpack(sandbox, archive, secret=variant.secret, beside=len(then))
    if task.sandbox.workdir:
        unpack = chain(call(scripts.LINK_REPO, task.sandbox.workdir), unpack)
    commit = "true" if task.sandbox.workdir else call(scripts.COMMIT)
    if not task.setup:
        if variant.script:
            await _run_step(sandbox, unpack)
            await _apply(sandbox, variant.script)
            unpack = "true"
        return await _baseline(sandbox, chain(unpack, commit, then))
    await _run_step(sandbox, chain(unpack, commit))
    await run_setup(sandbox, task)
    return await _apply_and_amend(sandbox, task, variant, then)


def pack_starter(task: Task, extra: Mapping[str, bytes], variant: VariantFiles = NO_VARIANT_FILES) -> bytes:
    """The starter repo with its empty history, and other files, as a tar for the home."""
    git = {} if task.sandbox.workdir else {f"repo/.git/{name}": text.encode() for name, text in _GIT.items()}
    repo = {"repo": task.repo} if task.repo else {}
    # Each by its own: a large repo is packed once for all variants.
    versions = {"repo": task.hash, **dict.fromkeys(variant.paths, variant.version)}
    return pack({**git, **extra, **variant.files, ".harness/": b""}, {**repo, **variant.paths}, versions)


async def _unpack(sandbox: Sandbox, archive: bytes, *, secret: bool, beside: int = 0) -> str:
    return f"cd ~ && {await handed_over(sandbox, archive, _SEED, secret=secret, beside=beside)}"


async def _apply_after_setup(
    sandbox: Sandbox, task: Task, extra: Mapping[str, bytes], variant: VariantFiles, then: str
) -> Seeded:
    archive = pack({**extra, **variant.files}, variant.paths, dict.fromkeys(variant.paths, variant.version))
    unpack = "true"
    if extra or variant.files or variant.paths:
        unpack = await _unpack(sandbox, archive, secret=variant.secret, beside=len(then))
    if variant.script:
        await _run_step(sandbox, unpack)
        unpack = "true"
    return await _apply_and_amend(sandbox, task, variant, chain(unpack, then))


async def _apply_and_amend(sandbox: Sandbox, task: Task, variant: VariantFiles, then: str) -> Seeded:
    if not variant.script:
        return await _baseline(sandbox, then)
    await _apply(sandbox, variant.script)
    return await _baseline(sandbox, then if task.sandbox.workdir else chain(call(scripts.AMEND), then))


async def _apply(sandbox: Sandbox, script: str) -> None:
    try:
        result = await sandbox.run(f"set -e\n{script}", timeout=_TIMEOUT_S)
    except CommandTimeoutError as error:
        raise SandboxFault("apply", f"the variant could not be put in place: {error}") from error
    if result.exit_code:
        words = keep_end(result.stderr.strip(), 2000)
        raise NotAppliedError([f"what the variant brings could not be laid over the repo: {words}"])


async def run_setup(sandbox: Sandbox, task: Task) -> None:
    """Run the task's setup commands, one after another, within the time that they have together.

    Raises:
        TaskFault: when one fails, or they take too long.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + task.setup_timeout
    for command in task.setup:
        try:
            # A timeout of 0 would be none.
            result = await sandbox.run(command, cwd=work_folder(task), timeout=max(end - clock(), 0.01))
        except CommandTimeoutError as error:
            # A long setup is mostly a download, which may do better another time.
            raise TaskFault(
                "setup_timeout",
                f"setup command {command!r} had not ended when the setup's {task.setup_timeout:g} s were over",
            ) from error
        if result.exit_code:
            words = keep_end(result.stderr.strip() or result.stdout.strip(), 2000)
            raise TaskFault(
                "setup_failed",
                f"setup command {command!r} ended with {result.exit_code}: {words}",
            )


async def take_baseline(sandbox: Sandbox) -> Baseline:
    """The state of a sandbox now, for what comes later.

    Raises:
        SandboxFault: when the sandbox does not tell it.
    """
    return (await _baseline(sandbox, "true")).baseline


async def _baseline(sandbox: Sandbox, script: str) -> Seeded:
    done = await _run_step(sandbox, chain(script, call(scripts.BASELINE)))
    told = read_answers(done.stdout)
    return Seeded(Baseline(told["since"], told["owner"], told["home"]), told, done.stderr)


async def _run_step(sandbox: Sandbox, script: str) -> CommandResult:
    try:
        result = await sandbox.run(script, timeout=_TIMEOUT_S)
    except CommandTimeoutError as error:
        raise SandboxFault("seed", f"the starter repo could not be put in place: {error}") from error
    except SandboxFault as fault:
        # No agent has been here: what is not there is not in the template.
        words = fault.message.lower()
        if fault.kind != "invalid_request" or "/bin/bash" not in words or "no such file" not in words:
            raise
        raise TaskFault("template_file", "the template has no /bin/bash", remedy=_NEEDED) from fault
    if result.exit_code == _NO_WORKDIR:
        words = keep_end(result.stderr.strip(), 500)
        remedy = "make it in the template, for the account that [sandbox] user names"
        raise TaskFault("template_file", f"[sandbox] workdir cannot be had: {words}", remedy=remedy)
    if result.exit_code:
        words = keep_end(result.stderr.strip(), 2000)
        raise SandboxFault(
            "seed",
            f"the starter repo could not be put in place (exit {result.exit_code}): {words}",
            remedy=_NEEDED if result.exit_code == 127 else None,
        )
    return result
