"""Plugins that repeat, rerun, reorder or time tests: each trial is run once, to its end, and in the plan's order."""

from __future__ import annotations

import pytest

from tests.support.folders import task_folder, write_files
from tests.support.python_tests import outcomes, ran, records, run

pytestmark = pytest.mark.usefixtures("as_stub")

FAILING = """
import pytest

{marker}
def test_{name}({fixture}):
    with open("ran.txt", "a") as file:
        file.write("{name}\\n")
    assert False
"""


def failing(marker: str = "", *, name: str = "it", fixture: str = "sandbox") -> str:
    """A test that writes its name down, and fails."""
    return FAILING.format(marker=marker, name=name, fixture=fixture)


@pytest.mark.parametrize(
    ("marker", "options"),
    [("", ["--count", "3"]), ("@pytest.mark.repeat(3)", []), ("", ["--count=3", "--repeat-scope=session"])],
)
def test_each_repetition_is_a_trial(pytester: pytest.Pytester, marker: str, options: list[str]) -> None:
    """pytest-repeat gives further trials of the same task, beside those of --trials."""
    write_files(pytester.path, {"test_it.py": failing(marker)})
    run(pytester, ".", "-p", "repeat", "--trials", "2", *options).assert_outcomes(failed=6)
    assert set(outcomes(pytester)) == {f"test_it.py.test_it[default-t{index}]" for index in range(1, 7)}
    assert len(ran(pytester)) == 6


@pytest.mark.parametrize(
    ("marker", "options"),
    [
        ("", ["--reruns", "2"]),
        ("", ["--force-reruns", "2"]),
        ("", ["-o", "reruns=2"]),
        ("@pytest.mark.flaky(reruns=2)", []),
    ],
)
def test_no_failure_is_rerun(pytester: pytest.Pytester, marker: str, options: list[str]) -> None:
    """pytest-rerunfailures leaves trials alone, in words, and goes on rerunning other tests."""
    other = failing(name="other", fixture="")
    write_files(pytester.path, {"test_it.py": failing(marker), "test_other.py": other})
    result = run(pytester, ".", "-p", "rerunfailures", *options)
    others = 1 if marker else 3
    counts = {name: count for name, count in result.parseoutcomes().items() if "warning" not in name}
    assert counts == {"failed": 2, **({} if marker else {"rerun": 2})}
    result.stdout.fnmatch_lines(["harness: pytest-rerunfailures reruns no trial*--retries N*--trials N*"])
    assert outcomes(pytester) == {"test_it.py.test_it[default-t1]": "failed"}
    assert ran(pytester) == ["it"] + ["other"] * others


def test_one_test_named_twice_has_one_trial(pytester: pytest.Pytester) -> None:
    """The second run of the same test is refused in words, whoever has asked for it."""
    write_files(pytester.path, {"test_it.py": failing()})
    result = run(pytester, "--keep-duplicates", "test_it.py", "test_it.py")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_it.py.test_it?default-t1? was run already, and its record stands*"])
    assert outcomes(pytester) == {"test_it.py.test_it[default-t1]": "failed"}


SLOW = """
import pytest, time

{marker}
def test_it(sandbox):
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        pass
"""
TIMES_OTHERS = "0.5"


@pytest.mark.parametrize(
    ("marker", "options"),
    [
        ("", ["--timeout", "0.01"]),
        ("", ["--timeout", "0.01", "--timeout-method", "thread"]),
        ("", ["-o", "timeout=0.01", "-o", "timeout_func_only=true"]),
        # A shorter one can come while pytest itself is still writing the test's name.
        ("", ["--timeout", TIMES_OTHERS]),
        ("@pytest.mark.timeout(0.01)", []),
    ],
)
def test_no_trial_is_timed_by_its_test(pytester: pytest.Pytester, marker: str, options: list[str]) -> None:
    """pytest-timeout leaves trials alone, in words that name the key to use, and goes on timing other tests."""
    other = "import time\ndef test_other():\n    time.sleep(60)\n"
    write_files(pytester.path, {"test_it.py": SLOW.format(marker=marker)})
    task_folder(pytester.path / "tasks")
    alone = TIMES_OTHERS not in options
    write_files(pytester.path, {} if alone else {"test_other.py": other})
    # A thread would end this process, too.
    start = pytester.runpytest_subprocess if "thread" in options else pytester.runpytest
    result = start("--agent", "nop", ".", "-p", "timeout", *options)
    result.assert_outcomes(passed=2, failed=0 if alone else 1)
    result.stdout.fnmatch_lines(
        ["harness: pytest-timeout ends no trial*`timeout` in @pytest.mark.task or task.toml"]
    )
    assert {record.outcome for record in records(pytester)} == {"passed"}


def test_a_note_is_for_who_asked(pytester: pytest.Pytester) -> None:
    """Plugins that are installed and not used are not worth a word."""
    write_files(pytester.path, {"test_it.py": "def test_it(sandbox): pass\n"})
    result = run(pytester, ".", "-p", "timeout", "-p", "rerunfailures", "-o", "timeout=0")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*pytest-timeout*")
    result.stdout.no_fnmatch_line("*pytest-rerunfailures*")


ORDERED = """
import pytest

@pytest.fixture(scope="module", params=["one", "two"])
def wide(request):
    with open("ran.txt", "a") as file:
        file.write(f"{request.param}\\n")

@pytest.mark.parametrize("n", range(4))
def test_many(sandbox, n):
    pass

def test_wide(sandbox, wide):
    pass

def test_other_wide(sandbox, wide):
    pass
"""


SHUFFLES = [
    ["-p", "randomly", "-p", "no:cacheprovider", "--randomly-seed=7"],
    ["-p", "random_order", "--random-order-bucket=module", "--random-order-seed=7"],
]


def test_trials_run_in_the_plans_order(pytester: pytest.Pytester) -> None:
    """All variants of one task and index run next to each other, tasks as they stand, whatever shuffles the tests.

    Other tests are shuffled all the same, and a fixture of the module is set up once for each of its parameters.
    """
    plain = "".join(f"def test_{number}(): pass\n" for number in range(20))
    write_files(
        pytester.path, {"test_it.py": ORDERED, "test_plain.py": plain, "variants.toml": "[a]\n[b]\n[c]\n"}
    )
    for name in ("first", "second"):
        task_folder(pytester.path / "tasks", name)
    options = [".", "--trials", "2", "--seed", "1", "--concurrency", "1", "-v"]
    in_order = run(pytester, *options)
    expected, setups = [record.trial_id for record in records(pytester)], ran(pytester)
    for shuffle in SHUFFLES:
        shuffled = run(pytester, *options, *shuffle)
        assert [record.trial_id for record in records(pytester)] == expected
        assert setups == ran(pytester) == ["one", "two"]
        assert _plain(in_order) != _plain(shuffled)
    blocks = [expected[start : start + 3] for start in range(0, len(expected), 3)]
    assert all(len({trial.replace(f"[{v}-", "[") for trial in block for v in "abc"}) for block in blocks)
    assert {_variants(block) for block in blocks} > {("a", "b", "c")}


def _plain(result: pytest.RunResult) -> list[str]:
    """The tests that are no trials, in the order in which they ran."""
    return [line.split()[0] for line in result.outlines if line.startswith("test_plain.py::")]


def _variants(block: list[str]) -> tuple[str, ...]:
    return tuple(trial.rpartition("[")[2][0] for trial in block)
