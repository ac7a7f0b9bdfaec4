"""Scripts of the harness's own in a sandbox where an agent has been."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.errors import SandboxFault
from harness.sandboxes.archive import unpack_command
from harness.sandboxes.layout import HOME
from harness.sandboxes.sandbox import CommandResult, CommandTimeoutError, Sandbox, bypass_profile


@dataclass(frozen=True)
class SandboxScript:
    """A script of the harness's own that looks at what is there, and how many seconds it may take.

    `required`: what comes after it would go wrong where it has failed, and is then not run.
    """

    text: str
    timeout: float
    required: bool = False


ScriptOutcome: TypeAlias = CommandResult | CommandTimeoutError
"""The result of a script, or the error that it took too long."""


_KEY, _NUMBERS = secrets.token_bytes(32), itertools.count()


def random_token() -> str:
    """A word of 32 hexadecimal digits that nobody in a sandbox can know before it is used.

    Without a system call, which lets other threads have Python's lock: it would take milliseconds to get it back.
    """
    return hashlib.blake2b(str(next(_NUMBERS)).encode(), key=_KEY, digest_size=16).hexdigest()


async def run_without_profile(
    sandbox: Sandbox,
    script: str,
    *,
    timeout: float,
    cwd: str = HOME,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> CommandResult:
    """Run a script, as `Sandbox.run` does, without what an agent may have put into the shell's start-up files.

    Its $HOME is the directory that it starts in: the user's home, or `cwd`.
    """
    own, variables = bypass_profile(script, env or {})
    return await sandbox.run(own, timeout=timeout, cwd=cwd, env=variables, user=user)


async def look(sandbox: Sandbox, script: SandboxScript, root_in: str | None = None) -> ScriptOutcome:
    """Run one script: as the sandbox's user, or as root, given that user's home, which is then its home too.

    Raises:
        SandboxFault: when the sandbox is lost.
    """
    try:
        if root_in is None:
            return await run_without_profile(sandbox, script.text, timeout=script.timeout)
        # Not in that home, which may be closed, or gone.
        text = f"export HOME={shlex.quote(root_in)}; umask 022\n{script.text}"
        return await run_without_profile(sandbox, text, timeout=script.timeout, cwd="/", user="root")
    except CommandTimeoutError as error:
        return error


async def run_scripts(
    sandbox: Sandbox, scripts: Sequence[SandboxScript], root_in: str | None = None
) -> list[ScriptOutcome]:
    """Run scripts in one command, since each command costs a round trip and the start of a shell.

    When that takes too long or breaks off, each is run by itself, so that one that hangs does not hide the others.
    A `required` one that fails, or takes too long, is the last. `root_in` is as for `look`.

    Raises:
        SandboxFault: when the sandbox is lost.
    """
    mark = random_token()
    together = "\n".join(_with_end(script, mark) for script in scripts)
    seen = await look(sandbox, SandboxScript(together, max(script.timeout for script in scripts)), root_in)
    if isinstance(seen, CommandResult):
        found = list(_split(seen, mark))
        if len(found) == len(scripts) or (found and _ends(scripts[len(found) - 1], found[-1])):
            return list(found)
    each: list[ScriptOutcome] = []
    for script in scripts:
        each.append(await look(sandbox, script, root_in))
        if _ends(script, each[-1]):
            break
    return each


def require_finished(seen: ScriptOutcome, kind: str, what: str) -> CommandResult:
    """The result of a script that had to come to its end.

    Raises:
        SandboxFault: of this kind, saying what could not be done, when it took too long.
    """
    if isinstance(seen, CommandTimeoutError):
        raise SandboxFault(kind, f"{what}: {seen}") from seen
    return seen


def _ends(script: SandboxScript, seen: ScriptOutcome) -> bool:
    """True if no other script may run after it."""
    return script.required and (isinstance(seen, CommandTimeoutError) or seen.exit_code != 0)


def _with_end(script: SandboxScript, mark: str) -> str:
    """A script by itself in a subshell, and after it the line that tells how it ended."""
    stop = '; [ "$code" = 0 ] || exit 0' if script.required else ""
    told = f"code=$?; printf '\\n%s %s\\n' {mark} $code; printf '\\n%s 0\\n' {mark} >&2"
    return f"(\n{script.text}\n)\n{told}{stop}"


def _split(result: CommandResult, mark: str) -> list[CommandResult]:
    out, err = (_parts(text, mark) for text in (result.stdout, result.stderr))
    return [
        CommandResult(stdout, stderr, code) for (stdout, code), (stderr, _) in zip(out, err, strict=False)
    ]


def _parts(text: str, mark: str) -> Iterator[tuple[str, int]]:
    """The output of each script, and the number after it."""
    said, *told = text.split(f"\n{mark} ")
    for part in told:
        number, ended, following = part.partition("\n")
        if not ended:
            return
        yield said, int(number)
        said = following


async def handed_over(
    sandbox: Sandbox, archive: bytes, name: str, *, secret: bool = False, anew: bool = False
) -> str:
    """A command that unpacks a tar in the folder where it runs.

    A small one goes with the command. A larger one, or one with a `secret` in it, since platforms log commands, is put
    into the file `name` below the home first, and is gone once it is unpacked. `anew`: whatever is there in the place
    of what it brings goes first, folders with all that is in them.

    Raises:
        SandboxFault: when the sandbox is lost.
    """
    option = " --recursive-unlink" if anew else ""
    command = None if secret else unpack_command(archive)
    if command is None:
        await sandbox.write(name, archive)
        return f"tar -xf ~/{name}{option} && rm ~/{name}"
    return command + option
