"""Control groups, versions 1 and 2, if this machine lets the server write them.

They limit memory, processes and CPU of a sandbox as a whole. Version 2 also freezes it. Version 1's freezer is not
used: frozen processes cannot be killed, and would outlive a killed server. Groups are made beside or below the
server's own, so that the limits of the server also hold for its sandboxes. An empty group that a killed server leaves
costs nothing, and the next server removes it.
"""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.local.limits import BoxLimits

PREFIX = "harness-"
CPU_PERIOD_US = 100_000
BOUNDING = frozenset({"memory", "pids", "cpu"})


@dataclass(frozen=True)
class Hierarchy:
    """A folder in which groups can be made, and the controllers of these groups."""

    base: Path
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True)
class Cgroups:
    """The writable hierarchies of this machine. Each controller is in at most one of them."""

    hierarchies: tuple[Hierarchy, ...] = ()

    @property
    def controllers(self) -> frozenset[str]:
        """The available controllers, of "memory", "pids", "cpu", "freezer"."""
        return frozenset[str]().union(*(hierarchy.controllers for hierarchy in self.hierarchies))

    def can_limit(self, limits: BoxLimits) -> bool:
        """True if any of these limits can be set here."""
        return any(True for hierarchy in self.hierarchies for _ in _limit_files(hierarchy, limits))

    @classmethod
    def detect(cls) -> "Cgroups":
        """Find the hierarchies that work, by trying them. Groups left by dead servers are removed."""
        found: list[Hierarchy] = []
        taken: frozenset[str] = frozenset()
        for hierarchy in _find_hierarchies(Path("/proc/self/mountinfo").read_text(), _own_groups()):
            free = Hierarchy(hierarchy.base, hierarchy.version, hierarchy.controllers - taken)
            if free.controllers and _is_usable(free):
                found.append(free)
                taken |= free.controllers
        return cls(tuple(found))

    def new_group(self) -> "Cgroup":
        """Return a new group for one sandbox. Its folders are made when they are needed."""
        return Cgroup(self, _new_name())


class Cgroup:
    """The group of one sandbox.

    Moving a process into a group costs milliseconds in the kernel, which would slow down the start of every sandbox.
    So a group is made in a hierarchy only when it is used.
    """

    def __init__(self, cgroups: Cgroups, name: str) -> None:
        self._cgroups = cgroups
        self._name = name
        self._folders: dict[Hierarchy, Path] = {}

    def set_limits(self, pid: int, limits: BoxLimits) -> None:
        """Set the limits of this process and its future children that the controllers can set. Raises OSError."""
        for hierarchy in self._cgroups.hierarchies:
            files = dict(_limit_files(hierarchy, limits))
            if files:
                folder = self._folder(hierarchy)
                for name, value in files.items():
                    (folder / name).write_text(value)
                _add(folder, pid)

    def _folder(self, hierarchy: Hierarchy) -> Path:
        folder = hierarchy.base / self._name
        if hierarchy not in self._folders:
            folder.mkdir()
            self._folders[hierarchy] = folder
        return folder

    async def freeze(self, pids: Callable[[], set[int]]) -> None:
        """Freeze processes and their children. All are frozen when this returns. Raises OSError.

        `pids` returns the processes that live at the moment of the call.
        """
        hierarchy = next(item for item in self._cgroups.hierarchies if "freezer" in item.controllers)
        folder = self._folder(hierarchy)
        while missing := pids() - _members(folder):  # children are forked into the group, so this ends
            for pid in missing:
                _add(folder, pid)
        (folder / "cgroup.freeze").write_text("1")
        while not _is_frozen(folder):  # noqa: ASYNC110  # the kernel reports it only in this file
            await asyncio.sleep(0.002)

    def thaw(self) -> None:
        """Continue everything in the group, if it is frozen."""
        for hierarchy, folder in self._folders.items():
            if "freezer" in hierarchy.controllers:
                (folder / "cgroup.freeze").write_text("0")

    def remove(self) -> None:
        """Remove the group after its processes have died. The next server removes it if the kernel still refuses."""
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


def _limit_files(hierarchy: Hierarchy, limits: BoxLimits) -> Iterator[tuple[str, str]]:
    is_v1 = hierarchy.version == 1
    if limits.memory_mb is not None and "memory" in hierarchy.controllers:
        yield "memory.limit_in_bytes" if is_v1 else "memory.max", str(limits.memory_mb << 20)
    if limits.pids is not None and "pids" in hierarchy.controllers:
        yield "pids.max", str(limits.pids)
    if limits.cpus is not None and "cpu" in hierarchy.controllers:
        quota = int(limits.cpus * CPU_PERIOD_US)
        if is_v1:
            yield "cpu.cfs_period_us", str(CPU_PERIOD_US)
            yield "cpu.cfs_quota_us", str(quota)
        else:
            yield "cpu.max", f"{quota} {CPU_PERIOD_US}"


def _own_groups() -> dict[str, str]:
    """Return the server's own group by controller, and that of version 2 under the empty name."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return {name: path for _, names, path in lines for name in names.split(",")}


def _find_hierarchies(mountinfo: str, own: Mapping[str, str]) -> Iterator[Hierarchy]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup":
            for name in BOUNDING.intersection(options.split(","), own):
                yield Hierarchy(_group_folder(point, root, own[name]), 1, frozenset({name}))
        elif kind == "cgroup2" and "" in own:
            yield from _find_v2(_group_folder(point, root, own[""]), Path(point))


def _find_v2(folder: Path, top: Path) -> Iterator[Hierarchy]:
    """Yield version 2's hierarchy: the folder beside the server's group if it is writable, else the group itself.

    A group with processes in it cannot enable controllers for its children, and the group above it already does.
    """
    for base in (folder.parent, folder) if folder != top else (folder,):
        if os.access(base, os.W_OK):
            enabled = (base / "cgroup.subtree_control").read_text().split()
            yield Hierarchy(base, 2, BOUNDING.intersection(enabled) | {"freezer"})
            return


def _group_folder(point: str, root: str, path: str) -> Path:
    """Return the folder of a group in a mount that shows the hierarchy from `root` down."""
    return Path(point, os.path.relpath(path, root)) if path.startswith(root) else Path(point)


def _is_usable(hierarchy: Hierarchy) -> bool:
    """True if a group can be made, and all limits that are used can be set."""
    folder = hierarchy.base / _new_name()
    try:
        for other in hierarchy.base.glob(PREFIX + "*"):
            if not _is_owner_alive(other.name):
                _remove_if_empty(other)
        folder.mkdir()
    except OSError:
        return False
    try:
        for name, value in _limit_files(hierarchy, BoxLimits(memory_mb=64, cpus=1.0, pids=64)):
            (folder / name).write_text(value)
        return os.access(folder / "cgroup.procs", os.W_OK)
    except OSError:
        return False
    finally:
        folder.rmdir()


def _new_name() -> str:
    """Return a name with the pid and the start time of this process, which own the group."""
    return f"{PREFIX}{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(4)}"


def _is_owner_alive(name: str) -> bool:
    try:
        pid, started, _ = name.removeprefix(PREFIX).split("-")
        return _start_time(int(pid)) == int(started)
    except (ValueError, OSError):
        return False


def _start_time(pid: int) -> int:
    """Return the start time of a process, in clock ticks since boot. Raises OSError if there is no such process."""
    return int(Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()[19])


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT):
            raise
