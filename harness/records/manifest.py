"""The manifest: the SHA-256 of every file of a run's folder, written at the run's end.

Its lines are those of `sha256sum`, so that a stranger needs no harness: `sha256sum -c manifest.sha256`. The last one is
over the others.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.records.files import file_below, read_bounded, sha256_of
from harness.records.store import disk_fault

MANIFEST = "manifest.sha256"
REPORT = "report.html"
"""What `harness report` writes into a run's folder after its end."""
_LINE = re.compile(r"(?P<escaped>\\?)(?P<hash>[0-9a-f]{64})  (?P<path>.+)")
_SEAL = "# sha256 of the lines above: "


@dataclass(frozen=True)
class ManifestDifference:
    """A difference from the manifest: `changed`, `missing`, `added`, or a `link`, which is not followed."""

    path: str
    what: str


def write_manifest(run: Path) -> None:
    """Write the manifest of a run's folder as it is now.

    Raises:
        InternalFault: when the disk does not take it.
    """
    try:
        _write(run, {name: sha256_of(run / name) for name in files_of(run) if not (run / name).is_symlink()})
    except OSError as error:
        raise disk_fault(run / MANIFEST, error) from error


def add_to_manifest(run: Path, name: str) -> None:
    """Put a file that was written after the run's end into its manifest, if there is one that is whole."""
    if not (run / MANIFEST).is_file():
        return
    try:
        known, is_whole = read_manifest(run)
        if is_whole:
            _write(run, {**known, name: sha256_of(run / name)})
    except OSError as error:
        raise disk_fault(run / MANIFEST, error) from error


def drop_manifest(run: Path) -> None:
    """Take it away: the run goes on."""
    (run / MANIFEST).unlink(missing_ok=True)


def read_manifest(run: Path) -> tuple[dict[str, str], bool]:
    """The hashes by path, and whether the manifest is as harness wrote it.

    Raises:
        OSError: when it is not there, or cannot be read.
        UsageError: when it is a link out of the run's folder.
    """
    text = read_bounded(file_below(run, MANIFEST)).decode("utf-8", "surrogateescape")
    body, _, digest = text.rpartition(_SEAL)
    found = map(_LINE.fullmatch, body.split("\n"))
    known = {
        _unescaped(line["path"]) if line["escaped"] else line["path"]: line["hash"] for line in found if line
    }
    return known, digest == f"{_digest(body)}\n"


def differences(run: Path, known: dict[str, str]) -> Iterator[ManifestDifference]:
    """The differences of a run's folder from its manifest."""
    there = list(files_of(run))
    for name in there:
        path = run / name
        if path.is_symlink():
            yield ManifestDifference(name, "link")
        elif name not in known:
            yield ManifestDifference(name, "added")
        elif _hash_or_none(path) != known[name]:
            yield ManifestDifference(name, "changed")
    yield from (ManifestDifference(name, "missing") for name in sorted(known.keys() - set(there)))


def files_of(run: Path) -> Iterator[str]:
    """All files and links of a run's folder but its manifest, by their paths, in order. No link is followed."""
    for parent, folders, names in os.walk(run):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        folders[:] = sorted(name for name in folders if name not in links)
        for name in sorted([*names, *links]):
            path = os.path.relpath(os.path.join(parent, name), run)
            if path != MANIFEST:
                yield path


def _hash_or_none(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None  # what cannot be read is not what it was


def _write(run: Path, hashes: dict[str, str]) -> None:
    body = "".join(_line(name, digest) for name, digest in sorted(hashes.items()))
    text = f"{body}{_SEAL}{_digest(body)}\n".encode("utf-8", "surrogateescape")
    temporary = run / f".{MANIFEST}"
    temporary.write_bytes(text)
    temporary.replace(run / MANIFEST)


def _line(name: str, digest: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}\n"


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()
