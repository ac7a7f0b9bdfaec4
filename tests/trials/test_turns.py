"""Several prompts in one session: each one's own numbers in the record, and checks between them that leave no trace."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ProblemsError
from harness.local.launch import LocalServer
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.records.record_parts import TokenCounts
from harness.report.show import show
from harness.tasks.loading import load_task
from harness.tasks.task import Check
from tests.support.folders import task_folder, write_files
from tests.support.messages_api import MessagesApi, Say, Usage, Use
from tests.support.trials import tell

TWO_TURNS = '''
[[turns]]
prompt = "1.md"
checks = ["first"]
[[turns]]
prompt = "2.md"
[checks]
protect = ["kept.txt"]
[checks.run]
last = 'test "$(cat step)" = two && test ! -e spoilt'
first = """
test "$(cat step)" = one && test "$(cat kept.txt)" = kept &&
! pgrep -u "$(id -u)" -f "sleep 41[0]" && echo x >spoilt
"""
'''
IN_PLACE = TWO_TURNS.replace("[checks]\n", '[sandbox]\nworkdir = "/app"\n[checks]\nsandbox = "agent"\n')
PROMPTS = {"1.md": "The first step.", "2.md": "The second step."}


def two_turns(root: Path, **more: Any) -> Path:
    parts = {"toml": TWO_TURNS, "prompts": PROMPTS, "repo": {"kept.txt": "kept\n"}, "checks": {}, **more}
    return task_folder(root, "steps", **parts)


def the_record(pytester: pytest.Pytester) -> TrialRecord:
    (run,) = list_runs(pytester.path / "results")
    (record,) = read_records(run.path).records
    return record


@pytest.mark.usefixtures("as_e2b")
def test_a_turn_has_its_own_numbers_and_checks(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own tokens, to the digit, which add up to the session's; its checks judge what it left, and are not found."""
    usages = [Usage(10, 1), Usage(200, 20, 7, 3), Usage(3000, 300), Usage(40000, 4000)]
    first = "echo one >step; echo changed >kept.txt; setsid sleep 410 >/dev/null 2>&1 & echo $! >~/pid"
    look = "ls -A . ~/.harness; kill -0 $(cat ~/pid) && echo alive; cat kept.txt; kill $(cat ~/pid); echo two >step"
    script = [
        Use("Bash", {"command": first}, usages[0]),
        Say("One is done.", usages[1]),
        Use("Bash", {"command": look}, usages[2]),
        Say("Two is done.", usages[3]),
    ]
    two_turns(pytester.path / "tasks")
    with MessagesApi(script) as api:
        for name, value in api.env().items():
            monkeypatch.setenv(name, value)
        pytester.runpytest("tasks").assert_outcomes(passed=1)
        found = [str(r["content"]) for e in api.exchanges for r in e.request.tool_results]
    record = the_record(pytester)
    assert [(check.name, check.turn, check.passed) for check in record.checks] == [
        ("first", 1, True),
        ("last", None, True),
    ]
    told = found[-1]
    assert "alive" in told
    assert "changed" in told
    names = told.replace("\\n", "\n").split()
    assert not [name for name in names if name.startswith(("spoilt", "checks", "out-", "score-"))]
    assert [turn.tokens for turn in record.turns] == [counts(*usages[:2]), counts(*usages[2:])]
    assert record.tokens == counts(*usages)
    assert [turn.result for turn in record.turns] == ["One is done.", "Two is done."]
    assert [turn.num_turns for turn in record.turns] == [2, 2]
    assert record.num_turns == 4
    for name in ("duration_ms", "duration_api_ms", "cost_usd"):
        parts = [getattr(turn, name) for turn in record.turns]
        assert sum(parts) == pytest.approx(getattr(record, name))
        assert min(parts) > 0
    assert [(change.path, change.change) for change in record.tampering] == [("kept.txt", "modified")]
    out = io.StringIO()
    show(pytester.path / "results", None, "steps", out, full=False, as_json=False, color=False)
    page = out.getvalue()
    told = [
        page.index(text) for text in ("The first step.", "One is done.", "The second step.", "Two is done.")
    ]
    assert told == sorted(told)


def counts(*usages: Usage) -> TokenCounts:
    total = sum(usages, Usage(0, 0))
    return TokenCounts(
        input=total.input,
        output=total.output,
        cache_read=total.cache_read,
        cache_creation=total.cache_creation,
    )


@pytest.mark.usefixtures("as_e2b")
def test_a_turn_that_was_wrong_is_told(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when the end is right; and the session goes on."""
    script = [
        Say("I skip it."),
        Use("Bash", {"command": "echo two >step"}),
        Say("Done."),
    ]
    two_turns(pytester.path / "tasks")
    with MessagesApi(script) as api:
        for name, value in api.env().items():
            monkeypatch.setenv(name, value)
        result = pytester.runpytest("tasks")
    result.assert_outcomes(failed=1)
    assert [(check.name, check.passed) for check in the_record(pytester).checks] == [
        ("first", False),
        ("last", True),
    ]


@pytest.mark.usefixtures("as_e2b")
def test_the_oracle_knows_the_turns(pytester: pytest.Pytester) -> None:
    """A turn's own solution is judged by its own checks, before the next is laid over it."""
    toml = TWO_TURNS.replace('checks = ["first"]', 'checks = ["first"]\nsolution = "after-1"')
    folder = two_turns(pytester.path / "tasks", toml=toml, solution={"step": "two\n"})
    write_files(folder, {"after-1/step": "one\n"})
    pytester.runpytest("tasks", "--agent", "oracle").assert_outcomes(passed=1)
    assert [(check.name, check.turn) for check in the_record(pytester).checks] == [
        ("first", 1),
        ("last", None),
    ]


@pytest.mark.usefixtures("as_e2b")
def test_checks_of_turns_that_never_came_are_asked_at_the_end(pytester: pytest.Pytester) -> None:
    """No check goes without a verdict."""
    two_turns(pytester.path / "tasks")
    pytester.runpytest("tasks", "--agent", "nop").assert_outcomes(failed=1)
    checks = the_record(pytester).checks
    assert [(check.name, check.turn, check.passed) for check in checks] == [
        ("last", None, False),
        ("first", None, False),
    ]


# What a task may say


def test_checks_know_their_turn(tmp_path: Path) -> None:
    """Those of the last turn are asked at the end, as those of none."""
    toml = TWO_TURNS.replace('prompt = "2.md"', 'prompt = "2.md"\nchecks = ["last"]')
    task = load_task(two_turns(tmp_path, toml=toml))
    assert [turn.source for turn in task.turns] == ["1.md", "2.md"]
    assert [(check.name, check.turn) for check in task.checks] == [("last", None), ("first", 1)]
    assert all(isinstance(check, Check) for check in task.checks)


@pytest.mark.parametrize(
    ("toml", "field", "what"),
    [
        ('prompts = ["1.md"]\n' + TWO_TURNS, "prompts", "there are [[turns]] too"),
        (TWO_TURNS.replace('["first"]', '["frist"]'), "turns.0.checks.0", "there is no check 'frist'"),
        (
            TWO_TURNS.replace('prompt = "2.md"', 'prompt = "2.md"\nchecks = ["first"]'),
            "turns.1.checks.0",
            "belongs to an earlier turn",
        ),
        (TWO_TURNS.replace('prompt = "2.md"', 'promt = "2.md"'), "turns.1.promt", "is not a known key"),
        (TWO_TURNS.replace('prompt = "2.md"', "checks = []"), "turns.1.prompt", "is missing"),
        (TWO_TURNS.replace('"2.md"', '"3.md"'), "turns.1.prompt", "'3.md' does not exist"),
        (TWO_TURNS.replace('"2.md"', '"2.md"\nsolution = "x"'), "turns.1.solution", "'x' is not a folder"),
        (TWO_TURNS.replace('"2.md"', '"../2.md"'), "turns.1.prompt", "is not inside the task's folder"),
        (
            TWO_TURNS.replace('["first"]', '["first"]\nmin_score = 0.5'),
            "turns.0.min_score",
            "judged where it is",
        ),
        (
            IN_PLACE.replace('"2.md"', '"2.md"\nmin_score = 0.5'),
            "turns.1.min_score",
            "no prompt comes after it",
        ),
        (IN_PLACE.replace('checks = ["first"]', "min_score = 0.5"), "turns.0.min_score", "nothing to score"),
        ("turns = []\n[checks.run]\nok = 'true'\n", "turns", "is empty"),
    ],
)
def test_what_is_wrong_with_turns_is_told(tmp_path: Path, toml: str, field: str, what: str) -> None:
    """With the field's place, and what would be right."""
    with pytest.raises(ProblemsError) as caught:
        load_task(two_turns(tmp_path, toml=toml))
    found = {problem.field: problem for problem in caught.value.problems}
    assert what in found[field].what
    assert found[field].remedy


def test_a_session_ends_where_its_work_scores_too_little(server: LocalServer, tmp_path: Path) -> None:
    """No further prompt is asked, and paid; what was not come to has failed."""
    toml = IN_PLACE.replace('["first"]', '["first"]\nmin_score = 0.5').replace("/app", "/home/user/app")
    folder = two_turns(tmp_path, toml=toml.replace('protect = ["kept.txt"]', ""))
    shutil.rmtree(folder / "repo")
    with MessagesApi([Say("I have done nothing.")]) as api:
        story = tell(server, api, folder)
    assert story.told() == ("failed", "completed", None, None), story.record.error
    assert not api.unscripted
    assert len(story.record.turns) == 1
    assert [(check.name, check.turn) for check in story.record.checks] == [("first", 1), ("last", None)]
    assert "the session ended after prompt 1: its checks scored 0.00, min_score is 0.5" in story.record.notes


def test_what_a_turn_demands_of_the_session_counts_where_its_work_is_judged(
    server: LocalServer, tmp_path: Path
) -> None:
    """In the agent's own sandbox nothing asks the answer; the session goes on by it all the same, or does not."""
    toml = IN_PLACE.replace('["first"]', '["first", "answer"]\nmin_score = 0.9').replace(
        "/app", "/home/user/app"
    )
    toml = toml.replace('protect = ["kept.txt"]', "") + '[checks.answer]\ncontains = ["done"]\n'
    folder = two_turns(tmp_path, toml=toml)
    shutil.rmtree(folder / "repo")
    for says, turns in (("I have done it.", 2), ("No.", 1)):
        script = [
            Use("Bash", {"command": "echo one >step; echo kept >kept.txt"}),
            Say(says),
            Say("done: two"),
        ]
        with MessagesApi(script) as api:
            story = tell(server, api, folder)
        assert story.record.error is None
        assert len(story.record.turns) == turns
        assert [(check.name, check.turn, check.passed) for check in story.record.checks] == [
            ("first", 1, True),
            ("last", None, False),
            ("answer", 1, turns == 2),
        ]
