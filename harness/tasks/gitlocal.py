"""Starter repos of this machine: a repository's folder, or a bundle. Nothing is written to it.

A history in a folder of its own borrows the repository's objects, so that neither its settings nor the user's change
what is laid out.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import TaskFault
from harness.tasks.gitcommand import environment, plain_environment, run_git, with_config
from harness.tasks.gitsource import WORKTREE, GitSource
from harness.tasks.manifest import MANIFEST

_NAMES_SHOWN = 5
_BUNDLE_HEAD = "refs/harness/HEAD"
_BUNDLE_HEAD_BYTES = 1024


@dataclass(frozen=True)
class Found:
    """A local source that was found: a tree to lay out, the name of its commit, what is to be told, and the folders of
    its git (None: a bundle's) and its files.
    """

    tree: str
    commit: str
    notes: tuple[str, ...] = ()
    common: Path | None = None
    top: Path | None = None


async def find_tree(source: GitSource, git_dir: Path, environ: Mapping[str, str]) -> Found:
    """Find what a local source names, and make it readable from `git_dir`, which has been made for it.

    Raises:
        TaskFault: when there is no such repository, or nothing of that name in it.
        OSError: when the disk does not take it.
    """
    assert source.local, "it is a local one"
    env = {**environment(environ), "GIT_ALLOW_PROTOCOL": "file", "GIT_OPTIONAL_LOCKS": "0"}
    # Reading runs nothing of the repository's, so it may be anybody's.
    env = with_config(plain_environment(env), {"safe.directory": "*", "core.fsmonitor": "false"})
    path = Path(source.local)
    if _is_bundle(source, path):
        await _begin(source, git_dir, env, _format_of_bundle(path))
        return await _of_bundle(source, git_dir, env)
    place = ["-C", str(path)]
    common, kind, is_bare = await _about(source, place, env)
    await _begin(source, git_dir, env, kind)
    _borrow(git_dir, (path / common).resolve() / "objects")
    common = (path / common).resolve()
    top = (
        None if is_bare else Path((await run_git(source, [*place, "rev-parse", "--show-toplevel"], env))[:-1])
    )
    if top:
        _require_top(source, path, top)
    if source.ref == WORKTREE:
        if top is None:
            raise TaskFault("repo_ref", f"{source.shown}: a bare repository has no files of its own")
        return replace(await _of_worktree(source, git_dir, top, env), common=common, top=top)
    commit = await _commit(source, [*place], source.ref or "HEAD", env)
    return Found(commit, commit, common=common, top=top)


def _is_bundle(source: GitSource, path: Path) -> bool:
    """True for a bundle, False for a folder."""
    if path.is_file():
        return True
    if path.is_dir():
        return False
    raise TaskFault("repo_not_found", f"there is no repository at {source.shown}", remedy="check [repo] git")


def _require_top(source: GitSource, path: Path, top: Path) -> None:
    if top != path.resolve():
        remedy = f"name {top}, and the folder with [repo] subdir"
        what = f"{source.shown} is a folder within the repository {top}"
        raise TaskFault("repo_not_found", what, remedy=remedy)


async def _about(source: GitSource, place: list[str], env: Mapping[str, str]) -> tuple[Path, str, bool]:
    """A repository's folder of git, the format of its ids, and whether it is bare."""
    asked = ["rev-parse", "--show-object-format", "--is-bare-repository", "--git-common-dir"]
    try:
        kind, is_bare, common = (await run_git(source, [*place, *asked], env)).split("\n", 2)
    except TaskFault as fault:
        remedy = "name a repository, or put the files into repo/ of the task"
        raise TaskFault("repo_not_found", f"{source.shown} is no repository of git", remedy=remedy) from fault
    return Path(common.removesuffix("\n")), kind, is_bare == "true"


async def _begin(source: GitSource, git_dir: Path, env: Mapping[str, str], kind: str) -> None:
    await run_git(
        source, [f"--git-dir={git_dir}", "init", "-q", "--template=", f"--object-format={kind}"], env
    )


def _format_of_bundle(file: Path) -> str:
    """The format of a bundle's ids, which its head names where it is not the usual one."""
    with file.open("rb") as bundle:
        found = re.search(rb"^@object-format=(\w+)$", bundle.read(_BUNDLE_HEAD_BYTES), re.MULTILINE)
    return found.group(1).decode() if found else "sha1"


async def _of_bundle(source: GitSource, git_dir: Path, env: Mapping[str, str]) -> Found:
    where = [f"--git-dir={git_dir}"]
    heads = await run_git(source, [*where, "bundle", "list-heads", str(source.local)], env)
    specs = ["+refs/*:refs/*"] if " refs/" in heads else []
    specs += [f"+HEAD:{_BUNDLE_HEAD}"] if any(line.endswith(" HEAD") for line in heads.splitlines()) else []
    await run_git(source, [*where, "fetch", "-q", "--no-tags", "--", str(source.local), *specs], env)
    ref = source.ref or "HEAD"
    if ref == "HEAD" or ref.startswith(("HEAD~", "HEAD^")):
        branches = [line.split()[1] for line in heads.splitlines() if " refs/heads/" in line]
        head = _BUNDLE_HEAD if len(specs) > 1 or not branches else branches[0]
        ref = head + ref.removeprefix("HEAD")
    commit = await _commit(source, where, ref, env)
    return Found(commit, commit)


async def _of_worktree(source: GitSource, git_dir: Path, top: Path, env: Mapping[str, str]) -> Found:
    """The tree that `git commit -a` would record now. Index, new objects and settings are those of `git_dir`."""
    place = ["-C", str(top)]
    head = await _commit(source, place, "HEAD", env)
    index = top / (await run_git(source, [*place, "rev-parse", "--git-path", "index"], env))[:-1]
    for file in (index, *index.parent.glob("sharedindex.*")):
        if file.is_file():
            # With its time: by that, git knows what may have changed just after.
            shutil.copy2(file, git_dir / file.name)
    where = [f"--git-dir={git_dir}", f"--work-tree={top}"]
    await run_git(source, [*where, "add", "-u"], env, cwd=top)
    tree = (await run_git(source, [*where, "write-tree"], env)).strip()
    old = (await run_git(source, [*place, "rev-parse", f"{head}^{{tree}}"], env)).strip()
    commit = head if tree == old else f"{head}+{tree[:12]}"
    told = await run_git(source, [*place, "status", "--porcelain", "-z", "--untracked-files=all"], env)
    others = [entry[3:] for entry in told.split("\0") if entry.startswith("?? ")]
    modules = await _changed_modules(source, where, top, env)
    notes = [f"git does not track these, so they are left out: {_listed(others)}"] if others else []
    notes += [f"what these submodules have changed is left out: {_listed(modules)}"] if modules else []
    return Found(tree, commit, tuple(notes))


async def _changed_modules(
    source: GitSource, where: list[str], top: Path, env: Mapping[str, str]
) -> list[str]:
    """The submodules with changes that are not committed there."""
    staged = (await run_git(source, [*where, "ls-files", "-s", "-z"], env)).split("\0")
    paths = [entry.partition("\t")[2] for entry in staged if entry.startswith("160000 ")]
    found = []
    for path in paths:
        if (top / path / ".git").exists():
            asked = ["-C", str(top / path), "status", "--porcelain"]
            found += [path] if await run_git(source, asked, env) else []
    return found


async def _commit(source: GitSource, where: list[str], ref: str, env: Mapping[str, str]) -> str:
    try:
        told = await run_git(source, [*where, "rev-parse", "--verify", "-q", f"{ref}^{{commit}}"], env)
    except TaskFault as fault:
        raise TaskFault(
            "repo_ref",
            f"{source.url} has no {ref!r}",
            remedy="commit something"
            if ref == "HEAD"
            else "give a branch, a tag, a commit, HEAD~N or WORKTREE",
        ) from fault
    return told.strip()


def _borrow(git_dir: Path, objects: Path) -> None:
    (git_dir / "objects" / "info").mkdir(parents=True, exist_ok=True)
    (git_dir / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8")


def borrow_module(git_dir: Path, common: Path, path: str) -> bool:
    """Make a submodule's objects readable from `git_dir`; False where the repository has not fetched it."""
    objects = common / "modules" / path / "objects"
    if not objects.is_dir():
        return False
    _borrow(git_dir, objects)
    return True


def drop_tasks_beside(source: GitSource, top: Path | None, place: Path) -> list[str]:
    """Take the folders of tasks that stand where the task itself stands out of what was laid out, and tell it.

    A task in the repository that it is about must not bring its solution along.
    """
    if source.beside is None or top is None:
        return []
    beside = Path(source.beside).resolve()
    if not beside.is_relative_to(top.resolve()):
        return []
    here = place / beside.relative_to(top.resolve())
    tasks = (
        sorted(folder for folder in here.iterdir() if (folder / MANIFEST).is_file()) if here.is_dir() else []
    )
    for folder in tasks:
        shutil.rmtree(folder)
    names = [folder.relative_to(place).as_posix() for folder in tasks]
    return [f"these are tasks, so they are left out: {_listed(names)}"] if names else []


_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_BYTES = 1024


def fill_lfs(place: Path, common: Path | None) -> list[str]:
    """Put the objects of git-lfs that the repository has in the place of their pointers; tell of those it has not."""
    lacking = []
    for parent, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            oid = _pointed_to(file)
            if oid is None:
                continue
            found = common / "lfs" / "objects" / oid[:2] / oid[2:4] / oid if common else None
            if found and found.is_file():
                mode = file.stat().st_mode
                shutil.copyfile(found, file)
                file.chmod(mode)
            else:
                lacking.append(file.relative_to(place).as_posix())
    return (
        [f"the objects of git-lfs are not there, only pointers to them: {_listed(lacking)}"]
        if lacking
        else []
    )


def _pointed_to(file: Path) -> str | None:
    if file.is_symlink() or not file.is_file() or file.stat().st_size > _POINTER_BYTES:
        return None
    content = file.read_bytes()
    if not content.startswith(_POINTER):
        return None
    ids = [line for line in content.decode("utf-8", "replace").splitlines() if line.startswith("oid sha256:")]
    oid = ids[0].removeprefix("oid sha256:").strip() if ids else ""
    return oid if len(oid) == 64 and oid.isalnum() else None


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (
        f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    )
