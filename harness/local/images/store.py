"""Images on this machine: each chain of layers is unpacked once, and known by its digest.

```
<root>/
  blobs/sha256-<digest>    layers as they came, until their image is unpacked
  chains/<digest>/         a root file system: the layers up to one
  used/<digest>            its size and its last use (see PartUses)
  making-*                 unfinished ones
```
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from harness.local.boxes.file_tree import measure_tree
from harness.local.images.blobs import ImageSource, store_blob
from harness.local.images.errors import ImageError
from harness.local.images.files import FileImage
from harness.local.images.manifest import ImageConfig
from harness.local.images.reference import LocalImage, parse_reference
from harness.local.images.registry import Credentials, RegistryClient
from harness.local.images.unpack import ImageLimits, Owners, Root, copy_tree
from harness.local.kept import PartUses

_FORMAT = 2
"""Raised when layers are unpacked in another way."""
_KEPT_BYTES = 5_000_000
"""A layer that is at least so large as it came is kept by itself, with those below it, for other images."""


@dataclass(frozen=True)
class UnpackedImage:
    """An image that sandboxes can have as their root. `notes` say what of it cannot be had here."""

    root: Path
    id: str
    config: ImageConfig
    notes: tuple[str, ...] = ()


def open_image(text: str, credentials: Credentials | None = None) -> ImageSource:
    """The image of a name. Raises ImageError."""
    image = parse_reference(text)
    return FileImage(image) if isinstance(image, LocalImage) else RegistryClient(image, credentials)


class ImageStore:
    """Unpacked images in a folder, which only this user may enter: files in it may be setuid."""

    def __init__(self, root: Path, owners: Owners, limits: Callable[[], ImageLimits] = ImageLimits) -> None:
        self._root = root
        self._owners = owners
        self._limits = limits
        for name in ("blobs", "chains"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._uses = PartUses(root / "used")
        root.chmod(0o700)

    def get(self, source: ImageSource, say: Callable[[str], None] = lambda line: None) -> UnpackedImage:
        """An image's root, fetched and unpacked if need be. Raises ImageError, OSError."""
        manifest, config = source.manifest()
        chain = self._chain(config.diff_ids)
        with self._lock():
            notes = self._unpack(source, manifest.layers, config, chain, say)
            self._uses.mark(chain)
        root = self._folder(chain[-1]) if chain else self._empty()
        return UnpackedImage(root, chain[-1] if chain else "empty", config, notes)

    def find(self, name: str) -> Path | None:
        """The root of a chain of layers that is there."""
        folder = self._folder(name)
        return folder if folder.is_dir() else None

    def _empty(self) -> Path:
        folder = self._folder("empty")
        folder.mkdir(mode=0o755, exist_ok=True)
        return folder

    def _chain(self, diff_ids: Sequence[str]) -> list[str]:
        """The names of the chains of layers up to each."""
        names, above = [], f"{_FORMAT} {self._owners.first}"
        for diff_id in diff_ids:
            above = hashlib.sha256(f"{above} {diff_id}".encode()).hexdigest()
            names.append(above)
        return names

    def _folder(self, name: str) -> Path:
        return self._root / "chains" / name

    def _unpack(
        self, source: ImageSource, layers: Sequence[Any], config: ImageConfig, chain: Sequence[str],
        say: Callable[[str], None],
    ) -> tuple[str, ...]:  # fmt: skip
        known = next((n for n in range(len(chain), 0, -1) if self._folder(chain[n - 1]).is_dir()), 0)
        if known == len(chain):
            return ()
        making = Path(tempfile.mkdtemp(prefix="making-", dir=self._root))
        try:
            os.chmod(making, 0o755)
            if self._owners.first is not None:
                os.chown(making, self._owners.first, self._owners.first)
            if known:
                copy_tree(self._folder(chain[known - 1]), making)
            shared = measure_tree(making)
            root = Root(making, self._owners, self._limits())
            for number in range(known, len(chain)):
                say(f"layer {number + 1} of {len(chain)}")
                size = self._apply(source, number, layers[number].digest, config.diff_ids[number], root)
                if number + 1 < len(chain) and size >= _KEPT_BYTES:
                    copy = Path(tempfile.mkdtemp(prefix="making-", dir=self._root))
                    copy_tree(making, copy)
                    shared = self._keep(copy, chain[number], shared)
            self._keep(making, chain[-1], shared)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        count = len(root.skipped)
        return (
            (f"{count} devices or attributes of the image are not there: {', '.join(root.skipped[:5])}",)
            if count
            else ()
        )

    def _keep(self, made: Path, name: str, shared: int) -> int:
        """Keep a chain, which has so many bytes of one before it. Returns its own number of bytes."""
        total = measure_tree(made)
        self._uses.add(name, max(0, total - shared))
        os.rename(made, self._folder(name))
        return total

    def _apply(self, source: ImageSource, number: int, digest: str, diff_id: str, root: Root) -> int:
        """Lay a layer over the root, and hold it to its digest. Returns its size as it came."""
        blob = store_blob(self._root / "blobs", digest, lambda: source.open_layer(number), root.limits.bytes)
        size = blob.stat().st_size
        try:
            with blob.open("rb") as file:
                plain = _Hashed(_decompressed(file), root.limits.bytes)
                root.apply(cast(IO[bytes], plain))
                plain.finish(diff_id)
        except (OSError, EOFError, zlib.error) as error:
            if (
                isinstance(error, OSError)
                and error.errno is not None
                and not isinstance(error, gzip.BadGzipFile)
            ):
                raise
            raise ImageError(f"a layer cannot be read: {error}") from error
        blob.unlink(missing_ok=True)
        return size

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class _Hashed(io.RawIOBase):
    """A stream that is hashed as it is read, and bounded."""

    def __init__(self, inner: IO[bytes], limit: int) -> None:
        self._inner = inner
        self._hash = hashlib.sha256()
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._inner.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise ImageError("a layer has more bytes than this machine unpacks")
        self._hash.update(piece)
        return piece

    def finish(self, digest: str) -> None:
        """Read the rest, and raise ImageError unless all of it has this digest."""
        while self.read(1024 * 1024):
            pass
        if f"sha256:{self._hash.hexdigest()}" != digest:
            raise ImageError(f"a layer is not what the image's configuration says it is: {digest}")


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(file))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(file)
    if start.startswith((b"BZh", b"\xfd7zXZ")):
        raise ImageError("a layer is compressed in a way that no registry takes: use gzip or zstd")
    return file


def _zstd(file: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError as error:
        remedy = "pip install zstandard"
        raise ImageError(
            f"a layer is compressed with zstd, which this Python cannot read: {remedy}"
        ) from error
    return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
