"""The work: what of an agent's sandbox is carried to where it is judged, and what cannot be."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from harness.tasks.loading import load_task
from harness.tasks.task import Task
from harness.trials.work import NotCarriedError
from tests.support.folders import task_folder
from tests.support.grading import collected, laid, protecting_task

SMALL = "[checks.work]\nmax_mb = 2\nmax_files = 300\nmax_depth = 20\n"


def small_task(root: Path) -> Task:
    """One whose work may not be much."""
    return protecting_task(root, SMALL, protect="")


def names(tar: Path) -> set[str]:
    told = subprocess.run(["tar", "-tf", tar], capture_output=True, check=True, text=True).stdout
    return set(told.splitlines())


def test_the_work_is_the_repo_without_its_history(server: LocalServer, tmp_path: Path) -> None:
    """Hidden files, empty folders and nested repos are of it; the .git at its top is not."""
    task = protecting_task(tmp_path)
    script = "mkdir empty sub && git init -q sub && echo x >.hidden && rm -r tests"
    found = names(collected(server, task, script, tmp_path / "kept").repo)
    assert {"./.hidden", "./empty/", "./sub/.git/HEAD", "./src/app.py"} <= found
    assert not {name for name in found if name.startswith(("./.git/", "./tests"))}


@pytest.mark.parametrize("size", [1_000, 300_000], ids=["small", "large"])
def test_files_arrive_as_they_were(server: LocalServer, tmp_path: Path, size: int) -> None:
    """Bytes, modes, links as links, names of any bytes; the tar is answered at once, or by a file."""
    task = protecting_task(tmp_path)
    script = f"""
head -c {size} /dev/urandom >noise; sha256sum noise >noise.sum
echo '#!/bin/sh' >tool; chmod 751 tool
ln -s ../../outside link; mkdir empty; mkfifo fifo
echo x >$'odd \\n \\xff -name'; echo x >--checkpoint-action=exec=touch
"""
    look = """
sha256sum -c noise.sum; stat -c '%a %F' tool empty fifo; readlink link
ls -d $'odd \\n \\xff -name' ./--checkpoint-action=exec=touch | wc -l
"""
    _, seen = laid(server, task, collected(server, task, script, tmp_path / "kept"), look)
    assert seen.splitlines() == [
        "noise: OK",
        "751 regular file",
        "755 directory",
        "644 fifo",
        "../../outside",
        "3",
    ]


STILL_CARRIED: Mapping[str, str] = {
    "locked away": "echo x >kept; chmod 000 kept src .; chmod 000 ~",
    "the harness's folder gone": "echo x >kept; rm -rf ~/.harness",
    "the harness's folder a file": "echo x >kept; rm -rf ~/.harness; echo x >~/.harness",
    "the harness's folder a FIFO": "echo x >kept; rm -rf ~/.harness; mkfifo ~/.harness",
    "the harness's folder a loop": "echo x >kept; rm -rf ~/.harness; ln -s .harness ~/.harness",
    "start-up files": "echo x >kept; for f in .profile .bash_profile .bashrc; do echo 'echo y; exit 0' >~/$f; done",
    "sparse": "echo x >kept; truncate -s 100G sparse",
    "a socket": "echo x >kept; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
    "a link to itself": "echo x >kept; ln -s loop loop",
    "a daemon that writes on": "echo x >kept; setsid sh -c 'while :; do date >>log; done' >/dev/null 2>&1 &",
    "killall tail": "echo x >kept; pkill -9 tail; true",
}


@pytest.mark.parametrize("name", STILL_CARRIED)
def test_odd_things_do_not_lose_the_work(server: LocalServer, tmp_path: Path, name: str) -> None:
    """What an honest agent may do by accident does not keep its work from being judged."""
    task = protecting_task(tmp_path)
    work = collected(server, task, STILL_CARRIED[name], tmp_path / "kept")
    assert laid(server, task, work, "cat kept")[1] == "x\n"


NOT_CARRIED: Mapping[str, tuple[str, str]] = {
    "gone": ("rm -rf ~/repo", "it is no folder any more"),
    "a file": ("rm -rf ~/repo; echo x >~/repo", "it is no folder any more"),
    "a FIFO": ("rm -rf ~/repo; mkfifo ~/repo", "it is no folder any more"),
    "a link": ("mv ~/repo ~/moved; ln -s moved ~/repo", "it is no folder any more"),
    "a link elsewhere": ("rm -rf ~/repo; ln -s /etc ~/repo", "it is no folder any more"),
    "too many files": ("mkdir m; cd m; seq 400 | xargs touch", "more than 300 files"),
    "too deep": ("mkdir -p $(yes d | head -30 | tr '\\n' /)", "folders more than 20 deep"),
    "a very long path": (
        "for i in $(seq 19); do n=$(printf 'd%.0s' $(seq 220)); mkdir $n; cd $n; done",
        "a path of more than 4000 bytes",
    ),
    "too large": ("head -c 3000000 /dev/urandom >big", "more than 2048 KiB on disk"),
}


@pytest.mark.parametrize("name", NOT_CARRIED)
def test_what_cannot_be_carried_says_why(server: LocalServer, tmp_path: Path, name: str) -> None:
    """By the agent's doing, within bounds of files, bytes and depth, before anything is packed."""
    script, why = NOT_CARRIED[name]
    task = small_task(tmp_path)
    with pytest.raises(NotCarriedError, match=why):
        collected(server, task, script, tmp_path / "kept")


def test_what_is_left_out_does_not_count(server: LocalServer, tmp_path: Path) -> None:
    """`leave` names what is not carried, however much it is."""
    task = protecting_task(tmp_path, SMALL, protect='leave = ["node_modules/*", "*.log"]')
    script = "mkdir node_modules; cd node_modules; seq 400 | xargs touch; cd ..; echo x >a.log; echo x >kept"
    found = names(collected(server, task, script, tmp_path / "kept").repo)
    assert "./kept" in found
    assert not {name for name in found if name.endswith(".log") or name.startswith("./node_modules/")} - {
        "./node_modules/"
    }


def test_what_the_task_names_beside_the_repo_is_carried(server: LocalServer, tmp_path: Path) -> None:
    """A folder, a file, and that something is not there; with its modes, and owned by the user below the home."""
    paths = ["/home/user/.config/app", "/home/user/notes", "/home/user/gone"]
    task = protecting_task(tmp_path, protect=f"carry = {paths}")
    script = "cd ~; mkdir -p .config/app; echo 1 >.config/app/a; chmod 600 .config/app/a; echo n >notes; echo s >not"
    work = collected(server, task, script, tmp_path / "kept")
    assert [(path, file is not None) for path, file in work.carried] == [
        (paths[0], True),
        (paths[1], True),
        (paths[2], False),
    ]
    look = "cat ~/.config/app/a ~/notes; stat -c '%a %U' ~/.config/app/a; ls ~"
    assert laid(server, task, work, look)[1].split() == ["1", "n", "600", "user", "notes", "repo"]


def test_what_the_task_names_beside_the_repo_has_the_same_bounds(server: LocalServer, tmp_path: Path) -> None:
    """And its name is told."""
    task = protecting_task(tmp_path, SMALL, protect='carry = ["/home/user/data"]')
    with pytest.raises(NotCarriedError, match=r"^/home/user/data cannot be carried: .*more than 300 files"):
        collected(server, task, "mkdir ~/data; cd ~/data; seq 400 | xargs touch", tmp_path / "kept")


def test_what_was_installed_elsewhere_is_named(server: LocalServer, tmp_path: Path) -> None:
    """An honest agent that installed a package outside of the repo must be understood at once."""
    task = load_task(task_folder(tmp_path))
    script = "d=$(python3 -m site --user-site); mkdir -p $d/nicelib; echo x >$d/nicelib/__init__.py"
    outside = collected(server, task, script, tmp_path / "kept").outside
    assert [name.rpartition("/site-packages/")[2] for name in outside] == ["nicelib/__init__.py"]
    assert collected(server, task, "echo 42 >answer.txt", tmp_path / "kept").outside == ()


@pytest.mark.usefixtures("as_e2b")
def test_a_work_that_spoils_each_sandbox_it_is_judged_in_has_failed(pytester: pytest.Pytester) -> None:
    """What the work does as `[checks] prepare` runs it is its own doing: no error that nobody counts."""
    deep = f"rm question.txt; mkdir question.txt && cd -P question.txt || exit; name={'d' * 250}; "
    deep += "for i in {1..40}; do mkdir $name && cd -P $name; done"
    toml = '[checks]\nprotect = ["question.txt"]\nprepare = "bash spoil.sh"\n'
    solution = {"spoil.sh": deep, "answer.txt": "42\n"}
    task_folder(pytester.path / "tasks", toml=toml, solution=solution)
    pytester.runpytest("tasks", "--agent", "oracle").assert_outcomes(failed=1)
    (run,) = list_runs(pytester.path / "results")
    (record,) = read_records(run.path).records
    assert (record.outcome, record.error, [check.passed for check in record.checks]) == (
        "failed",
        None,
        [False],
    )
    assert any(
        "could not be graded in any of 3 sandboxes: the checks could not be put" in n for n in record.notes
    )
