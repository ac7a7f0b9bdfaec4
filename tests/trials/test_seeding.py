"""The starter repo in a sandbox, before an agent comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import TaskFault
from harness.local.launch import LocalServer
from harness.sandboxes.sandbox import Sandbox
from harness.trials.seeding import run_setup, seed
from tests.support.grading import STARTER, protecting_task
from tests.support.sandboxes import bash, with_sandbox


def test_the_repo_has_one_commit_and_nothing_to_commit(server: LocalServer, tmp_path: Path) -> None:
    """No history can leak the fix; what a .gitignore names is committed too."""
    task = protecting_task(tmp_path)
    assert task.repo
    (task.repo / ".gitignore").write_text("conftest.py\n")

    async def look(sandbox: Sandbox) -> list[str]:
        await seed(sandbox, task, extra={".harness/extra": b"extra"})
        assert await sandbox.read(".harness/extra") == b"extra"
        return (await bash(sandbox, "git log --format=%s; git status --porcelain; git ls-files")).splitlines()

    assert with_sandbox(server, look) == ["Initial commit", ".gitignore", *sorted(STARTER)]


def test_the_checks_and_the_prompts_are_not_there(server: LocalServer, tmp_path: Path) -> None:
    """An agent finds nothing of what it will be judged by, nor what it will be asked."""
    task = protecting_task(tmp_path)

    async def look(sandbox: Sandbox) -> str:
        await seed(sandbox, task)
        return await bash(sandbox, "cd ~ && find . -path ./repo -prune -o -type f -print | sort")

    assert with_sandbox(server, look) == "./.harness/baseline\n"


def test_what_the_setup_made_is_not_committed(server: LocalServer, tmp_path: Path) -> None:
    """Its files are there as the commands left them."""
    task = protecting_task(tmp_path, "[setup]\nrun = ['echo made >made.txt', 'pwd >>made.txt']\n")

    async def look(sandbox: Sandbox) -> str:
        await seed(sandbox, task)
        return await bash(sandbox, "git status --porcelain; cat made.txt")

    assert with_sandbox(server, look) == "?? made.txt\nmade\n/home/user/repo\n"


def test_a_sandbox_that_is_set_up_is_not_seeded_again(server: LocalServer, tmp_path: Path) -> None:
    """One from a snapshot has the repo and the setup; only what comes with the trial is added."""
    task = protecting_task(tmp_path, "[setup]\nrun = ['echo made >>made.txt']\n")

    async def look(sandbox: Sandbox) -> str:
        await seed(sandbox, task)
        again = (await seed(sandbox, task, extra={".harness/extra": b"extra\n"}, is_set_up=True)).baseline
        assert again.home == "/home/user"
        return await bash(sandbox, "cat made.txt ~/.harness/extra; git log --format=%s")

    assert with_sandbox(server, look) == "made\nextra\nInitial commit\n"


def test_a_setup_that_fails_says_why(server: LocalServer, tmp_path: Path) -> None:
    """With the command, its exit code and its words; nothing after it is run."""
    task = protecting_task(tmp_path, "[setup]\nrun = ['echo broken >&2; exit 3', 'touch ~/never']\n")

    async def look(sandbox: Sandbox) -> str:
        await sandbox.run("mkdir -p ~/repo")
        with pytest.raises(TaskFault, match=r"ended with 3: broken"):
            await run_setup(sandbox, task)
        return await bash(sandbox, "ls ~")

    assert with_sandbox(server, look) == "repo\n"


def test_the_baseline_tells_where_and_whose_the_home_is(server: LocalServer, tmp_path: Path) -> None:
    """Later steps run as root, and need both."""
    task = protecting_task(tmp_path)

    async def look(sandbox: Sandbox) -> tuple[str, str, str]:
        baseline = (await seed(sandbox, task)).baseline
        assert baseline.since.isdigit()
        return baseline.owner, baseline.home, await bash(sandbox, 'echo "$(id -u):$(id -g)"')

    owner, home, asked = with_sandbox(server, look)
    assert (owner, home) == (asked.strip(), "/home/user")
