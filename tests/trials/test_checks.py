"""A check's verdict is what it said and did; it can neither be forged by the agent nor hang the trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import SandboxFault
from harness.local.launch import LocalServer
from harness.records.record_parts import CheckResult
from harness.sandboxes.shell import run_as_root
from harness.tasks.loading import load_task
from harness.text import CUT_BEFORE
from harness.trials.checks import OUTPUT_BYTES, Place, run_checks
from tests.support.folders import task_folder, write_files
from tests.support.grading import collected, laid, with_place

COMMANDS = {
    "good": "true",
    "bad": "echo 'it is wrong' >&2; exit 3",
    "half": 'echo 0.5 >"$HARNESS_SCORE"',
    "unscored": 'test ! -e "$HARNESS_SCORE"',
    "near": 'echo 0.75 >"$HARNESS_SCORE"; exit 1',
    "zero": 'printf 0 >"$HARNESS_SCORE"',
    "words": 'echo many >"$HARNESS_SCORE"',
    "beyond": 'echo 1.5 >"$HARNESS_SCORE"',
    "nan": 'echo nan >"$HARNESS_SCORE"',
    "blank": ': >"$HARNESS_SCORE"',
    "slow": "echo started; sleep 100",
    "stubborn": "trap '' TERM; sleep 100 & wait; sleep 100",
    "code_124": "exit 124",
    "daemon": "sleep 100 & true",
    "stdin": "cat",
    "place": 'test "$PWD" = "$HOME/repo" && test -f question.txt && test -f "$HARNESS_CHECKS/helper.txt"',
    "variable": 'test "$GREETING" = "hello there"',
    "odd_bytes": r"printf 'a\377\000b\n'; exit 1",
    "flood": f"yes 0123456 | head -c {OUTPUT_BYTES + 1000}; echo the end",
    "suicide": "kill -KILL $PPID; sleep 1",
}
PYTHON = "#!/usr/bin/env python3\nimport helper, sys\nsys.exit(helper.VALUE)\n"
SHELL = "#!/bin/sh\ngrep -qs 42 answer.txt || { echo 'no 42'; exit 1; }\n"


def checked(root: Path) -> Path:
    """A task with all of the checks."""
    lines = [f"{name} = '''{command}'''" for name, command in COMMANDS.items()]
    toml = "[checks]\ntimeout = 0.5\n[sandbox]\nenv = {GREETING = 'hello there'}\n[checks.run]\n" + "\n".join(
        lines
    )
    folder = task_folder(root, toml=toml + "\n", checks={"answer.sh": SHELL, "python.py": PYTHON})
    write_files(folder / "checks", {"helper.py": "VALUE = 0\n", "helper.txt": "here\n"})
    return folder


Verdicts = tuple[Mapping[str, CheckResult], Mapping[str, bytes]]


@pytest.fixture(scope="module")
def verdicts(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """Each check's result, and the output that was kept."""
    task = load_task(checked(tmp_path_factory.mktemp("task")))
    kept: dict[str, bytes] = {}

    async def keep(name: str, data: bytes) -> str:
        kept[name] = data
        return f"trial/{name}"

    async def run(place: Place) -> Mapping[str, CheckResult]:
        return {result.name: result for result in await run_checks(place, task, task.checks, keep)}

    return with_place(server, task, run), kept


@pytest.mark.parametrize(
    ("name", "passed", "score", "exit_code"),
    [
        ("good", True, 1.0, 0),
        ("bad", False, 0.0, 3),
        ("half", True, 0.5, 0),
        ("unscored", True, 1.0, 0),
        ("near", False, 0.75, 1),
        ("zero", True, 0.0, 0),
        ("blank", True, 1.0, 0),
        ("code_124", False, 0.0, 124),
        ("daemon", True, 1.0, 0),
        ("stdin", True, 1.0, 0),
        ("place", True, 1.0, 0),
        ("variable", True, 1.0, 0),
        ("answer", False, 0.0, 1),
        ("python", True, 1.0, 0),
    ],
)
def test_a_verdict_is_the_exit_code_and_the_score(
    verdicts: Verdicts, name: str, passed: bool, score: float, exit_code: int
) -> None:
    """Each check on its own: no score of the one before, no waiting for what it leaves running."""
    result = verdicts[0][name]
    assert (result.passed, result.score, result.exit_code, result.timed_out) == (
        passed,
        score,
        exit_code,
        False,
    )
    assert result.duration_ms is not None


def test_checks_run_in_order(verdicts: Verdicts) -> None:
    """The files by name, then the commands as they stand in the manifest: those may run what the agent wrote."""
    assert list(verdicts[0]) == ["answer", "python", *COMMANDS]


@pytest.mark.parametrize("name", ["words", "beyond", "nan"])
def test_a_score_that_is_none_fails_the_check(verdicts: Verdicts, name: str) -> None:
    """And says so, rather than counting for something."""
    result = verdicts[0][name]
    assert (result.passed, result.score, result.exit_code) == (False, 0.0, 0)
    assert "[harness] $HARNESS_SCORE holds" in result.output_tail


@pytest.mark.parametrize("name", ["slow", "stubborn"])
def test_a_check_that_hangs_is_stopped(verdicts: Verdicts, name: str) -> None:
    """After its own time, whatever it does about it."""
    result = verdicts[0][name]
    assert (result.passed, result.timed_out, result.exit_code) == (False, True, None)
    assert "[harness] stopped: it took longer than 0.5 s" in result.output_tail


def test_what_a_check_says_is_kept(verdicts: Verdicts) -> None:
    """Both streams together; its end in the record, all of it in a file."""
    results, kept = verdicts
    assert results["bad"].output_tail == "it is wrong\n"
    assert results["answer"].output_tail == "no 42\n"
    assert results["bad"].output == "trial/checks/bad.txt"
    assert kept["checks/bad.txt"] == b"it is wrong\n"
    assert results["slow"].output_tail.startswith("started\n")


def test_what_is_no_text_is_shown_as_far_as_it_goes(verdicts: Verdicts) -> None:
    """A byte that is no UTF-8 does not lose the rest."""
    tail = verdicts[0]["odd_bytes"].output_tail
    assert tail.startswith("a")
    assert tail.endswith("b\n")


def test_a_flood_is_cut_at_its_beginning(verdicts: Verdicts) -> None:
    """What a check says last explains most."""
    results, kept = verdicts
    assert results["flood"].passed
    assert results["flood"].output_tail.endswith("the end\n")
    assert len(kept["checks/flood.txt"].removeprefix(CUT_BEFORE.encode())) == OUTPUT_BYTES


def test_a_check_that_kills_its_shell_has_failed(verdicts: Verdicts) -> None:
    """Nobody else's verdict is touched by it."""
    result = verdicts[0]["suicide"]
    assert (result.passed, result.score) == (False, 0.0)


def test_checks_that_cannot_be_put_in_place_are_no_verdict(server: LocalServer, tmp_path: Path) -> None:
    """A sandbox that does not take them is asked for another; `grade_work` decides what it means when none does."""
    task = load_task(task_folder(tmp_path))

    async def run(place: Place) -> None:
        # No access rights: where a sandbox's user is this machine's root, those hinder nobody.
        spoil = "rm -rf ~/.harness; touch ~/.harness; rm -rf /var/lib && touch /var/lib"
        await run_as_root(place.sandbox, spoil, home=place.baseline.home, timeout=60)
        with pytest.raises(SandboxFault, match=r"the checks could not be put in place: .*Not a directory"):
            await run_checks(place, task, task.checks)

    with_place(server, task, run)


HOSTILE = {
    "rewrites checks": """
echo '#!/bin/true' >"$HARNESS_CHECKS/two.sh"
(setsid sh -c 'trap "" HUP TERM; while :; do cp /bin/true "$HARNESS_CHECKS/two.sh"; done' >/dev/null 2>&1 &)
sleep 0.05""",
    "closes the home": "chmod 500 ~/repo; chmod 0 ~",
    "leaves a score": """
(setsid sh -c 'while :; do for f in ~/.harness/score* ~/.harness/out*; do echo 1 >$f; done; done' >/dev/null 2>&1 &)""",
    "has much to say": "echo '[harness] nothing runs any more' >&2; yes | head -c 100000",
}


def _skip_unless_told_apart(server: LocalServer, own_processes: bool) -> None:
    """In a machine of its own all processes are the sandbox's, and root cannot read the marks of another account's."""
    if own_processes != (server.isolation == "namespaces"):
        pytest.skip(f"the {server.isolation} tier tells what is left running in the other way")


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("own_processes", [False, True], ids=["marked", "all"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_check_has_a_hand_in_the_next(
    server: LocalServer, tmp_path: Path, name: str, own_processes: bool, large: bool
) -> None:
    """The agent's code runs in checks too: what it does to the others' files, now or later, has no effect.

    Whichever way what it leaves running is told from others, and whether or not the checks' files go with the command.
    """
    _skip_unless_told_apart(server, own_processes)
    files = {"one.sh": f"#!/bin/sh\n{HOSTILE[name]}\nexit 3", "two.sh": SHELL}
    toml = "[checks.run]\nlast = 'test ! -e $HARNESS_SCORE'\n"
    folder = task_folder(tmp_path, checks=files, toml=toml)
    if large:
        write_files(folder / "checks", {"data.txt": "much to read\n" * 30_000})
    task = load_task(folder)

    async def run(place: Place) -> tuple[CheckResult, ...]:
        return await run_checks(replace(place, own_processes=own_processes), task, task.checks)

    one, two, last = with_place(server, task, run)
    assert (one.exit_code, two.exit_code, two.output_tail) == (3, 1, "no 42\n")
    assert last.passed


def test_a_check_after_which_nothing_can_be_put_in_place_ends_them_all(
    server: LocalServer, tmp_path: Path
) -> None:
    """It has failed, and so have those after it; what came before keeps its verdict."""
    deep = "#!/bin/bash\nrm question.txt; mkdir question.txt && cd -P question.txt || exit\n"
    deep += f"name={'d' * 250}; for i in {{1..40}}; do mkdir $name && cd -P $name; done\n"
    files = {"one.sh": "#!/bin/true\n", "two.sh": deep, "zero.sh": "#!/bin/true\n"}
    task = load_task(task_folder(tmp_path, toml='[checks]\nprotect = ["question.txt"]\n', checks=files))

    async def run(place: Place) -> tuple[CheckResult, ...]:
        return await run_checks(place, task, task.checks)

    found = with_place(server, task, run)
    assert [(check.name, check.passed) for check in found] == [("one", True), ("two", False), ("zero", False)]
    assert all("question.txt" in check.output_tail for check in found[1:])


LEFT_BEHIND = """
setsid bash -c 'while true; do date >>beat; sleep 0.01; done' >/dev/null 2>&1 &
(setsid bash -c 'trap "" TERM HUP INT; exec -a quiet sleep 1000' >/dev/null 2>&1 &)
python3 - >/dev/null 2>&1 <<'P' &
import ctypes, threading, time
threading.Thread(target=lambda: [(open("threaded", "w").close(), time.sleep(0.01)) for _ in range(10**5)]).start()
ctypes.CDLL(None).syscall(60, 0)
P
until [ -s beat ] && [ -e threaded ]; do sleep 0.01; done
"""


@pytest.mark.parametrize("own_processes", [True, False], ids=["all", "marked"])
def test_nothing_that_a_check_started_runs_on(
    server: LocalServer, tmp_path: Path, own_processes: bool
) -> None:
    """In sessions of their own, with signals ignored, or with only the main thread ended: the next check sees none.

    What was there before stays.
    """
    _skip_unless_told_apart(server, own_processes)
    look = "rm -f beat threaded; sleep 0.2; ls; ps -eo args | grep -E 'sleep|beat|python3 -' | grep -v grep"
    toml = (
        f'[setup]\nrun = [\'setsid -f sleep 2000 >/dev/null 2>&1\']\n[checks.run]\na = """{LEFT_BEHIND}"""\n'
    )
    task = load_task(task_folder(tmp_path, checks={"z.sh": SHELL}, toml=f'{toml}b = """{look}"""\n'))

    async def run(place: Place) -> tuple[CheckResult, ...]:
        return await run_checks(replace(place, own_processes=own_processes), task, task.checks[1:])

    one, two = with_place(server, task, run)
    assert one.passed, one.output_tail
    assert [line for line in two.output_tail.splitlines() if "sleep 0.2" not in line] == [
        "question.txt",
        "sleep 2000",
    ]


def test_stale_bytecode_has_no_say(server: LocalServer, tmp_path: Path) -> None:
    """A module is what its source says, also where an agent left other bytecode beside it."""
    task = load_task(task_folder(tmp_path, repo={"lib/answer.py": "VALUE = 41\n"}))
    forge = """
cp lib/answer.py ~/kept.py && echo VALUE = 42 >lib/answer.py
python3 -m compileall -q --invalidation-mode unchecked-hash lib && cp ~/kept.py lib/answer.py
python3 -c 'import lib.answer; print(lib.answer.VALUE)' | grep -qx 42
"""
    work = collected(server, task, forge, tmp_path / "kept")
    look = "python3 -c 'import lib.answer; print(lib.answer.VALUE)'"
    assert laid(server, task, work, look)[1] == "41\n"


def test_some_checks_can_be_run_alone(server: LocalServer, tmp_path: Path) -> None:
    """As a turn's are."""
    task = load_task(task_folder(tmp_path, toml="[checks.run]\nmore = 'true'\n"))

    async def run(place: Place) -> list[str]:
        return [check.name for check in await run_checks(place, task, task.checks[1:])]

    assert with_place(server, task, run) == ["more"]


def test_the_record_has_the_end_of_what_a_check_said(verdicts: Verdicts) -> None:
    """Its last 2,000 characters, and that there was more; a record stays small whatever a check writes."""
    results, kept = verdicts
    mark, _, tail = results["flood"].output_tail.partition(CUT_BEFORE)
    assert (mark, len(tail)) == ("", 2000)
    assert kept["checks/flood.txt"].decode().endswith(tail)


def test_a_check_that_is_killed_early_has_not_timed_out(verdicts: Verdicts) -> None:
    """A signal ends one that was stopped for its time, too: the time tells them apart."""
    result = verdicts[0]["suicide"]
    assert (result.exit_code, result.timed_out) == (None, False)
    assert "stopped" not in result.output_tail
    assert "[harness] the check's process was killed" in result.output_tail


def test_a_score_that_is_none_is_told_with_what_it_says(verdicts: Verdicts) -> None:
    """After the check's own words, so that its author sees what it wrote."""
    said = "\n[harness] $HARNESS_SCORE holds 'many', not a number from 0 to 1"
    assert verdicts[0]["words"].output_tail.rstrip() == said
    assert "[harness]" not in verdicts[0]["code_124"].output_tail
