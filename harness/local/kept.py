"""The store of what servers have built and unpacked: it is kept for later ones, within a bound."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.local.boxes.file_tree import measure_tree

UNUSED_S = 30 * 24 * 3600.0
"""What has not been used for so long is removed."""
SHARE_OF_DISK = 0.2
"""Beyond this part of its disk, what was used the longest time ago is removed."""


class KeptPart(NamedTuple):
    """A part that can be removed by itself. `bytes` is what it has of its own: parts share files."""

    key: str
    used_at: float
    bytes: int


class PartUses:
    """Sizes and last uses of a store's parts: a file for each, with its size, as old as its last use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, key: str, own: int) -> None:
        """Note a new part, with so many bytes of its own."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / key).write_text(str(own))

    def mark(self, keys: Iterable[str]) -> None:
        """Note that parts are used now. Those that are not kept by themselves are passed over."""
        for key in keys:
            with suppress(FileNotFoundError):
                os.utime(self._folder / key)

    def list_kept(self, parts: Path) -> list[KeptPart]:
        """Return a folder's parts."""
        return [self._describe(path) for path in parts.iterdir()] if parts.is_dir() else []

    def _describe(self, part: Path) -> KeptPart:
        file = self._folder / part.name
        if not file.exists():  # as servers before this one left it
            self.add(part.name, measure_tree(part))
        return KeptPart(part.name, file.stat().st_mtime, int(file.read_text()))

    def forget(self, key: str) -> None:
        """Forget a part that is removed."""
        (self._folder / key).unlink(missing_ok=True)


class Images(Protocol):
    """The images that are kept."""

    def list_kept(self) -> list[KeptPart]:
        """Return its parts."""

    def drop(self, keys: Collection[str], trash: Path) -> Collection[str]:
        """Move parts into a folder. Returns the names of the images that are no more."""


class Builds(Protocol):
    """The builds of templates that are kept."""

    def list_kept(self) -> list[KeptPart]:
        """Return its parts."""

    def drop(self, keys: Collection[str], roots: Collection[str], trash: Path) -> None:
        """Move parts into a folder, and forget what stands on them or on one of these images."""


def find_room(folder: Path) -> int:
    """Return how many bytes may be kept in a folder."""
    return int(shutil.disk_usage(folder).total * SHARE_OF_DISK)


def trim(builds: Sequence[Builds], images: Sequence[Images], room: int, trash: Path) -> None:
    """Move what is beyond the bound into a folder. No sandbox may stand on it."""
    stores: list[Builds | Images] = [*builds, *images]
    kept = [(part.used_at, number, part) for number, store in enumerate(stores) for part in store.list_kept()]
    total, oldest = sum(part.bytes for _, _, part in kept), time.time() - UNUSED_S
    gone: dict[int, set[str]] = {number: set() for number in range(len(stores))}
    for used_at, number, part in sorted(kept):
        if total <= room and used_at >= oldest:
            break
        total -= part.bytes
        gone[number].add(part.key)
    roots: set[str] = set()
    for number, store in enumerate(images, len(builds)):
        roots.update(store.drop(gone[number], trash))
    for number, build in enumerate(builds):
        if gone[number] or roots:
            build.drop(gone[number], roots, trash)
