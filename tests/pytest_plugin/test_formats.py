"""Other people's tasks, collected as they stand."""

from __future__ import annotations

import json
import os

import pytest

from harness.records.reading import list_runs, read_records
from tests.support.images import Image, entry, layer
from tests.support.messages_api import MessagesApi, Say, Use
from tests.tasks.test_task_formats import HARBOR, write


def test_a_folder_of_harbor_is_run_and_its_tests_never_here(pytester: pytest.Pytester) -> None:
    """Oracle passes, nop does not; what has no counterpart is a skip with its reason."""
    verdict = (
        'mkdir -p /logs/verifier\n[ "$(cat /app/count.txt)" = 3 ] && echo 1 >/logs/verifier/reward.txt || '
        "echo 0 >/logs/verifier/reward.txt\n"
    )
    write(pytester.path / "them/count", {**HARBOR, "tests/test.sh": verdict})
    write(pytester.path / "them/gpu", {**HARBOR, "task.toml": 'version = "1.0"\n[environment]\ngpus = 1\n'})
    done = pytester.runpytest("them", "--agent", "oracle", "-rs")
    done.assert_outcomes(passed=1, skipped=1)
    done.stdout.fnmatch_lines(["*it needs a GPU*"])
    pytester.runpytest("them/count", "--agent", "nop").assert_outcomes(failed=1)
    # A bare pytest runs neither the tasks nor the tests in them.
    pytester.runpytest().assert_outcomes()


def test_exercises_whose_files_lie_deeper(pytester: pytest.Pytester) -> None:
    """Are skips and errors in words, as those whose tests lie on top."""
    files = {
        "solution": ["src/main/Leap.java"],
        "test": ["src/test/LeapTest.java"],
        "example": [".meta/Leap.java"],
    }
    config = {".meta/config.json": json.dumps({"files": files}), ".docs/instructions.md": "Leap.\n"}
    write(pytester.path / "java/broken", config)
    write(pytester.path / "java/leap", {**config, **{name: "" for (name,) in files.values()}})
    done = pytester.runpytest("java", "--agent", "oracle", "-rs", "--continue-on-collection-errors")
    done.assert_outcomes(skipped=1, errors=1)
    done.stdout.fnmatch_lines(["*files.solution: 'src/main/Leap.java' is no file of the exercise*"])
    done.stdout.fnmatch_lines(["*src/test/LeapTest.java: nothing here runs tests of that language*"])


def test_the_rows_of_a_dataset_are_run_by_workers(pytester: pytest.Pytester) -> None:
    """They get the folder that the controller has written, and need no dataset: it may be gone by then."""
    write(
        pytester.path,
        {
            "conftest.py": "import pathlib\n"
            "def pytest_configure_node(node): pathlib.Path('rows.jsonl').unlink(missing_ok=True)\n",
            "rows.jsonl": "".join(f'{{"id": "r{n}", "q": "ask {n}", "c": "false"}}\n' for n in (1, 2)),
            "dataset.toml": '[columns]\nname = "id"\nprompt = "q"\ncheck = "c"\n',
        },
    )
    # In a process of its own: a run within this one forgets its modules, and `datasets` cannot be imported twice.
    done = pytester.runpytest_subprocess("--dataset", "rows.jsonl", "--agent", "nop", "-n", "2")
    done.assert_outcomes(failed=2)


def reward(script: str) -> str:
    """A test script whose reward is 1 where a shell's condition holds."""
    return f"if {script}; then echo 1; else echo 0; fi >/logs/verifier/reward.txt\n"


SHAPES = {
    # A verifier of its own gets the artifacts, and nothing else of what the agent did.
    "separate": {
        "task.toml": 'schema_version = "1.4"\nartifacts = ["out", "/etc/told"]\n'
        '[verifier]\nenvironment_mode = "separate"\n',
        "solution/solve.sh": "mkdir out; echo 1 >out/a; echo 2 >/etc/told; echo 3 >other; echo 4 >/logs/artifacts/b\n",
        "tests/test.sh": reward(
            "[ \"$(cat /app/out/a /etc/told /logs/artifacts/b | tr -d '\\n')\" = 124 ] && [ ! -e /app/other ]"
        ),
    },
    # A container sleeps in the place of its CMD, below its ENTRYPOINT; the agent waits until it is healthy.
    "healthy": {
        "task.toml": 'schema_version = "1.4"\n[environment.healthcheck]\ncommand = "test -e /tmp/up"\n',
        "environment/Dockerfile": "FROM e2bdev/base\nARG WHERE=/app\nWORKDIR $WHERE\nCOPY . /srv/\n"
        'RUN chmod +x /srv/start\nENTRYPOINT ["/srv/start", "a b"]\nCMD ["touch", "/tmp/cmd"]\n',
        "environment/start": '#!/bin/bash\nsleep 0.2\necho "$1" >/tmp/up\nshift\nexec "$@"\n',
        "environment/.dockerignore": "*.log\n",
        "environment/big.log": "",
        "solution/solve.sh": "cp /tmp/up seen\n",
        "tests/test.sh": reward(
            '[ "$(cat seen)" = "a b" ] && [ ! -e /tmp/cmd ] && [ ! -e /srv/big.log ] && pgrep sleep'
        ),
    },
    # Several rewards without one of that name: all count.
    "rewards": {"tests/test.sh": 'echo \'{"a": 1, "b": 0.5}\' >/logs/verifier/reward.json\n'},
    # A reward.txt beside numbers none of which is the reward is what counts.
    "counts": {
        "tests/test.sh": 'echo \'{"score": 0.0, "passed": 1, "status": "fail"}\' >/logs/verifier/reward.json\n'
        "echo 0.25 >/logs/verifier/reward.txt\n"
    },
    # Only the last step's reward counts.
    "final": {
        "task.toml": 'schema_version = "1.4"\nmulti_step_reward_strategy = "final"\n'
        '[[steps]]\nname = "a"\n[[steps]]\nname = "b"\n',
        "steps/a/instruction.md": "a",
        "steps/a/tests/test.sh": reward("false"),
        "steps/b/instruction.md": "b",
        "steps/b/tests/test.sh": reward("[ -e /app/b ]"),
        "steps/b/solution/solve.sh": "touch b\n",
    },
    # A session ends after the step whose reward is too little.
    "ended": {
        "task.toml": 'schema_version = "1.4"\n[[steps]]\nname = "a"\nmin_reward = 0.2\n'
        '[[steps]]\nname = "b"\nmin_reward = {reward = 0.5}\n[[steps]]\nname = "c"\n',
        **{f"steps/{name}/instruction.md": name for name in "abc"},
        **{f"steps/{name}/solution/solve.sh": f"touch {name}\n" for name in "abc"},
        "steps/a/tests/test.sh": "[ -e /app/a ] && echo 0.25 >/logs/verifier/reward.txt\n",
        "steps/b/tests/test.sh": "[ -e /app/b ] && echo 0.35 >/logs/verifier/reward.txt\n",
        "steps/c/tests/test.sh": reward("[ -e /app/c ]"),
    },
    # Where two stages are one, the last is built; where files are copied from one to the other, none is.
    "stages": {
        "environment/Dockerfile": "FROM e2bdev/base AS one\nWORKDIR /app\nFROM one\nRUN touch /app/made\n",
        "solution/solve.sh": "touch ~/of-root\n",
        "tests/test.sh": reward("[ -e /app/made ] && [ -e /root/of-root ]"),
    },
    # An account of the image is at home where the image says.
    "account": {
        "environment/Dockerfile": "FROM e2bdev/base\nRUN useradd -m worker\nUSER worker\nWORKDIR /home/worker/app\n",
        "solution/solve.sh": "touch ~/of-worker mine\n",
        "tests/test.sh": reward(
            '[ "$(stat -c %U /home/worker/of-worker /home/worker/app/mine | uniq)" = worker ]'
        ),
    },
    "copied": {
        "environment/Dockerfile": "FROM e2bdev/base AS one\nFROM one\nCOPY --from=one /etc/hosts /x\n"
    },
}


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0, reason="accounts of an image need a server of root's, or a range of ids"
)
def test_shapes_of_harbors_tasks(pytester: pytest.Pytester) -> None:
    for name, files in SHAPES.items():
        write(pytester.path / "them" / name, {**HARBOR, **files})
    done = pytester.runpytest("them", "--agent", "oracle", "-rs")
    done.assert_outcomes(passed=5, failed=3, skipped=1)
    done.stdout.fnmatch_lines(["*environment/Dockerfile, line 3: COPY --from*"])
    (run,) = list_runs(pytester.path / "results")
    found = {record.task: record for record in read_records(run.path).records}
    assert {name: record.score for name, record in found.items()} == {
        "separate": 1, "healthy": 1, "rewards": 0.75, "counts": 0.25, "final": 1, "stages": 1, "account": 1,
        "ended": pytest.approx(0.2),
    }  # fmt: skip
    assert (found["separate"].graded_in, found["healthy"].graded_in) == ("fresh", "agent")
    assert any("ended after prompt 2" in note for note in found["ended"].notes)


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0, reason="accounts of an image need a server of root's, or a range of ids"
)
def test_claude_works_as_an_account_of_the_image(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its home is the image's, where a variant's files are too; and the model is reached where all the internet is."""
    seen = reward('[ -e /home/worker/made ] && [ "$(cat /home/worker/app/mine)" = worker ]')
    write(pytester.path / "them/account", {**HARBOR, **SHAPES["account"], "tests/test.sh": seen})
    write(
        pytester.path / "them",
        {"variants.toml": '[home]\noverlay = "over"\n', "over/home/.claude/CLAUDE.md": "Be kind.\n"},
    )
    with MessagesApi([Use("Bash", {"command": "id -un >mine; touch ~/made"}), Say("Done.")]) as api:
        for name, value in api.env().items():
            monkeypatch.setenv(name, value)
        pytester.runpytest("them", "--trials", "1").assert_outcomes(passed=1)


def test_an_image_with_no_shell_is_told(pytester: pytest.Pytester) -> None:
    """In words, as what its owner can mend, whether a step of the build meets it or the trial."""
    image = Image.of([layer([entry("hello")])]).write_layout(pytester.path / "scratch")
    for name, more in (("bare", ""), ("built", "RUN true\n")):
        write(
            pytester.path / "tasks" / name,
            {
                "task.toml": 'schema = 1\n[checks.run]\na = "true"\n[sandbox]\ntemplate = "Dockerfile"\n',
                "prompt.md": "x",
                "solution/a": "x",
                "Dockerfile": f"FROM oci:{image}\n{more}",
            },
        )
    done = pytester.runpytest("tasks", "--agent", "oracle")
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["*yours to mend*the template has no /bin/bash*"])
    done.stdout.fnmatch_lines(["*the image has none, and steps need it*"])
