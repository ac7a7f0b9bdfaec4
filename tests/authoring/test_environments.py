"""Repos with their own package managers and runners of tests, in a sandbox that `env = "auto"` has made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.cli import main
from tests.authoring.test_mine import commit
from tests.support.folders import task_folder, write_files
from tests.support.git_server import git

ODD = 'exports.sign = (n) => (require("is-odd")(n) ? "odd" : "even");\n'
JEST = 'const { sign } = require("./sign.js");\ntest("3 is odd", () => expect(sign(3)).toBe("odd"));\n'
VITEST = (
    'import { expect, test } from "vitest";\nimport { sign } from "./sign.js";\n' + JEST.partition("\n")[2]
)
NODE_TEST = JEST.replace("test(", 'require("node:test")(', 1).replace(
    'expect(sign(3)).toBe("odd")', 'require("node:assert").equal(sign(3), "odd")'
)
PIP_TEST = (
    "import subprocess\nfrom importlib.metadata import version\n\nimport idna\n\nfrom sign import sign\n\n\n"
    "def test_sign():\n    assert sign(idna.encode('a')) == 'odd'\n    assert version('sign-of') == '1.2'\n"
    "    assert subprocess.run(['sign-of'], capture_output=True).stdout == b'even\\n', 'the command'\n"
)
PYPROJECT = (
    '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "sign-of"\nversion = "1.2"\n'
    '[project.scripts]\nsign-of = "sign:main"\n'
    '[dependency-groups]\nnet = ["idna"]\ntest = ["pytest", {include-group = "net"}]\n'
)
PYTHON = (
    "def sign(text):\n    return 'odd' if len(text) % 2 else 'even'\n\n\ndef main():\n    print(sign(''))\n"
)
LOCKED = ("exec", "--yes", "--")
NEEDS_ODD = {"name": "a", "version": "1.0.0", "dependencies": {"is-odd": "3.0.0"}}

KINDS: Mapping[str, tuple[dict[str, object], tuple[str, ...], dict[str, str], str, str]] = {
    "jest": ({**NEEDS_ODD, "devDependencies": {"jest": "^29"}}, (), {}, "sign.test.js", "npx jest"),
    "vitest": ({**NEEDS_ODD, "devDependencies": {"vitest": "^2"}}, (), {}, "sign.test.mjs", "npx vitest run"),
    "pnpm": (NEEDS_ODD, (*LOCKED, "pnpm@9", "install", "--lockfile-only"), {}, "a.test.js", "node --test"),
    "yarn": (NEEDS_ODD, (*LOCKED, "yarn@1", "install", "--ignore-scripts"), {}, "a.test.js", "node --test"),
    "berry": (
        NEEDS_ODD,
        ("exec", "--yes", "--package=@yarnpkg/cli-dist@4.5.3", "--", "yarn", "install"),
        {"yarn.lock": ""},
        "a.test.js",
        "node --test",
    ),
    "workspaces": (
        {"name": "root", "private": True, "workspaces": ["packages/*"]},
        ("install", "--package-lock-only"),
        {"packages/b/package.json": json.dumps({**NEEDS_ODD, "name": "b"}), "packages/b/index.js": ODD},
        "a.test.js",
        "node --test",
    ),
    "python": (
        {},
        (),
        {"pyproject.toml": PYPROJECT},
        "tests/test_sign.py",
        "cd tests && python3 -m pytest -q",
    ),
}


def npm(folder: Path, *words: str) -> None:
    done = subprocess.run(
        ["npm", *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        pytest.skip(f"npm's registry is not in reach: {done.stderr[-200:]}")


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
@pytest.mark.parametrize("kind", KINDS)
def test_a_repo_is_tested_by_its_own_runner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """With the packages of its lock file; a repo that is a package itself is installed, with its commands."""
    package, lock, more, test, command = KINDS[kind]
    repo = tmp_path / "repo"
    write_files(repo, {**more, ".gitignore": "node_modules\n.yarn\n.pnp*\n"})
    if package:
        npm(repo, "view", "is-odd", "version")
        write_files(repo, {"package.json": json.dumps(package)})
        if lock:
            npm(repo, *lock)
        source, right = "sign.js", 'module.exports = require("b");\n' if kind == "workspaces" else ODD
        starter = 'exports.sign = () => "?";\n'
    else:
        pip = ["python3", "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path / "got"), "idna"]
        if subprocess.run(pip, capture_output=True, check=False).returncode:
            pytest.skip("no index of Python's packages is in reach")
        source, right, starter = "src/sign.py", PYTHON, "def sign(text):\n    return '?'\n"
    git("init", "-q", "-b", "main", str(repo))
    texts = {"jest": JEST, "vitest": VITEST, "python": PIP_TEST}
    commit(repo, "First", {source: starter, test: texts.get(kind, NODE_TEST)})
    folder = task_folder(
        tmp_path / "tasks",
        kind,
        prompts={"prompt.md": "Mend `sign`.\n"},
        toml=f'[repo]\ngit = "../../repo"\nenv = "auto"\n[checks.run]\ntests = {json.dumps(command)}\n',
        checks={},
        repo={},
        solution={source: right},
    )
    code = main(["validate", str(folder), "--times", "1", "--mutants", "0"])
    told = capsys.readouterr().out
    assert (code, "could not" in told) == (0, False), told
