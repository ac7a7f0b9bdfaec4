"""The repo in the sandbox, put there and watched over: whatever an agent does to it, the checks find what they need."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.local.launch import LocalServer
from harness.sandboxes.archive import pack, pack_folder, unpack_command
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.shell import run_without_profile
from harness.tasks.loading import load_task
from harness.tasks.task import Task
from harness.trials.protect import restore
from harness.trials.workspace import Baseline, NoDiffError, seed, stop_processes, stop_script, take_diff
from tests.support.folders import task_folder, write_files
from tests.support.sandboxes import bash, with_sandbox

STARTER = {
    "src/app.py": "print('app')\n",
    "tests/test_app.py": "assert True\n",
    "tests/data/in.txt": "in\n",
    "conftest.py": "# starter\n",
}
PROTECT = 'protect = ["tests/**", "conftest.py", "deep/er/*.txt"]'


def task_with(root: Path, toml: str = "", protect: str = PROTECT) -> Task:
    return load_task(task_folder(root, toml=f"[checks]\n{protect}\n{toml}", repo=STARTER))


# What goes in


def names(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


def test_a_folder_is_packed_without_its_leftovers(tmp_path: Path) -> None:
    """No caches, no history; owners, times and odd bits are everybody's, links stay links."""
    write_files(
        tmp_path,
        {"a.py": "a", "b/run.sh": "b", ".git/HEAD": "ref", "b/__pycache__/a.pyc": "c", ".DS_Store": ""},
    )
    (tmp_path / "b" / "run.sh").chmod(0o777)
    (tmp_path / "a.py").chmod(0o400)
    (tmp_path / "link").symlink_to("a.py")
    found = names(pack_folder(tmp_path, "1"))
    assert sorted(found) == [".", "./a.py", "./b", "./b/run.sh", "./link"]
    assert (found["./b/run.sh"].mode, found["./a.py"].mode) == (0o755, 0o600)
    assert found["./link"].linkname == "a.py"
    assert {(info.uid, info.uname, info.mtime) for info in found.values()} == {(0, "", 1735689600)}


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    """Whenever and wherever it was written."""
    for name in ("one", "two"):
        write_files(tmp_path / name, dict(sorted(STARTER.items(), reverse=name == "two")))
    assert pack({}, {"repo": tmp_path / "one"}) == pack({}, {"repo": tmp_path / "two"})


def test_a_version_is_packed_once(tmp_path: Path) -> None:
    """All trials of it get the same, whatever becomes of the folder meanwhile; another version is packed anew."""
    write_files(tmp_path, {"a": "a", "b": "b"})
    paths, one, two = {"repo": tmp_path}, {"repo": "one"}, {"repo": "two"}
    first = pack({}, paths, one), pack_folder(tmp_path, "one")
    write_files(tmp_path, {"a": "longer"})
    (tmp_path / "b").unlink()
    assert (pack({}, paths, one), pack_folder(tmp_path, "one")) == first
    assert sorted(names(first[0])) == ["repo", "repo/a", "repo/b"]
    assert sorted(names(pack({}, paths, two))) == ["repo", "repo/a"]
    assert sorted(names(pack_folder(tmp_path, "two"))) == [".", "./a"]
    assert pack({}, paths) == pack({}, paths, two)


def test_a_large_archive_is_zipped_and_whole(tmp_path: Path) -> None:
    """A large folder, which is zipped once, and what is small beside it; for any tar."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "large").write_bytes(bytes(300_000))
    data = pack({"prompt.md": b"do it"}, {"repo": tmp_path / "repo"})
    assert len(data) < 10_000
    (tmp_path / "packed.tar").write_bytes(data)
    subprocess.run(["tar", "-xf", "packed.tar", "-C", "."], cwd=tmp_path, check=True)
    assert (tmp_path / "prompt.md").read_bytes() == b"do it"
    assert sorted(names(data)) == ["prompt.md", "repo", "repo/large"]


@given(
    st.one_of(
        st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
    )
)
@example(bytes(9) + b"07%d\\0\\x4'\n" + bytes(1))
@settings(max_examples=60)
def test_what_goes_with_a_command_arrives(content: bytes) -> None:
    """Any bytes, through a real bash and a real tar."""
    with tempfile.TemporaryDirectory() as folder:
        command = unpack_command(pack({"-a": content, "b": b""}, {}))
        assert command
        subprocess.run(["bash", "-c", command], cwd=folder, check=True)
        assert Path(folder, "-a").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        (b"text%" * 4_000, True),
        (b"text%" * 30_000, False),
        (b"text%" * 2_000_000, True),
        (random.Random(1).randbytes(20_000), True),
        (random.Random(1).randbytes(70_000), True),
        (random.Random(1).randbytes(110_000), False),
        (random.Random(1).randbytes(5_000_000), False),
    ],
    ids=["text", "much text", "text to zip", "noise", "more noise", "much noise", "noise to zip"],
)
def test_only_what_fits_goes_with_a_command(tmp_path: Path, content: bytes, fits: bool) -> None:
    """The kernel takes so much for an argument; for more than that there is no such command."""
    command = unpack_command(pack({"a": content}, {}))
    assert (command is not None) == fits
    if command:
        assert len(command) < 128 * 1024
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
        assert (tmp_path / "a").read_bytes() == content


def test_a_linked_folder_is_packed_as_a_folder(tmp_path: Path) -> None:
    """A task may have its repo by a link."""
    write_files(tmp_path / "real", {"a": "a"})
    (tmp_path / "repo").symlink_to("real")
    assert sorted(names(pack_folder(tmp_path / "repo", "1"))) == [".", "./a"]
    assert sorted(names(pack({}, {"repo": tmp_path / "repo"}, {"repo": "1"}))) == ["repo", "repo/a"]


def test_the_repo_has_one_commit_and_nothing_to_commit(server: LocalServer, tmp_path: Path) -> None:
    """No history can leak the fix."""
    task = task_with(tmp_path)

    async def look(sandbox: Sandbox) -> list[str]:
        await seed(sandbox, task, {".harness/extra": b"extra"})
        assert await sandbox.read(".harness/extra") == b"extra"
        assert await sandbox.read(".harness/turn-1/prompt.md") == b"Write 42 into answer.txt.\n"
        return (await bash(sandbox, "git log --format=%s; git status --porcelain; git ls-files")).splitlines()

    assert with_sandbox(server, look) == ["Initial commit", *sorted(STARTER)]


# What the agent did


async def after(sandbox: Sandbox, task: Task, script: str) -> Baseline:
    """The repo after an agent that ran a script, and was stopped."""
    baseline = await seed(sandbox, task, {})
    done = await sandbox.run(f"cd ~/repo\n{script}", env={"HARNESS_TRIAL": "trial"})
    assert done.exit_code == 0, done.stderr
    await stop_processes(sandbox, baseline, stop_script(baseline, private=False, mark="trial"))
    return baseline


WORK = """
echo "print('better')" >src/app.py
printf '\\0\\1\\2' >binary
mkdir new && echo ü >'new/ü b.txt'
git rm -q --cached conftest.py && rm conftest.py
echo ignored >.gitignore && touch ignored
printf 'a\\r\\nb\\r\\n' >ending.txt
"""


@pytest.mark.parametrize(
    "more",
    [
        *("", "git add -A && git commit -qm done", "rm -rf .git", "git config diff.noprefix true"),
        *(r"printf 'caf\351\n' >ending.txt", r"printf 'caf\357\277\275\n' >ending.txt"),
    ],
)
def test_the_diff_is_what_the_agent_did(server: LocalServer, tmp_path: Path, more: str) -> None:
    """New and binary files too, whether it was committed, hidden or done away with; it can be applied."""
    task = task_with(tmp_path)

    async def look(sandbox: Sandbox) -> tuple[bytes, str]:
        baseline = await after(sandbox, task, WORK + more)
        diff = await take_diff(sandbox, baseline)
        await sandbox.write("diff.patch", diff)
        await seed_again(sandbox, task)
        return diff, await bash(
            sandbox,
            "git apply ~/diff.patch && cat src/app.py 'new/ü b.txt' && wc -c <binary && od -An -tx1 ending.txt && ls",
        )

    diff, applied = with_sandbox(server, look)
    assert b"new/\xc3\xbc b.txt" in diff
    ending = {"351": "63 61 66 e9 0a", "357": "63 61 66 ef bf bd 0a"}
    wanted = next((text for sign, text in ending.items() if sign in more), "61 0d 0a 62 0d 0a")
    left = ["binary", "ending.txt", "new", "src", "tests"]
    assert applied.split() == ["print('better')", "ü", "3", *wanted.split(), *left]


async def seed_again(sandbox: Sandbox, task: Task) -> None:
    await sandbox.run("rm -rf ~/repo ~/.harness")
    await seed(sandbox, task, {})


def test_no_change_is_an_empty_diff(server: LocalServer, tmp_path: Path) -> None:
    """Which is known, unlike one that could not be had."""
    task = task_with(tmp_path)

    async def look(sandbox: Sandbox) -> bytes:
        return await take_diff(sandbox, await after(sandbox, task, ""))

    assert with_sandbox(server, look) == b""


ALL_TESTS = {("tests/test_app.py", "deleted"), ("tests/data/in.txt", "deleted")}
TAMPERING: dict[str, tuple[str, set[tuple[str, str]]]] = {
    "nothing": ("echo x >src/app.py; touch -d 2001-01-01 tests/test_app.py", set()),
    "changed": ("echo assert False >tests/test_app.py", {("tests/test_app.py", "modified")}),
    "deleted": (
        "rm conftest.py tests/data/in.txt",
        {("conftest.py", "deleted"), ("tests/data/in.txt", "deleted")},
    ),
    "added": (
        "echo x >tests/sneaky.py; mkdir -p deep/er; echo y >deep/er/a.txt; echo z >deep/er/a.py",
        {
            ("tests/sneaky.py", "added"),
            ("deep/er/a.txt", "added"),
        },
    ),
    "odd name": ("echo x >$'tests/a\\nb \\xff.py'", {("tests/a\nb \udcff.py", "added")}),
    "folder gone": ("rm -rf tests", ALL_TESTS),
    "folder made a file": ("rm -rf tests; echo x >tests", {*ALL_TESTS, ("tests", "added")}),
    "folder made a link": ("mv tests moved; ln -s moved tests", {*ALL_TESTS, ("tests", "added")}),
    "file made a link": (
        "cp tests/test_app.py other; ln -sf ../other tests/test_app.py",
        {("tests/test_app.py", "modified")},
    ),
    "file made a folder": (
        "rm tests/test_app.py; mkdir tests/test_app.py; echo x >tests/test_app.py/a",
        {("tests/test_app.py", "deleted"), ("tests/test_app.py/a", "added")},
    ),
    "a FIFO": ("mkfifo tests/fifo", {("tests/fifo", "added")}),
    "locked away": ("chmod 000 tests/data tests/test_app.py tests", set()),
    "home locked away": ("chmod 000 ~", set()),
    "notes gone": ("rm -rf ~/.harness", set()),
    "notes made a file": ("rm -rf ~/.harness; echo x >~/.harness", set()),
    "repo locked away": ("chmod 000 .", set()),
    "repo gone": ("rm -rf ~/repo", {*ALL_TESTS, ("conftest.py", "deleted")}),
    "repo made a file": ("rm -rf ~/repo; echo x >~/repo", {*ALL_TESTS, ("conftest.py", "deleted")}),
    "repo made a link": ("mv ~/repo ~/moved; ln -s moved ~/repo", {*ALL_TESTS, ("conftest.py", "deleted")}),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_protected_files_are_as_they_were(server: LocalServer, tmp_path: Path, name: str) -> None:
    """Whatever was done to them, it is told, and undone; nothing that an agent leaves behind breaks the harness."""
    script, changes = TAMPERING[name]
    task = task_with(tmp_path)

    async def look(sandbox: Sandbox) -> tuple[set[tuple[str, str]], str]:
        baseline = await after(sandbox, task, script)
        with suppress(NoDiffError):
            await take_diff(sandbox, baseline)
        tampering = await restore(sandbox, task, baseline.protected)
        there = await bash(
            sandbox,
            "find tests conftest.py deep -type f 2>/dev/null | sort; cat tests/*.py conftest.py tests/data/in.txt",
        )
        return {(change.path, change.change) for change in tampering}, there

    found, there = with_sandbox(server, look)
    assert found == changes
    more = ["deep/er/a.py"] if name == "added" else []
    assert there.splitlines() == [
        "conftest.py",
        *more,
        "tests/data/in.txt",
        "tests/test_app.py",
        "assert True",
        "# starter",
        "in",
    ]


def test_what_stands_in_for_a_folder_above_goes(server: LocalServer, tmp_path: Path) -> None:
    """Also one that no pattern names: a file or a link in the place of `tests` when `tests/data/*.txt` is protected."""
    task = task_with(tmp_path, protect='protect = ["tests/data/*.txt"]')

    async def look(sandbox: Sandbox) -> list[str]:
        seen = []
        for script in ("rm -rf tests; echo x >tests", "rm -rf tests; mkdir other; ln -s other tests"):
            baseline = await after(sandbox, task, script)
            tampering = await restore(sandbox, task, baseline.protected)
            assert [(change.path, change.change) for change in tampering] == [
                ("tests/data/in.txt", "deleted")
            ]
            seen.append(await bash(sandbox, "cat tests/data/in.txt; find other 2>/dev/null; true"))
            await sandbox.run("rm -rf ~/repo ~/.harness")
        return seen

    assert with_sandbox(server, look) == ["in\n", "in\nother\n"]


def test_only_what_is_protected_is_looked_at(server: LocalServer, tmp_path: Path) -> None:
    """Links and FIFOs elsewhere are the agent's own, also where a pattern has no folder to start from."""
    task = task_with(tmp_path, protect='protect = ["**/*.txt"]')

    async def look(sandbox: Sandbox) -> tuple[list[str], str]:
        script = "mkdir -p node_modules/.bin; ln -s ../x node_modules/.bin/x; mkfifo fifo; ln -s x new.txt"
        baseline = await after(sandbox, task, script)
        tampering = await restore(sandbox, task, baseline.protected)
        return [change.path for change in tampering], await bash(
            sandbox, "ls -A node_modules/.bin *.txt fifo; true"
        )

    assert with_sandbox(server, look) == (["new.txt"], "fifo\n\nnode_modules/.bin:\nx\n")


def test_bytecode_beside_protected_files_goes(server: LocalServer, tmp_path: Path) -> None:
    """It could stand in for them; it is no tampering, since running the tests makes it."""
    task = task_with(tmp_path)

    async def look(sandbox: Sandbox) -> tuple[object, str]:
        baseline = await after(
            sandbox, task, "mkdir tests/__pycache__ && touch tests/__pycache__/test_app.cpython-312.pyc"
        )
        return await restore(sandbox, task, baseline.protected), await bash(sandbox, "ls tests")

    assert with_sandbox(server, look) == ((), "data\ntest_app.py\n")


def test_links_of_the_starter_repo_are_its_own(server: LocalServer, tmp_path: Path) -> None:
    """An untouched link is no tampering; one that was bent is put back."""
    task = task_with(tmp_path)
    assert task.repo
    (task.repo / "tests" / "link.txt").symlink_to("data/in.txt")

    async def look(sandbox: Sandbox) -> list[tuple[str, str]]:
        baseline = await after(sandbox, task, "")
        assert await restore(sandbox, task, baseline.protected) == ()
        await bash(sandbox, "ln -sfn ../src/app.py tests/link.txt")
        tampering = await restore(sandbox, task, baseline.protected)
        assert await bash(sandbox, "readlink tests/link.txt") == "data/in.txt\n"
        return [(change.path, change.change) for change in tampering]

    assert with_sandbox(server, look) == [("tests/link.txt", "modified")]


def test_what_the_setup_made_is_no_tampering(server: LocalServer, tmp_path: Path) -> None:
    """The agent got the repo as the task's setup left it; to that it is put back."""
    setup = "[setup]\nrun = ['echo made >tests/made.txt', 'echo set >>tests/data/in.txt']\n"
    task = task_with(tmp_path, setup)

    async def look(sandbox: Sandbox) -> tuple[list[tuple[str, str]], str]:
        baseline = await after(sandbox, task, "echo x >tests/made.txt; rm tests/data/in.txt")
        tampering = await restore(sandbox, task, baseline.protected)
        return [(change.path, change.change) for change in tampering], await bash(
            sandbox, "cat tests/made.txt tests/data/in.txt"
        )

    changes, there = with_sandbox(server, look)
    assert sorted(changes) == [("tests/data/in.txt", "deleted"), ("tests/made.txt", "modified")]
    assert there == "made\nin\nset\n"


LEFT_BEHIND = """
setsid bash -c 'while true; do date >>beat; sleep 0.01; done' >/dev/null 2>&1 &
(setsid bash -c 'trap "" TERM HUP INT; exec -a quiet sleep 1000' >/dev/null 2>&1 &)
until [ -s beat ]; do sleep 0.01; done
"""


@pytest.mark.parametrize("private", [True, False], ids=["all", "marked"])
def test_nothing_runs_on(server: LocalServer, tmp_path: Path, private: bool) -> None:
    """Left-behind processes are gone, in sessions of their own too; what was there before the agent stays."""
    if private and server.isolation != "bubblewrap":
        pytest.skip("the machine's own processes are in sight")
    task = task_with(tmp_path)

    async def look(sandbox: Sandbox) -> str:
        await sandbox.run("setsid sleep 2000 >/dev/null 2>&1 &")
        baseline = await seed(sandbox, task, {})
        await sandbox.run(f"cd ~/repo\n{LEFT_BEHIND}", env={"HARNESS_TRIAL": "mark"})
        await stop_processes(sandbox, baseline, stop_script(baseline, private=private, mark="mark"))
        return await bash(sandbox, "ps -eo args | grep -E 'sleep|beat' | grep -v grep")

    assert with_sandbox(server, look) == "sleep 2000\n"


def test_start_up_files_of_the_shell_have_no_say(server: LocalServer, tmp_path: Path) -> None:
    """A line in an agent's `.profile`, or in root's, cannot keep its processes alive or hide what it has done."""
    task = task_with(tmp_path)
    script = """
for home in ~ /root; do
  for name in .profile .bash_profile .bashrc; do echo 'echo aGlkZGVu; exit 0' >$home/$name; done
done 2>/dev/null
setsid sleep 1000 >/dev/null 2>&1 &
rm conftest.py
"""

    async def look(sandbox: Sandbox) -> list[str]:
        baseline = await after(sandbox, task, script)
        # One that has just been killed may still be in sight, as what it left.
        await bash_without_profile(sandbox, "! pgrep -r D,R,S,T -x sleep")
        assert b"deleted file" in await take_diff(sandbox, baseline)
        return [change.path for change in await restore(sandbox, task, baseline.protected)]

    assert with_sandbox(server, look) == ["conftest.py"]


async def bash_without_profile(sandbox: Sandbox, script: str) -> None:
    done = await run_without_profile(sandbox, script, timeout=90)
    assert (done.exit_code, done.stdout) == (0, "")
