"""Images in files: OCI layout folders, archives of them or of `docker save`, and tars of a root file system."""

from __future__ import annotations

import functools
import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol, cast

from harness.local.images.errors import ImageError
from harness.local.images.manifest import (
    MAX_JSON_BYTES,
    Descriptor,
    ImageConfig,
    ImageManifest,
    check_digest,
    choose,
    config_of,
    descriptor,
    is_index,
    manifest_of,
    read_json,
)
from harness.local.images.reference import LocalImage

_TAG = "org.opencontainers.image.ref.name"
_NAME = "io.containerd.image.name"
_WHOLE = "."
"""In place of a layer's name: the archive itself is the layer."""


class _Files(Protocol):
    """Files by their names, in a folder or an archive."""

    def has(self, name: str) -> bool:
        """True if there is a file of this name."""

    def open(self, name: str) -> IO[bytes]:
        """A file's content. Raises ImageError."""


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self._root / name).open("rb")
        except OSError as error:
            raise ImageError(f"{self._root}: {name} cannot be read: {error.strerror}") from error


class _Archive:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115  (kept open for as long as its layers are read)
            self._members = {member.name.removeprefix("./"): member for member in self._tar}
        except (OSError, EOFError, tarfile.TarError) as error:
            raise ImageError(f"{path} is no archive of an image: {error}") from error

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        try:
            if name == _WHOLE:
                return self._open_whole()
            file = self._tar.extractfile(member) if member else None
        except (KeyError, tarfile.TarError) as error:
            raise ImageError(f"{self._path}: {name} cannot be read: {error}") from error
        if file is None:
            raise ImageError(f"{self._path} has no {name}")
        return file

    def _open_whole(self) -> IO[bytes]:
        """The archive itself, decompressed."""
        file = cast(IO[bytes], tarfile.open(self._path).fileobj)  # noqa: SIM115  (the caller closes it)
        file.seek(0)
        return file


class FileImage:
    """An image in a folder or an archive."""

    def __init__(self, image: LocalImage) -> None:
        self._image = image
        self._files: _Files = _Folder(image.path) if image.path.is_dir() else _Archive(image.path)

    def manifest(self) -> tuple[ImageManifest, ImageConfig]:
        """Return the image's manifest. Raises ImageError."""
        found, config, _ = self._read
        return found, config

    def open_layer(self, number: int) -> IO[bytes]:
        """A layer as it is stored. Raises ImageError."""
        return self._files.open(self._read[2][number])

    @functools.cached_property
    def _read(self) -> tuple[ImageManifest, ImageConfig, list[str]]:
        """The manifest, the configuration, and the files of the layers."""
        if self._files.has("index.json"):
            return self._of_layout()
        if self._files.has("manifest.json"):
            return self._of_docker()
        if self._files.has("usr"):
            return self._of_root()
        raise ImageError(
            f"{self._image.path} is no image: it has neither index.json nor manifest.json, and no folder usr, "
            "which the tar of a root file system has"
        )

    def _of_root(self) -> tuple[ImageManifest, ImageConfig, list[str]]:
        """The tar of a root file system is an image of one layer, and says nothing of how its containers start."""
        if self._image.tag:
            raise ImageError(f"{self._image.path} is a root file system, and has no image {self._image.tag}")
        with self._files.open(_WHOLE) as file:
            digest = f"sha256:{hashlib.file_digest(cast(Any, file), 'sha256').hexdigest()}"
        return ImageManifest(Descriptor(digest), (Descriptor(digest),)), ImageConfig((digest,)), [_WHOLE]

    def _of_layout(self) -> tuple[ImageManifest, ImageConfig, list[str]]:
        what = str(self._image)
        index = self._json("index.json")
        entry = self._entry(index)
        value = self._blob(descriptor(entry, what))
        for _ in range(4):
            if not is_index(value):
                break
            value = self._blob(choose(value, what))
        found = manifest_of(value, what)
        config = config_of(self._blob(found.config), what)
        return found, config, [_blob_name(layer.digest) for layer in found.layers]

    def _entry(self, index: Mapping[str, Any]) -> object:
        entries = [one for one in index.get("manifests") or [] if isinstance(one, dict)]
        tag, tags = self._image.tag, list[str]()
        for entry in entries:
            notes = entry.get("annotations")
            notes = notes if isinstance(notes, dict) else {}
            names = [str(notes[key]) for key in (_TAG, _NAME) if key in notes]
            if tag and any(name == tag or name.endswith(f":{tag}") for name in names):
                return entry
            tags += names
        if tag or not entries:
            raise ImageError(
                f"{self._image.path} has no image {tag or ''}; it has {', '.join(tags) or 'none'}"
            )
        if len(entries) == 1:
            return entries[0]
        if len(set(tags)) > 1:
            raise ImageError(f"{self._image.path} has several images: say which, as PATH:{tags[0]}")
        return {"digest": choose(index, str(self._image)).digest}

    def _of_docker(self) -> tuple[ImageManifest, ImageConfig, list[str]]:
        what = str(self._image)
        with self._files.open("manifest.json") as file:
            images = read_json(b'{"images":' + file.read(MAX_JSON_BYTES) + b"}", "manifest.json")["images"]
        images = [one for one in images if isinstance(one, dict)] if isinstance(images, list) else []
        tags = [str(tag) for one in images for tag in one.get("RepoTags") or []]
        wanted = self._image.tag
        fits = [
            one
            for one in images
            if wanted is None
            or any(tag == wanted or tag.endswith(f":{wanted}") for tag in map(str, one.get("RepoTags") or []))
        ]
        if len(fits) != 1:
            raise ImageError(
                f"{self._image.path}: say which image it is, as PATH:TAG; it has {', '.join(tags)}"
            )
        names = fits[0].get("Layers")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ImageError(f"{what}: manifest.json does not name its layers")
        config = config_of(self._json(str(fits[0].get("Config"))), what)
        if len(config.diff_ids) != len(names):
            raise ImageError(f"{what} has {len(names)} layers, and its configuration {len(config.diff_ids)}")
        layers = tuple(Descriptor(diff_id) for diff_id in config.diff_ids)
        return ImageManifest(Descriptor("sha256:" + "0" * 64), layers), config, names

    def _json(self, name: str) -> Mapping[str, Any]:
        with self._files.open(name) as file:
            return read_json(file.read(MAX_JSON_BYTES + 1), f"{self._image.path}: {name}")

    def _blob(self, one: Descriptor) -> Mapping[str, Any]:
        with self._files.open(_blob_name(one.digest)) as file:
            data = file.read(MAX_JSON_BYTES + 1)
        check_digest(data, one.digest, f"{self._image.path}: a blob")
        return read_json(data, f"{self._image.path}: {one.digest}")


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
