"""`harness apply`: a trial's diff on somebody's checkout, merged with what has changed there, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.records.patch import apply_diff
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from tests.support.folders import write_files
from tests.support.git_server import git
from tests.support.records import a_record

STARTER = {"a.txt": "one\ntwo\nthree\nfour\nfive\nsix\n", "bin": b"\0\1"}


def checkout(root: Path, files: dict[str, str | bytes] | None = None) -> Path:
    """A repository with the starter's files committed."""
    folder = root / "checkout"
    folder.mkdir()
    git("init", "-q", "-b", "main", str(folder))
    commit(folder, {**STARTER, **(files or {})})
    return folder


def commit(folder: Path, files: dict[str, str | bytes]) -> None:
    write_files(folder, files)
    git("-C", str(folder), "add", "-A")
    git("-C", str(folder), "commit", "-q", "-m", "change")


def diff(root: Path, files: dict[str, str | bytes]) -> bytes:
    """What an agent changed in the starter's files."""
    work = root / "work"
    work.mkdir()
    folder = checkout(work)
    write_files(folder, files)
    git("-C", str(folder), "add", "-A")
    return git("-C", str(folder), "diff", "--cached", "--binary").encode()


def stored(root: Path, patch: bytes | None) -> Path:
    """A results folder with one trial of this diff."""
    run = RunFolder.create(root / "results", "run", {}, NO_REDACTION)
    path = run.trial("answer", "default", 1).write("diff.patch", patch) if patch is not None else None
    run.append(a_record(run_id="run", trial_id="answer[default-t1]", diff=path))
    return root / "results"


BETTER = {"a.txt": "one\ntwo\nthree\nfour\nfive\nSIX\n", "new/b.txt": "b\n", "bin": b"\0\2"}


def test_a_diff_is_laid_over_a_checkout(tmp_path: Path) -> None:
    """New and binary files too; staged, and said."""
    results, to = stored(tmp_path, diff(tmp_path, BETTER)), checkout(tmp_path)
    said = apply_diff(results, None, "answer", to)
    assert {name: (to / name).read_bytes() for name in BETTER} == {
        name: text.encode() if isinstance(text, str) else text for name, text in BETTER.items()
    }
    assert "3 files changed" in said
    assert git("-C", str(to), "diff", "--cached", "--name-only").split() == ["a.txt", "bin", "new/b.txt"]


def test_it_is_merged_with_what_has_changed(tmp_path: Path) -> None:
    results, to = stored(tmp_path, diff(tmp_path, BETTER)), checkout(tmp_path)
    commit(to, {"a.txt": "ONE\ntwo\nthree\nfour\nfive\nsix\n"})
    apply_diff(results, None, "answer", to)
    assert (to / "a.txt").read_text() == "ONE\ntwo\nthree\nfour\nfive\nSIX\n"


def test_it_can_go_below_a_folder(tmp_path: Path) -> None:
    """Where the starter repo was a part of a larger one."""
    results, to = stored(tmp_path, diff(tmp_path, BETTER)), checkout(tmp_path)
    commit(to, {f"sub/dir/{name}": content for name, content in STARTER.items()})
    apply_diff(results, None, "answer", to / "sub" / "dir")
    assert (to / "sub/dir/new/b.txt").read_text() == "b\n"
    assert (to / "a.txt").read_text() == STARTER["a.txt"]


def test_a_conflict_is_told(tmp_path: Path) -> None:
    """With the files, and the way back."""
    results, to = stored(tmp_path, diff(tmp_path, BETTER)), checkout(tmp_path)
    commit(to, {"a.txt": "one\ntwo\nthree\nfour\nfive\n6\n"})
    with pytest.raises(UsageError, match=r"conflicts in: a.txt\n.*reset --hard"):
        apply_diff(results, None, "answer", to)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    results, to = stored(tmp_path, diff(tmp_path, BETTER)), tmp_path / "other"
    to.mkdir()
    git("init", "-q", "-b", "main", str(to))
    commit(to, {"z.txt": "z\n"})
    with pytest.raises(UsageError, match="does not fit"):
        apply_diff(results, None, "answer", to)
    assert git("-C", str(to), "status", "--porcelain") == ""


def test_changes_of_ones_own_are_not_mixed_in(tmp_path: Path) -> None:
    """New files are no changes."""
    results, to = stored(tmp_path, diff(tmp_path, BETTER)), checkout(tmp_path)
    write_files(to, {"a.txt": "mine\n", "mine.txt": "mine\n"})
    with pytest.raises(UsageError, match=r"not committed: a.txt\n"):
        apply_diff(results, None, "answer", to)
    assert (to / "a.txt").read_text() == "mine\n"


def test_no_diff_reaches_beyond_the_checkout(tmp_path: Path) -> None:
    """What an agent wrote is not trusted."""
    evil = diff(tmp_path, {"x": "x\n"}).replace(b"b/x", b"b/../x").replace(b"a/x", b"a/../x")
    results, to = stored(tmp_path, evil), checkout(tmp_path)
    with pytest.raises(UsageError, match="does not fit"):
        apply_diff(results, None, "answer", to)
    assert not (tmp_path / "x").exists()


def test_where_there_is_nothing_to_apply(tmp_path: Path) -> None:
    """Each is said in words."""
    to = checkout(tmp_path)
    for name, patch in (("none", None), ("empty", b"")):
        (tmp_path / name).mkdir()
        results = stored(tmp_path / name, patch)
        if patch is None:
            with pytest.raises(UsageError, match="has no diff"):
                apply_diff(results, None, "answer", to)
        else:
            assert "changed nothing" in apply_diff(results, None, "answer", to)
    results = stored(tmp_path, diff(tmp_path, BETTER))
    with pytest.raises(UsageError, match="no git checkout"):
        apply_diff(results, None, "answer", tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        apply_diff(results, None, "answer", tmp_path / "nowhere")
