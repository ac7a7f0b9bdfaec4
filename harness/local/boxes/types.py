"""The values and errors of boxes."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.local.limits import BoxLimits
from harness.local.network.policy import NetworkPolicy
from harness.local.template import Template

OutputName = Literal["stdout", "stderr", "pty"]
WatchKind = Literal["create", "write", "remove", "rename", "chmod", "overflow"]


class BoxError(Exception):
    """A sandbox cannot do what was requested. `remedy` says what would help, if that is known."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class BoxStartError(BoxError):
    """The sandbox could not be started."""


class BoxDied(BoxError):
    """The sandbox is dead: it was killed, or something that ran inside ended it."""


class UnknownUser(BoxError):
    """The sandbox has no such user."""


class BadDirectory(BoxError):
    """The working directory does not exist, is no directory, or may not be entered."""


class BadProgram(BoxError):
    """The program does not exist, or cannot be executed."""


@dataclass(frozen=True)
class BoxSpec:
    """The specification of a sandbox to be started."""

    id: str
    state: Path
    """This sandbox's own directory, made by Box.start.

    Where the tier cannot mount and the server is root, other accounts must be able to enter the folders above it (mode
    0711), since the sandbox then runs under another account."""
    template: Template
    env: Mapping[str, str] = field(default_factory=dict)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    ca: Path | None = None
    """A file with certificates that programs in the sandbox trust too, and the proxy for them."""
    limits: BoxLimits = field(default_factory=BoxLimits)
    seed: Path | None = None
    """A folder made by Box.copy_state, whose files the sandbox starts with in place of the template's."""
    domain: str = ""
    """`HOST:PORT` of the server: clients reach port N of the sandbox at `N-ID.HOST:PORT`."""


@dataclass(frozen=True)
class FileEntry:
    """The entry at a path. For a symbolic link: the link itself, and its target."""

    path: str
    mode: int
    """`st_mode` of the entry itself, type bits included."""
    size: int
    owner: str
    group: str
    mtime_ns: int
    target: str | None
    """The final target of a symbolic link, with all links resolved; None for other entries."""
    target_mode: int | None
    """`st_mode` of the link's target; None if there is no target, or if the entry is no link."""
    metadata: Mapping[str, str]
    """The user's metadata: the extended attributes `user.e2b.*`, without the prefix."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return os.path.basename(self.path)

    @property
    def is_symlink(self) -> bool:
        """True for a symbolic link, whatever its target is."""
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
    """The path relative to the watched folder. It is empty for the folder itself, and for "overflow" (lost events)."""


@dataclass(frozen=True)
class Usage:
    """The resource usage of a sandbox at one moment."""

    cpu_percent: float
    """Percent of one core since the last call, or since the start; above 100 on several cores."""
    cpu_count: int
    mem_used: int
    """Bytes used by all processes in the sandbox."""
    mem_total: int
    disk_used: int
    """Bytes used in the sandbox's own folders."""
    disk_total: int
    disk_free: int
    """Bytes that are left on the machine's volume for all sandboxes."""


@dataclass(frozen=True)
class ExitStatus:
    """The exit status of a process."""

    exit_code: int
    """The exit code as a shell reports it: 128 + signal number after a signal."""
    signal: int | None

    @classmethod
    def from_wait(cls, status: int) -> "ExitStatus":
        """Convert the status that waitpid(2) returns."""
        code = os.waitstatus_to_exitcode(status)
        return cls(code, None) if code >= 0 else cls(128 - code, -code)
