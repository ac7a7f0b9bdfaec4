"""A folder that stands for a task which has no counterpart here: its one file says why."""

from __future__ import annotations

from pathlib import Path

from harness.tasks.formats.base import ConvertedTask, NoCounterpartError
from harness.tasks.formats.marks import MARKS, is_marked

((FILE,),) = MARKS["skipped"]


def skipped_folder(reason: str) -> ConvertedTask:
    """Such a folder."""
    return ConvertedTask(files={FILE: reason}, is_ours=False)


class Skipped:
    """A row of a dataset that cannot be a task."""

    name = "skipped"

    def is_task(self, folder: Path) -> bool:
        """True for a folder with that file."""
        return is_marked(folder, self.name)

    def file_of(self, folder: Path) -> str:
        """That file."""
        return FILE

    def convert(self, folder: Path) -> ConvertedTask:
        """Never: the file has the reason."""
        raise NoCounterpartError((folder / FILE).read_text(encoding="utf-8", errors="replace").strip())
