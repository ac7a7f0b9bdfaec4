"""The walls of a sandbox with real root inside. Each test fails without the step of the launcher that it names."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.local.boxes.box import APT_PROXY, Box
from harness.local.boxes.guest_launch import LaunchSpec
from harness.local.boxes.launcher import (
    CHOWNS,
    FSCONFIG,
    FSMOUNT,
    FSOPEN,
    KEYCTL,
    MOUNT_SETATTR,
    MOVE_MOUNT,
    NUMBERS,
    OPEN_TREE,
    PIVOT_ROOT,
    REFUSED,
    TERMINALS,
    UNKNOWN,
    WATCHERS,
    make_filter,
)
from harness.local.boxes.namespaces import LauncherClient, Namespaces
from harness.local.boxes.subordinate import SubordinateRange
from harness.local.boxes.types import BoxError, UnknownUser
from harness.local.limits import BoxLimits
from harness.local.network.egress import MAX_CONNECTIONS
from harness.local.network.policy import NetworkPolicy
from harness.local.template import base_template, claude_template
from tests.support.boxes import fresh_box, isolation, on_disk, run, tell, tell_in

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only a root server gives sandboxes ids of their own"
)
pytestmark = needs_root


def python(code: str) -> str:
    """A command that runs this code."""
    return f"python3 -c {shlex.quote(code)}"


def call(arguments: str) -> str:
    """A command that makes a system call, and says whether it was made and its error."""
    return python(
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long; "
        f"print('no' if libc.syscall({arguments}) < 0 else 'yes', ctypes.get_errno())"
    )


REFUSED_TO_ROOT = {
    # Machine.drop: the capabilities
    "mount": "mount -t tmpfs none /mnt",
    "mount again as writable": "mount -o remount,rw /proc/sys",
    "bring up a network device": python(
        'import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 0))'
    ),
    "raise a limit of the kernel": python("import resource; resource.setrlimit(4, (1, -1))"),
    "a device": "mknod /tmp/disk b 254 0",
    "kernel messages": "dmesg",
    "another host name": "hostname other",
    "the clock": "date -s 2020-01-01",
    # Machine.make_proc
    "a setting of its own": "echo 9000 > /proc/sys/kernel/msgmax || echo 9000 > /proc/sys/fs/mqueue/msg_max",
    "a kernel setting": "echo x > /proc/sys/kernel/core_pattern",
    "more user namespaces": "echo 9 > /proc/sys/user/max_user_namespaces",
    "trigger": "echo b > /proc/sysrq-trigger",
    "the kernel's memory": "head -c 1 /proc/kcore | grep -q .",
    "the keys of all": "grep -q . /proc/keys",
    # Guest.do_setup: its memory is nobody's
    "the guest's environment": "cat /proc/1/environ",
    "the guest's memory": "head -c 1 /proc/1/mem",
    "the guest's descriptors": "ls /proc/1/fd/",
    "the guest's root": "ls /proc/1/root/",
    # Launcher.make_mounts
    "a file of this machine's": "touch /opt/node/bin/new",
    "the owner of a file of this machine's": "chown root /opt/claude/claude",
    "reading Claude Code": "head -c 1 /opt/claude/claude | grep -q .",
    # the rest of this machine
    "its network": python('import socket; socket.create_connection(("1.1.1.1", 53), 3)'),
    "a file system of the machine": f"ls {Path(__file__).parent}",
}


@pytest.mark.parametrize("who", ["root", "user"])
def test_root_inside_does_not_get_out(who: str) -> None:
    """None of these succeeds, neither for root nor for `user` with sudo."""
    sudo = "sudo " if who == "user" else ""

    async def story(box: Box) -> None:
        done = {}
        for name, command in REFUSED_TO_ROOT.items():
            output = await run(box, f"{sudo}bash -c {shlex.quote(command)}", user=who)
            done[name] = output.exit_code
        assert [name for name, code in done.items() if code == 0] == []

    tell(story, isolation("namespaces"), template=claude_template())


X86 = os.uname().machine == "x86_64"
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
CALLS = {
    "keyctl": ("250, 0, -3, 1", EPERM),
    "add_key": ('248, b"user", b"k", b"v", 1, -3', EPERM),
    "request_key": ('249, b"user", b"k", None, -3', EPERM),
    "unshare of mounts": ("272, 0x20000", EPERM),
    "unshare of users": ("272, 0x10000000", EPERM),
    "clone of users": ("56, 0x10000011, None, None, None, None", EPERM),
    "clone3": ("435, bytes(88), 88", ENOSYS),
    "io_uring": ("425, 8, bytes(120)", ENOSYS),
    "userfaultfd": ("323, 0", EPERM),
    "bpf": ("321, 0, bytes(120), 120", EPERM),
    "perf": ("298, bytes(120), 0, -1, -1, 0", EPERM),
    "open_tree": ('428, -100, b"/", 1', EPERM),
    "setns": ("308, 0, 0", EPERM),
    "open_by_handle_at": ("304, -100, bytes(64), 0", EPERM),
    "pidfd_getfd": ("438, 0, 0, 0", EPERM),
    "process_vm_writev": ("311, os.getpid(), None, 0, None, 0, 0", EPERM),
    "the same call of another kind": ("0x40000000 + 39", ENOSYS),
    "vsock": ("41, 40, 1, 0", EAFNOSUPPORT),
    "ciphers of the kernel": ("41, 38, 5, 0", EAFNOSUPPORT),
}


@pytest.mark.skipif(not X86, reason="the numbers of the calls are x86_64's")
def test_the_filter_refuses_what_no_agent_needs() -> None:
    """Also to root: each call answers with the filter's own error."""

    async def story(box: Box) -> None:
        said = {}
        for name, (arguments, _) in CALLS.items():
            said[name] = (await run(box, call(arguments), user="root")).stdout.split()
        assert said == {name: ["no", str(error)] for name, (_, error) in CALLS.items()}

    tell(story, isolation("namespaces"))


REFUSED_CALLS = """
pivot_root mount umount2 open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
add_key request_key keyctl setns open_by_handle_at pidfd_getfd process_vm_writev
perf_event_open bpf userfaultfd fanotify_init init_module finit_module delete_module kexec_load kexec_file_load
reboot swapon swapoff acct settimeofday clock_settime clock_adjtime adjtimex syslog quotactl quotactl_fd vhangup
lookup_dcookie migrate_pages move_pages
"""
OF_X86 = "iopl ioperm modify_ldt"
CHOWN_CALLS = """
chown fchown lchown fchownat setuid setgid setreuid setregid setgroups setresuid setresgid setfsuid setfsgid
"""
OPEN_TREE_ATTR = 467
"""It is newer than libraries' tables, and has one number everywhere, as all calls since 424."""


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filters_numbers_are_the_kernels(machine: str, arch: int) -> None:
    """As libseccomp has them, for both kinds of machine: each number of the tables is that of a named call."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        pytest.skip(f"the machine has no table to compare with: {error}")

    def numbers(names: str) -> set[int]:
        found = {
            name: library.seccomp_syscall_resolve_name_arch(arch, name.encode()) for name in names.split()
        }
        return {number for number in found.values() if number >= 0}

    assert set(REFUSED[machine]) == numbers(REFUSED_CALLS + (OF_X86 if machine == "x86_64" else "")) | {
        OPEN_TREE_ATTR
    }
    assert set(CHOWNS[machine]) == numbers(CHOWN_CALLS)
    assert set(UNKNOWN) == numbers("io_uring_setup io_uring_enter io_uring_register clone3")
    named = ("clone", "unshare", "socket", "socketpair")
    assert NUMBERS[machine] == (arch, *(number for name in named for number in numbers(name)))
    assert {PIVOT_ROOT[machine]} == numbers("pivot_root")
    assert {KEYCTL[machine]} == numbers("keyctl")
    new = "open_tree move_mount fsopen fsconfig fsmount mount_setattr"
    assert {OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, MOUNT_SETATTR} == numbers(new)


@pytest.mark.parametrize("machine", list(NUMBERS))
def test_the_filter_is_whole_on_every_machine(machine: str) -> None:
    """No comparison jumps beyond the program's end, and the last word is to allow."""
    program = make_filter(machine, one_id=True)
    lines = [program[at : at + 8] for at in range(0, len(program), 8)]
    assert lines[-1] == bytes([6, 0, 0, 0, 0, 0, 0xFF, 0x7F])
    assert all(number + 1 + max(line[2], line[3]) < len(lines) for number, line in enumerate(lines[:-1]))


def answer_of(program: bytes, arch: int, number: int, argument: int = 0) -> int:
    """What the kernel makes of a call by the program."""
    data = {0: number, 4: arch, 16: argument}
    value = at = 0
    while True:
        code, yes, no, operand = struct.unpack_from("HBBI", program, at * 8)
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            value = data[operand]
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            at += yes if holds else no
        at += 1


@pytest.mark.parametrize("machine", list(NUMBERS))
def test_the_filter_knows_calls_of_other_kinds(machine: str) -> None:
    """Those of 32 bits end the process and those of x32 are unknown, also where the kernel knows them; with one id,
    changes of the owner do nothing."""
    arch, clone, unshare, sockets, pairs = NUMBERS[machine]
    program, allowed, refused = make_filter(machine, one_id=False), 0x7FFF0000, 0x50001
    assert answer_of(program, 0x40000003, 20) == 0x80000000
    assert answer_of(program, arch, 0x40000000 + 39) == (0x50000 + ENOSYS if machine == "x86_64" else allowed)
    for number in CHOWNS[machine]:
        assert answer_of(program, arch, number) == allowed
        assert answer_of(make_filter(machine, one_id=True), arch, number) == 0x50000
    for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert (
            answer_of(program, arch, clone, flag | 17) == answer_of(program, arch, unshare, flag) == refused
        )
    assert answer_of(program, arch, clone, 17) == allowed
    for number in (sockets, pairs):
        families = [kind for kind in range(64) if answer_of(program, arch, number, kind) == allowed]
        assert families == [1, 2, 10, 16, 17]


def test_work_goes_on_under_the_filter() -> None:
    """Processes, threads, a debugger of one's own child, setuid programs, and Node."""
    work = (
        "python3 -c 'import multiprocessing as m; p = m.Pool(2); print(sum(p.map(abs, [-1, 2])))'",
        "python3 -c 'import threading; t = threading.Thread(target=print); t.start(); t.join()'",
        'node -e \'new (require("worker_threads").Worker)("1", {eval: true})\'',
        "su root -c true < /dev/null || sudo true",
        "git init -q r && git -C r -c user.name=a -c user.email=b commit -q --allow-empty -m x",
        "echo said > /dev/stdout",
    )

    async def story(box: Box) -> None:
        for command in work:
            output = await run(box, command)
            assert output.exit_code == 0, (command, output.stderr)

    tell(story, isolation("namespaces"), template=claude_template())


def test_root_and_user_are_two() -> None:
    """`user` reads no file of root's and signals no process of root's; with sudo it does both. Root adds accounts."""

    async def story(box: Box) -> None:
        await run(box, "install -m 600 /dev/null /srv/secret && echo key > /srv/secret", user="root")
        sleeper = await box.spawn(["sleep", "60"], user="root")
        assert (await run(box, "cat /srv/secret")).exit_code != 0
        assert (await run(box, f"kill {sleeper.pid}")).exit_code != 0
        assert (await run(box, "sudo cat /srv/secret")).stdout == "key\n"
        assert (await run(box, f"sudo kill {sleeper.pid}")).exit_code == 0
        added = "useradd -m worker && su worker -c 'touch ~/a' && stat -c %U ~worker/a"
        assert (await run(box, added, user="root")).stdout == "worker\n"
        assert (await run(box, "readlink /proc/self/exe; sudo -u worker id -un")).stdout.endswith("worker\n")
        await box.learn_user("worker")
        assert (await run(box, "id -un; pwd", user="worker")).stdout == "worker\n/home/worker\n"
        entry = await box.files.stat("/home/worker/a")
        assert (entry.owner, entry.group) == ("worker", "worker")
        owners = await run(box, python('import os; os.chown("/srv/secret", 7, 8)'), user="root")
        assert owners.exit_code == 0
        assert (await run(box, "stat -c %u:%g /srv/secret")).stdout == "7:8\n"

    tell(story, isolation("namespaces"))


def test_a_sandbox_without_its_accounts_still_has_root_and_user() -> None:
    """What an agent makes of /etc/passwd neither stops the guest nor changes who the two are."""

    async def story(box: Box) -> None:
        await run(
            box, "rm /etc/passwd /etc/group; mkfifo /etc/passwd; ln -s /dev/zero /etc/group", user="root"
        )
        for user, number in (("user", "1000\n"), ("root", "0\n")):
            process = await box.spawn(["/usr/bin/id", "-u"], user=user)
            assert await process.read() == ("stdout", number.encode())
        with pytest.raises(UnknownUser):
            await box.learn_user("daemon")
        assert (await box.files.stat("/home/user")).owner == "1000"

    tell(story, isolation("namespaces"))


NPM = """
printf '{"name": "own", "version": "1.0.0", "bin": {"own-tool": "own.js"}}' > package.json
printf '#!/usr/bin/env node\\nconsole.log(7)\\n' > own.js
npm install -g --offline . > /dev/null && own-tool && sudo npm uninstall -g own > /dev/null && ! own-tool 2> /dev/null
"""


def test_user_installs_commands_without_sudo() -> None:
    """Into /usr/local, which all may write on E2B's image, and by npm, whose own folder nobody may."""

    async def story(box: Box) -> None:
        done = await run(box, "touch /usr/local/bin/a /usr/local/lib/a && ! touch /usr/bin/a")
        assert done.exit_code == 0, done.stderr
        done = await run(box, NPM)
        assert (done.stdout, done.exit_code) == ("7\n", 0), done.stderr

    tell(story, isolation("namespaces"), template=claude_template())


DEB = """
mkdir -p /tmp/own/DEBIAN /tmp/own/opt/own && cd /tmp/own
printf 'Package: own\nVersion: 1\nArchitecture: all\nMaintainer: me <me@here>\nDescription: own\n' > DEBIAN/control
printf '#!/bin/sh\nset -e\nuseradd -r ownd\nchown ownd /opt/own\n' > DEBIAN/postinst
chmod 755 DEBIAN/postinst && dpkg-deb -b . /tmp/own.deb > /dev/null && sudo dpkg -i /tmp/own.deb > /dev/null
stat -c %U /opt/own; dpkg-query -W -f '${db:Status-Status}' own
"""


@pytest.mark.skipif(not Path("/usr/bin/dpkg-deb").exists(), reason="this machine has no dpkg")
def test_a_package_is_installed() -> None:
    """By dpkg with this machine's database: its files are laid, and its script adds an account that owns a folder."""

    async def story(box: Box) -> None:
        done = await run(box, DEB)
        assert done.stdout == "ownd\ninstalled", done.stderr

    tell(story, isolation("namespaces"))


def test_a_setuid_file_is_nobodys_on_this_machine() -> None:
    """What root inside makes setuid belongs to an id without a process, below a folder that only this root enters."""

    async def story(box: Box) -> None:
        await run(box, "cp /bin/true /srv/evil && chmod 6755 /srv/evil", user="root")
        able = (
            f"os.setxattr('/srv/evil', 'security.capability', bytes.fromhex('01000002ffffffff{'00' * 12}'))"
        )
        assert (await run(box, python(f"import os; {able}"), user="root")).exit_code == 0
        evil = on_disk(box, "/srv/evil")
        found = evil.stat()
        assert found.st_mode & stat.S_ISUID
        assert found.st_uid not in (0, os.geteuid(), box.account)
        assert found.st_uid > 1_000_000
        capability = os.getxattr(evil, "security.capability")
        assert int.from_bytes(capability[20:24], "little") == found.st_uid, "whose namespace it counts in"
        assert box.spec.state.stat().st_mode & 0o077 == 0
        assert box.spec.state.stat().st_uid == 0

    tell(story, isolation("namespaces"))


@pytest.mark.parametrize("places", [("opt", "tmp", "srv"), ("dev",), ("proc",), ("usr",), ("home",)], ids=str)
def test_links_of_a_snapshot_lead_nowhere_outside(places: tuple[str, ...]) -> None:
    """A sandbox that starts with links in the places of folders that are mounted has its own there, or does not start;
    nothing is made at what they lead to, nor above the root, where this machine's is for a while."""
    outside = Path(tempfile.mkdtemp(dir="/var/tmp"))  # what PID 1 sees in /tmp is its own
    outside.chmod(0o777)
    machines = isolation("namespaces")

    async def story(folder: Path) -> None:
        async with fresh_box(machines, folder, "first") as first:
            await run(first, "true")
            await first.copy_state(folder / "copy")
        for name in places:
            planted = folder / "copy" / "root" / name
            await asyncio.to_thread(_plant, planted, f"/..{outside}")
        async with fresh_box(
            machines, folder, "second", seed=folder / "copy", template=claude_template()
        ) as second:
            await run(second, "sudo touch /opt/x /srv/x /tmp/x")
            fd = await second.files.open("/srv/y", os.O_WRONLY | os.O_CREAT, parents=True, user="root")
            os.close(fd)

    with contextlib.suppress(BoxError, FileNotFoundError):  # it may refuse to start, or to open
        tell_in(story)
    outside.rmdir()


def _plant(place: Path, target: str) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.symlink_to(target)


def test_what_is_mounted_is_the_sandboxs_own() -> None:
    """Nothing of this machine's tree is left below or above the root, and what is bound from it is read-only."""

    async def story(folder: Path) -> None:
        (folder / "shared").mkdir(mode=0o777)
        (folder / "shared").chmod(0o777)
        template = replace(base_template(), binds={"/opt/shared": folder / "shared"})
        async with fresh_box(isolation("namespaces"), folder, template=template) as box:
            mounts = (await run(box, "cut -d ' ' -f 5 /proc/self/mountinfo")).stdout.split()
            top = {"/" + path.split("/")[1] for path in mounts}
            assert top == {"/", "/usr", "/dev", "/proc", "/opt"}
            assert mounts.count("/") == 1
            refused = await run(
                box, "touch /opt/shared/new; grep /opt/shared /proc/self/mountinfo", user="root"
            )
            assert "Read-only" in refused.stderr
            assert refused.stdout.split()[5].startswith("ro,nosuid,nodev")
            own = (
                await asyncio.to_thread(Path(f"/proc/{box._launched.process.pid}/status").read_text)
            ).splitlines()
            assert f"CapEff:\t{DOCKERS_CAPABILITIES:016x}" in own

    tell_in(story)


def test_the_guest_has_nothing_of_another() -> None:
    """Its socket to the server, and what it opened itself: not the launcher's socket, nor a mount, nor a file. Nor has
    it the server's environment, and a signal to its process group reaches nobody else."""

    async def story(box: Box) -> None:
        await run(box, "true")
        pid = box._launched.process.pid
        launcher = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])  # noqa: ASYNC240  # a test may look
        assert os.getpgid(pid) != os.getpgid(launcher)
        folder = f"/proc/{pid}/fd"
        kinds = {os.readlink(f"{folder}/{name}").partition(":")[0] for name in os.listdir(folder)}
        assert kinds <= {"/dev/null", "/null", "/memfd", "pipe", "socket"}
        sockets = [
            name for name in os.listdir(folder) if os.readlink(f"{folder}/{name}").startswith("socket")
        ]
        assert len(sockets) == 1
        environment = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
        assert environment.split(b"=")[0] in (b"", b"LD_LIBRARY_PATH")
        assert environment.count(b"\0") <= 1

    tell(story, isolation("namespaces"), network=NetworkPolicy(allow_internet_access=False))


DOCKERS_CAPABILITIES = 0xA80425FB
"""No SYS_ADMIN, SYS_PTRACE, SYS_RESOURCE, NET_ADMIN, DAC_READ_SEARCH, SYS_MODULE, and so on."""


def test_root_keeps_the_capabilities_that_packages_need_and_no_other() -> None:
    """The bounding set is that of Docker's root, for everybody."""

    async def story(box: Box) -> None:
        status = (await run(box, "grep CapBnd /proc/self/status")).stdout
        mask = int(status.split()[1], 16)
        assert mask == DOCKERS_CAPABILITIES
        score = (
            await run(box, "echo -900 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj", user="root")
        ).stdout
        assert int(score) >= 500

    tell(story, isolation("namespaces"))


def test_a_sandbox_has_a_session_keyring_of_its_own() -> None:
    """It belongs to the sandbox's first id: nothing inside possesses a key of whoever started the server."""
    if not Path("/proc/keys").exists():
        pytest.skip("the kernel lists no keys")

    async def story(box: Box) -> None:
        seen = await asyncio.to_thread(
            subprocess.run,
            ["cat", "/proc/keys"],
            user=box.account,
            group=box.account,
            extra_groups=[],
            capture_output=True,
            text=True,
        )
        rings = [line.split() for line in seen.stdout.splitlines() if " _ses" in line]
        assert str(box.account) in [words[5] for words in rings]

    tell(story, isolation("namespaces"))


MOUNTS = {
    # Machine.mount_overlay, make_dev, make_proc: where each is, and what it must be
    "/": ({"rw", "nodev"}, {"userxattr"}),
    "/usr": ({"rw", "nodev"}, {"userxattr"}),
    "/dev": ({"rw", "nosuid"}, {"size=64k", "nr_inodes=64", "mode=755"}),
    "/dev/pts": ({"rw", "nosuid", "noexec"}, {"mode=620", f"max={TERMINALS}"}),
    "/dev/shm": ({"rw", "nosuid", "nodev"}, {"size=262144k", "nr_inodes=10240"}),
    "/proc": ({"rw", "nosuid", "nodev", "noexec"}, set()),
    **{
        f"/proc/{name}": ({"ro", "nosuid", "nodev", "noexec"}, set())
        for name in ("sys", "bus", "fs", "irq", "sysrq-trigger")
    },
    **{
        f"/proc/{name}": (set(), set())
        for name in ("kcore", "kmsg", "timer_list", "keys", "key-users", "sched_debug")
    },
}


def test_each_mount_is_as_closed_as_it_may_be() -> None:
    """What the kernel or another wall refuses as well is refused here too. No user namespace can be made inside."""
    there = {place for place in MOUNTS if Path(place).exists()}

    async def story(box: Box) -> None:
        found = {}
        for line in (await run(box, "cat /proc/self/mountinfo")).stdout.splitlines():
            place, options, *_, above = line.split()[4:]
            found[place] = set(options.split(",")), set(above.split(","))
        for place, (options, above) in MOUNTS.items():
            if place in there:
                assert place in found, place
                assert options <= found[place][0], place
                assert above <= found[place][1], place
        assert (await run(box, "cat /proc/sys/user/max_user_namespaces")).stdout == "0\n"

    tell(story, isolation("namespaces"))


@pytest.mark.parametrize("tool", ["kill -STOP $1", "exec sleep 600"])
def test_a_start_that_hangs_keeps_no_other_waiting(tmp_path: Path, tool: str) -> None:
    """Neither a sandbox's process that stops, nor a tool that does not end: the next one starts."""
    (tmp_path / "tool").write_text(f"#!/bin/sh\n{tool}\n")
    (tmp_path / "tool").chmod(0o755)
    tools = SubordinateRange((str(tmp_path / "tool"),) * 2, (), ())
    launcher = LauncherClient()
    for ids, shared in (("range", tools), ("own", None)):
        machines = Namespaces(ids, launcher, shared)
        spec = LaunchSpec("one", tmp_path / ids, base_template(), 1_000_000_000)
        machines._prepare_state(spec)
        request = {**machines.make_request(spec), "step_timeout": 0.2 if shared else 20.0}
        with socket.socket() as control, tempfile.TemporaryFile() as errors:
            if shared:
                with pytest.raises(OSError, match=r"timed out|not ended"):
                    launcher.launch(request, control.fileno(), errors.fileno())
            else:
                launcher.launch(request, control.fileno(), errors.fileno()).wait()


def test_a_sandbox_ends_with_the_launcher() -> None:
    """Also where the server lives on."""

    async def story(box: Box) -> None:
        status = await asyncio.to_thread(Path(f"/proc/{box._launched.process.pid}/status").read_text)
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert fields["Groups"].strip() == "", "none of the server's"
        os.kill(int(fields["PPid"]), signal.SIGKILL)
        await box.wait()

    tell(story, isolation("namespaces"))


# --- bounds


TAKE = """
import ctypes, os, socket
libc = ctypes.CDLL(None)
watchers = sum(libc.inotify_init() >= 0 for _ in range(200))
opened = []
try:
    while len(opened) < 1000: opened.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
except OSError: pass
address = os.environ["HTTP_PROXY"].removeprefix("http://").split(":")
kept = [socket.create_connection(address, 10) for _ in range(300)]
closed = 0
for each in reversed(kept[-44:]):
    each.settimeout(10)
    closed += each.recv(1) == b""
print(watchers, len(opened), closed)
"""


def test_a_sandbox_takes_its_share_of_what_all_have() -> None:
    """Of a user's instances of inotify, of the machine's terminals, and of the server's descriptors by its proxy."""

    async def story(box: Box) -> None:
        taken = (await run(box, python(TAKE), user="root")).stdout
        assert taken == f"{WATCHERS} {TERMINALS} {300 - MAX_CONNECTIONS}\n"
        assert (await run(box, "sudo -n true")).exit_code == 0

    tell(story, isolation("namespaces"))


def test_devices_are_not_copied() -> None:
    """Where moving is copying, between file systems: reading a terminal would never end."""

    async def story(box: Box) -> None:
        with pytest.raises(OSError, match="Not a regular file"):
            await box.files.move("/dev/pts", "/home/user/terminals")

    tell(story, isolation("namespaces"))


def test_root_inside_does_not_stop_the_server() -> None:
    """By no signal to PID 1, and by nothing that stands where the server writes."""

    async def story(box: Box) -> None:
        await run(box, "for n in $(seq 64); do kill -$n 1; done", user="root")
        await run(box, f"rm {APT_PROXY} && mkdir -p {APT_PROXY}/x", user="root")
        await box.update_network(NetworkPolicy(allow_internet_access=False))
        assert (await run(box, "true")).exit_code == 0

    tell(story, isolation("namespaces"))


HOARD = """
import array, resource, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept, many = [], array.array("i", [0] * 250)
try:
    while True:
        kept.append(socket.socketpair())
        kept[-1][0].setblocking(False)
        try:
            while True:
                kept[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
        except BlockingIOError:
            pass
except OSError as error:
    print(error.errno, flush=True)
    sys.stdin.read()
"""


def test_descriptors_that_wait_in_sockets_do_not_end_a_sandbox() -> None:
    """The kernel counts them by account, and refuses the guest's own then: what wants one is refused, for that time."""

    async def story(box: Box) -> None:
        hoard = await box.spawn(["python3", "-c", HOARD], user="root", stdin=True)
        assert await hoard.read() == ("stdout", b"109\n")
        with pytest.raises(OSError, match="Too many references"):
            await box.files.open("/etc/hosts")
        hoard.close_stdin()
        await hoard.wait()
        os.close(await box.files.open("/etc/hosts"))

    tell(story, isolation("namespaces"))


def test_processes_of_all_accounts_are_bounded_together() -> None:
    """Root's and the user's count as one."""
    bomb = "import os, time\nfor n in range(100):\n  try:\n    os.fork() or time.sleep(60)\n  except OSError: break"

    async def story(box: Box) -> None:
        for user in ("user", "root"):
            await run(box, f"python3 -c '{bomb}' > /dev/null 2>&1 & sleep 0.3", user=user)
        assert 30 <= len(box._host_pids()) <= 60

    tell(story, isolation("namespaces"), limits=BoxLimits(pids=60))


def test_the_disk_is_bounded() -> None:
    """In bytes and in files, for root too; what is removed can be written again."""
    machines = isolation("namespaces")
    if "disk" not in machines.enforces:
        pytest.skip("no file system can be made and mounted here")

    async def story(box: Box) -> None:
        full = await run(box, "head -c 100M /dev/zero > /srv/big", user="root")
        assert "No space left" in full.stderr
        assert (
            await run(box, "rm /srv/big; head -c 20M /dev/zero > /usr/lib/small", user="root")
        ).exit_code == 0
        many = await run(box, python('for n in range(40000): open(f"/tmp/{n}", "w").close()'))
        assert "No space left" in many.stderr
        usage = await box.measure_usage()
        assert usage.disk_total == 64 << 20
        assert usage.disk_used < 64 << 20
        with pytest.raises(OSError, match="cannot be copied"):
            await box.copy_state(box.spec.state.parent / "copy")

    tell(story, machines, limits=BoxLimits(disk_mb=64))
