"""Sixty ways out of a sandbox, tried by its root, on a server of root's and on one of an ordinary user's.

Each command succeeds only if it got out, or took what is not the sandbox's.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from harness.local.boxes.box import Box
from tests.local.test_isolation import SOMEBODY, story
from tests.local.test_walls import CALLS, REFUSED_TO_ROOT, X86, python
from tests.support.boxes import isolation, run, tell

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
    "a kernel module": "modprobe dummy",
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
    "a network device": "ip link add d0 type dummy",
    "a firewall rule": "iptables -A INPUT -j ACCEPT || nft add table x",
    "a higher priority": "renice -n -5 $$",
    "a real-time priority": "chrt -f 10 true",
    "a lower score": "echo -1000 > /proc/self/oom_score_adj",
    "a core pattern by bind": "mount --bind /etc/hostname /proc/sys/kernel/core_pattern",
    "modprobe's path": "echo /tmp/x > /proc/sys/kernel/modprobe",
    "all processes of the machine": "[ $(ls -d /proc/[0-9]* | wc -l) -gt 30 ]",
    "this checkout by PID 1": f"ls /proc/1/root{HERE}",
    "this checkout by descriptor": f"ls /proc/1/cwd{HERE}",
    "abstract sockets of others": "grep -q @ /proc/net/unix",
    "a raw packet to the machine": "ping -c 1 -W 1 1.1.1.1",
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


def attempts() -> dict[str, str]:
    """All of them. A call of the filter's list has got out if it was made."""
    calls = {
        name: python(LIBC + f"libc.syscall.restype = ctypes.c_long; exit(libc.syscall({arguments}) < 0)")
        for name, (arguments, _) in CALLS.items()
        if X86
    }
    return {**REFUSED_TO_ROOT, **calls, **MORE}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="as root: an ordinary user's server is tried too")
def test_nobody_gets_out_of_a_server_of_roots() -> None:
    """No attempt succeeds, and what root inside writes into /usr is not there outside."""
    assert len(attempts()) >= 60

    async def tale(box: Box) -> None:
        done = [(name, await run(box, command, user="root")) for name, command in attempts().items()]
        assert [(name, output) for name, output in done if output.exit_code == 0] == []
        await run(box, f"touch /usr/bin/{MARK} /etc/{MARK} /tmp/{MARK}", user="root")

    tell(tale, isolation("namespaces"))
    assert not any(Path(folder, MARK).exists() for folder in ("/usr/bin", "/etc", "/tmp"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_gets_out_of_an_ordinary_users_server() -> None:
    """With one id for all accounts, where changes of the owner succeed and do nothing."""
    commands = {name: command for name, command in attempts().items() if "owner" not in name}
    said = story(account=SOMEBODY, commands=[f"bash -c {shlex.quote(each)}" for each in commands.values()])
    assert said["tier"] == "namespaces"
    done = zip(commands, said["outputs"], strict=True)
    assert [(name, output) for name, output in done if output[0] == 0] == []
