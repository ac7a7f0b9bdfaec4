"""The full tier, `namespaces`: a sandbox is a machine of its own, with a writable root and two real accounts.

The launcher (launcher.py) makes it. This is the server's side: the files that a sandbox starts with, and the request.

A sandbox's state directory:

```
<state>/            the server's own, closed to everybody else
    upper/          what the sandbox has written: root and usr, and the overlay's work folders
    disk.img        in its place, a file system of bounded size; `upper` is then what the sandbox started with
```
"""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.local.boxes.accounts import STORED, new_account
from harness.local.boxes.base import Base, prepare_base
from harness.local.boxes.disks import has_disks, make_disk
from harness.local.boxes.file_tree import copy_tree, measure_tree
from harness.local.boxes.guest_launch import (
    E2B_USER,
    Interpreter,
    LaunchedGuest,
    LaunchSpec,
    compile_guest,
    compile_launcher,
    make_script_wrapper,
    open_blob,
)
from harness.local.boxes.subordinate import NoRange, SubordinateRange, find_range
from harness.local.shared_files import share_distributions, share_path

UPPER = "upper"
DISK = "disk.img"
TREES = ("root", "usr")
SHM_BYTES = 256 << 20
OOM_SCORE = 500
"""Sandboxes are ended before anything else when this machine runs out of memory."""
STEP_TIMEOUT_S = 20.0
"""No step of a sandbox's start takes longer: the next one waits for it."""
PYTHON = "/opt/python"
ENV = {"PIP_BREAK_SYSTEM_PACKAGES": "1"}
BASE_ENV = {"NPM_CONFIG_GLOBALCONFIG": "/etc/npmrc"}
ONE_ID_ENV = {"IS_SANDBOX": "1"}
"""Where `user` has root's id: without it Claude Code refuses to skip its questions."""

Ids = Literal["own", "range", "one"]


class LauncherClient:
    """The launcher's process, started at the first request. It ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._errors = os.fdopen(os.memfd_create("launcher-stderr"), "w+b")

    def launch(self, request: Mapping[str, Any], control: int, errors: int) -> ForkedGuest:
        """Start a sandbox. Raises OSError with the launcher's reason."""
        with self._lock:
            for is_last in (False, True):
                link = self._connect()
                try:
                    socket.send_fds(link, [marshal.dumps(dict(request))], [control, errors])
                    data, fds, _, _ = socket.recv_fds(link, 1 << 16, 1)
                except OSError:
                    data, fds = b"", []
                if data:
                    break
                said = self._forget()
                if is_last:
                    raise OSError(errno.EPIPE, said or "the launcher of sandboxes has ended")
        reply = marshal.loads(data)
        if "error" in reply:
            raise OSError(reply["errno"], reply["error"])
        return ForkedGuest(int(reply["pid"]), fds[0])

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._start()
        return self._socket

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        interpreter = Interpreter.running()
        program = str(interpreter.prefix / interpreter.program)
        blobs = [open_blob(compile_launcher()), open_blob(compile_guest())]
        fds = [theirs.fileno(), *blobs]
        try:
            self._process = subprocess.Popen(
                [program, "-I", "-S", f"/proc/self/fd/{blobs[0]}", str(fds[0]), str(blobs[1])],
                env={"LD_LIBRARY_PATH": f"{interpreter.prefix}/lib"} if interpreter.needs_mount else {},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=fds,
                start_new_session=True,
            )
        finally:
            theirs.close()
            for blob in blobs:
                os.close(blob)
        return ours

    def _forget(self) -> str:
        """Give up a launcher that has ended. Returns what it said."""
        if self._process is None or self._socket is None:
            return ""
        self._socket.close()
        self._process.wait()
        self._process = self._socket = None
        return os.pread(self._errors.fileno(), 4096, 0).decode("utf-8", "replace").strip()


class ForkedGuest:
    """A sandbox's PID 1, which is no child of this process."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def open_pidfd(self) -> int:
        """Return a descriptor, readable once everything inside is dead. The caller closes it."""
        return os.dup(self._pidfd)

    def kill(self) -> None:
        """Kill the sandbox, if it has not been waited for."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for the end."""
        if self._pidfd < 0:
            return
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        poller.poll()
        os.close(self._pidfd)
        self._pidfd = -1


@dataclass(frozen=True)
class Namespaces:
    """One way to give sandboxes ids: a range of its own each, a range for all of them, or one id.

    | ids | who may |
    |---|---|
    | own | root: each sandbox has 65,536 ids that nobody else has |
    | range | an ordinary user with a range in /etc/subuid, which all of the user's sandboxes share |
    | one | anybody: all accounts inside are one outside |
    """

    ids: Ids
    launcher: LauncherClient
    subordinate: SubordinateRange | None = None

    @property
    def stored(self) -> int | None:
        """The id on disk of the sandboxes' root; None for the server's own."""
        return STORED if self.ids == "own" else None

    @cached_property
    def base(self) -> Base:
        """The lowest layers of all sandboxes. Raises OSError."""
        return prepare_base(self.stored)

    def new_account(self) -> int:
        """Return the id of a new sandbox's root. Raises NoAccount."""
        return new_account() if self.ids == "own" else os.geteuid()

    def launch(self, spec: LaunchSpec, control: socket.socket) -> LaunchedGuest:
        """Start a guest. Raises OSError."""
        self._prepare_state(spec)
        errors = os.fdopen(os.memfd_create("guest-stderr"), "w+b")
        try:
            guest = self.launcher.launch(self.make_request(spec), control.fileno(), errors.fileno())
        except OSError as error:
            with errors:
                errors.seek(0)
                said = errors.read(4096).decode("utf-8", "replace").strip()
            raise OSError(error.errno, said or error.strerror or str(error)) from error
        image = spec.template.image
        env = {**ENV, **(BASE_ENV if image is None else {}), **(ONE_ID_ENV if self.ids == "one" else {})}
        return LaunchedGuest(guest, errors, env=env, has_accounts=self.ids != "one", user=_user_of(spec))

    def make_request(self, spec: LaunchSpec) -> dict[str, Any]:
        """Return the launcher's request: first the upper layer, then the layers of each tree, then single folders."""
        layers = {tree: list(self._list_layers(spec, tree)) for tree in TREES}
        binds = dict(self._list_binds(spec))
        is_disk = (spec.state / DISK).exists()
        sources = [(str(spec.state / (DISK if is_disk else UPPER)), "stored")]
        for tree in TREES:
            sources += layers[tree]
        sources += [(str(path), "machine") for path in binds.values()]
        return {
            "ids": self.ids,
            "first": spec.account if self.ids == "own" else None,
            "tools": self.subordinate.tools if self.subordinate else (),
            "uids": self.subordinate.uids if self.subordinate else (),
            "gids": self.subordinate.gids if self.subordinate else (),
            "storage": self.stored,
            "sources": sources,
            "layers": {tree: len(layers[tree]) for tree in TREES},
            "binds": list(binds),
            "is_disk": is_disk,
            "hostname": "sandbox",
            "user": _user_of(spec),
            "pids": spec.limits.pids,
            "step_timeout": STEP_TIMEOUT_S,
            "shm": SHM_BYTES,
            "oom": OOM_SCORE,
        }

    def _list_layers(self, spec: LaunchSpec, tree: str) -> Iterator[tuple[str, str]]:
        if (spec.state / DISK).exists():  # which is above what the sandbox started with
            yield str(spec.state / UPPER / tree), "stored"
        image = spec.template.image
        if image is not None:
            yield str(image.added / tree), "stored"
            yield str(image.root if tree == "root" else image.root / "usr"), "stored"
            return
        yield str(self.base.root if tree == "root" else self.base.usr), "stored"
        if tree == "usr":
            yield "/usr", "host"

    def _list_binds(self, spec: LaunchSpec) -> Iterator[tuple[str, Path]]:
        if spec.template.image is None:
            yield from self.base.binds
        yield from spec.template.binds.items()
        yield from _list_scripts(spec)

    def _prepare_state(self, spec: LaunchSpec) -> None:
        """Complete the upper layer: that of a new sandbox gets the template's programs."""
        upper = spec.state / UPPER
        if (upper / "root.work").exists():
            return
        spec.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (upper / "root").exists():  # it has no files of a template's or a snapshot's
            for name in ("root", "usr", "root/opt", "root/opt/bin"):
                (upper / name).mkdir(mode=0o755, parents=True)
            for name, inside in spec.template.programs.items():
                (upper / "root/opt/bin" / name).symlink_to(inside)
            self._give(upper)
        if spec.limits.disk_mb is not None and self.bounds_disk:
            make_disk(spec.state / DISK, spec.limits.disk_mb, self.stored or 0)
        for tree in TREES:
            (upper / f"{tree}.work").mkdir(mode=0o755)
            self._give(upper / f"{tree}.work")

    def _give(self, folder: Path) -> None:
        """Give files to the sandboxes' root."""
        if self.stored is not None:
            for above, folders, names in os.walk(folder):
                for path in (above, *(os.path.join(above, name) for name in (*folders, *names))):
                    os.lchown(path, self.stored, self.stored)

    @property
    def bounds_disk(self) -> bool:
        """True if what a sandbox writes can be bounded: by a file system of its own, which root alone may mount."""
        return self.ids == "own" and has_disks()

    def copy(self, source: Path, target: Path) -> None:
        """Copy a sandbox's upper layer, or make one from a copy. Nothing in it may run meanwhile. Raises OSError."""
        if (source.parent / DISK).exists():
            raise OSError(errno.ENOTSUP, "the files of a sandbox with a bound on its disk cannot be copied")
        for tree in TREES:
            if self.subordinate is None:
                copy_tree(source / tree, target / tree)
            else:  # most of its files are other accounts'
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.subordinate.run("cp", "-a", "-T", str(source / tree), str(target / tree))


def measure_written(state: Path) -> int:
    """Return the bytes that a sandbox has written and not removed."""
    disk = state / DISK
    if disk.exists():
        return disk.stat().st_blocks * 512
    return sum(measure_tree(state / UPPER / tree) for tree in TREES)


def list_ways() -> tuple[tuple[Namespaces, ...], str | None]:
    """Return the ways to give sandboxes ids that this account may try, the best first, and why one is missing."""
    launcher = LauncherClient()
    if os.geteuid() == 0:
        return (Namespaces("own", launcher),), None
    one = Namespaces("one", launcher)
    try:
        return (Namespaces("range", launcher, find_range()), one), None
    except NoRange as error:
        return (one,), str(error)


def _user_of(spec: LaunchSpec) -> tuple[int, int]:
    """Return the ids of `user` and its group inside."""
    return E2B_USER if spec.template.image is None else spec.template.image.user


def _list_scripts(spec: LaunchSpec) -> Iterator[tuple[str, Path]]:
    """Yield the template's own programs, each with packages that only it can import: path inside, path here."""
    interpreter = Interpreter.running()
    prefix = str(interpreter.prefix)
    if spec.template.scripts and interpreter.needs_mount:
        prefix = PYTHON
        yield PYTHON, share_path(interpreter.prefix, whole=False)
    for name, script in spec.template.scripts.items():
        source, packages = f"/opt/scripts/{name}.py", f"/opt/scripts/{name}.packages"
        yield source, share_path(script.source)
        yield packages, share_distributions(script.distributions)
        libraries = f"{PYTHON}/lib" if interpreter.needs_mount else ""
        text = make_script_wrapper(f"{prefix}/{interpreter.program}", libraries, packages, source)
        wrapper = spec.state / f"{name}.sh"  # not in the upper layer: a link there could lead anywhere
        wrapper.write_bytes(text)
        wrapper.chmod(0o755)
        yield f"/opt/bin/{name}", wrapper
