"""Ways out of a sandbox, tried by its root: on a server of root's, on one of an ordinary user's with a range of ids,
and on one with a single id.

Each command succeeds only if it got out, or took what is not the sandbox's. Beside the sandbox lies what is to be
taken: things of this machine that any account may use (`baits`), and another sandbox (`NEIGHBOUR`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.local.template import claude_template
from tests.local.test_isolation import SOMEBODY, range_of_this_machine, story
from tests.local.test_walls import CALLS, REFUSED_TO_ROOT, X86, python
from tests.support.boxes import fresh_box, isolation, run, tell_in

HERE = Path(__file__).parent
MARK = f"escaped-{os.getpid()}"

LIBC = "import ctypes, os; libc = ctypes.CDLL(None); "
MORE = {
    "trace PID 1": python(LIBC + "exit(libc.ptrace(16, 1, None, None) < 0)"),
    "climb out of a chroot": python(
        f"import os; os.makedirs('/tmp/c', exist_ok=True); f = os.open('/', 0); os.chroot('/tmp/c'); os.fchdir(f); "
        f"[os.chdir('..') for _ in range(64)]; os.chroot('.'); exit(not os.path.exists('{HERE}'))"
    ),
    "enter PID 1's mounts": "nsenter -t 1 -m true",
    "enter PID 1's network": "nsenter -t 1 -n true",
    "the disk": "mknod /tmp/d b 254 0 && head -c 1 /tmp/d | grep -q .",
    "memory by device": "mknod /tmp/m c 1 1 && head -c 1 /tmp/m | grep -q .",
    "a loop device": "losetup -f | grep -q loop",
    "a kernel module": python(LIBC + "exit(libc.init_module(bytes(64), 64, b'') < 0)"),
    "a group of processes": "mkdir -p /tmp/cg && mount -t cgroup -o memory none /tmp/cg",
    "the second version": "mkdir -p /tmp/cg && mount -t cgroup2 none /tmp/cg",
    "sysfs": "mount -t sysfs none /sys",
    "another proc": "mkdir -p /tmp/p && mount -t proc none /tmp/p",
    "a bind mount": "mount --bind / /mnt",
    "an overlay": "mount -t overlay -o lowerdir=/usr:/opt none /mnt",
    "unmount proc": "umount -l /proc",
    "unmount a closed file": "umount /proc/keys",
    "a capability by file": "cp /bin/mount /tmp/mnt && setcap cap_sys_admin+ep /tmp/mnt && /tmp/mnt -t tmpfs x /mnt",
    "more capabilities": python(
        LIBC + "import struct; d = struct.pack('6I', *[2**32 - 1] * 2, 0, *[2**32 - 1] * 2, 0); "
        "exit(libc.capset(struct.pack('Ii', 0x20080522, 0), d))"
    ),
    "an ambient capability": python(LIBC + "exit(libc.prctl(47, 2, 21, 0, 0))"),
    "a container's socket": "ls /var/run/docker.sock /run/docker.sock",
    "a system bus": "ls /run/dbus/system_bus_socket",
    "a network device": python(
        # RTM_NEWLINK of a dummy device, as ip(8) asks for it; the answer's error is 0 if it is made
        "import socket as s, struct as t; n = s.socket(16, 3, 0); kind = t.pack('HH8s', 9, 1, b'dummy'); "
        "asked = t.pack('BxHiII', 0, 0, 0, 0, 0) + t.pack('HH', 4 + len(kind), 18) + kind; "
        "n.send(t.pack('IHHII', 16 + len(asked), 16, 0x605, 1, 0) + asked); "
        "exit(t.unpack_from('i', n.recv(4096), 16)[0])"
    ),
    "a firewall": python("import socket; socket.socket(2, 3, 255).setsockopt(0, 64, bytes(88))"),
    "a higher priority": python("import os; os.setpriority(0, 0, -5)"),
    "a real-time priority": python("import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))"),
    "a lower score": "echo -1000 > /proc/self/oom_score_adj",
    "a core pattern by bind": "mount --bind /etc/hostname /proc/sys/kernel/core_pattern",
    "modprobe's path": "echo /tmp/x > /proc/sys/kernel/modprobe",
    "all processes of the machine": "[ $(ls -d /proc/[0-9]* | wc -l) -gt 30 ]",
    "this checkout by PID 1": f"ls /proc/1/root{HERE}",
    "this checkout by descriptor": f"ls /proc/1/cwd{HERE}",
    "abstract sockets of others": "grep -q @ /proc/net/unix",
    "a raw packet to the machine": python(
        "import socket; socket.socket(2, 3, 1).sendto(bytes(8), ('1.1.1.1', 0))"
    ),
    "a link to Claude Code": "ln /opt/claude/claude /tmp/claude",
    "reading Claude Code by its process": (
        "/opt/claude/claude --help > /dev/null & sleep 0.05; head -c 1 /proc/$!/mem /proc/$!/maps | grep -q ."
    ),
    "the journal": "ls /var/log/journal /var/log/syslog",
    "the machine's hash": "grep -q '[$]' /etc/shadow",
    "keys of ssh": "ls /etc/ssh/*key /root/.ssh",
    "acct": python(LIBC + "exit(libc.acct(None))"),
    "swap": python(LIBC + "exit(libc.swapoff(b'/dev/null'))"),
    "the clock's speed": python(LIBC + "exit(libc.adjtimex(bytes([1]) + bytes(300)) < 0)"),
}


KNOCK = "import socket, sys; c = socket.create_connection((%r, %s), 3); exit(c.recv(5) != b'bait!')"
NEIGHBOUR = python(
    "import os, socket; a = socket.create_server(('0.0.0.0', 8123)); b = socket.socket(1); b.bind('\\0next'); "
    "b.listen(); [open(n, 'w').close() for n in ('/tmp/next', '/dev/shm/next', '/srv/next')]; "
    "os.fork() and os._exit(0); os.setsid(); os.closerange(0, 3); os.execvp('sleep', ['next-sleeps', '60'])"
)
"""What another sandbox has at the time: a port, an abstract socket, files and a process."""

OTHERS = {
    # Child.unshare: the namespaces
    "a port of the neighbour": python("import socket; socket.create_connection(('127.0.0.1', 8123), 3)"),
    "a socket of the neighbour": python("import socket; socket.socket(1).connect('\\0next')"),
    "a file of the neighbour": "ls /tmp/next || ls /dev/shm/next || ls /srv/next",
    "a process of the neighbour": "grep -lz '^next-slee[p]s' /proc/[0-9]*/cmdline",
    "shared memory of the machine": python(LIBC + "exit(libc.shmget({key}, 0, 0) < 0)"),
    "an abstract socket of the machine": python("import socket; socket.socket(1).connect('\\0{mark}')"),
    "a socket file of the machine": python("import socket; socket.socket(1).connect('/tmp/{mark}.sock')"),
    "a port of the machine": python(KNOCK % ("127.0.0.1", "{port}")),
    "a port by any address": python(KNOCK % ("0.0.0.0", "{port}")),
    "a port by IPv6": python(KNOCK % ("::ffff:127.0.0.1", "{port}")),
    "a port by the proxy": "for h in 127.0.0.1 localhost 0 [::1] 127.1 2130706433 [::ffff:7f00:1] {address}; do "
    "curl -s -m 5 --noproxy '' -x $HTTP_PROXY http://$h:{port} | grep -q bait! && exit 0; "
    "curl -s -m 5 --noproxy '' -p -x $HTTP_PROXY http://$h:{port} | grep -q bait! && exit 0; done; false",
    # Machine.enter: the root
    "a file of the machine's /tmp": "cat /tmp/{mark}",
    "writing to the machine's /tmp": "echo x | dd of=/tmp/{mark} conv=nocreat",
    "the machine by a bind": "ls /tmp/{mark} /old/tmp/{mark} /proc/self/cwd/../../tmp/{mark} | grep -q .",
    "a mount that spreads": "mount --make-rshared / || mount --make-shared /usr",
    "an older root": python(LIBC + "os.chdir('/'); exit(libc.syscall(155, b'.', b'.') < 0)"),
    "out of a chroot by its descriptor": python(
        "import os; os.makedirs('/tmp/j/k', exist_ok=True); f = os.open('/tmp', 0); os.chroot('/tmp/j'); "
        "os.fchdir(f); [os.chdir('..') for _ in range(64)]; os.stat('./tmp/{mark}')"
    ),
    "roots of all processes": "ls /proc/[0-9]*/root/tmp/{mark} | grep -q .",
    "descriptors of all processes": python(
        "import glob, os; found = [os.readlink(f) for f in glob.glob('/proc/[0-9]*/fd/*') if f.split('/')[2] != "
        "str(os.getpid()) and os.path.exists(f)]; exit(not any('{mark}' in each for each in found))"
    ),
    "a folder that was left open": python(
        "import os\nfor n in range(3, 256):\n  try: os.fchdir(n)\n  except OSError: continue\n"
        "  for _ in range(64): os.chdir('..')\n  os.path.exists('tmp/{mark}') and exit(0)\nexit(1)"
    ),
    "a socket that was left open": python(
        "import os, stat\nfor n in range(3, 256):\n  try: stat.S_ISSOCK(os.fstat(n).st_mode) and exit(0)\n"
        "  except OSError: pass\nexit(1)"
    ),
    "a redirect of the overlay": python(
        "import os; os.makedirs('/srv/r', exist_ok=True); "
        "os.setxattr('/srv/r', 'user.overlay.redirect', b'/../../../tmp'); os.stat('/srv/r/{mark}')"
    ),
    # Machine.make_proc and make_dev
    "a handler of programs": (
        "mount -t binfmt_misc none /mnt || echo :x:M::x::/tmp/x: > /proc/sys/fs/binfmt_misc/register"
    ),
    "sysfs as it is": (
        "echo 1 > /sys/kernel/uevent_helper || echo x > /sys/fs/cgroup/release_agent || ls /sys/* | grep -q ."
    ),
    "a release agent": "find / -xdev -name release_agent 2>/dev/null | grep -q .",
    "the size of pipes": "echo 9999999 > /proc/sys/fs/pipe-max-size",
    "packets for others": "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "the log of the kernel": "head -c 1 /proc/kmsg | grep -q . || head -c 1 /dev/kmsg | grep -q .",
    "a device of /dev": "ls /dev | grep -vE '^(fd|full|null|ptmx|pts|random|shm|std(in|out|err)|tty|urandom|zero)$'",
    "kernel memory by device": "mknod /tmp/km c 1 2 && head -c 1 /tmp/km | grep -q .",
    "a tun device": "mknod /tmp/tun c 10 200 && exec 9<>/tmp/tun",
    "fuse": "mknod /tmp/fuse c 10 229 && exec 9<>/tmp/fuse",
    "a terminal of the machine": python(
        "import os, fcntl; t = os.open('/dev/tty', os.O_RDWR); fcntl.ioctl(t, 0x5412, b'x')"
    ),
    "a map of the guest": "head -c 1 /proc/1/maps | grep -q . || ls /proc/1/map_files/ | grep -q .",
    "the layers' folders": (
        "grep -oE '(lower|upper|work)dir=[^, ]*' /proc/self/mountinfo | cut -d= -f2 | tr : '\\n' | xargs ls | grep -q ."
    ),
    # the filter and the capabilities
    "a trace of the guest": python(LIBC + "exit(libc.ptrace(0x4206, 1, None, None) < 0)"),
    "the guest's memory by call": python(
        LIBC + "b = ctypes.create_string_buffer(8); v = (ctypes.c_void_p * 2)(ctypes.addressof(b), 8); "
        "r = (ctypes.c_void_p * 2)(0x400000, 8); exit(libc.process_vm_readv(1, v, 1, r, 1, 0) < 0)"
    ),
    "a descriptor of the guest": python(LIBC + "p = os.pidfd_open(1); exit(libc.syscall(438, p, 3, 0) < 0)"),
    "namespaces of the guest": python(LIBC + "p = os.pidfd_open(1); exit(libc.setns(p, 0x20000000) < 0)"),
    "the guest's end": "kill -9 1; kill -STOP 1; grep -q '^State:.[TtZ]' /proc/1/status",
    "calls of 32 bits": python(
        LIBC + "import mmap; m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3')); "
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()"
    ),
    "a segment of one's own": python(LIBC + "exit(libc.syscall(154, 1, bytes(16), 16) < 0)"),
    "keys of the session": python(LIBC + "exit(libc.syscall(250, 6, -3, 0, 0, 0) < 0)"),
    "sockets of rare kinds": python(
        "import socket\nfor kind in (*range(3, 10), *range(11, 16), *range(18, 46)):\n"
        "  for how in (1, 2, 3, 5):\n    try: socket.socket(kind, how); exit(0)\n    except OSError: pass\nexit(1)"
    ),
    "pairs of rare kinds": python("import socket; socket.socketpair(30, 1)"),
    "a packet filter of the kernel's": python(LIBC + "exit(libc.syscall(321, 5, bytes(120), 120) < 0)"),
    "a user namespace by a thread": python(LIBC + "exit(libc.unshare(0x10000000 | 0x200) < 0)"),
    "a time namespace": python(LIBC + "exit(libc.unshare(0x80) < 0)"),
    "a mapping of one's own": "echo '0 0 1' > /proc/self/uid_map",
    "a quota": python(LIBC + "exit(libc.syscall(179, 0x800002 << 8, b'/dev/root', 0, None) < 0)"),
    "the machine's group": "[ $(cut -d: -f3 /proc/self/cgroup | sort -u | grep -vx / | wc -l) -gt 0 ]",
}
OTHERS = {name: each for name, each in OTHERS.items() if X86 or "syscall(" not in each}


@contextmanager
def baits() -> Iterator[dict[str, str | int]]:
    """Things of this machine that every account of it may use, by the names that attempts have for them."""
    libc = ctypes.CDLL(None)
    shared, file, path = os.getpid(), Path("/tmp", MARK), Path("/tmp", f"{MARK}.sock")
    segment = libc.shmget(shared, 4096, 0o1666)
    file.write_text("bait")
    file.chmod(0o666)
    with contextlib.ExitStack() as stack:
        stack.callback(libc.shmctl, segment, 0, None)
        for each in (file, path):
            stack.callback(each.unlink)
        for name in (f"\0{MARK}", str(path)):
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(name)
        path.chmod(0o777)
        port = stack.enter_context(socket.create_server(("0.0.0.0", 0)))
        threading.Thread(target=_answer, args=(port,), daemon=True).start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect(("192.0.2.1", 9))
            address = way.getsockname()[0]
        yield {"mark": MARK, "key": shared, "port": port.getsockname()[1], "address": address}
        assert file.read_text() == "bait"


def _answer(port: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            with port.accept()[0] as guest:
                guest.sendall(b"bait!")


def attempts(found: dict[str, str | int]) -> dict[str, str]:
    """All of them. A call of the filter's list has got out if it was made."""
    calls = {
        name: python(LIBC + f"libc.syscall.restype = ctypes.c_long; exit(libc.syscall({arguments}) < 0)")
        for name, (arguments, _) in CALLS.items()
        if X86
    }
    others = dict(OTHERS)
    for bait, value in found.items():
        others = {name: each.replace("{" + bait + "}", str(value)) for name, each in others.items()}
    return {**REFUSED_TO_ROOT, **calls, **MORE, **others}


def out_or_untried(done: dict[str, int]) -> list[str]:
    """Those that got out, and those whose program is missing: they prove nothing."""
    return [name for name, code in done.items() if code in (0, 127)]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="as root: an ordinary user's server is tried too")
def test_nobody_gets_out_of_a_server_of_roots() -> None:
    """No attempt succeeds, and what root inside writes into /usr is not there outside."""

    async def tale(folder: Path) -> None:
        async with (
            fresh_box(isolation("namespaces"), folder, "one", template=claude_template()) as box,
            fresh_box(isolation("namespaces"), folder, "two") as neighbour,
        ):
            assert (await run(neighbour, NEIGHBOUR, user="root")).exit_code == 0
            for name, command in commands.items():
                done[name] = (await run(box, command, user="root")).exit_code
            await run(box, f"touch /usr/bin/{MARK} /etc/{MARK} /tmp/{MARK}", user="root")

    done: dict[str, int] = {}
    with baits() as found:
        commands = attempts(found)
        assert len(commands) >= 120
        tell_in(tale)
    assert out_or_untried(done) == []
    assert not any(Path(folder, MARK).exists() for folder in ("/usr/bin", "/etc", "/tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("ids", ["one", "range"])
def test_nobody_gets_out_of_an_ordinary_users_server(ids: str) -> None:
    """Neither with one id for all accounts, where changes of the owner succeed and do nothing, nor with a range."""
    if ids == "one" and os.geteuid() != 0:
        pytest.skip("only root can become somebody without a range")
    ranged = range_of_this_machine() if ids == "range" else None
    with baits() as found:
        commands = {
            name: each for name, each in attempts(found).items() if ids == "range" or "owner" not in name
        }
        said = story(
            account=ranged.pw_uid if ranged else SOMEBODY,
            home=Path(ranged.pw_dir) if ranged else None,
            user="root",
            neighbour=NEIGHBOUR,
            commands=[f"bash -c {shlex.quote(each)}" for each in commands.values()],
        )
    assert said["tier"] == "namespaces"
    assert ("accounts" in said["enforces"]) == (ids == "range")
    done = {name: output[0] for name, output in zip(commands, said["outputs"], strict=True)}
    assert out_or_untried(done) == []


HOG = """
import ctypes, os, time
one = os.fork()
for account in () if one else range(1, 9):
    if not os.fork():
        os.setuid(account)
        [ctypes.CDLL(None).inotify_init() for _ in range(100)]
        time.sleep(600)
try:
    while not one:
        os.fork() or time.sleep(600)
except OSError:
    print("done", flush=True)
    time.sleep(600)
"""
"""Takes all that it can of inotify and of processes, for many accounts."""


@pytest.mark.parametrize("ids", ["one", "range"])
def test_a_sandbox_leaves_an_ordinary_users_others_their_share(ids: str) -> None:
    """Of what the kernel counts for the account that all of them have outside. Others start, and work."""
    if ids == "one" and os.geteuid() != 0:
        pytest.skip("only root can become somebody without a range")
    ranged = range_of_this_machine() if ids == "range" else None
    said = story(
        account=ranged.pw_uid if ranged else SOMEBODY,
        home=Path(ranged.pw_dir) if ranged else None,
        pids=60,
        neighbour=f"mkfifo /tmp/said && {{ {python(HOG)} < /dev/null > /tmp/said 2>&1 & }} && head -n 1 /tmp/said",
        commands=["seq 9 | xargs -P 9 -I{} sh -c : && " + python(LIBC + "exit(libc.inotify_init() < 0)")],
    )
    assert ("accounts" in said["enforces"]) == (ids == "range")
    assert said["outputs"] == [[0, ""]]
