"""What goes into a box and comes out of it: specifications, facts, and errors."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.local.network.policy import NetworkPolicy
from harness.local.template import Template

OutputName = Literal["stdout", "stderr", "pty"]
WatchKind = Literal["create", "write", "remove", "rename", "chmod", "overflow"]


class BoxError(Exception):
    """Something that a sandbox was asked for cannot be had; `remedy` says what would help, where known."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class BoxStartError(BoxError):
    """The sandbox could not be started."""


class BoxDied(BoxError):
    """The sandbox is dead: killed, or fallen to what ran inside."""


class UnknownUser(BoxError):
    """No such user in the sandbox."""


class BadDirectory(BoxError):
    """The working directory does not exist, is no directory, or may not be entered."""


class BadProgram(BoxError):
    """The program does not exist, or cannot be executed."""


@dataclass(frozen=True)
class BoxLimits:
    """Upper bounds for one sandbox; None means unbounded. What is enforced depends on the tier."""

    memory_mb: int | None = None
    cpus: float | None = None
    pids: int | None = 2048
    """Processes and threads."""


@dataclass(frozen=True)
class BoxSpec:
    """A sandbox to be started."""

    id: str
    state: Path
    """This sandbox's own directory, made by Box.start. The folders above it must be enterable by others
    (mode 0711) when the server is root, since the sandbox's account is then nobody of this machine's."""
    template: Template
    env: Mapping[str, str] = field(default_factory=dict)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    limits: BoxLimits = field(default_factory=BoxLimits)
    seed: Path | None = None
    """A folder made by Box.copy_state, which the sandbox starts from instead of the template's files."""
    domain: str = ""
    """`HOST:PORT` by which the server says that its sandboxes' ports are to be reached: as `N-ID.HOST:PORT`."""
    open_root: bool = False
    """Let new files be made outside of the template's places too; they are lost with the sandbox."""


@dataclass(frozen=True)
class FileEntry:
    """What is at a path. For a symbolic link: the link itself, beside what it leads to."""

    path: str
    mode: int
    """`st_mode` of the entry itself, type bits included."""
    size: int
    owner: str
    group: str
    mtime_ns: int
    target: str | None
    """Where a symbolic link leads in the end, all links resolved; None for anything else."""
    target_mode: int | None
    """`st_mode` of what the link leads to; None when it leads nowhere, or is no link."""
    metadata: Mapping[str, str]
    """What the user attached: extended attributes `user.e2b.*`, prefix stripped."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return os.path.basename(self.path)

    @property
    def is_symlink(self) -> bool:
        """True for a link, whatever it leads to."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_dir(self) -> bool:
        """True for a directory itself, not for a link to one."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True)
class WatchEvent:
    """One change below a watched folder."""

    kind: WatchKind
    name: str
    """Path relative to the watched folder. Empty for the folder itself, and for "overflow" (events lost)."""


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses at one moment."""

    cpu_percent: float
    """Of one core, since the last call (since the start, for the first); above 100 on several cores."""
    cpu_count: int
    mem_used: int
    """Bytes, of all processes in the sandbox."""
    mem_total: int
    disk_used: int
    """Bytes in the sandbox's own folders."""
    disk_total: int


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended."""

    exit_code: int
    """As a shell gives it: 128 + signal number after a signal."""
    signal: int | None

    @classmethod
    def from_wait(cls, status: int) -> "ExitStatus":
        """From what waitpid(2) gives."""
        code = os.waitstatus_to_exitcode(status)
        return cls(code, None) if code >= 0 else cls(128 - code, -code)
