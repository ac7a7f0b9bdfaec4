"""The needs that a repo declares: packages of Python and Node, their versions, and the runner of its tests."""

from __future__ import annotations

import configparser
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.tasks.devcontainer import Container, container_of
from harness.tasks.ownpackage import OwnPackage, own_package

_EXTRAS = re.compile(r"test|dev|ci|lint|doc", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_NODE_LOCKS = ("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock")
_INCLUDED = re.compile(r"(-r|--requirement|-c|--constraint)[\s=]*(\S.*)")
_CONSTRAINTS = ("-c", "--constraint")
_EDITABLE = re.compile(r"^(-e|--editable)[\s=]*")
_WORKSPACES = "pnpm-workspace.yaml"


@dataclass(frozen=True)
class Declared:
    """The needs declared. `requirements` are pip's, `pins` what a lock file says of versions, `sources` the files that
    told it, by their paths in the repo.
    """

    requirements: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    package: OwnPackage | None = None
    node: tuple[str, ...] = ()
    container: Container | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def read_declared(repo: Path) -> Declared:
    """Read what a repo declares. What cannot be read is told in `notes`."""
    notes: list[str] = []
    sources: list[str] = []
    pins: list[str] = []
    pyproject = _toml(repo / "pyproject.toml", notes)
    found = [*_of_requirements(repo, sources, notes, pins), *_of_pyproject(pyproject, sources)]
    requirements = list(_unique([*found, *_of_setup(repo, sources, notes)]))
    if _uses_pytest(repo) and not any(_name(one) == "pytest" for one in requirements):
        requirements.append("pytest")
    pins += _pins(repo, sources, notes)
    node = list(_node_files(repo))
    notes += _versions(repo)
    container = container_of(repo, notes)
    return Declared(
        tuple(requirements),
        tuple(pins),
        own_package(repo, pyproject, notes, is_python=bool(requirements)),
        tuple(node),
        container,
        tuple(notes),
        (*sources, *(name for name in node if "/" not in name)),
    )


def _of_requirements(repo: Path, sources: list[str], notes: list[str], pins: list[str]) -> Iterator[str]:
    """Yield the lines of requirements files, and of those that they include; constraints go to `pins`."""
    files = sorted([*repo.glob("*requirements*.txt"), *repo.glob("requirements/*.txt")])
    left = [(file, "constraint" in file.name) for file in files]
    seen = set[Path]()
    for file, is_constraint in left:
        if file.resolve() in seen or not file.resolve().is_relative_to(repo.resolve()):
            continue
        seen.add(file.resolve())
        shown = Path(os.path.normpath(file)).relative_to(repo).as_posix()
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            notes.append(
                f"{shown} is not there, so nothing that it names is installed: mend what includes it"
            )
            continue
        sources.append(shown)
        for line in text.replace("\\\n", " ").splitlines():
            bare = re.sub(r"\s--hash=\S+", "", re.sub(r"(^|\s)#.*$", "", line)).strip()
            if included := _INCLUDED.match(bare):
                left.append((file.parent / included[2], is_constraint or included[1] in _CONSTRAINTS))
                continue
            named = _EDITABLE.sub("", bare)
            if named.startswith((".", "/", "file:")):
                # The repo's own package is imported from where it stands.
                if re.sub(r"\[.*", "", named.removeprefix("file:")).strip("./"):
                    notes.append(f"{shown}: {named} is a path, and is not installed: do it by [setup] run")
            elif _NAME.match(named) and is_constraint:
                pins.append(named)
            elif _NAME.match(named):
                yield named
            # Other options are the installer's.


def _of_pyproject(data: Mapping[str, Any], sources: list[str]) -> Iterator[str]:
    if not data:
        return
    sources.append("pyproject.toml")
    project = data.get("project", {})
    name = _name(str(project.get("name", "")))
    extras = {_name(key): _texts(group) for key, group in project.get("optional-dependencies", {}).items()}
    groups = data.get("dependency-groups", {})
    wanted = [
        *_texts(project.get("dependencies")),
        *(one for key, extra in extras.items() if _EXTRAS.search(key) for one in extra),
        *(one for key in groups if _EXTRAS.search(key) for one in _group(groups, key, [])),
    ]
    yield from _without_own(wanted, name, extras, set())
    poetry = data.get("tool", {}).get("poetry", {})
    tables = [poetry.get("dependencies", {}), poetry.get("dev-dependencies", {})]
    tables += [group.get("dependencies", {}) for group in poetry.get("group", {}).values()]
    for table in tables:
        yield from (_of_poetry(name, value) for name, value in table.items() if name != "python")


def _group(groups: Mapping[str, Any], key: str, within: Sequence[str]) -> Iterator[str]:
    """Yield the packages of a dependency group, and of those that it includes (PEP 735)."""
    found = groups.get(key, [])
    yield from _texts(found)
    for one in found if isinstance(found, list) else ():
        other = one.get("include-group") if isinstance(one, dict) else None
        if isinstance(other, str) and other not in (key, *within):
            yield from _group(groups, other, [*within, key])


def _without_own(
    wanted: Iterable[str], name: str, extras: Mapping[str, Sequence[str]], seen: set[str]
) -> Iterator[str]:
    """Requirements; in the place of the repo's own package with extras (`shop[cli]`), what these name."""
    for one in wanted:
        if not name or _name(one) != name:
            yield one
            continue
        for extra in re.findall(r"[\w.-]+", one.partition("[")[2].partition("]")[0]):
            if extra not in seen:
                seen.add(extra)
                yield from _without_own(extras.get(_name(extra), ()), name, extras, seen)


def _of_setup(repo: Path, sources: list[str], notes: list[str]) -> Iterator[str]:
    """Yield the packages of setup.cfg. setup.py is a program, and is not run."""
    file = repo / "setup.cfg"
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(file, encoding="utf-8")
    except (configparser.Error, ValueError) as error:
        notes.append(f"setup.cfg cannot be read, so nothing that it declares is installed: {error}")
        return
    extras = settings["options.extras_require"] if settings.has_section("options.extras_require") else {}
    lists = [settings.get("options", "install_requires", fallback="")]
    lists += [settings.get("options", "tests_require", fallback="")]
    lists += [value for key, value in extras.items() if _EXTRAS.search(key)]
    found = [
        line.strip() for text in lists for line in re.split(r"[\n;](?!\s*(?:python|sys|os|platform)_)", text)
    ]
    found = [line for line in found if _NAME.match(line)]
    if found:
        sources.append("setup.cfg")
    elif (repo / "setup.py").is_file() and not sources:
        notes.append(
            "setup.py is not run, so nothing that it alone declares is installed: name it in requirements.txt"
        )
    yield from found


def _of_poetry(name: str, value: Any) -> str:
    about = value if isinstance(value, dict) else {"version": value if isinstance(value, str) else "*"}
    version = str(about.get("version", "*"))
    if extras := _texts(about.get("extras")):
        name = f"{name}[{','.join(extras)}]"
    found = re.fullmatch(r"([\^~])(\d+)((?:\.\d+)*)", version)
    if found:
        sign, major, rest = found.groups()
        parts = [major, *rest.split(".")[1:]]
        upper = (
            str(int(major) + 1)
            if (sign == "^" and major != "0") or len(parts) < 2
            else f"{major}.{int(parts[1]) + 1}"
        )
        return f"{name}>={major}{rest},<{upper}"
    # The lock file decides where pip has no word (`^1 || ^2`).
    return (
        name
        if version == "*" or "|" in version or "^" in version
        else f"{name}=={version}"
        if version[:1].isdigit()
        else f"{name}{version}"
    )


def _pins(repo: Path, sources: list[str], notes: list[str]) -> Iterator[str]:
    for lock in ("uv.lock", "poetry.lock"):
        data = _toml(repo / lock, notes)
        if data:
            sources.append(lock)
            for package in data.get("package", []):
                is_own = isinstance(package.get("source"), dict) and set(package["source"]) & {
                    "editable",
                    "virtual",
                }
                if "version" in package and not is_own:
                    yield f"{package['name']}=={package['version']}"
            return


def _toml(file: Path, notes: list[str]) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        notes.append(f"{file.name} cannot be read, so nothing that it declares is installed: {error}")
        return {}


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _uses_pytest(repo: Path) -> bool:
    if any(
        (repo / name).is_file()
        for name in ("pytest.ini", "conftest.py", "tests/conftest.py", "test/conftest.py")
    ):
        return True
    places = ("", "tests/**/", "test/**/")
    files = [
        file for place in places for name in ("test_*.py", "*_test.py") for file in repo.glob(place + name)
    ]
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in sorted(files)[:200])
    return any(
        re.search(r"^(import pytest|from pytest\b|(async )?def test_)", text, re.MULTILINE) for text in texts
    )


def _needs_packages(repo: Path) -> bool:
    try:
        data = json.loads((repo / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if (repo / _WORKSPACES).is_file():
        return True
    return isinstance(data, dict) and any(
        data.get(key) for key in ("dependencies", "devDependencies", "workspaces")
    )


def _node_files(repo: Path) -> Iterator[str]:
    """The files by which packages of Node are installed; none where none are needed."""
    if not _needs_packages(repo):
        return
    yield from (name for name in ("package.json", *_NODE_LOCKS, _WORKSPACES) if (repo / name).is_file())
    if (repo / _WORKSPACES).is_file() or '"workspaces"' in (repo / "package.json").read_text(
        errors="replace"
    ):
        below = (path.relative_to(repo) for path in repo.glob("*/**/package.json"))
        yield from sorted(path.as_posix() for path in below if "node_modules" not in path.parts)


def _versions(repo: Path) -> Iterator[str]:
    """Versions of languages that are asked for: the template's own are used, and this is told."""
    file = repo / ".tool-versions"
    if file.is_file():
        asked = ", ".join(
            " ".join(line.split()) for line in file.read_text(errors="replace").splitlines() if line.strip()
        )
        yield f".tool-versions asks for {asked}: the template's own are used (name another in [sandbox] template)"


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def _unique(requirements: list[str]) -> Iterator[str]:
    """Each once; of the same package, all that is said of it."""
    yield from dict.fromkeys(requirement.strip() for requirement in requirements)
