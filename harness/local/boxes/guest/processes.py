"""Starting programs, and what is known of the processes inside."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not in typeshed; the public module costs 2 ms of enum
import errno
import os
import sys

from harness.local.boxes.guest.accounts import Account, SingleAccount
from harness.local.boxes.guest.replies import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGPIPE, SIGCHLD, SIGCONT, SIGSTOP, SIGXFSZ = 1, 2, 3, 9, 13, 17, 18, 19, 25
# Python ignores the last two. The others may be ignored if the server was started by nohup or in a script's
# background. An ignored signal survives exec, so that nothing could be interrupted.
IGNORED_SIGNALS = (SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGXFSZ)


def start(message: dict[str, Any], fds: list[int], account: Account | SingleAccount) -> int:
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
                _find_program(message["argv"][0], message["env"]),
                message["argv"],
                message["env"],
                file_actions=actions,
                setsid=True,
                setsigdef=IGNORED_SIGNALS,
            )
    except OSError as error:
        raise _start_error(kind, error.errno, message) from error
    finally:
        os.chdir("/")


def _find_program(name: str, env: dict[str, str]) -> str:
    """Return the path of a program, found by the PATH in its environment."""
    if "/" in name:
        return name
    places = [f"{folder}/{name}" for folder in os.get_exec_path(env)]
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), name)


def _start_error(kind: str, number: int | None, message: dict[str, Any]) -> RequestError:
    what = message["cwd"] if kind == "cwd" else message["argv"][0]
    return RequestError(kind, number or errno.EIO, f"{os.strerror(number or errno.EIO)}: {what}")


def start_on_terminal(message: dict[str, Any], slave: int, account: Account | SingleAccount) -> int:
    """Start a program on a terminal of its own, otherwise like `start`. It forks, since only a process can take one."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _exec_program(message, slave, writer, account)
    os.close(writer)
    with open(reader, "rb") as pipe:
        error = pipe.read()
    if error:
        os.waitpid(pid, 0)
        kind, number = error.decode().split(":")
        raise _start_error(kind, int(number), message)
    return pid


def _exec_program(
    message: dict[str, Any], slave: int, writer: int, account: Account | SingleAccount
) -> NoReturn:
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
    """Set the size of a terminal."""
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
    return found if own_namespace else _descendants(found)


def _descendants(processes: dict[int, list[str]]) -> dict[int, list[str]]:
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
    """Send a signal to those of the processes that are still there."""
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
    in_memory = _measure_files_in_memory() if own_namespace else 0
    return {"ticks": ticks, "memory": memory * os.sysconf("SC_PAGE_SIZE"), "files": in_memory}


def _measure_files_in_memory() -> int:
    """Return the bytes of the sandbox's shared memory: files in /dev/shm, and segments of System V."""
    shm = os.statvfs("/dev/shm")
    with open("/proc/sysvipc/shm") as file:
        segments = [line.split() for line in file][1:]
    return (shm.f_blocks - shm.f_bfree) * shm.f_frsize + sum(
        int(line[-2]) + int(line[-1]) for line in segments
    )
