"""A Dockerfile as templates can be made of: one stage of it, or a refusal that names the line; and where it starts."""

from __future__ import annotations

import json
import platform
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.errors import TaskFault

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::?(?P<sign>[-+])(?P<word>[^}]*))?\}|(?P<plain>\w+))")
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?([\"']?)([^\s<\"']+)\1(?=\s|$)")
_QUOTED = re.compile(r"([\"'])(?:(?!\1).)*\s(?:(?!\1).)*\1")
"""Words in quotes, in which `<<` begins nothing."""
_ESCAPE = re.compile(r"#\s*escape\s*=\s*([\\`])\s*$", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*\w+\s*=")
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


@dataclass(frozen=True)
class RunsAs:
    """The folder, account and command that a container of the image starts with, as far as its Dockerfile says them."""

    workdir: str | None = None
    user: str | None = None
    entrypoint: str | None = None


def one_stage(text: str, shown: str = "the Dockerfile", without: frozenset[str] = frozenset()) -> str:
    """A Dockerfile with one FROM that makes the same as the last stage of this one, `without` some instructions.

    Raises:
        TaskFault: when there is none, with the line of what bars it.
    """
    arguments, stages = _stages(text, shown)
    if not stages:
        raise _refusal(shown, 1, "there is no FROM", "begin with one, such as FROM python:3.13")
    chain = _chain(stages)
    for stage in chain:
        for statement in stage.statements:
            for what, remedy in _bars(statement):
                raise _refusal(shown, statement.line, what, remedy)
    lines = [*(("# escape=`",) if _escape(text.splitlines()) == "`" else ()), f"FROM {chain[0].image}"]
    for stage in chain:
        lines += (_with_default(one, arguments) for one in stage.statements if one.word not in without)
    return "\n".join(lines) + "\n"


def _bars(statement: _Statement) -> Iterator[tuple[str, str]]:
    """Yield what a build here would pass over in silence, or cannot do, and the remedy."""
    word, flags = statement.word, re.findall(r"--(\S+)", re.match(r"(?:--\S+\s+)*", statement.rest)[0])  # type: ignore[index]
    for flag in flags:
        name, _, value = flag.partition("=")
        if word in ("COPY", "ADD") and name == "from":
            what = f"{word} --from takes files of another stage or image, and a template is built in one"
            yield what, "copy the files from the build's own folder, or FROM the image that has them"
        elif word in ("COPY", "ADD") and name in ("exclude", "parents", "unpack"):
            yield f"{word} --{name} cannot be had", "leave it out"
        elif word in ("COPY", "ADD") and name == "chmod" and not re.fullmatch(r"[0-7]{3,4}|\$.*", value):
            yield f"{word} --chmod={value} cannot be had", "give the mode in octal, such as 0755"
        elif word == "RUN" and name == "mount" and not re.search(r"(^|,)type=(cache|tmpfs)(,|$)", value):
            yield (
                f"RUN --mount={value} cannot be had: only caches are left out harmlessly",
                "COPY the files first",
            )
    if word in ("SHELL", "ONBUILD"):
        yield (
            f"{word} has no counterpart in a template",
            "write the shell into each RUN" if word == "SHELL" else "leave it out",
        )
    sources = [part for part in statement.rest.split() if not part.startswith("--")][:-1]
    archives = [
        part
        for part in sources
        if re.search(r"\.(tar(\.\w+)?|t[gbx]z2?)[\"',\]]*$", part) and "://" not in part
    ]
    remote = [
        part for part in sources if re.match(r"[\[\"']*([a-z][a-z0-9+.-]*://|git@)", part, re.IGNORECASE)
    ]
    if word == "ADD" and remote:
        yield (
            f"ADD takes {remote[0]} of the network, and a template does not",
            "RUN curl -fsSLo FILE URL, or git clone",
        )
    if word == "ADD" and archives:
        yield f"ADD unpacks {archives[0]} in Docker, and a template does not", "COPY it, and RUN tar -xf"


def runs_as(text: str) -> RunsAs:
    """Read how containers of a Dockerfile's image start. The values of ENV and ARG are put in."""
    stages: dict[str, RunsAs] = {}
    found, stage, values = RunsAs(), "", dict[str, str]()
    for one in _statements(text):
        if one.word == "FROM":
            parts = one.rest.split()
            image = next((part for part in parts if not part.startswith("--")), "")
            stage = parts[-1].lower() if len(parts) > 2 and parts[-2].upper() == "AS" else ""
            found = stages.get(image.lower(), RunsAs())
        elif one.word in ("ENV", "ARG"):
            values |= {name: _put_in(value, values) for name, value in _assignments(one.rest)}
        elif one.word == "WORKDIR":
            path = _put_in(one.rest.strip("\"'"), values)
            found = replace(found, workdir=posixpath.normpath(posixpath.join(found.workdir or "/", path)))
        elif one.word == "USER":
            found = replace(found, user=_put_in(one.rest, values).partition(":")[0])
        elif one.word == "ENTRYPOINT":
            found = replace(found, entrypoint=_command(one.rest))
        stages[stage] = found
    return found


def _assignments(rest: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of an ENV or ARG: `NAME=VALUE ...`, or of old `NAME VALUE`.

    A name without a value keeps the one it has.
    """
    name, _, value = rest.partition(" ")
    if value and "=" not in name:
        yield name, value.strip().strip("\"'")
        return
    for found in re.finditer(r"""(\w+)=((?:"(?:\\.|[^"])*"|'[^']*'|\\.|[^\s"'])*)""", rest):
        yield found[1], re.sub(r"[\"']", "", found[2])


def _command(rest: str) -> str | None:
    """A command in either form, for a shell."""
    try:
        words = json.loads(rest)
    except ValueError:
        return rest or None
    return shlex.join(map(str, words)) or None if isinstance(words, list) else rest


def _put_in(text: str, values: Mapping[str, str]) -> str:
    """A text with variables; those without a value are empty."""

    def fill(found: re.Match[str]) -> str:
        value = values.get(found["braced"] or found["plain"]) or ""
        if found["sign"] == "+":
            return str(found["word"]) if value else ""
        return value or (str(found["word"]) if found["sign"] == "-" else "")

    return _VARIABLE.sub(fill, text)


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
    """Return an instruction as a stage reads it.

    An ARG without a value has the default of the one before the first FROM. A COPY from `/` is from the build's folder.
    """
    name = statement.rest.strip()
    if statement.word == "ARG" and name in arguments:
        return f'ARG {name}="{arguments[name]}"'
    words = statement.rest.split()
    flags = [word for word in words if word.startswith("--")]
    paths = words[len(flags) :]
    if statement.word in ("COPY", "ADD") and paths and any(path.startswith("/") for path in paths[:-1]):
        return " ".join(
            [statement.word, *flags, *(path.lstrip("/") or "." for path in paths[:-1]), paths[-1]]
        )
    return statement.text


def _statements(text: str) -> Iterator[_Statement]:
    lines = text.removeprefix("\ufeff").splitlines()
    number, escape = 0, _escape(lines)
    while number < len(lines):
        first = number
        stripped = lines[number].strip()
        number += 1
        if not stripped or stripped.startswith("#"):
            # A directive in the first lines, such as `# syntax=`, says how the rest is read.
            continue
        whole = stripped
        while whole.endswith(escape) and number < len(lines):
            following = lines[number].strip()
            number += 1
            if not following.startswith("#"):
                whole = f"{whole[:-1].rstrip()} {following}"
        word, rest = [*whole.split(None, 1), ""][:2]
        if word.upper() in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(_QUOTED.sub("", rest)):
                while number < len(lines) and lines[number].strip() != end:
                    number += 1
                number += 1
        yield _Statement(first + 1, word.upper(), rest.strip(), "\n".join(lines[first:number]))


def _escape(lines: Sequence[str]) -> str:
    """The character that ends a line which goes on: a directive in the first lines may name it."""
    for line in lines:
        if not _DIRECTIVE.match(line.strip()):
            break
        if found := _ESCAPE.match(line.strip()):
            return found[1]
    return "\\"


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
