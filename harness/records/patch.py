"""`harness apply`: what a trial's agent changed, laid over a checkout."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.records.files import MAX_LINE, file_below
from harness.records.reading import find_record, find_run
from harness.tasks.gitcommand import local_git
from harness.text import keep_end

_SAID = 2000


def apply_diff(results: Path, run: str | None, trial: str, to: Path) -> str:
    """Apply a trial's diff to the checkout that the folder `to` is, or is in, and say what has changed.

    The changes are staged, and nothing is committed. The starter repo's root is `to`.

    Raises:
        UsageError: when there is no diff, `to` is no clean checkout, or the diff does not fit.
    """
    folder = find_run(results, run)
    record = find_record(folder, trial)
    if record.diff is None:
        raise UsageError(f"{record.trial_id} has no diff", remedy="`harness show` tells what there is of it")
    diff = file_below(folder.path, record.diff).absolute()
    if not diff.is_file():
        raise UsageError(f"{diff} is not there any more", remedy="name another run with --run")
    if diff.stat().st_size > MAX_LINE:
        raise UsageError(
            f"{diff} has more than {MAX_LINE // 2**20} MiB", remedy="harness makes none that large"
        )
    top = _clean_checkout(to)
    if diff.stat().st_size == 0:
        return f"{record.trial_id} changed nothing\n"
    below = to.resolve().relative_to(top).as_posix()
    where = [f"--directory={below}"] if below != "." else []
    fits, said = _git(top, "apply", "--3way", "--whitespace=nowarn", *where, str(diff))
    if not fits:
        raise _does_not_fit(record.trial_id, top, said)
    _, stat = _git(top, "diff", "--cached", "--stat")
    return f"{stat}{record.trial_id} is applied to {to}: staged, not committed\n"


def _clean_checkout(to: Path) -> Path:
    """The root of the checkout. What it has changed itself would be mixed up with the diff."""
    if not to.is_dir():
        raise UsageError(f"{to} is not a folder", remedy="name a checkout with --to")
    is_checkout, told = _git(to, "rev-parse", "--show-toplevel")
    if not is_checkout:
        raise UsageError(f"{to} is in no git checkout", remedy="name one with --to, or `git init` it")
    top = Path(told.removesuffix("\n"))
    changed = _git(top, "status", "--porcelain", "--untracked-files=no")[1].splitlines()
    if changed:
        more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UsageError(
            f"{top} has changes that are not committed: {', '.join(line[3:] for line in changed[:3])}{more}",
            remedy="commit or stash them first",
        )
    return top


def _does_not_fit(trial: str, top: Path, said: str) -> UsageError:
    unmerged = _git(top, "diff", "--name-only", "--diff-filter=U")[1].splitlines()
    if unmerged:
        return UsageError(
            f"{trial} is applied to {top}, but for conflicts in: {', '.join(unmerged)}",
            remedy=f"resolve them, or take all of it back: git -C {top} reset --hard",
        )
    return UsageError(
        f"{trial} does not fit {top}, which is as it was: {keep_end(' '.join(said.split()), _SAID)}",
        remedy="check out what the starter repo was made from",
    )


def _git(folder: Path, *arguments: str) -> tuple[bool, str]:
    """Run git: true if it could do it, and its words. The files are the user's own, so their settings count."""
    done = local_git(folder, *arguments, with_users_settings=True)
    return done.returncode == 0, (done.stderr if done.returncode else done.stdout).decode("utf-8", "replace")
