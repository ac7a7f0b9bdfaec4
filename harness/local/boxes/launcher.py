"""The launcher of the `namespaces` tier: a small process that forks sandboxes.

The server starts it once, with an empty environment, as `python -I -S`. It holds no secret, has one thread, and its
memory is what every sandbox's guest shares. For each request it makes a sandbox in these steps, whose order matters:

1. A child takes the first id of the sandbox's range (`Child.become`), so that the kernel objects made from then on
   belong to an account that owns nothing else, and leaves all namespaces of this machine (`Child.unshare`). On an
   ordinary user's server it leaves the user namespace first, and all once its ids are mapped (`unshare_again`).
2. The launcher, which still has its power, maps the range, and makes detached mounts of all that the sandbox sees
   (`Launcher.map_ids`, `Launcher.make_mounts`). The child could not: it may not enter the server's folders.
3. The child forks the sandbox's PID 1 and ends. PID 1 lays the layers over each other (`Machine.build`), makes that
   the only root (`Machine.enter`), names it (`Machine.furnish`), gives up its power for good (`Machine.drop`), and
   becomes the guest (guest/). Nothing is executed: the guest needs nothing of the sandbox's files.

A step that fails ends the child with its reason on the sandbox's stderr. Nothing is tried a second way.
This is the one file whose mistakes let a sandbox out. Each wall has a test in tests/local/test_walls.py.
"""

from __future__ import annotations

# Everything that the guest ever needs is imported here: after `enter` an import would find the sandbox's files.
import _socket
import ctypes
import errno
import fcntl
import gc
import marshal
import os
import resource
import select
import shutil
import signal
import struct
import sys
import termios  # noqa: F401  # for the guest
import traceback
import types
import warnings  # noqa: F401  # for os.get_exec_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

IDS = 65_536
"""The size of a sandbox's range: all ids that files of a distribution have."""

ROOT_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
"""What root keeps inside, Docker's set: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE
NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP. Not SYS_ADMIN (mount), SYS_PTRACE (PID 1's memory), NET_ADMIN, and so on.
"""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
TERMINALS = 256
"""The most of one sandbox. The kernel has 3,072 for all of them."""
WATCHERS = 32
"""The most instances of inotify in one sandbox."""
READ_ONLY_PROC = ("sys", "bus", "fs", "irq", "sysrq-trigger")
CLOSED_PROC = ("kcore", "kmsg", "timer_list", "keys", "key-users", "sched_debug")

# mount(2)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
# mount_setattr(2), open_tree(2), move_mount(2), fsmount(2)
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_IDMAP = 1, 2, 4, 1 << 20
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, CLONE, CLOEXEC = -100, 0x1000, 0x8000, 1, 0o2000000
# ioctl(2) of loop devices
LOOP_GET_FREE, LOOP_CONFIGURE, LOOP_AUTOCLEAR = 0x4C82, 0x4C0A, 4
# unshare(2)
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    *(0x00020000, 0x02000000, 0x04000000, 0x08000000),
    *(0x10000000, 0x20000000, 0x40000000),
)
EVERY_NAMESPACE = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
NEW_FLAGS = EVERY_NAMESPACE | 0x80  # and CLONE_NEWTIME
# prctl(2)
PDEATHSIG, DUMPABLE, SECCOMP, CAPBSET_DROP, SUBREAPER = 1, 4, 22, 24, 36

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def check(result: int, what: str) -> int:
    """Return a call's result. Raises OSError with the step that failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """Call mount(2)."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    check(
        libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]),
        f"mount {kind or source} on {target}",
    )


def prctl(option: int, *values: int) -> None:
    """Call prctl(2)."""
    longs = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    check(libc.prctl(option, *longs), f"prctl {option}")


def clone_mount(path: str, recursive: bool = False) -> int:
    """Return a detached copy of what is mounted at a path."""
    flags = CLONE | CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return check(libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(path), flags), f"open_tree {path}")


def set_attributes(mounted: int, attributes: int, userns: int = 0, recursive: bool = False) -> None:
    """Set the attributes of a detached mount, and with IDMAP whose ids its files' ids are."""
    given = struct.pack("QQQQ", attributes, 0, 0, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    check(libc.syscall(MOUNT_SETATTR, mounted, b"", flags, given, len(given)), "mount_setattr")


def attach(mounted: int, target: str) -> None:
    """Mount a detached mount at a path, and close it."""
    check(libc.syscall(MOVE_MOUNT, mounted, b"", AT_FDCWD, os.fsencode(target), 4), f"move_mount to {target}")
    os.close(mounted)


def mount_disk(path: str) -> int:
    """Return a detached mount of the ext4 file system in a file: it ends with its sandbox, and no path leads to it."""
    disk = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(100):
            device = f"/dev/loop{fcntl.ioctl(control, LOOP_GET_FREE)}"
            loop = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                # The device is free again when nothing has it mounted or open.
                config = struct.pack("II52xI240x", disk, 0, LOOP_AUTOCLEAR)
                fcntl.ioctl(loop, LOOP_CONFIGURE, config)
                return mount_device(device)
            except OSError as error:
                if error.errno != errno.EBUSY:  # another launcher took it
                    raise
            finally:
                os.close(loop)
        raise OSError(errno.EBUSY, "no loop device is free")
    finally:
        os.close(control)
        os.close(disk)


def mount_device(device: str) -> int:
    """Return a detached mount of the ext4 file system on a device. Its attributes are for `make_mounts` to set."""
    context = check(libc.syscall(FSOPEN, b"ext4", 1), "fsopen ext4")
    check(libc.syscall(FSCONFIG, context, 1, b"source", os.fsencode(device), 0), "the disk's source")
    check(libc.syscall(FSCONFIG, context, 6, None, None, 0), f"mount {device}")
    mounted = check(libc.syscall(FSMOUNT, context, 1, 0), f"fsmount {device}")
    os.close(context)
    return mounted


# --- the filter of system calls

# EPERM for what changes the machine, the namespaces or the mounts, for keys (a key of the server's account would be in
# reach), and for the ways into another process's memory or descriptors that no debugger of one's own children needs.
REFUSED = {
    "x86_64": (
        *(155, 165, 166),  # pivot_root mount umount2
        *(428, 429, 430, 431, 432, 433, 442, 467),  # open_tree move_mount fs* mount_setattr open_tree_attr
        *(248, 249, 250),  # add_key request_key keyctl
        *(308, 304, 438, 311),  # setns open_by_handle_at pidfd_getfd process_vm_writev
        *(298, 321, 323, 300),  # perf_event_open bpf userfaultfd fanotify_init
        *(175, 313, 176, 246, 320, 169, 167, 168, 163),  # modules, kexec, reboot, swap, acct
        *(164, 227, 305, 159, 103, 179, 443, 153, 212),  # clocks, syslog, quotactl, vhangup, lookup_dcookie
        *(256, 279),  # migrate_pages move_pages
        *(172, 173, 154),  # iopl ioperm modify_ldt, which x86 alone has
    ),
    "aarch64": (
        *(41, 40, 39),
        *(428, 429, 430, 431, 432, 433, 442, 467),
        *(217, 218, 219),
        *(268, 265, 438, 271),
        *(241, 280, 282, 262),
        *(105, 273, 106, 104, 294, 142, 224, 225, 89),
        *(170, 112, 266, 171, 116, 60, 443, 58, 18),
        *(238, 239),
    ),
}
# ENOSYS for io_uring, whose requests no filter sees, and for clone3, whose flags no filter sees: libc then uses clone.
UNKNOWN = (425, 426, 427, 435)
NUMBERS = {"x86_64": (0xC000003E, 56, 272, 41, 53), "aarch64": (0xC00000B7, 220, 97, 198, 199)}
"""The audit architecture, and the numbers of clone, unshare, socket and socketpair."""
FAMILIES = (1, 2, 10, 16, 17)
"""AF_UNIX INET INET6 NETLINK PACKET. AF_VSOCK is a way to the hypervisor; the rest is code of the kernel's that nobody
needs, in modules that are loaded for whoever asks.
"""
CHOWNS = {
    "x86_64": (92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123),
    "aarch64": (55, 54, 146, 144, 145, 143, 159, 147, 149, 151, 152),
}
"""Calls that change owners or accounts: chown and set*id."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def make_filter(machine: str, one_id: bool) -> bytes:
    """Return the filter's program: pairs of a comparison and an answer.

    With one id for all of a sandbox's accounts, changes of the owner succeed and do nothing, so that packages install.
    """
    arch, clone, unshare, socket, socketpair = NUMBERS[machine]
    lines = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    if machine == "x86_64":  # the x32 calls are the same ones under other numbers
        lines += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    answers = [(number, errno.EPERM) for number in REFUSED[machine]]
    answers += [(number, errno.ENOSYS) for number in UNKNOWN]
    answers += [(number, 0) for number in CHOWNS[machine]] if one_id else []
    for number, answer in answers:
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | answer)]
    for number in (clone, unshare):
        lines += [(EQUAL, 0, 4, number), (LOAD, 0, 0, 16), (ANY_BIT, 0, 1, NEW_FLAGS)]
        lines += [(RETURN, 0, 0, ERRNO | errno.EPERM), (LOAD, 0, 0, 0)]
    rest = range(len(FAMILIES), 0, -1)
    lines += [(EQUAL, 1, 0, socket), (EQUAL, 0, len(FAMILIES) + 2, socketpair), (LOAD, 0, 0, 16)]
    lines += [(EQUAL, far, 0, family) for far, family in zip(rest, FAMILIES, strict=True)]
    lines.append((RETURN, 0, 0, ERRNO | errno.EAFNOSUPPORT))
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def set_filter(one_id: bool) -> None:
    """Filter the calls of this process and of all to come. Root of a user namespace needs no no_new_privs for it."""
    program = ctypes.create_string_buffer(make_filter(os.uname().machine, one_id))
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", (len(program) - 1) // 8, ctypes.addressof(program))
    )
    check(libc.prctl(SECCOMP, ctypes.c_ulong(2), header, 0, 0), "the filter of system calls")


# --- inside


class Machine:
    """The root file system of one sandbox, built and entered by its PID 1."""

    STAGING = "/tmp"  # every machine has it; what is mounted there is seen by this process alone
    ROOT = "/tmp/root"

    def __init__(self, request: dict[str, Any], mounts: list[int]) -> None:
        self.request = request
        self.mounts = mounts

    def build(self) -> None:
        """Lay the layers over each other, in the order of `make_request` in namespaces.py."""
        mount(None, "/", None, REC | PRIVATE)
        mount("tmpfs", self.STAGING, "tmpfs", 0, "mode=0700,size=1m,nr_inodes=1k")
        os.mkdir(self.ROOT)
        upper = f"{self.STAGING}/upper"
        os.mkdir(upper)
        attach(self.mounts.pop(0), upper)
        for tree, target in (("root", self.ROOT), ("usr", f"{self.ROOT}/usr")):
            self.mount_overlay(tree, upper, target)

    def mount_overlay(self, tree: str, upper: str, target: str) -> None:
        """Mount layers over each other, writable. `nosuid` is left out: sudo and su work.

        Their root is this user namespace's only, and so is the file system.
        """
        lowers = []
        for number in range(self.request["layers"][tree]):
            lower = f"{self.STAGING}/{tree}{number}"
            os.mkdir(lower)
            attach(self.mounts.pop(0), lower)
            lowers.append(lower)
        for folder in (tree, f"{tree}.work"):
            os.makedirs(f"{upper}/{folder}", 0o755, exist_ok=True)
        # Nothing is written to the disk for good: a sandbox does not outlive a crash of this machine, and would else be
        # written out when it ends. The kernel's mark that it was so forbids to go on with the files of a paused one.
        shutil.rmtree(f"{upper}/{tree}.work/work/incompat", ignore_errors=True)
        data = f"lowerdir={':'.join(lowers)},upperdir={upper}/{tree},workdir={upper}/{tree}.work,userxattr,volatile"
        mount("overlay", target, "overlay", NODEV, data)

    def enter(self) -> None:
        """Make the new root the only one: nothing of this machine's tree is mounted any more.

        All that is mounted in it is mounted from within, so that no link in it leads out.
        """
        devices = [(name, clone_mount(f"/dev/{name}")) for name in ("null", *DEVICES)]
        os.chdir(self.ROOT)
        check(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
        self.make_proc(devices.pop(0)[1])  # which needs the old one in sight
        # Before anything is made by a path: while the old root lies on the new one, `/..` is the old one.
        check(libc.umount2(b".", DETACH), "umount of the old root")
        os.chdir("/")
        self.make_dev(devices)
        for inside in self.request["binds"]:
            self.bind(self.mounts.pop(0), inside)

    def bind(self, mounted: int, target: str) -> None:
        """Attach a file or folder of this machine. It is read-only already."""
        if os.path.isdir(f"/proc/self/fd/{mounted}"):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target):  # as in /proc
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        attach(mounted, target)

    def make_dev(self, devices: list[tuple[str, int]]) -> None:
        """Make a /dev with the harmless devices, terminals of its own, and bounded shared memory."""
        mount("tmpfs", "/dev", "tmpfs", NOSUID, "mode=0755,size=64k,nr_inodes=64")
        for name, mounted in devices:
            os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            attach(mounted, f"/dev/{name}")
        for name, target in DEVICE_LINKS:
            os.symlink(target, f"/dev/{name}")
        for name in ("pts", "shm"):
            os.mkdir(f"/dev/{name}")
        # All terminals of the machine are one number of them: one sandbox must not take them all.
        group = 0 if self.request["ids"] == "one" else 5
        terminals = f"newinstance,ptmxmode=0666,mode=620,gid={group},max={TERMINALS}"
        mount("devpts", "/dev/pts", "devpts", NOSUID | NOEXEC, terminals)
        shm = f"mode=1777,size={self.request['shm']},nr_inodes=10k"
        mount("tmpfs", "/dev/shm", "tmpfs", NOSUID | NODEV, shm)

    def make_proc(self, null: int) -> None:
        """Mount this pid namespace's /proc, and close in it what is about the machine as a whole.

        That is hidden by a mount of /dev/null.
        """
        mount("proc", "/proc", "proc", NOSUID | NODEV | NOEXEC)
        # No user namespaces inside: each is a door to more of the kernel. The bound cannot be raised again without
        # CAP_SYS_RESOURCE, and it is made read-only with the rest of /proc/sys.
        write("/proc/sys/user/max_user_namespaces", "0")
        # Those of an ordinary user's sandboxes are his own, of which he has 128.
        write("/proc/sys/user/max_inotify_instances", str(WATCHERS))
        for name in READ_ONLY_PROC:
            path = f"/proc/{name}"
            if os.path.exists(path):
                mount(path, path, None, BIND)
                mount(None, path, None, BIND | REMOUNT | RDONLY | NOSUID | NODEV | NOEXEC)
        closed = [f"/proc/{name}" for name in CLOSED_PROC if os.path.exists(f"/proc/{name}")]
        attach(null, closed[0])
        for path in closed[1:]:
            mount(closed[0], path, None, BIND)

    def furnish(self) -> None:
        """Name the sandbox, bring up its loopback, and give `user` the home."""
        name = self.request["hostname"].encode()
        check(libc.sethostname(name, len(name)), "sethostname")
        lo = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        fcntl.ioctl(lo.fileno(), 0x8914, struct.pack("16sh22x", b"lo", 1 | 64))  # SIOCSIFFLAGS: up, running
        lo.close()
        os.umask(0o022)
        # A link there is one that root inside has made.
        if self.request["ids"] != "one" and os.stat("/home/user").st_uid == 0:
            os.chown("/home/user", *self.request["user"])

    def drop(self) -> None:
        """Give up for good what the guest and its children must not have."""
        # A session keyring of its own: else keys of whoever started the server could be read by whoever asks.
        check(libc.syscall(KEYCTL[os.uname().machine], 1, None), "a new session keyring")
        # While CAP_SYS_ADMIN is held: without it a filter needs no_new_privs, which would end sudo.
        set_filter(self.request["ids"] == "one")
        for number in range(LAST_CAPABILITY + 1):
            if number not in ROOT_CAPABILITIES:
                prctl(CAPBSET_DROP, number)
        mask = sum(1 << number for number in ROOT_CAPABILITIES)
        header = struct.pack("Ii", 0x20080522, 0)
        check(libc.capset(header, struct.pack("6I", mask, mask, 0, 0, 0, 0)), "capset")


PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
KEYCTL = {"x86_64": 250, "aarch64": 219}
with open("/proc/sys/kernel/cap_last_cap") as last:
    LAST_CAPABILITY = int(last.read())


class Child:
    """The process between the launcher and a sandbox's PID 1."""

    def __init__(self, request: dict[str, Any], link: _socket.socket, control: int, errors: int) -> None:
        self.request = request
        self.link = link
        self.control = control
        self.errors = errors

    def run(self, guest: types.ModuleType) -> NoReturn:
        """Become the sandbox. Ends the process if a step fails."""
        try:
            self.close_others()
            self.become()
            self.unshare()
            mounts = self.take_mounts()
            pid = os.fork()
            if pid == 0:
                self.start_guest(guest, mounts)
            self.link.send(pid.to_bytes(4, sys.byteorder))
            os._exit(0)  # the launcher, which adopts PID 1, need not tell the two apart
        except BaseException as error:  # noqa: BLE001  # whatever it is, this process must not go on as a launcher
            self.fail(error)

    def fail(self, error: BaseException) -> NoReturn:
        """Say on the sandbox's stderr what failed, and end."""
        text = error.strerror if isinstance(error, OSError) else None
        text = text or "".join(traceback.format_exception(error))
        os.write(2, f"launcher: {text}\n".encode("utf-8", "replace"))
        os._exit(1)

    def close_others(self) -> None:
        """Keep only this sandbox's own descriptors: with the launcher's socket it could ask for sandboxes."""
        signal.set_wakeup_fd(-1)
        os.dup2(self.errors, 2)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        kept = sorted({0, 1, 2, self.link.fileno(), self.control})
        for below, above in zip(kept, [*kept[1:], 1 << 20], strict=True):
            os.closerange(below + 1, above)

    def become(self) -> None:
        """Take the sandbox's first id, and the limits that hold for all of its ids together."""
        os.setsid()  # a signal to its process group must not reach the launcher and other sandboxes
        if self.request["oom"]:  # while still root: the kernel keeps it as the least that root inside may set
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(self.request["oom"]))
        first = self.request["first"]
        if first is not None:
            os.setgroups([])
            os.setresgid(first, first, first)
            os.setresuid(first, first, first)
        prctl(PDEATHSIG, signal.SIGKILL)  # after the change of account, which clears it
        prctl(DUMPABLE, 1)  # else the launcher of an ordinary user could not map its ids

    def unshare(self) -> None:
        """Leave this machine's namespaces, and become root of the new ones once the ids are mapped."""
        if self.request["ids"] == "own":
            self.bound_processes()
        check(libc.unshare(EVERY_NAMESPACE if self.request["ids"] == "own" else NEWUSER), "unshare")
        self.link.send(b"unshared")
        if self.link.recv(16) != b"mapped":
            raise OSError(errno.EPERM, "the launcher could not map the sandbox's ids")
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if self.request["ids"] != "one":
            os.setgroups([])
        if self.request["ids"] != "own":
            self.unshare_again()

    def bound_processes(self) -> None:
        """Limit the number of processes: of all accounts of the user namespace together that is made next."""
        if self.request["pids"] is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (self.request["pids"], self.request["pids"]))

    def unshare_again(self) -> None:
        """Leave the namespaces, for a user namespace within the one whose ids are mapped, with the same ids.

        The kernel counts what runs in a user namespace for whoever made it. That is the first one's root here, whom no
        other sandbox has, and would be the server's account, which has made them all.
        """
        write("/proc/sys/user/max_inotify_instances", str(WATCHERS))
        self.bound_processes()
        ids = "0 0 1" if self.request["ids"] == "one" else f"0 0 1\n1 1 {IDS - 1}"
        me = os.getpid()
        waiting, unshared = os.pipe()
        helper = os.fork()
        if helper == 0:
            try:
                os.read(waiting, 1)
                write(f"/proc/{me}/uid_map", ids)
                write(f"/proc/{me}/gid_map", ids)
                os._exit(0)
            except BaseException as error:  # noqa: BLE001  # as in `run`
                self.fail(error)
        check(libc.unshare(EVERY_NAMESPACE), "unshare")
        os.write(unshared, b"y")
        if os.waitpid(helper, 0)[1]:
            raise OSError(errno.EPERM, "the sandbox's ids could not be mapped again")
        os.close(waiting)
        os.close(unshared)

    def take_mounts(self) -> list[int]:
        """Return the detached mounts: the launcher's, or where that has no power its own."""
        if self.request["ids"] != "own":
            mounts = [clone_mount(path, recursive=True) for path, _ in self.request["sources"]]
            for mounted in mounts[1:]:
                set_attributes(mounted, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, recursive=True)
            return mounts
        mounts = []
        while len(mounts) < len(self.request["sources"]):
            _, rights, _, _ = self.link.recvmsg(1, _socket.CMSG_SPACE(4 * 64), MSG_CMSG_CLOEXEC)
            for _, _, packed in rights:
                mounts += [item[0] for item in struct.iter_unpack("i", packed)]
        return mounts

    def start_guest(self, guest: types.ModuleType, mounts: list[int]) -> NoReturn:
        """Be PID 1: build, enter and lock the machine, and serve."""
        try:
            self.wait_for_adoption()
            prctl(PDEATHSIG, signal.SIGKILL)
            machine = Machine(self.request, mounts)
            machine.build()
            machine.enter()
            machine.furnish()
            machine.drop()
            sys.meta_path.clear()  # an import would run the sandbox's files. There is none: no test can notice this.
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # which Python would make an exception of
            guest.serve(self.control)
        except BaseException as error:  # noqa: BLE001  # as above
            self.fail(error)
        os._exit(1)

    def wait_for_adoption(self) -> None:
        """Wait until the child in between has ended, whose end would otherwise be taken for the launcher's."""
        if self.link.recv(16) != b"adopted":
            raise OSError(errno.ESRCH, "the launcher is gone")
        self.link.close()


# --- outside

MSG_CMSG_CLOEXEC = 0x40000000
SCM_RIGHTS = 1


class Launcher:
    """The server's end is the other end of this socket: a request in each message, and one reply."""

    def __init__(self, server: _socket.socket, guest: types.ModuleType) -> None:
        self.server = server
        self.guest = guest

    def run(self) -> None:
        """Serve until the server is gone. All sandboxes end with this process."""
        prctl(SUBREAPER, 1)
        gc.freeze()  # a collection would copy the memory that sandboxes share
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(self.server.fileno(), select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == wake:
                    os.read(wake, 512)
                    self.reap()
                else:
                    self.answer()

    def answer(self) -> None:
        """Answer one request. Ends the process if the server is gone."""
        data, rights, _, _ = self.server.recvmsg(1 << 20, _socket.CMSG_SPACE(4 * 4), MSG_CMSG_CLOEXEC)
        if not data:
            os._exit(0)
        fds = [item[0] for _, _, packed in rights for item in struct.iter_unpack("i", packed)]
        try:
            pid, pidfd = self.launch(marshal.loads(data), *fds)
            self.reply({"pid": pid}, pidfd)
            os.close(pidfd)
        except OSError as error:
            self.reply({"errno": error.errno or errno.EIO, "error": error.strerror or str(error)})
        finally:
            for fd in fds:
                os.close(fd)

    def reply(self, message: dict[str, Any], *fds: int) -> None:
        """Send a reply with descriptors."""
        rights = [(_socket.SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        self.server.sendmsg([marshal.dumps(message)], rights)

    def reap(self) -> None:
        """Bury the sandboxes that have ended."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return

    def launch(self, request: dict[str, Any], control: int, errors: int) -> tuple[int, int]:
        """Start a sandbox. Returns its PID 1 and a descriptor of it. Raises OSError."""
        link, theirs = _socket.socketpair(_socket.AF_UNIX, SEQPACKET)
        link.settimeout(request["step_timeout"])  # one that hangs must not keep all others waiting
        child = os.fork()
        if child == 0:
            Child(request, _socket.socket(fileno=theirs.detach()), control, errors).run(self.guest)
        theirs.close()
        try:
            if link.recv(16) != b"unshared":
                raise OSError(errno.EPERM, "the sandbox's process did not start")
            self.map_ids(request, child)
            link.send(b"mapped")
            if request["ids"] == "own":
                self.send_mounts(request, child, link)
            first = link.recv(4)
            if len(first) != 4:
                raise OSError(errno.EPERM, "the sandbox's process did not start")
            pid = int.from_bytes(first, sys.byteorder)
            pidfd = os.pidfd_open(pid)
            os.waitpid(child, 0)
            link.send(b"adopted")
            return pid, pidfd
        except BaseException:
            os.kill(child, signal.SIGKILL)  # before its link is closed: it would say that, and not the reason
            os.waitpid(child, 0)
            raise
        finally:
            link.close()

    def map_ids(self, request: dict[str, Any], child: int) -> None:
        """Map the sandbox's ids to those of this machine that are its own."""
        ids = request["ids"]
        if ids == "range":
            for tool, extents in zip(request["tools"], (request["uids"], request["gids"]), strict=True):
                self.run_tool(request["step_timeout"], tool, str(child), *map(str, extents))
            return
        first = os.geteuid() if request["first"] is None else request["first"]
        group = os.getegid() if request["first"] is None else request["first"]
        count = 1 if ids == "one" else IDS
        if ids == "one":
            write(f"/proc/{child}/setgroups", "deny")
        write(f"/proc/{child}/uid_map", f"0 {first} {count}")
        write(f"/proc/{child}/gid_map", f"0 {group} {count}")

    def run_tool(self, timeout_s: float, *argv: str) -> None:
        """Run a program of this machine's. Raises OSError with its words, or if it takes longer."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            moved = [(os.POSIX_SPAWN_DUP2, writer, 2)]
            pid = os.posix_spawn(argv[0], argv, {"PATH": "/usr/bin:/bin"}, file_actions=moved)
        finally:
            os.close(writer)
        try:
            if select.select([reader], [], [], timeout_s)[0]:
                words = os.read(reader, 4096).decode("utf-8", "replace").strip()
            else:
                words = "it has not ended"
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(reader)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise OSError(errno.EPERM, f"{argv[0]} failed: {words}")

    def send_mounts(self, request: dict[str, Any], child: int, link: _socket.socket) -> None:
        """Make the sandbox's mounts, and pass them to its process."""
        mounts = []
        try:
            mounts = self.make_mounts(request, child)
            for mounted in mounts:
                rights = (_socket.SOL_SOCKET, SCM_RIGHTS, struct.pack("i", mounted))
                link.sendmsg([b"m"], [rights])
        finally:
            for mounted in mounts:
                os.close(mounted)

    def make_mounts(self, request: dict[str, Any], child: int) -> list[int]:
        """Make the sandbox's mounts, whose files belong to ids of its range: here 0, or the store's first, is its root.

        All but the upper layer are read-only: without that, a path to one would be a way to write this machine's /usr.
        """
        hosts = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        stored = self.map_store(request["storage"], request["first"])
        mounts = []
        try:
            for number, (path, owner) in enumerate(request["sources"]):
                is_upper = number == 0
                mounted = mount_disk(path) if is_upper and request["is_disk"] else clone_mount(path)
                mounts.append(mounted)
                attributes = ATTR_NOSUID | ATTR_NODEV | (0 if is_upper else ATTR_RDONLY)
                if owner == "machine":
                    set_attributes(mounted, attributes)
                else:
                    userns = hosts if owner == "host" else stored
                    set_attributes(mounted, attributes | ATTR_IDMAP, userns)
            return mounts
        except BaseException:
            for mounted in mounts:
                os.close(mounted)
            raise
        finally:
            os.close(hosts)
            os.close(stored)

    def map_store(self, stored: int, first: int) -> int:
        """Return a user namespace that maps the ids of stored files to a sandbox's."""
        link, theirs = _socket.socketpair(_socket.AF_UNIX, SEQPACKET)
        child = os.fork()
        if child == 0:
            try:
                theirs.send(b"y" if libc.unshare(NEWUSER) == 0 else b"n")
                theirs.recv(1)
            finally:
                os._exit(0)
        try:
            if link.recv(1) != b"y":
                raise OSError(errno.EPERM, "unshare: no user namespace for the sandbox's files")
            write(f"/proc/{child}/uid_map", f"{stored} {first} {IDS}")
            write(f"/proc/{child}/gid_map", f"{stored} {first} {IDS}")
            return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            link.close()
            theirs.close()


SEQPACKET = 5


def write(path: str, text: str) -> None:
    """Write a file of the kernel's in one call. Raises OSError with its path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from None
    finally:
        os.close(fd)


def load_guest(fd: int) -> types.ModuleType:
    """Return the guest as a module, from its compiled code."""
    with open(fd, "rb") as file:
        code = marshal.loads(file.read()[16:])
    module = types.ModuleType("guest")
    exec(code, module.__dict__)
    return module


if __name__ == "__main__":
    try:
        Launcher(_socket.socket(fileno=int(sys.argv[1])), load_guest(int(sys.argv[2]))).run()
    except OSError as refused:
        sys.exit(f"launcher: {refused.strerror}")
