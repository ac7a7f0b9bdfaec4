"""Images for tests: layers made of entries, an OCI layout of them, and a registry on loopback that serves one."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from harness.local.images.manifest import this_architecture
from tests.support.in_thread import InThread

CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """An entry of a layer."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.DIRTYPE, **fields)


def link(name: str, target: str, *, hard: bool = False) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target)


def layer(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A layer, not compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Image:
    """An image's blobs by digest, and its manifest's."""

    blobs: dict[str, bytes]
    manifest: bytes

    @classmethod
    def of(
        cls, layers: list[bytes], config: Mapping[str, Any] | None = None, architecture: str | None = None
    ) -> Image:
        packed = [gzip.compress(one, mtime=0) for one in layers]
        about = json.dumps(
            {
                "architecture": architecture or this_architecture(),
                "os": "linux",
                "config": dict(config or {}),
                "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": digest(about), "size": len(about)},
                "layers": [{"mediaType": LAYER, "digest": digest(one), "size": len(one)} for one in packed],
            }
        ).encode()
        blobs = {digest(one): one for one in (*packed, about, manifest)}
        return cls(blobs, manifest)

    def write_layout(self, path: Path, tag: str = "latest") -> Path:
        """Write it as an OCI layout folder."""
        blobs = path / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for name, data in self.blobs.items():
            (blobs / name.removeprefix("sha256:")).write_bytes(data)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        notes = {"org.opencontainers.image.ref.name": tag}
        about = {"mediaType": MANIFEST, "digest": digest(self.manifest), "size": len(self.manifest)}
        (path / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": [{**about, "annotations": notes}]})
        )
        return path


def index_of(images: Mapping[str, Image]) -> bytes:
    """An index of images by architecture."""
    manifests = [
        {
            "mediaType": MANIFEST,
            "digest": digest(image.manifest),
            "size": len(image.manifest),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, image in images.items()
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()


class Registry(InThread):
    """A registry that wants a token, which it gives for a user's name and password.

    `asked` has each request's path, and what it was asked with.
    """

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.login = login
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(_handler(self))

    @property
    def host(self) -> str:
        return self.origin.removeprefix("http://")

    def add(self, tag: str, *images: Image, index: bytes | None = None) -> None:
        """Push images, the first (or an index) under a tag."""
        for image in images:
            self.blobs |= image.blobs
        self.tags[tag] = index or images[0].manifest


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append((self.path, self.headers.get("Authorization")))
            self._send(*self._answer(urlsplit(self.path).path))

        def _answer(self, path: str) -> tuple[int, bytes]:
            if path == "/token":
                query = parse_qs(urlsplit(self.path).query)
                user, password = registry.login or ("", "")
                wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
                if self.headers.get("Authorization") != wanted or "scope" not in query:
                    return 401, b"{}"
                return 200, b'{"token": "secret-token"}'
            if registry.login and self.headers.get("Authorization") != "Bearer secret-token":
                return 401, b"{}"
            last = path.rpartition("/")[2]
            data = registry.tags.get(last) or registry.blobs.get(last)
            return (200, data) if data else (404, b"{}")

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            if status == 401:
                realm = f"http://{self.headers['Host']}/token"
                self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="test"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
