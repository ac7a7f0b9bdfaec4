"""The layers of an image, one after another, as one root file system.

Nothing that a layer says leads out of the root: paths are resolved by the kernel inside of it (openat2 with
RESOLVE_IN_ROOT), as a container would resolve them, so that links of lower layers count and hostile ones do no harm.
"""

from __future__ import annotations

import ctypes
import errno
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harness.local.images.errors import ImageError

_OPENAT2 = 437
_IN_ROOT, _NO_MAGIC_LINKS = 0x10, 0x02
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_CAPABILITY = "security.capability"
_MAX_PATH = 4096
_PIECE = 1024 * 1024
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class ImageLimits:
    """The bytes and entries that an image may still have."""

    bytes: int = 64 * 2**30
    entries: int = 4_000_000

    def take(self, size: int = 0) -> None:
        """Take one entry of a size away. Raises ImageError."""
        self.entries -= 1
        self.bytes -= size
        if self.entries < 0 or self.bytes < 0:
            raise ImageError("the image has more files or bytes than this machine unpacks")


@dataclass(frozen=True)
class Owners:
    """The storing of owners. `first` is the id on disk of the image's root; None: all is this process's own."""

    first: int | None = 0

    def give(self, fd: int | str, uid: int, gid: int, folder: int | None = None) -> None:
        """Make a file somebody's."""
        if self.first is None:
            return
        if not (0 <= uid < 65536 and 0 <= gid < 65536):
            raise ImageError(f"the image has a file of {uid}:{gid}; ids up to 65535 can be used")
        own, group = self.first + uid, self.first + gid
        if isinstance(fd, int):
            os.fchown(fd, own, group)
        else:
            os.chown(fd, own, group, dir_fd=folder, follow_symlinks=False)


@dataclass
class Root:
    """The root file system on its way, in a folder of this machine."""

    path: Path
    owners: Owners = Owners()
    limits: ImageLimits = field(default_factory=ImageLimits)
    skipped: list[str] = field(default_factory=list)
    """What cannot be made here: devices."""

    def apply(self, layer: IO[bytes]) -> None:
        """Lay a layer, a tar that is not compressed, over what is there. Raises ImageError, OSError."""
        root = os.open(self.path, _FOLDER_FLAGS)
        try:
            _Layer(self, root).apply(layer)
        except (tarfile.TarError, EOFError, UnicodeError) as error:
            raise ImageError(f"a layer cannot be read: {error}") from error
        finally:
            os.close(root)


class _Layer:
    def __init__(self, root: Root, fd: int) -> None:
        self._root = root
        self._fd = fd
        self._top = os.readlink(f"/proc/self/fd/{fd}")
        self._added: set[str] = set()
        """What this layer has brought, by its real path: no whiteout of the same layer takes it away."""
        self._times: list[tuple[str, float]] = []

    def apply(self, layer: IO[bytes]) -> None:
        with closing(tarfile.open(fileobj=layer, mode="r|", errorlevel=2)) as archive:
            for member in archive:
                self._root.limits.take(member.size if member.isreg() else 0)
                try:
                    self._entry(archive, member)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO):
                        raise
                    raise ImageError(f"{member.name!r} cannot be unpacked: {error.strerror}") from error
                archive.members = []  # type: ignore[attr-defined]  # else all of them stay in memory
        # A folder's time is set when all that changes it is there.
        for path, mtime in self._times:
            with suppress(OSError), self._folder(path, make=False) as fd:
                os.utime(fd, (mtime, mtime))

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parent, name = _split(member.name)
        if not name:
            if member.isdir():
                with self._folder("/", make=False) as fd:
                    self._describe(fd, member)
            return
        with self._folder(parent) as folder:
            where = f"{self._real(folder)}/{name}"
            if name == _OPAQUE:
                self._clear(folder, self._real(folder))
            elif name.startswith(_WHITEOUT + _WHITEOUT):
                return
            elif name.startswith(_WHITEOUT):
                gone = name.removeprefix(_WHITEOUT)
                if gone in ("", ".", ".."):
                    raise ImageError(f"{member.name!r} takes away no file")
                self._remove(folder, gone, f"{self._real(folder)}/{gone}")
            else:
                self._make(archive, member, folder, name, where)
                self._added.add(where)

    def _make(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str, where: str
    ) -> None:
        if member.isdir():
            self._make_folder(member, folder, name)
            self._times.append((where, member.mtime))
            return
        if member.ischr() or member.isblk():
            if not where.startswith("/dev/"):  # where every sandbox has its own
                self._root.skipped.append(where)
            return
        if member.islnk():
            self._link(member, folder, name, where)
            return
        _delete(folder, name)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
            self._root.owners.give(name, member.uid, member.gid, folder)
            os.utime(name, (member.mtime, member.mtime), dir_fd=folder, follow_symlinks=False)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=folder)
            fd = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
            self._describe_and_close(fd, member)
        elif member.isreg():
            self._make_file(archive, member, folder, name)
        else:
            raise ImageError(f"{member.name!r} is of a kind that no image has")

    def _make_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            content = archive.extractfile(member)
            while content and (piece := content.read(_PIECE)):
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
        except BaseException:
            os.close(fd)
            raise
        self._describe_and_close(fd, member)

    def _make_folder(self, member: tarfile.TarInfo, folder: int, name: str) -> None:
        try:
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            kind = 0
        if not stat.S_ISDIR(kind):
            if kind:
                os.unlink(name, dir_fd=folder)
            os.mkdir(name, 0o700, dir_fd=folder)
        self._describe_and_close(os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder), member)

    def _link(self, member: tarfile.TarInfo, folder: int, name: str, where: str) -> None:
        parent, target = _split(member.linkname)
        if not target:
            raise ImageError(f"{member.name!r} is a hard link to no file")
        with self._folder(parent, make=False) as other:
            if f"{self._real(other)}/{target}" == where:
                return
            kind = os.stat(target, dir_fd=other, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                raise ImageError(f"{member.name!r} is a hard link to a folder")
            _delete(folder, name)
            os.link(target, name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)

    def _describe_and_close(self, fd: int, member: tarfile.TarInfo) -> None:
        try:
            self._describe(fd, member)
        finally:
            os.close(fd)

    def _describe(self, fd: int, member: tarfile.TarInfo) -> None:
        """Give a file its owner, attributes, mode and time. To give it away clears setuid and capabilities."""
        self._root.owners.give(fd, member.uid, member.gid)
        for name, value in member.pax_headers.items():
            if name.startswith(_XATTR):
                self._attribute(fd, name.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))
        mode = member.mode & 0o7777
        if self._root.owners.first is None:
            # If all files are this process's own, they would be setuid for somebody else than the image means.
            mode = mode & 0o1777 | (0o700 if member.isdir() else 0o400)
        os.fchmod(fd, mode)
        os.utime(fd, (member.mtime, member.mtime))

    def _attribute(self, fd: int, name: str, value: bytes) -> None:
        if name.startswith(("user.overlay.", "trusted.")):
            return
        if name == _CAPABILITY:
            if self._root.owners.first is None:
                return
            value = capability_of(value, self._root.owners.first)
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
            self._root.skipped.append(
                f"{name} of {os.readlink(f'/proc/self/fd/{fd}').removeprefix(self._top)}"
            )

    @contextmanager
    def _folder(self, path: str, *, make: bool = True) -> Iterator[int]:
        """A folder of the root, its links followed inside of the root; made if it is missing."""
        fd = self._open(path)
        if fd is None:
            if not make:
                raise ImageError(f"there is no {path!r}, to which a link leads")
            above, name = posixpath.split(path)
            with self._folder(above) as folder, suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=folder)
                made = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    self._root.owners.give(made, 0, 0)
                    os.fchmod(made, 0o755)
                finally:
                    os.close(made)
            fd = self._open(path)
            if fd is None:
                raise ImageError(f"{path!r} leads nowhere")
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self, path: str) -> int | None:
        return open_inside(self._fd, path, _FOLDER_FLAGS)

    def _real(self, fd: int) -> str:
        """The path of an open folder in the root, without links on its way."""
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(self._top)

    def _remove(self, folder: int, name: str, where: str) -> None:
        """Take away what lower layers have under a name; what this layer has brought stays."""
        if not any(added == where or added.startswith(f"{where}/") for added in self._added):
            _delete(folder, name)
            return
        with suppress(OSError):
            fd = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
            try:
                self._clear(fd, where)
            finally:
                os.close(fd)

    def _clear(self, folder: int, where: str) -> None:
        for name in os.listdir(folder):
            self._remove(folder, name, f"{where}/{name}")


def open_inside(root: int, path: str, flags: int) -> int | None:
    """Open what is at a path inside of an open root, its links followed inside of it; None where there is nothing.

    Raises:
        ImageError: when it cannot be reached.
    """
    how = (ctypes.c_uint64 * 3)(flags, 0, _IN_ROOT | _NO_MAGIC_LINKS)
    name = os.fsencode(path.lstrip("/") or ".")
    fd: int = _libc.syscall(_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how))
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    if code == errno.ENOENT:
        return None
    if code == errno.ENOTDIR:
        raise ImageError(f"{path!r} is below a file that is no folder")
    if code == errno.ENOSYS:
        raise ImageError("images need Linux 5.6 or newer")
    raise ImageError(f"{path!r} cannot be reached in the image: {os.strerror(code)}")


def capability_of(value: bytes, root: int) -> bytes:
    """A file's capabilities for a user namespace whose root has an id of this machine, and for no other process.

    Raises:
        ImageError: when they are none.
    """
    version = int.from_bytes(value[:4], "little") & 0xFF000000
    if (version, len(value)) not in ((0x02000000, 20), (0x03000000, 24)):
        raise ImageError("a file has capabilities of an unknown form")
    flags = int.from_bytes(value[:4], "little") & 0x00FFFFFF
    return (0x03000000 | flags).to_bytes(4, "little") + value[4:20] + root.to_bytes(4, "little")


def _split(name: str) -> tuple[str, str]:
    """A path's folder and its last part; ("/", "") for the root."""
    if len(name) > _MAX_PATH or "\0" in name:
        raise ImageError("a layer has a path that no file can have")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageError(f"{name!r} leads out of the image")
    return f"/{'/'.join(parts[:-1])}", parts[-1] if parts else ""


def _delete(folder: int, name: str) -> None:
    """Remove whatever stands under a name, if anything does. No link is followed."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    fd = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    try:
        for inner in os.listdir(fd):
            _delete(fd, inner)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=folder)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a root file system: folders are made anew, files are the same ones under a second name."""
    for folder, _, _ in os.walk(source, topdown=True):
        made = target / os.path.relpath(folder, source)
        made.mkdir(mode=0o700, exist_ok=True)
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                continue
            os.link(entry.path, made / entry.name, follow_symlinks=False)
    for folder, _, _ in os.walk(source, topdown=False):
        _describe_as(Path(folder), target / os.path.relpath(folder, source))


def _describe_as(source: Path, target: Path) -> None:
    known = source.stat()
    if (known.st_uid, known.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(target, known.st_uid, known.st_gid)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.chmod(target, stat.S_IMODE(known.st_mode))
    os.utime(target, ns=(known.st_atime_ns, known.st_mtime_ns))
