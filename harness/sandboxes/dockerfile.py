"""A Dockerfile as a template: ARG, --platform and several FROMs as in Docker, or a refusal that names the line."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2b import Template

from harness.errors import TaskFault

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::?(?P<sign>[-+])(?P<word>[^}]*))?\}|(?P<plain>\w+))")
_HEREDOC = re.compile(r"<<-?[\"']?(\w+)[\"']?")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class _Statement:
    """An instruction: where it begins, its word in capitals, what follows, and its lines as they are."""

    line: int
    word: str
    rest: str
    text: str


@dataclass
class _Stage:
    start: _Statement
    image: str
    name: str | None
    statements: list[_Statement] = field(default_factory=list)


def template_of_dockerfile(path: Path) -> Any:
    """The template that a Dockerfile asks for; its context is the folder that it is in.

    Raises:
        TaskFault: when it asks for what no template can be.
        OSError: when it cannot be read.
    """
    text = one_stage(path.read_text(encoding="utf-8"), str(path))
    return Template(file_context_path=path.parent).from_dockerfile(text)


def one_stage(text: str, shown: str = "the Dockerfile") -> str:
    """A Dockerfile with one FROM that makes the same as the last stage of this one.

    Raises:
        TaskFault: when there is none, with the line of what bars it.
    """
    arguments, stages = _stages(text, shown)
    if not stages:
        raise _refusal(shown, 1, "there is no FROM", "begin with one, such as FROM python:3.13")
    chain = _chain(stages)
    for stage in chain:
        for statement in stage.statements:
            if statement.word in ("COPY", "ADD") and re.match(r"(--\S+\s+)*--from=", statement.rest):
                what = f"{statement.word} --from takes files of another stage or image, and a template is built in one"
                raise _refusal(
                    shown,
                    statement.line,
                    what,
                    "copy the files from the build's own folder, or FROM the image that has them",
                )
    lines = [f"FROM {chain[0].image}"]
    for stage in chain:
        lines += (_with_default(statement, arguments) for statement in stage.statements)
    return "\n".join(lines) + "\n"


def _stages(text: str, shown: str) -> tuple[dict[str, str], list[_Stage]]:
    arguments, stages = _platforms(), list[_Stage]()
    for statement in _statements(text):
        if statement.word == "FROM":
            stages.append(_stage(statement, arguments, shown))
        elif stages:
            stages[-1].statements.append(statement)
        elif statement.word == "ARG":
            for part in statement.rest.split():
                name, equals, value = part.partition("=")
                if equals:
                    arguments[name] = _filled(value.strip("\"'"), arguments, shown, statement.line)
    return arguments, stages


def _stage(statement: _Statement, arguments: Mapping[str, str], shown: str) -> _Stage:
    words = statement.rest.split()
    for flag in [word for word in words if word.startswith("--platform=")]:
        wanted = _filled(flag.partition("=")[2], arguments, shown, statement.line)
        if wanted not in ("linux/amd64", arguments["TARGETPLATFORM"]):
            what = f"--platform={wanted}: sandboxes are {arguments['TARGETPLATFORM']}"
            raise _refusal(shown, statement.line, what, "leave it out")
    words = [word for word in words if not word.startswith("--")]
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise _refusal(
            shown, statement.line, f"FROM {statement.rest} is none", "write FROM IMAGE, or FROM IMAGE AS NAME"
        )
    image = _filled(words[0], arguments, shown, statement.line)
    return _Stage(statement, image, words[2].lower() if len(words) == 3 else None)


def _chain(stages: list[_Stage]) -> list[_Stage]:
    """The last stage, and those that it stands on, the lowest first. The others are not built, as in Docker."""
    chain, before = [stages[-1]], stages[:-1]
    while True:
        place = next(
            (n for n in range(len(before) - 1, -1, -1) if before[n].name == chain[0].image.lower()), None
        )
        if place is None:
            return chain
        chain.insert(0, before[place])
        before = before[:place]


def _with_default(statement: _Statement, arguments: Mapping[str, str]) -> str:
    """An ARG of a stage has the default of the one before the first FROM."""
    name = statement.rest.strip()
    if statement.word == "ARG" and name in arguments:
        return f'ARG {name}="{arguments[name]}"'
    return statement.text


def _statements(text: str) -> Iterator[_Statement]:
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        first = number
        stripped = lines[number].strip()
        number += 1
        if not stripped or stripped.startswith("#"):
            # A directive in the first lines, such as `# syntax=`, says how the rest is read.
            continue
        whole = stripped
        while whole.endswith("\\") and number < len(lines):
            following = lines[number].strip()
            number += 1
            if not following.startswith("#"):
                whole = f"{whole[:-1].rstrip()} {following}"
        word, _, rest = whole.partition(" ")
        if word.upper() in ("RUN", "COPY", "ADD"):
            for end in _HEREDOC.findall(rest):
                while number < len(lines) and lines[number].strip() != end:
                    number += 1
                number += 1
        yield _Statement(first + 1, word.upper(), rest.strip(), "\n".join(lines[first:number]))


def _filled(text: str, arguments: Mapping[str, str], shown: str, line: int) -> str:
    def fill(match: re.Match[str]) -> str:
        name, value = match["braced"] or match["plain"], arguments.get(match["braced"] or match["plain"])
        if match["sign"] == "+":
            return str(match["word"]) if value else ""
        if value:
            return value
        if match["sign"] == "-":
            return str(match["word"])
        raise _refusal(
            shown, line, f"{name} has no value", f"give it one before the first FROM: ARG {name}=VALUE"
        )

    return _VARIABLE.sub(fill, text)


def _platforms() -> dict[str, str]:
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    names = {"PLATFORM": f"linux/{architecture}", "OS": "linux", "ARCH": architecture}
    return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in names.items()}


def _refusal(shown: str, line: int, what: str, remedy: str) -> TaskFault:
    return TaskFault("template_file", f"{shown}, line {line}: {what}", remedy=remedy)
