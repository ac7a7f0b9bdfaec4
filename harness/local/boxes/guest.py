"""The process inside a sandbox that executes the server's requests there.

It uses only the standard library, and imports as little as possible, since its start is part of every sandbox's start.
It is a single file for the same reason: the server passes it as one compiled .pyc. Split into modules of a zip archive
or a folder, its start took 10 to 20 ms longer in a measurement, since Python then imports runpy and zipimport too.

In the full tier it is PID 1 of the sandbox, so nothing inside can kill it, and it inherits every orphan. There it is
the sandbox's root, and acts for the accounts inside as E2B's daemon does: files are opened by root and given to the
account that asked, and programs run as their account. In other tiers all accounts are one.

It communicates over one inherited socket, whose number is its only argument. A frame is four bytes of length and a
body. Requests are marshalled: the server is trusted, and runs the same Python. Replies are JSON, since the server must
be able to read them without trusting this process. Descriptors are sent with the frames, so the server never opens a
path of the sandbox itself, and links, FIFOs or devices in the sandbox cannot misdirect it.

Operations that may take long (walking trees, copying, watching) run in a forked child that reports through a pipe of
its own. The loop itself never waits for the file system or for a process.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not in typeshed; the public module costs 2 ms of enum
import errno
import marshal
import os
import select
import stat
import sys
import time
from _json import encode_basestring_ascii as quote  # the json package would cost 4 ms of re
from _socket import CMSG_SPACE, SOL_SOCKET, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, NoReturn

SCM_RIGHTS = 1
MSG_DONTWAIT = 0x40
MSG_CMSG_CLOEXEC = 0x40000000
MAX_FDS = 8
__all__: list[str] = []  # a program, not a module to import from

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGPIPE, SIGCHLD, SIGCONT, SIGSTOP, SIGXFSZ = 1, 2, 3, 9, 13, 17, 18, 19, 25
# Python ignores the last two. The others may be ignored if the server was started by nohup or in a script's
# background. An ignored signal survives exec, so that nothing could be interrupted.
IGNORED_SIGNALS = (SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGXFSZ)
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 36, 38


class RequestError(Exception):
    """A request cannot be executed. The server maps `kind` to an error for its client."""

    def __init__(self, kind: str, number: int, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.number = number


def encode(value: Any) -> str:
    """Encode a value as JSON, without the json package."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ",".join(quote(key) + ":" + encode(item) for key, item in value.items()) + "}"
    return "[" + ",".join(encode(item) for item in value) + "]"


def encode_error(error: Exception) -> dict[str, Any]:
    if isinstance(error, RequestError):
        return {"kind": error.kind, "errno": error.number, "message": str(error)}
    if isinstance(error, OSError):
        return {"kind": "os", "errno": error.errno or errno.EIO, "message": error.strerror or str(error)}
    return {"kind": "guest", "errno": errno.EIO, "message": f"{type(error).__name__}: {error}"}


class ControlSocket:
    """Frames and descriptors over the control socket."""

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.fds: list[int] = []

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        body = encode(message).encode()
        data = memoryview(len(body).to_bytes(4, "big") + body)
        rights = (
            [(SOL_SOCKET, SCM_RIGHTS, b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds))] if fds else []
        )
        sent = self.sock.sendmsg([data], rights)
        while sent < len(data):
            sent += self.sock.send(data[sent:])

    def receive(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """Yield the complete requests received. Ends the process if the server is gone."""
        try:
            data, rights, _, _ = self.sock.recvmsg(
                1 << 16, CMSG_SPACE(4 * MAX_FDS), MSG_DONTWAIT | MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        if not data:
            kill_all()
            os._exit(0)
        for _, _, packed in rights:
            self.fds += [
                int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)
            ]
        self.buffer += data
        while len(self.buffer) >= 4:
            size = int.from_bytes(self.buffer[:4], "big")
            if len(self.buffer) < 4 + size:
                return
            message = marshal.loads(bytes(self.buffer[4 : 4 + size]))
            del self.buffer[: 4 + size]
            count = message.get("fds", 0)
            mine, self.fds = self.fds[:count], self.fds[count:]
            yield message, mine


# --- accounts


fixed_accounts: dict[str, tuple[int, int]] = {"root": (0, 0)}
"""Accounts that do not depend on what the sandbox makes of its files. The first request adds `user`."""


class Account:
    """An account of the sandbox's own /etc/passwd, with its groups."""

    def __init__(self, name: str) -> None:
        if name in fixed_accounts:
            self.uid, self.gid = fixed_accounts[name]
        else:
            self.find(name)
        groups = [fields for fields in read_table("/etc/group") if len(fields) > 3 and fields[2].isdecimal()]
        self.groups = [self.gid, *(int(each[2]) for each in groups if name in each[3].split(","))][:64]

    def find(self, name: str) -> None:
        for fields in read_table("/etc/passwd"):
            if fields[0] == name and len(fields) > 6 and fields[2].isdecimal() and fields[3].isdecimal():
                self.uid, self.gid, self.home = int(fields[2]), int(fields[3]), fields[5]
                return
        raise RequestError("user", errno.ENOENT, f"there is no user {name!r} in the sandbox")

    def __enter__(self) -> None:
        """Be this account, until the end of the block. What is started in it keeps nothing of root.

        The saved uid stays root's, so that this can be undone; exec replaces it.
        """
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, 0)
        os.setresuid(self.uid, self.uid, 0)

    def __exit__(self, *_: object) -> None:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups([])


class NoAccount:
    """The one account of the tiers without user namespaces."""

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


def read_table(path: str) -> list[list[str]]:
    """Return the lines of a file like /etc/passwd. The sandbox may have made anything of it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = os.read(fd, 1 << 20).decode("utf-8", "replace")
    finally:
        os.close(fd)
    return [line.split(":") for line in text.splitlines()]


# --- processes


def start(message: dict[str, Any], fds: list[int], account: Account | NoAccount) -> int:
    """Start a program in a session of its own. Three descriptors are its stdin, stdout and stderr; two the last two.

    Returns its pid. Raises RequestError if it cannot be started. This does not fork: copying the page tables and the
    touched pages would double the time of a short command.
    """
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds, 3 - len(fds))]
    if len(fds) == 2:
        actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
    kind = "cwd"
    try:
        with account:
            os.chdir(message["cwd"])
            kind = "program"
            return os.posix_spawn(
                find_program(message["argv"][0], message["env"]),
                message["argv"],
                message["env"],
                file_actions=actions,
                setsid=True,
                setsigdef=IGNORED_SIGNALS,
            )
    except OSError as error:
        raise start_error(kind, error.errno, message) from error
    finally:
        os.chdir("/")


def find_program(name: str, env: dict[str, str]) -> str:
    """Return the path of a program, found by the PATH in its environment."""
    if "/" in name:
        return name
    places = [f"{folder}/{name}" for folder in os.get_exec_path(env)]
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), name)


def start_error(kind: str, number: int | None, message: dict[str, Any]) -> RequestError:
    what = message["cwd"] if kind == "cwd" else message["argv"][0]
    return RequestError(kind, number or errno.EIO, f"{os.strerror(number or errno.EIO)}: {what}")


def start_on_terminal(message: dict[str, Any], slave: int, account: Account | NoAccount) -> int:
    """Start a program on a terminal of its own, otherwise like `start`. It forks, since only a process can take one."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        exec_program(message, slave, writer, account)
    os.close(writer)
    with open(reader, "rb") as pipe:
        error = pipe.read()
    if error:
        os.waitpid(pid, 0)
        kind, number = error.decode().split(":")
        raise start_error(kind, int(number), message)
    return pid


def exec_program(message: dict[str, Any], slave: int, writer: int, account: Account | NoAccount) -> NoReturn:
    """Execute the program in the child, or report the error through the pipe."""
    kind = "guest"
    try:
        if isinstance(account, Account):
            os.fchown(slave, account.uid, -1)
        os.login_tty(slave)
        for number in IGNORED_SIGNALS:
            _signal.signal(number, _signal.SIG_DFL)
        kind = "cwd"
        account.__enter__()
        os.chdir(message["cwd"])
        kind = "program"
        os.execvpe(message["argv"][0], message["argv"], message["env"])
    except OSError as error:
        os.write(writer, f"{kind}:{error.errno}".encode())
    finally:
        os._exit(127)


def set_terminal_size(fd: int, cols: int, rows: int) -> None:
    import fcntl
    import termios

    size = b"".join(n.to_bytes(2, sys.byteorder) for n in (rows, cols, 0, 0))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)


def list_processes(own_namespace: bool) -> dict[int, list[str]]:
    """Return the sandbox's other processes, with the fields of /proc/PID/stat from the state on.

    In a pid namespace of its own these are all processes; elsewhere, the descendants of this one.
    """
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    found[int(name)] = file.read().rpartition(b")")[2].decode().split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended since it was listed
    return found if own_namespace else descendants(found)


def descendants(processes: dict[int, list[str]]) -> dict[int, list[str]]:
    kept: dict[int, list[str]] = {}
    parents = {os.getpid()}
    while parents:
        children = {pid for pid, fields in processes.items() if int(fields[1]) in parents}
        kept.update((pid, processes[pid]) for pid in children)
        parents = children
    return kept


def sort_by_depth(processes: dict[int, list[str]]) -> list[int]:
    """Return the pids, parents before their children."""
    order: list[int] = []
    parents = {os.getpid(), 0}
    while parents:
        parents = {pid for pid, fields in processes.items() if int(fields[1]) in parents and pid not in order}
        order += sorted(parents)
    return order


def signal_each(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill_all() -> None:
    """Kill every process of the sandbox. PID 1 of a namespace need not: they all end with it."""
    if os.getpid() == 1:
        return
    while pids := [
        pid for pid, fields in list_processes(own_namespace=False).items() if fields[0] not in "ZX"
    ]:
        signal_each(pids, SIGKILL)


def measure_usage(own_namespace: bool) -> dict[str, int]:
    """Return CPU time in clock ticks, dead children included, and the bytes of memory that processes and files take."""
    pids = list_processes(own_namespace)
    with open("/proc/self/stat", "rb") as file:
        pids[os.getpid()] = file.read().rpartition(b")")[2].decode().split()
    memory = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                _, resident, shared = map(int, file.read().split()[:3])
        except (FileNotFoundError, ProcessLookupError):
            continue
        memory += resident - shared
    ticks = sum(int(field) for fields in pids.values() for field in fields[11:15])
    in_memory = measure_files_in_memory() if own_namespace else 0
    return {"ticks": ticks, "memory": memory * os.sysconf("SC_PAGE_SIZE"), "files": in_memory}


def measure_files_in_memory() -> int:
    """Return the bytes of the sandbox's shared memory: files in /dev/shm, and segments of System V."""
    shm = os.statvfs("/dev/shm")
    with open("/proc/sysvipc/shm") as file:
        segments = [line.split() for line in file][1:]
    return (shm.f_blocks - shm.f_bfree) * shm.f_frsize + sum(
        int(line[-2]) + int(line[-1]) for line in segments
    )


def measure_disk(paths: list[str]) -> int:
    """Return the bytes that the files below some folders take."""
    total = 0
    pending = list(paths)
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except (FileNotFoundError, PermissionError):
            continue
    return total


# --- files


class Names:
    """The names in one of the sandbox's tables of accounts, read again when the table has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.version: tuple[int, ...] = ()
        self.names: dict[str, str] = {}

    def find(self, number: int) -> str:
        """Return the name of an id; its digits where it has none."""
        try:
            status = os.stat(self.path)
            version: tuple[int, ...] = (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            version = ()
        if version != self.version:
            table = [fields for fields in read_table(self.path) if len(fields) > 2]
            self.version, self.names = version, {fields[2]: fields[0] for fields in reversed(table)}
        return self.names.get(str(number), str(number))


accounts, groups = Names("/etc/passwd"), Names("/etc/group")


def describe(path: str) -> dict[str, Any]:
    """Describe the entry at a path; a link is not followed."""
    status = os.lstat(path)
    entry: dict[str, Any] = {
        "path": path,
        "mode": status.st_mode,
        "size": status.st_size,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "owner": accounts.find(status.st_uid),
        "group": groups.find(status.st_gid),
        "mtime_ns": status.st_mtime_ns,
        "target": None,
        "target_mode": None,
        "metadata": {},
    }
    if stat.S_ISLNK(status.st_mode):
        entry["target"] = os.path.realpath(path)
        try:
            entry["target_mode"] = os.stat(path).st_mode
        except OSError:
            entry["target_mode"] = None  # a link to nothing is an entry too
    else:
        entry["metadata"] = metadata(path)
    return entry


def metadata(path: str | int) -> dict[str, str]:
    """Return the user's metadata of a file, which E2B keeps in extended attributes."""
    prefix = "user.e2b."
    try:
        follows = isinstance(path, int)  # a descriptor's file is no link
        names = [name for name in os.listxattr(path, follow_symlinks=follows) if name.startswith(prefix)]
        return {
            name.removeprefix(prefix): os.getxattr(path, name).decode("utf-8", "replace") for name in names
        }
    except OSError:
        return {}  # a file system without attributes, or a file that may not be read, has none to show


def set_metadata(fd: int, values: dict[str, str]) -> None:
    """Give an open file this metadata of the user's, and no other."""
    for name in metadata(fd):
        os.removexattr(fd, "user.e2b." + name)
    for name, value in values.items():
        os.setxattr(fd, "user.e2b." + name, value.encode())


def walk(path: str, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the entries below a folder by name. Entries that vanish meanwhile are left out."""
    for name in sorted(os.listdir(path)):
        below = path.rstrip("/") + "/" + name
        try:
            entry = describe(below)
        except FileNotFoundError:
            continue
        yield entry
        if depth > 1 and stat.S_ISDIR(entry["mode"]):
            try:
                yield from walk(below, depth - 1)
            except (PermissionError, FileNotFoundError):
                continue


def open_regular(path: str, flags: int, mode: int, parents: bool, owner: Account | None) -> int:
    """Open a regular file without blocking. Raises OSError for a FIFO or a device at the path.

    A file that is opened to be created is the owner's from then on, as on E2B.
    """
    if parents:
        make_folders(os.path.dirname(path), owner)
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, mode)
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind):
        if owner and flags & os.O_CREAT:
            os.fchown(fd, owner.uid, owner.gid)
        if flags & os.O_TRUNC:
            set_metadata(fd, {})
        return fd
    os.close(fd)
    number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
    raise OSError(number, "Is a directory" if number == errno.EISDIR else "Not a regular file")


def make_folders(path: str, owner: Account | None) -> None:
    """Make a folder and those above it, as far as there are none, for their owner."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        os.mkdir(folder)
        if owner:
            os.chown(folder, owner.uid, owner.gid, follow_symlinks=False)


def make_dir(path: str, owner: Account | None) -> bool:
    """Make a folder and those above it. Returns False if it existed."""
    try:
        if os.path.lexists(path):
            raise FileExistsError
        make_folders(path, owner)
    except FileExistsError:
        if os.path.isdir(path):
            return False
        raise OSError(errno.ENOTDIR, "Not a directory") from None
    return True


def move(source: str, target: str, owner: Account | None) -> dict[str, Any]:
    os.lstat(source)
    make_folders(os.path.dirname(target), owner)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        import shutil  # /usr and the rest are separate file systems here; on E2B they are one

        shutil.move(source, target)
    return describe(target)


def remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        import shutil

        shutil.rmtree(path)
    else:
        os.unlink(path)


# --- watching


class Inotify:
    """inotify through the C library, since Python's standard library does not have it."""

    MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = (
        0x2,
        0x4,
        0x8,
        0x40,
        0x80,
        0x100,
        0x200,
    )
    ISDIR, OVERFLOW, IGNORED = 0x40000000, 0x4000, 0x8000
    KINDS = (
        *((CREATE, "create"), (MODIFY, "write"), (DELETE, "remove")),
        *((MOVED_FROM, "rename"), (MOVED_TO, "create"), (ATTRIB, "chmod")),
    )

    def __init__(self, root: str, recursive: bool) -> None:
        import ctypes

        self.libc = ctypes.CDLL(None, use_errno=True)
        self.errno = ctypes.get_errno
        self.fd = self.libc.inotify_init1(os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(self.errno(), os.strerror(self.errno()))
        self.root = root
        self.recursive = recursive
        self.names: dict[int, str] = {}
        self.read = 0
        self.mask = sum(mask for mask, _ in self.KINDS)
        self.add("")

    def add(self, name: str) -> list[str]:
        """Watch a folder, and those below if recursive. Returns the entries found in them."""
        path = os.path.join(self.root, name)
        watch = self.libc.inotify_add_watch(self.fd, os.fsencode(path), self.mask | 0x01000000)  # IN_ONLYDIR
        if watch < 0:
            raise OSError(self.errno(), os.strerror(self.errno()))
        self.names[watch] = name
        found = []
        if self.recursive:
            with os.scandir(path) as entries:
                for entry in list(entries):
                    below = os.path.join(name, entry.name)
                    found.append(below)
                    if entry.is_dir(follow_symlinks=False):
                        found += self.add_if_there(below)
        return found

    def add_if_there(self, name: str) -> list[str]:
        try:
            return self.add(name)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []  # it has vanished, or may not be read

    def waiting(self) -> int:
        """The bytes of the changes that wait to be read."""
        import fcntl

        return int.from_bytes(fcntl.ioctl(self.fd, 0x541B, bytes(4)), sys.byteorder)  # FIONREAD

    def events(self) -> Iterator[tuple[str, str]]:
        data = os.read(self.fd, 1 << 16)
        self.read += len(data)
        at = 0
        while at < len(data):
            watch = int.from_bytes(data[at : at + 4], sys.byteorder, signed=True)
            mask = int.from_bytes(data[at + 4 : at + 8], sys.byteorder)
            size = int.from_bytes(data[at + 12 : at + 16], sys.byteorder)
            name = os.fsdecode(data[at + 16 : at + 16 + size].rstrip(b"\0"))
            at += 16 + size
            if mask & self.OVERFLOW:
                yield "overflow", ""
            if mask & self.IGNORED:
                self.names.pop(watch, None)
            elif watch in self.names:
                yield from self.named(
                    os.path.join(self.names[watch], name) if name else self.names[watch], mask
                )

    def named(self, name: str, mask: int) -> Iterator[tuple[str, str]]:
        yield from ((kind, name) for bit, kind in self.KINDS if mask & bit)
        if self.recursive and mask & self.ISDIR and mask & (self.CREATE | self.MOVED_TO):
            # entries made in the new folder before it was watched have caused no events
            for below in self.add_if_there(name):
                yield "create", below
                if mask & self.CREATE and has_content(os.path.join(self.root, below)):
                    yield "write", below


def has_content(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def watch(path: str, recursive: bool, out: int) -> None:
    """Report changes until the reader closes its end. Each byte from it is answered after all changes before it."""
    inotify = Inotify(path, recursive)
    report(out, {"ok": None})
    poller = select.poll()
    poller.register(inotify.fd, select.POLLIN)
    poller.register(out, select.POLLIN)
    while True:
        asked = b""
        if out in [fd for fd, _ in poller.poll()]:
            asked = os.read(out, 64)
            if not asked:
                return
        end = inotify.read + inotify.waiting()
        while inotify.read < end:
            for kind, name in inotify.events():
                report(out, {"type": kind, "name": name})
        for _ in asked:
            report(out, {"type": "synced", "name": ""})


# --- confinement


def prctl(option: int, value: int) -> None:
    """Call prctl(2) without the ctypes package, whose import would take a tenth of a sandbox's start."""
    import _ctypes

    number = type("Int", (_ctypes._SimpleCData,), {"_type_": "i"})
    call = {"_flags_": _ctypes.FUNCFLAG_CDECL, "_restype_": number}
    function = type("Function", (_ctypes.CFuncPtr,), call)
    here = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # None is what is loaded already
    if function(_ctypes.dlsym(here, "prctl"))(option, value, 0, 0, 0):
        raise OSError(errno.EPERM, f"prctl {option} was refused")


class Landlock:
    """The kernel's Landlock through its system calls. It limits file access by folder, and signals to the sandbox."""

    CREATE, ADD, RESTRICT = 444, 445, 446  # the same numbers on every architecture
    READ_FOLDER, READ_FILE = 0b1101, 0b0101  # execute, read files, list
    WRITE_FILE, TRUNCATE = 0b0010, 1 << 14
    RIGHTS = (13, 14, 15)  # the number of file rights in versions 1, 2, and from 3 on; ioctl stays allowed
    SCOPES = 0b11  # abstract sockets, signals

    def __init__(self, libc: Any) -> None:
        import ctypes

        self.libc = libc
        self.errno = ctypes.get_errno
        self.version = libc.syscall(self.CREATE, None, 0, 1)
        if self.version < 1:
            raise OSError(self.errno(), f"Landlock is not available: {os.strerror(self.errno())}")
        self.handled = (1 << self.RIGHTS[min(self.version, 3) - 1]) - 1

    def confine(self, readable: list[str], writable: list[str], devices: list[str]) -> int:
        """Deny this process and its children all other paths permanently."""
        ruleset = self.create()
        for path in readable:
            self.allow(ruleset, path, self.READ_FOLDER if os.path.isdir(path) else self.READ_FILE)
        for path in writable:
            self.allow(ruleset, path, self.handled)
        for path in devices:
            self.allow(ruleset, path, (self.READ_FILE | self.WRITE_FILE | self.TRUNCATE) & self.handled)
        self.libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        self.check(self.libc.syscall(self.RESTRICT, ruleset, 0))
        os.close(ruleset)
        return int(self.version)

    def create(self) -> int:
        scopes = self.SCOPES if self.version >= 6 else 0
        words = (self.handled, 0, scopes)[: 3 if self.version >= 6 else 2 if self.version >= 4 else 1]
        attributes = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
        return self.check(self.libc.syscall(self.CREATE, attributes, len(attributes), 0))

    def allow(self, ruleset: int, path: str, access: int) -> None:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = access.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
        self.check(self.libc.syscall(self.ADD, ruleset, 1, rule, 0))
        os.close(fd)

    def check(self, result: int) -> int:
        if result < 0:
            raise OSError(self.errno(), f"Landlock: {os.strerror(self.errno())}")
        return result


# --- helpers: forked children that report through a pipe, one JSON line each


def report(out: int, message: dict[str, Any]) -> None:
    data = memoryview(encode(message).encode() + b"\n")
    while data:
        data = data[os.write(out, data) :]


def run_helper(work: Callable[[int], None], out: int) -> NoReturn:
    try:
        work(out)
    except BrokenPipeError:
        os._exit(0)  # the server has stopped reading
    except (RequestError, OSError, RecursionError) as error:
        report(out, {"error": encode_error(error)})
    finally:
        os._exit(0)


def send_list(path: str, depth: int, out: int) -> None:
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
    for entry in walk(path, depth):
        report(out, {"entry": entry})
    report(out, {"ok": None})


def send_result(work: Callable[[], Any], out: int) -> None:
    report(out, {"ok": work()})


class Guest:
    def __init__(self, link: ControlSocket) -> None:
        self.link = link
        self.terminals: dict[int, int] = {}  # pid -> master, kept to find the foreground group
        self.started: set[int] = set()
        self.stopped: set[int] = set()
        self.own_namespace = os.getpid() == 1
        self.has_accounts = False
        self.poller = select.poll()

    def run(self) -> NoReturn:
        os.set_inheritable(self.link.sock.fileno(), False)
        wake, self.woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)
        _signal.signal(SIGCHLD, lambda *_: None)
        self.poller.register(wake, select.POLLIN)
        self.poller.register(self.link.sock.fileno(), select.POLLIN)
        self.link.send({"event": "hello", "pid": os.getpid()})
        while True:
            for fd, _ in self.poller.poll():
                if fd == wake:
                    os.read(wake, 512)
                    self.reap()
                else:
                    for message, fds in self.link.receive():
                        self.answer(message, fds)

    def reap(self) -> None:
        """Reap dead children, adopted orphans included, and report those that the server started."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.terminals:
                os.close(self.terminals.pop(pid))
            if pid in self.started:
                self.started.remove(pid)
                self.link.send({"event": "exit", "pid": pid, "status": status})

    def answer(self, message: dict[str, Any], fds: list[int]) -> None:
        reply: dict[str, Any] = {"id": message["id"]}
        out: tuple[int, ...] = ()
        try:
            reply["ok"], out = getattr(self, "do_" + message["op"])(message, fds)
        except Exception as error:  # noqa: BLE001
            # an error of one request is its reply; the sandbox lives on
            reply["error"] = encode_error(error)
        self.link.send({**reply, "fds": len(out)}, out)
        for fd in (*fds, *out):
            os.close(fd)

    def do_setup(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Set limits and protections for all processes to come. Replies with Landlock's version if it is used."""
        import resource

        self.has_accounts = message["accounts"]
        fixed_accounts["user"] = tuple(message["user"])
        if message["subreaper"]:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number, soft, hard in message["limits"]:
            resource.setrlimit(number, (soft, hard))
        os.umask(0o022)
        version = None
        if message["landlock"] is not None:
            import ctypes

            version = Landlock(ctypes.CDLL(None, use_errno=True)).confine(**message["landlock"])
        # Its memory and descriptors are nobody's inside, root's neither. Nothing else has run in the sandbox yet.
        prctl(PR_SET_DUMPABLE, 0)
        return version, ()

    def account(self, message: dict[str, Any]) -> Account | None:
        """Return the account that a request names; None where all accounts are one."""
        return Account(message["user"]) if self.has_accounts else None

    def do_home(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return Account(message["user"]).home, ()

    def do_spawn(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        account = self.account(message) or NoAccount()
        if message["pty"] is None:
            pid = start(message, fds, account)
            self.started.add(pid)
            return pid, ()
        master, slave = os.openpty()
        try:
            set_terminal_size(master, *message["pty"])
            pid = start_on_terminal(message, slave, account)
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        self.started.add(pid)
        self.terminals[pid] = os.dup(master)
        return pid, (master,)

    def do_signal(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        pid, number = message["pid"], message["signum"]
        if pid not in self.started:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        if pid in self.terminals:
            group = os.tcgetpgrp(self.terminals[pid])
            if group > 0 and group != pid:
                os.killpg(group, number)
        os.kill(pid, number)
        return None, ()

    def do_stop(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Stop all processes, each after its parent: else a shell would see its job stop."""
        self.stopped = set()
        for _ in range(1000):  # a process that waits for a disk stops only when the disk answers
            running = {p: f for p, f in list_processes(self.own_namespace).items() if f[0] not in "TtZX"}
            if not running:
                break
            pids = [pid for pid, fields in running.items() if int(fields[1]) not in running]
            self.stopped.update(pids)
            signal_each(pids, SIGSTOP)
            time.sleep(0.0005)
        return None, ()

    def do_continue(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Continue the processes that do_stop stopped, and none that had been stopped before."""
        order = sort_by_depth(list_processes(self.own_namespace))
        signal_each((pid for pid in reversed(order) if pid in self.stopped), SIGCONT)
        self.stopped = set()
        return None, ()

    def do_usage(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return measure_usage(self.own_namespace), ()

    def do_open(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        owner = self.account(message)
        fd = open_regular(message["path"], message["flags"], message["mode"], message["parents"], owner)
        return None, (fd,)

    def do_set_metadata(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        set_metadata(fds[0], message["values"])
        return None, ()

    def do_stat(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return describe(message["path"]), ()

    def do_make_dir(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return make_dir(message["path"], self.account(message)), ()

    def do_listen(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Open a socket that listens on the sandbox's own loopback, for the server to accept on."""
        listener = socket(2, 1)  # AF_INET, SOCK_STREAM
        listener.setsockopt(SOL_SOCKET, 2, 1)  # SO_REUSEADDR
        listener.bind(("127.0.0.1", message["port"]))
        listener.listen(128)
        return None, (listener.detach(),)

    def do_connect(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Start to connect a socket to a port of the sandbox's own loopback. The server waits for the result."""
        family, host = (10, "::1") if message["v6"] else (2, "127.0.0.1")
        connecting = socket(family, 1)  # SOCK_STREAM
        connecting.setblocking(False)
        number = connecting.connect_ex((host, message["port"]))
        if number not in (0, errno.EINPROGRESS):
            connecting.close()
            raise OSError(number, os.strerror(number))
        return None, (connecting.detach(),)

    def start_helper(self, work: Callable[[int], None], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        if os.fork() == 0:
            self.link.sock.close()
            _signal.set_wakeup_fd(-1)
            run_helper(work, fds[0])
        return None, ()

    def do_list(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self.start_helper(lambda out: send_list(message["path"], message["depth"], out), fds)

    def do_move(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        owner = self.account(message)
        return self.start_helper(
            lambda out: send_result(lambda: move(message["source"], message["target"], owner), out), fds
        )

    def do_remove(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self.start_helper(lambda out: send_result(lambda: remove(message["path"]), out), fds)

    def do_disk(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self.start_helper(lambda out: send_result(lambda: measure_disk(message["paths"]), out), fds)

    def do_watch(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self.start_helper(lambda out: watch(message["path"], message["recursive"], out), fds)


if __name__ == "__main__":
    Guest(ControlSocket(socket(fileno=int(sys.argv[1])))).run()
