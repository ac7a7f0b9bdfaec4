"""Files and folders that commands write for the user: whole, or not at all."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path to write a file or a folder to: it takes the target's place once all of it is there, and goes otherwise.

    A device or a pipe is written to as it is, and of a link the file that it leads to.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as folder:
        made = Path(folder, target.name)
        yield made
        if made.is_dir() and target.is_dir():
            # By name: of a dataset's files, `state.json` lists the others.
            for file in sorted(made.iterdir()):
                file.replace(target / file.name)
        else:
            made.replace(target)
