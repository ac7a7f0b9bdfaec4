"""Copying the files of a build from its box to a layer.

The template's places are copied as they are. Files that a build put elsewhere (into `/app`, say) are in the box's own
memory, which cannot be read from outside. They are first copied into a place inside the box. Each such folder or file
becomes a place of its own in sandboxes of the template.
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
    """The build made a file that no layer can hold."""


async def list_open_folders(box: Box) -> frozenset[str]:
    """Return the paths in the open folders before the build."""
    return frozenset([entry.path for entry in await _list_entries(box)])


async def export_files(
    box: Box, before: frozenset[str], layer: Path
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Copy all files of a build into a layer. Returns the layer's places and links. Raises ExportError."""
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
        return []  # there the folders belong to this machine and are closed to the box
    return [entry for folder in _OPEN for entry in await box.files.list(folder)]


async def _stage(box: Box, new: Mapping[str, str]) -> None:
    script = f"rm -rf {_STAGING} && mkdir {_STAGING}"
    for path, name in new.items():
        script += f" && cp -a -T {path} {_STAGING}/{name}"
    process = await box.spawn(["/bin/bash", "-c", script])
    output: list[str] = []
    await forward_lines(process, output.append)
    if (await process.wait()).exit_code != 0:
        raise ExportError(f"the files at {', '.join(new)} could not be copied: {' '.join(output[:3])}")


def _unstage(layer: Path, new: Mapping[str, str]) -> None:
    """Move staged files to their places in the layer. Links that the box may have put in their place are refused."""
    staging = layer / "tmp" / posixpath.basename(_STAGING)
    for name in new.values():
        kinds = (staging.lstat().st_mode, (staging / name).lstat().st_mode)
        if not (stat.S_ISDIR(kinds[0]) and (stat.S_ISDIR(kinds[1]) or stat.S_ISREG(kinds[1]))):
            raise ExportError("the files of the build were changed while they were copied")
        os.rename(staging / name, layer / name)
    staging.rmdir()
