"""`harness new`: a task that validates at once."""

from __future__ import annotations

from pathlib import Path

from harness.authoring.commits import git, read_commit, top_of
from harness.authoring.mine import PROVEN, Say, prove_commit
from harness.authoring.writing import new_folder, write_example, write_of_repo
from harness.errors import UsageError
from harness.runs.options import Options
from harness.tasks.tomlfile import display_path


def new(
    name: str,
    tasks: Path,
    repo: Path | None,
    commit: str | None,
    options: Options,
    say: Say = lambda line: None,
) -> str:
    """Make a task; what is to be said of it.

    Args:
        name: the task's.
        tasks: the folder that it is put in.
        repo: a repository of this machine that it is about; by default, with a commit, the one that this is run in.
        commit: the commit that it is made of; None: an example to be changed.
        options: where a commit's tests are run.
        say: hears what goes on meanwhile.

    Raises:
        UsageError: when it cannot be made.
    """
    folder = new_folder(tasks, name)
    if commit is not None:
        top = top_of(repo or Path())
        verdict = prove_commit(top, read_commit(top, commit), folder, options, say)
        if verdict != PROVEN:
            raise UsageError(
                f"commit {commit} makes no task: {verdict}",
                remedy="choose another, or leave --from-commit out",
            )
    elif repo is not None:
        top = top_of(repo)
        write_of_repo(folder, top, git(top, "rev-parse", "HEAD").strip())
    else:
        write_example(folder)
    shown = display_path(folder.absolute())
    return f"{shown}\n  change its prompt, checks and solution; then: harness validate {shown}\n"
