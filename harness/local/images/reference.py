"""The name of an image, as FROM has it: in a registry, in a folder, or in an archive."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.local.images.errors import ImageError

_HUB = "docker.io"
_NAME = re.compile(r"^[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*$")
_TAG = re.compile(r"^\w[\w.-]{0,127}$", re.ASCII)
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_SCHEMES = ("oci:", "oci-layout://", "oci-archive:", "docker-archive:")


@dataclass(frozen=True)
class RegistryImage:
    """An image of a registry: `reference` is a tag or a digest."""

    registry: str
    name: str
    reference: str

    def __str__(self) -> str:
        mark = "@" if ":" in self.reference else ":"
        return f"{self.registry}/{self.name}{mark}{self.reference}"


@dataclass(frozen=True)
class LocalImage:
    """An OCI layout folder, or an archive of one or of `docker save`; `tag` says which of its images."""

    path: Path
    tag: str | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.tag}" if self.tag else str(self.path)


def parse_reference(text: str) -> RegistryImage | LocalImage:
    """Read a name. Raises ImageError."""
    scheme = next((one for one in _SCHEMES if text.startswith(one)), "")
    if scheme or text.startswith("/"):
        return _local(text.removeprefix(scheme), text)
    if text.startswith(("./", "../", "~")):
        raise ImageError(f"{text}: the server does not know this folder: give the image's absolute path")
    return _registry(text)


def _local(rest: str, text: str) -> LocalImage:
    if not rest.startswith("/"):
        raise ImageError(f"{text}: give the image's absolute path, such as oci:/images/app")
    if os.path.lexists(rest):
        return LocalImage(Path(rest))
    parts = rest.split(":")
    for length in range(len(parts) - 1, 0, -1):
        path = ":".join(parts[:length])
        if os.path.lexists(path):
            return LocalImage(Path(path), ":".join(parts[length:]))
    raise ImageError(f"{text}: there is nothing at {rest}")


def _registry(text: str) -> RegistryImage:
    rest, at, digest = text.partition("@")
    first, slash, others = rest.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, others) if is_host else (_HUB, rest)
    name, colon, tag = path.partition(":")
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = _HUB
    if registry == _HUB and "/" not in name:
        name = f"library/{name}"
    if not _NAME.match(name) or (colon and not _TAG.match(tag)) or (at and not _DIGEST.match(digest)):
        raise ImageError(f"{text!r} is no name of an image, such as registry.example/team/app:1.2")
    return RegistryImage(registry, name, digest or tag or "latest")
