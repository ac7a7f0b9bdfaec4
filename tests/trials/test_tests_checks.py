"""Tests that the harness runs itself: no exit, print, shadow or patch of the code under test makes them pass."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.records.record import CheckResult
from harness.runs.resources import local_platform
from harness.sandboxes.archive import pack
from harness.sandboxes.sandbox import Sandbox
from harness.tasks.loading import load_task
from harness.trials.checks import Place, run_checks
from harness.trials.seeding import seed
from tests.support.folders import task_folder
from tests.support.sandboxes import bash, with_sandbox

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
# What an agent leaves in place of a right answer; each module is tested by a file of its own.
MODULES = {
    "good": ADD,
    "bad": WRONG,
    "skips": "import unittest\ndef add(a, b):\n    raise unittest.SkipTest('no')\n",
    "raises": "def add(a, b):\n    raise KeyError(a)\n",
    "cannot_be_imported": "import nothing_of_that_name\n",
    "exits_at_import": "import os\nos._exit(0)\n",
    "exits_in_a_test": "import os\ndef add(a, b):\n    os._exit(0)\n",
    "ends_at_import": "raise SystemExit(0)\n",
    "ends_in_a_test": "def add(a, b):\n    raise SystemExit(0)\n",
    "is_killed": "import os\ndef add(a, b):\n    os.kill(os.getpid(), 9)\n",
    "replaces_itself": "import os\ndef add(a, b):\n    os.execvp('true', ['true'])\n",
    "exits_at_exit": f"import atexit, os\natexit.register(os._exit, 0)\n{WRONG}",
    "forks": "import os\ndef add(a, b):\n    if os.fork():\n        os._exit(0)\n    return a + b\n",
    "prints": f"print('OK', '2 passed', flush=True)\n{WRONG}",
    "patches_unittest": f"import unittest\nunittest.TestCase.assertEqual = lambda *given: None\n{WRONG}",
    "swaps_code": "import unittest\ndef nothing(self, first, second, msg=None):\n    pass\n"
    f"unittest.TestCase.assertEqual.__code__ = nothing.__code__\n{WRONG}",
    "patches_the_runner": "import unittest.case\nfrom contextlib import nullcontext\n"
    f"unittest.case._Outcome.testPartExecutor = lambda *given, **named: nullcontext()\n{WRONG}",
    "writes_the_report": "import glob, os\n"
    "for path in glob.glob(os.path.expanduser('~/.harness/report-*')):\n"
    "    with open(path) as file:\n        told = file.read()\n"
    "    with open(path, 'a') as file:\n        file.write(told)\n"
    f"{WRONG}",
}
TESTS = """\
import unittest

import {name}


class {name}_Tests(unittest.TestCase):
    def test_two_and_three(self):
        self.assertEqual({name}.add(2, 3), 5)

    def test_nothing(self):
        self.assertEqual({name}.add(0, 0), 0)
"""
# What stands in an agent's repo to be taken for something else.
HOOKS = """\
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().outcome = "passed"
"""
SHADOWS = {
    **{f"{name}.py": "raise SystemExit(0)\n" for name in ("unittest", "json", "pytest", "hmac", "re", "pluggy")},
    "sitecustomize.py": "import os\nos._exit(0)\n",
    "usercustomize.py": "import os\nos._exit(0)\n",
    "conftest.py": HOOKS,
    "tests/conftest.py": HOOKS,
    "pytest.ini": "[pytest]\naddopts = --collect-only -p evil\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--collect-only'\n",
    "tests/test_bad/__init__.py": "import unittest\nclass bad_Tests(unittest.TestCase):\n"
    "    def test_two_and_three(self):\n        pass\n    def test_nothing(self):\n        pass\n",
}
PASSED = {"test_two_and_three": "passed", "test_nothing": "passed"}


@dataclass(frozen=True)
class Suite:
    """A task with a check for each module."""

    toml: str
    files: Mapping[str, str]


def python_suite(runner: str) -> Suite:
    tests = {f"tests/test_{name}.py": TESTS.format(name=name) for name in MODULES}
    code = {f"{name}.py": text for name, text in MODULES.items()}
    checks = "".join(
        f"[checks.tests.{name}]\nrunner = '{runner}'\npaths = ['tests/test_{name}.py']\nmust_pass = ['*_Tests*']\n"
        for name in MODULES
    )
    files = {"tests/__init__.py": "", **tests, **code, **SHADOWS}
    return Suite(f"[checks]\nprotect = ['tests/test_*.py']\n{checks}", files)


def results(
    server: LocalServer, root: Path, suite: Suite, *, checks: Mapping[str, str] | None = None, ready: str = "true"
) -> dict[str, CheckResult]:
    """Each check's result, in one sandbox that has pytest."""
    folder = task_folder(root, toml=suite.toml, repo=dict(suite.files), checks=checks or {})
    task = load_task(folder)

    async def run(sandbox: Sandbox) -> dict[str, CheckResult]:
        baseline = await seed(sandbox, task)
        await give_pytest(sandbox)
        await bash(sandbox, ready)
        place = Place(sandbox, baseline, local_platform(server).has_own_processes, "run-trial")
        return {result.name: result for result in await run_checks(place, task, task.checks)}

    return with_sandbox(server, run, template="claude")


async def give_pytest(sandbox: Sandbox) -> None:
    """Put the tests' own pytest where the user's packages are, as a setup would that may reach PyPI."""
    names = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
    packages = {name: Path(str(importlib.import_module(name).__file__)).parent for name in names}
    packages["py.py"] = packages["pytest"].with_name("py.py")
    await sandbox.write("packages.tar", pack({}, packages))
    await bash(sandbox, 'cd; d=$(python3 -m site --user-site); mkdir -p "$d"; tar -xf packages.tar -C "$d"')


def outcomes(result: CheckResult) -> dict[str, str]:
    """The outcomes by the last part of the tests' names."""
    return {test.name.replace("::", ".").rpartition(".")[2]: test.outcome for test in result.tests or ()}


@pytest.fixture(scope="module", params=["unittest", "pytest"])
def python(
    request: pytest.FixtureRequest, server: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CheckResult]:
    return results(server, tmp_path_factory.mktemp("task"), python_suite(request.param))


def test_a_right_answer_passes_whatever_else_stands_in_the_repo(python: dict[str, CheckResult]) -> None:
    assert (python["good"].passed, python["good"].score) == (True, 1.0), python["good"].output_tail
    assert outcomes(python["good"]) == PASSED


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"good"}))
def test_nothing_else_passes(python: dict[str, CheckResult], name: str) -> None:
    """Whatever the code under test does about it."""
    assert not python[name].passed, python[name].output_tail
    assert python[name].score < 1


def test_the_verdicts_of_the_tests_are_told(python: dict[str, CheckResult]) -> None:
    """The score is the share of them that passed."""
    assert outcomes(python["bad"]) == {"test_two_and_three": "failed", "test_nothing": "passed"}
    assert python["bad"].score == 0.5
    assert outcomes(python["skips"]) == dict.fromkeys(PASSED, "skipped")
    assert set(outcomes(python["raises"]).values()) <= {"failed", "error"}


def test_a_run_that_ends_early_says_so(python: dict[str, CheckResult]) -> None:
    for name in ("exits_at_import", "exits_in_a_test", "is_killed", "replaces_itself"):
        assert "the tests ended early" in python[name].output_tail or name == "is_killed"
        assert python[name].score == 0


def test_a_changed_runner_is_noticed(python: dict[str, CheckResult]) -> None:
    """Another method, other code of the same one, and lines that the code under test adds to the report."""
    assert "TestCase.assertEqual was replaced while the tests ran" in python["patches_unittest"].output_tail
    assert "was replaced while the tests ran" in python["swaps_code"].output_tail
    assert "the report was changed by something else" in python["writes_the_report"].output_tail
