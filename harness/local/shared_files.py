"""Copies of root's own files that sandboxes can read.

A server run by root starts sandboxes under unprivileged accounts. These cannot read files below a folder that only
root may enter, such as a virtual environment in /root. Such files get a twin under /var/cache, once for all
sandboxes. A twin is a hard link if possible, so that neither disk nor page cache holds the file twice; else a copy.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

CACHE = Path("/var/cache/harness")
NOT_NEEDED = frozenset({"site-packages", "test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip"})
"""Parts of a Python installation that no sandbox needs."""
_KEPT = re.compile(r"[0-9a-f]{24}(-run)?")
"""The names of twins and of folders of packages."""
_ASIDE = ".unused-"


def is_reachable(path: Path) -> bool:
    """True if every account may read this file or enter this folder, and enter every folder above it."""
    needs = stat.S_IXOTH | stat.S_IROTH if path.is_dir() else stat.S_IROTH
    enterable = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    return enterable and path.stat().st_mode & needs == needs


def share_path(path: Path, *, whole: bool = True) -> Path:
    """Return the path itself if sandboxes can reach it, else a twin of it.

    `whole=False` leaves out the parts of a Python installation that no sandbox needs. Raises OSError if a twin
    cannot be made.
    """
    found = _find_or_make_twin(path, whole)
    if not found.exists():  # the cache folder has been cleaned up
        _find_or_make_twin.cache_clear()
        found = _find_or_make_twin(path, whole)
    return found


@functools.cache
def _find_or_make_twin(path: Path, whole: bool) -> Path:
    """Implement `share_path`. The cached result is valid while it exists: all sandboxes of a server share the files."""
    path = path.resolve()
    if os.geteuid() != 0 or is_reachable(path):
        return path
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    twin = CACHE / _twin_name(path) / path.name
    if not twin.exists() or not _is_there(twin.parent):
        _make_twin(path, twin, frozenset() if whole else NOT_NEEDED)
    return twin


@functools.cache
def share_unreadable(folder: Path) -> Path:
    """Return a copy of a folder whose programs can be run and not be read; the folder's twin where there is no room.

    The kernel lets no other process of the same account look into a program that it may not read, or take a descriptor
    from it. A link would not do: its mode is the original's.
    """
    target = cache_folder() / f"{_twin_name(folder.resolve())}-run" / folder.name
    if _is_there(target.parent):
        return target
    try:
        with build_folder(target.parent) as building:
            shutil.copytree(folder, building / folder.name)
            for path in (building / folder.name).iterdir():
                if path.is_file() and os.access(path, os.X_OK):
                    path.chmod(0o111)
    except OSError:
        return share_path(folder)
    return target


@functools.cache
def share_distributions(names: tuple[str, ...]) -> Path:
    """Return a folder with these packages of the running environment and all that they require.

    The modules are compiled, since sandboxes cannot write there. Raises OSError if the folder cannot be made.
    """
    import compileall
    from py_compile import PycInvalidationMode

    found = _resolve_distributions(names)
    site = Path(str(found[0].locate_file("")))
    content = "\0".join([str(site), *sorted(f"{each.name} {each.version}" for each in found)])
    folder = cache_folder() / hashlib.sha256(content.encode()).hexdigest()[:24]
    if _is_there(folder):
        return folder
    with build_folder(folder) as building:
        files = ((each, file) for each in found for file in each.files or () if ".." not in file.parts)
        for source in (Path(str(each.locate_file(file))) for each, file in files):
            if source.is_relative_to(site) and source.suffix != ".pyc" and source.is_file():
                target = building / source.relative_to(site)
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _link_or_copy(source, target)
        compileall.compile_dir(
            building, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
    return folder


def _resolve_distributions(names: tuple[str, ...]) -> list[importlib.metadata.Distribution]:
    """Return these distributions and all that they require in this environment."""
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


def claude_versions_folder() -> Path:
    """Return the folder with a folder for each version of Claude Code that was fetched: its program, `claude`."""
    return cache_folder() / "claude-code"


def cache_folder() -> Path:
    """Return this account's cache folder of files for sandboxes. Raises OSError."""
    if os.geteuid() == 0:
        folders = [CACHE]
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        # some accounts have no home, or none that they may write
        folders = [cache / "harness", Path(tempfile.gettempdir(), f"harness-cache-{os.geteuid()}")]
    for number, folder in enumerate(folders, 1):
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.geteuid():
                return folder
        except OSError:
            if number == len(folders):
                raise
    raise PermissionError(f"the cache folder {folders[-1]} belongs to another account")


def _is_there(kept: Path) -> bool:
    """True if the cache folder has this. It has been used then."""
    try:
        os.utime(kept)
    except FileNotFoundError:
        return False
    return True


def hold_shared(unused_since: float) -> list[Path]:
    """Keep what sandboxes are given until this process ends: no other one puts it aside.

    If no other process holds it, what was last started with before a moment is put aside. Returns that, to be removed.
    Raises OSError.
    """
    try:
        folder = cache_folder()
    except OSError:  # where it cannot be had, nothing is kept
        return []
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # closed by the end of the process
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(held, fcntl.LOCK_SH)
        return []
    for path in folder.iterdir():
        if _KEPT.fullmatch(path.name) and path.stat().st_mtime < unused_since:
            path.rename(path.with_name(f"{_ASIDE}{path.name}"))
    fcntl.flock(held, fcntl.LOCK_SH)
    return list(folder.glob(f"{_ASIDE}*"))


def _twin_name(path: Path) -> str:
    status = path.stat()
    text = f"{path}\0{status.st_ino}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:24]


def _make_twin(path: Path, twin: Path, without: frozenset[str]) -> None:
    with build_folder(twin.parent) as building:
        for source in _walk_files(path, without):
            target = building / path.name / source.relative_to(path)
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _link_or_copy(source, target)


@contextlib.contextmanager
def build_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `folder` at the end, so that nobody sees it incomplete.

    Among several processes that build it at once the first wins.
    """
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        yield building
        building.chmod(0o755)
        building.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _walk_files(path: Path, without: frozenset[str]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if name not in without]
        yield from (Path(folder, name) for name in names)


def _link_or_copy(source: Path, target: Path) -> None:
    status = source.lstat()
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(source.readlink())
        return
    if status.st_mode & stat.S_IROTH:
        try:
            os.link(source, target)
        except OSError:
            pass  # another file system, or one without hard links
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(0o755 if status.st_mode & stat.S_IXUSR else 0o644)
