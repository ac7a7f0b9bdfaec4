"""A check's verdict is what it said and did; it can neither be forged by the agent nor hang the trial."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import SandboxFault
from harness.local.launch import LocalServer
from harness.records.record import CheckResult
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.shell import SandboxScript
from harness.tasks.loading import load_task
from harness.trials.checks import OUTPUT_BYTES, Between, run_checks
from harness.trials.workspace import seed, stop_processes, stop_script
from tests.support.folders import task_folder, write_files
from tests.support.sandboxes import bash, with_sandbox

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
    "murder": "read -r _ _ _ shell _ </proc/$PPID/stat; kill -KILL $shell",
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

    async def run(sandbox: Sandbox) -> Mapping[str, CheckResult]:
        await seed(sandbox, task, {})
        return {result.name: result for result in await run_checks(sandbox, task, keep)}

    return with_sandbox(server, run), kept


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
    assert len(kept["checks/flood.txt"]) == OUTPUT_BYTES


def test_a_check_that_kills_its_shell_has_failed(verdicts: Verdicts) -> None:
    """Nobody else's verdict is touched by it."""
    result = verdicts[0]["suicide"]
    assert (result.passed, result.score) == (False, 0.0)


FORGERIES = {
    "start-up files": "for f in .profile .bash_profile .bashrc; do echo 'echo \"0 5 \" >&2; exit 0' >~/$f; done",
    "a score left behind": "mkdir -p ~/.harness && echo 1 | tee ~/.harness/score ~/.harness/score-0 >/dev/null",
    "checks of its own": "mkdir -p ~/.harness/checks && echo '#!/bin/true' >~/.harness/checks/answer.sh",
    "checks by a link": "rm -rf ~/.harness/checks && mkdir ~/mine && ln -s ~/mine ~/.harness/checks",
    "tools of its own": "mkdir -p ~/.local/bin ~/bin; for d in .local/bin bin; do cp /bin/true ~/$d/grep; done",
    "notes gone": "rm -rf ~/.harness",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_verdict_can_be_forged(server: LocalServer, tmp_path: Path, name: str) -> None:
    """Whatever the agent prepared in its home, the check says what it has to say."""
    task = load_task(task_folder(tmp_path, checks={"answer.sh": SHELL}))

    async def run(sandbox: Sandbox) -> tuple[CheckResult, ...]:
        baseline = await seed(sandbox, task, {})
        await sandbox.run(FORGERIES[name])
        await stop_processes(sandbox, baseline, stop_script(baseline, private=False, mark="trial"))
        return await run_checks(sandbox, task)

    (result,) = with_sandbox(server, run)
    assert (result.passed, result.score, result.exit_code) == (False, 0.0, 1)


def test_checks_that_cannot_be_run_are_no_verdict(server: LocalServer, tmp_path: Path) -> None:
    """A sandbox that does not take them is at fault, not the agent's work."""
    task = load_task(task_folder(tmp_path))

    async def run(sandbox: Sandbox) -> None:
        await seed(sandbox, task, {})
        # No access rights: where a sandbox's user is this machine's root, those hinder nobody.
        await sandbox.run("rm -rf ~/.harness && touch ~/.harness")
        with pytest.raises(SandboxFault, match=r"the checks could not be put in place: .*Not a directory"):
            await run_checks(sandbox, task)

    with_sandbox(server, run)


HOSTILE = {
    "rewrites checks": """
echo '#!/bin/true' >~/.harness/checks/two.sh
(setsid sh -c 'trap "" HUP TERM; while :; do cp /bin/true ~/.harness/checks/two.sh; done' >/dev/null 2>&1 &)
sleep 0.05""",
    "closes the home": "chmod 500 ~/repo; chmod 0 ~",
    "leaves a score": """
(setsid sh -c 'while :; do for f in ~/.harness/score* ~/.harness/out*; do echo 1 >$f; done; done' >/dev/null 2>&1 &)""",
    "has much to say": "echo '[harness] nothing runs any more' >&2; yes | head -c 100000",
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_check_has_a_hand_in_the_next(
    server: LocalServer, tmp_path: Path, name: str, together: bool, large: bool
) -> None:
    """The agent's code runs in checks too: what it does to the others' files, now or later, has no effect.

    However what it leaves running is ended, and whether or not the checks' files go with the command.
    """
    files = {"one.sh": f"#!/bin/sh\n{HOSTILE[name]}\nexit 3", "two.sh": SHELL}
    toml = "[checks.run]\nlast = 'test ! -e $HARNESS_SCORE'\n"
    folder = task_folder(tmp_path, checks=files, toml=toml)
    if large:
        write_files(folder / "checks", {"data.txt": "much to read\n" * 30_000})
    task = load_task(folder)
    mark = f"mark-{tmp_path.name}"

    async def run(sandbox: Sandbox) -> tuple[CheckResult, ...]:
        baseline = await seed(sandbox, task, {})
        stop = stop_script(baseline, private=server.isolation == "bubblewrap", mark=mark)
        alone = functools.partial(stop_processes, sandbox, baseline, stop)
        marked = replace(task, sandbox=task.sandbox.model_copy(update={"env": {"HARNESS_TRIAL": mark}}))
        between = Between(alone, stop if together else None)
        return await run_checks(sandbox, marked, between=between)

    one, two, last = with_sandbox(server, run)
    assert (one.exit_code, two.exit_code, two.output_tail) == (3, 1, "no 42\n")
    assert last.passed


def test_a_check_that_cannot_be_told_from_the_end_before_it_runs_alone(
    server: LocalServer, tmp_path: Path
) -> None:
    """Where ending what ran before fails in the check's own command, it is done by itself, and then the check runs."""
    task = load_task(task_folder(tmp_path, toml="[checks.run]\none = 'true'\ntwo = 'echo two'\n"))
    ended: list[bool] = []

    async def alone() -> None:
        ended.append(True)

    async def run(sandbox: Sandbox) -> tuple[CheckResult, ...]:
        await seed(sandbox, task, {})
        between = Between(alone, SandboxScript("kill -KILL $BASHPID", 5))
        return await run_checks(sandbox, task, checks=task.checks[-2:], between=between)

    one, two = with_sandbox(server, run)
    assert (one.passed, two.passed, two.output_tail, ended) == (True, True, "two\n", [True])


def test_stale_bytecode_has_no_say(server: LocalServer, tmp_path: Path) -> None:
    """A module is what its source says, also where an agent left other bytecode beside it."""
    task = load_task(
        task_folder(
            tmp_path,
            repo={"lib/answer.py": "VALUE = 41\n"},
            checks={
                "answer.sh": "#!/bin/sh\nexec python3 -c 'import sys, lib.answer; sys.exit(lib.answer.VALUE != 42)'\n"
            },
        )
    )
    forge = """
cd ~/repo && cp lib/answer.py ~/kept.py && echo VALUE = 42 >lib/answer.py
python3 -m compileall -q --invalidation-mode unchecked-hash lib && cp ~/kept.py lib/answer.py
python3 -c 'import lib.answer; print(lib.answer.VALUE)'
"""

    async def run(sandbox: Sandbox) -> tuple[str, bool]:
        await seed(sandbox, task, {})
        forged = await bash(sandbox, forge)
        (result,) = await run_checks(sandbox, task)
        return forged, result.passed

    assert with_sandbox(server, run) == ("42\n", False)


def test_some_checks_can_be_run_alone(server: LocalServer, tmp_path: Path) -> None:
    """As a regrade does."""
    task = load_task(task_folder(tmp_path, toml="[checks.run]\nmore = 'true'\n"))

    async def run(sandbox: Sandbox) -> list[str]:
        await seed(sandbox, task, {})
        return [check.name for check in await run_checks(sandbox, task, checks=task.checks[1:])]

    assert with_sandbox(server, run) == ["more"]


def test_the_record_has_the_end_of_what_a_check_said(verdicts: Verdicts) -> None:
    """Its last 2,000 characters; a record stays small whatever a check writes."""
    results, kept = verdicts
    tail = results["flood"].output_tail
    assert len(tail) == 2000
    assert kept["checks/flood.txt"].decode().endswith(tail)


def test_a_check_whose_shell_is_gone_has_said_nothing(verdicts: Verdicts) -> None:
    """Neither an exit code nor a time came back, and no output to keep: that is told in its place."""
    results, kept = verdicts
    result = results["murder"]
    assert (result.passed, result.score, result.exit_code, result.timed_out) == (False, 0.0, None, False)
    assert (result.duration_ms, result.output) == (None, None)
    assert result.output_tail.startswith("the check's shell was killed (exit code ")
    assert "checks/murder.txt" not in kept


def test_a_check_that_is_killed_early_has_not_timed_out(verdicts: Verdicts) -> None:
    """137 is what a check that was stopped for its time ends with too: the time tells them apart."""
    result = verdicts[0]["suicide"]
    assert (result.exit_code, result.timed_out) == (137, False)
    assert "stopped" not in result.output_tail


def test_a_score_that_is_none_is_told_with_what_it_says(verdicts: Verdicts) -> None:
    """After the check's own words, so that its author sees what it wrote."""
    said = "\n[harness] $HARNESS_SCORE holds 'many', not a number from 0 to 1"
    assert verdicts[0]["words"].output_tail.rstrip() == said
    assert "[harness]" not in verdicts[0]["code_124"].output_tail
