"""The package that a repo itself is, as its metadata declare it; none of its programs is run for it."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_VERSION = re.compile(r"\d[A-Za-z0-9.+!-]*")
_UNKNOWN = "0.0.0"
_COMPILING = ("maturin", "mesonpy", "scikit_build_core", "setuptools_rust")


@dataclass(frozen=True)
class OwnPackage:
    """Its name and version, the folders of the repo that it is imported from, and its entry points (group, name,
    object), of which those in `console_scripts` are commands.
    """

    name: str
    version: str
    roots: tuple[str, ...] = ("",)
    entry_points: tuple[tuple[str, str, str], ...] = ()


def own_package(
    repo: Path, pyproject: Mapping[str, Any], notes: list[str], *, is_python: bool
) -> OwnPackage | None:
    """The package that pip would install of the repo; None where it would not be a package. What is not known is told.

    `is_python`: something else says that it is about Python; `src/` is importable then.
    """
    setup = _setup_of(repo)
    project, tool = _table(pyproject, "project"), _table(pyproject, "tool")
    poetry = _table(tool, "poetry")
    name = project.get("name") or poetry.get("name") or setup.get("metadata", "name", fallback=None)
    is_built = (
        "build-system" in pyproject or (repo / "setup.py").is_file() or setup.has_option("metadata", "name")
    )
    is_none = poetry.get("package-mode") is False or _table(tool, "uv").get("package") is False
    if not isinstance(name, str) or not name or is_none or not is_built:
        is_python = is_python or (repo / "pyproject.toml").is_file()
        return OwnPackage("repo", _UNKNOWN, ("src",)) if _has_src(repo) and is_python else None
    told = project.get("version") or poetry.get("version") or setup.get("metadata", "version", fallback="")
    version = (
        told if isinstance(told, str) and _VERSION.fullmatch(told) else _version_in_code(repo, name, tool)
    )
    if version is None:
        notes.append(f"the version of {name} is told by no file, so it is installed as {_UNKNOWN}")
    backend = _table(pyproject, "build-system").get("build-backend", "")
    if any(str(backend).startswith(one) for one in _COMPILING):
        notes.append(f"what {name} compiles ({backend}) is not built: do it by [setup] run")
    points = tuple(_entry_points(project, poetry, setup))
    return OwnPackage(name, version or _UNKNOWN, tuple(dict.fromkeys(_roots(repo, tool, setup))), points)


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _has_src(repo: Path) -> bool:
    return (repo / "src").is_dir()


def _setup_of(repo: Path) -> configparser.ConfigParser:
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        settings.read(repo / "setup.cfg", encoding="utf-8")
    except (configparser.Error, ValueError):
        return configparser.ConfigParser()  # Whoever reads its requirements tells of it.
    return settings


def _version_in_code(repo: Path, name: str, tool: Mapping[str, Any]) -> str | None:
    """The version that a module of the package, or a file that is named for it, has as a constant."""
    module = re.sub(r"[-.]+", "_", name).lower()
    about = _table(_table(_table(tool, "setuptools"), "dynamic"), "version").get("file", ())
    named = [
        _table(_table(tool, "hatch"), "version").get("path"),
        *([about] if isinstance(about, str) else about),
    ]
    files = ("__init__", "__about__", "_version", "version", "__version__")
    usual = [f"{root}{module}/{file}.py" for root in ("", "src/") for file in files]
    for path in (*named, *usual, f"{module}.py"):
        file = repo / str(path)
        if not path or not file.is_file() or not file.resolve().is_relative_to(repo.resolve()):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if found := re.search(
            r"^(?:__version__|VERSION|version)\b[^=\n]*=\s*(['\"][^'\"\n]+['\"])", text, re.MULTILINE
        ):
            text = str(ast.literal_eval(found[1]))
        if _VERSION.fullmatch(text.strip()):
            return text.strip()
    return None


def _roots(repo: Path, tool: Mapping[str, Any], setup: configparser.ConfigParser) -> Iterator[str]:
    """The folders that its modules are in."""
    setuptools, poetry = _table(tool, "setuptools"), _table(tool, "poetry")
    hatch = _table(_table(_table(_table(tool, "hatch"), "build"), "targets"), "wheel")
    named = [
        _table(setuptools, "package-dir").get(""),
        *_list(_table(_table(setuptools, "packages"), "find"), "where"),
    ]
    named += [one.get("from") for one in _list(poetry, "packages") if isinstance(one, dict)]
    named += [str(PurePosixPath(one).parent) for one in _list(hatch, "packages") if isinstance(one, str)]
    named += re.findall(r"^\s*=\s*(\S+)", setup.get("options", "package_dir", fallback=""), re.MULTILINE)
    found = [str(PurePosixPath(one)) for one in named if isinstance(one, str) and (repo / one).is_dir()]
    yield from (one if one != "." else "" for one in found if not one.startswith(("/", "..")))
    if not found:
        yield "src" if _has_src(repo) else ""


def _list(table: Mapping[str, Any], key: str) -> list[Any]:
    found = table.get(key)
    return found if isinstance(found, list) else []


def _entry_points(
    project: Mapping[str, Any], poetry: Mapping[str, Any], setup: configparser.ConfigParser
) -> Iterator[tuple[str, str, str]]:
    groups = {"console_scripts": {**_table(poetry, "scripts"), **_table(project, "scripts")}}
    groups["gui_scripts"] = dict(_table(project, "gui-scripts"))
    groups |= {
        key: dict(_table(_table(project, "entry-points"), key)) for key in _table(project, "entry-points")
    }
    groups |= {key: dict(_table(_table(poetry, "plugins"), key)) for key in _table(poetry, "plugins")}
    if setup.has_section("options.entry_points"):
        for group, text in setup.items("options.entry_points"):
            rows = (line.partition("=") for line in text.splitlines() if "=" in line)
            groups[group] = {
                **groups.get(group, {}),
                **{key.strip(): value.strip() for key, _, value in rows},
            }
    for group, points in groups.items():
        for name, target in points.items():
            if isinstance(target, str) and re.fullmatch(r"[\w.]+(\s*:\s*[\w.]+)?(\s*\[.*\])?", target):
                yield group, name, target
