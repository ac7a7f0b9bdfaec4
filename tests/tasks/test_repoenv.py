"""What a repo declares that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tasks.devcontainer import Container
from harness.tasks.ownpackage import OwnPackage
from harness.tasks.repoenv import Declared, read_declared
from tests.support.folders import write_files

UV_LOCK = (
    '[[package]]\nname = "attrs"\nversion = "24.1.0"\n'
    '[[package]]\nname = "shop"\nversion = "1"\nsource = {editable = "."}\n'
)


def of(root: Path, files: dict[str, str]) -> Declared:
    write_files(root, files)
    return read_declared(root)


@pytest.mark.parametrize(
    ("files", "requirements"),
    [
        ({"requirements.txt": "# a\nattrs>=22 # b\n-r other.txt\n-e .[a]\n./here\n"}, ("attrs>=22",)),
        (
            {"requirements.txt": "-r base/all.in\n-e git+https://a.invalid/b\n", "base/all.in": "idna\n"},
            ("git+https://a.invalid/b", "idna"),
        ),
        ({"requirements/dev.txt": "attrs==1 --hash=sha256:00\n"}, ("attrs==1",)),
        ({"pyproject.toml": '[project]\nname = "a"\ndependencies = ["attrs"]\n'}, ("attrs",)),
        (
            {"pyproject.toml": '[project.optional-dependencies]\ntest = ["pytest"]\ngpu = ["torch"]\n'},
            ("pytest",),
        ),
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
        (
            {"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\nattrs = "^22.1"\n'},
            ("attrs>=22.1,<23",),
        ),
        (
            {
                "pyproject.toml": '[tool.poetry.dependencies]\na = {version = "~1.2", extras = ["x"]}\nb = "^1 || ^2"\n'
            },
            ("a[x]>=1.2,<1.3", "b"),
        ),
        ({"tests/test_a.py": "def test_a():\n    pass\n"}, ("pytest",)),
        ({"a_test.py": "import pytest\n"}, ("pytest",)),
        ({"tests/test_a.py": "import unittest\n"}, ()),
    ],
)
def test_python_packages(tmp_path: Path, files: dict[str, str], requirements: tuple[str, ...]) -> None:
    """Of requirements files, pyproject's tables, Poetry's, and the runner that the tests need."""
    assert of(tmp_path, files).requirements == requirements


BUILT = "[build-system]\nrequires = []\n"


@pytest.mark.parametrize(
    ("files", "package"),
    [
        ({"pyproject.toml": '[project]\nname = "a"\nversion = "1"\n'}, None),
        (
            {"pyproject.toml": BUILT + '[tool.poetry]\nname = "a"\nversion = "1"\npackage-mode = false\n'},
            None,
        ),
        ({"pyproject.toml": "[tool.x]\n", "src/a.py": ""}, OwnPackage("repo", "0.0.0", ("src",))),
        (
            {
                "pyproject.toml": BUILT
                + '[project]\nname = "A.b"\ndynamic = ["version"]\n[project.scripts]\nab = "a_b:main"\n'
                '[project.entry-points.pytest11]\nab = "a_b.plugin"\nbad = "a; b"\n',
                "src/a_b/__init__.py": "__version__ = '1.2.3'\n",
            },
            OwnPackage(
                "A.b",
                "1.2.3",
                ("src",),
                (("console_scripts", "ab", "a_b:main"), ("pytest11", "ab", "a_b.plugin")),
            ),
        ),
        (
            {
                "pyproject.toml": BUILT
                + '[tool.poetry]\nname = "a"\nversion = "2"\npackages = [{include = "a", from = "lib"}]\n'
                '[tool.poetry.scripts]\na = "a:run"\n',
                "lib/a.py": "",
            },
            OwnPackage("a", "2", ("lib",), (("console_scripts", "a", "a:run"),)),
        ),
        (
            {
                "setup.cfg": "[metadata]\nname = a\nversion = file: VERSION\n[options]\npackage_dir =\n    = code\n"
                "[options.entry_points]\nconsole_scripts =\n    a = a:run\n",
                "code/a.py": "",
            },
            OwnPackage("a", "0.0.0", ("code",), (("console_scripts", "a", "a:run"),)),
        ),
    ],
)
def test_the_package_that_a_repo_is(
    tmp_path: Path, files: dict[str, str], package: OwnPackage | None
) -> None:
    """By its metadata, as pip would install it; a version that no file tells is told to be unknown."""
    found = of(tmp_path, files)
    assert found.package == package
    assert bool(found.notes) == (
        package is not None and package.version == "0.0.0" and package.name != "repo"
    )


def test_versions_of_a_lock_file(tmp_path: Path) -> None:
    """But for the repo's own package; and what requirements files name as constraints. Names in vain are told."""
    names = {"requirements.txt": "-c limits.txt\n-r lost.txt\n./sub\n", "limits.txt": "idna==3.6\n"}
    found = of(tmp_path, {"uv.lock": UV_LOCK, **names})
    assert (found.requirements, found.pins) == ((), ("idna==3.6", "attrs==24.1.0"))
    assert [note.split(" ")[:2] for note in found.notes] == [
        ["requirements.txt:", "./sub"],
        ["lost.txt", "is"],
    ]


def test_node_and_others(tmp_path: Path) -> None:
    """A package.json that needs something, a devcontainer's Dockerfile; what is asked for and not done is told."""
    found = of(tmp_path, {"package.json": '{"dependencies": {"a": "1"}}', "package-lock.json": "{}"})
    assert found.node == ("package.json", "package-lock.json")
    found = of(
        tmp_path / "other",
        {
            "package.json": "{}",
            ".devcontainer/devcontainer.json": '{/* a */ "build": {"dockerfile": "Box", "context": ".."},\n'
            '"features": {"http://a": {}}, // b\n}',
            ".devcontainer/Box": "FROM base\n",
            ".tool-versions": "python 3.9.1\n",
            "pyproject.toml": "no TOML",
        },
    )
    source = ".devcontainer/devcontainer.json"
    assert (found.node, found.container) == ((), Container(source, ".devcontainer/Box", "."))
    assert [note.split(" ")[0] for note in found.notes] == ["pyproject.toml", ".tool-versions", f"{source}:"]
    found = of(tmp_path / "image", {".devcontainer.json": '{"image": "python:3.11"}'})
    assert found.container == Container(".devcontainer.json", image="python:3.11")
