"""Where built templates are kept, for this server and those that come after it.

```
<root>/
  lock
  archives/<hash>         what COPY steps take, as uploaded
  making-*                what is not whole yet
  layers/<key>/           what the steps up to one of them left: layer.json, and the files of the places
  records/<id>.json       one template: its names, its tags, and its builds
```
A layer's key is the hash of all that it depends on, so it never changes once it is there. Several servers may
use one store: whoever reads files holds the lock shared, whoever removes any holds it exclusive.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO

from harness.local.boxes.file_tree import remove_tree
from harness.local.template import PLACES, StartCommand, Template

_UNFINISHED_PREFIX = "making-"
_ARCHIVE_KEPT_S = 3600.0
"""For this long an archive waits for the build that it was uploaded for, and a file for its next piece."""


@dataclass(frozen=True)
class Layer:
    """What the steps up to one of them left behind."""

    key: str
    files: str | None = None
    """The key of the layer that holds the files: its own, or that of an earlier one with the same files."""
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "user"
    workdir: str = "/home/user"
    places: Mapping[str, str] = field(default_factory=lambda: dict(PLACES))
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """One finished build of a template."""

    id: str
    root: str
    """The built-in template at the bottom."""
    layer: Layer
    start: StartCommand | None
    layers: tuple[str, ...]
    """The keys of all layers that it stands on."""
    archives: tuple[str, ...]
    created_at: datetime
    finished_at: datetime


@dataclass(frozen=True)
class TemplateRecord:
    """A template under its name, with all that has been built of it."""

    id: str
    name: str
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    """tag -> build id"""
    tagged_at: Mapping[str, datetime] = field(default_factory=dict)
    builds: Mapping[str, Build] = field(default_factory=dict)

    def with_tags(self, build_id: str, tags: tuple[str, ...]) -> TemplateRecord:
        """The same with these tags on a build, taken from others where they were there."""
        now = datetime.now(UTC)
        return replace(
            self,
            tags={**self.tags, **dict.fromkeys(tags, build_id)},
            tagged_at={**self.tagged_at, **dict.fromkeys(tags, now)},
        )

    def without_tags(self, tags: tuple[str, ...]) -> TemplateRecord:
        """The same without these tags."""
        left = {tag: build for tag, build in self.tags.items() if tag not in tags}
        return replace(self, tags=left, tagged_at={tag: self.tagged_at[tag] for tag in left})

    def with_build(self, build: Build) -> TemplateRecord:
        """The same with one more build."""
        return replace(self, builds={**self.builds, build.id: build})


class TemplateStore:
    """All that has been built on this machine by one user. Methods raise OSError when the disk fails."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for name in ("archives", "layers", "records"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        try:
            with self.lock(exclusive=True, wait=False):
                for path in self._root.glob(f"{_UNFINISHED_PREFIX}*"):
                    if path.is_dir():
                        remove_tree(path)
                    elif not _is_recent(
                        path
                    ):  # others fill files without the lock, however slow their client is
                        path.unlink(missing_ok=True)
        except BlockingIOError:
            return  # another server is building: what is unfinished may be its own

    # --- templates

    def list_records(self) -> list[TemplateRecord]:
        """Every template, the newest first."""
        found = [_decode(path.read_text()) for path in (self._root / "records").glob("*.json")]
        return sorted(found, key=lambda record: record.created_at, reverse=True)

    def find_record(self, name: str) -> TemplateRecord | None:
        """The template of this name or id."""
        return next((record for record in self.list_records() if name in (record.id, record.name)), None)

    def save_record(self, record: TemplateRecord) -> None:
        """Keep a template, in place of what was kept of it; builds that no tag leads to are forgotten."""
        used = {key: one for key, one in record.builds.items() if key in record.tags.values()}
        record = replace(record, builds=used)
        path = self._root / "records" / f"{record.id}.json"
        with tempfile.NamedTemporaryFile(
            "w", dir=self._root, prefix=_UNFINISHED_PREFIX, delete=False
        ) as file:
            file.write(json.dumps(asdict(record), default=datetime.isoformat))
        os.replace(file.name, path)

    def remove_record(self, record: TemplateRecord) -> None:
        """Forget a template, and remove the layers and archives that no other one stands on."""
        with self.lock(exclusive=True):
            (self._root / "records" / f"{record.id}.json").unlink(missing_ok=True)
            kept = [build for other in self.list_records() for build in other.builds.values()]
            gone = {name for build in record.builds.values() for name in build.archives}
            for layer in (self._root / "layers").iterdir():
                if layer.name not in {name for build in kept for name in build.layers}:
                    remove_tree(layer)
            for archive in (self._root / "archives").iterdir():
                awaited = archive.name not in gone and _is_recent(archive)
                if not awaited and archive.name not in {name for build in kept for name in build.archives}:
                    archive.unlink()

    def make_template(self, record: TemplateRecord, build: Build, root: Template) -> Template:
        """What sandboxes can be made from, given the built-in template at the bottom."""
        named = replace(root, name=record.name, id=record.id, build_id=build.id, aliases=())
        return replace(self.apply_layer(named, build.layer), start=build.start)

    def apply_layer(self, template: Template, layer: Layer) -> Template:
        """A template with what steps did to it."""
        return replace(
            template,
            env=MappingProxyType({**template.env, **layer.env}),
            places=MappingProxyType(dict(layer.places)),
            links=MappingProxyType(dict(layer.links)),
            files=None if layer.files is None else self._root / "layers" / layer.files,
            user=layer.user,
            workdir=layer.workdir,
        )

    # --- layers and archives

    @contextlib.contextmanager
    def lock(self, *, exclusive: bool = False, wait: bool = True) -> Iterator[None]:
        """While this lasts no file is removed by others; `exclusive`, none is read either. Raises BlockingIOError
        rather than `wait`."""
        fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(fd)

    def find_layer(self, key: str) -> Layer | None:
        """What was kept under this key."""
        try:
            data = json.loads((self._root / "layers" / key / "layer.json").read_text())
        except FileNotFoundError:
            return None
        return Layer(**data)

    def make_layer_folder(self) -> Path:
        """A folder to be filled with the files of a layer, and then kept."""
        return Path(tempfile.mkdtemp(dir=self._root, prefix=_UNFINISHED_PREFIX))

    def add_layer(self, layer: Layer, filled: Path) -> Layer:
        """Keep a layer, with the files in this folder; among several that keep the same one the first wins."""
        (filled / "layer.json").write_text(json.dumps(asdict(layer)))
        try:
            filled.rename(self._root / "layers" / layer.key)
        except OSError:
            kept = self.find_layer(layer.key)
            remove_tree(filled)
            if kept is None:
                raise
            return kept
        return layer

    def archive_path(self, files_hash: str) -> Path:
        """Where an uploaded archive is, or is to be."""
        return self._root / "archives" / files_hash

    def has_archive(self, files_hash: str) -> bool:
        """Whether the archive is there; it stays for the build that asks for it now."""
        try:
            os.utime(self.archive_path(files_hash))
        except FileNotFoundError:
            return False
        return True

    @contextlib.contextmanager
    def write_archive(self, files_hash: str) -> Iterator[IO[bytes]]:
        """A file to be filled, which is the archive when this closes without an error."""
        file = tempfile.NamedTemporaryFile(dir=self._root, prefix=_UNFINISHED_PREFIX, delete=False)  # noqa: SIM115
        try:
            with file:
                yield file
            os.replace(file.name, self.archive_path(files_hash))
        except BaseException:
            os.unlink(file.name)
            raise


def _is_recent(path: Path) -> bool:
    return time.time() - path.stat().st_mtime < _ARCHIVE_KEPT_S


def _decode(text: str) -> TemplateRecord:
    data = json.loads(text)
    builds = {key: _decode_build(build) for key, build in data["builds"].items()}
    tagged_at = {tag: datetime.fromisoformat(moment) for tag, moment in data["tagged_at"].items()}
    created_at = datetime.fromisoformat(data["created_at"])
    return TemplateRecord(data["id"], data["name"], created_at, data["tags"], tagged_at, builds)


def _decode_build(data: dict[str, object]) -> Build:
    fields: dict[str, object] = {
        **data,
        "layer": Layer(**data["layer"]),  # type: ignore[arg-type]  # as asdict wrote it
        "start": StartCommand(**data["start"]) if data["start"] else None,  # type: ignore[arg-type]  # likewise
        "layers": tuple(data["layers"]),  # type: ignore[arg-type]  # likewise
        "archives": tuple(data["archives"]),  # type: ignore[arg-type]  # likewise
        "created_at": datetime.fromisoformat(str(data["created_at"])),
        "finished_at": datetime.fromisoformat(str(data["finished_at"])),
    }
    return Build(**fields)  # type: ignore[arg-type]  # likewise
