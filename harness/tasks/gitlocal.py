"""Starter repos of this machine: a repository's folder, or a bundle. Nothing is written to it.

A history in a folder of its own borrows the repository's objects, so that neither its settings nor the user's change
what is laid out.
"""

from __future__ import annotations

import os
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


@dataclass(frozen=True)
class Found:
    """What a local source comes to: a tree to lay out, the name of its commit, what is to be told, and the folders of
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
    users = {**environment(environ), "GIT_ALLOW_PROTOCOL": "file", "GIT_OPTIONAL_LOCKS": "0"}
    # Reading runs nothing of the repository's, so it may be anybody's.
    env = with_config(plain_environment(users), {"safe.directory": "*", "core.fsmonitor": "false"})
    path = Path(source.local)
    if path.is_file():
        return await _of_bundle(source, git_dir, env)
    if not path.is_dir():
        raise TaskFault("repo_not_found", f"there is no repository at {source.shown}", remedy="check [repo] git")
    place = ["-C", str(path)]
    told = await run_git(source, [*place, "rev-parse", "--git-common-dir"], env)
    common = (path / told.strip()).resolve()
    _borrow(git_dir, common / "objects")
    bare = (await run_git(source, [*place, "rev-parse", "--is-bare-repository"], env)).strip() == "true"
    top = None if bare else Path((await run_git(source, [*place, "rev-parse", "--show-toplevel"], env)).strip())
    if top and top != path.resolve():
        remedy = f"name {top}, and the folder with [repo] subdir"
        raise TaskFault("repo_not_found", f"{source.shown} is a folder within the repository {top}", remedy=remedy)
    if source.ref == WORKTREE:
        if top is None:
            raise TaskFault("repo_ref", f"{source.shown}: a bare repository has no files of its own")
        return replace(await _of_worktree(source, git_dir, top, common, users), common=common, top=top)
    commit = await _commit(source, [*place], source.ref or "HEAD", env)
    return Found(commit, commit, common=common, top=top)


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


async def _of_worktree(
    source: GitSource, git_dir: Path, top: Path, common: Path, env: Mapping[str, str]
) -> Found:
    """What `git commit -a` would record now, with the user's settings. Index and new objects are in folders of our own."""
    place = ["-C", str(top)]
    index = git_dir / "worktree-index"
    real = Path((await run_git(source, [*place, "rev-parse", "--git-path", "index"], env)).strip())
    if (top / real).is_file():
        shutil.copyfile(top / real, index)
    own = {
        **env,
        "GIT_INDEX_FILE": str(index),
        "GIT_OBJECT_DIRECTORY": str(git_dir / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(common / "objects"),
    }
    await run_git(source, [*place, "add", "-u"], own)
    tree = (await run_git(source, [*place, "write-tree"], own)).strip()
    head = await _commit(source, place, "HEAD", env)
    old = (await run_git(source, [*place, "rev-parse", f"{head}^{{tree}}"], env)).strip()
    commit = head if tree == old else f"{head}+{tree[:12]}"
    others = await run_git(source, [*place, "ls-files", "--others", "--exclude-standard", "-z"], env)
    names = [name for name in others.split("\0") if name]
    return Found(tree, commit, (f"git does not track these, so they are left out: {_listed(names)}",) if names else ())


async def _commit(source: GitSource, where: list[str], ref: str, env: Mapping[str, str]) -> str:
    try:
        told = await run_git(source, [*where, "rev-parse", "--verify", "-q", f"{ref}^{{commit}}"], env)
    except TaskFault as fault:
        raise TaskFault(
            "repo_ref",
            f"{source.url} has no {source.ref or 'HEAD'!r}",
            remedy="give a branch, a tag, a commit, HEAD~N or WORKTREE",
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
    tasks = sorted(folder for folder in here.iterdir() if (folder / MANIFEST).is_file()) if here.is_dir() else []
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
    return [f"the objects of git-lfs are not there, only pointers to them: {_listed(lacking)}"] if lacking else []


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
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
