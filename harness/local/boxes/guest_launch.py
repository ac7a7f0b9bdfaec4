"""Starting a guest: the parts that all isolation tiers share."""

import dataclasses
import functools
import importlib.util
import marshal
import os
import socket
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from harness.local.boxes import guest
from harness.local.boxes.procfs import kill_marked
from harness.local.limits import BoxLimits
from harness.local.template import Template

SEARCH_PATH = "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""E2B's PATH, preceded by the folder of the template's own programs."""

E2B_USER = (1000, 1000)
"""The ids of `user`, as on E2B's image."""

ETC_FROM_HOST = (
    *("ssl", "pki", "ca-certificates", "alternatives", "ld.so.cache", "localtime"),
    *("services", "protocols", "mime.types", "perl"),
)
"""Entries of /etc that programs in /usr need and that contain no secrets.

Java's settings are found by pattern, since their names contain a version."""


@dataclass(frozen=True)
class PathMap:
    """The real locations of the sandbox's paths, in tiers that cannot mount: pairs of (inside, outside)."""

    pairs: tuple[tuple[str, str], ...] = ()

    def outside(self, path: str) -> str:
        """Return the real path of a sandbox path."""
        return _replace_prefix(path, self.pairs)

    def inside(self, path: str) -> str:
        """Return the sandbox path of a real path."""
        return _replace_prefix(path, tuple((outside, inside) for inside, outside in self.pairs))


def _replace_prefix(path: str, pairs: Sequence[tuple[str, str]]) -> str:
    for source, target in pairs:
        if path == source or path.startswith(source + "/"):
            return target + path[len(source) :]
    return path


@dataclass(frozen=True)
class LaunchSpec:
    """The specification of a guest to be started."""

    id: str
    state: Path
    template: Template
    account: int
    """The uid on this machine that everything in the sandbox runs as."""
    limits: BoxLimits = field(default_factory=BoxLimits)


@dataclass(frozen=True)
class LandlockRules:
    """The paths that the kernel's Landlock leaves accessible to a sandbox."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    devices: tuple[str, ...]


class GuestProcess(Protocol):
    """The process whose end is the sandbox's."""

    @property
    def pid(self) -> int:
        """Its pid on this machine."""

    def open_pidfd(self) -> int:
        """Return a descriptor of it, which the caller closes."""

    def kill(self) -> None:
        """Kill it."""

    def wait(self) -> object:
        """Wait for its end. To be called once."""


class ChildGuest(subprocess.Popen[bytes]):
    """A guest that is a child of this process."""

    def open_pidfd(self) -> int:
        """Return a descriptor of it, which the caller closes."""
        return os.pidfd_open(self.pid)


@dataclass(frozen=True)
class LaunchedGuest:
    """A guest that has been started, and the facts of its tier."""

    process: GuestProcess
    errors: IO[bytes]
    """The stderr of the guest and its launcher."""
    paths: PathMap = field(default_factory=PathMap)
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that the tier adds to the environment of every process."""
    landlock: "LandlockRules | None" = None
    """The rules to which the guest confines itself before it starts anything; None without Landlock."""
    has_accounts: bool = False
    """True if `user` and `root` are two accounts."""
    user: tuple[int, int] = E2B_USER
    """The ids of `user` and of its group, where it is an account of its own."""
    mark: str | None = None
    """The mark of the sandbox's processes, in tiers where they do not all end with the guest; else None.

    In such tiers the guest also adopts orphans."""

    @property
    def is_contained(self) -> bool:
        """True if all processes inside end with the guest."""
        return self.mark is None

    def kill_processes(self, account: int) -> None:
        """Kill all processes of the sandbox except the guest, unless they end with the guest anyway."""
        if self.mark is not None:
            kill_marked(self.process.pid, account, self.mark)


def run_guest(
    argv: Sequence[str], control: socket.socket, fds: Sequence[int], account: int, env: Mapping[str, str]
) -> tuple[GuestProcess, IO[bytes]]:
    """Start a guest that inherits nothing from the server.

    It gets only the given environment, which can be read from inside, and only the given descriptors. The account is
    changed before any of its code runs.
    """
    errors = os.fdopen(os.memfd_create("guest-stderr"), "w+b")
    changes = account != os.geteuid()
    process = ChildGuest(
        argv,
        env=dict(env),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=[control.fileno(), *fds],
        start_new_session=True,
        user=account if changes else None,
        group=account if changes else None,
        extra_groups=[] if changes else None,
    )
    return process, errors


@functools.cache
def compile_launcher() -> bytes:
    """Return launcher.py compiled to a .pyc file. Compiling takes longer than a sandbox's start."""
    return _pyc(_compile("launcher.py"))


@functools.cache
def compile_guest() -> bytes:
    """Return the modules of guest/ as one .pyc file, which makes them without looking for files.

    From a zip archive or a folder they took 10 to 20 ms longer, since Python then imports runpy and zipimport too.
    """
    modules = [(f"{guest.__name__}.{name}", _compile(f"guest/{name}.py")) for name in guest.MODULES]
    return _pyc(compile(f"MODULES = {marshal.dumps(modules)!r}\n{_START_GUEST}", "guest", "exec"))


_START_GUEST = """
import marshal
import sys

for name, code in marshal.loads(MODULES):
    module = sys.modules[name] = type(sys)(name)
    exec(code, module.__dict__)
serve = module.serve
if __name__ == "__main__":
    serve(int(sys.argv[1]))
"""


def _compile(name: str) -> types.CodeType:
    return compile((Path(__file__).parent / name).read_bytes(), name, "exec")


def _pyc(code: types.CodeType) -> bytes:
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


@dataclass(frozen=True)
class Interpreter:
    """The Python installation that guests run on."""

    prefix: Path
    program: Path
    """The interpreter's path relative to the prefix."""

    @property
    def needs_mount(self) -> bool:
        """True unless it is part of /usr, which sandboxes see anyway."""
        return not self.prefix.is_relative_to("/usr")

    @classmethod
    @functools.cache
    def running(cls) -> "Interpreter":
        """Return the interpreter of this process, without its virtual environment."""
        prefix = Path(sys.base_prefix).resolve()
        program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        if not program.is_relative_to(prefix):
            program = prefix / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return cls(prefix, program.relative_to(prefix))


def make_script_wrapper(python: str, libraries: str, packages: str, source: str) -> bytes:
    """Return a shell script that runs a template's script on this Python, with its libraries and packages."""
    variables = f"PYTHONPATH='{packages}'" + (f" LD_LIBRARY_PATH='{libraries}'" if libraries else "")
    return f"#!/bin/sh\n{variables} exec '{python}' -S -P '{source}' \"$@\"\n".encode()


def make_sudo(find: str) -> bytes:
    """Return the sandbox's `sudo`, given the lines that set $home and $become for $user."""
    text = Path(__file__).with_name("sudo.sh").read_text(encoding="utf-8")
    return text.replace("@FIND@", find).encode()


def open_blob(data: bytes) -> int:
    """Return a descriptor from which a new process can read these bytes. The caller closes it."""
    fd = os.memfd_create("sandbox")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def setup_request(guest: LaunchedGuest, limits: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Return the fields of the guest's first request, which it executes before it starts anything.

    Limits are (number, soft, hard), as for setrlimit(2).
    """
    landlock = guest.landlock
    return {
        "limits": list(limits),
        "accounts": guest.has_accounts,
        "user": list(guest.user),
        "subreaper": not guest.is_contained,
        "landlock": None if landlock is None else dataclasses.asdict(landlock),
    }
