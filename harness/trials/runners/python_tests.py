"""Runs tests of pytest or unittest in a sandbox, and reports what each of them came to.

It is started as `python3 -I -S`, on Python 3.9 or later, with its orders as JSON on stdin. It loads all that it needs
before any code of the repo, which is imported from after the standard library: no file of the repo stands in for what
tests are run with. Each line of the report is signed with a key that is in no argument, variable or file, so that the
code under test cannot write one without looking for the key in this process's memory.

It is one file on purpose, in sections. Its code objects are known by the one that holds them all (`_OWN_CODES`), and it
is the one module of ours that the code under test could reach into, which `Guard` watches as `__main__`.
"""

from __future__ import annotations

import builtins
import contextlib
import filecmp
import functools
import gc
import hmac
import importlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import site
import sys
import traceback
import types
import unittest
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

Tell = Callable[..., None]
Attribute = tuple[Any, str, Any, Any]
Sources = dict[str, bytes]

_CONFIGURATIONS = (
    ("pytest.toml", ""),
    (".pytest.toml", ""),
    ("pytest.ini", ""),
    (".pytest.ini", ""),
    ("pyproject.toml", "[tool.pytest"),
    ("tox.ini", "[pytest]"),
    ("setup.cfg", "[tool:pytest]"),
)
_BUILTINS = frozenset(
    (  # noqa: SIM905
        "__build_class__ __import__ "
        "all any callable getattr hasattr hash id isinstance issubclass iter len next repr sorted type"
    ).split()
)
_TRACKED = (types.FunctionType, types.ModuleType, type, tuple, staticmethod, classmethod, property)
_HOOKS = ("__getattribute__", "__init_subclass__")
_UNEQUAL = ((object(), object()), (918273645, -77), (5, -1), (b"a", b"b"), ("a", "b"), (1.5e77, -3.25))
_JUDGING = tuple(
    name
    for name in vars(unittest.TestCase)
    if name.startswith(("assert", "run", "subTest", "__call__", "_base", "_call", "_get")) or name == "fail"
)
_BAD_ENDS = {2: "it was interrupted", 3: "of an internal error", 4: "of how it was called"}


# --- guarding the parts that judge


class Guard:
    """The parts that tests are run with, as they were before the code under test was loaded."""

    def __init__(self, names: list[str], verdicts: TestVerdicts) -> None:
        self._verdicts = (verdicts, type(verdicts), list(vars(verdicts).values()))
        # Whoever raises it passes.
        vars(unittest.case)["_ShouldStop"] = ()
        self._before: list[Attribute] = [
            (builtins, name, value, None) for name, value in vars(builtins).items() if name in _BUILTINS
        ]
        self._modules = {
            name: module for name, module in sys.modules.items() if name.partition(".")[0] in names
        }
        for module in self._modules.values():
            self._before += _attributes(module)
        self._traced = (sys.gettrace(), sys.getprofile())
        self._helpers: dict[str, str] = {}
        self._places: Any = None

    def watch_tests(self, modules: set[types.ModuleType], classes: set[type], places: Places) -> None:
        """Watch the functions of the tests themselves too, and that their classes get none of their bases' names.

        What they import from beside them is watched like themselves.
        """
        self._places, self._helpers = places, places.helpers()
        modules = {*modules, *(sys.modules[name] for name in self._helpers if name in sys.modules)}
        bases = {
            base for cls in classes for base in cls.__mro__ if sys.modules.get(base.__module__) in modules
        }
        inherited = [name for name, value in vars(unittest.TestCase).items() if callable(value)]
        for owner in (*modules, *bases):
            own = vars(owner)
            names = {name for name, value in own.items() if type(value) in (types.FunctionType, type)}
            names.update(inherited if isinstance(owner, type) else ())
            self._before += [(owner, name, own.get(name), _code_of(own.get(name))) for name in names]

    def tell_changes(self, tell: Tell) -> None:
        """Tell of the first that is another one now."""
        for name, module in self._modules.items():
            if sys.modules.get(name) is not module:
                tell("problem", f"the module {name} was replaced while the tests ran")
                return
        if (sys.gettrace(), sys.getprofile()) != self._traced:
            tell("problem", "a function that traces the tests was set while they ran")
            return
        verdicts, cls, parts = self._verdicts
        if type(verdicts) is not cls or any(a is not b for a, b in zip(parts, vars(verdicts).values())):  # noqa: B905
            tell("problem", "what keeps the verdicts was replaced while the tests ran")
            return
        for name, path in self._helpers.items():
            if _is_stand_in(name, path, self._places):
                tell("problem", f"the module {name} was replaced while the tests ran")
                return
        for owner, name, value, code in self._before:
            now = vars(owner).get(name)
            if now is not value or _code_of(now) is not code:
                what = f"{getattr(owner, '__name__', owner)}.{name}"
                tell("problem", f"{what} was replaced while the tests ran")
                return


def _attributes(module: types.ModuleType) -> Iterator[Attribute]:
    for name, value in list(vars(module).items()):
        # A library that freezes the time for a whole class of tests puts its own in the place of these.
        is_time = getattr(value, "__module__", None) in ("time", "datetime")
        if type(value) in _TRACKED and not is_time:
            yield module, name, value, _code_of(value)
        if isinstance(value, type) and value.__module__ == module.__name__:
            own = dict(vars(value))
            for inner, attribute in own.items():
                if type(attribute) in _TRACKED:
                    yield value, inner, attribute, _code_of(attribute)
            yield from ((value, hook, None, None) for hook in _HOOKS if hook not in own)


def _is_stand_in(name: str, path: str, places: Places) -> bool:
    if name not in sys.modules:
        return False
    origin = getattr(getattr(sys.modules[name], "__spec__", None), "origin", None)
    return origin != path and (origin is None or places.is_new(origin))


def _code_of(value: object) -> object:
    return value.__code__ if type(value) is types.FunctionType else None


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_in(constant)


_OWN_CODES = frozenset(_codes_in(sys._getframe().f_code))


# --- the report


def open_report(path: str, key: bytes) -> Tell:
    """A function that writes a line of the report. It uses nothing that code in this process can put in its place."""
    report = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        digest = importlib.import_module("_hashlib").hmac_digest
    except (ImportError, AttributeError):
        digest = hmac.digest
    write, getpid, frame, number = os.write, os.getpid, sys._getframe, [0]
    pid = getpid()

    def tell(kind: str, *fields: str) -> None:
        # A test may fork, and its child come back to here.
        if getpid() != pid:
            return
        if frame(1).f_code not in _OWN_CODES:
            kind, fields = "problem", ("the code under test has called what writes the report",)
        text = " ".join([kind, *(field.encode("utf-8", "backslashreplace").hex() or "-" for field in fields)])
        signature = digest(key, f"{number[0]} {text}".encode(), "sha256").hex()
        number[0] += 1
        write(report, f"{signature} {text}\n".encode())

    return tell


# --- where tests and what they import are found


def add_installed(with_user_site: bool) -> None:
    """Make installed packages importable, without the start-up modules (sitecustomize) of whoever installed them."""
    known: set[str] = site.venv(set(sys.path)) or set()
    site.addsitepackages(known)
    if with_user_site and sys.prefix == sys.base_prefix:
        folder = site.getusersitepackages()
        if os.path.isdir(folder):
            site.addsitedir(folder, known)
            # Tests that give what they start another home let it find the same packages.
            os.environ.setdefault("PYTHONUSERBASE", site.getuserbase())


class TestsFinder:
    """Finds what lies with the tests, where the agent has put something of that name in its way.

    `test` is the repo's: the standard library's own tests have that name too.
    """

    def __init__(self, places: Places, folders: list[str]) -> None:
        self._places, self._folders, self._roots = places, folders, places.roots()
        self._packages = places.packages()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """As importlib asks for it."""
        if path is not None:
            return None
        usual = importlib.machinery.PathFinder.find_spec(name, self._folders)
        if usual is None or name == "test" or not self._is_new(usual):
            return usual if name == "test" else None
        if name in self._packages:
            return self._package(name, self._packages[name])
        found = importlib.machinery.PathFinder.find_spec(name, self._roots)
        return found if found and found.origin and not self._places.is_new(found.origin) else None

    def _is_new(self, spec: Any) -> bool:
        return any(
            self._places.is_new(one) for one in (spec.origin, *(spec.submodule_search_locations or ()))
        )

    def _package(self, name: str, folder: str) -> Any:
        init = os.path.join(folder, "__init__.py")
        if os.path.isfile(init) and not self._places.is_new(init):
            return importlib.util.spec_from_file_location(name, init, submodule_search_locations=[folder])
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec


class Places:
    """The places of the tests, and the configuration and conftest files that the task protects."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.repo: str = os.path.realpath(orders["repo"])
        self.checks: str = os.path.realpath(os.environ["HARNESS_CHECKS"])
        self.paths = [os.path.normpath(os.path.join(self.repo, path)) for path in orders["paths"]]
        self.paths += [
            os.path.normpath(os.path.join(self.checks, path)) for path in orders["paths_in_checks"]
        ]
        self._trusted = frozenset(orders["trusted"])
        self._starter: str = orders["starter"]
        self._has_starter = os.path.isdir(self._starter)
        self._unchanged = frozenset(self._find_unchanged(orders["starter"]))

    def base(self, path: str) -> str:
        """The folder that names of tests are relative to."""
        return self.checks if path.startswith(f"{self.checks}{os.sep}") else self.repo

    def is_trusted(self, path: str) -> bool:
        """True for a file of the task's own."""
        if self.base(path) == self.checks:
            return True
        return os.path.relpath(path, self.repo) in self._trusted

    def _find_unchanged(self, starter: str) -> Iterator[str]:
        """The repo's sources that are the starter's; looked at before any code of the repo could change either."""
        for folder, folders, names in os.walk(starter):
            folders[:] = [name for name in folders if name not in (".git", "node_modules")]
            here = os.path.normpath(os.path.join(self.repo, os.path.relpath(folder, starter)))
            for name in (name for name in names if name.endswith(".py")):
                with contextlib.suppress(OSError):
                    if filecmp.cmp(os.path.join(folder, name), os.path.join(here, name), shallow=False):
                        yield os.path.join(here, name)

    def is_new(self, path: str | None) -> bool:
        """True for what the agent has added to the repo, where the starter is there to tell it."""
        if path is None or not self._has_starter or not path.startswith(self.repo + os.sep):
            return False
        return not os.path.lexists(os.path.join(self._starter, os.path.relpath(path, self.repo)))

    def is_agents(self, path: str) -> bool:
        """True for a file of the repo that the starter has not got, or not so."""
        return path.startswith(self.repo + os.sep) and path not in self._unchanged

    def is_agents_code(self, code: types.CodeType) -> bool:
        """True for code of a file of the agent's, and for what was made without a file."""
        return not os.path.isabs(code.co_filename) or self.is_agents(code.co_filename)

    def is_brought(self, code: types.CodeType) -> bool:
        """True for such code where the starter is there to tell it from the task's own."""
        return self._has_starter and self.is_agents_code(code)

    def files(self) -> Iterator[str]:
        """The files that are named, and those in the folders that are."""
        for path in self.paths:
            if not os.path.isdir(path):
                yield path
            for folder, folders, names in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
                yield from (os.path.join(folder, name) for name in sorted(names))

    def sources(self) -> Sources:
        """Read the files as they are now: code that the first imports could change how the next is read."""
        found = {}
        for path in self.files():
            if os.path.isfile(path) and (path.endswith(".py") or path in self.paths):
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    found[path] = file.read()
        return found

    def roots(self) -> list[str]:
        """The folders from which tests import what lies beside them: those that hold them, or their package."""
        found: dict[str, None] = {}
        for folder in sorted({os.path.dirname(path) for path in self.files()}):
            while os.path.isfile(os.path.join(folder, "__init__.py")):
                folder = os.path.dirname(folder)
            found[folder] = None
        return list(found)

    def packages(self) -> dict[str, str]:
        """The folders that tests lie in, directly below the repo or `checks/`, by the names of their packages."""
        found = {}
        for path in self.files():
            base = self.base(path)
            first, *others = os.path.relpath(path, base).split(os.sep)
            if others:
                found[first] = os.path.join(base, first)
        return found

    def helpers(self) -> dict[str, str]:
        """What lies beside tests in a folder of their own and is the task's, by the names that tests import it by."""
        found = {}
        for folder in {os.path.dirname(path) for path in self.files()} - {self.repo, self.checks}:
            for path in (os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".py")):
                if not self.is_agents(path):
                    dotted = os.path.relpath(path, self.base(path))[: -len(".py")].replace(os.sep, ".")
                    found.update(dict.fromkeys((dotted, dotted.rpartition(".")[2]), path))
        return found

    def forget_compiled(self) -> None:
        """Remove what may have been compiled from other sources than those that are there."""
        for folder in {os.path.dirname(path) for path in self.files()}:
            shutil.rmtree(os.path.join(folder, "__pycache__"), ignore_errors=True)


class SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles a source that was read before, and takes nothing that was compiled."""

    source = b""

    def get_code(self, fullname: str) -> Any:
        """As importlib asks for it."""
        return self.source_to_code(self.source, str(self.get_filename(fullname)))


def load_module(path: str, base: str, sources: Sources) -> types.ModuleType:
    """A file of tests as a module, whatever else there is that has its name."""
    parts = os.path.relpath(path, base)[: -len(".py")].split(os.sep)
    if not all(part.isidentifier() for part in parts):
        parts = parts[-1:]
    for length in range(1, len(parts)):
        importlib.import_module(".".join(parts[:length]))
    name = ".".join(parts)
    loader = SourceLoader(name, path)
    if path not in sources:
        raise ImportError(f"{path} is no file that can be read")
    loader.source = sources[path]
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# --- verdicts


class TestVerdicts:
    """The verdicts by test; the worst of a test's own counts. Each is told once the test has ended."""

    RANKS = ("passed", "skipped", "failed", "error")

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._found: dict[str, str] = {}
        self._told: set[str] = set()

    def add(self, name: str, outcome: str) -> None:
        """Take one in."""
        worst = self._found.get(name, outcome)
        self._found[name] = max(worst, outcome, key=self.RANKS.index)

    def tell(self, name: str) -> None:
        """Tell a test's."""
        if name in self._found:
            self._told.add(name)
            self._tell("test", self._found[name], name)

    def tell_others(self) -> None:
        """Tell those that belong to no test, such as what a whole class needs."""
        for name in sorted(set(self._found) - self._told):
            self.tell(name)


# --- watching the tests


def watch_parts(places: Places, tell: Tell) -> list[Any]:
    """Have unittest tell of a test that changed itself. Returns the tests that an exception has left, as they run."""
    raised: list[Any] = []

    class Outcome(unittest.case._Outcome):  # type: ignore[name-defined,misc]
        @contextlib.contextmanager
        def testPartExecutor(self, test: Any, *given: Any, **named: Any) -> Iterator[None]:
            was = type(test)
            with super().testPartExecutor(test, *given, **named):
                try:
                    yield
                except BaseException:
                    raised.append(test)
                    raise
                finally:
                    if type(test) is not was or _has_own_assertions(test, places):
                        tell("problem", f"the assertions of {was.__name__} were replaced while the tests ran")

    vars(unittest.case)["_Outcome"] = Outcome
    watch_any(places, tell)
    return raised


def _has_own_assertions(test: Any, places: Places) -> bool:
    compared = [getattr(one, "__func__", one) for one in vars(test).get("_type_equality_funcs", {}).values()]
    is_brought = any(places.is_brought(one.__code__) for one in compared if type(one) is types.FunctionType)
    return is_brought or any(name in vars(test) for name in _JUDGING if name != "run")


# --- unittest


def _result_class(verdicts: TestVerdicts, guard: Guard, raised: list[Any], tell: Tell) -> Any:
    """A class of results that tells each test's verdict, and what was changed around it."""

    class Result(unittest.TextTestResult):
        def startTest(self, test: Any) -> None:
            super().startTest(test)
            guard.tell_changes(tell)

        def addSuccess(self, test: Any) -> None:
            super().addSuccess(test)
            is_told = sys._getframe(1).f_code is unittest.TestCase.run.__code__
            has_raised = any(one is test for one in raised)
            verdicts.add(test.id(), "passed" if is_told and not has_raised else "error")

        def addError(self, test: Any, err: Any) -> None:
            super().addError(test, err)
            verdicts.add(test.id(), "error")

        def addFailure(self, test: Any, err: Any) -> None:
            super().addFailure(test, err)
            verdicts.add(test.id(), "failed")

        def addSkip(self, test: Any, reason: str) -> None:
            super().addSkip(test, reason)
            verdicts.add(test.id(), "skipped")

        def addExpectedFailure(self, test: Any, err: Any) -> None:
            super().addExpectedFailure(test, err)
            verdicts.add(test.id(), "skipped")

        def addUnexpectedSuccess(self, test: Any) -> None:
            super().addUnexpectedSuccess(test)
            verdicts.add(test.id(), "failed")

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            super().addSubTest(test, subtest, err)
            if err is not None:
                verdicts.add(test.id(), "failed" if issubclass(err[0], test.failureException) else "error")

        def stopTest(self, test: Any) -> None:
            super().stopTest(test)
            guard.tell_changes(tell)
            if any(name in vars(Result) for name in vars(self)):
                tell("problem", "the result of the tests was changed while they ran")
            verdicts.tell(test.id())

    return Result


def run_unittest(places: Places, tell: Tell) -> None:
    """Run with unittest what the files have, with a result of our own."""
    verdicts, raised = TestVerdicts(tell), watch_parts(places, tell)
    guard = Guard(["unittest", "__main__"], verdicts)
    result_class = _result_class(verdicts, guard, raised, tell)
    suite = _suite(places, verdicts)
    tests = list(_tests_in(suite))
    for test in tests:
        tell("collected", test.id())
    classes = {type(test) for test in tests}
    guard.watch_tests({sys.modules[cls.__module__] for cls in classes}, classes, places)
    tell_stand_ins(classes, places, tell)
    watch_equal_to_all(places, tell)
    result = unittest.TextTestRunner(stream=sys.stdout, resultclass=result_class).run(suite)
    verdicts.tell_others()
    if result.shouldStop:
        tell("problem", "the tests were stopped before their end")


def _suite(places: Places, verdicts: TestVerdicts) -> unittest.TestSuite:
    suite, sources = unittest.TestSuite(), places.sources()
    for path in places.files():
        name = os.path.basename(path)
        if path in places.paths or (name.startswith("test") and name.endswith(".py")):
            _add_file(suite, path, places.base(path), sources, verdicts)
    return suite


def _add_file(
    suite: unittest.TestSuite, path: str, base: str, sources: Sources, verdicts: TestVerdicts
) -> None:
    try:
        suite.addTests(unittest.TestLoader().loadTestsFromModule(load_module(path, base, sources)))
    except BaseException:  # noqa: BLE001 - the code under test may end this process in any way
        sys.stdout.write(f"{path} cannot be loaded:\n{traceback.format_exc()}\n")
        verdicts.add(os.path.relpath(path, base), "error")


def _tests_in(suite: Any) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _tests_in(test)
        else:
            yield test


# --- what passes for a comparison and is none


def tell_stand_ins(classes: set[type], places: Places, tell: Tell) -> None:
    """Tell of a class of tests whose assertions are others than unittest's, by the agent's doing."""
    for cls in classes:
        meta: Any = type(cls)
        for base in {*cls.__mro__, *meta.__mro__} - {unittest.TestCase}:
            own = [vars(base).get(name) for name in _JUDGING]
            if any(places.is_brought(one.__code__) for one in own if type(one) is types.FunctionType):
                words = "has assertions of its own, in a file that was changed, or in none"
                tell("problem", f"{base.__name__} {words}")


def find_equal_to_all(places: Places) -> Iterator[tuple[type, Any]]:
    """Yield each class of the agent's whose objects equal whatever a test expects, with its `__eq__`."""
    for cls in gc.get_objects():
        equal = vars(cls).get("__eq__") if issubclass(type(cls), type) else None
        if equal is None:
            continue
        is_of_c = type(equal) in (types.WrapperDescriptorType, types.BuiltinFunctionType)
        is_own = is_of_c or (type(equal) is types.FunctionType and not places.is_agents_code(equal.__code__))
        if not is_own and any(all(_says_equal(equal, value) for value in values) for values in _UNEQUAL):
            yield cls, equal


def watch_equal_to_all(places: Places, tell: Tell) -> None:
    """Have such classes tell when a test compares one of their objects. The agent's own code may."""
    for cls, equal in list(find_equal_to_all(places)):
        _watch_equal(cls, equal, places, tell)


def watch_any(places: Places, tell: Tell) -> None:
    """Have `unittest.mock.ANY` tell, too, where no file of tests names it."""
    if not any(b"ANY" in source for source in places.sources().values()):
        cls = type(unittest.mock.ANY)
        _watch_equal(cls, vars(cls)["__eq__"], places, tell)


def _watch_equal(cls: type, equal: Any, places: Places, tell: Tell) -> None:
    def compare(self: Any, other: Any) -> Any:
        if not places.is_agents(sys._getframe(1).f_code.co_filename):
            tell("problem", f"an object of {cls.__name__} is equal to everything")
        return _bound(equal, self)(other)

    type.__setattr__(cls, "__eq__", compare)


class _Nobody:
    pass


def _bound(equal: Any, self: Any) -> Any:
    return equal.__get__(self, type(self)) if hasattr(equal, "__get__") else equal


def _says_equal(equal: Any, value: object) -> bool:
    try:
        told = _bound(equal, _Nobody())(value)
        return told is not NotImplemented and bool(told)
    except Exception:  # noqa: BLE001 - it needs an object of its own
        return False


# --- pytest


def load_pytest(tell: Tell, plugins: list[str]) -> Any:
    """Pytest and its plugins, while nothing of the repo can be imported; None where they are not there."""
    try:
        pytest = importlib.import_module("pytest")
        for name in plugins:
            importlib.import_module(name)
    except ImportError as error:
        version = sys.version.split()[0]
        words = f"{sys.executable}, Python {version}, cannot import what the tests need: {error}"
        tell("problem", f"{words}; install it in the template or in [setup]")
        return None
    for name in ("pygments", "_pytest.pytester_assertions"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    return pytest


def run_pytest(pytest: Any, places: Places, tell: Tell, plugins: list[str], own_folder: str) -> None:
    """Run with pytest what the files have, with no configuration, conftest or plugin but the task's own."""
    arguments = [*_pytest_options(places, own_folder), *(f"-p{name}" for name in plugins), *places.paths]
    verdicts = TestVerdicts(tell)
    read_ahead(places)
    code = int(pytest.main(arguments, plugins=[_pytest_reporter(pytest, places, tell, verdicts, plugins)]))
    verdicts.tell_others()
    if code in _BAD_ENDS or code > 5:
        tell("problem", f"pytest ended with {code}: {_BAD_ENDS.get(code, 'for a reason of a plugin')}")


def read_ahead(places: Places) -> None:
    """Have pytest compile the files as they are now."""
    rewriting: Any = importlib.import_module("_pytest.assertion.rewrite")
    rewrite, sources = rewriting._rewrite_test, places.sources()

    class Source(type(pathlib.Path())):  # type: ignore[misc]
        def read_bytes(self) -> bytes:
            return sources[os.fspath(self)]

    def rewrite_source(path: Any, *others: Any) -> Any:
        return rewrite(Source(path) if os.fspath(path) in sources else path, *others)

    rewriting._rewrite_test = rewrite_source


def _pytest_options(places: Places, own_folder: str) -> Iterator[str]:
    yield from ("-pno:cacheprovider", "--import-mode=importlib", "--color=no", "-rfE", "--tb=short")
    yield from ("--continue-on-collection-errors", "-oaddopts=", "--rootdir", places.repo)
    yield from ("-c", _configuration(places, own_folder), "--confcutdir", os.path.dirname(places.repo))
    conftests = [path for path in _conftests(places) if places.is_trusted(path)]
    if not conftests:
        yield "--noconftest"
        return
    manager = importlib.import_module("_pytest.config").PytestPluginManager
    load = manager._importconftest

    @functools.wraps(load)
    def load_trusted(self: Any, path: Any, *others: Any, **named: Any) -> Any:
        is_trusted = places.is_trusted(os.fspath(path))
        return load(self, path, *others, **named) if is_trusted else types.ModuleType("conftest")

    manager._importconftest = load_trusted


def _conftests(places: Places) -> Iterator[str]:
    for folder in (places.repo, places.checks):
        for found, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name not in (".git", "node_modules")]
            if "conftest.py" in names:
                yield os.path.join(found, "conftest.py")


def _configuration(places: Places, own_folder: str) -> str:
    for name, section in _CONFIGURATIONS:
        path = os.path.join(places.repo, name)
        if os.path.isfile(path) and places.is_trusted(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                if section in file.read():
                    return path
    path = os.path.join(own_folder, "pytest.ini")
    with open(path, "w", encoding="utf-8") as file:
        file.write("[pytest]\n")
    return path


def _tell_new_plugins(hooks: Any, places: Places, tell: Tell, plugins: list[str]) -> None:
    for hook in vars(hooks).values():
        for one in getattr(hook, "get_hookimpls", list)():
            code: Any = getattr(getattr(one.function, "__func__", one.function), "__code__", None)
            is_known = code is None or code in _OWN_CODES or one.plugin_name in plugins
            if not is_known and places.is_brought(code):
                tell("problem", f"{one.plugin_name} has come among the plugins while the tests ran")


def _name_of_item(item: Any, places: Places) -> str:
    path = os.fspath(getattr(item, "path", None) or item.fspath)
    file = os.path.relpath(path, places.base(path))
    return "::".join([file, *item.nodeid.split("::")[1:]])


def _pytest_reporter(
    pytest: Any, places: Places, tell: Tell, verdicts: TestVerdicts, plugins: list[str]
) -> Any:
    names: dict[str, str] = {}

    class Reporter:
        @pytest.hookimpl(trylast=True)  # type: ignore[untyped-decorator]
        def pytest_sessionstart(self) -> None:
            # Pytest and its plugins have done what they do to each other, and no test has been loaded.
            self.raised = watch_parts(places, tell)
            self.guard = Guard(["_pytest", "pluggy", "unittest", "__main__"], verdicts)

        def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
            # None: another makes the report.
            if call.when != "call":
                return
            instance = getattr(item, "_instance", None) or getattr(item, "instance", None)
            if call.excinfo is None and any(one is instance for one in self.raised):
                tell("problem", "a test that has failed was to be taken for one that passed")
            _tell_new_plugins(item.config.hook, places, tell, plugins)

        @pytest.hookimpl(trylast=True)  # type: ignore[untyped-decorator]
        def pytest_collection_finish(self, session: Any) -> None:
            for item in session.items:
                names[item.nodeid] = _name_of_item(item, places)
                tell("collected", names[item.nodeid])
            modules = {item.module for item in session.items if getattr(item, "module", None)}
            classes = {item.cls for item in session.items if getattr(item, "cls", None)}
            self.guard.watch_tests(modules, classes, places)
            tell_stand_ins(classes, places, tell)
            watch_equal_to_all(places, tell)

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed:
                verdicts.add(report.nodeid or "the tests", "error")

        def pytest_runtest_logreport(self, report: Any) -> None:
            outcome = report.outcome
            if outcome == "failed" and report.when != "call":
                outcome = "error"
            if outcome != "passed" or report.when == "call":
                verdicts.add(names.get(report.nodeid, report.nodeid), outcome)

        def pytest_runtest_logstart(self) -> None:
            self.guard.tell_changes(tell)

        def pytest_runtest_logfinish(self, nodeid: str) -> None:
            self.guard.tell_changes(tell)
            verdicts.tell(names.get(nodeid, nodeid))

    return Reporter()


# --- the run


def run(orders: dict[str, Any], tell: Tell, own_folder: str) -> None:
    """Run the tests as the orders say."""
    places = Places(orders)
    standard = len(sys.path)
    add_installed(orders["with_user_site"])
    is_of_pytest = orders["runner"] == "pytest"
    pytest = load_pytest(tell, orders["plugins"]) if is_of_pytest else None
    if is_of_pytest and pytest is None:
        return
    in_checks = [places.checks] if any(places.base(path) == places.checks for path in places.paths) else []
    folders = in_checks + [os.path.normpath(os.path.join(places.repo, one)) for one in orders["pythonpath"]]
    sys.path[standard:standard] = folders
    sys.path += [folder for folder in places.roots() if folder not in sys.path]
    sys.meta_path.insert(0, TestsFinder(places, folders))
    places.forget_compiled()
    if is_of_pytest:
        run_pytest(pytest, places, tell, orders["plugins"], own_folder)
    else:
        run_unittest(places, tell)
    for cls, _ in find_equal_to_all(places):  # made or changed since the tests began
        tell("problem", f"an object of {cls.__name__} is equal to everything")


def main() -> None:
    """Run the tests as stdin says. The process ends here: what the code under test has left for its end is not done."""
    orders = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.unlink(__file__)
    tell = open_report(orders["report"], bytes.fromhex(orders.pop("key")))
    os.chdir(orders["repo"])
    sys.argv[1:] = []
    sys.dont_write_bytecode = True
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    end, out = os._exit, sys.stdout
    tell("start")
    try:
        run(orders, tell, os.path.dirname(os.path.abspath(__file__)))
        tell("end")
    except BaseException:  # noqa: BLE001
        words = traceback.format_exc()
        tell("problem", f"the tests ended early: {words[-2000:]}")
        with contextlib.suppress(Exception):
            out.write(words)
    finally:
        with contextlib.suppress(Exception):
            out.flush()
        end(0)


if __name__ == "__main__":
    main()
