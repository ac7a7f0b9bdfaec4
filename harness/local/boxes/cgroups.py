"""Control groups, versions 1 and 2, where this machine lets us write them.

They bound memory, processes and CPU of a sandbox as a whole. Version 2 also freezes it; version 1's freezer
is left alone, because what it has frozen cannot be killed, and would outlive a killed server. Groups are made
beside or below the server's own, so that whatever bounds the server still bounds its sandboxes. An empty group
that a killed server left behind costs nothing, and is removed by the next server.
"""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.local.boxes.types import BoxLimits

PREFIX = "harness-"
CPU_PERIOD_US = 100_000
BOUNDING = frozenset({"memory", "pids", "cpu"})


@dataclass(frozen=True)
class Hierarchy:
    """A folder in which groups can be made, and the controllers that act on them."""

    base: Path
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True)
class Cgroups:
    """The hierarchies of this machine that can be written; one controller is in at most one of them."""

    hierarchies: tuple[Hierarchy, ...] = ()

    @property
    def controllers(self) -> frozenset[str]:
        """What can be bounded: of "memory", "pids", "cpu", "freezer"."""
        return frozenset[str]().union(*(hierarchy.controllers for hierarchy in self.hierarchies))

    def can_bound(self, limits: BoxLimits) -> bool:
        """Whether any of these limits can be set here."""
        return any(True for hierarchy in self.hierarchies for _ in _bounds(hierarchy, limits))

    @classmethod
    def detect(cls) -> "Cgroups":
        """What is there and really works, found by trying; also removes what dead servers left."""
        found: list[Hierarchy] = []
        taken: frozenset[str] = frozenset()
        for hierarchy in _mounted(Path("/proc/self/mountinfo").read_text(), _own_groups()):
            free = Hierarchy(hierarchy.base, hierarchy.version, hierarchy.controllers - taken)
            if free.controllers and _works(free):
                found.append(free)
                taken |= free.controllers
        return cls(tuple(found))

    def group(self) -> "Cgroup":
        """A new group for one sandbox, with nothing on disk before it is needed."""
        return Cgroup(self, _new_name())


class Cgroup:
    """One sandbox's group. Moving a process into a group costs milliseconds in the kernel, and at the start of
    every sandbox that would show: so a group is made in a hierarchy only when something is asked of it."""

    def __init__(self, cgroups: Cgroups, name: str) -> None:
        self._cgroups = cgroups
        self._name = name
        self._folders: dict[Hierarchy, Path] = {}

    def bound(self, pid: int, limits: BoxLimits) -> None:
        """Bound this process and its future children, as far as the controllers go. Raises OSError."""
        for hierarchy in self._cgroups.hierarchies:
            bounds = dict(_bounds(hierarchy, limits))
            if bounds:
                folder = self._folder(hierarchy)
                for name, value in bounds.items():
                    (folder / name).write_text(value)
                _add(folder, pid)

    def _folder(self, hierarchy: Hierarchy) -> Path:
        folder = hierarchy.base / self._name
        if hierarchy not in self._folders:
            folder.mkdir()
            self._folders[hierarchy] = folder
        return folder

    async def freeze(self, pids: Callable[[], set[int]]) -> None:
        """Stop all of these processes and their children; they stand still when this returns. `pids` tells
        the processes that live now. Raises OSError."""
        hierarchy = next(item for item in self._cgroups.hierarchies if "freezer" in item.controllers)
        folder = self._folder(hierarchy)
        while missing := pids() - _members(folder):  # those inside fork into the group, so this ends
            for pid in missing:
                _add(folder, pid)
        (folder / "cgroup.freeze").write_text("1")
        while not _is_frozen(folder):  # noqa: ASYNC110  # the kernel's doing, of which only this file tells
            await asyncio.sleep(0.002)

    def thaw(self) -> None:
        """Let everything in the group run on; fine when nothing is frozen."""
        for hierarchy, folder in self._folders.items():
            if "freezer" in hierarchy.controllers:
                (folder / "cgroup.freeze").write_text("0")

    def remove(self) -> None:
        """Remove the group once its processes are dead; what the kernel still counts, the next server removes."""
        for folder in self._folders.values():
            _remove_if_empty(folder)
        self._folders.clear()


def _members(folder: Path) -> set[int]:
    return {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}


def _add(folder: Path, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        (folder / "cgroup.procs").write_text(str(pid))


def _is_frozen(folder: Path) -> bool:
    return "frozen 1" in (folder / "cgroup.events").read_text()


def _bounds(hierarchy: Hierarchy, limits: BoxLimits) -> Iterator[tuple[str, str]]:
    first = hierarchy.version == 1
    if limits.memory_mb is not None and "memory" in hierarchy.controllers:
        yield "memory.limit_in_bytes" if first else "memory.max", str(limits.memory_mb << 20)
    if limits.pids is not None and "pids" in hierarchy.controllers:
        yield "pids.max", str(limits.pids)
    if limits.cpus is not None and "cpu" in hierarchy.controllers:
        quota = int(limits.cpus * CPU_PERIOD_US)
        if first:
            yield "cpu.cfs_period_us", str(CPU_PERIOD_US)
            yield "cpu.cfs_quota_us", str(quota)
        else:
            yield "cpu.max", f"{quota} {CPU_PERIOD_US}"


def _own_groups() -> dict[str, str]:
    """The server's own group by controller; version 2's under the empty name."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return {name: path for _, names, path in lines for name in names.split(",")}


def _mounted(mountinfo: str, own: Mapping[str, str]) -> Iterator[Hierarchy]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup":
            for name in BOUNDING.intersection(options.split(","), own):
                yield Hierarchy(_below(point, root, own[name]), 1, frozenset({name}))
        elif kind == "cgroup2" and "" in own:
            yield from _second(_below(point, root, own[""]), Path(point))


def _second(folder: Path, top: Path) -> Iterator[Hierarchy]:
    """Beside the server's own group rather than below it: a group with processes in it cannot hand on its
    controllers, while the one above it already does."""
    for base in (folder.parent, folder) if folder != top else (folder,):
        if os.access(base, os.W_OK):
            enabled = (base / "cgroup.subtree_control").read_text().split()
            yield Hierarchy(base, 2, BOUNDING.intersection(enabled) | {"freezer"})
            return


def _below(point: str, root: str, path: str) -> Path:
    """Where a group is in a mount that shows the hierarchy from `root` down."""
    return Path(point, os.path.relpath(path, root)) if path.startswith(root) else Path(point)


def _works(hierarchy: Hierarchy) -> bool:
    """Whether a group can be made, and bounded in every way that we use."""
    folder = hierarchy.base / _new_name()
    try:
        for other in hierarchy.base.glob(PREFIX + "*"):
            if not _maker_lives(other.name):
                _remove_if_empty(other)
        folder.mkdir()
    except OSError:
        return False
    try:
        for name, value in _bounds(hierarchy, BoxLimits(memory_mb=64, cpus=1.0, pids=64)):
            (folder / name).write_text(value)
        return os.access(folder / "cgroup.procs", os.W_OK)
    except OSError:
        return False
    finally:
        folder.rmdir()


def _new_name() -> str:
    """A name that says whose group it is, by pid and the time that process started."""
    return f"{PREFIX}{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(4)}"


def _maker_lives(name: str) -> bool:
    try:
        pid, started, _ = name.removeprefix(PREFIX).split("-")
        return _start_time(int(pid)) == int(started)
    except (ValueError, OSError):
        return False


def _start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot. Raises OSError when there is none."""
    return int(Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()[19])


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT):
            raise
