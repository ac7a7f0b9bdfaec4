"""Each set of a Python test's parameters is a task of its own, in whatever way its trials are run."""

from __future__ import annotations

import re

import pytest

from harness.records.reading import list_runs
from tests.support.folders import write_files
from tests.support.python_tests import outcomes, ran, records, run

pytestmark = pytest.mark.usefixtures("as_stub")

THREE = """
import pytest
from pathlib import Path

@pytest.mark.task(checks={"c": "true"})
@pytest.mark.parametrize("n", [1, 2, 3])
def test_p(sandbox, n):
    with Path("ran.txt").open("a") as file:
        file.write(f"{n}\\n")
    assert n != 2
"""
THREE_OUTCOMES = {
    "test_it.py.test_p-1[default-t1]": "passed",
    "test_it.py.test_p-2[default-t1]": "failed",
    "test_it.py.test_p-3[default-t1]": "passed",
}


@pytest.mark.parametrize(
    "way", [[], ["-n2"], ["-n2", "--dist", "each"]], ids=lambda way: " ".join(way) or "plain"
)
def test_each_set_has_its_own_record(pytester: pytest.Pytester, way: list[str]) -> None:
    """pytest's outcomes, the records, their folders and the summary are of as many trials as there are sets."""
    write_files(pytester.path, {"test_it.py": THREE})
    result = pytester.runpytest("--agent", "nop", "test_it.py", *way)
    skipped = {"skipped": 3} if "each" in way else {}
    assert result.parseoutcomes() == {"passed": 2, "failed": 1, **skipped}
    assert outcomes(pytester) == THREE_OUTCOMES
    result.stdout.re_match_lines([r"default +2 +1 +0 +67%"])
    (run_folder,) = list_runs(pytester.path / "results")
    folders = {path.name for path in (run_folder.path / "trials").iterdir()}
    assert folders == {record.task for record in records(pytester)}


def test_each_set_has_its_own_trials_under_each_variant(pytester: pytest.Pytester) -> None:
    """Three sets, two variants, two trials."""
    write_files(pytester.path, {"test_it.py": THREE, "variants.toml": "[a]\n[b]\n"})
    run(pytester, ".", "--trials", "2").assert_outcomes(passed=8, failed=4)
    found = outcomes(pytester)
    assert len(found) == 12
    failed = {trial for trial, outcome in found.items() if outcome == "failed"}
    assert failed == {f"test_it.py.test_p-2[{variant}-t{index}]" for variant in "ab" for index in (1, 2)}


ARMS = """
import pytest

@pytest.mark.parametrize("n", [*range(8), pytest.param(8, marks=pytest.mark.skip)])
def test_arm(request, sandbox, n):
    assert "[b-" in request.node.name
"""


def test_rounds_are_added_until_the_verdict_is_settled(pytester: pytest.Pytester) -> None:
    """A set that is skipped holds up no round; what is not needed any more is skipped with the reason."""
    write_files(pytester.path, {"test_arm.py": ARMS, "variants.toml": "[a]\n\n[b]\n"})
    result = run(pytester, "test_arm.py", "--trials", "2", "--until-decided", "--max-trials", "9", "-rs")
    result.stdout.fnmatch_lines(
        ["*not needed: improvement against a is settled after * trials of each task*"]
    )
    settled = [record for record in records(pytester) if record.outcome in ("passed", "failed")]
    rounds = {record.index for record in settled}
    assert rounds == set(range(1, max(rounds) + 1))
    assert 2 <= max(rounds) < 9


def test_rounds_of_processes_are_declined(pytester: pytest.Pytester) -> None:
    """A test that waits for its round could keep a worker from the tests of the round before."""
    write_files(pytester.path, {"test_arm.py": ARMS, "variants.toml": "[a]\n\n[b]\n"})
    result = run(pytester, "test_arm.py", "--trials", "2", "--until-decided", "--max-trials", "6", "-n2")
    result.stdout.fnmatch_lines(["harness: with -n, --until-decided adds rounds of task folders only*"])
    assert {record.index for record in records(pytester)} == {1, 2}


def test_each_set_is_in_one_shard(pytester: pytest.Pytester) -> None:
    """The shards share the sets among them."""
    write_files(pytester.path, {"test_it.py": THREE})
    shards = []
    for number in (1, 2):
        run(pytester, ".", "--shard", f"{number}/2")
        shards.append(outcomes(pytester))
    assert all(shards)
    assert shards[0] | shards[1] == THREE_OUTCOMES
    assert not shards[0].keys() & shards[1].keys()


def test_a_resume_runs_the_sets_that_have_no_record(pytester: pytest.Pytester) -> None:
    """One case was run; the other two are, and not the one again."""
    write_files(pytester.path, {"test_it.py": THREE})
    run(pytester, ".", "-k", "t1-1").assert_outcomes(passed=1, deselected=2)
    assert ran(pytester) == ["1"]
    run(pytester, ".", "--resume").assert_outcomes(passed=2, failed=1)
    assert ran(pytester) == ["2", "3"]
    assert outcomes(pytester) == THREE_OUTCOMES


NAMES = """
import pytest

pytestmark = pytest.mark.parametrize("module", ["m"])

@pytest.fixture(params=["left", "right"])
def side(request):
    return request.param

@pytest.fixture
def doubled(request):
    return 2 * request.param

@pytest.mark.parametrize("row", [1, 2])
class TestClass:
    @pytest.mark.parametrize("cell", ["x", pytest.param("y", id="why")])
    def test_stacked(self, sandbox, module, row, cell):
        pass

def test_fixture(sandbox, module, side):
    pass

@pytest.mark.parametrize("doubled", [3, 4], indirect=True, ids=["three", "four"])
def test_indirect(sandbox, module, doubled):
    assert doubled in (6, 8)

def test_plain(claude, module):
    pass
"""


def test_a_task_is_named_as_its_test_with_its_parameters(pytester: pytest.Pytester) -> None:
    """By marks of the module, the class and the function, stacked, indirect, of a fixture, with ids of their own."""
    write_files(pytester.path, {"test_it.py": NAMES})
    run(pytester).assert_outcomes(passed=9)
    assert {record.task.removeprefix("test_it.py.") for record in records(pytester)} == {
        "TestClass.test_stacked-x-1-m",
        "TestClass.test_stacked-why-1-m",
        "TestClass.test_stacked-x-2-m",
        "TestClass.test_stacked-why-2-m",
        "test_fixture-left-m",
        "test_fixture-right-m",
        "test_indirect-three-m",
        "test_indirect-four-m",
        "test_plain-m",
    }


ALIKE = """
import pytest

@pytest.mark.parametrize("text", ["a b", "a/b", "a_b", "", "x" * 300, "x" * 301])
def test_text(sandbox, text):
    pass

@pytest.mark.parametrize("first, second", [("a-b", "c"), ("a", "b-c")], ids=None)
def test_one_mark(sandbox, first, second):
    pass

@pytest.mark.parametrize("second", ["c", "b-c"])
@pytest.mark.parametrize("first", ["a-b", "a"])
def test_two_marks(sandbox, first, second):
    pass
"""


def test_sets_whose_names_would_be_alike_are_told_apart(pytester: pytest.Pytester) -> None:
    """What no file's name can have, or is too long, is replaced, with a hash; also where pytest's ids are the same."""
    write_files(pytester.path, {"test_it.py": ALIKE})
    run(pytester).assert_outcomes(passed=12)
    names = {record.task.removeprefix("test_it.py.") for record in records(pytester)}
    assert len(names) == 12
    assert "test_text-a_b" in names
    assert sum(bool(re.fullmatch(r"test_text-a_b-[0-9a-f]{8}", name)) for name in names) == 2
    assert sum(bool(re.fullmatch(r"test_two_marks-a-b-c-[0-9a-f]{8}", name)) for name in names) == 2
    assert max(map(len, names)) < 90
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)


def test_a_new_row_renames_no_other(pytester: pytest.Pytester) -> None:
    """A row that would be alike with an older one gets another name, and the older one keeps its own."""
    table = "import pytest\n@pytest.mark.parametrize('t', [{}])\ndef test_it(sandbox, t): pass\n"
    write_files(pytester.path, {"test_it.py": table.format("'a b'")})
    run(pytester)
    before = set(outcomes(pytester))
    write_files(pytester.path, {"test_it.py": table.format("'a/b', 'a b'")})
    run(pytester)
    assert before < set(outcomes(pytester))


def test_two_tests_of_one_name_are_refused(pytester: pytest.Pytester) -> None:
    """Their files' folders are told apart by a slash, which no name can have."""
    test = "def test_it(sandbox): pass\n"
    write_files(pytester.path, {"a_b/test_it.py": test, "a/b/test_it.py": test})
    result = run(pytester, "--import-mode=importlib", ".")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*a_b/test_it.py::test_it: in records its name is that of a/b/test_it.py::test_it*"]
    )


UNABLE = """
import unittest
import pytest

def test_late(request):
    request.getfixturevalue("sandbox")

@pytest.mark.usefixtures("sandbox")
class TestOld(unittest.TestCase):
    def test_method(self):
        pass
"""


def test_a_test_that_cannot_have_trials_says_so(pytester: pytest.Pytester) -> None:
    """It is an error that names what is possible, not one of ours."""
    write_files(pytester.path, {"test_it.py": UNABLE})
    result = run(pytester)
    assert result.parseoutcomes().get("passed") is None
    # Where $CI is set, pytest's summary repeats what each failure said.
    said, _, _ = result.stdout.str().partition("short test summary info")
    assert said.count("cannot have a trial, since pytest does not run it once for each variant") == 2
    assert "KeyError" not in said
    assert "AttributeError" not in said


CONTENT = """
import json
from pathlib import Path
import pytest

ROWS = json.loads(Path(__file__).with_name("rows.json").read_text())

@pytest.mark.task(data=["rows.json"])
def test_data(sandbox):
    with open("ran.txt", "a") as file:
        file.write("data\\n")

@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_row(sandbox, row):
    with open("ran.txt", "a") as file:
        file.write(f"row {row}\\n")
"""


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, []),
        ({"other.py": "1"}, []),
        ({"conftest.py": "1"}, ["data", "row a", "row b"]),
        ({"sub/conftest.py": "1"}, ["data", "row a", "row b"]),
        ({"sub/rows.json": '["a", "c"]'}, ["data", "row c"]),
    ],
    ids=["nothing", "another file", "a conftest.py above", "a conftest.py beside", "data"],
)
def test_what_a_verdict_stands_on_is_known_to_a_resume(
    pytester: pytest.Pytester, change: dict[str, str], again: list[str]
) -> None:
    """A test is run again when its conftest.py files, its data or its parameter's value have changed, and only then."""
    files = {
        "conftest.py": "",
        "sub/conftest.py": "",
        "sub/rows.json": '["a", "b"]',
        "sub/test_it.py": CONTENT,
    }
    write_files(pytester.path, files)
    run(pytester).assert_outcomes(passed=3)
    assert ran(pytester) == ["data", "row a", "row b"]
    write_files(pytester.path, change)
    run(pytester, ".", "--resume").assert_outcomes(passed=3)
    assert ran(pytester) == again


VALUES = """
import dataclasses, enum, functools
import pytest

class Opaque:
    pass

class Told:
    def __repr__(self):
        return "Told()"

class Color(enum.Enum):
    RED = {"r", "g", "b"}

@dataclasses.dataclass
class Row:
    names: set

def named():
    pass

GOOD = [Told(), Color.RED, Row({"a", "b", "c"}), frozenset("abcdef"), {"x": [1, (2.5, None)]}, named, int,
        functools.partial(named, 1)]
BAD = [Opaque(), [Opaque()], Row({Opaque()}), lambda: 1]

@pytest.mark.parametrize("value", GOOD, ids=range(len(GOOD)))
def test_good(sandbox, value):
    with open("ran.txt", "a") as file:
        file.write("good\\n")

@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_bad(sandbox, value):
    with open("ran.txt", "a") as file:
        file.write("bad\\n")
"""


def test_a_value_that_cannot_be_recognized_is_run_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume reuses records of values that a process with other hashes knows again; of others it says why."""
    write_files(pytester.path, {"test_it.py": VALUES})
    for seed, resume in (("1", []), ("2", ["--resume"])):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        ran(pytester)
        result = pytester.runpytest_subprocess("--agent", "nop", "test_it.py", *resume)
        result.assert_outcomes(passed=12)
    assert ran(pytester) == ["bad"] * 4
    result.stdout.fnmatch_lines(
        ["harness: test_it.py::test_bad runs again where it has a record:*'value'*Opaque*"]
    )
    result.stdout.no_fnmatch_line("*test_good runs again*")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            '["rows.jsonl"]',
            "*data.0: 'rows.jsonl' is not a file or folder (paths are relative to the test's file)*",
        ),
        ('"rows.jsonl"', "*data: 'rows.jsonl' is not a list of paths (give a list, such as*"),
    ],
)
def test_data_that_cannot_be_read_is_an_error(pytester: pytest.Pytester, data: str, said: str) -> None:
    """Nothing is run without it."""
    test = f"import pytest\n@pytest.mark.task(data={data})\ndef test_it(sandbox): pass\n"
    write_files(pytester.path, {"test_it.py": test})
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])
