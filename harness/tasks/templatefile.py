"""A `template` names one that the platform has, or a file from which it is built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_DOCKERFILE = re.compile(r"(^|[/.])dockerfile$|(^|/)dockerfile\.[^/]+$", re.IGNORECASE)
_PYTHON = re.compile(r"^(?P<path>.+\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]*)$")


@dataclass(frozen=True)
class TemplateFile:
    """A file that a template is built from: a Dockerfile, or (with `name`) a Python file with an E2B `Template()`.

    `context` is the folder that a Dockerfile copies from; None: the one that it is in.
    """

    path: Path
    name: str | None = None
    context: Path | None = None

    @property
    def shown(self) -> str:
        """As a task would name it."""
        return f"{self.path}:{self.name}" if self.name else str(self.path)


def template_file(template: str) -> TemplateFile | None:
    """The file that a template is built from, its path as written; None for the name of one that is built already."""
    python = _PYTHON.match(template)
    if python:
        return TemplateFile(Path(python["path"]), python["name"])
    return TemplateFile(Path(template)) if _DOCKERFILE.search(template) else None


def names_no_template(template: str) -> str | None:
    """The remedy for a Python file without the name of the template in it; None for any other template."""
    return f"say which of its names is the template: {template}:NAME" if template.endswith(".py") else None


def find_template_file(template: str, start: Path) -> TemplateFile | None:
    """The same, found: in `start` or the nearest of the folders that it is in. None: it is nowhere."""
    file = template_file(template)
    if file is None:
        return None
    for folder in (start, *start.parents):
        if (folder / file.path).is_file():
            return TemplateFile((folder / file.path).resolve(), file.name)
    return None
