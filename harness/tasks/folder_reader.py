"""Reading a folder of the user's, and telling all that is wrong in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Problem
from harness.tasks.contents import escapes_folder, files_in
from harness.tasks.tomlfile import display_path


@dataclass
class FolderReader:
    """Reads what is in a task's folder, and collects problems. `file` is the one with the manifest's fields.

    A problem of the manifest itself is there already. What follows from it is not reported again.
    """

    folder: Path
    file: Path
    problems: list[Problem]

    def wrong(self, field_: str) -> bool:
        """True if the manifest has this field wrong, or something in it."""
        return any(f"{problem.field}.".startswith(f"{field_}.") for problem in self.problems)

    def complain(self, file: Path, field_: str | None, what: str, remedy: str | None = None) -> None:
        """Add a problem."""
        self.problems.append(Problem(display_path(file), field_, what, remedy))

    def inside(self, relative: str, field_: str | None = None) -> Path | None:
        """The path, if it stays within the folder, links followed. Without a field it is one of a task's own names."""
        path, root = self.folder / relative, os.path.realpath(self.folder)
        if "\0" not in relative and os.path.realpath(path).startswith(root + os.sep):
            return path
        if field_:
            self.complain(
                self.file, field_, f"{relative!r} is not inside the task's folder", "use a path inside it"
            )
        else:
            self.complain(
                path, None, "is a link that leads out of the task's folder", "copy what it leads to"
            )
        return None

    def subfolder(self, name: str, remedy: str) -> Path | None:
        """One of a task's folders, if it is there."""
        path = self.folder / name
        if not os.path.lexists(path) or not self.inside(name):
            return None
        if not os.path.isdir(path):
            self.complain(path, None, "is not a folder", remedy)
            return None
        self.links(path)
        return path

    def links(self, folder: Path) -> None:
        """A folder goes into the sandbox alone: nothing that its links lead to beside it is there."""
        for path in files_in(folder):
            if path.is_symlink() and escapes_folder(path, folder):
                self.complain(
                    path, None, f"is a link that leads out of {folder.name}/", "copy what it leads to"
                )
