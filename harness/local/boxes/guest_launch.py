"""What starting a guest takes, whatever walls are put around it."""

import dataclasses
import functools
import importlib.util
import marshal
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness.local.boxes.procfs import kill_marked
from harness.local.network.egress import LoopbackAlias
from harness.local.template import Template

SEARCH_PATH = "/opt/bin:/opt/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""E2B's PATH, after the folders with the template's own programs and what its build installed."""

ETC_FROM_HOST = (
    *("ssl", "pki", "ca-certificates", "alternatives", "ld.so.cache", "localtime"),
    *("services", "protocols", "mime.types", "perl"),
)
"""What of /etc programs in /usr need, and no secret is in. Java's settings are found by pattern, since their
names hold a version."""


@dataclass(frozen=True)
class PathMap:
    """Where the sandbox's paths really are, in tiers that cannot mount: pairs of (inside, outside)."""

    pairs: tuple[tuple[str, str], ...] = ()

    def outside(self, path: str) -> str:
        """The path that processes and the kernel know, for a sandbox path."""
        return _swap(path, self.pairs)

    def inside(self, path: str) -> str:
        """The sandbox path, for one that processes and the kernel know."""
        return _swap(path, tuple((outside, inside) for inside, outside in self.pairs))


def _swap(path: str, pairs: Sequence[tuple[str, str]]) -> str:
    for source, target in pairs:
        if path == source or path.startswith(source + "/"):
            return target + path[len(source) :]
    return path


@dataclass(frozen=True)
class LaunchSpec:
    """What a guest is started for."""

    id: str
    state: Path
    template: Template
    account: int
    """This machine's uid that everything in the sandbox runs as."""
    alias: LoopbackAlias | None = None
    """A host name that leads to the sandbox itself."""
    open_root: bool = False
    """Let new files be made outside of the template's places too; they are lost with the sandbox."""


@dataclass(frozen=True)
class LandlockRules:
    """What stays open to a sandbox that the kernel's Landlock closes everything else to."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True)
class LaunchedGuest:
    """A guest that has been started: the process to watch, and where its files are."""

    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    """What the guest and its launcher say on stderr."""
    paths: PathMap = field(default_factory=PathMap)
    env: Mapping[str, str] = field(default_factory=dict)
    """What the tier adds to the environment of every process."""
    landlock: "LandlockRules | None" = None
    """What the guest has to confine itself to before it starts anything."""
    mark: str | None = None
    """Set where not everything inside ends with the guest: it adopts orphans, and what has this mark is hunted."""

    @property
    def is_contained(self) -> bool:
        """Everything inside ends with the guest."""
        return self.mark is None

    def kill_processes(self, account: int) -> None:
        """Kill all of the sandbox but the guest, where that one's end does not do it."""
        if self.mark is not None:
            kill_marked(self.process.pid, account, self.mark)


def run_guest(
    argv: Sequence[str], control: socket.socket, fds: Sequence[int], account: int, env: Mapping[str, str]
) -> tuple["subprocess.Popen[bytes]", IO[bytes]]:
    """Start a launcher or a guest with nothing of ours in it: a clean environment (it can be read from
    inside), no descriptors but the given ones, and another account before anything of the guest's runs."""
    errors = os.fdopen(os.memfd_create("guest-stderr"), "w+b")
    changes = account != os.geteuid()
    process = subprocess.Popen(
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
def guest_bytecode() -> bytes:
    """guest.py compiled, as a .pyc file: compiling it anew would be a third of a sandbox's start."""
    source = Path(__file__).with_name("guest.py")
    code = compile(source.read_bytes(), "guest.py", "exec")
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


@dataclass(frozen=True)
class Interpreter:
    """The running Python, as a guest needs it."""

    prefix: Path
    program: Path
    """Relative to the prefix."""

    @property
    def needs_mount(self) -> bool:
        """Not part of /usr, which sandboxes have anyway."""
        return not self.prefix.is_relative_to("/usr")

    @classmethod
    @functools.cache
    def running(cls) -> "Interpreter":
        """The interpreter that this process runs on, any virtual environment aside."""
        prefix = Path(sys.base_prefix).resolve()
        program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        if not program.is_relative_to(prefix):
            program = prefix / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return cls(prefix, program.relative_to(prefix))


def wrapper(python: str, libraries: str, packages: str, source: str) -> bytes:
    """A program that runs one of a template's scripts: this Python, on its own libraries, with these packages."""
    variables = f"PYTHONPATH='{packages}'" + (f" LD_LIBRARY_PATH='{libraries}'" if libraries else "")
    return f"#!/bin/sh\n{variables} exec '{python}' -S -P '{source}' \"$@\"\n".encode()


def sudo(root: str, user: str) -> bytes:
    """The sandbox's `sudo`, given the homes of its users."""
    text = Path(__file__).with_name("sudo.sh").read_text(encoding="utf-8")
    return text.replace("@ROOT@", root).replace("@USER@", user).encode()


def blob(data: bytes) -> int:
    """A descriptor from which to read this, for a process that is to be started; the caller closes it."""
    fd = os.memfd_create("sandbox")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def setup(guest: LaunchedGuest, limits: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """The guest's first request: what it has to do before it starts anything. Limits are (number, soft,
    hard), as setrlimit(2) takes them."""
    landlock = guest.landlock
    return {
        "limits": list(limits),
        "subreaper": not guest.is_contained,
        "landlock": None if landlock is None else dataclasses.asdict(landlock),
    }
