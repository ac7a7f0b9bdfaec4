"""What a repo declares that it needs: packages of Python and Node, their versions, and the runner of its tests."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EXTRAS = re.compile(r"test|dev|ci|lint|doc", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_NODE_LOCKS = ("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock")


@dataclass(frozen=True)
class Declared:
    """What is declared. `requirements` are pip's, `pins` what a lock file says of versions, `sources` the files that
    told it, by their paths in the repo.
    """

    requirements: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    python_paths: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    dockerfile: str | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def declared(repo: Path) -> Declared:
    """Read what a repo declares. What cannot be read is told in `notes`."""
    notes: list[str] = []
    sources: list[str] = []
    requirements = list(_unique([*_of_requirements(repo, sources), *_of_pyproject(repo, sources, notes)]))
    if _uses_pytest(repo) and not any(_name(one) == "pytest" for one in requirements):
        requirements.append("pytest")
    pins = list(_pins(repo, sources, notes))
    node = [name for name in ("package.json", *_NODE_LOCKS) if (repo / name).is_file()]
    node = node if "package.json" in node else []
    notes += _versions(repo)
    return Declared(
        tuple(requirements),
        tuple(pins),
        ("src",) if (repo / "src").is_dir() and (requirements or (repo / "pyproject.toml").is_file()) else (),
        tuple(node) if _needs_packages(repo) else (),
        _dockerfile(repo),
        tuple(notes),
        tuple([*sources, *node]),
    )


def _of_requirements(repo: Path, sources: list[str]) -> Iterator[str]:
    files = sorted([*repo.glob("*requirements*.txt"), *repo.glob("requirements/*.txt")])
    for file in files:
        sources.append(file.relative_to(repo).as_posix())
        for line in file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ").splitlines():
            bare = re.sub(r"(^|\s)#.*$", "", line)
            bare = re.sub(r"\s--hash=\S+", "", bare).strip()
            # Other files are read by themselves; options are the installer's, and paths are the repo's own.
            if bare and _NAME.match(bare) and not bare.startswith(("-", ".")):
                yield bare


def _of_pyproject(repo: Path, sources: list[str], notes: list[str]) -> Iterator[str]:
    data = _toml(repo / "pyproject.toml", notes)
    if not data:
        return
    sources.append("pyproject.toml")
    project = data.get("project", {})
    yield from _texts(project.get("dependencies"))
    extras = project.get("optional-dependencies", {})
    for name, group in extras.items():
        if _EXTRAS.search(name):
            yield from (one for one in _texts(group) if _name(one) != _name(str(project.get("name", ""))))
    for name, group in data.get("dependency-groups", {}).items():
        if _EXTRAS.search(name):
            yield from _texts(group)
    poetry = data.get("tool", {}).get("poetry", {})
    tables = [poetry.get("dependencies", {}), poetry.get("dev-dependencies", {})]
    tables += [group.get("dependencies", {}) for group in poetry.get("group", {}).values()]
    for table in tables:
        yield from (_of_poetry(name, value) for name, value in table.items() if name != "python")


def _of_poetry(name: str, value: Any) -> str:
    version = value if isinstance(value, str) else value.get("version", "*") if isinstance(value, dict) else "*"
    found = re.fullmatch(r"([\^~])(\d+)((?:\.\d+)*)", version)
    if found:
        sign, major, rest = found.groups()
        parts = [major, *rest.split(".")[1:]]
        upper = str(int(major) + 1) if sign == "^" and major != "0" or len(parts) < 2 else f"{major}.{int(parts[1]) + 1}"
        return f"{name}>={major}{rest},<{upper}"
    return name if version == "*" else f"{name}=={version}" if version[:1].isdigit() else f"{name}{version}"


def _pins(repo: Path, sources: list[str], notes: list[str]) -> Iterator[str]:
    for lock in ("uv.lock", "poetry.lock"):
        data = _toml(repo / lock, notes)
        if data:
            sources.append(lock)
            for package in data.get("package", []):
                is_own = isinstance(package.get("source"), dict) and set(package["source"]) & {"editable", "virtual"}
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
    if any((repo / name).is_file() for name in ("pytest.ini", "conftest.py", "tests/conftest.py", "test/conftest.py")):
        return True
    files = [*repo.glob("test_*.py"), *repo.glob("tests/**/test_*.py"), *repo.glob("test/**/test_*.py")]
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in sorted(files)[:200])
    return any(re.search(r"^(import pytest|from pytest\b|(async )?def test_)", text, re.MULTILINE) for text in texts)


def _needs_packages(repo: Path) -> bool:
    try:
        data = json.loads((repo / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and any(data.get(key) for key in ("dependencies", "devDependencies", "workspaces"))


def _versions(repo: Path) -> Iterator[str]:
    """Versions of languages that are asked for: the template's own are used, and this is told."""
    file = repo / ".tool-versions"
    if file.is_file():
        asked = ", ".join(" ".join(line.split()) for line in file.read_text(errors="replace").splitlines() if line.strip())
        yield f".tool-versions asks for {asked}: the template's own are used (name another in [sandbox] template)"


def _dockerfile(repo: Path) -> str | None:
    for name in ("Dockerfile", ".devcontainer/Dockerfile"):
        if (repo / name).is_file():
            return name
    for name in (".devcontainer/devcontainer.json", ".devcontainer.json"):
        if (repo / name).is_file():
            text = re.sub(r"^\s*//.*$", "", (repo / name).read_text(errors="replace"), flags=re.MULTILINE)
            found = re.search(r'"dockerfile"\s*:\s*"([^"]+)"', text, re.IGNORECASE)
            path = (repo / name).parent / found.group(1) if found else None
            if path and path.is_file() and path.resolve().is_relative_to(repo.resolve()):
                return path.resolve().relative_to(repo.resolve()).as_posix()
    return None


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def _unique(requirements: list[str]) -> Iterator[str]:
    """Each once; of the same package, all that is said of it."""
    yield from dict.fromkeys(requirement.strip() for requirement in requirements)
