"""An image's manifest: its layers, and how its containers start."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.local.images.errors import ImageError

MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_LAYERS = 512
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True)
class Descriptor:
    """A blob: its digest and its size (None: not told)."""

    digest: str
    size: int | None = None


@dataclass(frozen=True)
class ImageConfig:
    """The way in which containers of an image start, and its layers' digests, unpacked."""

    diff_ids: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    command: tuple[str, ...] = ()
    """Its entry point with its arguments."""
    has_entrypoint: bool = False
    """True if that is more than the command which a shell is replaced by."""


@dataclass(frozen=True)
class ImageManifest:
    """An image's configuration and layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def this_architecture() -> str:
    """This machine's, as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def read_json(data: bytes, what: str) -> Mapping[str, Any]:
    """Parse a JSON object. Raises ImageError."""
    if len(data) > MAX_JSON_BYTES:
        raise ImageError(f"{what} has more than {MAX_JSON_BYTES // 2**20} MiB")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImageError(f"{what} is no JSON object")
    return value


def check_digest(data: bytes, digest: str, what: str) -> None:
    """Raise ImageError unless data has this digest."""
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ImageError(f"{what} is not what its digest {digest} says")


def descriptor(value: object, what: str) -> Descriptor:
    """Read a descriptor. Raises ImageError."""
    fields = value if isinstance(value, dict) else {}
    digest, size = fields.get("digest"), fields.get("size")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise ImageError(f"{what} has no sha256 digest, but {digest!r}")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ImageError(f"{what} has a size of {size!r}")
    return Descriptor(digest, size)


def is_index(value: Mapping[str, Any]) -> bool:
    """True for a list of manifests."""
    return value.get("mediaType") in INDEXES or "manifests" in value


def choose(index: Mapping[str, Any], what: str) -> Descriptor:
    """The manifest of an index that is for this machine. Raises ImageError."""
    found, others = [], []
    for entry in index.get("manifests") or []:
        of = entry.get("platform") if isinstance(entry, dict) else None
        of = of if isinstance(of, dict) else {}
        name = f"{of.get('os', 'linux')}/{of.get('architecture', this_architecture())}"
        if name == f"linux/{this_architecture()}":
            found.append(entry)
        else:
            others.append(name)
    if not found:
        has = ", ".join(sorted(set(others))) or "nothing"
        raise ImageError(f"{what} has no image for linux/{this_architecture()}, only for {has}")
    return descriptor(found[0], what)


def manifest_of(value: Mapping[str, Any], what: str) -> ImageManifest:
    """Read a manifest. Raises ImageError."""
    if value.get("schemaVersion") == 1 or "fsLayers" in value:
        raise ImageError(f"{what} has a manifest of version 1, which Docker gave up: push it again")
    layers = value.get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise ImageError(f"{what} has no list of up to {MAX_LAYERS} layers")
    config = descriptor(value.get("config"), f"the configuration of {what}")
    return ImageManifest(config, tuple(descriptor(layer, f"a layer of {what}") for layer in layers))


def config_of(value: Mapping[str, Any], what: str) -> ImageConfig:
    """Read a configuration. Raises ImageError."""
    rootfs = value.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(
        isinstance(one, str) and _DIGEST.match(one) for one in diff_ids
    ):
        raise ImageError(f"{what} does not name its layers (rootfs.diff_ids)")
    architecture = value.get("architecture") or this_architecture()
    if value.get("os", "linux") != "linux" or architecture != this_architecture():
        of = f"{value.get('os', 'linux')}/{architecture}"
        raise ImageError(f"{what} is for {of}, and this machine is linux/{this_architecture()}")
    inner = value.get("config")
    inner = inner if isinstance(inner, dict) else {}
    pairs = (str(one).partition("=") for one in inner.get("Env") or [])
    return ImageConfig(
        tuple(diff_ids),
        {name: text for name, equals, text in pairs if name and equals},
        str(inner.get("WorkingDir") or "/"),
        str(inner.get("User") or ""),
        (*_words(inner.get("Entrypoint")), *_words(inner.get("Cmd"))),
        bool(_words(inner.get("Entrypoint"))),
    )


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
