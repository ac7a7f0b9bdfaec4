"""How sandboxes are kept apart from this machine: tiers, and which of them works here."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

Tier = Literal["bubblewrap", "landlock", "container", "unsafe"]


@dataclass(frozen=True)
class PassedOver:
    """A better tier that does not work here, with its own words and what would help."""

    tier: Tier
    error: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Isolation:
    tier: Tier
    enforces: frozenset[str]
    """Of "files", "processes", "network", "memory", "pids", "cpu": what a sandbox cannot get around."""
    passed_over: tuple[PassedOver, ...] = ()

    @classmethod
    def probe(cls, requested: str | None = None) -> "Isolation":
        """The best tier that works on this machine, or the requested one.

        Raises IsolationError when the requested tier, or any tier at all, cannot be had.
        """
        return cls(tier="unsafe", enforces=frozenset())


@dataclass(frozen=True)
class PathMap:
    """Where the sandbox's paths really are, in tiers that cannot mount: pairs of (inside, outside)."""

    pairs: tuple[tuple[str, str], ...] = ()

    def outside(self, path: str) -> str:
        return _swap(path, self.pairs)

    def inside(self, path: str) -> str:
        return _swap(path, tuple((b, a) for a, b in self.pairs))


def _swap(path: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for source, target in pairs:
        if path == source or path.startswith(source + "/"):
            return target + path[len(source) :]
    return path


@dataclass(frozen=True)
class Launched:
    """A guest that has been started: the process to watch, and where its files are."""

    process: "subprocess.Popen[bytes]"
    paths: PathMap
    errors: IO[bytes]
    """What the guest and its launcher say on stderr."""


def launch(isolation: Isolation, state: Path, env: Mapping[str, str], control: socket.socket) -> Launched:
    """Start a guest that holds the other end of the server's socket."""
    errors = os.fdopen(os.memfd_create("guest-stderr"), "w+b")
    guest = str(Path(__file__).with_name("guest.py"))
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", guest, str(control.fileno())],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=[control.fileno()],
        start_new_session=True,
    )
    places = (("/home/user", "home"), ("/root", "root"), ("/tmp", "tmp"))
    return Launched(process, PathMap(tuple((inside, str(state / name)) for inside, name in places)), errors)
