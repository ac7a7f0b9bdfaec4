"""The sources of images, and their blobs on this machine, each kept under its digest."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from harness.local.images.errors import ImageError
from harness.local.images.manifest import ImageConfig, ImageManifest

PIECE = 1024 * 1024


class ImageSource(Protocol):
    """An image somewhere."""

    def manifest(self) -> tuple[ImageManifest, ImageConfig]:
        """Return the image's manifest. Raises ImageError."""

    def open_layer(self, number: int) -> IO[bytes]:
        """A layer as it is stored, lowest first. Raises ImageError."""


def store_blob(folder: Path, digest: str, open_blob: Callable[[], IO[bytes]], limit: int) -> Path:
    """A blob as a file, fetched unless it is there, and held to its digest. Raises ImageError, OSError."""
    path = folder / digest.replace(":", "-")
    if path.is_file():
        return path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    hasher, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix="making-", delete=False) as file:
        try:
            with open_blob() as blob:
                while piece := blob.read(PIECE):
                    size += len(piece)
                    if size > limit:
                        raise ImageError(f"{digest} has more than {limit} bytes")
                    hasher.update(piece)
                    file.write(piece)
            if f"sha256:{hasher.hexdigest()}" != digest:
                raise ImageError(f"{digest} came as other bytes than its digest says, or not whole")
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)
    return path
