"""Protected files: what they were when the agent got them, what it has done to them, and how they come back."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import posixpath
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wcmatch import glob

from harness.errors import InternalFault, SandboxFault
from harness.records.record import Tampering
from harness.sandboxes.archive import pack
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.shell import SandboxScript, ScriptOutcome, look, random_token, require_finished
from harness.tasks.contents import IGNORED_NAMES, files_in
from harness.tasks.task import Task

# Bytecode goes: it could stand in for its source. The two lines are: files with the hash of their content; for
# whatever else there is, where it leads (nothing for what is no link) and its name.
_FIND = """
set -o pipefail
cd ~/repo && there=()
for root in %(roots)s; do if [ -e "$root" ] || [ -L "$root" ]; then there+=("$root"); fi; done
[ ${#there[@]} -gt 0 ] || exit 0
find "${there[@]}" -name __pycache__ -prune -exec rm -rf {} + -o '(' %(not_content)s ')' -prune -o \\
  -type f -exec sha256sum -z {} + -o ! -type d -fprintf ~/.harness/%(others)s '%%l\\0%%p\\0' | base64 -w0 && echo &&
{ [ ! -s ~/.harness/%(others)s ] || base64 -w0 ~/.harness/%(others)s; }
"""
_TIMEOUT_S = 120.0
_KEEP = "tar -czf ~/.harness/made.tgz -C ~/repo --null -T ~/.harness/made"
# What stands in the way of a path's folders is no folder, and goes first: a link there would lead the rest astray.
_PUT_BACK = """
set -e; cd ~; tar -xf .harness/protected.tar .harness; cd repo
while IFS= read -r -d '' path; do
  while [ "$path" != "${path%/*}" ]; do
    path=${path%/*}
    if [ -L "$path" ] || { [ -e "$path" ] && [ ! -d "$path" ]; }; then rm -f -- "$path"; fi
  done
done <../.harness/changed
xargs -0 rm -rf -- <../.harness/changed
cd ~; tar -xf .harness/protected.tar
[ ! -s .harness/made ] || tar -xzf .harness/made.tgz -C repo --null -T .harness/made
"""


@dataclass(frozen=True)
class Protected:
    """Protected paths as the agent gets them: the hash of each file's content, or `link:` and where it leads.

    `starter` has those that are as in the starter repo; the others are what the task's setup made, and in `made`,
    a tar.gz.
    """

    state: Mapping[str, str] = field(default_factory=dict)
    starter: Mapping[str, Path] = field(default_factory=dict)
    made: bytes = b""


async def protect(sandbox: Sandbox, task: Task, *, as_starter: bool) -> Protected:
    """Take note of a task's protected files, when its setup has run and before its agent starts.

    `as_starter`: nothing has changed the repo since it was put there, so that there is no need to look.

    Raises:
        SandboxFault: when it cannot be done.
    """
    if not task.protect:
        return Protected()
    starter = _of_starter(task.repo, task.protect) if task.repo else Protected()
    if as_starter:
        return starter
    state = await _found(sandbox, task, starter)
    same = {name: path for name, path in starter.starter.items() if state.get(name) == starter.state[name]}
    made = state.keys() - same.keys()
    if not made:
        return Protected(state, same)
    await sandbox.write(".harness/made", _names(made))
    await _run(sandbox, _KEEP)
    return Protected(state, same, await sandbox.read(".harness/made.tgz"))


def protected_files(task: Task) -> SandboxScript:
    """Tells what is at a task's protected paths, for `restore`."""
    roots = " ".join(shlex.quote(f"./{root}") for root in sorted(set(map(_literal_root, task.protect))))
    not_content = " -o ".join(f"-name {shlex.quote(name)}" for name in sorted(IGNORED_NAMES))
    # The name of a file that nobody can have put something else in the place of.
    others = f"others-{random_token()}"
    return SandboxScript(_FIND % {"roots": roots, "not_content": not_content, "others": others}, _TIMEOUT_S)


async def restore(
    sandbox: Sandbox, task: Task, before: Protected, seen: ScriptOutcome | None = None
) -> tuple[Tampering, ...]:
    """Put protected files back as the agent got them, and say what it had done to them.

    `seen` is what `protected_files` has given, where it was run already.

    Raises:
        SandboxFault: when it cannot be done.
    """
    if not task.protect:
        return ()
    tampering = tuple(_changes(before.state, await _found(sandbox, task, before, seen)))
    if tampering:
        await _put_back(sandbox, [change.path for change in tampering], before)
    return tampering


@functools.lru_cache(maxsize=256)
def _of_starter(repo: Path, globs: tuple[str, ...]) -> Protected:
    names = {path.relative_to(repo).as_posix(): path for path in sorted(files_in(repo))}
    files = {name: path for name, path in names.items() if _matches(name, globs)}
    return Protected({name: _state(path) for name, path in files.items()}, files)


def _state(path: Path) -> str:
    if path.is_symlink():
        return f"link:{os.readlink(path)}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _matches(name: str, globs: Iterable[str]) -> bool:
    return glob.globmatch(name, list(globs), flags=glob.GLOBSTAR | glob.DOTGLOB)


async def _found(
    sandbox: Sandbox, task: Task, before: Protected, seen: ScriptOutcome | None = None
) -> dict[str, str]:
    """Protected paths in the sandbox now, and what stands in the place of their folders."""
    folders = {str(parent) for name in before.state for parent in Path(name).parents}
    lines = _said(seen or await look(sandbox, protected_files(task))).splitlines()
    files, others = (_fields(line) for line in [*lines, "", ""][:2])
    entries = [(name, digest) for digest, _, name in (entry.partition("  ") for entry in files)]
    entries += [(name, f"link:{target}") for target, name in zip(others[::2], others[1::2], strict=True)]
    found = {posixpath.normpath(name): state for name, state in entries}
    return {name: state for name, state in found.items() if name in folders or _matches(name, task.protect)}


def _fields(encoded: str) -> list[str]:
    decoded = base64.b64decode(encoded).decode("utf-8", "surrogateescape")
    return decoded.split("\0")[:-1]


def _literal_root(pattern: str) -> str:
    """The longest leading path without a wildcard."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if any(sign in part for sign in "*?[]{}!()|"):
            break
        parts.append(part)
    return "/".join(parts) or "."


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Tampering]:
    for name, state in before.items():
        if name not in after:
            yield Tampering(path=name, change="deleted")
        elif after[name] != state:
            yield Tampering(path=name, change="modified")
    for name in sorted(after.keys() - before.keys()):
        yield Tampering(path=name, change="added")


async def _put_back(sandbox: Sandbox, changed: list[str], before: Protected) -> None:
    starter = {f"repo/{name}": before.starter[name] for name in changed if name in before.starter}
    made = [name for name in changed if name in before.state and name not in before.starter]
    files = {".harness/changed": _names(changed), ".harness/made": _names(made)}
    if made:
        files[".harness/made.tgz"] = before.made
    try:
        archive = pack(files, starter)
    except OSError as error:
        raise InternalFault("starter_gone", f"the starter repo changed during the run: {error}") from error
    await sandbox.write(".harness/protected.tar", archive)
    await _run(sandbox, _PUT_BACK)


def _names(names: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(name) + b"\0" for name in names)


async def _run(sandbox: Sandbox, script: str) -> None:
    _said(await look(sandbox, SandboxScript(script, _TIMEOUT_S)))


def _said(seen: ScriptOutcome) -> str:
    result = require_finished(seen, "protect", "protected files could not be compared")
    if result.exit_code:
        words = result.stderr.strip()[-2000:]
        raise SandboxFault("protect", f"protected files could not be looked after: {words}")
    return result.stdout
