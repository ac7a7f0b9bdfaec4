"""What of a Dockerfile decides where a task's commands run: the last stage's WORKDIR and USER."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<plain>\w+))")


@dataclass(frozen=True)
class RunsAs:
    """Where and as whom a container of the image starts, as far as its Dockerfile says it."""

    workdir: str | None = None
    user: str | None = None


def runs_as(dockerfile: Path) -> RunsAs:
    """Read a Dockerfile. Raises OSError."""
    stages: dict[str, RunsAs] = {}
    found, stage, values = RunsAs(), "", dict[str, str]()
    for word, rest in instructions(dockerfile.read_text(encoding="utf-8", errors="replace")):
        if word == "FROM":
            parts = rest.split()
            image = next((part for part in parts if not part.startswith("--")), "")
            stage = parts[-1].lower() if len(parts) > 2 and parts[-2].upper() == "AS" else ""
            found = stages.get(image.lower(), RunsAs())
        elif word in ("ENV", "ARG"):
            for name, _, value in (part.partition("=") for part in rest.split()):
                values[name] = value.strip("\"'")
        elif word == "WORKDIR":
            path = _filled(rest.strip("\"'"), values)
            found = RunsAs(posixpath.normpath(posixpath.join(found.workdir or "/", path)), found.user)
        elif word == "USER":
            found = RunsAs(found.workdir, _filled(rest, values).partition(":")[0])
        stages[stage] = found
    return found


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, in capital letters, with what follows; heredocs and comments left out."""
    lines = iter(text.splitlines())
    for line in lines:
        statement = line.strip()
        if not statement or statement.startswith("#"):
            continue
        while statement.endswith("\\"):
            following = next(lines, "")
            if not following.strip().startswith("#"):
                statement = f"{statement[:-1]} {following.strip()}"
        word, _, rest = statement.partition(" ")
        if word.upper() in ("RUN", "COPY", "ADD"):
            for end in re.findall(r"<<-?[\"']?(\w+)[\"']?", rest):
                for body in lines:
                    if body.strip() == end:
                        break
        yield word.upper(), rest.strip()


def _filled(text: str, values: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        return values.get(match["braced"] or match["plain"]) or match["default"] or ""

    return _VARIABLE.sub(fill, text)
