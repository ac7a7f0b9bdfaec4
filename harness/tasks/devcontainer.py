"""The container that a repo declares: by a Dockerfile, or by a devcontainer.json (JSON with remarks)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PLACES = (".devcontainer/devcontainer.json", ".devcontainer.json", ".devcontainer/*/devcontainer.json")
_STRING = r'"(?:\\.|[^"\\])*"'
_REMARK = re.compile(rf"({_STRING})|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_LEFT_OUT = (
    "features",
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "containerEnv",
    "remoteEnv",
)


@dataclass(frozen=True)
class Container:
    """A Dockerfile and the folder that it copies from, both as paths in the repo; or an image. `source` told it."""

    source: str
    dockerfile: str | None = None
    context: str = "."
    image: str | None = None


def container_of(repo: Path, notes: list[str]) -> Container | None:
    """The container that a repo declares; what of it is not taken over is told in `notes`."""
    if (repo / "Dockerfile").is_file():
        return Container("Dockerfile", "Dockerfile")
    found = [path for place in _PLACES for path in sorted(repo.glob(place)) if path.is_file()]
    if found:
        return _of_devcontainer(repo, found[0], notes)
    if (repo / ".devcontainer/Dockerfile").is_file():
        return Container(".devcontainer/Dockerfile", ".devcontainer/Dockerfile", ".devcontainer")
    return None


def _of_devcontainer(repo: Path, file: Path, notes: list[str]) -> Container | None:
    source = file.relative_to(repo).as_posix()
    try:
        data = _parsed(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        notes.append(f"{source} cannot be read, so the container that it declares is not built: {error}")
        return None
    build = found if isinstance(found := data.get("build"), dict) else {}
    left_out = [key for key in _LEFT_OUT if data.get(key)] + (["build.args"] if build.get("args") else [])
    if left_out:
        what = ", ".join(left_out)
        notes.append(f"{source}: {what} not taken over: say the same by [setup] run and [sandbox] env")
    dockerfile = build.get("dockerfile") or build.get("dockerFile") or data.get("dockerFile")
    if isinstance(dockerfile, str):
        inside = [_inside(repo, file.parent / one) for one in (dockerfile, str(build.get("context", ".")))]
        if all(inside) and (repo / str(inside[0])).is_file():
            return Container(source, inside[0], str(inside[1]))
        notes.append(
            f"{source} names {dockerfile!r}, which is not in the repo: name a template in [sandbox] template"
        )
    elif isinstance(data.get("image"), str):
        return Container(source, image=data["image"])
    elif data.get("dockerComposeFile"):
        notes.append(
            f"{source} names several containers, which is not done: name a template in [sandbox] template"
        )
    return None


def _parsed(text: str) -> dict[str, Any]:
    bare = _LAST_COMMA.sub(lambda found: found[1] or "", _REMARK.sub(lambda found: found[1] or "", text))
    data = json.loads(bare)
    if not isinstance(data, dict):
        raise ValueError("it holds no table")
    return data


def _inside(repo: Path, path: Path) -> str | None:
    whole = path.resolve()
    return whole.relative_to(repo.resolve()).as_posix() if whole.is_relative_to(repo.resolve()) else None
