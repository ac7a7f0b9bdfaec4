"""The repo in the sandbox: put there, watched over, and looked at when the agent has stopped.

Nothing that is found in the sandbox afterwards is trusted: the diff does not use the repo's own git
configuration, and protected files are compared with those on this side.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wcmatch import glob

from harness.errors import CheckFault, InternalFault, SandboxFault
from harness.record import Tampering
from harness.sandbox import REPO, CommandTimeoutError, Sandbox
from harness.task import Task

MAX_DIFF_BYTES = 64 * 1024 * 1024
_LEFT_OUT = {".git", "__pycache__"}

# The starter repo gets a history of exactly one commit, so that none can leak the fix; its objects are kept apart
# too, for the diff of an agent that does away with .git.
_SEED = """
set -e
mkdir -p ~/repo ~/.harness && tar -xzf ~/.harness/seed.tgz -C ~ && rm ~/.harness/seed.tgz && cd ~/repo
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2025-01-01T00:00:00Z' GIT_COMMITTER_DATE='2025-01-01T00:00:00Z'
git init -q -b main .
git config user.name user && git config user.email user@sandbox.invalid && git config gc.auto 0
git add -A && git commit -q --allow-empty -m 'Initial commit'
"""
_BASELINE = """
set -e
cd ~/repo
export GIT_CONFIG_NOSYSTEM=1 GIT_INDEX_FILE=$HOME/.harness/baseline.index
git add -A && git write-tree
rm -f "$GIT_INDEX_FILE" && cp -r .git/objects ~/.harness/objects
read -r line </proc/$$/stat && set -- ${line##*) } && echo "${20}"
"""

# Everything that was started since the baseline dies, whoever owns it: left-behind processes could forge a verdict.
# Where processes of others are in sight ($2 is not "all"), only those that carry the trial's mark are meant.
_KILL = """
since=$1 scope=$2 mark=HARNESS_TRIAL=$3
keep=" $$ "; pid=$$
while [ "$pid" -gt 1 ] && read -r line <"/proc/$pid/stat"; do set -- ${line##*) }; pid=$2; keep="$keep$pid "; done
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  left=0
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
  [ "$left" -eq 0 ] && exit 0
done
echo "$left processes keep coming back" >&2
exit 1
"""

_DIFF = """
set -e
export GIT_DIR=$HOME/.harness/collect.git GIT_WORK_TREE=$HOME/repo GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
rm -rf "$GIT_DIR" && git init -q --bare "$GIT_DIR"
echo "$HOME/.harness/objects" >"$GIT_DIR/objects/info/alternates"
git read-tree "$1" && git add -A --ignore-errors || true
git -c core.quotePath=false diff --cached --binary --no-ext-diff --no-textconv --no-color "$1" >~/.harness/diff.patch
wc -c <~/.harness/diff.patch
"""


def pack(files: Mapping[str, bytes], folders: Mapping[str, Path]) -> bytes:
    """A tar.gz of `files` by name, and of whole `folders` by the name they get. The same input gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as zipped:  # noqa: SIM117
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, folder in folders.items():
                archive.add(folder, arcname=name, filter=_tar_filter)
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@functools.lru_cache(maxsize=256)
def pack_folder(folder: Path) -> bytes:
    """A folder's content as tar.gz, kept for the trials to come."""
    return pack({}, {".": folder})


def _tar_filter(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if _LEFT_OUT.intersection(Path(info.name).parts):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 1735689600
    info.mode = (info.mode | 0o600) & 0o755 if not info.isdir() else 0o755
    return info


@dataclass(frozen=True)
class Baseline:
    """The repo as the agent got it: git's id of its tree, and the moment, in clock ticks since the kernel's start."""

    tree: str
    since: str


async def seed(sandbox: Sandbox, task: Task, extra: Mapping[str, bytes]) -> Baseline:
    """Put the starter repo and `extra` files (below the home) in place, run the task's setup, take the baseline.

    Raises:
        CheckFault: when a setup command fails.
        SandboxFault: when the sandbox does not do it.
    """
    await sandbox.write(".harness/seed.tgz", _seed_archive(task, extra))
    if not task.setup:
        return await _baseline(sandbox, _SEED + _BASELINE)
    await _baseline_step(sandbox, _SEED)
    for command in task.setup:
        await _run_setup(sandbox, task, command)
    return await _baseline(sandbox, _BASELINE)


def _seed_archive(task: Task, extra: Mapping[str, bytes]) -> bytes:
    prompts = {f".harness/prompt-{n}.md": turn.prompt.encode() for n, turn in enumerate(task.turns, 1)}
    return pack({**prompts, **extra}, {"repo": task.repo} if task.repo else {})


async def _run_setup(sandbox: Sandbox, task: Task, command: str) -> None:
    try:
        result = await sandbox.run(command, cwd=REPO, timeout=task.timeout)
    except CommandTimeoutError as error:
        raise CheckFault("setup_failed", f"setup command {command!r}: {error}", retry=False) from error
    if result.exit_code:
        words = (result.stderr.strip() or result.stdout.strip())[-2000:]
        raise CheckFault(
            "setup_failed", f"setup command {command!r} ended with {result.exit_code}: {words}", retry=False
        )


async def _baseline_step(sandbox: Sandbox, script: str) -> str:
    try:
        result = await sandbox.run(script, timeout=120)
    except CommandTimeoutError as error:
        raise SandboxFault(
            "seed", f"the starter repo could not be put in place: {error}", retry=True
        ) from error
    if result.exit_code:
        raise SandboxFault(
            "seed",
            f"the starter repo could not be put in place (exit {result.exit_code}): {result.stderr.strip()[-2000:]}",
            retry=True,
            remedy="the template needs bash, git, tar and coreutils" if result.exit_code == 127 else None,
        )
    return result.stdout


async def _baseline(sandbox: Sandbox, script: str) -> Baseline:
    tree, since = (await _baseline_step(sandbox, script)).split()
    return Baseline(tree, since)


async def stop_processes(sandbox: Sandbox, baseline: Baseline, *, private: bool, mark: str) -> None:
    """End every process started since the baseline.

    Args:
        sandbox: the sandbox.
        baseline: what was taken before the agent started.
        private: whether every process in sight is the sandbox's own; otherwise only those with `mark` are ended.
        mark: the trial's id in the processes' environment, as HARNESS_TRIAL.

    Raises:
        SandboxFault: when some cannot be ended, so that no verdict could be trusted.
    """
    scope = "all" if private else "marked"
    command = f"set -- {baseline.since} {scope} {mark}\n{_KILL}"
    try:
        result = await sandbox.run(command, timeout=60, user="root")
    except CommandTimeoutError as error:
        raise SandboxFault(
            "leftovers", f"the agent's processes could not be ended: {error}", retry=True
        ) from error
    if result.exit_code:
        raise SandboxFault(
            "leftovers", f"the agent's processes could not be ended: {result.stderr.strip()}", retry=True
        )


async def take_diff(sandbox: Sandbox, baseline: Baseline) -> bytes | None:
    """What changed since the baseline, new and binary files in, ignored ones out; None when it cannot be had."""
    try:
        result = await sandbox.run(f"set -- {baseline.tree}\n{_DIFF}", timeout=120)
    except CommandTimeoutError:
        return None
    if result.exit_code or int(result.stdout.split()[-1]) > MAX_DIFF_BYTES:
        return None
    return await sandbox.read(".harness/diff.patch") if int(result.stdout.split()[-1]) else b""


async def restore_protected(sandbox: Sandbox, task: Task) -> tuple[Tampering, ...]:
    """Put protected files back as they were in the starter repo, and say what the agent had done to them.

    Raises:
        SandboxFault: when it cannot be done.
    """
    if not task.protect:
        return ()
    before = _protected(task)
    after = await _found(sandbox, task.protect)
    tampering = tuple(_changes(before, after))
    if tampering:
        await _put_back(sandbox, tampering, before)
    return tampering


@dataclass(frozen=True)
class _Protected:
    files: Mapping[str, Path]
    hashes: Mapping[str, str]


@functools.lru_cache(maxsize=256)
def _protected_files(repo: Path, globs: tuple[str, ...]) -> _Protected:
    files = {
        name: path
        for path in sorted(repo.rglob("*"))
        if path.is_file()
        and not _LEFT_OUT.intersection(path.relative_to(repo).parts)
        and _matches(name := path.relative_to(repo).as_posix(), globs)
    }
    return _Protected(files, {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()})


def _protected(task: Task) -> _Protected:
    return _protected_files(task.repo, task.protect) if task.repo else _Protected({}, {})


def _matches(name: str, globs: Iterable[str]) -> bool:
    return glob.globmatch(name, list(globs), flags=glob.GLOBSTAR | glob.DOTGLOB)


async def _found(sandbox: Sandbox, globs: tuple[str, ...]) -> dict[str, str]:
    """Protected paths in the sandbox, with the hash of their content, or what they are instead of a file."""
    roots = sorted({_literal_root(pattern) for pattern in globs})
    quoted = " ".join("'" + root.replace("'", "'\\''") + "'" for root in roots)
    script = (
        f'cd ~/repo && for root in {quoted}; do [ -e "$root" ] || [ -L "$root" ] || continue; '
        'find "$root" -name .git -prune -o -name __pycache__ -prune -exec rm -rf {} + -o '
        "-type f -exec sha256sum -z {} + -o ! -type d -printf 'not-a-file  %p\\0'; done | base64 -w0"
    )
    result = await _checked(sandbox, script)
    found: dict[str, str] = {}
    for entry in base64.b64decode(result).split(b"\0"):
        digest, _, name = entry.decode("utf-8", "surrogateescape").partition("  ")
        path = name.removeprefix("./")
        if name and (digest == "not-a-file" or _matches(path, globs)):
            found[path] = digest
    return found


async def _checked(sandbox: Sandbox, script: str) -> str:
    try:
        result = await sandbox.run(script, timeout=120)
    except CommandTimeoutError as error:
        raise SandboxFault(
            "protect", f"protected files could not be compared: {error}", retry=True
        ) from error
    if result.exit_code:
        raise SandboxFault(
            "protect", f"protected files could not be restored: {result.stderr.strip()[-2000:]}", retry=True
        )
    return result.stdout


def _literal_root(pattern: str) -> str:
    """The longest leading path without a wildcard."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if any(sign in part for sign in "*?[]{}!()|"):
            break
        parts.append(part)
    return "/".join(parts) or "."


def _changes(before: _Protected, after: Mapping[str, str]) -> Iterable[Tampering]:
    for name, digest in before.hashes.items():
        if name not in after:
            yield Tampering(path=name, change="deleted")
        elif after[name] != digest:
            yield Tampering(path=name, change="modified")
    for name in sorted(after.keys() - before.hashes.keys()):
        yield Tampering(path=name, change="added")


async def _put_back(sandbox: Sandbox, tampering: Iterable[Tampering], before: _Protected) -> None:
    removed = b"".join(item.path.encode("utf-8", "surrogateescape") + b"\0" for item in tampering)
    restored = {
        f"repo/{item.path}": before.files[item.path] for item in tampering if item.path in before.files
    }
    try:
        archive = pack({".harness/removed": removed}, restored)
    except OSError as error:
        raise InternalFault(
            "starter_gone", f"the starter repo changed during the run: {error}", retry=False
        ) from error
    await sandbox.write(".harness/protected.tgz", archive)
    await _checked(
        sandbox,
        "set -e; cd ~; tar -xzf .harness/protected.tgz .harness/removed; cd repo; "
        "xargs -0 rm -rf -- <../.harness/removed; cd ~; tar -xzf .harness/protected.tgz",
    )
