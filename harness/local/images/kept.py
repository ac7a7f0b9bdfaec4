"""The images that are kept for later servers, as what may be removed: chains of layers, as ImageStore makes them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from harness.local.kept import KeptPart, PartUses


class KeptImages:
    """The images in a folder of a user's (see ImageStore and ImageTemplates). No server may use it meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uses = PartUses(folder / "used")
        self._descriptions = {
            path: str(json.loads(path.read_text(encoding="utf-8"))["chain"])
            for path in folder.glob("images/*.json")
        }

    def list_kept(self) -> list[KeptPart]:
        """Return the chains of layers."""
        return self._uses.list_kept(self._folder / "chains")

    def drop(self, keys: Collection[str], trash: Path) -> Collection[str]:
        """Move chains away, and what was never finished. Returns the names of the images that are no more."""
        for path in self._folder.glob("making-*"):
            path.rename(trash / path.name)
        for chain in keys:
            for kind in ("chains", "added"):
                path = self._folder / kind / chain
                if path.exists():
                    path.rename(trash / f"{kind}-{chain}")
            self._uses.forget(chain)
        gone = [path for path, below in self._descriptions.items() if below in keys]
        for path in gone:
            path.unlink()
        return {path.stem for path in gone}
