"""The store of built templates, for this server and later ones.

```
<root>/
  lock
  archives/<hash>         the uploaded archives of COPY steps
  making-*                unfinished files
  layers/<key>/           the result of the steps up to one: layer.json, and the files as Box.copy_state makes them
  used/<key>              a layer's size and its last use (see PartUses)
  records/<id>.json       one template: its names, its tags, and its builds
```
A layer's key is the hash of all that it depends on, so a layer never changes. Layers share the files in which they are
equal (equal_files.py). Several servers may use one store: they hold the lock shared to read files, and exclusively to
remove files.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO

from harness.local.boxes.file_tree import measure_tree, remove_tree
from harness.local.kept import KeptPart, PartUses
from harness.local.limits import BoxLimits
from harness.local.template import StartCommand, Template

_libc = ctypes.CDLL(None, use_errno=True)
_UNFINISHED_PREFIX = "making-"
_ARCHIVE_KEPT_S = 3600.0
"""An archive waits so long for its build, and an unfinished file for its next piece, before it may be removed."""


@dataclass(frozen=True)
class Layer:
    """The result of the steps up to one of them."""

    key: str
    files: str | None = None
    """The key of the layer that holds the files: its own, or an earlier one with the same files."""
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "user"
    workdir: str = "/home/user"


@dataclass(frozen=True)
class Build:
    """One finished build of a template."""

    id: str
    root: str
    """The name of the built-in template at the bottom."""
    layer: Layer
    start: StartCommand | None
    layers: tuple[str, ...]
    """The keys of all layers from the base on."""
    archives: tuple[str, ...]
    created_at: datetime
    finished_at: datetime
    cpus: float | None = None
    memory_mb: int | None = None


@dataclass(frozen=True)
class TemplateRecord:
    """A template with its name, its tags and its builds."""

    id: str
    name: str
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    """Build ids by tag."""
    tagged_at: Mapping[str, datetime] = field(default_factory=dict)
    builds: Mapping[str, Build] = field(default_factory=dict)

    def with_tags(self, build_id: str, tags: tuple[str, ...]) -> TemplateRecord:
        """Return the record with these tags on this build, removed from other builds."""
        now = datetime.now(UTC)
        return replace(
            self,
            tags={**self.tags, **dict.fromkeys(tags, build_id)},
            tagged_at={**self.tagged_at, **dict.fromkeys(tags, now)},
        )

    def without_tags(self, tags: tuple[str, ...]) -> TemplateRecord:
        """Return the record without these tags."""
        left = {tag: build for tag, build in self.tags.items() if tag not in tags}
        return replace(self, tags=left, tagged_at={tag: self.tagged_at[tag] for tag in left})

    def with_build(self, build: Build) -> TemplateRecord:
        """Return the record with one more build."""
        return replace(self, builds={**self.builds, build.id: build})


class TemplateStore:
    """All templates that one user has built on this machine. Methods raise OSError if the disk fails."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for name in ("archives", "layers", "records"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._uses = PartUses(root / "used")
        root.chmod(0o700)
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        try:
            with self.lock(exclusive=True, wait=False):
                for path in self._root.glob(f"{_UNFINISHED_PREFIX}*"):
                    if path.is_dir():
                        remove_tree(path)
                    elif not _is_recent(path):  # other servers write uploads without the lock
                        path.unlink(missing_ok=True)
        except BlockingIOError:
            return  # another server is building, and may own the unfinished files

    # --- templates

    def list_records(self) -> list[TemplateRecord]:
        """Return all records, the newest first."""
        found = [_decode(path.read_text()) for path in (self._root / "records").glob("*.json")]
        return sorted(found, key=lambda record: record.created_at, reverse=True)

    def find_record(self, name: str) -> TemplateRecord | None:
        """Return the record of the template with this name or id."""
        return next((record for record in self.list_records() if name in (record.id, record.name)), None)

    def save_record(self, record: TemplateRecord) -> None:
        """Save a record in place of the earlier one."""
        path = self._root / "records" / f"{record.id}.json"
        with tempfile.NamedTemporaryFile(
            "w", dir=self._root, prefix=_UNFINISHED_PREFIX, delete=False
        ) as file:
            file.write(json.dumps(asdict(record), default=datetime.isoformat))
        os.replace(file.name, path)

    def remove_record(self, record: TemplateRecord) -> None:
        """Remove a record, and the layers and archives that no other template uses."""
        with self.lock(exclusive=True):
            (self._root / "records" / f"{record.id}.json").unlink(missing_ok=True)
            kept = [build for other in self.list_records() for build in other.builds.values()]
            gone = {name for build in record.builds.values() for name in build.archives}
            for layer in (self._root / "layers").iterdir():
                if layer.name not in {name for build in kept for name in build.layers}:
                    remove_tree(layer)
                    self._uses.forget(layer.name)
            self._remove_archives(kept, gone)

    def _remove_archives(self, kept: Sequence[Build], gone: Collection[str]) -> None:
        """Remove the archives of no build: those that are `gone`, and those that no build has come for."""
        for archive in (self._root / "archives").iterdir():
            awaited = archive.name not in gone and _is_recent(archive)
            if not awaited and archive.name not in {name for build in kept for name in build.archives}:
                archive.unlink()

    def list_kept(self) -> list[KeptPart]:
        """Return the layers."""
        return self._uses.list_kept(self._root / "layers")

    def drop(self, keys: Collection[str], roots: Collection[str], trash: Path) -> None:
        """Move layers away, and forget the builds that stand on them, or on one of these images."""
        for record in self.list_records():
            builds = {
                build.id: build
                for build in record.builds.values()
                if build.root not in roots and not {build.layer.key, build.layer.files} & set(keys)
            }
            if len(builds) < len(record.builds):
                tags = tuple(tag for tag, build_id in record.tags.items() if build_id not in builds)
                self._save_or_forget(replace(record, builds=builds).without_tags(tags))
        for key in keys:
            (self._root / "layers" / key).rename(trash / f"layer-{key}")
            self._uses.forget(key)
        self._remove_archives([build for one in self.list_records() for build in one.builds.values()], ())

    def _save_or_forget(self, record: TemplateRecord) -> None:
        if record.builds:
            self.save_record(record)
        else:
            (self._root / "records" / f"{record.id}.json").unlink()

    def make_template(self, record: TemplateRecord, build: Build, root: Template) -> Template:
        """Return the template of a build, given the built-in template at the bottom. Its layers have been used then."""
        self._uses.mark(build.layers)
        named = replace(root, name=record.name, id=record.id, build_id=build.id, aliases=())
        limits = BoxLimits(memory_mb=build.memory_mb, cpus=build.cpus)
        return replace(self.apply_layer(named, build.layer), start=build.start, limits=limits)

    def apply_layer(self, template: Template, layer: Layer) -> Template:
        """Return the template with a layer's files and settings."""
        return replace(
            template,
            env=MappingProxyType({**template.env, **layer.env}),
            files=None if layer.files is None else self.layer_path(layer.files),
            user=layer.user,
            workdir=layer.workdir,
        )

    # --- layers and archives

    @contextlib.contextmanager
    def lock(self, *, exclusive: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold the store's lock, so that no other server removes files.

        With `exclusive` no other server reads files either. Without `wait` this raises BlockingIOError if another
        server holds the lock.
        """
        fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(fd)

    def layer_path(self, key: str) -> Path:
        """Return the folder of a layer."""
        return self._root / "layers" / key

    def find_layer(self, key: str) -> Layer | None:
        """Return the layer with this key. It has been used then."""
        path = self.layer_path(key) / "layer.json"
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        self._uses.mark([key])
        data.pop("bytes", None)  # as servers before this one left it
        return Layer(**data)

    def make_layer_folder(self) -> Path:
        """Return a new folder for the files of a layer, to be passed to `add_layer`."""
        return Path(tempfile.mkdtemp(dir=self._root, prefix=_UNFINISHED_PREFIX))

    def add_layer(self, layer: Layer, filled: Path, shared: int = 0) -> Layer:
        """Add a layer with the files in this folder, which has so many bytes of other layers.

        If the same layer exists already, that one is returned.
        """
        (filled / "layer.json").write_text(json.dumps(asdict(layer)))
        self._uses.add(layer.key, max(0, measure_tree(filled) - shared))
        _write_out(filled)
        try:
            filled.rename(self.layer_path(layer.key))
        except OSError:
            kept = self.find_layer(layer.key)
            remove_tree(filled)
            if kept is None:
                raise
            return kept
        return layer

    def archive_path(self, files_hash: str) -> Path:
        """Return the path of an uploaded archive."""
        return self._root / "archives" / files_hash

    def has_archive(self, files_hash: str) -> bool:
        """True if the archive has been uploaded. Its age is reset, so that it stays until the build uses it."""
        try:
            os.utime(self.archive_path(files_hash))
        except FileNotFoundError:
            return False
        return True

    @contextlib.contextmanager
    def write_archive(self, files_hash: str) -> Iterator[IO[bytes]]:
        """Yield a file that becomes the archive when this closes without an error."""
        file = tempfile.NamedTemporaryFile(dir=self._root, prefix=_UNFINISHED_PREFIX, delete=False)  # noqa: SIM115
        try:
            with file:
                yield file
            os.replace(file.name, self.archive_path(files_hash))
        except BaseException:
            os.unlink(file.name)
            raise


def _write_out(folder: Path) -> None:
    """Have the disk take all files before the layer has its name: a crash of the machine must not leave half of them.

    Raises OSError.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"the disk could not take {folder}: {os.strerror(number)}")
    finally:
        os.close(fd)


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
