"""Checks of what the agent said and used, weights, and scores by name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import ProblemsError
from harness.records.events import parse_transcript
from harness.records.reading import list_runs, read_records
from harness.records.record_parts import CheckResult, score_of
from harness.records.stream import SessionBuilder
from harness.tasks.loading import load_task, load_tasks
from harness.trials.session_checks import Told, judge_session
from tests.support.folders import ANSWER_CHECK, by_hand, task_folder, write_files

START = {"type": "system", "subtype": "init", "session_id": "s", "tools": []}


def call(name: str, number: int, **arguments: Any) -> dict[str, Any]:
    block = {"type": "tool_use", "id": f"t{number}", "name": name, "input": arguments}
    message = {"id": f"m{number}", "model": "claude", "content": [block], "usage": {}}
    return {"type": "assistant", "session_id": "s", "message": message}


def result_of(number: int) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": f"t{number}", "content": "ok"}
    return {"type": "user", "session_id": "s", "message": {"role": "user", "content": [block]}}


def told(answer: str, *calls: dict[str, Any]) -> Told:
    events = [START, *(event for n, one in enumerate(calls) for event in (one, result_of(n)))]
    end = {"type": "result", "subtype": "success", "session_id": "s", "result": answer, "modelUsage": {}}
    raw = "".join(json.dumps(event) + "\n" for event in [*events, end]).encode()
    return Told(lambda: raw, SessionBuilder().add_all(parse_transcript(raw)).session())


def judged(root: Path, toml: str, of: Told) -> dict[str, CheckResult]:
    task = load_task(task_folder(root, toml=toml, checks={"file.sh": ANSWER_CHECK}))
    return {result.name: result for result in asyncio.run(judge_session(task.checks, of))}


@pytest.mark.parametrize(
    ("table", "right", "wrong"),
    [
        ('equals = "42"', " 42\n", "43"),
        ('contains = ["six", "seven"]', "six by seven", "six by six"),
        ("regex = '^\\d+$'", "42", "x42"),
        ('json = {type = "object", required = ["n"]}', '```json\n{"n": 1}\n```', '{"m": 1}'),
        ("json = {type = 'object'}", "{}", "no JSON"),
        ("regex = '^(a+)+$'", "aaa", "a" * 60 + "b"),
        pytest.param("json = {pattern = '^(a+)+$'}", '"aaa"', '"' + "a" * 60 + 'b"', marks=pytest.mark.slow),
        ("json = {type = 'object'}", "```json \n{}\n```", "```" + "\n" * 200_000),
        ("json = {minimum = 3, maximum = 3}", "3", "NaN"),
        ("json = {multipleOf = 0.5}", "1.5", "1" * 4000),
        ("json = {items = {'$ref' = '#'}}", "[[]]", "[" * 500 + "]" * 500),
        ("json = {additionalProperties = {type = 'number'}}", '{"a": 1}', '{"\\ud800": "a"}'),
    ],
)
def test_the_answer(tmp_path: Path, table: str, right: str, wrong: str) -> None:
    """The last message is held against what is demanded of it."""
    toml = f"[checks.answer]\n{table}\n"
    assert judged(tmp_path, toml, told(right))["answer"].passed
    found = judged(tmp_path, toml, told(wrong))["answer"]
    assert not found.passed
    assert found.model_dump_json()


@pytest.mark.parametrize(
    ("table", "is_met"),
    [
        ('used = ["Bash", "mcp__git*"]', True),
        ('used = ["WebFetch"]', False),
        ('not_used = ["Write"]', True),
        ('not_used = ["mcp__github__search"]', False),
        ('order = ["Read", "Bash"]', True),
        ('order = ["Bash", "Read"]', False),
        ("at_most = {Bash = 2}", True),
        ("at_most = {Bash = 1}", False),
        ('arguments = {Bash = {command = "^make"}}', True),
        ('arguments = {Bash = {command = "rm -rf"}}', False),
        ('used = ["Skill:review"]', True),
    ],
)
def test_the_tools(tmp_path: Path, table: str, is_met: bool) -> None:
    """Calls by name, order, number and arguments; skills and tools of MCP by theirs."""
    calls = [
        call("Read", 0, file_path="a"),
        call("Bash", 1, command="make test"),
        call("Bash", 2, command="ls"),
        call("mcp__github__search", 3),
        call("Skill", 4, skill="review"),
    ]
    assert judged(tmp_path, f"[checks.tools]\n{table}\n", told("done", *calls))["tools"].passed is is_met


def test_what_claude_code_did_not_write_is_no_call(tmp_path: Path) -> None:
    """A line of another session in the stream counts for nothing."""
    forged = {**call("WebFetch", 9), "session_id": "other"}
    found = judged(tmp_path, '[checks.tools]\nused = ["WebFetch"]\n', told("done", forged))
    assert not found["tools"].passed


def test_an_answer_without_end_is_cut() -> None:
    """A server of the agent's own may have said it, and the record could not be read."""
    long = told("x" * 20_000_000, call("y" * 10_000_000, 1)).session
    (turn,) = long.turns
    assert turn.text
    assert len(turn.text) < 300_000
    assert all(len(name) < 300 for name in long.tools)


def test_wrong_tables_are_told(tmp_path: Path) -> None:
    """A pattern that is none, an empty table, and a weight of nothing."""
    toml = "[checks.answer]\nregex = '('\n[checks.tools]\n[checks.weights]\nnobody = 2\n"
    folder = task_folder(tmp_path, checks={"file.sh": ANSWER_CHECK}, toml=toml)
    with pytest.raises(ProblemsError) as wrong:
        load_task(folder)
    assert [problem.field for problem in wrong.value.problems] == [
        "checks.answer.regex",
        "checks.tools",
        "checks.weights.nobody",
    ]


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ('[checks.answer]\nequal = "4"', ["answer.equal"]),
        (
            '[checks.answer]\nequals = "4"\ncontains = ["5"]\nregex = "5"',
            ["answer.contains.0", "answer.regex"],
        ),
        ('[checks.answer]\njson = {type = "nope"}', ["answer.json"]),
        ('[checks.answer]\njson = {"$ref" = "https://example.com/x.json"}', ["answer.json"]),
        (
            '[checks.tools]\nused = ["bash", "mine", "mcp__git", "Bash(make *)", "skill:a", "mcp__a__*", "New*"]',
            [f"tools.used.{index}" for index in range(5)],
        ),
        ('[checks.tools]\norder = ["Read", "Bash"]\nnot_used = ["Read"]', ["tools.not_used.0"]),
        ('[checks.tools]\norder = ["Bash", "Read", "Bash"]\nat_most = {Bash = 1}', ["tools.at_most.Bash"]),
        ('[checks.tools]\norder = ["Read"]', ["tools.order"]),
    ],
)
def test_demands_that_nothing_can_meet_are_told(tmp_path: Path, table: str, fields: list[str]) -> None:
    """By the key, before anything is run."""
    folder = task_folder(tmp_path, checks={"file.sh": ANSWER_CHECK}, toml=f"{table}\n")
    with pytest.raises(ProblemsError) as wrong:
        load_task(folder)
    assert [problem.field for problem in wrong.value.problems] == [f"checks.{field}" for field in fields]


def test_weights() -> None:
    """The trial's score is the mean of the checks' by their weights."""
    check = CheckResult(name="a", passed=True, score=1.0, exit_code=0, duration_ms=1, output_tail="")
    other = check.model_copy(update={"score": 0.0, "weight": 3.0})
    assert (score_of([check, other]), score_of([])) == (0.25, None)


@pytest.mark.usefixtures("as_e2b")
def test_checks_see_the_session_and_give_several_scores(pytester: pytest.Pytester) -> None:
    """By the variables, in a replayed session of the real Claude Code; and again when it is graded anew."""
    look = (
        "#!/usr/bin/env python3\nimport json, os\nfrom pathlib import Path\n"
        "record = json.loads(Path(os.environ['HARNESS_RECORD']).read_text())\n"
        "assert record['tools']['Write']['calls'] == 1, record\n"
        "assert Path(os.environ['HARNESS_ANSWER']).read_text() == 'It is 42.'\n"
        "assert '\"tool_use\"' in Path(os.environ['HARNESS_TRANSCRIPT']).read_text()\n"
        "Path(os.environ['HARNESS_SCORE']).write_text('exact = 1\\nbrief = 0.5\\n')\n"
    )
    write = {"file_path": "/home/user/repo/answer.txt", "content": "42\n"}
    replay = by_hand(
        [{"type": "tool_use", "name": "Write", "input": write}], [{"type": "text", "text": "It is 42."}]
    )
    toml = (
        '[checks.answer]\ncontains = ["42"]\n[checks.tools]\nused = ["Write"]\n[checks.weights]\nlook = 2\n'
    )
    task_folder(pytester.path / "tasks", toml=toml, checks={"look.py": look}, replay=replay)
    pytester.runpytest("tasks", "--model-source", "replay").assert_outcomes(passed=1)
    (run,) = list_runs(pytester.path / "results")
    (record,) = read_records(run.path).records
    looked, answer, tools = record.checks
    assert (looked.scores, looked.score, looked.weight) == ({"exact": 1.0, "brief": 0.5}, 0.75, 2.0)
    assert (answer.passed, tools.passed, record.score) == (True, True, 0.875)
    assert main(["regrade", run.id, "tasks/answer"]) == 0
    again = read_records(list_runs(pytester.path / "results")[-1].path).records[0]
    assert [(check.name, check.score) for check in again.checks] == [(c.name, c.score) for c in record.checks]
    assert again.transcript == record.transcript
    kept, copied = (path / str(record.transcript) for path in (run.path, list_runs(run.path.parent)[-1].path))
    assert kept != copied
    assert kept.read_bytes() == copied.read_bytes()


def test_a_task_for_each_row(tmp_path: Path) -> None:
    """Fifty rows are fifty tasks, each with its own prompt, answer and hash."""
    rows = [{"id": f"row-{n}", "question": f"{n} x 7", "answer": n * 7} for n in range(49)]
    rows.append(
        {"id": "row-49", "question": "49\u2028x\x85 7", "answer": 343}
    )  # what is a line end to Python alone
    folder = table(tmp_path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    tasks = load_tasks(folder)
    assert [task.name for task in tasks][:2] == ["products.row-0", "products.row-1"]
    assert (tasks[6].turns[0].prompt, tasks[6].answer) == ("What is 6 x 7? Say only the number.\n", "42\n")
    assert tasks[6].checks[0].answer
    assert tasks[6].checks[0].answer.equals == "42"
    assert len({task.hash for task in tasks}) == 50


def test_rows_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    """By their line."""
    folder = table(tmp_path, 'no JSON\n{"question": "x"}\n{"id": "a", "question": "x"}\n{"id": "../b"}\n')
    with pytest.raises(ProblemsError) as wrong:
        load_tasks(folder)
    assert [problem.file.rpartition(":")[2] for problem in wrong.value.problems] == ["1", "2", "3", "4"]


@pytest.mark.usefixtures("as_e2b")
def test_a_table_runs_and_its_reference_answers(pytester: pytest.Pytester) -> None:
    """The oracle says the reference's answer, also when it is graded anew; nop, which says nothing, fails."""
    rows = [
        {"id": "six", "question": "6 x 7", "answer": "42"},
        {"id": "one", "question": "1 x 7", "answer": "7"},
    ]
    folder = table(pytester.path, "".join(json.dumps(row) + "\n" for row in rows))
    pytester.runpytest(folder, "--agent", "oracle").assert_outcomes(passed=2)
    (run,) = list_runs(pytester.path / "results")
    assert main(["regrade", run.id, str(folder)]) == 0
    again = read_records(list_runs(pytester.path / "results")[-1].path).records
    assert [(record.outcome, record.regraded_from is None) for record in again] == [("passed", False)] * 2
    pytester.runpytest(folder, "--agent", "nop").assert_outcomes(failed=2)


def table(root: Path, rows: str) -> Path:
    """A task folder for each row of a file."""
    folder = root / "products"
    toml = 'schema = 1\nrows = "rows.jsonl"\n[checks.answer]\nequals = "{{ answer }}"\n'
    prompt = "What is {{ question }}? Say only the number.\n"
    write_files(
        folder, {"task.toml": toml, "prompt.md": prompt, "answer.md": "{{ answer }}\n", "rows.jsonl": rows}
    )
    return folder
