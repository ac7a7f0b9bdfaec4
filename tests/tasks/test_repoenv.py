"""What a repo declares that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tasks.repoenv import Declared, declared
from tests.support.folders import write_files

UV_LOCK = '[[package]]\nname = "attrs"\nversion = "24.1.0"\n[[package]]\nname = "shop"\nversion = "1"\nsource = {editable = "."}\n'


def of(root: Path, files: dict[str, str]) -> Declared:
    write_files(root, files)
    return declared(root)


@pytest.mark.parametrize(
    ("files", "requirements"),
    [
        ({"requirements.txt": "# a\nattrs>=22 # b\n-r other.txt\n-e .\n./here\n"}, ("attrs>=22",)),
        ({"requirements/dev.txt": "attrs==1 --hash=sha256:00\n"}, ("attrs==1",)),
        ({"pyproject.toml": '[project]\nname = "a"\ndependencies = ["attrs"]\n'}, ("attrs",)),
        ({"pyproject.toml": '[project.optional-dependencies]\ntest = ["pytest"]\ngpu = ["torch"]\n'}, ("pytest",)),
        ({"pyproject.toml": '[dependency-groups]\ndev = ["ruff", {include-group = "x"}]\n'}, ("ruff",)),
        (
            {
                "pyproject.toml": '[dependency-groups]\ntyping = ["mypy"]\ntest = ["pytest"]\n'
                'dev = [{include-group = "test"}, {include-group = "typing"}, {include-group = "dev"}]\n'
            },
            ("pytest", "mypy"),
        ),
        (
            {
                "pyproject.toml": '[project]\nname = "a.B"\n[project.optional-dependencies]\ncli = ["click"]\n'
                'test = ["pytest", "A-b[cli,test]"]\n'
            },
            ("pytest", "click"),
        ),
        (
            {
                "setup.cfg": "[options]\ninstall_requires =\n    attrs; python_version > '3'\n    idna\n"
                "[options.extras_require]\ntest = pytest; mock\ngpu = torch\n"
            },
            ("attrs; python_version > '3'", "idna", "pytest", "mock"),
        ),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\nattrs = "^22.1"\n'}, ("attrs>=22.1,<23",)),
        ({"tests/test_a.py": "def test_a():\n    pass\n"}, ("pytest",)),
        ({"tests/test_a.py": "import unittest\n"}, ()),
    ],
)
def test_python_packages(tmp_path: Path, files: dict[str, str], requirements: tuple[str, ...]) -> None:
    """Of requirements files, pyproject's tables, Poetry's, and the runner that the tests need."""
    assert of(tmp_path, files).requirements == requirements


def test_versions_of_a_lock_file(tmp_path: Path) -> None:
    """But for the repo's own package."""
    assert of(tmp_path, {"uv.lock": UV_LOCK}).pins == ("attrs==24.1.0",)


def test_node_and_others(tmp_path: Path) -> None:
    """A package.json that needs something, a devcontainer's Dockerfile; what is asked for and not done is told."""
    found = of(tmp_path, {"package.json": '{"dependencies": {"a": "1"}}', "package-lock.json": "{}"})
    assert found.node == ("package.json", "package-lock.json")
    found = of(
        tmp_path / "other",
        {
            "package.json": "{}",
            ".devcontainer/devcontainer.json": '{"build": {"dockerfile": "Box"}}',
            ".devcontainer/Box": "FROM base\n",
            ".tool-versions": "python 3.9.1\n",
            "pyproject.toml": "no TOML",
        },
    )
    assert (found.node, found.dockerfile) == ((), ".devcontainer/Box")
    assert [note.split(" ")[0] for note in found.notes] == ["pyproject.toml", ".tool-versions"]
