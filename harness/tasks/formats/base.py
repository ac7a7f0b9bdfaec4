"""The protocol of a format of other people's tasks, and the writing of a task of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.tasks.contents import IGNORED_NAMES
from harness.tasks.manifest import MANIFEST
from harness.tasks.secret_names import is_secret_name
from harness.tasks.wholefile import written_whole

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class NoCounterpartError(Exception):
    """A task asks for something that no task of ours can ask for. The text says what."""


@dataclass
class ConvertedTask:
    """A task of ours on its way to a folder: its manifest, and files by their names in it.

    `files` has a text, bytes, or the path of a file or folder to copy; a text that starts with `#!` becomes
    executable. Without `is_ours` it is a folder that only says why there is no task. `shared` has texts that several
    tasks stand on, by their names in a folder that they have in common; `beside` what has to be right beside this
    task's folder. `secrets` names the variables of this machine whose values are in it, and probably secret.
    """

    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str | bytes | Path] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str | Path] = field(default_factory=dict)
    is_ours: bool = True
    secrets: tuple[str, ...] = ()

    def write(self, target: Path) -> None:
        """Write it. Raises OSError."""
        target.mkdir(parents=True)
        if self.is_ours:
            (target / MANIFEST).write_text(toml_text({"schema": 1, **self.manifest}), encoding="utf-8")
        for name, content in self.files.items():
            _write(target / name, content)

    def write_beside(self, folder: Path) -> None:
        """Write what is beside the task's folder. Raises OSError."""
        for name, content in self.beside.items():
            _write(folder / name, content)

    def write_shared(self, folder: Path) -> None:
        """Write what several tasks stand on, unless it is there. Raises OSError."""
        for name, text in self.shared.items():
            path = folder / name
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            with written_whole(path) as made:
                made.write_text(text, encoding="utf-8")


def _write(path: Path, content: str | bytes | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        _copy(content, path)
        return
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(data)
    path.chmod(0o755 if data.startswith(b"#!") else 0o644)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignore = shutil.ignore_patterns(*IGNORED_NAMES)
        shutil.copytree(source, target, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


class Format(Protocol):
    """A format of other people's tasks."""

    name: str

    def is_task(self, folder: Path) -> bool:
        """True if the folder is a task of this format. It is asked of every folder that pytest comes to."""

    def file_of(self, folder: Path) -> str:
        """The name of the file in the folder that stands for the task in test ids."""

    def convert(self, folder: Path) -> ConvertedTask:
        """The task as one of ours.

        Raises:
            NoCounterpartError: when it asks for what ours cannot ask for.
            ProblemsError: when it is no valid task.
            OSError: when it cannot be read.
        """


def toml_text(data: Mapping[str, Any]) -> str:
    """A mapping as TOML: tables within tables, lists of tables, texts, numbers and lists of them; None is left out."""
    return "\n".join(_lines(data, ())) + "\n"


def _lines(data: Mapping[str, Any], table: tuple[str, ...]) -> Iterator[str]:
    inner = {key: value for key, value in data.items() if isinstance(value, Mapping) or _is_tables(value)}
    for key, value in data.items():
        if key not in inner and value is not None:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        name = ".".join(map(_key, (*table, key)))
        for one in value if _is_tables(value) else [value]:
            yield f"\n[[{name}]]" if _is_tables(value) else f"\n[{name}]"
            yield from _lines(one, (*table, key))


def _is_tables(value: object) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"{type(value).__name__} cannot be written as TOML")


def task_name(text: str) -> str:
    """A task's name that is like a text: what cannot be in one becomes a hyphen."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:100]
    return name or "task"


def tag(text: str) -> str | None:
    """A text as a tag of ours; None where it comes to none."""
    found = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")
    return found if re.match(r"^[A-Za-z]", found) and found not in ("and", "or", "not") else None


_HOST_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")


def host_values(values: Mapping[str, Any], where: str, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables whose values may be `${NAME}` or `${NAME:-default}` of this machine's environment.

    Raises:
        NoCounterpartError: when one is not set here and has no default.
    """

    def fill(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name in env:
            return env[name]
        if default is None:
            raise NoCounterpartError(f"{where} needs the variable {name}, which is not set here")
        return default

    return {name: _HOST_VARIABLE.sub(fill, str(value)) for name, value in values.items()}


def host_secrets(data: object) -> tuple[str, ...]:
    """The variables with `${NAME}` anywhere in a manifest that are probably secret by their names."""
    names = {match["name"] for match in _HOST_VARIABLE.finditer(repr(data))}
    return tuple(sorted(filter(is_secret_name, names)))
