"""A starter repo from a git server: cloned once, one commit of it in the sandbox, and the token nowhere."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import TaskFault
from harness.records.reading import list_runs, read_records
from harness.tasks.gitrepo import Checkout, Repos
from harness.tasks.gitsource import GitSource, problems_of
from harness.tasks.loading import load_task
from tests.support.folders import task_folder, write_files
from tests.support.git_server import GitServer, git

TOKEN = "ghp_0123456789abcdefSECRET"
QUESTION = {"question.txt": "6 x 7?\n"}


@pytest.fixture
def server_root(tmp_path: Path) -> Path:
    root = tmp_path / "git"
    root.mkdir()
    return root


@pytest.fixture
def public(server_root: Path) -> Iterator[GitServer]:
    """A server that asks for nothing."""
    with GitServer(server_root) as server:
        yield server


@pytest.fixture
def private(server_root: Path) -> Iterator[GitServer]:
    """A server that wants the token."""
    with GitServer(server_root, TOKEN) as server:
        yield server


def checkout(root: Path, *sources: GitSource, env: Mapping[str, str] | None = None) -> list[Checkout]:
    """The sources' checkouts, asked for at the same time."""

    async def both() -> list[Checkout]:
        repos = Repos(root / "repos", {**os.environ, **(env or {})})
        return await asyncio.gather(*(repos.checkout(source) for source in sources))

    return asyncio.run(both())


def fault(root: Path, source: GitSource, env: Mapping[str, str] | None = None) -> TaskFault:
    with pytest.raises(TaskFault) as caught:
        checkout(root, source, env=env)
    return caught.value


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()
    }


# What can be named


def test_a_tag_a_branch_and_a_commit(public: GitServer, tmp_path: Path) -> None:
    """Each is what it was when it was named; without a ref it is the remote's own branch."""
    first = public.commit("widget", {"a.txt": "1"}, tag="v1")
    second = public.commit("widget", {"a.txt": "2"})
    url = public.url("widget")
    refs = {"v1": first, "main": second, first: first, None: second, "refs/tags/v1": first}
    found = checkout(tmp_path, *(GitSource(url, ref) for ref in refs))
    assert [done.commit for done in found] == list(refs.values())
    assert [(done.folder / "a.txt").read_text() for done in found] == ["1", "2", "1", "2", "1"]


def test_nothing_but_the_files_comes_with_it(public: GitServer, tmp_path: Path) -> None:
    """No history, in which the fix could be found."""
    public.commit("widget", {"a.txt": "1", "run.sh": "#!/bin/sh\n"})
    work = public.work("widget")
    (work / "run.sh").chmod(0o755)
    (work / "link").symlink_to("a.txt")
    public.commit("widget", {"a.txt": "2"})
    (done,) = checkout(tmp_path, GitSource(public.url("widget"), depth=5))
    assert files(done.folder) == {"a.txt", "run.sh", "link"}
    assert os.access(done.folder / "run.sh", os.X_OK)
    assert not list((tmp_path / "repos").glob("*.git"))
    assert stat.S_IMODE((tmp_path / "repos").stat().st_mode) == 0o700


def test_submodules_come_with_it(private: GitServer, tmp_path: Path) -> None:
    """At the commits that are pinned, theirs too, with the token that the repo itself needs; they are plain files."""
    pinned = private.commit("leaf", {"leaf.txt": "1"})
    private.commit("leaf", {"leaf.txt": "2"})
    private.commit("inner", {"inner.txt": "i"})
    inner = private.add_submodule("inner", "deep/leaf", "./../leaf.git/", pinned)
    private.commit("outer", {"a.txt": "a", "na\udcefve.txt": "not all names are UTF-8"})
    private.add_submodule("outer", "inner", "../inner.git", inner)
    private.add_submodule("outer", "lib/leaf", private.url("leaf"), pinned)
    source = GitSource(private.url("outer"), token_env="MY_TOKEN")
    for _ in range(2):
        (done,) = checkout(tmp_path, source, env={"MY_TOKEN": TOKEN})
        found = {
            "a.txt",
            "na\udcefve.txt",
            "inner/inner.txt",
            "inner/deep/leaf/leaf.txt",
            "lib/leaf/leaf.txt",
        }
        assert files(done.folder) - {".gitmodules", "inner/.gitmodules"} == found
        assert (done.folder / "lib/leaf/leaf.txt").read_text() == "1"
        assert done.notes == ()
    assert private.clones == 4, "the second time it is there"
    (part,) = checkout(tmp_path, replace(source, subdir="inner/deep"), env={"MY_TOKEN": TOKEN})
    assert files(part.folder) == {"leaf/leaf.txt"}


@pytest.mark.parametrize(
    "url",
    [
        "{other}/plain.git",
        "http://localhost:{port}/plain.git",
        "../../../127.0.0.1/plain.git",
        "ssh://git@127.0.0.1/plain.git",
        "{root}/plain.git",
        "file://{root}/plain.git",
        "ext::touch {root}/evil",
        "--upload-pack=touch {root}/evil",
    ],
)
def test_a_submodule_elsewhere_is_not_fetched_and_told(private: GitServer, tmp_path: Path, url: str) -> None:
    """A repository does not choose whom this machine asks, nor who gets the token; nobody is to wonder about empty
    folders."""
    commit = private.commit("plain", {"a.txt": "a"})
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with GitServer(elsewhere) as other:
        names = {"other": other.origin, "port": private.origin.rpartition(":")[2], "root": private.root}
        other.commit("plain", {"a.txt": "a"})
        private.commit("outer", {"b.txt": "b"})
        private.add_submodule("outer", "x", url.format(**names), commit)
        source = GitSource(private.url("outer"), token_env="MY_TOKEN")
        (done,) = checkout(tmp_path, source, env={"MY_TOKEN": TOKEN})
        assert files(done.folder) == {"b.txt", ".gitmodules"}
        assert "the submodule 'x' is not on the cloned repo's own host" in done.notes[0]
        assert (private.clones, other.asked) == (1, [])
        assert not (private.root / "evil").exists()


def test_a_submodule_that_cannot_be_fetched_is_said(public: GitServer, tmp_path: Path) -> None:
    """A task that needs it would fail in a way that nobody understands."""
    public.commit("outer", {"b.txt": "b"})
    public.add_submodule("outer", "x", "../gone.git", "1" * 40)
    found = fault(tmp_path, GitSource(public.url("outer")))
    assert (found.kind, found.retry) == ("repo_not_found", False)
    assert "the submodule 'x' of " in found.message
    assert "/gone.git" in found.message


def test_a_folder_of_it_can_be_the_starter_repo(public: GitServer, tmp_path: Path) -> None:
    public.commit("mono", {"packages/core/a.txt": "a", "other.txt": "o"})
    (done,) = checkout(tmp_path, GitSource(public.url("mono"), subdir="packages/core"))
    assert files(done.folder) == {"a.txt"}


def test_a_hundred_ask_and_one_clones(public: GitServer, tmp_path: Path) -> None:
    """In one process, and in several."""
    public.commit("widget", QUESTION)
    source = GitSource(public.url("widget"))

    async def processes() -> None:
        repos = [Repos(tmp_path / "repos") for _ in range(3)]
        await asyncio.gather(*(repo.checkout(source) for repo in repos for _ in range(33)))
        folder = (await repos[0].checkout(source)).folder
        for last, repo in zip((False, False, True), repos, strict=True):
            assert folder.exists()
            repo.close()
            assert folder.exists() is not last

    asyncio.run(processes())
    assert public.clones == 1


def test_one_that_gives_up_does_not_take_the_clone_from_the_others(public: GitServer, tmp_path: Path) -> None:
    public.commit("widget", QUESTION)
    source = GitSource(public.url("widget"))

    async def story() -> str:
        repos = Repos(tmp_path / "repos")
        first, second = (asyncio.create_task(repos.checkout(source)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return (await second).commit

    assert asyncio.run(story())


# What goes wrong


def test_a_ref_that_is_not_there(public: GitServer, tmp_path: Path) -> None:
    """Is the task's mistake, which no other attempt mends."""
    public.commit("widget", QUESTION)
    for ref in ("v9", "0" * 40):
        found = fault(tmp_path / ref, GitSource(public.url("widget"), ref))
        assert (found.kind, found.retry, found.cause) == ("repo_ref", False, "task")
        assert ref in found.message
        assert "40 digits" in str(found.remedy)


def test_a_repository_that_is_not_there(public: GitServer, tmp_path: Path) -> None:
    found = fault(tmp_path, GitSource(public.url("nothing")))
    assert (found.kind, found.retry) == ("repo_not_found", False)


def test_a_folder_that_is_not_there(public: GitServer, tmp_path: Path) -> None:
    public.commit("widget", QUESTION)
    found = fault(tmp_path, GitSource(public.url("widget"), subdir="packages"))
    assert (found.kind, found.retry) == ("repo_subdir", False)
    assert "'packages'" in found.message


def test_a_link_does_not_lead_out_of_the_clone(public: GitServer, tmp_path: Path) -> None:
    """A stranger's repository gets nothing of this machine into a sandbox."""
    public.commit("widget", QUESTION)
    (public.work("widget") / "etc").symlink_to("/etc")
    public.commit("widget", {"more.txt": "more"})
    found = fault(tmp_path, GitSource(public.url("widget"), subdir="etc"))
    assert found.kind == "repo_subdir"


def test_nobody_there_may_be_better_next_time(tmp_path: Path) -> None:
    """A host that is not reached is infrastructure."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/widget.git"
        found = fault(tmp_path, GitSource(url))
    assert (found.kind, found.retry) == ("repo_unreachable", True)


def test_a_clone_that_broke_is_made_anew(public: GitServer, tmp_path: Path) -> None:
    """By the next attempt, in the same process."""
    public.commit("widget", QUESTION)
    source = GitSource(public.url("widget"))

    async def story() -> Checkout:
        repos = Repos(tmp_path / "repos")
        public.broken = 503
        with pytest.raises(TaskFault) as caught:
            await repos.checkout(source)
        assert (caught.value.kind, caught.value.retry) == ("repo_unreachable", True)
        public.broken = None
        return await repos.checkout(source)

    assert files(asyncio.run(story()).folder) == set(QUESTION)


# Private ones


def test_a_private_one_wants_a_token(private: GitServer, tmp_path: Path) -> None:
    private.commit("secret", QUESTION)
    url = private.url("secret")
    found = fault(tmp_path / "1", GitSource(url))
    assert (found.kind, found.retry) == ("repo_refused", False)
    assert "token_env" in str(found.remedy)
    assert found.message.endswith("refused: it wants credentials")
    found = fault(tmp_path / "2", GitSource(url, token_env="MY_TOKEN"), {"MY_TOKEN": "wrong-" + TOKEN})
    assert (found.kind, found.retry) == ("repo_refused", False)
    assert "MY_TOKEN" in str(found.remedy)
    assert found.message.endswith("refused: it does not take the token")
    assert TOKEN not in str(found)
    found = fault(tmp_path / "3", GitSource(url, token_env="MY_TOKEN"))
    assert found.kind == "repo_token"
    assert "MY_TOKEN is not set" in found.message
    (done,) = checkout(tmp_path / "4", GitSource(url, token_env="MY_TOKEN"), env={"MY_TOKEN": TOKEN})
    assert files(done.folder) == set(QUESTION)


def test_a_token_goes_to_its_own_host_alone(private: GitServer, tmp_path: Path) -> None:
    """Settings that the user has given to git by the environment stay in force beside it."""
    private.commit("secret", QUESTION)
    source = GitSource("http://localhost:1/secret.git", token_env="MY_TOKEN")
    moved = {
        "MY_TOKEN": TOKEN,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{private.origin}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "http://localhost:1/",
    }
    assert fault(tmp_path, source, moved).kind == "repo_refused"
    assert private.asked


def spied_git(folder: Path) -> Path:
    """A `git` before the real one on PATH, which notes what each process of git is called with."""
    real = git("--exec-path").strip()
    write_files(
        folder,
        {"git": f'#!/bin/sh\ntr "\\0" " " </proc/$$/cmdline >>{folder}/seen\nexec {real}/git "$@"\n'},
        executable=True,
    )
    return folder / "seen"


@pytest.mark.usefixtures("as_e2b")
def test_the_token_is_nowhere(
    private: GitServer, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither in an argument, nor in the sandbox, nor in anything that the run leaves; and all trials clone once."""
    commit = private.commit("secret", {**QUESTION, ".gitignore": "*.log\n", "kept.log": "l"}, tag="v1")
    private.commit("secret", {"answer.txt": "42\n"})
    seen = spied_git(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    look = "test $(git log --oneline | wc -l) = 1; git status --porcelain; git ls-files; cat .git/config; env"
    toml = f'[repo]\ngit = "{private.url("secret")}"\nref = "v1"\ntoken_env = "MY_TOKEN"\n[checks.run]\n'
    folder = task_folder(pytester.path / "tasks", toml=toml + f"look = '''set -e; {look}'''\n", repo={})
    result = pytester.runpytest_subprocess("tasks", "--agent", "oracle", "--trials", "3", "-n2")
    result.assert_outcomes(passed=3)
    (run,) = list_runs(pytester.path / "results")
    records = read_records(run.path).records
    assert {record.repo_commit for record in records} == {commit}
    assert private.clones == 1
    (look_check,) = (check for check in records[0].checks if check.name == "look")
    said = (run.path / str(look_check.output)).read_text()
    assert said.splitlines()[:4] == ["?? answer.txt", ".gitignore", "kept.log", "question.txt"]
    assert "fetch" in seen.read_text()
    left = [path for path in (*run.path.rglob("*"), folder / "task.toml", seen) if path.is_file()]
    assert [path for path in left if TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN not in result.stdout.str() + result.stderr.str()
    assert not (run.path / "repos").exists()


# What a task may say


def test_a_task_is_told_what_is_wrong_with_its_source() -> None:
    """Before anything is cloned; a password in a URL is not repeated."""
    wrong = {
        GitSource("ext::sh -c evil"): "git",
        GitSource("/home/me/repo", local="/home/me/repo"): "git",
        GitSource("https://example.com/x.git", ref="HEAD~3"): "ref",
        GitSource("https://example.com/x.git", ref="WORKTREE"): "ref",
        GitSource("..", local=os.path.dirname(__file__), token_env="T"): "token_env",
        GitSource("file:///home/me/repo"): "git",
        GitSource("https://"): "git",
        GitSource("https://me:hunter2@example.com/x.git"): "git",
        GitSource("https://example.com:port/x.git"): "git",
        GitSource("git@example.com:x.git", token_env="T"): "token_env",
        GitSource("http://example.com/x.git", token_env="T"): "token_env",
        GitSource("https://example.com/x.git", subdir="../x"): "subdir",
        GitSource("https://example.com/x.git", subdir="/x"): "subdir",
    }
    found = {source: list(problems_of(source)) for source in wrong}
    assert {source: [key for key, _, _ in problems] for source, problems in found.items()} == {
        source: [key] for source, key in wrong.items()
    }
    assert "hunter2" not in str(list(found.values()))
    right = ["https://example.com/x.git", "http://127.0.0.1:8080/x", "ssh://git@example.com/x.git"]
    assert [list(problems_of(GitSource(url))) for url in [*right, "git@example.com:me/x.git"]] == [[]] * 4


# Repositories of this machine


def local_source(root: Path, toml: str, name: str = "tasks/mine") -> GitSource:
    """The source of a task below a folder, as its task.toml names it."""
    folder = task_folder(root, name, toml=f"[repo]\n{toml}\n")
    for path in sorted((folder / "repo").rglob("*")):
        path.unlink()
    (folder / "repo").rmdir()
    source = load_task(folder).git
    assert source
    return source


def own_repo(root: Path) -> Path:
    """A repository with three commits, of a user whose git changes line ends and runs a filter."""
    repo = root / "own"
    write_files(
        repo,
        {"a.txt": "one\r\ntwo\n", "b.txt": "1\n", ".gitattributes": "*.up filter=loud\n", "x.up": "quiet\n"},
    )
    git("init", "-q", "-b", "main", str(repo))
    for number in (1, 2, 3):
        write_files(repo, {"b.txt": f"{number}\n"})
        git("-C", str(repo), "add", "-A")
        git("-C", str(repo), "commit", "-q", "-m", f"change {number}")
    return repo


def test_a_repository_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a path relative to the task, by file:// and as a bundle: only what git tracks, as it was committed."""
    repo = own_repo(tmp_path)
    config = tmp_path / "gitconfig"
    config.write_text(
        '[core]\nautocrlf = true\n[filter "loud"]\nsmudge = tr a-z A-Z\n[init]\ntemplateDir = /nowhere\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    write_files(repo, {"untracked.txt": "secret", "__pycache__/a.pyc": "x"})
    git("-C", str(repo), "bundle", "create", "-q", str(tmp_path / "own.bundle"), "--all")
    head, old = (git("-C", str(repo), "rev-parse", ref).strip() for ref in ("HEAD", "HEAD~2"))
    sources = [
        local_source(tmp_path, 'git = "../../own"'),
        local_source(tmp_path, f'git = "file://{repo}"\nref = "HEAD~2"'),
        local_source(tmp_path, 'git = "../../own.bundle"\nref = "main"'),
        local_source(tmp_path, 'git = "../../own.bundle"\nref = "HEAD~2"'),
    ]
    found = checkout(tmp_path, *sources)
    assert [done.commit for done in found] == [head, old, head, old]
    assert [(done.folder / "b.txt").read_text() for done in found] == ["3\n", "1\n", "3\n", "1\n"]
    assert {(done.folder / "a.txt").read_bytes() for done in found} == {b"one\r\ntwo\n"}
    assert {(done.folder / "x.up").read_bytes() for done in found} == {b"quiet\n"}
    assert {frozenset(files(done.folder)) for done in found} == {
        frozenset({"a.txt", "b.txt", "x.up", ".gitattributes"})
    }


def test_the_files_as_they_are_now(tmp_path: Path) -> None:
    """WORKTREE is what `git commit -a` would record but for the user's settings; nothing is written to the repository,
    and nothing of it is run. What is left out is told.
    """
    repo, loud = own_repo(tmp_path), tmp_path / "loud.sh"
    write_files(tmp_path, {"loud.sh": f"#!/bin/sh\ntouch {tmp_path}/was-run\ntr a-z A-Z\n"}, executable=True)
    write_files(repo, {"b.txt": "now\r\n", "new.txt": "n", "staged.txt": "s", "x.up": "still quiet\n"})
    git("-C", str(repo), "add", "staged.txt")
    for key, value in {"core.fsmonitor": loud, "filter.loud.clean": loud, "core.autocrlf": "true"}.items():
        git("-C", str(repo), "config", key, str(value))
    (repo / "a.txt").unlink()
    before = files(repo / ".git")
    (done,) = checkout(tmp_path, local_source(tmp_path, 'git = "../../own"\nref = "WORKTREE"'))
    assert (files(repo / ".git"), (tmp_path / "was-run").exists()) == (before, False)
    assert files(done.folder) == {"b.txt", "staged.txt", "x.up", ".gitattributes"}
    assert (done.folder / "b.txt").read_bytes() == b"now\r\n"
    assert (done.folder / "x.up").read_bytes() == b"still quiet\n"
    assert done.commit.startswith(git("-C", str(repo), "rev-parse", "HEAD").strip() + "+")
    assert done.notes == ("git does not track these, so they are left out: new.txt",)


def test_a_repository_with_ids_of_sha256(tmp_path: Path) -> None:
    """As a folder, as it is now, and as a bundle."""
    repo = tmp_path / "own"
    git("init", "-q", "-b", "main", "--object-format=sha256", str(repo))
    write_files(repo, {"a b/\u00fc.txt": "1"})
    git("-C", str(repo), "add", "-A")
    git("-C", str(repo), "commit", "-q", "-m", "first")
    git("-C", str(repo), "bundle", "create", "-q", str(tmp_path / "own.bundle"), "--all")
    write_files(repo, {"a b/\u00fc.txt": "2"})
    named = ('git = "../../own"', 'git = "../../own"\nref = "WORKTREE"', 'git = "../../own.bundle"')
    found = checkout(tmp_path, *(local_source(tmp_path, toml) for toml in named))
    assert [(done.folder / "a b/\u00fc.txt").read_text() for done in found] == ["1", "2", "1"]


def test_a_task_in_its_own_repository_does_not_bring_its_solution(tmp_path: Path) -> None:
    """Tasks that stand where it stands are left out, and this is told."""
    repo = own_repo(tmp_path)
    source = local_source(repo, 'git = "../.."\nref = "WORKTREE"')
    git("-C", str(repo), "add", "-A")
    (done,) = checkout(tmp_path, source)
    assert not (done.folder / "tasks" / "mine").exists()
    assert done.notes == ("these are tasks, so they are left out: tasks/mine",)


def test_objects_of_git_lfs_come_with_it_or_are_told(tmp_path: Path) -> None:
    """From where git-lfs keeps them in the repository; what is not there stays a pointer."""
    repo = own_repo(tmp_path)
    ids = {"here.bin": "a" * 64, "away.bin": "b" * 64}
    for name, oid in ids.items():
        write_files(repo, {name: f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 5\n"})
    git("-C", str(repo), "add", "-A")
    git("-C", str(repo), "commit", "-q", "-m", "large")
    write_files(repo / ".git/lfs/objects/aa/aa", {"a" * 64: "large"})
    (done,) = checkout(tmp_path, local_source(tmp_path, 'git = "../../own"'))
    assert (done.folder / "here.bin").read_text() == "large"
    assert done.notes == ("the objects of git-lfs are not there, only pointers to them: away.bin",)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """A ref, a folder within a repository, and one in none."""
    repo = own_repo(tmp_path)
    wrong = fault(tmp_path, local_source(tmp_path, 'git = "../../own"\nref = "HEAD~9"'))
    assert (wrong.kind, "has no 'HEAD~9'" in wrong.message) == ("repo_ref", True)
    (repo / "inner").mkdir()
    wrong = fault(tmp_path, local_source(tmp_path, 'git = "../../own/inner"'))
    assert (wrong.kind, "within the repository" in wrong.message) == ("repo_not_found", True)
    wrong = fault(tmp_path, local_source(tmp_path, 'git = ".."'))
    assert (wrong.kind, "is no repository of git" in wrong.message) == ("repo_not_found", True)


def test_a_token_follows_no_redirect(private: GitServer, tmp_path: Path) -> None:
    """Git itself would send the header on, to whatever host the answer names."""
    other = private.url("secret").replace("127.0.0.1", "localhost")
    private.redirects["/moved.git"] = "/secret.git", other
    found = fault(tmp_path, GitSource(private.url("moved"), token_env="MY_TOKEN"), {"MY_TOKEN": TOKEN})
    assert found.kind == "repo_refused"
    assert "redirects" in found.message
    assert not [path for path in private.asked if path.startswith("/secret.git")]
