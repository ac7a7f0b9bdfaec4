"""Starter repos that are cloned: once for all trials of a run, on the harness's machine.

A token stays in the environment of the one git process that needs it. It is never an argument, never in a file,
and nothing of the clone but the files of one commit goes into a sandbox.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import GIVE_UP, InternalFault, TaskFault
from harness.tasks.gitcommand import environment, plain_environment, run_git, with_config
from harness.tasks.gitlocal import borrow_module, drop_tasks_beside, fill_lfs, find_tree
from harness.tasks.gitsource import GitSource, problems_of
from harness.tasks.single_flight import SingleFlight, locked


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
                    done.write_text(json.dumps(await self._made(source, place, token)))
                commit, notes = json.loads(done.read_text())
                return Checkout(_subdir(source, place), commit, tuple(notes))
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

    async def _made(self, source: GitSource, place: Path, token: str | None) -> tuple[str, list[str]]:
        """The files of a source, laid out; returns the id of their commit, and what is to be told."""
        if source.local:
            return await self._copy(source, place)
        commit, lacking = await self._clone(source, place, token)
        notes = await asyncio.to_thread(fill_lfs, place, None)
        return commit, [*map(_lacks, lacking), *notes]

    async def _copy(self, source: GitSource, place: Path) -> tuple[str, list[str]]:
        """Lay the files of a repository of this machine out, with those of its submodules that it has."""
        git_dir = place.with_name(f"{place.name}.git")
        await asyncio.to_thread(_make_room, git_dir, place)
        env = environment(self._environ)
        found = await find_tree(source, git_dir, self._environ)
        await _lay_out(source, git_dir, place, found.tree, env)
        notes = list(found.notes)
        for path, _, pinned in await _submodules(source, git_dir, found.tree, env):
            if found.common and borrow_module(git_dir, found.common, path):
                await _lay_out(source, git_dir, place / path, pinned, env)
            else:
                notes.append(f"the submodule {path!r} is not fetched there: its folder is empty")
        notes += await asyncio.to_thread(fill_lfs, place, found.common)
        notes += await asyncio.to_thread(drop_tasks_beside, source, found.top, place)
        await asyncio.to_thread(shutil.rmtree, git_dir)
        return found.commit, notes

    async def _clone(self, source: GitSource, place: Path, token: str | None) -> tuple[str, list[str]]:
        """Fetch one commit and lay its files out; returns its id. What a broken clone left is taken away first.

        Submodules on the same host are fetched too, and the folders of others are returned. Neither the token nor a
        key of ssh's is meant for those, and a stranger's repository is not to choose whom this machine asks.
        """
        git_dir = place.with_name(f"{place.name}.git")
        await asyncio.to_thread(_make_room, git_dir, place)
        env, where = environment(self._environ), [f"--git-dir={git_dir}"]
        await run_git(source, [f"--git-dir={git_dir}", "init", "-q", "--template="], env)
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
        hidden = with_config(env, _credentials(source, header)) if header else env
        await run_git(source, [*where, *fetch], hidden, secrets=[token, header] if token else ())
        commit = (await run_git(source, [*where, "rev-parse", "FETCH_HEAD^{commit}"], env)).strip()
        await _lay_out(source, git_dir, place, commit, env)
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


async def _lay_out(source: GitSource, git_dir: Path, place: Path, tree: str, env: Mapping[str, str]) -> None:
    """Write the files of a commit or a tree. The repository's own attributes count, no settings of the user's."""
    where, plain = [f"--git-dir={git_dir}", f"--work-tree={place}"], plain_environment(env)
    await run_git(source, [*where, "read-tree", tree], plain)
    await run_git(
        source, [*where, "checkout-index", "-q", "-a", "-f"], {**plain, "PWD": str(place)}, cwd=place
    )


def _lacks(path: str) -> str:
    return f"the submodule {path!r} is not on the cloned repo's own host and not fetched: its folder is empty"


async def _submodules(
    source: GitSource, git_dir: Path, commit: str, env: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    """The submodules of a commit: folder, URL and commit of each. Folders without an entry in .gitmodules are none."""
    where = [f"--git-dir={git_dir}"]
    tree = await run_git(source, [*where, "ls-tree", "-r", "-z", commit], env)
    entries = (entry.partition("\t") for entry in tree.split("\0"))
    links = {path: about.split()[2] for about, _, path in entries if about.startswith("160000 ")}
    if not links:
        return []
    try:
        listing = [*where, "config", "-z", f"--blob={commit}:.gitmodules", "--get-regexp", r"\.(path|url)$"]
        told = await run_git(source, listing, env)
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


def _header(token: str | None) -> str | None:
    """The token as HTTP's basic credentials; hosts of git take it with any name."""
    return base64.b64encode(f"x-access-token:{token}".encode()).decode() if token else None


def _credentials(source: GitSource, header: str) -> dict[str, str]:
    """Configuration by which the header goes to the source's own host alone."""
    return {
        # A helper of the user's could answer in the token's place, or store it.
        "credential.helper": "",
        f"http.{source.origin}.extraHeader": f"Authorization: Basic {header}",
        # Nobody but the named host is asked, whatever its first answer redirects to.
        "http.followRedirects": "false",
        f"http.{source.origin}.followRedirects": "false",
    }


def _subdir(source: GitSource, place: Path) -> Path:
    """The folder that is the starter repo. A link on the way there could lead anywhere on this machine."""
    if source.subdir is None:
        return place
    folder = place / source.subdir
    if not folder.is_dir() or not folder.resolve().is_relative_to(place.resolve()):
        raise TaskFault("repo_subdir", f"{source.shown} has no folder {source.subdir!r}")
    return folder
