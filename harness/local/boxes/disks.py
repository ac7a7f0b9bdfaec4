"""File systems of bounded size, each in a sparse file, for what a sandbox writes.

The launcher mounts them (`mount_disk`). They bound bytes and files alike. An empty one takes under 1 MiB.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from harness.local.shared_files import build_folder, cache_folder

_FORMAT = 1


@functools.cache
def has_disks() -> bool:
    """True if this machine can make such a file system, and has the devices to mount it."""
    return _find_mkfs() is not None and os.path.exists("/dev/loop-control")


def make_disk(path: Path, size_mb: int, owner: int) -> None:
    """Make an empty file system whose root folder belongs to this id. Raises OSError."""
    folder = cache_folder() / "bases" / f"disk-{_FORMAT}-{size_mb}-{owner}"
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        with build_folder(folder) as building:
            _make(building / "disk", size_mb, owner)
    _run("cp", "--sparse=always", "--reflink=auto", str(folder / "disk"), str(path))
    path.chmod(0o600)


def _make(path: Path, size_mb: int, owner: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_mb << 20)
    options = (
        "-q",
        "-F",
        "-m",
        "0",
        "-O",
        "^has_journal",
        "-E",
        f"lazy_itable_init=1,root_owner={owner}:{owner}",
    )
    _run(str(_find_mkfs()), *options, str(path))


def _find_mkfs() -> str | None:
    return shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed: {done.stderr.strip()}")
