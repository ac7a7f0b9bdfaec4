"""What grading makes of a work before any check: the repo, its diff, and protected files as they were."""

from __future__ import annotations

import asyncio
import io
import shlex
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.records.trial_spec import TrialSpec
from harness.sandboxes.shell import run_as_root
from harness.trials.checks import Place
from harness.trials.grading import Grade, UnusableWorkError, lay_work
from harness.trials.work import Work
from harness.variants.variant import DEFAULT
from tests.support.grading import (
    STARTER,
    collected,
    laid,
    open_fresh,
    protecting_task,
    with_place,
    work_after,
)

# The repo


def test_the_work_replaces_the_repo(server: LocalServer, tmp_path: Path) -> None:
    """What the agent deleted is gone; the history is the starter's again; nothing of the work's home is there."""
    task = protecting_task(tmp_path, protect="")
    script = (
        "rm conftest.py; echo x >new; git add -A; git commit -qm mine; rm -rf .git/refs; echo x >~/elsewhere"
    )
    work = collected(server, task, script, tmp_path / "kept")
    _, seen = laid(server, task, work, "ls; git log --format=%s; git status --porcelain; ls ~")
    assert seen.splitlines() == ["new", "src", "tests", "Initial commit", " D conftest.py", "?? new", "repo"]


@pytest.mark.parametrize("kilobytes", [40, 60, 90])
def test_a_starter_and_a_work_share_the_room_of_a_command(
    server: LocalServer, tmp_path: Path, kilobytes: int
) -> None:
    """Each would go with the command that lays both down; together they are more than the kernel takes for one."""
    task = protecting_task(tmp_path, protect="")
    assert task.repo
    (task.repo / "long").write_text("abcdefg\n" * 128 * kilobytes)
    work = collected(server, task, "echo x >new", tmp_path / "kept")
    grade, seen = laid(server, task, work, "ls; wc -c <long")
    assert seen.split() == ["conftest.py", "long", "new", "src", "tests", str(1024 * kilobytes)]
    assert b"+x" in (grade.diff or b"")


# The diff

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
    task = protecting_task(tmp_path, protect="")
    grade, _ = laid(server, task, collected(server, task, WORK + more, tmp_path / "kept"))
    assert grade.diff
    assert b"new/\xc3\xbc b.txt" in grade.diff
    assert grade.ignored == ("ignored",)
    diff = grade.diff

    async def apply(place: Place) -> str:
        await place.sandbox.write("diff.patch", diff)
        show = "cat src/app.py 'new/ü b.txt' && wc -c <binary && od -An -tx1 ending.txt && ls"
        done = await place.sandbox.run(f"cd ~/repo && git apply ~/diff.patch && {show}")
        assert done.exit_code == 0, done.stderr
        return done.stdout

    ending = {"351": "63 61 66 e9 0a", "357": "63 61 66 ef bf bd 0a"}
    wanted = next((text for sign, text in ending.items() if sign in more), "61 0d 0a 62 0d 0a")
    left = ["binary", "ending.txt", "new", "src", "tests"]
    assert with_place(server, task, apply).split() == ["print('better')", "ü", "3", *wanted.split(), *left]


def test_no_change_is_an_empty_diff(server: LocalServer, tmp_path: Path) -> None:
    """Which is known, unlike one that could not be had."""
    task = protecting_task(tmp_path)
    grade, _ = laid(
        server, task, collected(server, task, "touch -d 2001-01-01 src/app.py", tmp_path / "kept")
    )
    assert (grade.diff, grade.tampering, grade.notes) == (b"", (), ())


ME = "git config --global user.email a@b.c; git config --global user.name a"
SHOWN: Mapping[str, str] = {
    "a nested repo": f"{ME}; mkdir sub; cd sub; git init -q; echo shown >a; git add -A; git commit -qm x",
    "a nested repo that stops git": "mkdir -p sub/.git/{refs,objects}; mkfifo sub/.git/HEAD; echo shown >sub/a",
    "a nested repo without a commit": "mkdir -p sub; cd sub; git init -q; echo shown >a",
    "a submodule": (
        f"{ME}; git init -q sub; cd sub; git commit -q --allow-empty -m x; cd ..; "
        "git submodule -q add ./sub; echo shown >sub/a"
    ),
    "the user's ignore file": "mkdir -p ~/.config/git; echo '*' >~/.config/git/ignore; echo shown >a.py",
    "the repo's exclude file": "mkdir -p .git/info; echo '*' >.git/info/exclude; echo shown >a.py",
    "the user's settings": "git config --global core.excludesFile /dev/stdin; echo shown >a",
    "a filter": (
        "git config filter.hide.clean 'echo hidden'; echo '* filter=hide -diff' >.gitattributes; echo shown >a.py"
    ),
    "the repo's attributes": "mkdir -p .git/info; echo '* -diff binary' >.git/info/attributes; echo shown >a.py",
    "an untouched index": "echo shown >src/app.py; git update-index --assume-unchanged src/app.py",
    "a skipped index": "echo shown >src/app.py; git update-index --skip-worktree src/app.py",
    "a monitor": "printf '#!/bin/sh\\n' >~/m; chmod +x ~/m; git config core.fsmonitor ~/m; echo shown >src/app.py",
    "an index lock": "touch .git/index.lock; echo shown >a",
    "alternates": "mkdir -p .git/objects/info; echo /nowhere >.git/objects/info/alternates; echo shown >a",
    "a diff driver": (
        "git config diff.x.textconv 'echo hidden'; git config diff.external /bin/true; "
        "echo '*.py diff=x' >.gitattributes; echo shown >a.py"
    ),
    "a replaced commit": "echo shown >a; git add a; git commit -qm b; git replace HEAD~ HEAD",
    "a sparse checkout": "git sparse-checkout set src 2>/dev/null; echo shown >a",
    "odd modes": "echo shown >a; chmod 000 a",
    "a symbolic link": "ln -s shown a",
}


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_hides_from_the_diff(server: LocalServer, tmp_path: Path, name: str) -> None:
    """No settings, rules, locks or repos of the agent's own have a say: it is made by a git that it never touched."""
    task = protecting_task(tmp_path, protect="")
    grade, _ = laid(server, task, collected(server, task, SHOWN[name], tmp_path / "kept"))
    assert grade.diff, grade.notes
    assert b"\n+shown\n" in grade.diff


@pytest.mark.parametrize(
    ("script", "ignored"),
    [
        ("echo node_modules >.gitignore; mkdir node_modules; echo x >node_modules/a", ("node_modules/",)),
        ("echo '*' >.gitignore; echo x >a", ("a",)),
        ("mkdir d; echo '*' >d/.gitignore; echo x >d/a", ("d/a",)),
    ],
)
def test_what_an_ignore_rule_hides_is_named(
    server: LocalServer, tmp_path: Path, script: str, ignored: tuple[str, ...]
) -> None:
    """The rule itself is in the diff, also where it hides itself."""
    task = protecting_task(tmp_path, protect="")
    grade, _ = laid(server, task, collected(server, task, script, tmp_path / "kept"))
    assert grade.diff
    assert b".gitignore" in grade.diff
    assert grade.ignored == ignored


def test_rules_in_a_hidden_folder_are_no_work_of_the_agent(server: LocalServer, tmp_path: Path) -> None:
    """Packages that were installed bring rules of their own."""
    task = protecting_task(tmp_path, protect="")
    script = "echo node_modules >.gitignore; mkdir -p node_modules/p; echo build >node_modules/p/.gitignore"
    grade, _ = laid(server, task, collected(server, task, script, tmp_path / "kept"))
    assert grade.diff
    assert b"node_modules/p" not in grade.diff
    assert grade.ignored == ("node_modules/",)


def test_what_git_takes_from_nobody_is_named(server: LocalServer, tmp_path: Path) -> None:
    """Its own folder's name in other letters; what only other systems take for that name is in the diff."""
    script = "git init -q n; mkdir -p n/.Git a/.GIT 'git~1'; echo x | tee n/.Git/x >a/.GIT/x; echo shown >'git~1/x'"
    task = protecting_task(tmp_path, protect="")
    grade, _ = laid(server, task, collected(server, task, script, tmp_path / "kept"))
    assert grade.diff, grade.notes
    assert b"\n+shown\n" in grade.diff
    left = sorted(
        note.partition(" is left out of the diff: git takes no such name")[0] for note in grade.notes
    )
    assert left == ["a/.GIT", "n/.Git"]


@pytest.mark.parametrize("make", ["truncate -s 100G huge", "head -c 9000000 /dev/urandom >huge"])
def test_a_huge_file_leaves_only_itself_out(server: LocalServer, tmp_path: Path, make: str) -> None:
    """And a note says so. Sparse ones are no larger on the way than what is in them."""
    task = protecting_task(tmp_path, protect="")
    script = f"mkdir -p d; {make}; cp --sparse=always huge d/huge; echo shown >a"
    grade, _ = laid(server, task, collected(server, task, script, tmp_path / "kept"))
    assert grade.diff
    assert b"\n+shown\n" in grade.diff
    assert b"huge" not in grade.diff
    words = "is left out of the diff: it has more than 8 MiB"
    assert sorted(grade.notes) == [f"{name} {words}" for name in ("d/huge", "huge")]


def test_a_work_without_a_diff_is_judged_all_the_same(server: LocalServer, tmp_path: Path) -> None:
    """A git that fails says why there is none, if it says anything."""
    if server.isolation != "namespaces":
        pytest.skip(f"the {server.isolation} tier has this machine's git")
    task = protecting_task(tmp_path, protect="")
    work = collected(server, task, "echo x >new", tmp_path / "kept")

    async def lay(words: str) -> Grade:
        git = f"""#!/bin/sh\ncase $* in *' diff '*) {words}; exit 3 ;; esac\nexec /usr/bin/git "$@"\n"""
        async with open_fresh(server) as sandbox:
            spoil = f"printf %s {shlex.quote(git)} >/usr/local/bin/git && chmod 755 /usr/local/bin/git"
            assert (await run_as_root(sandbox, spoil, home="/home/user", timeout=60)).exit_code == 0
            _, grade = await lay_work(sandbox, TrialSpec(task, DEFAULT, 1, "oracle"), work)
            assert (await sandbox.run("cat ~/repo/new")).stdout == "x\n"
            return grade

    for words, why in (("echo out of order >&2", "out of order"), ("true", "git failed")):
        grade = asyncio.run(lay(words))
        assert (grade.diff, grade.notes) == (None, (f"there is no diff: {why}",))


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes", ".gitmodules", "src/.gitignore"])
@pytest.mark.parametrize("make", ["mkfifo", "mkdir", "ln -s /dev/zero", "ln -s ~", "truncate -s 1T"])
def test_a_rule_file_that_is_none_keeps_nothing_up(
    server: LocalServer, tmp_path: Path, name: str, make: str
) -> None:
    """Git would read a FIFO or a file without an end for ever."""
    task = protecting_task(tmp_path, protect="")
    grade, _ = laid(server, task, collected(server, task, f"{make} {name}; echo shown >a", tmp_path / "kept"))
    assert grade.diff, grade.notes
    assert b"\n+shown\n" in grade.diff


def test_what_the_setup_made_is_not_in_the_diff(server: LocalServer, tmp_path: Path) -> None:
    """The agent got the repo as the setup left it; what it changed of that is."""
    task = protecting_task(
        tmp_path, "[setup]\nrun = ['echo made >made.txt', 'echo other >other.txt']\n", protect=""
    )
    grade, _ = laid(server, task, collected(server, task, "echo mine >>made.txt", tmp_path / "kept"))
    assert grade.diff
    assert b"\n made\n+mine\n" in grade.diff
    assert b"other" not in grade.diff


# Protected files

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
        {("tests/sneaky.py", "added"), ("deep/er/a.txt", "added")},
    ),
    "odd name": ("echo x >$'tests/a\\nb \\xff.py'", {("tests/a\nb \udcff.py", "added")}),
    "names that are code": (
        r"""echo x >'tests/$(touch gone)`touch gone`.py'; echo y >'tests/@'; echo z >"tests/']*[\"\$x.py" """,
        {
            ("tests/$(touch gone)`touch gone`.py", "added"),
            ("tests/@", "added"),
            ("tests/']*[\"$x.py", "added"),
        },
    ),
    "hidden": ("echo x >tests/.pytest.ini", {("tests/.pytest.ini", "added")}),
    "folder gone": ("rm -rf tests", ALL_TESTS),
    "folder made a file": ("rm -rf tests; echo x >tests", {*ALL_TESTS, ("tests", "added")}),
    "folder made a link": ("mv tests moved; ln -s moved tests", {*ALL_TESTS, ("tests", "added")}),
    "folder within made a link": (
        "mv tests/data moved; ln -s ../moved tests/data",
        {("tests/data", "added"), ("tests/data/in.txt", "deleted")},
    ),
    "file made a link": (
        "cp tests/test_app.py other; ln -sf ../other tests/test_app.py",
        {("tests/test_app.py", "modified")},
    ),
    "file made a folder": (
        "rm tests/test_app.py; mkdir tests/test_app.py; echo x >tests/test_app.py/a",
        {("tests/test_app.py", "deleted"), ("tests/test_app.py/a", "added")},
    ),
    "file made a FIFO": (
        "rm tests/test_app.py; mkfifo tests/test_app.py",
        {("tests/test_app.py", "modified")},
    ),
    "file made without an end": ("truncate -s 1T tests/test_app.py", {("tests/test_app.py", "modified")}),
    "literal made a folder": ("rm conftest.py; mkdir conftest.py", {("conftest.py", "deleted")}),
    "literal made a link": ("mv conftest.py c; ln -s c conftest.py", {("conftest.py", "modified")}),
    "a FIFO": ("mkfifo tests/fifo", {("tests/fifo", "added")}),
    "a hard link": ("ln src/app.py tests/b.py", {("tests/b.py", "added")}),
    "of another mode": ("chmod -R 777 tests; touch -d 2001-01-01 tests/test_app.py", set()),
    "locked away": ("chmod 000 tests/data tests/test_app.py tests", set()),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_protected_files_are_as_they_were(server: LocalServer, tmp_path: Path, name: str) -> None:
    """Whatever was done to them, it is told, and the checks find the starter's."""
    script, changes = TAMPERING[name]
    task = protecting_task(tmp_path)
    look = """
find tests conftest.py deep -type f 2>/dev/null | sort
cat tests/*.py conftest.py tests/data/in.txt; test ! -L tests && test ! -L conftest.py && test -f src/app.py
find tests -type f -perm /111
"""
    grade, there = laid(server, task, collected(server, task, script, tmp_path / "kept"), look)
    assert {(change.path, change.change) for change in grade.tampering} == changes
    more = ["deep/er/a.py"] if name == "added" else []
    files = ["conftest.py", *more, "tests/data/in.txt", "tests/test_app.py"]
    assert there.splitlines() == [*files, "assert True", "# starter", "in"]


@pytest.mark.parametrize(
    "script", ["rm -rf tests; echo x >tests", "rm -rf tests; mkdir other; ln -s other tests"]
)
def test_what_stands_in_for_a_folder_above_goes(server: LocalServer, tmp_path: Path, script: str) -> None:
    """Also one that no pattern names: a file or a link in the place of `tests` when `tests/data/*.txt` is protected."""
    task = protecting_task(tmp_path, protect='protect = ["tests/data/*.txt"]')
    work = collected(server, task, script, tmp_path / "kept")
    grade, seen = laid(server, task, work, "cat tests/data/in.txt; find other -type f 2>/dev/null; true")
    assert {(change.path, change.change) for change in grade.tampering} == {
        ("tests", "added"),
        ("tests/data/in.txt", "deleted"),
    }
    assert seen == "in\n"


def test_a_protected_file_that_the_starter_lacks_may_not_come(server: LocalServer, tmp_path: Path) -> None:
    """Named without a wildcard it is no tampering while it is not there, and tampering when it is."""
    task = protecting_task(tmp_path, protect='protect = ["pytest.ini", "tests/**"]')
    grade, _ = laid(server, task, collected(server, task, "true", tmp_path / "one"))
    assert grade.tampering == ()
    grade, seen = laid(server, task, collected(server, task, "echo x >pytest.ini", tmp_path / "two"), "ls")
    assert [(change.path, change.change) for change in grade.tampering] == [("pytest.ini", "added")]
    assert "pytest.ini" not in seen


def test_only_what_is_protected_is_looked_at(server: LocalServer, tmp_path: Path) -> None:
    """Links and FIFOs elsewhere are the agent's own, also where a pattern has no folder to start from."""
    task = protecting_task(tmp_path, protect='protect = ["**/*.txt"]')
    script = "mkdir -p node_modules/.bin; ln -s ../x node_modules/.bin/x; mkfifo fifo; ln -s x new.txt"
    work = collected(server, task, script, tmp_path / "kept")
    grade, seen = laid(server, task, work, "ls -A node_modules/.bin *.txt fifo; true")
    assert [change.path for change in grade.tampering] == ["new.txt"]
    assert seen == "fifo\n\nnode_modules/.bin:\nx\n"


def test_bytecode_goes(server: LocalServer, tmp_path: Path) -> None:
    """It could stand in for its source; it is no tampering, since running the tests makes it."""
    task = protecting_task(tmp_path)
    script = "mkdir tests/__pycache__ src/__pycache__; touch {tests,src}/__pycache__/test_app.cpython-312.pyc"
    grade, seen = laid(server, task, collected(server, task, script, tmp_path / "kept"), "ls tests src")
    assert (grade.tampering, seen.split()) == ((), ["src:", "app.py", "tests:", "data", "test_app.py"])


@pytest.mark.parametrize("bend", ["", "ln -sfn ../src/app.py tests/link.txt"])
def test_links_of_the_starter_repo_are_its_own(server: LocalServer, tmp_path: Path, bend: str) -> None:
    """An untouched link is no tampering; one that was bent is put back."""
    task = protecting_task(tmp_path)
    assert task.repo
    (task.repo / "tests" / "link.txt").symlink_to("data/in.txt")
    work = collected(server, task, bend, tmp_path / "kept")
    grade, seen = laid(server, task, work, "readlink tests/link.txt")
    assert {(change.path, change.change) for change in grade.tampering} == (
        {("tests/link.txt", "modified")} if bend else set()
    )
    assert seen == "data/in.txt\n"


def test_what_the_setup_made_is_no_tampering(server: LocalServer, tmp_path: Path) -> None:
    """The agent got the repo as the task's setup left it; to that it is put back."""
    setup = "[setup]\nrun = ['echo made >tests/made.txt', 'echo set >>tests/data/in.txt']\n"
    task = protecting_task(tmp_path, setup)
    work = collected(server, task, "echo x >tests/made.txt; rm tests/data/in.txt", tmp_path / "kept")
    grade, seen = laid(server, task, work, "cat tests/made.txt tests/data/in.txt")
    assert {(change.path, change.change) for change in grade.tampering} == {
        ("tests/data/in.txt", "deleted"),
        ("tests/made.txt", "modified"),
    }
    assert seen == "made\nin\nset\n"


# Works that no honest tar has made

Forge = Callable[[tarfile.TarFile], None]


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644
) -> Forge:
    """Something in a tar."""

    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size, info.mode = kind, link, len(data), mode
        tar.addfile(info, io.BytesIO(data))

    return add


AWAY = "/home/user/.harness/starter/tests"
FORGED: Mapping[str, list[Forge]] = {
    "a path upwards": [member("../../written", data=b"x")],
    "through a link": [member("./l", tarfile.SYMTYPE, AWAY), member("./l/test_app.py", data=b"x")],
    "through a relative link": [
        member("./l", tarfile.SYMTYPE, "../../.harness/starter/tests"),
        member("./l/test_app.py", data=b"x"),
    ],
    "a hard link out": [member("./h", tarfile.LNKTYPE, "../../.harness/starter/tests/test_app.py")],
    "a device": [member("./null", tarfile.CHRTYPE)],
    "a path that is too long": [member("./" + "/".join(["d" * 200] * 25), data=b"x")],
    "the repo as a link": [member("./", tarfile.SYMTYPE, "/etc")],
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_tar_harms_nothing(server: LocalServer, tmp_path: Path, name: str) -> None:
    """It is the work's own fault that it cannot be unpacked, or it lands in the repo; the protected files stay."""
    task = protecting_task(tmp_path)
    forged = tmp_path / "forged.tar"
    with tarfile.open(forged, "w") as tar:
        for add in FORGED[name]:
            add(tar)

    async def lay() -> str:
        async with open_fresh(server) as sandbox:
            try:
                await lay_work(sandbox, TrialSpec(task, DEFAULT, 1, "oracle"), Work(forged))
            except UnusableWorkError:
                return "unusable"
            done = await sandbox.run(
                "ls ~ | tr '\\n' ' '; cd ~/repo; cat tests/test_app.py; test ! -L ~/repo"
            )
            assert done.exit_code == 0
            return done.stdout

    assert asyncio.run(lay()) in ("unusable", "repo assert True\n")


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, b"\0" * 1024], ids=["empty", "noise", "zeros"])
def test_what_is_no_tar_is_the_works_own_fault(server: LocalServer, tmp_path: Path, data: bytes) -> None:
    """An agent that can forge what packs its work forges its own failure."""
    task = protecting_task(tmp_path)
    forged = tmp_path / "forged.tar"
    forged.write_bytes(data)

    async def lay() -> set[tuple[str, str]]:
        async with open_fresh(server) as sandbox:
            try:
                _, grade = await lay_work(sandbox, TrialSpec(task, DEFAULT, 1, "oracle"), Work(forged))
            except UnusableWorkError:
                return set()
            return {(change.path, change.change) for change in grade.tampering}

    gone = {(name, "deleted") for name in STARTER if name != "src/app.py"}
    assert asyncio.run(lay()) in (set(), gone)


# Without the second sandbox


def test_the_same_work_laid_down_where_the_agent_was_is_no_safer(server: LocalServer, tmp_path: Path) -> None:
    """The second sandbox is what keeps the agent's home away: in the agent's own, what it installed is there."""
    task = replace(protecting_task(tmp_path), setup=())
    install = 'd=$(python3 -m site --user-site); mkdir -p "$d"; echo "print(\'mine\')" >"$d/usercustomize.py"'

    async def both(place: Place) -> tuple[str, str]:
        work = await work_after(place.sandbox, task, place.baseline, install, tmp_path / "kept")
        there = (await place.sandbox.run("python3 -c 'print(1)'")).stdout
        return there, str(work.repo)

    there, repo = with_place(server, task, both)
    assert there == "mine\n1\n"
    assert laid(server, task, Work(Path(repo)), "python3 -c 'print(1)'")[1] == "1\n"
