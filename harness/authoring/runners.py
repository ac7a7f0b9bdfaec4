"""The command that runs a commit's tests, told from the repo and from the tests themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath

from harness.authoring.commits import Commit, file_at, mode_at, names_in
from harness.authoring.edits import language_of
from harness.authoring.writing import Runner

_PYTEST = re.compile(
    r"^\s*(import pytest|from pytest\b)|^(async )?def test_|^class Test\w*(\(object\))?:", re.MULTILINE
)
_PLUGINS = {
    "pytest-asyncio": "pytest_asyncio.plugin",
    "pytest-mock": "pytest_mock",
    "anyio": "anyio.pytest_plugin",
}


def runner_of(repo: Path, commit: Commit) -> Runner | str:
    """Find the runner of a commit's tests, or the reason why there is none."""
    tests = [path for path in commit.tests if PurePosixPath(path).name not in ("conftest.py", "__init__.py")]
    python = [path for path in tests if language_of(path, "") == "python" and _is_test_file(path)]
    node = [path for path in tests if language_of(path, "") == "javascript"]
    if python:
        texts = [file_at(repo, commit.id, path).decode("utf-8", "replace") for path in python]
        uses_pytest = any(_PYTEST.search(text) for text in texts)
        paths = ("src", ".") if mode_at(repo, commit.id, "src") == "040000" else (".",)
        plugins = _plugins(repo, commit) if uses_pytest else ()
        return Runner("pytest" if uses_pytest else "unittest", tuple(python), paths, plugins)
    if node:
        texts = [file_at(repo, commit.id, path).decode("utf-8", "replace") for path in node]
        if all(re.search(r"['\"]node:test['\"]", text) for text in texts):
            return Runner("node", tuple(node))
        return f"its tests are not of node's own runner ({_script(repo, commit)})"
    return "no runner is known for its tests"


def _is_test_file(path: str) -> bool:
    stem = PurePosixPath(path).stem
    return stem.startswith("test") or stem.endswith(("_test", "Test"))


def _plugins(repo: Path, commit: Commit) -> tuple[str, ...]:
    names = names_in(repo, commit.parent)
    files = [
        name
        for name in names
        if re.fullmatch(r"pyproject\.toml|[^/]*requirements[^/]*\.txt|setup\.cfg", name)
    ]
    text = "\n".join(file_at(repo, commit.parent, name).decode("utf-8", "replace") for name in files)
    return tuple(module for name, module in _PLUGINS.items() if re.search(rf"\b{name}\b", text))


def _script(repo: Path, commit: Commit) -> str:
    try:
        return str(json.loads(file_at(repo, commit.id, "package.json"))["scripts"]["test"])
    except (ValueError, KeyError, TypeError):
        return "no test script"
