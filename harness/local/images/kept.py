"""The images that are kept for later servers, as what may be removed: chains of layers, as ImageStore makes them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from harness.local.boxes.file_tree import measure_tree
from harness.local.kept import KeptPart


class KeptImages:
    """The images in a folder of a user's (see ImageStore and ImageTemplates). No server may use it meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptions = {
            path: str(json.loads(path.read_text(encoding="utf-8"))["chain"])
            for path in folder.glob("images/*.json")
        }

    def list_kept(self) -> list[KeptPart]:
        """Return the chains. One that an image stands on has been used when the image was."""
        return [self._describe(path.name) for path in self._folder.glob("chains/*")]

    def _describe(self, chain: str) -> KeptPart:
        used = self._folder / "used" / chain
        if not used.exists():  # as servers before this one left it
            used.parent.mkdir(mode=0o700, exist_ok=True)
            used.write_text(str(measure_tree(self._folder / "chains" / chain)))
        files = [used, *(path for path, below in self._descriptions.items() if below == chain)]
        return KeptPart(chain, max(path.stat().st_mtime for path in files), int(used.read_text()))

    def drop(self, keys: Collection[str], trash: Path) -> Collection[str]:
        """Move chains away, and what was never finished. Returns the names of the images that are no more."""
        for path in self._folder.glob("making-*"):
            path.rename(trash / path.name)
        for chain in keys:
            for kind in ("chains", "added", "used"):
                path = self._folder / kind / chain
                if path.exists():
                    path.rename(trash / f"{kind}-{chain}")
        gone = [path for path, below in self._descriptions.items() if below in keys]
        for path in gone:
            path.unlink()
        return {path.stem for path in gone}
