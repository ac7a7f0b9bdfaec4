"""Tests that the harness runs itself: no exit, print, shadow or patch of the code under test makes them pass."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.records.record_parts import CheckResult
from harness.runs.resources import local_platform
from harness.sandboxes.archive import pack
from harness.sandboxes.sandbox import Sandbox
from harness.tasks.loading import load_task
from harness.trials.checks import Place, run_checks
from harness.trials.seeding import seed
from tests.support.folders import task_folder, write_files
from tests.support.sandboxes import bash, with_sandbox

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
TEST_OBJECT = "import sys\ndef add(a, b):\n    test = sys._getframe(1).f_locals['self']\n"
# What an agent leaves in place of a right answer; each module is tested by a file of its own.
MODULES = {
    # With a class whose objects equal some things alone.
    "good": f"class Sum:\n    def __eq__(self, other):\n        return self.value == other\n"
    f"class Odd:\n    def __eq__(self, other):\n        return NotImplemented\n{ADD}",
    "bad": WRONG,
    "shadowed": WRONG,
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
    "stops_quietly": "from unittest.case import _ShouldStop\ndef add(a, b):\n    raise _ShouldStop\n",
    "fails_as_another": "import unittest\nunittest.TestCase.failureException = unittest.SkipTest\n"
    f"unittest.case._ShouldStop = unittest.SkipTest\n{WRONG}",
    "puts_it_back": "import unittest\nreal = unittest.TestCase.assertEqual\n"
    "def once(*given):\n    unittest.TestCase.assertEqual = real\n"
    f"unittest.TestCase.assertEqual = once\n{WRONG}",
    "traces": f"import sys\nsys.settrace(lambda *given: None)\n{ADD}",
    "speaks_for_the_test": "import sys\ndef add(a, b):\n    test = sys._getframe(1).f_locals['self']\n"
    "    test._outcome.result.addSuccess(test)\n    test._outcome.result.addFailure = lambda *given: None\n",
    "equals_everything": "class E:\n    def __eq__(self, other):\n        return True\n"
    "def add(a, b):\n    return E()\n",
    "has_a_wildcard": "class Any:\n    def __eq__(self, other):\n        return True\n"
    f"def fits(pattern, value):\n    return Any() == value and value == Any()\n{ADD}",
    "equals_numbers": "class N(int):\n    def __eq__(self, other):\n        return isinstance(other, int)\n"
    "def add(a, b):\n    return N()\n",
    "equals_by_a_text": "space = {}\nexec('class E:\\n def __eq__(self, other): return self', space)\n"
    "def add(a, b):\n    return space['E']()\n",
    "equals_by_an_object": "class Yes:\n    def __call__(self, other):\n        return 1\n"
    "class E:\n    __eq__ = Yes()\ndef add(a, b):\n    return E()\n",
    "equals_small_numbers": "class E:\n    def __eq__(self, other):\n        return -9 < other < 9\n"
    "def add(a, b):\n    return E()\n",
    "is_any": "from unittest.mock import ANY\ndef add(a, b):\n    return ANY\n",
    "asserts_in_the_test": f"{TEST_OBJECT}    test.assertEqual = lambda *given: None\n    return a - b\n",
    "compares_in_the_test": f"{TEST_OBJECT}    test.addTypeEqualityFunc(int, lambda *given, **named: None)\n"
    "    return a - b\n",
    "expects_a_failure": f"{TEST_OBJECT}    test._outcome.expecting_failure = True\n    return a - b\n",
    "keeps_its_failure": "import unittest\n"
    "class Fine(unittest.case._Outcome):\n    success = property(lambda self: True, lambda *given: None)\n"
    f"{TEST_OBJECT}    test._outcome.result = unittest.TestResult()\n    test._outcome.__class__ = Fine\n"
    "    return a - b\n",
    "stands_in_the_test": "import sys, types, unittest\nclass Case(unittest.TestCase):\n"
    "    assertEqual = lambda *given: None\n"
    "vars(sys.modules['tests.test_stands_in_the_test'])['unittest'] = types.SimpleNamespace(TestCase=Case)\n"
    f"{WRONG}",
    "makes_its_objects": "import sys, types, unittest\nclass Meta(type):\n    def __call__(cls, *given):\n"
    "        test = super().__call__(*given)\n        test.assertEqual = lambda *given: None\n        return test\n"
    "class Case(unittest.TestCase, metaclass=Meta):\n    pass\n"
    "vars(sys.modules['tests.test_makes_its_objects'])['unittest'] = types.SimpleNamespace(TestCase=Case)\n"
    f"{WRONG}",
    "tells_for_the_runner": "import os, sys\ndef add(a, b):\n    frame = sys._getframe()\n"
    "    while 'tell' not in frame.f_locals:\n        frame = frame.f_back\n"
    "    for name in ('two_and_three', 'nothing'):\n"
    "        name = f'tests.test_tells_for_the_runner.tells_for_the_runner_Tests.test_{name}'\n"
    "        frame.f_locals['tell']('test', 'passed', name)\n"
    "    frame.f_locals['tell']('end')\n    os._exit(0)\n",
    "keeps_the_verdicts": "import gc\ndef add(a, b):\n    for one in gc.get_objects():\n"
    "        if type(one).__name__ == 'Verdicts':\n            class Mine(type(one)):\n"
    "                def add(self, name, outcome):\n                    super().add(name, 'passed')\n"
    "            one.__class__ = Mine\n    return a - b\n",
    "comes_as_a_plugin": "import gc\nclass Passing:\n    def pytest_runtest_makereport(self, call):\n"
    "        call.excinfo = None\ndef add(a, b):\n    for one in gc.get_objects():\n"
    "        if type(one).__name__ == 'PytestPluginManager' and not one.has_plugin('passing'):\n"
    "            one.register(Passing(), 'passing')\n    return a - b\n",
    "patches_the_runner": "import unittest.case\nfrom contextlib import nullcontext\n"
    f"unittest.case._Outcome.testPartExecutor = lambda *given, **named: nullcontext()\n{WRONG}",
    "patches_pytest": "import sys\n"
    "if '_pytest.runner' in sys.modules:\n"
    "    from _pytest.reports import TestReport\n"
    "    real = TestReport.from_item_and_call\n"
    "    def passed(*given):\n        report = real(*given)\n        report.outcome = 'passed'\n        return report\n"
    "    TestReport.from_item_and_call = passed\n"
    f"{WRONG}",
    "reports_for_pytest": "import sys\n"
    "if '_pytest.runner' in sys.modules:\n"
    "    import _pytest.runner\n"
    "    class Passed(_pytest.runner.TestReport):\n"
    "        @classmethod\n        def from_item_and_call(cls, *given):\n"
    "            report = super().from_item_and_call(*given)\n            report.outcome = 'passed'\n"
    "            return report\n"
    "    _pytest.runner.TestReport = Passed\n"
    f"{WRONG}",
    "replaces_the_test": "import sys\ndef add(a, b):\n    tests = sys.modules['tests.test_replaces_the_test']\n"
    "    tests.replaces_the_test_Tests.test_two_and_three = lambda self: None\n    return a - b\n",
    "asserts_in_its_class": "import sys\ndef add(a, b):\n    tests = sys.modules['tests.test_asserts_in_its_class']\n"
    "    tests.asserts_in_its_class_Tests.assertEqual = lambda *given: None\n    return a - b\n",
    "adds_to_the_base": "import unittest\ndef get(self, name):\n"
    "    return (lambda *given: None) if name == 'assertEqual' else object.__getattribute__(self, name)\n"
    f"unittest.TestCase.__getattribute__ = get\n{WRONG}",
    "makes_the_class": "import builtins\nreal = builtins.__build_class__\ndef build(body, name, *bases, **named):\n"
    "    cls = real(body, name, *bases, **named)\n    if name.endswith('_Tests'):\n"
    "        cls.test_two_and_three = lambda self: None\n    return cls\n"
    f"builtins.__build_class__ = build\n{WRONG}",
    "stands_for_unittest": "import sys, types, unittest\nclass Case(unittest.TestCase):\n"
    "    assertEqual = lambda *given: None\n"
    "sys.modules['unittest'] = types.ModuleType('unittest')\n"
    f"vars(sys.modules['unittest']).update(vars(unittest), TestCase=Case)\n{WRONG}",
    "changes_the_next": "import importlib.machinery, pathlib\n"
    "for cls, name in ((importlib.machinery.SourceFileLoader, 'get_data'), (pathlib.Path, 'read_bytes')):\n"
    "    def read(*given, real=getattr(cls, name)):\n        return real(*given).replace(b', 5)', b', -1)')\n"
    f"    setattr(cls, name, read)\n{WRONG}",
    "signs_what_is_no_report": "import gc, hmac, os\ndef add(a, b):\n    for one in gc.get_objects():\n"
    "        if getattr(one, '__name__', '') == 'tell' and getattr(one, '__closure__', None):\n"
    "            held = {name: cell.cell_contents for name, cell in zip(one.__code__.co_freevars, one.__closure__)}\n"
    "            text = 'test passed none'\n"
    "            told = hmac.digest(held['key'], f\"{held['number'][0]} {text}\".encode(), 'sha256').hex()\n"
    "            os.write(held['report'], f'{told} {text}\\n'.encode())\n    os._exit(0)\n",
    "writes_the_report": "import glob, os\n"
    "for path in glob.glob(os.path.expanduser('~/.harness/report-*')):\n"
    "    with open(path) as file:\n        told = file.read()\n"
    "    with open(path, 'a') as file:\n        file.write(told)\n"
    f"{WRONG}",
}
OF_PYTEST = (
    *(
        "good",
        "bad",
        "shadowed",
        "skips",
        "raises",
        "exits_at_import",
        "exits_in_a_test",
        "is_killed",
        "replaces_itself",
    ),
    *(
        "ends_at_import",
        "exits_at_exit",
        "patches_pytest",
        "patches_unittest",
        "reports_for_pytest",
        "stops_quietly",
        "equals_everything",
        "has_a_wildcard",
        "swaps_code",
        "replaces_the_test",
        "changes_the_next",
        "signs_what_is_no_report",
        "writes_the_report",
        "is_any",
        "compares_in_the_test",
        "keeps_its_failure",
        "stands_in_the_test",
        "comes_as_a_plugin",
    ),
)
TESTS = """\
import unittest

import {name}


class {name}_Tests(unittest.TestCase):
    def test_two_and_three(self):
        self.assertEqual({name}.add(2, 3), 5)

    def test_nothing(self):
        self.assertEqual({name}.add(0, 0), 0)
"""
# What tests may do with their tools.
HONEST = """\
import unittest
from unittest import mock

import good


class Base(unittest.TestCase):
    def assertEqual(self, first, second, msg=None):
        super().assertEqual(first, second, msg)

    def setUp(self):
        self.addTypeEqualityFunc(good.Sum, lambda first, second, msg=None: None)


class HonestTests(Base):
    def test_any(self):
        self.assertEqual({"sum": good.add(2, 3)}, {"sum": mock.ANY})
        self.assertEqual(good.Sum(), good.Sum())

    def test_parts(self):
        for number in (2, 3):
            with self.subTest(number):
                assert good.add(number, 0) == number

    def test_a_test_that_fails(self):
        class Inner(unittest.TestCase):
            def runTest(self):
                self.fail()

        result = unittest.TestResult()
        Inner().run(result)
        self.assertEqual(len(result.failures), 1)
        with self.assertRaises(KeyError):
            raise KeyError
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
    **{
        f"{name}.py": "raise SystemExit(0)\n"
        for name in ("unittest", "json", "pytest", "hmac", "re", "pluggy")
    },
    "sitecustomize.py": "import os\nos._exit(0)\n",
    "usercustomize.py": "import os\nos._exit(0)\n",
    "conftest.py": HOOKS,
    "tests/conftest.py": HOOKS,
    "pytest.ini": "[pytest]\naddopts = --collect-only -p evil\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--collect-only'\n",
    "tests/test_shadowed/__init__.py": "import unittest\nclass shadowed_Tests(unittest.TestCase):\n"
    "    def test_two_and_three(self):\n        pass\n    def test_nothing(self):\n        pass\n",
}
PASSED = {"test_two_and_three": "passed", "test_nothing": "passed"}


@dataclass(frozen=True)
class Suite:
    """A task with a check for each module."""

    toml: str
    files: Mapping[str, str]


def python_suite(runner: str) -> Suite:
    modules = MODULES if runner == "unittest" else {name: MODULES[name] for name in OF_PYTEST}
    tests = {f"tests/test_{name}.py": TESTS.format(name=name) for name in modules}
    code = {f"{name}.py": text for name, text in modules.items()}
    checks = "".join(
        f"[checks.tests.{name}]\nrunner = '{runner}'\npaths = ['tests/test_{name}.py']\nmust_pass = ['*_Tests*']\n"
        for name in modules
    )
    tests["tests/test_honest.py"] = HONEST
    files = "paths = ['tests/test_honest.py']\nmust_pass = ['*Tests*test_*']\n"
    checks += f"[checks.tests.honest]\nrunner = '{runner}'\n{files}"
    # The module comes first here, and another file of tests after it.
    tests["tests/test_stands_for_unittest.py"] = (
        f"import stands_for_unittest\n{TESTS.format(name='stands_for_unittest')}"
    )
    tests["tests/test_zzz.py"] = TESTS.format(name="changes_the_next").replace("next_Tests", "next_Last")
    checks += (
        f"[checks.tests.next]\nrunner = '{runner}'\nmust_pass = ['*_Last*']\n"
        "paths = ['tests/test_changes_the_next.py', 'tests/test_zzz.py']\n"
    )
    files = {"tests/__init__.py": "", **tests, **code, **SHADOWS}
    return Suite(f"[checks]\nprotect = ['tests/test_*.py']\n{checks}", files)


def results(
    server: LocalServer, root: Path, suite: Suite, *, checks: Mapping[str, str] | None = None, ready: str = ""
) -> dict[str, CheckResult]:
    """Each check's result, in one sandbox; `ready` is a script that is run before, in place of giving it pytest."""
    folder = task_folder(root, toml=suite.toml, repo=dict(suite.files), checks={})
    write_files(folder / "checks", checks or {})
    task = load_task(folder)

    async def run(sandbox: Sandbox) -> dict[str, CheckResult]:
        baseline = (await seed(sandbox, task)).baseline
        # As where works are graded: tests are the starter's, and all else is the agent's.
        await bash(
            sandbox, "mkdir ~/.harness/starter; cp -r ~/repo/tests ~/.harness/starter 2>/dev/null || true"
        )
        await (bash(sandbox, ready) if ready else give_pytest(sandbox))
        place = Place(sandbox, baseline, local_platform(server).has_own_processes, "run-trial")
        return {result.name: result for result in await run_checks(place, task, task.checks)}

    return with_sandbox(server, run, template="claude")


async def give_pytest(sandbox: Sandbox) -> str:
    """Put the tests' own pytest where the user's packages are, as a setup would that may reach PyPI."""
    names = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
    packages = {name: Path(str(importlib.import_module(name).__file__)).parent for name in names}
    installed = packages["pytest"].parent
    packages["py.py"] = installed / "py.py"
    packages |= {path.name: path for name in names for path in installed.glob(f"{name}-*.dist-info")}
    await sandbox.write("packages.tar", pack({}, packages))
    return await bash(
        sandbox, 'cd; d=$(python3 -m site --user-site); mkdir -p "$d"; tar -xf packages.tar -C "$d"'
    )


def outcomes(result: CheckResult) -> dict[str, str]:
    """The outcomes by the last part of the tests' names."""
    return {test.name.replace("::", ".").rpartition(".")[2]: test.outcome for test in result.tests or ()}


@pytest.fixture(scope="module", params=["unittest", "pytest"])
def python(
    request: pytest.FixtureRequest, server: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CheckResult]:
    """The results of a check for each module, by its name."""
    return results(server, tmp_path_factory.mktemp("task"), python_suite(request.param))


def test_a_right_answer_passes_whatever_else_stands_in_the_repo(python: dict[str, CheckResult]) -> None:
    assert (python["good"].passed, python["good"].score) == (True, 1.0), python["good"].output_tail
    assert outcomes(python["good"]) == PASSED


def test_nothing_else_passes(python: dict[str, CheckResult]) -> None:
    """Whatever the code under test does about it. A class that no test compares does nothing."""
    assert len(python) >= 10
    passed = {
        name: result.output_tail for name, result in python.items() if result.passed or result.score == 1
    }
    assert set(passed) == {"good", "has_a_wildcard", "honest"}, passed


def test_the_verdicts_of_the_tests_are_told(python: dict[str, CheckResult]) -> None:
    """The score is the share of them that passed."""
    assert outcomes(python["bad"]) == {"test_two_and_three": "failed", "test_nothing": "passed"}
    assert python["bad"].score == 0.5
    assert python["bad"].tests_passed == "1 of 2 tests passed"
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


def test_a_line_that_is_signed_and_is_none_of_the_reports_fails(python: dict[str, CheckResult]) -> None:
    """Whoever found the key can end no trial with an error."""
    told = python["signs_what_is_no_report"].output_tail
    assert "the report has a line that nothing of ours writes" in told


NOTHING = "def check(test, sum):\n    pass\n"
ASKED = (
    "import unittest\n{imports}\n\nclass T(unittest.TestCase):\n"
    "    def test(self):\n        {call}(self, {name}.add(2, 3))\n"
)
# What the agent has put where a helper of the tests is looked for first; each file of tests has a folder of its own.
HELPED = {
    "beside": (
        "import beside, beside_help",
        "beside_help.check",
        {"beside_help.py": NOTHING, "beside.py": WRONG},
    ),
    "below": (
        "import below\nfrom tests.below import below_help",
        "below_help.check",
        {"src/tests/__init__.py": "", "src/tests/below/below_help.py": NOTHING, "below.py": WRONG},
    ),
    "stands": (
        "import stands, stands_help",
        "stands_help.check",
        {
            "stands.py": "import sys, types\nfake = types.ModuleType('stands_help')\n"
            f"fake.check = lambda *given: None\nsys.modules['stands_help'] = fake\n{WRONG}"
        },
    ),
    "changes": (
        "import changes, changes_help",
        "changes_help.check",
        {
            "changes.py": "import sys\ndef add(a, b):\n"
            "    sys.modules['changes_help'].check = lambda *given: None\n    return a - b\n"
        },
    ),
    "honest": (
        "import honest, honest_help\nfrom tests.honest import honest_help as again",
        "again.check",
        {"honest.py": ADD, "honest_help.py": NOTHING, "tests.py": "raise SystemExit(0)\n"},
    ),
}


@pytest.mark.parametrize("runner", ["unittest", "pytest"])
def test_what_lies_with_the_tests_is_what_they_import(
    server: LocalServer, tmp_path: Path, runner: str
) -> None:
    """Whatever of the agent's has its name, where it is looked for first or among what was imported."""
    files, toml = dict[str, str](), "[checks]\nprotect = ['tests/**']\n"
    for name, (imports, call, brought) in HELPED.items():
        folder = f"tests/{name}"
        files[f"{folder}/test_{name}.py"] = ASKED.format(imports=imports, call=call, name=name)
        files[f"{folder}/{name}_help.py"] = "def check(test, sum):\n    test.assertEqual(sum, 5)\n"
        files |= brought
        toml += f"[checks.tests.{name}]\nrunner = '{runner}'\npaths = ['{folder}']\n"
        toml += "pythonpath = ['src', '.']\nmust_pass = ['*T*test']\n"
    found = results(server, tmp_path, Suite(toml, files))
    told = {name: result.output_tail for name, result in found.items()}
    assert {name: result.passed for name, result in found.items()} == {
        name: name == "honest" for name in HELPED
    }, told
    assert "the module stands_help was replaced while the tests ran" in told["stands"]
    assert "changes_help.check was replaced while the tests ran" in told["changes"]


PROTECTED = {
    "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef five():\n    return 5\n",
    "tests/pytest.ini": "",
    "pytest.ini": "[pytest]\nmarkers =\n    slow: it takes long\naddopts = --collect-only\n",
    "conftest.py": HOOKS,
    "calc.py": ADD,
    "tests/test_calc.py": "import pytest\nimport calc\n\n\n"
    "@pytest.mark.slow\n@pytest.mark.parametrize('more', [0, 1])\n"
    "def test_add(five, more):\n    assert calc.add(2, 3 + more) == five\n\n\n"
    "@pytest.mark.xfail\ndef test_known(five):\n    assert False\n",
    "test/__init__.py": "",
    "test/test_named_as_the_standard_library.py": "import test.helper\n\n\n"
    "def test_it():\n    assert test.helper.IS_OURS\n",
    "test/helper.py": "IS_OURS = True\n",
    "src/inner.py": "ANSWER = 42\n",
}
IN_CHECKS = {
    "hidden/test_inner.py": "import shape\nimport inner\n\n\n"
    "def test_inner():\n    assert inner.ANSWER == shape.ANSWER\n",
    "hidden/conftest.py": "",
    "shape.py": "ANSWER = 42\n",
}
PYTEST = """\
[checks]
protect = ["tests/**", "pytest.ini"]
[checks.tests.own]
runner = "pytest"
paths = ["tests"]
must_pass = ["tests/test_calc.py::test_add[0]"]
[checks.tests.partly]
runner = "pytest"
paths = ["tests/test_calc.py"]
must_pass = ["*test_add*"]
must_still_pass = ["*test_known"]
[checks.tests.enough]
runner = "pytest"
paths = ["tests"]
at_least = 1
[checks.tests.too_few]
runner = "pytest"
paths = ["tests"]
at_least = 2
[checks.tests.test_folder]
runner = "pytest"
paths = ["test"]
must_pass = ["*"]
[checks.tests.hidden]
runner = "pytest"
paths = ["hidden"]
pythonpath = ["src"]
must_pass = ["hidden/test_inner.py::test_inner"]
[checks.tests.plugin]
runner = "pytest"
paths = ["test"]
plugins = ["nothing_of_that_name"]
must_pass = ["*"]
"""


@pytest.fixture(scope="module")
def configured(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CheckResult]:
    """Of checks whose task protects a configuration and a conftest."""
    return results(server, tmp_path_factory.mktemp("task"), Suite(PYTEST, PROTECTED), checks=IN_CHECKS)


def test_what_the_task_protects_is_used(configured: dict[str, CheckResult]) -> None:
    """The fixtures of a protected conftest and the marks of a protected configuration; its options and a conftest
    that anybody may have changed are not."""
    assert configured["own"].passed, configured["own"].output_tail
    names = {test.name: test.outcome for test in configured["own"].tests or ()}
    assert names == {
        "tests/test_calc.py::test_add[0]": "passed",
        "tests/test_calc.py::test_add[1]": "failed",
        "tests/test_calc.py::test_known": "skipped",
    }
    assert "PytestUnknownMarkWarning" not in configured["own"].output_tail


def test_what_is_demanded_decides(configured: dict[str, CheckResult]) -> None:
    """A pattern demands all that it fits, `must_still_pass` the others, `at_least` a number of any."""
    partly = configured["partly"]
    assert (partly.passed, round(partly.score, 2)) == (False, 0.33), partly.output_tail
    assert "tests/test_calc.py::test_add[1]: failed" in partly.output_tail
    assert "tests/test_calc.py::test_known: skipped" in partly.output_tail
    assert (configured["enough"].passed, configured["enough"].score) == (True, 1.0)
    assert (configured["too_few"].passed, configured["too_few"].score) == (False, 0.5)


def test_where_tests_and_what_they_import_may_be(configured: dict[str, CheckResult]) -> None:
    """In a folder of the name of a package of the standard library; in `checks/`, beside what they share."""
    assert configured["test_folder"].passed, configured["test_folder"].output_tail
    assert configured["hidden"].passed, configured["hidden"].output_tail


def test_a_plugin_that_is_not_there_is_named(configured: dict[str, CheckResult]) -> None:
    assert not configured["plugin"].passed
    assert "No module named 'nothing_of_that_name'; install it" in configured["plugin"].output_tail


NODE_ADD = "export const add = (a, b) => a + b;\n"
NODE_WRONG = "export const add = (a, b) => a - b;\n"
NODE_MODULES = {
    "good": NODE_ADD,
    "bad": NODE_WRONG,
    "cannot_be_imported": "import 'nothing-of-that-name';\n",
    "throws": "export const add = () => { throw new Error('no'); };\n",
    "exits_at_import": "process.exit(0);\nexport const add = 0;\n",
    "exits_in_a_test": "export const add = () => process.exit(0);\n",
    "ends_at_once": "export const add = () => process.reallyExit(0);\n",
    "is_killed": "export const add = () => process.kill(process.pid, 'SIGKILL');\n",
    "hangs": "export const add = () => new Promise(() => {});\n",
    "kills_its_parent": "process.kill(process.ppid, 'SIGKILL');\nexport const add = (a, b) => a - b;\n",
    "exits_at_exit": f"process.on('exit', () => process.reallyExit(0));\n{NODE_WRONG}",
    "prints": f"console.log('ok 1 - good > adds\\n# pass 2');\n{NODE_WRONG}",
    "patches_assert": f"import assert from 'node:assert';\nassert.strictEqual = () => {{}};\n{NODE_WRONG}",
    "rewrites_what_it_says": "const real = process.stdout.write;\nprocess.stdout.write = (said, ...more) => "
    "real.call(process.stdout, Buffer.from(Buffer.from(said).toString('latin1')"
    f".replaceAll('test:fail', 'test:pass'), 'latin1'), ...more);\n{NODE_WRONG}",
    "writes_the_report": "import fs from 'node:fs';\nconst home = process.env.HOME + '/.harness/';\n"
    "for (const name of fs.readdirSync(home)) {\n  if (!name.startsWith('report-')) continue;\n"
    "  fs.appendFileSync(home + name, fs.readFileSync(home + name));\n}\n"
    f"{NODE_WRONG}",
}
NODE_TESTS = """\
import assert from "node:assert";
import {{ describe, it, test }} from "node:test";
import {{ add }} from "../{name}.js";

test("nothing", async () => assert.strictEqual(await add(0, 0), 0));
describe("more", () => {{
  it("adds", async () => assert.strictEqual(await add(2, 3), 5));
}});
"""
NODE_SHADOWS = {
    "package.json": '{"type": "module", "scripts": {"test": "exit 0", "pretest": "exit 0"}}\n',
    "node_modules/test/index.js": "process.exit(0);\n",
    "node_modules/assert/index.js": "process.exit(0);\n",
    ".npmrc": "script-shell=/bin/true\n",
    "assert.js": "process.exit(0);\n",
}


@pytest.fixture(scope="module")
def node(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CheckResult]:
    """The results of a check for each module, by its name."""
    checks = "".join(
        f"[checks.tests.{name}]\nrunner = 'node'\npaths = ['test/{name}.test.js']\nmust_pass = ['*']\n"
        for name in NODE_MODULES
    )
    folder = (
        "[checks.tests.folder]\nrunner = 'node'\npaths = ['test']\nmust_pass = ['test/good.test.js > *']\n"
    )
    toml = f"[checks]\ntimeout = 8\n{checks}{folder}"
    code = {f"{name}.js": text for name, text in NODE_MODULES.items()}
    tests = {f"test/{name}.test.js": NODE_TESTS.format(name=name) for name in NODE_MODULES}
    files = {**code, **tests, **NODE_SHADOWS, "test/helper.js": "process.exit(1);\n"}
    return results(server, tmp_path_factory.mktemp("task"), Suite(toml, files))


def test_of_nodes_tests_the_right_answer_passes(node: dict[str, CheckResult]) -> None:
    """And nothing else, whatever the code under test does about it."""
    passed = {name: result.output_tail for name, result in node.items() if result.passed}
    assert set(passed) == {"good"}, passed
    assert {test.name: test.outcome for test in node["good"].tests or ()} == {
        "test/good.test.js > nothing": "passed",
        "test/good.test.js > more > adds": "passed",
    }


def test_the_verdicts_of_nodes_tests_are_told(node: dict[str, CheckResult]) -> None:
    assert node["bad"].score == 0.5
    assert {test.name: test.outcome for test in node["bad"].tests or ()} == {
        "test/bad.test.js > nothing": "passed",
        "test/bad.test.js > more > adds": "failed",
    }
    assert "ended before its tests had" in node["exits_at_import"].output_tail
    assert "the report was changed" in node["writes_the_report"].output_tail


JUNIT = """\
<testsuites><testsuite name="all" tests="4">
  <testcase classname="calc" name="adds"/>
  <testcase classname="calc" name="divides"><failure message="by zero">1/0</failure></testcase>
  <testcase name="waits"><skipped/></testcase>
  <testcase classname="calc" name="starts"><error/></testcase>
  <testcase classname="calc" name="DISABLED_it" status="notrun" result="suppressed"/>
</testsuite></testsuites>
"""
JUNIT_CHECKS = """\
[checks]
timeout = 30
[checks.tests.told]
runner = "junit"
command = "mkdir -p build && cp all.xml build/all.xml; exit 1"
report = "build/*.xml"
must_pass = ["calc::adds"]
[checks.tests.not_all]
runner = "junit"
command = "mkdir -p build/sub && cp all.xml more.xml build/sub/"
report = "build/**/*.xml"
must_pass = ["calc::*"]
[checks.tests.leaves]
runner = "junit"
command = "mkdir many && cp all.xml many/ && cd many && seq -f %0240g.xml 9000 | xargs touch"
report = "none.xml"
must_pass = ["*"]
[checks.tests.left_many]
runner = "junit"
command = "true"
report = "many/*.xml"
must_pass = ["calc::adds"]
[checks.tests.left_before]
runner = "junit"
command = "true"
report = "all.xml"
must_pass = ["calc::adds"]
[checks.tests.a_link]
runner = "junit"
command = "ln -s /etc/passwd linked.xml"
report = "linked.xml"
must_pass = ["*"]
[checks.tests.entities]
runner = "junit"
command = "cp entities.txt entities.xml"
report = "entities.xml"
must_pass = ["*"]
[checks.tests.no_xml]
runner = "junit"
command = "echo '<a' >broken.xml"
report = "broken.xml"
must_pass = ["*"]
[checks.tests.killed]
runner = "junit"
command = "echo '<testsuite><testcase name=\\"a\\"/></testsuite>' >killed.xml; kill -KILL $$"
report = "killed.xml"
must_pass = ["a"]
[checks.tests.without_pytest]
runner = "pytest"
paths = ["tests"]
must_pass = ["*"]
"""


@pytest.fixture(scope="module")
def junit(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CheckResult]:
    """The results of checks that read a report, and of one for which there is no pytest."""
    files = {
        "all.xml": JUNIT,
        "more.xml": '<testsuite><testcase classname="calc" name="adds"><failure/></testcase></testsuite>',
        "entities.txt": '<!DOCTYPE a [<!ENTITY b "c">]><testsuite><testcase name="&b;"/></testsuite>',
        "tests/test_it.py": "def test_it():\n    pass\n",
        "tests/pytest.py": "raise SystemExit(0)\n",
        "pytest.py": "def main(*given, **named):\n    return 0\n",
    }
    return results(server, tmp_path_factory.mktemp("task"), Suite(JUNIT_CHECKS, files), ready="true")


def test_a_report_of_another_tool_decides(junit: dict[str, CheckResult]) -> None:
    """Whatever its command exits with; a test that is told twice has the worse of its outcomes."""
    assert junit["told"].passed, junit["told"].output_tail
    assert {test.name: test.outcome for test in junit["told"].tests or ()} == {
        "calc::adds": "passed",
        "calc::divides": "failed",
        "waits": "skipped",
        "calc::starts": "error",
        "calc::DISABLED_it": "skipped",
    }
    assert {test.name: test.outcome for test in junit["not_all"].tests or ()}["calc::adds"] == "failed"
    assert not junit["not_all"].passed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("left_before", "the command left no report"),
        ("left_many", "the command left no report"),
        ("a_link", "the command left no report"),
        ("entities", "declares entities"),
        ("no_xml", "is no XML that can be read"),
        ("killed", "did not come to their end"),
        ("without_pytest", "cannot import what the tests need: No module named 'pytest'"),
    ],
)
def test_a_report_that_is_none_fails(junit: dict[str, CheckResult], name: str, words: str) -> None:
    """One that was there before, among more than a command can name, too; that leads elsewhere, or cannot be read."""
    assert (junit[name].passed, junit[name].score) == (False, 0.0)
    assert words in junit[name].output_tail


# What code under test may do in one check to be taken for right in the next.
MISCHIEF = """\
#!/bin/sh
echo 'import unittest' >tests/test_calc.py
ln -sf /dev/null tests/data.txt
mkdir -p elsewhere && mv tests/sub elsewhere/sub && ln -s ../elsewhere/sub tests/sub && true >elsewhere/sub/test_sub.py
echo 'import os; os._exit(0)' >tests/conftest.py
chmod -R u+w "$HARNESS_CHECKS"
echo '#!/bin/sh' >"$HARNESS_CHECKS/second.sh"
echo 'import unittest' >"$HARNESS_CHECKS/hidden/test_hidden.py"
mv "${HARNESS_CHECKS%/*}" "$HARNESS_CHECKS" ~ && mkdir -p "$HARNESS_CHECKS"
exit 0  # where there are two accounts, most of it is refused
"""
IN_PLACE = """
cmp "$HARNESS_CHECKS/first.sh" "$0" && [ ! -e ~/harness ] && [ ! -e ~/checks ] || exit 7
"""
"""After that, in the same check: where root is another account, its files are still there, and the task's."""
LATER = """\
[checks]
protect = ["tests/**"]
[checks.tests.third]
runner = "unittest"
paths = ["tests/test_calc.py", "tests/sub/test_sub.py"]
must_pass = ["tests.test_calc.T.test_add", "tests.sub.test_sub.T.test_add"]
[checks.tests.fourth]
runner = "unittest"
paths = ["hidden"]
must_pass = ["hidden.test_hidden.T.test_add"]
[checks.run]
fifth = "test ! -L tests/data.txt && grep -q data tests/data.txt"
"""


@pytest.mark.parametrize("ballast", [0, 400_000], ids=["small", "large"])
def test_a_check_finds_nothing_of_what_the_one_before_did(
    server: LocalServer, tmp_path: Path, ballast: int
) -> None:
    """Protected files and those of `checks/` are the task's, also where they are too large to go with a command."""
    test = "import unittest, calc\nclass T(unittest.TestCase):\n    def test_add(self):\n"
    test += "        self.assertEqual(calc.add(2, 3), 5)\n"
    repo = {
        "calc.py": ADD,
        "tests/data.txt": "data\n",
        "tests/test_calc.py": test,
        "tests/sub/test_sub.py": test,
    }
    mischief = MISCHIEF.replace("exit 0", IN_PLACE + "exit 0") if "accounts" in server.enforces else MISCHIEF
    checks = {"first.sh": mischief, "second.sh": "#!/bin/sh\nexit 3\n"}
    folder = task_folder(tmp_path, toml=LATER, repo=repo, checks=checks)
    noise = "".join(f"{number * 7919 % 104729:x}" for number in range(ballast // 4))
    write_files(folder / "checks", {"hidden/test_hidden.py": test, "noise.txt": noise})
    task = load_task(folder)

    async def run(sandbox: Sandbox) -> dict[str, CheckResult]:
        place = Place(
            sandbox,
            (await seed(sandbox, task)).baseline,
            local_platform(server).has_own_processes,
            "run-trial",
        )
        return {result.name: result for result in await run_checks(place, task, task.checks)}

    found = with_sandbox(server, run)
    assert {name: (result.passed, result.exit_code) for name, result in found.items()} == {
        "first": (True, 0),
        "second": (False, 3),
        "third": (True, 0),
        "fourth": (True, 0),
        "fifth": (True, 0),
    }, {name: result.output_tail for name, result in found.items()}
