"""The files of a work, read from its tar and replaced in a copy of it. Nothing is unpacked on this machine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from harness.authoring.mutants import Change
from harness.errors import UsageError
from harness.tasks.contents import IGNORED_NAMES

_MAX_BYTES = 2 * 1024 * 1024
"""A larger file is no source that a mutant could be made of."""


def read_files(tar: Path) -> dict[str, bytes]:
    """The regular files by their paths; what is large, and what is no part of a task, is left out.

    Raises:
        UsageError: when it is no tar.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                name = _name(member)
                if (
                    member.isreg()
                    and member.size <= _MAX_BYTES
                    and not IGNORED_NAMES & set(PurePosixPath(name).parts)
                ):
                    content = archive.extractfile(member)
                    assert content is not None, "a regular file has content"
                    found[name] = content.read()
    except tarfile.TarError as error:
        raise UsageError(f"{tar} cannot be read: {error}") from error
    return found


def changes_between(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, Change]:
    """The differences between two works, by path."""
    names = sorted({*before, *after})
    return {
        name: Change(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    }


def write_mutated(tar: Path, path: str, content: bytes | None, target: Path) -> None:
    """Write the tar again with one file's content replaced (None: left out)."""
    has_it = False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar) as archive, tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as mutated:
        for member in archive:
            data = archive.extractfile(member) if member.isreg() else None
            if _name(member) == path:
                has_it = True
                if content is None:
                    continue
                member.size, data = len(content), io.BytesIO(content)
            mutated.addfile(member, data)
        if not has_it and content is not None:
            added = tarfile.TarInfo(f"./{path}")
            added.size, added.mode = len(content), 0o644
            mutated.addfile(added, io.BytesIO(content))


def _name(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).as_posix().removeprefix("./")
