"""Files of root's own made readable to sandboxes.

A server run by root starts sandboxes as nobody in particular. What lies below a folder that only root may
enter (a virtual environment in /root, most of all) is therefore out of a sandbox's reach. Such files get a
twin under /var/cache, once for all sandboxes: a hard link where that is possible, so that neither disk nor
page cache holds them twice, and a copy elsewhere.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

CACHE = Path("/var/cache/harness")
NOT_NEEDED = frozenset({"site-packages", "test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip"})
"""Parts of a Python installation that no sandbox needs."""


def reachable(path: Path) -> bool:
    """Whether anybody may read this file or enter this folder, by every folder above it."""
    needs = stat.S_IXOTH | stat.S_IROTH if path.is_dir() else stat.S_IROTH
    enterable = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    return enterable and path.stat().st_mode & needs == needs


def share(path: Path, *, whole: bool = True) -> Path:
    """The path itself, or a twin of it that sandboxes can reach. `whole=False` leaves out of a Python
    installation what no sandbox needs. Raises OSError when there is no place for a twin.
    """
    path = path.resolve()
    if os.geteuid() != 0 or reachable(path):
        return path
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    twin = CACHE / _identity(path) / path.name
    if not twin.exists():
        _make_twin(path, twin, frozenset() if whole else NOT_NEEDED)
    return twin


def _identity(path: Path) -> str:
    about = path.stat()
    text = f"{path}\0{about.st_ino}\0{about.st_size}\0{about.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:24]


def _make_twin(path: Path, twin: Path, without: frozenset[str]) -> None:
    """Complete beside its place, then moved there: whoever sees it sees all of it, and among several who
    make it at once the first wins."""
    making = Path(tempfile.mkdtemp(dir=CACHE, prefix=".making-"))
    try:
        for source in _files(path, without):
            target = making / path.name / source.relative_to(path)
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _link_or_copy(source, target)
        making.chmod(0o755)
        making.rename(twin.parent)
    except OSError:
        if not twin.exists():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _files(path: Path, without: frozenset[str]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if name not in without]
        yield from (Path(folder, name) for name in names)


def _link_or_copy(source: Path, target: Path) -> None:
    about = source.lstat()
    if stat.S_ISLNK(about.st_mode):
        target.symlink_to(source.readlink())
        return
    if about.st_mode & stat.S_IROTH:
        try:
            os.link(source, target)
        except OSError:
            pass  # another file system, or one without links
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(0o755 if about.st_mode & stat.S_IXUSR else 0o644)
