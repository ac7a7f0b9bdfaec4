"""What a build left in its box, carried out to a layer.

The template's places are copied as they are. What a build put elsewhere (`/app`, on_line) is in the box's own
memory, where nobody outside can reach: it is first copied, inside, into a place. Each such folder or file
becomes a place of its own in the sandboxes to come.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from harness.local.boxes.box import Box
from harness.local.boxes.types import FileEntry
from harness.local.builds.steps import remove_if_there
from harness.local.control.startup import forward_lines

_OPEN = ("/", "/etc", "/home", "/opt", "/var")
"""Folders that a build may add to, beside the template's places."""

_STAGING = "/tmp/.harness-layer"
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.+@/-]+", re.ASCII)


class ExportError(Exception):
    """The build made something that no layer can hold."""


async def list_open_folders(box: Box) -> frozenset[str]:
    """What is in the open folders at the start."""
    return frozenset([entry.path for entry in await _list_entries(box)])


async def export_files(
    box: Box, before: frozenset[str], layer: Path
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Copy all files of a build into a layer; the places and links that it has now. Raises ExportError."""
    places = dict(box.spec.template.places)
    links = dict(box.spec.template.links)
    added = [entry for entry in await _list_entries(box) if entry.path not in before]
    for entry in added:
        if not _PLAIN_PATH.fullmatch(entry.path):
            raise ExportError(f"the path {entry.path!r} has characters that no template can keep")
        if entry.is_symlink:
            links[entry.path] = entry.target or ""
        elif entry.is_dir or stat.S_ISREG(entry.mode):
            places[entry.path] = "at" + entry.path.replace("/", "-")
        else:
            raise ExportError(f"{entry.path} is neither a file nor a folder nor a link")
    new = {path: name for path, name in places.items() if path not in box.spec.template.places}
    if new:
        await _stage(box, new)
    await box.copy_state(layer)
    if new:
        _unstage(layer, new)
        await remove_if_there(box, _STAGING)
    return places, links


async def _list_entries(box: Box) -> list[FileEntry]:
    if box.tier != "bubblewrap":
        return []  # the folders are this machine's own, and closed to the box
    return [entry for folder in _OPEN for entry in await box.list(folder)]


async def _stage(box: Box, new: Mapping[str, str]) -> None:
    script = f"rm -rf {_STAGING} && mkdir {_STAGING}"
    for path, name in new.items():
        script += f" && cp -a -T {path} {_STAGING}/{name}"
    process = await box.spawn(["/bin/bash", "-c", script])
    said: list[str] = []
    await forward_lines(process, said.append)
    if (await process.wait()).exit_code != 0:
        raise ExportError(f"the files at {', '.join(new)} could not be copied: {' '.join(said[:3])}")


def _unstage(layer: Path, new: Mapping[str, str]) -> None:
    """Nothing that the box may have put in their place is followed: what is bound later must be what it seems."""
    staging = layer / "tmp" / posixpath.basename(_STAGING)
    for name in new.values():
        kinds = (staging.lstat().st_mode, (staging / name).lstat().st_mode)
        if not (stat.S_ISDIR(kinds[0]) and (stat.S_ISDIR(kinds[1]) or stat.S_ISREG(kinds[1]))):
            raise ExportError("the files of the build were changed while they were copied")
        os.rename(staging / name, layer / name)
    staging.rmdir()
