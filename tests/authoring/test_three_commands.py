"""From an empty folder to a proven task of one's own repo, with its dependencies: what docs/writing-tasks.md shows."""

from __future__ import annotations

import json
import shlex
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness.cli import main
from tests.authoring.test_mine import commit
from tests.support.folders import write_files
from tests.support.git_server import git

PAGE = Path(__file__).parents[2] / "docs" / "writing-tasks.md"
RATES = "def rate():\n    return 2\n"
METADATA = "Metadata-Version: 2.1\nName: tinyrates\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel(folder: Path) -> None:
    """A package that only this folder has."""
    folder.mkdir()
    info = "tinyrates-1.0.dist-info"
    with zipfile.ZipFile(folder / "tinyrates-1.0-py3-none-any.whl", "w") as file:
        for name, text in (("tinyrates.py", RATES), (f"{info}/METADATA", METADATA), (f"{info}/WHEEL", WHEEL)):
            file.writestr(name, text)
        file.writestr(
            f"{info}/RECORD", f"tinyrates.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def python_repo(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Needs a package, which pip finds by its own settings."""
    wheel(root / "wheels")
    monkeypatch.setenv("PIP_FIND_LINKS", str(root / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    repo = root / "own"
    git("init", "-q", "-b", "main", str(repo))
    commit(repo, "First", {"requirements.txt": "tinyrates==1.0\n", "shop.py": "def price():\n    return 0\n"})
    test = (
        "import unittest\n\nfrom shop import price\n\n\nclass PriceTest(unittest.TestCase):\n"
        "    def test_price_is_the_rate(self):\n        self.assertEqual(price(), 2)\n"
    )
    code = "from tinyrates import rate\n\n\ndef price():\n    return rate()\n"
    commit(
        repo, "The price is the rate", {"shop.py": code, "tests/test_shop.py": test, "tests/__init__.py": ""}
    )
    return repo


def node_repo(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Needs a package that npm takes from a file."""
    about = {
        "package.json": '{"name": "tinyrates", "version": "1.0.0"}',
        "index.js": "exports.rate = () => 2;\n",
    }
    write_files(root / "package", about)
    with tarfile.open(root / "tinyrates.tgz", "w:gz") as file:
        file.add(root / "package", "package")
    repo = root / "own"
    git("init", "-q", "-b", "main", str(repo))
    package = {"name": "shop", "dependencies": {"tinyrates": f"file:{root}/tinyrates.tgz"}}
    first = {"package.json": json.dumps(package), "shop.js": "exports.price = () => 0;\n"}
    commit(repo, "First", first)
    test = (
        'const test = require("node:test");\nconst assert = require("node:assert");\n'
        'const { price } = require("../shop.js");\n\n'
        'test("the price is the rate", () => assert.equal(price(), 2));\n'
    )
    code = 'const { rate } = require("tinyrates");\nexports.price = () => rate();\n'
    commit(repo, "The price is the rate", {"shop.js": code, "test/shop.test.js": test})
    return repo


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
@pytest.mark.parametrize("kind", ["python", "node"])
def test_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """As the page has them, but for the first, which installs harness; and the one that mines a clone."""
    if kind == "node" and subprocess.run(["npm", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no npm here")
    repo = {"python": python_repo, "node": node_repo}[kind](tmp_path, monkeypatch)
    three, one = (block.split("```")[0].splitlines() for block in PAGE.read_text().split("```sh\n")[1:3])
    assert (three[0], len(three), len(one)) == ("pip install pytest-claude-code", 3, 1)
    work = tmp_path / "empty"
    work.mkdir()
    for place, commands in ((work, three[1:]), (repo, one)):
        monkeypatch.chdir(place)
        for command in commands:
            code = main(shlex.split(command.replace("~/code/shop", str(repo)))[1:])
            told = capsys.readouterr().out
            assert code == 0, told
        assert ("1 task: no errors" if place == work else "2 commits, 1 candidate, 1 proven") in told
