"""The repo in the sandbox: put there, and looked at when the agent has stopped.

Nothing that is found in the sandbox afterwards is trusted: the diff does not use the repo's own git configuration.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.errors import NotAppliedError, SandboxFault, TaskFault
from harness.sandboxes.archive import pack
from harness.sandboxes.layout import REPO, turn_folder
from harness.sandboxes.sandbox import CommandTimeoutError, Sandbox
from harness.sandboxes.shell import (
    SandboxScript,
    ScriptOutcome,
    handed_over,
    look,
    random_token,
    require_finished,
    run_without_profile,
)
from harness.tasks.task import Task
from harness.trials.protect import Protected, protect
from harness.variants.apply import NO_VARIANT_FILES, VariantFiles

MAX_DIFF_BYTES = 64 * 1024 * 1024

# The starter repo gets a history of exactly one commit, so that none can leak the fix, with all of its files in it,
# whatever its .gitignore says; its objects are kept apart too, for the diff of an agent that does away with .git.
# Files that count as large go into one pack: one by one, each would be a folder and a file to make, copy and remove.
_UNPACK = """
set -e
cd ~
%s
"""
# What `git init` would make, and settings of the harness's own; unpacked with the rest, it is a program less.
_GIT = {
    "HEAD": "ref: refs/heads/main\n",
    "config": (
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
        "[user]\n\tname = user\n\temail = user@sandbox.invalid\n"
        "[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
    ),
    **dict.fromkeys(("objects/info/", "objects/pack/", "refs/heads/", "refs/tags/"), ""),
}
_COMMIT = """
set -e
cd ~/repo
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2025-01-01T00:00:00Z' GIT_COMMITTER_DATE='2025-01-01T00:00:00Z'
git -c core.bigFileThreshold=1 -c core.fsync=none add -A -f && git commit -q --allow-empty -m 'Initial commit'
"""
_THE_COMMIT = """
set -e
cd ~/repo
{ read -r commit <.git/refs/heads/main; } 2>/dev/null || commit=$(git rev-parse HEAD)
echo "$commit"
"""
_TREE_AFTER_SETUP = """
set -e
cd ~/repo
export GIT_CONFIG_NOSYSTEM=1 GIT_INDEX_FILE=$HOME/.harness/baseline.index
git read-tree HEAD && git add -A && git write-tree
rm -f "$GIT_INDEX_FILE"
"""
_BASELINE = """
cp -r .git/objects ~/.harness/objects
line=$(read -r line </proc/$BASHPID/stat && echo "$line") && set -- ${line##*) } && echo "${20} $UID:$GROUPS $HOME"
"""

# Everything that was started since the baseline dies, whoever owns it: left-behind processes could forge a verdict.
# One that was killed is in sight until it has had the CPU once more, so later rounds wait.
# Where processes of others are in sight ($2 is not "all"), only those that carry the trial's mark are meant.
_KILL = """
since=$1 scope=$2 mark=HARNESS_TRIAL=$3 owner=$4
keep=" $BASHPID "; pid=$BASHPID
while [ "$pid" -gt 1 ] && read -r line <"/proc/$pid/stat"; do set -- ${line##*) }; pid=$2; keep="$keep$pid "; done
for ((round = 1; round <= 100; round++)); do
  left=0
  [ "$round" -le 3 ] || sleep 0.05
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    case "$keep" in *" $pid "*) continue;; esac
    { read -r line <"$dir/stat"; } 2>/dev/null || continue
    set -- ${line##*) }
    [ "$1" = Z ] || [ "$1" = X ] && continue
    [ $(( $7 & 0x200000 )) -ne 0 ] && continue
    [ "${20}" -lt "$since" ] && continue
    if [ "$scope" != all ]; then tr '\\0' '\\n' <"$dir/environ" 2>/dev/null | grep -qx "$mark" || continue; fi
    kill -KILL "$pid" 2>/dev/null && left=$((left + 1))
  done
  [ "$left" -eq 0 ] && break
done
[ "$left" -eq 0 ] || { echo "$left processes keep coming back" >&2; exit 1; }
"""
# A repo that was locked or taken away is a failed task and no broken sandbox: there is a folder again, which can be
# read by whom it belongs to.
_MAKE_READABLE = """
{ cd ~ && [ -w . ]; } 2>/dev/null || { chmod u+rwx ~ && cd ~; } || exit
for folder in repo .harness; do
  if [ -L "$folder" ] || [ ! -d "$folder" ]; then rm -rf "$folder"; mkdir "$folder"; fi
done
find . repo .harness ! -uid "${owner%:*}" -exec chown -h "$owner" {} \\; , \\
  -type d ! -perm -700 -exec chmod u+rwx {} \\; , -type f ! -perm -400 -exec chmod u+r {} + , -path . -prune
"""

# It may run as root: what is written has names that nobody could know, so that no link leads it elsewhere.
_DIFF = """
set -e
export GIT_DIR=$HOME/%(folder)s GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
mkdir -p "$GIT_DIR/objects/info" "$GIT_DIR/refs"
echo 'ref: refs/heads/none' >"$GIT_DIR/HEAD" && echo "$HOME/.harness/objects" >"$GIT_DIR/objects/info/alternates"
export GIT_WORK_TREE=$HOME/repo
git read-tree "$1" && git add -A --ignore-errors || true
git -c core.quotePath=false diff --cached --binary --no-ext-diff --no-textconv --no-color "$1" >"$GIT_DIR/diff.patch"
echo %(folder)s/diff.patch
head -c %(told)s "$GIT_DIR/diff.patch"
"""
_TOLD_BYTES = 256 * 1024
"""How much of a diff the command that makes it tells; one as long as that is read from its file."""
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"
"""Stands in what a command tells for bytes that are no UTF-8; a diff with one in it is read from its file, too."""


class NoDiffError(Exception):
    """There is no diff, for the reason given; the checks can judge the work all the same."""


@dataclass(frozen=True)
class Baseline:
    """The repo as the agent got it.

    `commit` is git's id of it, or of its tree, `since` the moment in clock ticks since the kernel's start (taken last,
    so that what the setup has started is older), `owner` the user's UID:GID, and `home` its home as its processes see
    it.
    """

    commit: str
    since: str
    owner: str
    home: str
    protected: Protected


async def seed(
    sandbox: Sandbox, task: Task, extra: Mapping[str, bytes], variant: VariantFiles = NO_VARIANT_FILES
) -> Baseline:
    """Put the starter repo and `extra` files (below the home) in place, with what the variant brings; run the task's
    setup; take the baseline.

    Raises:
        NotAppliedError: when what the variant brings does not go with the repo.
        TaskFault: when a setup command fails, or takes too long.
        SandboxFault: when the sandbox does not do it.
    """
    archive = _seed_archive(task, extra, variant)
    unpack = _UNPACK % await handed_over(sandbox, archive, ".harness/seed.tar", secret=variant.secret)
    start = unpack + _COMMIT
    if variant.script:
        await _seed_step(sandbox, unpack)
        await _apply(sandbox, variant.script)
        start = _COMMIT
    if not task.setup:
        as_starter = not variant.script
        return await _baseline(sandbox, task, start + _THE_COMMIT + _BASELINE, as_starter=as_starter)
    await _seed_step(sandbox, start)
    await _run_setup(sandbox, task)
    return await _baseline(sandbox, task, _TREE_AFTER_SETUP + _BASELINE, as_starter=False)


async def _apply(sandbox: Sandbox, script: str) -> None:
    try:
        result = await sandbox.run(f"set -e\n{script}", timeout=120)
    except CommandTimeoutError as error:
        raise SandboxFault("apply", f"the variant could not be put in place: {error}") from error
    if result.exit_code:
        words = result.stderr.strip()[-2000:]
        raise NotAppliedError([f"what the variant brings could not be laid over the repo: {words}"])


def _seed_archive(task: Task, extra: Mapping[str, bytes], variant: VariantFiles) -> bytes:
    prompts = {f"{turn_folder(n)}/prompt.md": turn.prompt.encode() for n, turn in enumerate(task.turns, 1)}
    git = {f"repo/.git/{name}": text.encode() for name, text in _GIT.items()}
    repo = {"repo": task.repo} if task.repo else {}
    # Each by its own: a large repo is packed once for all variants.
    versions = {"repo": task.hash, **dict.fromkeys(variant.paths, variant.version)}
    return pack({**git, **prompts, **extra, **variant.files}, {**repo, **variant.paths}, versions)


async def _run_setup(sandbox: Sandbox, task: Task) -> None:
    """The task's setup commands, one after another, within the time that they have together."""
    clock = asyncio.get_running_loop().time
    end = clock() + task.setup_timeout
    for command in task.setup:
        try:
            # A timeout of 0 would be none.
            result = await sandbox.run(command, cwd=REPO, timeout=max(end - clock(), 0.01))
        except CommandTimeoutError as error:
            raise TaskFault(
                "setup_timeout",
                f"setup command {command!r} had not ended when the setup's {task.setup_timeout:g} s were over",
            ) from error
        if result.exit_code:
            words = (result.stderr.strip() or result.stdout.strip())[-2000:]
            raise TaskFault(
                "setup_failed",
                f"setup command {command!r} ended with {result.exit_code}: {words}",
            )


async def _seed_step(sandbox: Sandbox, script: str) -> str:
    try:
        result = await sandbox.run(script, timeout=120)
    except CommandTimeoutError as error:
        raise SandboxFault("seed", f"the starter repo could not be put in place: {error}") from error
    if result.exit_code:
        raise SandboxFault(
            "seed",
            f"the starter repo could not be put in place (exit {result.exit_code}): {result.stderr.strip()[-2000:]}",
            remedy="the template needs bash, git, tar and coreutils" if result.exit_code == 127 else None,
        )
    return result.stdout


async def _baseline(sandbox: Sandbox, task: Task, script: str, *, as_starter: bool) -> Baseline:
    commit, rest = (await _seed_step(sandbox, script)).split("\n", 1)
    since, owner, home = rest.removesuffix("\n").split(" ", 2)
    return Baseline(commit, since, owner, home, await protect(sandbox, task, as_starter=as_starter))


async def in_copy(copy: Sandbox, baseline: Baseline) -> Baseline:
    """The baseline for a copy of the sandbox, whose user may be another account of its machine.

    Raises:
        SandboxFault: when the copy cannot be asked.
    """
    try:
        result = await run_without_profile(copy, 'echo "$UID:$GROUPS $HOME"', timeout=60)
    except CommandTimeoutError as error:
        raise SandboxFault("copy", f"the sandbox's copy does not answer: {error}") from error
    owner, home = result.stdout.removesuffix("\n").split(" ", 1)
    return replace(baseline, owner=owner, home=home)


def stop_script(baseline: Baseline, *, private: bool, mark: str) -> SandboxScript:
    """Ends every process started since the baseline, and sees that the repo can be read; it has to run as root.

    Args:
        baseline: what was taken before the agent started.
        private: whether every process in sight is the sandbox's own; otherwise only those with `mark` are ended.
        mark: the trial's id in the processes' environment, as HARNESS_TRIAL.
    """
    known = [baseline.since, "all" if private else "marked", mark, baseline.owner]
    return SandboxScript(f"set -- {shlex.join(known)}\n{_KILL}{_MAKE_READABLE}", timeout=60, required=True)


def require_stopped(seen: ScriptOutcome) -> None:
    """See what `stop_script` came to.

    Raises:
        SandboxFault: when some cannot be ended, so that no verdict could be trusted.
    """
    what = "the agent's processes could not be ended"
    result = require_finished(seen, "leftovers", what)
    if result.exit_code:
        raise SandboxFault("leftovers", f"{what}: {result.stderr.strip()}")


async def stop_processes(sandbox: Sandbox, baseline: Baseline, script: SandboxScript) -> None:
    """Do what `stop_script` tells, by itself.

    Raises:
        SandboxFault: as `require_stopped`, and when the sandbox is lost.
    """
    require_stopped(await look(sandbox, script, root_in=baseline.home))


def diff_since(baseline: Baseline) -> SandboxScript:
    """Tells what changed since the baseline, for `take_diff`."""
    # A folder whose name nobody could know has nothing in it that somebody has put there.
    filled = _DIFF % {"told": _TOLD_BYTES, "folder": f".harness/collect-{random_token()}"}
    return SandboxScript(f"set -- {baseline.commit}\n{filled}", timeout=120)


async def take_diff(sandbox: Sandbox, baseline: Baseline, seen: ScriptOutcome | None = None) -> bytes:
    """What changed since the baseline, new and binary files in, ignored ones out.

    `seen` is what `diff_since` has given, where it was run already.

    Raises:
        NoDiffError: when it cannot be had, because of what the agent left behind.
    """
    path, _, told = _told(seen or await look(sandbox, diff_since(baseline))).partition("\n")
    start = told.encode()
    if len(start) < _TOLD_BYTES and _NO_TEXT not in told:
        return start
    size = int(_told(await look(sandbox, SandboxScript(f"wc -c <~/{path}", timeout=120))))
    if size > MAX_DIFF_BYTES:
        raise NoDiffError(f"it has {size} bytes, more than {MAX_DIFF_BYTES}")
    return await sandbox.read(path)


def _told(seen: ScriptOutcome) -> str:
    if isinstance(seen, CommandTimeoutError):
        raise NoDiffError(str(seen)) from seen
    if seen.exit_code:
        raise NoDiffError(seen.stderr.strip()[-500:])
    return seen.stdout
