"""Scripts of the harness's own in a sandbox, run without what an agent may have put into the shell's start-up files."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import itertools
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from harness.sandboxes.archive import MAX_INLINE_CHARS, unpack_command
from harness.sandboxes.layout import HOME
from harness.sandboxes.sandbox import CommandResult, Sandbox, bypass_profile

_KEY, _NUMBERS = secrets.token_bytes(32), itertools.count()


def random_token() -> str:
    """A word of 32 hexadecimal digits that nobody in a sandbox can know before it is used.

    Made without a system call, which lets other threads have Python's lock: to get it back takes milliseconds.
    """
    return hashlib.blake2b(str(next(_NUMBERS)).encode(), key=_KEY, digest_size=16).hexdigest()


def call(script: Path, *arguments: str) -> str:
    """A script file as text for a shell, in a subshell of its own, with its arguments as "$1" and so on."""
    return f"(\nset -- {shlex.join(arguments)}\n{_text(script)}\n)"


def chain(*steps: str) -> str:
    """Steps one after another, up to the first that fails; its exit code is the whole's.

    Joined by `&&`, a script's own `set -e` would be without effect.
    """
    return "\ncode=$?; [ $code = 0 ] || exit $code\n".join(steps)


@functools.cache
def _text(script: Path) -> str:
    lines = script.read_text(encoding="utf-8").splitlines()
    # Comments are for readers of the file; a command has a limited length.
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def read_answers(stdout: str) -> dict[str, str]:
    """The `key=value` lines that a script has printed. Other lines are passed over."""
    pairs = (line.partition("=") for line in stdout.splitlines())
    return {key: value for key, equals, value in pairs if equals and key.isidentifier()}


def decode_bytes(value: str) -> bytes:
    """Bytes that a script has printed as base64. Raises ValueError when they are none."""
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def decode_names(value: str) -> tuple[str, ...]:
    """Names that a script has printed as base64, each ended by NUL; bytes that are no UTF-8 become surrogates."""
    return tuple(decode_bytes(value).decode("utf-8", "surrogateescape").split("\0")[:-1])


async def run_without_profile(
    sandbox: Sandbox,
    script: str,
    *,
    timeout: float,
    cwd: str = HOME,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    home: str | None = None,
) -> CommandResult:
    """Run a script, as `Sandbox.run` does, without what an agent may have put into the shell's start-up files.

    Its $HOME is `home`, or the directory that it starts in: the user's home, or `cwd`.
    """
    if home is not None:
        script = f"export HOME={shlex.quote(home)}\n{script}"
    own, variables = bypass_profile(script, env or {})
    return await sandbox.run(own, timeout=timeout, cwd=cwd, env=variables, user=user)


async def run_as_root(sandbox: Sandbox, script: str, *, home: str, timeout: float) -> CommandResult:
    """Run a script as root, in `/`, with the home of the sandbox's user as its $HOME."""
    return await run_without_profile(
        sandbox, f"umask 022\n{script}", timeout=timeout, cwd="/", user="root", home=home
    )


async def handed_over(
    sandbox: Sandbox, archive: bytes, name: str, *, secret: bool = False, anew: bool = False, beside: int = 0
) -> str:
    """A command that unpacks a tar in the folder where it runs.

    A small one goes with the command, where that has room for it: `beside` is how many characters of data the same
    command brings besides. A larger one, or one with a `secret` in it, since platforms log commands, is put into the
    file `name` below the home first, and is gone once it is unpacked. `anew`: whatever is there in the place of what it
    brings goes first, folders with all that is in them.

    Raises:
        SandboxFault: when the sandbox is lost.
    """
    option = " --recursive-unlink" if anew else ""
    command = None if secret else unpack_command(archive)
    if command is None or len(command) + beside > MAX_INLINE_CHARS:
        await sandbox.write(name, archive)
        return f"tar -xf ~/{name}{option} && rm ~/{name}"
    return command + option
