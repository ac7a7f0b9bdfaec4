"""A Dockerfile as a template of e2b's: ARG, --platform and several FROMs as in Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2b import Template

from harness.errors import TaskFault
from harness.tasks.dockerfile import one_stage


def template_of_dockerfile(
    path: Path, context: Path | None = None, *, without: frozenset[str] = frozenset()
) -> Any:
    """The template that a Dockerfile asks for, `without` some instructions; its context is the folder that it is in,
    unless it is given.

    Raises:
        TaskFault: when it asks for what no template can be.
        OSError: when it cannot be read.
    """
    try:
        text = one_stage(path.read_text(encoding="utf-8"), str(path), without)
    except UnicodeDecodeError as error:
        what = f"{path} is no text in UTF-8: {error}"
        raise TaskFault("template_file", what, remedy="write it in UTF-8") from error
    return Template(file_context_path=context or path.parent).from_dockerfile(text)
