"""The walls of each tier, and how a tier is chosen: as root, as an ordinary user, with namespaces forbidden."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.local import shared_files
from harness.local.boxes import diagnosis
from harness.local.boxes.accounts import RANGES, UNUSED, NoAccount, list_candidates, pick_account
from harness.local.boxes.box import Box
from harness.local.boxes.cgroups import PREFIX, Cgroups
from harness.local.boxes.guest_launch import Interpreter, PathMap
from harness.local.boxes.isolation import Isolation, IsolationError
from harness.local.limits import BoxLimits
from harness.local.shared_files import is_reachable, share_distributions, share_path
from tests.support.boxes import (
    TIERS,
    eventually,
    fresh_box,
    isolation,
    marked_processes,
    run,
    state_folder,
    tell,
    tell_in,
)

ROOT = Path(__file__).parents[2]
FORBID = ROOT / "tests" / "support" / "forbid.py"
SOMEBODY = 54_321
"""An account that this machine gives to nobody."""
GROUP = 54_322
"""A group of this machine's that the server's account is in."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@contextmanager
def storyteller(
    *,
    forbidden: tuple[str, ...] = (),
    account: int | None = None,
    home: Path | None = None,
    path: str = os.environ["PATH"],
    **wish: Any,
) -> Iterator[subprocess.Popen[str]]:
    """box_story.py in a process of its own, on an interpreter that any account can reach."""
    interpreter = Interpreter.running()
    prefix = share_path(interpreter.prefix, whole=False)
    python = str(prefix / interpreter.program)
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    if account is not None and not all(is_reachable(Path(path)) for path in paths):
        pytest.skip("another account cannot read this checkout, or this environment")
    argv = [python, str(FORBID), *forbidden, "--"] if forbidden else []
    argv += [python, "-m", "tests.support.box_story", json.dumps({"commands": [], **wish})]
    env = {
        "PATH": path,
        "HOME": str(home or "/nonexistent"),
        "PYTHONPATH": ":".join(paths),
        "LD_LIBRARY_PATH": f"{prefix}/lib",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": _cache(account),
        "SECRET_OF_THE_SERVER": "open sesame",
    }
    groups = None if account is None else [GROUP]
    with _scratch(account) as env["TMPDIR"]:
        process = subprocess.Popen(
            argv,
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=account,
            group=account,
            extra_groups=groups,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _cache(account: int | None) -> str:
    """A cache folder of an account's, which stays: what it holds is made in seconds, and takes longer to remove."""
    folder = Path(tempfile.gettempdir(), f"harness-test-cache-{account or os.geteuid()}")
    if not folder.exists():
        folder.mkdir(mode=0o700)
        os.chown(folder, account or -1, account or -1)
    return str(folder)


@contextmanager
def _scratch(account: int | None) -> Iterator[str]:
    """A folder for temporary files of an account's: whoever is killed clears up nothing."""
    with tempfile.TemporaryDirectory(prefix="harness-test-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)
        if account is not None:
            os.chown(folder, account, account)
        yield folder


def story(**options: Any) -> dict[str, Any]:
    """What box_story.py says in the end."""
    with storyteller(**options) as process:
        stdout, stderr = process.communicate(timeout=90)
        assert stdout, stderr
        said: dict[str, Any] = json.loads(stdout)
        return said


# --- the full tier


def test_a_sandbox_is_nobody_on_this_machine() -> None:
    """Everything inside runs as ids that own nothing outside; no process is ever outer root."""
    machines = isolation("namespaces")

    async def tale(box: Box) -> None:
        await box.spawn(["sleep", "60"])
        await box.spawn(["sleep", "60"], user="root")
        inside = box._host_pids() | {box._launched.process.pid}
        ids = {
            int(each) for pid in inside for field in ("Uid", "Gid", "Groups") for each in _status(pid, field)
        }
        if os.geteuid() == 0:
            assert {box.account, box.account + 1000} <= ids <= set(range(box.account, box.account + 65_536))
            assert box.account > 1_000_000

    tell(tale, machines)


def _status(pid: int, field: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{field}:"))


def test_two_sandboxes_are_different_accounts() -> None:
    """When the server is root; else both are the server's own, and only the namespaces part them."""
    machines = isolation("namespaces")

    async def tale(folder: Path) -> None:
        async with fresh_box(machines, folder, "one") as one, fresh_box(machines, folder, "two") as two:
            assert (abs(one.account - two.account) >= 65_536) == (os.geteuid() == 0)

    tell_in(tale)


ESCAPES = {
    "host file": "cat /etc/shadow",
    "host home": f"ls {Path(__file__).parent}",
    "kernel setting": "echo x > /proc/sys/kernel/core_pattern",
    "system program": "touch /usr/bin/new",
    "root folder": "mkdir /new",
    "host etc": "echo x >> /etc/hosts",
    "user namespace": "unshare -U true",
    "mount namespace": "unshare -m true",
    "mount": "mount -t tmpfs none /tmp",
    "device": "mknod /tmp/disk b 8 0",
    "guest's environment": "cat /proc/1/environ",
    "guest's memory": "head -c 1 /proc/1/mem",
    "guest's files": "ls /proc/1/fd",
    "another account": "python3 -c 'import os; os.setuid(0)'",
    "network": "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 3)'",
}


@pytest.mark.parametrize("command", ESCAPES.values(), ids=ESCAPES)
def test_there_is_no_way_out(command: str) -> None:
    """Each of these fails, and says something about permissions or absence rather than hanging."""

    async def tale(box: Box) -> None:
        output = await run(box, command)
        assert output.exit_code != 0
        words = (
            "denied|not permitted|No such file|[Rr]ead-only|No space left|[Uu]nreachable|superuser|Invalid"
        )
        assert re.search(words, output.stderr), output.stderr

    tell(tale, isolation("namespaces"))


def test_a_sandbox_sees_only_itself() -> None:
    """Its own processes, an own host name, an own /etc, no capabilities, and nobody's home but its own."""

    async def tale(box: Box) -> None:
        pids = (await run(box, "ls -d /proc/[0-9]* | wc -l")).stdout
        assert int(pids) < 10
        assert (await run(box, "hostname")).stdout == "sandbox\n"
        assert (await run(box, "id -un; id -u; id -G")).stdout == "user\n1000\n1000 27\n"
        assert (
            await run(box, "ls -A /home /root /tmp", user="root")
        ).stdout == "/home:\nuser\n\n/root:\n\n/tmp:\n"
        for user, expected in (("user", "0" * 16), ("root", "00000000a80425fb")):
            status = (await run(box, "grep -h -e ^CapPrm -e ^CapEff /proc/self/status", user=user)).stdout
            assert set(re.findall(r"Cap\w+:\s+(\w+)", status)) == {expected}
        assert "$" not in (await run(box, "cat /etc/shadow", user="root")).stdout

    tell(tale, isolation("namespaces"))


@pytest.mark.parametrize("tier", TIERS)
def test_the_servers_environment_stays_outside(tier: str) -> None:
    """No process of the sandbox has, or can read, a variable of the server's."""
    isolation(tier)
    said = story(tier=tier, commands=["cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; env"])
    if tier == "unsafe":  # which can read everything that the server can
        said["outputs"][0][1] = said["outputs"][0][1].split("E2B_SANDBOX=true")[-1]
    assert "sesame" not in said["outputs"][0][1]


def test_killing_everything_inside_leaves_the_guest() -> None:
    """`kill -9 -1` ends all processes but the guest, which can still start new ones."""

    async def tale(box: Box) -> None:
        sleeper = await box.spawn(["sleep", "60"])
        output = await run(box, "kill -9 1; kill -9 -1")
        assert output.status.signal in (None, signal.SIGKILL)
        assert (await sleeper.wait()).signal == signal.SIGKILL
        assert (await run(box, "echo alive")).stdout == "alive\n"

    tell(tale, isolation("namespaces"))


def test_orphans_are_adopted_and_buried() -> None:
    """What a dead process leaves behind belongs to the guest, and no zombie stays."""

    async def tale(box: Box) -> None:
        await run(box, "for i in 1 2 3; do (sleep 0.05 &) ; done")
        while "sleep" in (output := (await run(box, "ps -eo ppid=,stat=,comm=")).stdout):
            assert all(line.split()[0] == "1" for line in output.splitlines() if "sleep" in line)
        assert not re.search(r"^ *\d+ Z", (await run(box, "ps -eo ppid=,stat=")).stdout, re.MULTILINE)

    tell(tale, isolation("namespaces"))


def test_fifty_sandboxes_start_at_once() -> None:
    """Each with its own account and files."""
    machines = isolation("namespaces")

    async def one(folder: Path, n: int) -> str:
        async with fresh_box(machines, folder, f"box{n}") as box:
            await run(box, f"echo {n} > file")
            return (await run(box, "cat file; ls")).stdout

    async def tale(folder: Path) -> None:
        outputs = await asyncio.gather(*(one(folder, n) for n in range(50)))
        assert outputs == [f"{n}\nfile\n" for n in range(50)]

    tell_in(tale)


# --- Landlock's tier

LANDLOCKED = {
    "shadow": "cat /etc/shadow",
    "all of etc": "ls /etc",
    "root's home": "ls /root",
    "this checkout": f"ls {Path(__file__).parent}",
    "machine's tmp": "ls /tmp",
    "write to tmp": "touch /tmp/new",
    "server's memory": "head -c 1 /proc/$PPID/mem; head -c 1 /proc/{server}/mem",
    "server": "kill -0 {server}",
    "neighbour's home": "ls {neighbour}",
}


@pytest.mark.parametrize("command", LANDLOCKED.values(), ids=LANDLOCKED)
def test_landlock_keeps_a_sandbox_to_itself(command: str) -> None:
    """Files, processes and neighbours outside are out of reach."""
    landlock = isolation("landlock")

    async def tale(folder: Path) -> None:
        async with fresh_box(landlock, folder, "one") as one, fresh_box(landlock, folder, "two") as two:
            neighbour = two.paths.outside("/home/user")
            output = await run(one, command.format(server=os.getpid(), neighbour=neighbour))
            assert output.exit_code != 0
            assert re.search("denied|not permitted", output.stderr), output.stderr

    tell_in(tale)


def test_under_landlock_ordinary_work_goes_on() -> None:
    """git, Python with its locks, temporary files, and servers on loopback."""
    server = 's = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname())'
    work = (
        "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one && git log -1",
        "python3 -c 'import multiprocessing, tempfile; multiprocessing.Lock(); tempfile.TemporaryFile()'",
        f"python3 -c 'import socket; {server}'",
    )

    async def tale(box: Box) -> None:
        for command in work:
            output = await run(box, command)
            assert (output.exit_code, output.stderr) == (0, ""), command

    tell(tale, isolation("landlock"))


# --- the choice


def test_the_best_tier_is_taken() -> None:
    """On a machine where everything works that is namespaces, which enforces what it says."""
    isolation("namespaces")
    found = Isolation.probe()
    assert (found.tier, found.unavailable) == ("namespaces", ())
    assert found.enforces >= {"files", "processes", "network", "pids"}
    assert ("accounts" in found.enforces) == (found.namespaces is not None and found.namespaces.ids != "one")


def test_an_unknown_tier_is_an_error() -> None:
    """The error lists those that there are."""
    with pytest.raises(IsolationError, match="unknown isolation 'gvisor'") as caught:
        Isolation.probe("gvisor")
    assert "namespaces, landlock, unsafe" in caught.value.remedy


def test_the_environment_can_ask_for_a_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    """HARNESS_ISOLATION counts, and an argument counts more."""
    monkeypatch.setenv("HARNESS_ISOLATION", "unsafe")
    assert Isolation.probe().tier == "unsafe"
    monkeypatch.setenv("HARNESS_ISOLATION", "no-such-tier")
    assert Isolation.probe("unsafe").tier == "unsafe"


COMMANDS = ["echo $HOME; id -u", "touch file && ls", "cat /etc/shadow"]


def test_where_namespaces_are_forbidden_landlock_steps_in() -> None:
    """The error of the tier passed over is quoted, with cause and remedy, and the sandbox works."""
    isolation("landlock")
    said = story(forbidden=("namespaces",), commands=COMMANDS)
    assert said["tier"] == "landlock"
    assert "files" in said["enforces"]
    assert "network" not in said["enforces"]
    (passed,) = said["unavailable"]
    assert passed["tier"] == "namespaces"
    assert "launcher: unshare" in passed["error"]
    assert "namespaces" in passed["cause"]
    assert passed["remedy"]
    assert [code for code, _ in said["outputs"]] == [0, 0, 1]


def test_where_nothing_works_that_is_said() -> None:
    """With what was tried, and that sandboxes without walls are to be had."""
    said = story(forbidden=("namespaces", "landlock"), commands=COMMANDS)
    assert "cannot be isolated" in said["error"]
    assert "Landlock is not available" in said["error"]
    assert "unsafe" in said["remedy"]


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_a_tier_that_was_asked_for_is_not_replaced(tier: str) -> None:
    """If it does not work, that is an error with its own words and a remedy."""
    said = story(forbidden=("namespaces", "landlock"), tier=tier)
    assert f"isolation {tier} does not work on this machine" in said["error"]
    assert said["remedy"]


@needs_root
@pytest.mark.parametrize("forbidden", [(), ("namespaces",)], ids=str)
def test_an_ordinary_user_has_sandboxes_too(forbidden: tuple[str, ...], tmp_path: Path) -> None:
    """With an empty home, no privilege, no range of ids, and whatever is forbidden."""
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    bound = "grep /opt/bound /proc/self/mountinfo | cut -d ' ' -f 6"
    said = story(forbidden=forbidden, account=SOMEBODY, home=tmp_path, commands=[*COMMANDS, bound])
    assert said["tier"] == ("namespaces", "landlock")[len(forbidden)]
    assert said["account"] == SOMEBODY
    assert ("package uidmap" if shutil.which("newuidmap") is None else "/etc/subuid") in said[
        "shortcoming"
    ] or forbidden
    home, created, shadow, bound = said["outputs"]
    assert forbidden or bound[1].startswith("ro,nosuid,nodev")
    assert home == [0, "/home/user\n0\n"] if not forbidden else home[0] == 0
    assert created == [0, "file\n"]
    assert "$" not in shadow[1]


def range_of_this_machine() -> pwd.struct_passwd:
    """An ordinary account that has a range of ids here, or a skipped test that says what is missing."""
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap is not installed (Debian: uidmap)")
    for line in Path("/etc/subuid").read_text().splitlines():
        with suppress(KeyError):
            account = pwd.getpwnam(line.split(":")[0])
            if account.pw_uid and os.geteuid() in (0, account.pw_uid):
                return account
    pytest.skip("no account that this test may use has a range in /etc/subuid")


def test_a_user_with_a_range_has_real_accounts() -> None:
    """As far as the range goes: root inside is the user, and all others are ids of the range.

    What a process of theirs holds is counted too, where nothing bounds the disk: here a file without a name.
    """
    account = range_of_this_machine()
    holder = """
import os, socket
ends, file = socket.socketpair(), open("x", "wb")
os.unlink("x")
file.write(bytes(30 << 20))
file.flush()
print("done", flush=True)
input()
"""
    commands = ["id -u; touch f; sudo chown 7:8 f; stat -c %u:%g f"]
    said = story(
        account=account.pw_uid, home=Path(account.pw_dir), commands=commands, holder=holder, disk_mb=20
    )
    assert (said["tier"], said["account"], said["shortcoming"]) == ("namespaces", account.pw_uid, None)
    assert said["beyond"] == "it wrote 30 MiB, and may write 20"
    ((code, words),) = said["outputs"]
    first = next(line.split(":")[1] for line in Path("/etc/subuid").read_text().splitlines())
    assert (code, words.split()) == (0, ["1000", "7:8"])
    assert said["groups"] == []
    assert said["ids"] == ["0", str(account.pw_uid), "1", "1", first, "65535"]


def test_a_range_that_cannot_be_used_is_told() -> None:
    """The sandbox has one account then, and it is said why, with the tool's own words."""
    account = range_of_this_machine()
    with state_folder() as folder:
        for name in ("newuidmap", "newgidmap"):
            (folder / name).write_text("#!/bin/sh\necho out of ids today >&2\nexit 1\n")
            (folder / name).chmod(0o755)
        path = f"{folder}:{os.environ['PATH']}"
        said = story(account=account.pw_uid, home=Path(account.pw_dir), path=path, commands=["id -u"])
    assert (said["tier"], said["outputs"]) == ("namespaces", [[0, "0\n"]])
    assert "accounts" not in said["enforces"]
    assert "newuidmap failed: out of ids today" in said["shortcoming"]


# --- the server's end


@pytest.mark.parametrize("tier", TIERS)
def test_a_killed_server_takes_its_sandboxes_along(tier: str) -> None:
    """kill -9 of the server ends every process inside, whatever it did to get away."""
    isolation(tier)
    mark = f"mark-{os.getpid()}-{tier}"
    script = f"exec -a {mark} sleep 60"
    commands = [
        f"(setsid bash -c '{script}' &) ; (trap '' HUP TERM; nohup bash -c '{script}' > /dev/null 2>&1 &)"
    ]
    with storyteller(tier=tier, commands=[c + " > /dev/null 2>&1" for c in commands], hold=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        asyncio.run(asyncio.wait_for(eventually(lambda: len(marked_processes(mark)) == 2), 90))
        process.kill()
        asyncio.run(asyncio.wait_for(eventually(lambda: not marked_processes(mark)), 90))


# --- pieces


@pytest.mark.parametrize(
    ("uid_map", "expected"),
    [
        ("0 0 4294967295\n", RANGES),
        ("0 100000 65536\n", range(32768, 65534)),
        ("0 1000 1\n1 100000 65536\n", range(32769, 65534)),
        ("0 1000 1000000000\n", range(500_000_000, 1_000_000_000)),
    ],
)
def test_accounts_come_from_what_the_namespace_has(uid_map: str, expected: range) -> None:
    """All of the machine's, or the upper half of a container's; nobody's uid is never among them."""
    assert list_candidates(uid_map) == expected
    assert 65534 not in list_candidates(uid_map)


@needs_root
def test_no_account_is_given_twice() -> None:
    """Neither one that this server has given before nor one that has a process, as those of another server's
    sandboxes have: what ends with a sandbox is told by its account. When all are at work, that is said."""
    few = range(UNUSED.start - 3, UNUSED.start)
    sleeper = subprocess.Popen(["sleep", "60"], user=few[0], group=few[0], extra_groups=[])
    try:
        given = {pick_account(few), pick_account(few)}
        assert given == {few[1], few[2]}
        assert pick_account(few) in given, "when most were given, those that have ended are given again"
        with pytest.raises(NoAccount, match="at work"):
            pick_account(range(few[0], few[0] + 1))
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_root_that_is_alone_has_no_accounts() -> None:
    """As in a namespace that maps one uid only."""
    with pytest.raises(NoAccount):
        list_candidates("0 1000 1\n")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("launcher: mount proc on /proc: Operation not permitted", "hides parts of /proc"),
        ("launcher: unshare: Operation not permitted", "forbids user namespaces"),
        ("/proc/7/uid_map: Permission denied", "forbids user namespaces"),
        ("something else", "cannot set up"),
    ],
)
def test_the_launchers_words_are_explained(words: str, cause: str) -> None:
    """Each known failure has a cause of its own."""
    assert cause in diagnosis.explain_no_namespaces(words)[0]


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that all accounts may pass through. pytest's own ones are closed again by each new pytest."""
    with state_folder() as folder:
        yield folder


@needs_root
def test_what_only_root_can_reach_is_shared_once(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file below a closed folder gets one twin, a hard link of it, until it was not used for long; what all can reach
    is taken as it is."""
    monkeypatch.setattr(shared_files, "CACHE", reachable / "cache")
    closed = reachable / "closed"
    closed.mkdir(mode=0o700)
    (closed / "program").write_text("text")
    (closed / "program").chmod(0o755)
    (closed / "private").write_text("text")
    (closed / "private").chmod(0o600)
    twin = share_path(closed / "program")
    assert twin != closed / "program"
    assert twin.samefile(closed / "program")
    assert share_path(closed / "program") == twin
    assert is_reachable(twin)
    readable = share_path(closed / "private")
    assert is_reachable(readable)
    assert (closed / "private").stat().st_mode & 0o777 == 0o600
    assert share_path(Path("/usr/bin/env")) == Path("/usr/bin/env").resolve()
    assert [path.name for path in (reachable / "cache").iterdir() if path.name.startswith(".")] == []
    os.utime(readable.parent, (0, 0))
    (aside,) = shared_files.hold_shared(1.0)
    assert aside.name.endswith(readable.parent.name)
    assert twin.exists()
    assert not readable.exists()
    assert share_path(closed / "private").read_text() == "text"
    os.utime(readable.parent, (0, 0))
    assert shared_files.hold_shared(1.0) == [], "another server holds it"
    assert readable.exists()


@needs_root
def test_many_make_a_twin_at_once(tmp_path: Path) -> None:
    """Processes that share the same folder at the same time all get one whole twin."""
    source = tmp_path / "closed" / "tree"
    (source / "sub").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    for n in range(200):
        (source / "sub" / str(n)).write_text(str(n))
    script = (
        "import sys; from pathlib import Path; from harness.local import shared_files;"
        f"shared_files.CACHE = Path({str(tmp_path / 'cache')!r});"
        f"twin = shared_files.share_path(Path({str(source)!r})); print(twin, len(list((twin / 'sub').iterdir())))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = {process.communicate()[0] for process in processes}
    assert len(said) == 1
    assert said.pop().endswith(" 200\n")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_shared_packages_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's programs, which are recorded as ../../../bin/NAME, are not written beside the cache."""
    above = tmp_path / "above"
    monkeypatch.setattr(shared_files, "CACHE", above / "cache" / "harness")
    monkeypatch.setenv("XDG_CACHE_HOME", str(above / "cache"))
    folder = share_distributions(("uvicorn",))
    assert (folder / "uvicorn" / "__init__.py").exists()
    assert [path.name for path in tmp_path.rglob("bin")] == []


@given(st.text(alphabet="abc/.", max_size=12))
def test_paths_are_mapped_there_and_back(tail: str) -> None:
    """A path inside a mapped folder comes back as it was; others stay as they are."""
    paths = PathMap((("/home/user", "/state/home"), ("/tmp", "/state/tmp")))
    inside = f"/home/user/{tail}"
    assert paths.inside(paths.outside(inside)) == inside
    assert paths.outside(inside) == f"/state/home/{tail}"
    assert paths.outside(f"/home/username/{tail}") == f"/home/username/{tail}"


def test_a_starting_server_clears_up_after_the_dead_and_spares_the_living() -> None:
    """An empty control group of a server that lives is left alone by the next one; a dead server's goes."""
    where = Cgroups.detect()
    if not where.hierarchies:
        pytest.skip("no control group can be written here")
    gone = subprocess.Popen(["true"])
    gone.wait()
    living = where.new_group()
    living.set_limits(gone.pid, BoxLimits(memory_mb=64, cpus=1.0))  # it is dead: the group is empty
    leaving = subprocess.Popen([sys.executable, "-c", LEAVE_A_GROUP.format(pid=gone.pid)], cwd=ROOT)
    assert leaving.wait() == 0
    assert _groups_of(where, os.getpid())
    assert _groups_of(where, leaving.pid)
    subprocess.run([sys.executable, "-c", DETECT], check=True, cwd=ROOT)
    assert _groups_of(where, os.getpid())
    assert not _groups_of(where, leaving.pid)
    living.remove()
    assert not _groups_of(where, os.getpid())


DETECT = "from harness.local.boxes.cgroups import *; where = Cgroups.detect()"
LEAVE_A_GROUP = DETECT + "; where.new_group().set_limits({pid}, BoxLimits(memory_mb=64, cpus=1.0))"


def _groups_of(where: Cgroups, server: int) -> set[Path]:
    return {path for each in where.hierarchies for path in each.base.glob(f"{PREFIX}{server}-*")}
