"""Starter repos that are cloned: once for all trials of a run, on the harness's machine.

A token stays in the environment of the one git process that needs it. It is never an argument, never in a file,
and nothing of the clone but the files of one commit goes into a sandbox.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import GIVE_UP, InternalFault, TaskFault
from harness.tasks.gitsource import GitSource, problems_of
from harness.tasks.single_flight import SingleFlight, locked
from harness.text import keep_end

CLONE_S = 600.0
"""The most that a clone may take, in seconds."""
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


@dataclass(frozen=True)
class Checkout:
    """A cloned starter repo: the folder with its files, the id of the commit that they are of, and what it lacks."""

    folder: Path
    commit: str
    notes: tuple[str, ...] = ()


class Repos:
    """The clones of a run, shared by its processes; they go when the last of these has ended."""

    def __init__(self, folder: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._folder = folder
        self._environ = environ
        self._known = SingleFlight(self._once)
        self._user: int | None = None

    async def checkout(self, source: GitSource) -> Checkout:
        """A source's files, cloned when nobody has done so yet.

        Raises:
            TaskFault: when the source is wrong, refuses, or cannot be reached.
            InternalFault: when it cannot be kept on this machine.
        """
        return await self._known.get(source)

    def close(self) -> None:
        """This process needs them no more. The last one removes them."""
        if self._user is None:
            return
        try:
            fcntl.flock(self._user, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            os.close(self._user)
            self._user = None

    async def _once(self, source: GitSource) -> Checkout:
        token = self._token(source)
        key = hashlib.sha256(json.dumps(asdict(source), sort_keys=True).encode()).hexdigest()[:16]
        place = self._folder / key
        try:
            self._join()
            async with locked(self._folder / f"{key}.lock"):
                done = self._folder / f"{key}.commit"
                if not done.exists():
                    done.write_text(json.dumps(await self._clone(source, place, token)))
                commit, lacking = json.loads(done.read_text())
                return Checkout(_subdir(source, place), commit, tuple(map(_lacks, lacking)))
        except OSError as error:
            raise InternalFault(
                "disk", f"{source.shown} cannot be kept in {place}: {error.strerror or error}", policy=GIVE_UP
            ) from error

    def _join(self) -> None:
        """Make the folder, for this account alone, and hold it until this process closes."""
        if self._user is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._user = os.open(self._folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._user, fcntl.LOCK_SH)

    def _token(self, source: GitSource) -> str | None:
        if source.token_env is None:
            return None
        token = self._environ.get(source.token_env)
        if not token:
            raise TaskFault(
                "repo_token",
                f"{source.url} needs a token, and the variable {source.token_env} is not set",
                remedy=f"set {source.token_env}",
            )
        return token

    async def _clone(self, source: GitSource, place: Path, token: str | None) -> tuple[str, list[str]]:
        """Fetch one commit and lay its files out; returns its id. What a broken clone left is taken away first.

        Submodules on the same host are fetched too, and the folders of others are returned. Neither the token nor a
        key of ssh's is meant for those, and a stranger's repository is not to choose whom this machine asks.
        """
        git_dir = place.with_name(f"{place.name}.git")
        await asyncio.to_thread(_make_room, git_dir, place)
        env, where = _environment(self._environ), [f"--git-dir={git_dir}", f"--work-tree={place}"]
        await _git(source, [f"--git-dir={git_dir}", "init", "-q"], env)
        fetch = [
            "fetch",
            "-q",
            "--no-tags",
            f"--depth={source.depth}",
            "--",
            source.url,
            source.ref or "HEAD",
        ]
        header = _header(token)
        hidden = _with_config(env, _credentials(source, header)) if header else env
        await _git(source, [*where, *fetch], hidden, secrets=[token, header] if token else ())
        commit = (await _git(source, [*where, "rev-parse", "FETCH_HEAD^{commit}"], env)).strip()
        await _git(source, [*where, "checkout", "-q", "--force", "--detach", commit], env)
        lacking = []
        for path, url, pinned in await _submodules(source, git_dir, commit, env):
            module = source.submodule(url, pinned)
            if any(problems_of(module)) or not module.is_beside(source):
                lacking.append(path)
            else:
                lacking += await self._clone_submodule(module, source, place, path, token)
        await asyncio.to_thread(shutil.rmtree, git_dir)
        return commit, lacking

    async def _clone_submodule(
        self, module: GitSource, source: GitSource, place: Path, path: str, token: str | None
    ) -> list[str]:
        """Lay a submodule's files out in its folder; returns the folders below it that are lacking."""
        made = place.with_name(f"{place.name}.submodule")
        try:
            _, lacking = await self._clone(module, made, token)
        except TaskFault as fault:
            remedy = "take a ref whose submodules are there" if fault.kind == "repo_ref" else fault.remedy
            message = f"the submodule {path!r} of {source.shown}: {fault.message}"
            raise TaskFault(fault.kind, message, remedy=remedy) from fault
        await asyncio.to_thread(_replace, made, place, path)
        return [f"{path}/{below}" for below in lacking]


def _lacks(path: str) -> str:
    return f"the submodule {path!r} is not on the cloned repo's own host and not fetched: its folder is empty"


async def _submodules(
    source: GitSource, git_dir: Path, commit: str, env: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    """The submodules of a commit: folder, URL and commit of each. Folders without an entry in .gitmodules are none."""
    where = [f"--git-dir={git_dir}"]
    tree = await _git(source, [*where, "ls-tree", "-r", "-z", commit], env)
    entries = (entry.partition("\t") for entry in tree.split("\0"))
    links = {path: about.split()[2] for about, _, path in entries if about.startswith("160000 ")}
    if not links:
        return []
    try:
        listing = [*where, "config", "-z", f"--blob={commit}:.gitmodules", "--get-regexp", r"\.(path|url)$"]
        told = await _git(source, listing, env)
    except TaskFault:
        return []  # there is none, or it cannot be read: git itself takes such folders for empty ones
    settings = dict(entry.partition("\n")[::2] for entry in told.split("\0") if entry)
    paths = {path: key.removesuffix(".path") for key, path in settings.items() if key.endswith(".path")}
    urls = {path: settings.get(f"{name}.url") for path, name in paths.items()}
    return [(path, url, pinned) for path, pinned in links.items() if (url := urls.get(path))]


def _replace(made: Path, place: Path, path: str) -> None:
    """Move a submodule to its folder, which git has left empty. Raises OSError."""
    target = place / path
    if not target.resolve().is_relative_to(place.resolve()):
        raise NotADirectoryError(errno.ENOTDIR, f"{path!r} is not in the clone")
    target.rmdir()
    made.rename(target)


def _make_room(git_dir: Path, place: Path) -> None:
    for left in (git_dir, place):
        shutil.rmtree(left, ignore_errors=True)
    place.mkdir(mode=0o700)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own git (proxies, certificates, ssh), which asks nobody and runs no hooks of theirs."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name.startswith(("GIT_SSL_", "GIT_SSH", "GIT_PROXY_", "GIT_CONFIG"))
    }
    kept.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    asks_nobody = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false", "SSH_ASKPASS": "/bin/false"}
    allowed = {"GIT_ALLOW_PROTOCOL": "https:http:ssh", "LC_ALL": "C"}
    return _with_config({**kept, **asks_nobody, **allowed}, {"core.hooksPath": "/dev/null"})


def _header(token: str | None) -> str | None:
    """The token as HTTP's basic credentials; hosts of git take it with any name."""
    return base64.b64encode(f"x-access-token:{token}".encode()).decode() if token else None


def _credentials(source: GitSource, header: str) -> dict[str, str]:
    """Configuration by which the header goes to the source's own host alone."""
    return {
        # A helper of the user's could answer in the token's place, or store it.
        "credential.helper": "",
        f"http.{source.origin}.extraHeader": f"Authorization: Basic {header}",
        # Git would send the header to whatever host the first answer redirects to.
        "http.followRedirects": "false",
        f"http.{source.origin}.followRedirects": "false",
    }


def _with_config(env: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
    """An environment in which git has these settings, behind those that it has already."""
    found = dict(env)
    count = int(found.get("GIT_CONFIG_COUNT", "0"))
    for number, (key, value) in enumerate(config.items(), count):
        found[f"GIT_CONFIG_KEY_{number}"], found[f"GIT_CONFIG_VALUE_{number}"] = key, value
    found["GIT_CONFIG_COUNT"] = str(count + len(config))
    return found


async def _git(
    source: GitSource, arguments: list[str], env: Mapping[str, str], secrets: Sequence[str | None] = ()
) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            env=dict(env),
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
    kind = "repo_unreachable" if _NOT_REACHED.search(said) else "repo_git"
    return TaskFault(kind, f"{source.shown} could not be cloned: {words}")


def _subdir(source: GitSource, place: Path) -> Path:
    """The folder that is the starter repo. A link on the way there could lead anywhere on this machine."""
    if source.subdir is None:
        return place
    folder = place / source.subdir
    if not folder.is_dir() or not folder.resolve().is_relative_to(place.resolve()):
        raise TaskFault("repo_subdir", f"{source.shown} has no folder {source.subdir!r}")
    return folder
