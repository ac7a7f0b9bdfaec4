"""How many of a seeded sample of mutants the tests kill.

    python benchmarks/mutants.py [--sample 60] [--seed 1] [--jobs 1] [--journal FILE] [FILE_OR_FOLDER ...]
    python benchmarks/mutants.py --again --journal FILE

A mutant is a module with one small change, such as `<` in place of `<=`, made by Cosmic Ray (`pip install -e
'.[mutation]'`). Each runs in a copy of the checkout against the tests that `[tool.mutants.tests]` of pyproject.toml
names for its module: the entry with the longest path counts. A test that fails, and passes without the change, kills
the mutant; so do tests that come to no end with it alone. The survivors are printed as diffs. Each is either
equivalent, which means that no input tells it from the original, or a hole in the tests; only a reader can say which.
With `--journal`, a run that was interrupted goes on where it was. With `--again`, only what survived by the journal is
planted once more, in the code as it is now, and the journal says how that ended.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[1]
COPIED = ("harness", "tests", "tasks", "benchmarks", "docs", "conftest.py", "pyproject.toml", "README.md")
PRELOADED = ["pytest", "scipy.stats", "pydantic", "e2b", "rich.console", "jsonschema", "uvicorn"]
"""No plugins of pytest: it warns of those that were imported before, and tests count warnings."""
FAILED = "failed.txt"
NEVER_ENDS_S = 900.0


@dataclass(frozen=True)
class Mutant:
    """One change: the module's path, the change's place, operator and diff, and the module's text before and after.

    The diff is its name in a journal. It is as it was when the change was drawn.
    """

    module: str
    line: int
    operator: str
    diff: str
    before: str
    after: str


def config() -> Mapping[str, Any]:
    """`[tool.mutants]` of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["tool"]["mutants"])


def find_modules(given: Sequence[str], configured: Iterable[str]) -> list[str]:
    """The modules of the given files and folders, as paths from the root."""
    files = [file for name in given or configured for file in [ROOT / name, *(ROOT / name).rglob("*.py")]]
    return sorted({str(file.resolve().relative_to(ROOT)) for file in files if file.suffix == ".py"})


def draw_mutants(modules: Sequence[str], exclude: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """A sample over the places in all modules that can be changed, with one change for each place."""
    rng = random.Random(seed)
    places = [
        (module, place, changes) for module in modules for place, changes in find_places(module, exclude)
    ]
    drawn = rng.sample(places, min(count, len(places)))
    print(
        f"{len(places)} places in {len(modules)} modules; a sample of {len(drawn)} with seed {seed}",
        flush=True,
    )
    return [mutate(module, place[0], *rng.choice(changes)) for module, place, changes in drawn]


def find_places(module: str, exclude: Sequence[str]) -> list[tuple[tuple[int, int], list[tuple[str, int]]]]:
    """Where a module can be changed, and there each operator with the number of its occurrence."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    text = (ROOT / module).read_text(encoding="utf-8")
    declared = set(declared_places(text))
    nodes = list(ast_nodes(get_ast(text)))
    places: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in sorted(operator_names()):
        operator_class = get_operator(name)
        if operator_class.arguments() or any(re.search(pattern, name) for pattern in exclude):
            continue
        operator = operator_class()
        positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(positions):
            if start not in declared:
                places.setdefault(start, []).append((name, occurrence))
    return sorted(places.items())


def declared_places(text: str) -> Iterator[tuple[int, int]]:
    """Every place that only the type checker looks at: annotations, and what decorates a class (`frozen=True`)."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        declarations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.ClassDef):
            declarations += node.decorator_list
        for declared in filter(None, declarations):
            for line in range(declared.lineno, declared.end_lineno + 1):
                start = declared.col_offset if line == declared.lineno else 0
                end = declared.end_col_offset if line == declared.end_lineno else len(lines[line - 1])
                yield from ((line, column) for column in range(start, end + 1))


def mutate(module: str, line: int, operator: str, occurrence: int) -> Mutant:
    """Make one change."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    text = (ROOT / module).read_text(encoding="utf-8")
    changed = mutate_code(text, get_operator(operator)(), occurrence)
    assert changed is not None, "the occurrence was found before"
    lines = difflib.unified_diff(text.splitlines(), changed.splitlines(), module, module, lineterm="", n=2)
    return Mutant(module, line, operator.removeprefix("core/"), "\n".join(lines), text, changed)


def module_of(diff: str) -> str:
    """The module that a diff changes."""
    return diff.partition("\n")[0].removeprefix("--- ")


def plant_again(diff: str) -> Mutant | None:
    """Make a journal's change in the module as it is now; None where its lines are there no more, or more than once."""
    module = module_of(diff)
    text = (ROOT / module).read_text(encoding="utf-8")
    hunk = diff.split("\n")[3:]
    for context in (2, 1, 0):
        changed = [number for number, line in enumerate(hunk) if not line.startswith(" ")]
        near = hunk[max(0, changed[0] - context) : changed[-1] + 1 + context]
        old, new = (
            "".join(f"\n{line[1:]}" for line in near if line[:1] != other) + "\n" for other in ("+", "-")
        )
        before, found, rest = f"\n{text}".partition(old)
        if found and old not in found[1:] + rest:
            line = before.count("\n") + 1 + changed[0] - max(0, changed[0] - context)
            return Mutant(module, line, "again", diff, text, f"{before}{new}{rest}"[1:])
    return None


class Checkout:
    """A copy of the checkout, in which one mutant at a time is tested."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes = 0
        ignored = shutil.ignore_patterns("__pycache__")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, path / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, path / name)

    def write(self, module: str, text: str) -> None:
        """Write a module with a time of its own, by which Python knows that its bytecode is old."""
        file = self.path / module
        file.write_text(text, encoding="utf-8")
        self._writes += 1
        os.utime(file, (1_000_000_000 + self._writes,) * 2)

    def run(self, tests: Sequence[str]) -> int | None:
        """Run tests; return pytest's exit code, or None when they took too long."""
        context = multiprocessing.get_context("forkserver")
        (self.path / FAILED).write_text("")
        process = context.Process(target=run_pytest, args=(self.path, tuple(tests)))
        process.start()
        process.join(NEVER_ENDS_S)
        if not process.is_alive():
            return process.exitcode
        assert process.pid, "it was started"
        os.killpg(process.pid, signal.SIGKILL)  # Its own group, with what its tests have started.
        process.join()
        return None

    def failed(self, tests: Sequence[str]) -> tuple[str, ...]:
        """What of `tests` has failed in the last run: one test, or the collection of a file or of all."""
        text = (self.path / FAILED).read_text(encoding="utf-8")
        return tuple(text.split("\n")) if text else ("--collect-only", *tests)


class FirstFailure:
    """A plugin of pytest's that writes down what has failed first, wherever a test has gone by then."""

    def __init__(self, checkout: Path) -> None:
        self._file = checkout / FAILED

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep a test's name."""
        if report.failed:
            self._file.write_text(report.nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: Any) -> None:
        """Keep the name of a file that cannot be collected."""
        if report.failed:
            self._file.write_text(f"--collect-only\n{report.nodeid}", encoding="utf-8")


def run_pytest(checkout: Path, tests: Sequence[str]) -> None:
    """Run pytest within this process, on the checkout's own package."""
    os.setsid()
    os.chdir(checkout)
    os.environ["PYTHONPATH"] = str(checkout)
    sys.path[:] = [str(checkout), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT)]
    with (checkout / "output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=line"]
    # A run of its own: what tests leave running must not keep this process.
    os._exit(pytest.main([*tests, *options], plugins=[FirstFailure(checkout)]))


class Trials:
    """Runs mutants, each in a checkout that is free, against the tests of its module."""

    def __init__(
        self,
        tests: Mapping[str, Sequence[str]],
        folder: Path,
        jobs: int,
        journal: Path | None,
        known: Mapping[str, str],
    ) -> None:
        self._tests = tests
        self._jobs = jobs
        self._free: SimpleQueue[Checkout] = SimpleQueue()
        for number in range(jobs):
            self._free.put(Checkout(folder / str(number)))
        self._journal = journal
        self._known = known
        self._pass: set[tuple[str, ...]] = set()

    def survivors(self, mutants: Sequence[Mutant]) -> list[Mutant]:
        """Run all; return those that no test has killed."""
        with ThreadPoolExecutor(self._jobs) as pool:
            ends = list(pool.map(self._end, mutants))
        return [mutant for mutant, end in zip(mutants, ends, strict=True) if end == "survived"]

    def _end(self, mutant: Mutant) -> str:
        if end := self._known.get(mutant.diff):
            return end
        checkout = self._free.get()
        started = time.monotonic()
        end, by = self._try(checkout, mutant)
        seconds = time.monotonic() - started
        self._free.put(checkout)
        print(f"{end:9} {seconds:4.0f} s {mutant.module}:{mutant.line} {mutant.operator} {by}", flush=True)
        if self._journal:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps([mutant.diff, end]) + "\n")
        return end

    def _try(self, checkout: Checkout, mutant: Mutant) -> tuple[str, str]:
        """How a mutant ended, and the test that killed it.

        Raises:
            SystemExit: when that test fails without the change, too.
        """
        tests = self._tests[max((entry for entry in self._tests if mutant.module.startswith(entry)), key=len)]
        checkout.write(mutant.module, mutant.after)
        code = checkout.run(tests)
        checkout.write(mutant.module, mutant.before)
        if code == 0:
            return "survived", ""
        by = tuple(tests) if code is None else checkout.failed(tests)
        if by not in self._pass and checkout.run(by) != 0:
            raise SystemExit(f"this fails without a change:\n{(checkout.path / 'output.txt').read_text()}")
        self._pass.add(by)
        return ("timed out", "") if code is None else ("killed", by[-1])


def print_result(modules: Sequence[str], survivors: Sequence[Mutant]) -> None:
    """The survivors, and the share that was killed of each folder and of all; `modules` has that of each mutant."""
    for mutant in survivors:
        print(f"\n{mutant.module}:{mutant.line} {mutant.operator} survived\n{mutant.diff}")
    print()
    alive = Counter(str(Path(mutant.module).parent) for mutant in survivors)
    for folder, total in sorted(Counter(str(Path(module).parent) for module in modules).items()):
        print(f"{folder}: {total - alive[folder]} of {total} killed")
    killed = len(modules) - len(survivors)
    print(f"all: {killed} of {len(modules)} killed, {killed / len(modules):.1%}")


def read_journal(journal: Path | None) -> dict[str, str]:
    """How each mutant ended last, by its diff."""
    lines = journal.read_text(encoding="utf-8").splitlines() if journal and journal.exists() else ()
    return dict(map(json.loads, lines))


def draw_again(known: dict[str, str]) -> list[Mutant]:
    """What survived by a journal, in the code as it is now. What cannot be planted any more is told and left out."""
    mutants = []
    for diff in [diff for diff, end in known.items() if end == "survived"]:
        del known[diff]
        if mutant := plant_again(diff):
            mutants.append(mutant)
        else:
            print(f"cannot be planted any more:\n{diff}\n")
    return mutants


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "modules", nargs="*", help="files or folders (default: all that pyproject.toml names)"
    )
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--journal", type=Path, help="a file that keeps how each mutant ended")
    parser.add_argument("--again", action="store_true", help="only what survived by the journal")
    options = parser.parse_args()
    settings, known = config(), read_journal(options.journal)
    if options.again:
        mutants = draw_again(known)
        of = [*map(module_of, known), *(mutant.module for mutant in mutants)]
    else:
        modules = find_modules(options.modules, settings["tests"])
        mutants = draw_mutants(modules, settings["exclude-operators"], options.sample, options.seed)
        of = [mutant.module for mutant in mutants]
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # Tests that start a server as another account read the package.
        trials = Trials(settings["tests"], Path(folder), options.jobs, options.journal, known)
        print_result(of, trials.survivors(mutants))


if __name__ == "__main__":
    main()
