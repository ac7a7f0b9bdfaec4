"""The commits of a repository, and which of them could become tasks."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harness.authoring.edits import language_of
from harness.authoring.mutants import is_prose, is_test
from harness.errors import UsageError
from harness.tasks.gitcommand import local_git, words_of

_MAX_FILES, _MAX_LINES = 40, 2_000
_DATA = ("json", "toml", "settings", "text")


@dataclass(frozen=True)
class Commit:
    """A commit: its message, and the files that it adds or changes, or deletes; of submodules there are none.

    One with no parent, or with several, has no files here.
    """

    id: str
    parents: tuple[str, ...]
    message: str
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    lines: int = 0

    @property
    def parent(self) -> str:
        """The commit that it comes after; of a merge, the first."""
        return self.parents[0]

    @property
    def tests(self) -> tuple[str, ...]:
        """The files of tests that it adds or changes; also their data."""
        return tuple(path for path in self.changed if is_test(path))

    @property
    def sources(self) -> tuple[str, ...]:
        """The programs that it adds or changes."""
        return tuple(
            path for path in (*self.changed, *self.deleted) if _is_program(path) and not is_test(path)
        )

    @property
    def subject(self) -> str:
        """The first line of its message."""
        return self.message.strip().partition("\n")[0].strip()

    @property
    def name(self) -> str:
        """A name for its task, which sorts by nothing and says what it is about."""
        words = re.findall(r"[a-z0-9]+", self.subject.lower())[:5]
        return "-".join([*words, self.id[:8]])[:90]

    def unsuited(self) -> str | None:
        """The reason for which it can be no task; None for one that can be tried."""
        if len(self.parents) != 1:
            return "is a merge" if self.parents else "is the first"
        if _REVERTS.search(self.message):
            return "takes another one back"
        if not self.tests:
            return "changes no tests"
        if not self.sources:
            return "changes no source"
        if not any(_is_program(path) for path in self.tests):
            return "changes only the data of tests"
        if len(self.changed) + len(self.deleted) > _MAX_FILES or self.lines > _MAX_LINES:
            return "is too large"
        return None


_REVERTS = re.compile(r"\ARevert \"|^This reverts commit [0-9a-f]{7,}", re.MULTILINE)
_SUBMODULE = "160000"


def _is_program(path: str) -> bool:
    return (
        language_of(path, "") not in _DATA and not is_prose(path) and PurePosixPath(path).name != "setup.py"
    )


_SETTINGS = {
    "diff.renames": "false",
    "diff.noprefix": "false",
    "diff.mnemonicPrefix": "false",
    "diff.algorithm": "myers",
    "diff.context": "3",
    "diff.submodule": "short",
    "log.showSignature": "false",
    "core.autocrlf": "false",
}
"""What the repository's own settings may not change."""


def git(repo: Path, *arguments: str) -> str:
    """Return git's output, with no settings that would change it.

    Raises:
        UsageError: when it fails.
    """
    done = local_git(repo, *arguments, config=_SETTINGS)
    if done.returncode:
        raise UsageError(f"git {arguments[0]} failed in {repo}: {words_of(done)}")
    return os.fsdecode(done.stdout)


def top_of(repo: Path) -> Path:
    """The top folder of the repository that a folder is in.

    Raises:
        UsageError: when it is in none.
    """
    if not repo.is_dir():
        raise UsageError(f"{repo} is no folder", remedy="name a clone of a repository")
    return Path(git(repo, "rev-parse", "--show-toplevel").strip())


def read_commit(repo: Path, ref: str) -> Commit:
    """A commit, by any name of it.

    Raises:
        UsageError: when there is none.
    """
    try:
        found = git(repo, "rev-parse", "--verify", "-q", f"{ref}^{{commit}}").strip()
    except UsageError as error:
        raise UsageError(f"{repo} has no commit {ref!r}", remedy="give an id, a branch or HEAD~N") from error
    told = git(repo, "show", "-s", "--format=%P%x00%B", found)
    parents, _, message = told.partition("\0")
    commit = Commit(found, tuple(parents.split()), message.strip())
    if len(commit.parents) != 1:
        return commit
    compared = ["diff-tree", "-r", "-z", "--no-renames", commit.parent, found]
    # `:MODE MODE ID ID STATUS`, PATH, ...
    fields = git(repo, *compared).split("\0")
    rows = [(about.split(), path) for about, path in zip(fields[::2], fields[1::2], strict=False)]
    files = [(row[4], path) for row, path in rows if _SUBMODULE not in (row[0].removeprefix(":"), row[1])]
    counts = git(repo, *compared[:1], "--numstat", *compared[1:]).split("\0")
    lines = sum(int(number) for line in counts for number in line.split("\t")[:2] if number.isdigit())
    changed = tuple(path for kind, path in files if kind != "D")
    deleted = tuple(path for kind, path in files if kind == "D")
    return replace(commit, changed=changed, deleted=deleted, lines=lines)


def history(repo: Path, since: str | None) -> list[str]:
    """The ids of the commits of HEAD, oldest first; `since` is a commit that they come after, or a date.

    Raises:
        UsageError: when there are none.
    """
    chosen = ["HEAD"]
    if since:
        try:
            after = git(repo, "rev-parse", "--verify", "-q", f"{since}^{{commit}}").strip()
            chosen = [f"{after}..HEAD"]
        except UsageError:
            chosen = [f"--since={since}", "HEAD"]
    return git(repo, "rev-list", "--reverse", "--topo-order", *chosen).split()


def patch_of(repo: Path, commit: Commit, *, tests: bool) -> str:
    """Return a commit's changes to its tests, or to all else, as a patch."""
    paths = [path for path in (*commit.changed, *commit.deleted) if is_test(path) == tests]
    if not paths:
        return ""
    return git(
        repo,
        "diff-tree",
        "-p",
        "--binary",
        "--full-index",
        "--no-renames",
        commit.parent,
        commit.id,
        "--",
        *paths,
    )


def file_at(repo: Path, commit: str, path: str) -> bytes:
    """A file's content in a commit."""
    return os.fsencode(git(repo, "show", f"{commit}:{path}"))


def names_in(repo: Path, commit: str) -> list[str]:
    """The files of a commit."""
    return [name for name in git(repo, "ls-tree", "-r", "-z", "--name-only", commit).split("\0") if name]


def mode_at(repo: Path, commit: str, path: str) -> str:
    """A file's mode in a commit, as git writes it."""
    return git(repo, "ls-tree", commit, "--", path).partition(" ")[0]
