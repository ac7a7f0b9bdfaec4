"""Executing the server's requests. Operations that may take long run in a forked child, a helper."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not in typeshed; the public module costs 2 ms of enum
import errno
import os
import select
import stat
import time
from _socket import SOL_SOCKET, socket

from harness.local.boxes.guest.accounts import Account, SingleAccount, fixed_accounts
from harness.local.boxes.guest.confinement import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, Landlock, prctl
from harness.local.boxes.guest.control import ControlSocket
from harness.local.boxes.guest.files import (
    describe,
    make_dir,
    measure_disk,
    move,
    open_regular,
    remove,
    set_metadata,
    walk,
)
from harness.local.boxes.guest.processes import (
    SIGCHLD,
    SIGCONT,
    SIGSTOP,
    list_processes,
    measure_usage,
    set_terminal_size,
    signal_each,
    sort_by_depth,
    start,
    start_on_terminal,
)
from harness.local.boxes.guest.replies import RequestError, encode_error, report
from harness.local.boxes.guest.watching import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


def _run_helper(work: Callable[[int], None], out: int) -> NoReturn:
    """Do the work in this child, and end it. An error is reported."""
    try:
        work(out)
    except BrokenPipeError:
        os._exit(0)  # the server has stopped reading
    except (RequestError, OSError, RecursionError) as error:
        report(out, {"error": encode_error(error)})
    finally:
        os._exit(0)


def _send_list(path: str, depth: int, out: int) -> None:
    """Report the entries below a folder."""
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
    for entry in walk(path, depth):
        report(out, {"entry": entry})
    report(out, {"ok": None})


def _send_result(work: Callable[[], Any], out: int) -> None:
    """Do the work, and report its result."""
    report(out, {"ok": work()})


class Guest:
    """Executes requests one after the other. A request `OP` is answered by the method `_do_OP`."""

    def __init__(self, link: ControlSocket) -> None:
        self.link = link
        self.terminals: dict[int, int] = {}  # pid -> master, kept to find the foreground group
        self.started: set[int] = set()
        self.stopped: set[int] = set()
        self.own_namespace = os.getpid() == 1
        self.has_accounts = False
        self.poller = select.poll()

    def run(self) -> NoReturn:
        """Serve until the server is gone."""
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
                    self._reap()
                else:
                    for message, fds in self.link.receive():
                        self._answer(message, fds)

    def _reap(self) -> None:
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

    def _answer(self, message: dict[str, Any], fds: list[int]) -> None:
        reply: dict[str, Any] = {"id": message["id"]}
        out: tuple[int, ...] = ()
        try:
            reply["ok"], out = getattr(self, "_do_" + message["op"])(message, fds)
        except Exception as error:  # noqa: BLE001
            # an error of one request is its reply; the sandbox lives on
            reply["error"] = encode_error(error)
        try:
            self.link.send({**reply, "fds": len(out)}, out)
        except OSError as error:  # others of this sandbox's account have used up what may wait in its sockets
            self.link.send({"id": message["id"], "error": encode_error(error), "fds": 0})
        for fd in (*fds, *out):
            os.close(fd)

    def _do_setup(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
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

    def _account(self, message: dict[str, Any]) -> Account | None:
        """Return the account that a request names; None where all accounts are one."""
        return Account(message["user"]) if self.has_accounts else None

    def _do_home(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return Account(message["user"]).home, ()

    def _do_spawn(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        account = self._account(message) or SingleAccount()
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

    def _do_signal(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        pid, number = message["pid"], message["signum"]
        if pid not in self.started:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        if pid in self.terminals:
            group = os.tcgetpgrp(self.terminals[pid])
            if group > 0 and group != pid:
                os.killpg(group, number)
        os.kill(pid, number)
        return None, ()

    def _do_stop(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
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

    def _do_continue(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Continue the processes that do_stop stopped, and none that had been stopped before."""
        order = sort_by_depth(list_processes(self.own_namespace))
        signal_each((pid for pid in reversed(order) if pid in self.stopped), SIGCONT)
        self.stopped = set()
        return None, ()

    def _do_usage(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return measure_usage(self.own_namespace), ()

    def _do_open(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        owner = self._account(message)
        fd = open_regular(message["path"], message["flags"], message["mode"], message["parents"], owner)
        return None, (fd,)

    def _do_set_metadata(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        set_metadata(fds[0], message["values"])
        return None, ()

    def _do_stat(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return describe(message["path"]), ()

    def _do_make_dir(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        return make_dir(message["path"], self._account(message)), ()

    def _do_listen(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Open a socket that listens on the sandbox's own loopback, for the server to accept on."""
        listener = socket(2, 1)  # AF_INET, SOCK_STREAM
        listener.setsockopt(SOL_SOCKET, 2, 1)  # SO_REUSEADDR
        listener.bind(("127.0.0.1", message["port"]))
        listener.listen(128)
        return None, (listener.detach(),)

    def _do_connect(self, message: dict[str, Any], _: list[int]) -> tuple[Any, tuple[int, ...]]:
        """Start to connect a socket to a port of the sandbox's own loopback. The server waits for the result."""
        family, host = (10, "::1") if message["v6"] else (2, "127.0.0.1")
        connecting = socket(family, 1)  # SOCK_STREAM
        connecting.setblocking(False)
        number = connecting.connect_ex((host, message["port"]))
        if number not in (0, errno.EINPROGRESS):
            connecting.close()
            raise OSError(number, os.strerror(number))
        return None, (connecting.detach(),)

    def _start_helper(self, work: Callable[[int], None], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        if os.fork() == 0:
            self.link.sock.close()
            _signal.set_wakeup_fd(-1)
            _run_helper(work, fds[0])
        return None, ()

    def _do_list(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self._start_helper(lambda out: _send_list(message["path"], message["depth"], out), fds)

    def _do_move(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        owner = self._account(message)
        return self._start_helper(
            lambda out: _send_result(lambda: move(message["source"], message["target"], owner), out), fds
        )

    def _do_remove(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self._start_helper(lambda out: _send_result(lambda: remove(message["path"]), out), fds)

    def _do_disk(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self._start_helper(lambda out: _send_result(lambda: measure_disk(message["paths"]), out), fds)

    def _do_watch(self, message: dict[str, Any], fds: list[int]) -> tuple[Any, tuple[int, ...]]:
        return self._start_helper(lambda out: watch(message["path"], message["recursive"], out), fds)


def serve(control: int) -> NoReturn:
    """Be the guest of the server at the other end of this socket."""
    Guest(ControlSocket(socket(fileno=control))).run()
