"""git, run on the harness's machine: it asks nobody, and what it says becomes a fault."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import TaskFault, UsageError
from harness.tasks.gitsource import GitSource
from harness.text import keep_end

CLONE_S = 600.0
"""The most that a clone may take, in seconds."""
LOCAL_S = 120.0
"""The most that git may take in a repository of this machine, in seconds."""
_WORDS = 600

_NOT_REACHED = re.compile(
    r"could not resolve host|failed to connect|couldn't connect|connection (refused|reset|timed out)"
    r"|timed out|network is unreachable|no route to host|early eof|unexpected disconnect|rpc failed"
    r"|returned error: (429|5\d\d)|remote end hung up|ssl|tls",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"authentication failed|could not read (username|password)|permission denied|access denied"
    r"|returned error: 40[13]|terminal prompts disabled",
    re.IGNORECASE,
)
_ASKED = re.compile(r"could not read (username|password)|terminal prompts disabled", re.IGNORECASE)
_REDIRECTED = re.compile("returned error: 30[12378]")
_NO_REPOSITORY = re.compile(
    r"repository .*not found|returned error: 404|does not appear to be a git", re.IGNORECASE
)
_NO_REF = re.compile(r"couldn't find remote ref|not our ref|no such (remote )?ref", re.IGNORECASE)
_LOCAL_REMEDIES = (
    (re.compile("prerequisite commits"), "make it with all of its history: git bundle create FILE --all"),
    (re.compile("not look like a .*bundle"), "name a folder, or a file that `git bundle create` has made"),
    (
        re.compile("unable to read|missing blob|bad object"),
        "fetch all that a partial clone lacks, or name a whole one",
    ),
)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own git (proxies, certificates, ssh), which asks nobody and runs no hooks of theirs."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name.startswith(("GIT_SSL_", "GIT_SSH", "GIT_PROXY_", "GIT_CONFIG"))
    }
    kept.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    asks_nobody = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false", "SSH_ASKPASS": "/bin/false"}
    allowed = {"GIT_ALLOW_PROTOCOL": "https:http:ssh", "LC_ALL": "C"}
    return with_config({**kept, **asks_nobody, **allowed}, {"core.hooksPath": "/dev/null"})


def plain_environment(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which git has no settings of the user's or the machine's: none of them changes a byte."""
    kept = {name: value for name, value in env.items() if not name.startswith("GIT_CONFIG")}
    nobodys = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1"}
    return with_config(
        {**kept, **nobodys}, {"core.attributesFile": "/dev/null", "core.hooksPath": "/dev/null"}
    )


def local_git(
    folder: Path,
    *arguments: str,
    data: bytes = b"",
    config: Mapping[str, str] | None = None,
    with_users_settings: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a repository of this machine, whoever owns it: it reaches no network and locks nothing.

    The user's settings count only where it writes the user's own files (`with_users_settings`).

    Raises:
        UsageError: when there is no git, or it does not end.
    """
    env = environment(os.environ)
    env = with_config(
        env if with_users_settings else plain_environment(env),
        {"safe.directory": "*", "core.fsmonitor": "false", "core.quotePath": "false", **(config or {})},
    )
    env |= {"GIT_ALLOW_PROTOCOL": "none", "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, env=env, input=data, capture_output=True, timeout=LOCAL_S, check=False)
    except FileNotFoundError as error:
        raise UsageError("there is no git here", remedy="install git") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"git did not end within {LOCAL_S:.0f} s", remedy="try again") from error


def words_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """The words of a git that failed, in one line."""
    return keep_end(" ".join(done.stderr.decode("utf-8", "replace").split()), _WORDS)


def with_config(env: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
    """An environment in which git has these settings, behind those that it has already."""
    found = dict(env)
    count = int(found.get("GIT_CONFIG_COUNT", "0"))
    for number, (key, value) in enumerate(config.items(), count):
        found[f"GIT_CONFIG_KEY_{number}"], found[f"GIT_CONFIG_VALUE_{number}"] = key, value
    found["GIT_CONFIG_COUNT"] = str(count + len(config))
    return found


async def run_git(
    source: GitSource,
    arguments: list[str],
    env: Mapping[str, str],
    secrets: Sequence[str | None] = (),
    cwd: Path | None = None,
) -> str:
    """Run git, and return its output.

    Raises:
        TaskFault: when it fails, or takes too long; in its words none of the secrets.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise TaskFault(
            "repo_git",
            f"{source.shown} cannot be cloned: there is no git here",
            remedy="install git",
        ) from error
    try:
        async with asyncio.timeout(CLONE_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        message = f"{source.shown} could not be cloned within {CLONE_S:.0f} s"
        raise TaskFault("repo_unreachable", message) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
    if process.returncode:
        said = err.decode("utf-8", "replace")
        # A server may say back what it was sent.
        for secret in filter(None, secrets):
            said = said.replace(secret, "[redacted]")
        raise _fault(source, said)
    return os.fsdecode(out)


def _fault(source: GitSource, said: str) -> TaskFault:
    """The fault that git's words mean."""
    words = keep_end(" ".join(said.split()), _WORDS)
    if _NO_REF.search(said):
        return TaskFault("repo_ref", f"{source.url} has no {source.ref or 'HEAD'!r}: {words}")
    if _REFUSED.search(said):
        remedy = (
            f"check the token in {source.token_env}" if source.token_env else "name a token with token_env"
        )
        if _ASKED.search(said):  # of nobody: what git says about that would lead astray
            words = "it does not take the token" if source.token_env else "it wants credentials"
        return TaskFault("repo_refused", f"{source.url} refused: {words}", remedy=remedy)
    if _REDIRECTED.search(said):
        return TaskFault(
            "repo_refused",
            f"{source.url} redirects to another URL, where the token does not go",
            remedy="name the URL at which the repository is now",
        )
    if _NO_REPOSITORY.search(said):
        return TaskFault(
            "repo_not_found",
            f"there is no repository at {source.url}: {words}",
            remedy=None if source.token_env else "check the URL; a private one needs token_env",
        )
    if source.local:
        fitting = next((remedy for said_so, remedy in _LOCAL_REMEDIES if said_so.search(said)), None)
        return TaskFault("repo_git", f"{source.shown} could not be read: {words}", remedy=fitting)
    kind = "repo_unreachable" if _NOT_REACHED.search(said) else "repo_git"
    return TaskFault(kind, f"{source.shown} could not be cloned: {words}")
