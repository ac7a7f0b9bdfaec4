"""Files of root's own made readable to sandboxes.

A server run by root starts sandboxes as nobody in particular. What lies below a folder that only root may
enter (a virtual environment in /root, most of all) is therefore out of a sandbox's reach. Such files get a
twin under /var/cache, once for all sandboxes: a hard link where that is possible, so that neither disk nor
page cache holds them twice, and a copy elsewhere.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
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
    found = _shared(path, whole)
    if not found.exists():  # somebody has cleaned up
        _shared.cache_clear()
        found = _shared(path, whole)
    return found


@functools.cache
def _shared(path: Path, whole: bool) -> Path:
    """As `share`. What is found holds for as long as it is there: every sandbox of a server has the same files."""
    path = path.resolve()
    if os.geteuid() != 0 or reachable(path):
        return path
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    twin = CACHE / _identity(path) / path.name
    if not twin.exists():
        _make_twin(path, twin, frozenset() if whole else NOT_NEEDED)
    return twin


@functools.cache
def share_distributions(names: tuple[str, ...]) -> Path:
    """A folder with these packages, and all that they need, of the running environment: to import from.

    Compiled, since sandboxes cannot write there. Raises OSError when there is no place for it.
    """
    import compileall
    from py_compile import PycInvalidationMode

    found = _closure(names)
    site = Path(str(found[0].locate_file("")))
    about = "\0".join([str(site), *sorted(f"{each.name} {each.version}" for each in found)])
    folder = _cache() / hashlib.sha256(about.encode()).hexdigest()[:24]
    if folder.exists():
        return folder
    with _making(folder) as making:
        for source in (Path(str(each.locate_file(file))) for each in found for file in each.files or ()):
            if source.is_relative_to(site) and source.suffix != ".pyc" and source.is_file():
                target = making / source.relative_to(site)
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _link_or_copy(source, target)
        compileall.compile_dir(
            making, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
    return folder


def _closure(names: tuple[str, ...]) -> list[importlib.metadata.Distribution]:
    """Distributions with all that they require in this environment."""
    from packaging.requirements import Requirement

    found: dict[str, importlib.metadata.Distribution] = {}
    done: set[tuple[str, str]] = set()
    pending = list(map(Requirement, names))
    while pending:
        wanted = pending.pop()
        for extra in {"", *wanted.extras}:
            if (wanted.name, extra) in done:
                continue
            done.add((wanted.name, extra))
            distribution = importlib.metadata.distribution(wanted.name)
            found[distribution.name] = distribution
            for needed in map(Requirement, distribution.requires or ()):
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    pending.append(needed)
    return list(found.values())


def _cache() -> Path:
    """Where this account keeps what sandboxes are shown."""
    if os.geteuid() == 0:
        folder = CACHE
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folder


def _identity(path: Path) -> str:
    about = path.stat()
    text = f"{path}\0{about.st_ino}\0{about.st_size}\0{about.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:24]


def _make_twin(path: Path, twin: Path, without: frozenset[str]) -> None:
    with _making(twin.parent) as making:
        for source in _files(path, without):
            target = making / path.name / source.relative_to(path)
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _link_or_copy(source, target)


@contextlib.contextmanager
def _making(folder: Path) -> Iterator[Path]:
    """Complete beside its place, then moved there: whoever sees it sees all of it, and among several who
    make it at once the first wins."""
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        yield making
        making.chmod(0o755)
        making.rename(folder)
    except OSError:
        if not folder.exists():
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
