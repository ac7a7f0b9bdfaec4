"""Other people's tasks as tasks of ours: what is taken over, and what is told that has no counterpart."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import ProblemsError, TaskFault, UsageError
from harness.tasks.dockerfile import RunsAs, one_stage, runs_as
from harness.tasks.formats.base import NoCounterpartError, toml_text
from harness.tasks.formats.dataset import Wanted, write_dataset
from harness.tasks.formats.exercism import unskipped
from harness.tasks.formats.importing import import_tasks
from harness.tasks.formats.registry import format_of, take_task
from harness.tasks.formats.rows import files_after_patch
from harness.tasks.loading import load_task
from harness.tasks.task import Task

HARBOR = {
    "task.toml": 'version = "1.0"\n[metadata]\ndifficulty = "easy"\ntags = ["text"]\n[agent]\ntimeout_sec = 120.0\n'
    "[verifier]\ntimeout_sec = 60.0\n",
    "instruction.md": "Count.",
    "environment/Dockerfile": "FROM e2bdev/base\nWORKDIR /app\n",
    "solution/solve.sh": "echo 3 >/app/count.txt\n",
    "tests/test.sh": "echo 1 >/logs/verifier/reward.txt\n",
    # It would fail here, if pytest ran it on this machine.
    "tests/test_outputs.py": "def test_it():\n    assert False\n",
}
EXERCISE = {
    ".meta/config.json": json.dumps(
        {"files": {"solution": ["leap.py"], "test": ["leap_test.py"], "example": [".meta/example.py"]}}
    ),
    ".meta/example.py": "def leap(year):\n    return year % 4 == 0\n",
    ".docs/instructions.md": "# Instructions\n\nLeap years.\n",
    "leap.py": "def leap(year):\n    pass\n",
    "leap_test.py": "import unittest\nfrom leap import leap\n\n\nclass LeapTest(unittest.TestCase):\n"
    "    def test_4(self):\n        self.assertTrue(leap(4))\n\n    @unittest.skip('later')\n    def test_5(self):\n"
    "        self.assertFalse(leap(5))\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def taken(folder: Path, tmp_path: Path) -> Task:
    form = format_of(folder)
    assert form
    return take_task(folder, form, tmp_path / "cache")


def test_a_task_of_harbor(tmp_path: Path) -> None:
    """Its image, limits, network and account; judged where the agent was, with what that left running."""
    task = taken(write(tmp_path / "count", HARBOR), tmp_path)
    assert (task.name, task.timeout, task.check_timeout, task.tags) == ("count", 120, 60, ("text", "easy"))
    assert (task.sandbox.user, task.sandbox.workdir, task.sandbox.network) == ("root", "/app", "open")
    assert task.grade_in_agents_sandbox
    assert task.keep_processes
    assert task.turns[0].prompt == "Count."
    assert [check.name for check in task.checks] == ["reward"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("[environment]\ngpus = 1\n", "GPU"),
        ('[environment]\nos = "windows"\n', "windows"),
        ('[verifier.environment]\ndocker_image = "x"\n', "environment of its own"),
        ('artifacts = ["/"]\n[verifier]\nenvironment_mode = "separate"\n', "whole system"),
        ('[verifier]\nnetwork_mode = "no-network"\n', "one network"),
        ('[environment.env]\nKEY = "${NO_SUCH_VARIABLE_HERE}"\n', "NO_SUCH_VARIABLE_HERE"),
        ('[[environment.mcp_servers]]\nname = "x"\n', "mcp_servers"),
        ('[[steps]]\nname = "one"\nmin_reward = 2\n', "min_reward"),
        ("compose", "several containers"),
        ("trajectory", "trajectory.json"),
    ],
)
def test_what_of_harbor_has_no_counterpart_is_told(tmp_path: Path, extra: str, reason: str) -> None:
    files = {**HARBOR, "steps/one/instruction.md": "x"}
    if extra == "compose":
        files["environment/docker-compose.yaml"] = ""
    elif extra == "trajectory":
        files["trajectory.json"] = "{}"
    else:
        files["task.toml"] = f'version = "1.0"\n{extra}'
    with pytest.raises(NoCounterpartError, match=reason):
        taken(write(tmp_path / "t", files), tmp_path)


def test_steps_of_harbor_are_turns(tmp_path: Path) -> None:
    """Each with its own tests over those of all, and its own solution."""
    files = {
        **HARBOR,
        "task.toml": 'schema_version = "1.4"\n[[steps]]\nname = "a"\nmin_reward = 0.5\n'
        '[[steps]]\nname = "b"\nmin_reward = 1.0\n',
        **{f"steps/{name}/instruction.md": name for name in "ab"},
        **{f"steps/{name}/tests/test.sh": "x" for name in "ab"},
        "steps/a/solution/solve.sh": "x",
    }
    task = taken(write(tmp_path / "t", files), tmp_path)
    assert [turn.prompt for turn in task.turns] == ["a", "b"]
    assert [(check.name, check.turn) for check in task.checks] == [("reward-a", 1), ("reward-b", None)]
    assert task.turns[0].solution
    assert [turn.min_score for turn in task.turns] == [0.5, None]
    assert not task.turns[1].solution


@pytest.mark.parametrize("name", ["instruction.md", "task.toml"])
def test_a_broken_task_of_harbor_is_no_test_of_python(tmp_path: Path, name: str) -> None:
    files = {other: text for other, text in HARBOR.items() if other != name}
    with pytest.raises(ProblemsError, match=name.replace(".", r"\.")):
        taken(write(tmp_path / "t", files), tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('agent.timeout_sec = "long"', r"task\.toml:2: agent\.timeout_sec: should be a number, not 'long'"),
        ("verifier.env = 3", "verifier.env: should be a table"),
        ('environment.memory = "much"', 'environment.memory: .*"2G"'),
        ('steps = ["a"]', "steps.0: should be a table"),
        ("steps = [{name = 3}]", "steps.0.name: should be the name of a folder"),
        ("artifacts = [{}]", "artifacts.0: should be a path"),
    ],
)
def test_a_wrong_value_of_harbor_is_named(tmp_path: Path, line: str, said: str) -> None:
    """By file, line and key: nothing else is run in its place."""
    files = {**HARBOR, "task.toml": f'version = "1.0"\n{line}\n'}
    with pytest.raises(ProblemsError, match=said):
        taken(write(tmp_path / "t", files), tmp_path)


def test_an_exercise(tmp_path: Path) -> None:
    """The starter is what a student gets, with every test switched on and protected; its example is the solution."""
    task = taken(write(tmp_path / "python/exercises/practice/leap", EXERCISE), tmp_path)
    assert task.name == "python-leap"
    assert task.repo
    assert sorted(path.name for path in task.repo.iterdir()) == ["leap.py", "leap_test.py"]
    assert "skip" not in (task.repo / "leap_test.py").read_text()
    assert task.solution
    assert "year % 4" in (task.solution / "leap.py").read_text()
    assert task.protect == ("leap_test.py",)
    assert "Leap years." in task.turns[0].prompt


def test_skipped_tests_are_switched_on() -> None:
    text = "xtest('a', f);\nxit('b', f);\nxdescribe('c', f);\ntest.skip('d', f);\nxtest.each(t)('e', f);\nmaxtest(1);\n"
    on = "test('a', f);\nit('b', f);\ndescribe('c', f);\ntest('d', f);\ntest.each(t)('e', f);\nmaxtest(1);\n"
    assert unskipped("x.spec.js", text) == on


def test_an_exercise_of_another_language_is_told(tmp_path: Path) -> None:
    config = {"files": {"solution": ["a.zig"], "test": ["t.zig"], "example": []}}
    files = {".meta/config.json": json.dumps(config), ".docs/instructions.md": "x", "a.zig": "", "t.zig": ""}
    with pytest.raises(NoCounterpartError, match=r"t\.zig"):
        taken(write(tmp_path / "z", files), tmp_path)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@y", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """SWE-bench-like rows: one that can be run, one of another runner, one whose repository is not here."""
    mirror = write(
        tmp_path / "mirrors/acme__calc",
        {
            "calc.py": "def add(a, b):\n    return a - b\n",
            "tests/test_calc.py": "def test_old():\n    pass\n",
        },
    )
    git(mirror, "init", "-q")
    git(mirror, "add", "-A")
    git(mirror, "commit", "-qm", "x")
    base = git(mirror, "rev-parse", "HEAD").strip()
    write(mirror, {"calc.py": "def add(a, b):\n    return a + b\n"})
    patch = git(mirror, "diff")
    git(mirror, "checkout", "-q", ".")
    new = "\n\ndef test_new():\n    from calc import add\n\n    assert add(1, 2) == 3\n"
    write(mirror, {"tests/test_calc.py": f"def test_old():\n    pass\n{new}"})
    tests = git(mirror, "diff")
    git(mirror, "checkout", "-q", ".")
    row = {
        "instance_id": "acme__calc-1", "repo": "acme/calc", "base_commit": base, "problem_statement": "add is wrong",
        "patch": patch, "test_patch": tests, "FAIL_TO_PASS": '["tests/test_calc.py::test_new"]',
        "PASS_TO_PASS": '["tests/test_calc.py::test_old"]',
    }  # fmt: skip
    others = [
        {"instance_id": "a-2", "FAIL_TO_PASS": '["test_x (a.B)"]'},
        {"instance_id": "b-3", "repo": "no/where"},
    ]
    lines = [json.dumps(row), *(json.dumps({**row, **other}) for other in others)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "dataset.toml").write_text('mirrors = "mirrors"\n')
    return tmp_path / "rows.jsonl"


def test_rows_like_those_of_swe_bench(rows: Path, tmp_path: Path) -> None:
    """The tests of the patch are hidden from the agent, and lie over the repo when it is judged; both lists count."""
    folder = write_dataset(Wanted(str(rows)), tmp_path / "out", tmp_path)
    task = load_task(folder / "acme__calc-1")
    assert task.git
    assert task.git.url == str(tmp_path / "mirrors/acme__calc")
    assert task.overlay
    assert "test_new" in (task.overlay / "tests/test_calc.py").read_text()
    assert task.protect == ("tests/test_calc.py",)
    (check,) = task.checks
    assert check.tests
    assert check.tests.must_pass == ("tests/test_calc.py::test_new",)
    assert check.tests.must_still_pass == ("tests/test_calc.py::test_old",)
    reasons = {
        path.name: (path / "no-counterpart.txt").read_text() for path in folder.iterdir() if path != task.path
    }
    assert "no name of a test of pytest's" in reasons["a-2"]
    assert "no mirror of no/where" in reasons["b-3"]


def test_a_patch_of_tests_may_rename_and_be_binary(tmp_path: Path) -> None:
    """What is renamed as it is, a binary file, and a name that git quotes are in the patch without lines `+++ b/`."""
    before = {
        "tests/old.py": "1\n2\n3\n",
        "tests/gone.py": "x\n",
        "tests/bin": "\0a",
        "tests/\u00e9 \u65e5.py": "a\n",
    }
    repo = write(tmp_path / "repo", before)
    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "x")
    git(repo, "mv", "tests/old.py", "tests/new name.py")
    git(repo, "rm", "-q", "tests/gone.py")
    write(repo, {"tests/bin": "\0b", "tests/added.bin": "\0c", "tests/\u00e9 \u65e5.py": "b\n"})
    git(repo, "add", "-A")
    known, after = files_after_patch(repo, "HEAD", git(repo, "diff", "--cached", "--binary", "-M"))
    assert sorted(known) == sorted(before)
    assert {name: data.decode() for name, data in after.items()} == {
        "tests/new name.py": "1\n2\n3\n", "tests/bin": "\0b", "tests/added.bin": "\0c",
        "tests/\u00e9 \u65e5.py": "b\n",
    }  # fmt: skip


def test_a_dataset_with_columns_of_its_own(tmp_path: Path) -> None:
    """dataset.toml says what they are, and lays keys over each task.toml; rows are drawn by their seed."""
    (tmp_path / "q.jsonl").write_text(
        "".join(f'{{"id": "r{n}", "q": "ask {n}", "c": "true"}}\n' for n in range(9))
    )
    (tmp_path / "dataset.toml").write_text(
        '[columns]\nname = "id"\nprompt = "q"\ncheck = "c"\n[task]\ntimeout = 5.0\n'
    )
    for wanted, count in ((Wanted("q.jsonl"), 9), (Wanted("q.jsonl:train", 3, 1), 3)):
        folder = write_dataset(wanted, tmp_path / "out", tmp_path)
        tasks = [load_task(path) for path in folder.iterdir()]
        assert len(tasks) == count
        assert {task.timeout for task in tasks} == {5.0}
    assert {task.turns[0].prompt for task in tasks} <= {f"ask {n}" for n in range(9)}
    again = write_dataset(Wanted("q.jsonl", 3, 1), tmp_path / "out", tmp_path)
    assert again == folder


def test_rows_fill_the_gaps_of_a_datasets_toml(tmp_path: Path) -> None:
    """The same gaps as those of a task folder with rows; what a row lacks, and a name that is taken, is told."""
    rows: list[dict[str, Any]] = [
        {"id": "a", "q": "1 + 1", "a": 2},
        {"id": "a", "q": "x", "a": 1},
        {"q": "2 + 2"},
    ]
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "dataset.toml").write_text(
        '[columns]\nname = "{{ id }}"\nprompt = "Say {{ q }}."\nanswer = "a"\n'
        '[task]\nchecks.answer.equals = "{{ a }}"\n'
    )
    folder = write_dataset(Wanted("q.jsonl"), tmp_path / "out", tmp_path)
    task = load_task(folder / "a")
    assert (task.turns[0].prompt, task.answer) == ("Say 1 + 1.", "2")
    (check,) = task.checks
    assert check.answer
    assert check.answer.equals == "2"
    reasons = {path.parent.name: path.read_text() for path in folder.glob("*/no-counterpart.txt")}
    assert "another row has the name a too" in reasons.pop("a.2")
    assert len(reasons) == 1


@pytest.mark.parametrize(
    ("name", "mapping", "words"),
    [
        ("none.jsonl", "", "no file none.jsonl"),
        ("q.jsonl:test", "", "no split 'test'"),
        ("q.jsonl", "", "no column is known to be the prompt; it has q"),
        ("q.jsonl", '[columns]\nprompt = "x"\n', "is no column of the dataset"),
        ("q.jsonl", '[columns]\nprmpt = "q"\n', "is nothing of a task"),
        ("q.jsonl", 'mirrors = "nowhere"\n', "is no folder"),
    ],
)
def test_what_is_wrong_with_a_dataset_is_told(tmp_path: Path, name: str, mapping: str, words: str) -> None:
    (tmp_path / "q.jsonl").write_text('{"q": "ask"}\n')
    if mapping:
        (tmp_path / "dataset.toml").write_text(mapping)
    with pytest.raises((UsageError, ProblemsError), match=words):
        write_dataset(Wanted(name), tmp_path / "out", tmp_path)


def test_tasks_are_kept_as_folders_of_ours(tmp_path: Path) -> None:
    write(tmp_path / "them/count", HARBOR)
    write(tmp_path / "them/python/exercises/practice/leap", EXERCISE)
    write(tmp_path / "them/gpu", {**HARBOR, "task.toml": 'version = "1.0"\n[environment]\ngpus = 1\n'})
    said = import_tasks("them", tmp_path / "tasks", tmp_path, None, None)
    assert "skipped gpu: it needs a GPU" in said
    assert {path.name for path in (tmp_path / "tasks").iterdir()} == {"count", "python-leap"}
    assert all(load_task(path) for path in (tmp_path / "tasks").iterdir())
    with pytest.raises(UsageError, match="is there already"):
        import_tasks("them", tmp_path / "tasks", tmp_path, None, None)


_VALUES = st.recursive(
    st.one_of(
        st.text(),
        st.integers(-(2**53), 2**53),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(st.text(), max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), _VALUES, max_size=5))
@example({"0\n": []})
def test_what_is_written_as_toml_is_read_as_the_same(data: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(data)) == data


def test_where_an_image_starts() -> None:
    text = (
        "ARG HOME_OF=/srv\nFROM a AS one\nWORKDIR $HOME_OF\nWORKDIR app\nUSER me:me\nFROM b\nRUN <<E\nWORKDIR /no\nE\n"
        'FROM one\nRUN x \\\n  && WORKDIR\nENTRYPOINT ["/start", "a b"]\n'
    )
    assert runs_as(text) == RunsAs("/srv/app", "me", "/start 'a b'")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("FROM a\nENV APP /srv/my app\nWORKDIR $APP\n", "/srv/my app"),
        ('FROM a\nENV A="/x" B=${A}/y\nENV C=$A/z\nWORKDIR $C\n', "/x/z"),
        ("FROM a\nENV A=1\nWORKDIR ${A:+/yes}\n", "/yes"),
        ("\ufeffFROM\ta\r\nWORKDIR\t/tab\r\n", "/tab"),
        ("FROM a\nRUN bash -c 'cat <<<\"x\"'\nRUN cat <<<x && echo $((1<<2)) 'a <<B'\nWORKDIR /w\n", "/w"),
        ('FROM a\nRUN cat <<"A" <<-B\nA\nWORKDIR /no\nB\nWORKDIR /w\n', "/w"),
        ("# escape=`\nFROM a\nRUN x `\nWORKDIR /no\nWORKDIR C\\\nUSER me\n", "/C\\"),
    ],
)
def test_where_an_image_starts_is_read_as_docker_reads_it(text: str, place: str) -> None:
    assert runs_as(text).workdir == place
    assert one_stage(text).splitlines()[-1].split()[0] in ("WORKDIR", "USER")


def test_an_absolute_source_is_one_of_the_builds_folder() -> None:
    assert one_stage("FROM a\nCOPY --link /x \\\n  y /z/\n") == "FROM a\nCOPY --link x y /z/\n"


def test_several_froms_are_one() -> None:
    """Where the last stage stands on the others; a stage that nobody needs is not built."""
    text = (
        "# syntax=docker/dockerfile:1\nARG TAG=3\nARG NAME=python:${TAG}\n"
        "FROM --platform=$BUILDPLATFORM $NAME AS base\n"
        "RUN one \\\n  two\nFROM other AS unused\nCOPY --from=base /x /y\nFROM base\nARG TAG\nRUN three\n"
    )
    assert one_stage(text) == 'FROM python:3\nRUN one \\\n  two\nARG TAG="3"\nRUN three\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN x\n", "line 1: there is no FROM"),
        ("FROM a\n\nFROM b\nCOPY --from=0 /x /y\n", "line 4: COPY --from"),
        ("FROM a\nRUN --mount=type=secret,id=x cat x\n", "line 2: RUN --mount=type=secret"),
        ("FROM a\nADD x.tar.gz /y\n", "line 2: ADD unpacks x.tar.gz"),
        ("FROM a\nADD https://x.org/f /y\n", "line 2: ADD takes https://x.org/f of the network"),
        ("FROM a\nCOPY --chmod=u+x f /y\n", "line 2: COPY --chmod=u\\+x"),
        ('FROM a\nRUN cat <<<x\nSHELL ["x"]\n', "line 3: SHELL"),
        ('FROM a\nSHELL ["/bin/sh"]\n', "line 2: SHELL"),
        ("FROM a:$TAG\n", "line 1: TAG has no value"),
        ("FROM --platform=windows/amd64 a\n", "line 1: --platform=windows/amd64"),
        ("FROM a b\n", "line 1: FROM a b is none"),
    ],
)
def test_what_no_template_can_be_is_refused_by_line(text: str, words: str) -> None:
    with pytest.raises(TaskFault, match=words):
        one_stage(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('["t.py::a[x, y]"]', ["t.py::a[x, y]"]),
        ("['t.py::a', \"t.py::b['c']\"]", ["t.py::a", "t.py::b['c']"]),
        ("['t.py::a' 't.py::b']", None),
        ("t.py::a", None),
    ],
)
def test_lists_of_tests_in_texts(tmp_path: Path, text: str, names: list[str] | None) -> None:
    """In JSON, or as Python writes them; what would become another list is a skip."""
    row = {"instance_id": "one", "problem_statement": "Fix it.", "FAIL_TO_PASS": text}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    made = write_dataset(Wanted("rows.jsonl"), tmp_path / "made", tmp_path) / "one"
    if names is None:
        assert "FAIL_TO_PASS is no list" in (made / "no-counterpart.txt").read_text()
    else:
        checks = tomllib.loads((made / "task.toml").read_text())["checks"]
        assert checks["tests"]["tests"]["must_pass"] == names


@pytest.mark.parametrize(("text", "words"), [("", "has no rows"), ("no json\n", "JSON parse error")])
def test_a_file_that_is_no_dataset_is_told_with_its_cause(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(UsageError, match=words):
        write_dataset(Wanted("rows.jsonl"), tmp_path / "made", tmp_path)
