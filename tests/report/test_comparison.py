"""From records to verdicts: what is compared with what, what the reports say, and when the gate fails."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.cli import main
from harness.errors import UsageError
from harness.records.metrics import metrics_of, parse_metrics
from harness.records.record import TrialRecord
from harness.records.record_parts import AttemptRecord, ErrorRecord, TokenCounts
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.report import markdown, phrases, verdicts
from harness.report.comparison import ComparisonView, compare_arms
from harness.report.gate import judge_gate, margins, read_fail_on
from harness.report.sources import RecordSource, match
from harness.stats.data import RoundsPlan
from tests.support.records import a_record, any_record

fewer = settings(max_examples=50)
BROKEN = ErrorRecord(cause="provider", type="rate_limit", message="slow down")


def trial(task: str, variant: str, index: int, passed: bool | None, **fields: Any) -> TrialRecord:
    """A trial that passed, failed, or (None) broke."""
    outcome = {True: "passed", False: "failed", None: "error"}[passed]
    more: dict[str, Any] = {"error": BROKEN} if passed is None else {}
    score = None if passed is None else float(passed)
    return a_record(task, variant, index, **{"outcome": outcome, "score": score, **more, **fields})


def a_run(passes: dict[str, list[str]], **fields: Any) -> list[TrialRecord]:
    """For each variant its tasks, each written as its trials: `+` passed, `-` failed, `!` broke."""
    seen = {"+": True, "-": False, "!": None}
    return [
        trial(f"t{place}", variant, index, seen[mark], **fields)
        for variant, tasks in passes.items()
        for place, marks in enumerate(tasks)
        for index, mark in enumerate(marks, 1)
    ]


BETTER = {"a": ["---", "--+", "---", "---", "--+", "---"], "b": ["+++", "+++", "++-", "+++", "+++", "+++"]}
WORSE = {"a": BETTER["b"], "b": BETTER["a"]}
UNCLEAR = {"a": ["+-", "--", "++"], "b": ["++", "-+", "++"]}


def write(path: Path, records: Iterable[TrialRecord]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record.line()) + "\n" for record in records), encoding="utf-8")
    return path


def source(name: str, records: Iterable[TrialRecord]) -> RecordSource:
    return RecordSource(name, tuple(metrics_of(record) for record in records))


def compare_records(records: Iterable[TrialRecord], baseline: str | None = None) -> ComparisonView:
    found = match(source("run", records), None, baseline)
    return compare_arms(found.arms, found.pairs)


def notes(view: ComparisonView) -> str:
    return "\n".join(view.notes)


# What is read of a record


@fewer
@given(any_record())
def test_a_line_says_what_the_record_says(record: TrialRecord) -> None:
    """The quick way of reading and the whole record agree, whatever is in it."""
    try:
        expected = metrics_of(record)
    except ValueError:
        with pytest.raises(ValueError, match="validation error"):
            parse_metrics(json.dumps(record.line()).encode())
        return
    assert parse_metrics(json.dumps(record.line()).encode()) == expected
    assert expected.tokens == (None if record.tokens_partial else record.tokens.total)
    assert expected.spent_usd == record.total_cost_usd


def test_what_faulty_attempts_cost_is_spent_but_not_compared() -> None:
    """The bill has it; a variant is not dearer for the weather."""
    attempt = AttemptRecord(
        number=1,
        error=BROKEN,
        sandbox_id=None,
        started_at="2026-11-23T09:01:41.000Z",
        duration_ms=1,
        tokens=TokenCounts(),
        tokens_partial=True,
        cost_usd=5.0,
        transcript=None,
    )
    found = metrics_of(a_record(cost_usd=1.0, attempts=(attempt,)))
    assert (found.cost_usd, found.spent_usd) == (1.0, 6.0)


# What is compared with what


def test_the_first_variant_is_the_baseline_unless_another_is_named() -> None:
    """All others are compared with it."""
    records = a_run({"a": ["+"], "b": ["+"], "c": ["+"]})
    assert [(p.arm, p.baseline) for p in compare_records(records).pairs] == [("b", "a"), ("c", "a")]
    assert [(p.arm, p.baseline) for p in compare_records(records, baseline="b").pairs] == [
        ("a", "b"),
        ("c", "b"),
    ]
    with pytest.raises(UsageError, match="'x' is none of the variants"):
        compare_records(records, baseline="x")


def test_two_runs_are_compared_variant_by_variant() -> None:
    """Each with its namesake; who has none is named, and left out."""
    base, new = a_run({"a": ["+"], "b": ["+"]}), a_run({"b": ["+"], "c": ["+"], "a": ["-"]})
    found = match(source("base", base), source("new", new))
    assert found.pairs == (("b (new)", "b (base)"), ("a (new)", "a (base)"))
    assert found.notes == ("not compared, since the base has no such variant: c",)


def test_a_base_of_one_variant_is_the_baseline_of_all() -> None:
    """It needs no naming, nor a namesake."""
    base = source("base", a_run({"a": ["+"]}))
    assert match(base, source("new", a_run({"b": ["+"], "c": ["+"]}))).pairs == (("b", "a"), ("c", "a"))
    two = source("base", a_run({"x": ["+"], "y": ["+"]}))
    with pytest.raises(UsageError, match="no variant of new has its namesake in base"):
        match(two, source("new", a_run({"b": ["+"]})))
    assert match(two, source("new", a_run({"b": ["+"]})), "y").pairs == (("b", "y"),)


# What the view tells


def test_errors_and_invalid_trials_are_no_failures() -> None:
    """They are left out, counted, and told with their reason."""
    records = [*a_run({"a": ["+!", "++"], "b": ["++", "++"]}), trial("t0", "b", 9, False, outcome="invalid")]
    view = compare_records(records)
    assert (view.arm("a").passed, view.arm("a").failed, view.arm("a").errors) == (3, 0, 1)
    assert view.pairs[0].contrasts["pass"].difference.value == 0
    assert "a: 1 trial excluded (error): provider: rate_limit" in notes(view)
    assert "b: 1 trial excluded (invalid): the variant was not really applied" in notes(view)
    assert "had all excluded trials gone against b" in verdicts.render(view)


def test_a_task_that_broke_under_one_of_the_two_is_told() -> None:
    """It is no part of the difference; the bounds say what it could have changed."""
    text = verdicts.render(compare_records(a_run({"a": ["++", "+-", "--"], "b": ["++", "!!", "+-"]})))
    assert "- 1 task counts under one of the two only, and cannot be compared" in text
    assert "2 tasks, 2 trials each" in text


def test_replayed_and_hand_written_sessions_are_told_first() -> None:
    """Whoever reads a verdict must know that no model was measured."""
    view = compare_records(a_run(BETTER, model_source="replay", replay_by_hand=True))
    assert view.replayed
    assert view.notes[0] == (
        "all trials replayed sessions (36 of them written by hand): this measures the plumbing, not a model"
    )
    assert "not a model" not in notes(compare_records(a_run(BETTER, model_source="api")))


def test_what_is_not_one_treatment_is_told() -> None:
    """Another model, another version, another content of the task: a difference may come from those."""
    records = [
        trial("t0", "a", 1, True, model="one", claude_version="1"),
        trial("t0", "a", 2, True, model="two", claude_version="1"),
        trial("t0", "b", 1, True, model="two", task_hash="changed"),
        trial("t1", "b", 1, True, model="two"),
    ]
    told = notes(compare_records(records))
    assert "a mixes 2 models: one, two" in told
    assert "versions" not in told
    assert "1 task changed between b and a, and a difference may come from that: t0" in told
    assert "1 task with trials of b only, not compared: t1" in told


def test_a_difference_that_nobody_asked_for_is_told() -> None:
    """Another version, model or set of tools than the baseline's, unless one of the two variants sets it."""

    def told(**asked: object) -> str:
        base: dict[str, Any] = {"claude_version": "2.1.1", "model": "one", "tools_offered": ["Bash", "Cron"]}
        other: dict[str, Any] = {
            "claude_version": "2.1.2",
            "model": "two",
            "tools_offered": ["Bash", "mcp__a__b"],
        }
        records = [trial("t0", "a", 1, True, **base), trial("t0", "b", 1, True, asked=asked, **other)]
        return notes(compare_records(records))

    undeclared = told(claude_md={"sha256": "0"})
    assert (
        "b and a differ in the version of Claude Code too, which neither asks for: 2.1.2, and 2.1.1"
        in undeclared
    )
    assert "b and a differ in the model too, which neither asks for: two, and one" in undeclared
    assert "b lacks Cron among Claude Code's own tools, unlike a; neither asks for it" in undeclared
    declared = told(claude_version="2.1.2", settings={"model": "two"}, args=["--tools", "Bash"])
    assert "neither asks" not in declared


def test_a_cut_off_trials_tokens_are_unknown_not_small() -> None:
    """A lower bound would make the variant look cheap."""
    records = [
        trial(
            "t0",
            "a",
            1,
            False,
            tokens=TokenCounts(input=1, output=1, cache_read=0, cache_creation=0),
            tokens_partial=True,
        ),
        trial("t0", "b", 1, True, tokens=TokenCounts(input=9, output=1, cache_read=0, cache_creation=0)),
    ]
    view = compare_records(records)
    assert phrases.value(view.arm("a"), "tokens") == "-"
    assert phrases.value(view.arm("b"), "tokens") == "10"
    assert view.pairs[0].contrasts["tokens"].difference.value is None
    assert "1 trial cut off: their tokens and cost are unknown, and left out" in notes(view)


def test_one_variant_alone_is_shown_without_a_verdict() -> None:
    """And so are no records at all."""
    assert "nothing to compare it with" in verdicts.render(compare_records(a_run({"a": ["+"]})))
    assert compare_arms([], []).pairs == ()


def test_a_variant_that_was_settled_early_is_judged_as_it_was_then() -> None:
    """What the baseline tried later, for the others, is no part of it; the looks were planned, and widen intervals."""
    records = a_run(
        {"a": ["-----", "--+--", "-----", "---+-"], "b": ["++", "++", "++", "++"], "c": ["-+---"] * 4}
    )
    arms = match(source("run", records), None)
    view = compare_arms(arms.arms, arms.pairs, plan=RoundsPlan(20))
    b, c = (pair.contrasts["pass"].difference for pair in view.pairs)
    assert (b.trials, c.trials) == (2, 5)
    assert b.value == 1.0
    assert 0.975 < c.level < b.level < 1
    assert "valid at each of up to 4 looks" in " ".join(verdicts.render(view).split())


# Numbers in words


@pytest.mark.parametrize(
    ("metric", "number", "shown"),
    [
        ("pass", 0.415, "+42 pts"),
        ("pass", -0.031, "-3.1 pts"),
        ("pass", 0.0, "0 pts"),
        ("pass", 0.0001, "+<0.1 pts"),
        ("cost", -0.2, "-20%"),
        ("cost", 3.0, "+300%"),
        ("cost", 24.0, "x25"),
        ("cost", None, "-"),
    ],
)
def test_a_difference_has_its_sign_and_its_unit(metric: Any, number: float | None, shown: str) -> None:
    """Points of a rate, a share of a baseline; only nothing is 0."""
    assert phrases.change(metric, number) == shown


# Reports


def test_the_terminals_report_fits_80_columns_and_colour_only_adds() -> None:
    """Whatever the names; without colour the words say it all."""
    long = {f"variant-with-a-rather-long-name-{name}": tasks for name, tasks in BETTER.items()}
    view = compare_records(a_run(long, model_source="replay"))
    text = verdicts.render(view)
    assert max(map(len, text.splitlines())) <= 80
    assert "improvement" in text
    bare = re.sub(r"\x1b\[[0-9;]*m", "", verdicts.render(view, color=True))
    assert [line.rstrip() for line in bare.splitlines()] == text.splitlines()


HOSTILE = "\x1b[31m<img src=x onerror=alert(1)>|`@octocat` #1 [x](http://e.vil) www.e.vil **b** $x$ \u202e"


def hostile_view() -> ComparisonView:
    records = a_run(BETTER)
    return compare_records(
        [
            record.model_copy(
                update={
                    "task": f"{HOSTILE}{record.task}",
                    "variant": HOSTILE * (record.variant == "b") or "a",
                }
            )
            for record in records
        ]
    )


def test_no_name_steers_the_terminal() -> None:
    """Escape sequences and characters that turn the reading direction are shown as what they are: nothing."""
    assert not re.search("[\x1b\u202e]", verdicts.render(hostile_view()))


def test_no_name_becomes_markup_in_markdown() -> None:
    """No HTML, cell, link, code, mention, reference or formula of its own."""
    text = markdown.render(hostile_view(), judge_gate(hostile_view(), read_fail_on("regression")))
    own = re.sub(r"</?(details|summary)>", "", text)
    for markup in ("<", "`", "[", "](", "http://", "www.", "**b", "@octocat", "$", "\x1b", "\u202e"):
        assert markup not in own.replace("> [!WARNING]", ""), markup
    assert not re.search(r"(?<!&)#\d", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {9, 12}


def test_a_markdown_parser_finds_the_reports_own_markup_and_the_names_as_they_are() -> None:
    """By a parser of CommonMark with tables: headings, tables, lists; and every character of a name is text."""
    view = hostile_view()
    html = MarkdownIt("commonmark").enable("table").render(markdown.render(view))
    own = {"h2", "h3", "p", "strong", "ul", "li", "details", "summary", "blockquote"}
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= own | {"table", "thead", "tbody", "tr", "th", "td"}
    shown = unescape(re.sub(r"<[^>]*>", "", html)).replace("\N{ZERO WIDTH SPACE}", "")
    assert "<img src=x onerror=alert(1)>|`@octocat` #1 [x](http://e.vil) www.e.vil **b** $x$" in shown


@fewer
@given(st.text(max_size=40))
def test_escaped_text_is_one_line_without_markup(text: str) -> None:
    """Any text at all."""
    found = markdown.escape(text)
    assert not re.search(r"[\n\r`<>|*\[\]]", found)
    assert not re.search(r"@\w", found)


def test_markdown_has_the_verdicts_and_the_gate() -> None:
    """What a reviewer needs, in the comment."""
    view = compare_records(a_run(WORSE))
    text = markdown.render(view, judge_gate(view, read_fail_on("regression")))
    assert "**Gate: FAILED**" in text
    assert "b is worse than a" in text
    assert "| pass rate | 94% | 11% |" in text
    assert "regression |" in text


# The gate


def gate(passes: dict[str, list[str]], fail_on: str = "regression", **fields: Any) -> Any:
    conditions = read_fail_on(fail_on)
    arms = match(source("run", a_run(passes, **fields)), None)
    return judge_gate(compare_arms(arms.arms, arms.pairs, margins=margins(conditions)), conditions)


def test_a_regression_fails_the_gate_with_its_reason() -> None:
    """An improvement does not, nor what is not sure; that is said."""
    failed = gate(WORSE)
    assert failed.words == "FAILED"
    assert re.fullmatch(
        r"pass rate of b against a: regression, -83 pts \(.* to .*\) on these 6 tasks", failed.failed[-1]
    )
    assert gate(BETTER).words == "holds"
    unclear = gate(UNCLEAR)
    assert (unclear.failed, unclear.words) == ((), "holds, but is not sure")


def test_what_cannot_be_judged_fails_the_gate() -> None:
    """A run in which everything broke shows no regression, and is no proof of none."""
    assert gate({"a": ["++", "++"], "b": ["!!", "!!"]}).failed == (
        "pass rate of b against a cannot be judged: "
        "no task has trials that count, with a known value, under both variants",
    )
    assert gate({"a": ["++"]}).failed == ("there is nothing to compare",)


def test_a_gate_may_stand_on_another_metric_and_margin() -> None:
    """A margin wide enough makes a certain small loss an equivalence."""
    assert gate(BETTER, "regression=cost").failed
    slightly_worse = {"a": ["+++++"] * 12, "b": ["++++-"] * 8 + ["+++--"] * 4}
    assert gate(slightly_worse).failed
    assert not gate(slightly_worse, "regression=pass:0.4").failed
    assert not gate(slightly_worse, "regression=pass:40%").failed


def healthy(lost: int, tasks: int = 8, trials: int = 10) -> dict[str, list[str]]:
    """Tasks that always pass, of which the first so many are lost by b."""
    return {"a": ["+" * trials] * tasks, "b": ["-" * trials] * lost + ["+" * trials] * (tasks - lost)}


@pytest.mark.parametrize(
    ("lost", "tasks", "trials"), [(3, 8, 10), (1, 8, 10), (1, 1, 20), (1, 8, 5), (1, 50, 10)]
)
def test_a_lost_task_fails_the_gate_and_the_headline_names_it(lost: int, tasks: int, trials: int) -> None:
    """On these tasks it is beyond doubt, also where it is 2 points on average; and never beside `equivalent`."""
    runs = healthy(lost, tasks, trials)
    assert any("lost against a: t0" in reason for reason in gate(runs).failed)
    assert gate(runs, "broken").failed
    pair = compare_records(a_run(runs)).pairs[0]
    assert "lost: t0" in phrases.headline(pair)
    assert ("these" in phrases.headline(pair)) or ("this task" in phrases.headline(pair))
    assert "equivalent" not in verdicts.render(compare_records(a_run(runs)))


def test_each_condition_is_judged_by_itself_and_all_reasons_are_told() -> None:
    """Of other tasks one lost task of eight says little; that is inconclusive, and may fail a gate too."""
    assert not gate(healthy(1), "regression@population").failed
    assert len(gate(healthy(1), "inconclusive@population").failed) == 1
    assert not gate(healthy(0), "inconclusive").failed
    both = gate(healthy(1), "inconclusive@population,regression,excluded").failed
    assert [reason.split(":")[0] for reason in both] == [
        "pass rate of b against a",
        "1 task of b lost against a",
        "pass rate of b against a",
    ]


def test_too_many_trials_left_out_fail_the_gate_that_says_so() -> None:
    """More than the share; without one, any."""
    runs = {"a": ["++++"] * 5, "b": ["+++!"] + ["++++"] * 4}
    assert gate(runs, "excluded").failed == ("1 of 20 trials of b are excluded: 5%",)
    assert not gate(runs, "excluded:5%").failed
    assert gate(runs, "excluded:0.04").failed


def test_what_is_left_out_can_turn_the_verdict_and_then_the_gate_does_not_hold() -> None:
    """Half of b's tasks broke. The headline says so, and errors that fall on one variant are no accident."""
    runs = {"a": ["+" * 10] * 8, "b": ["!" * 10] * 4 + ["+" * 10] * 4}
    view = compare_records(a_run(runs))
    assert "the excluded trials could make it a regression" in phrases.headline(view.pairs[0])
    assert any("excluded trials could make it a regression" in reason for reason in gate(runs).failed)
    assert "40 of 80 trials of b, 0 of 80 of a: that is no accident" in notes(view)
    one = {"a": ["+" * 10] * 8, "b": ["!" + "+" * 9] + ["+" * 10] * 7}
    assert not gate(one).failed
    assert "no accident" not in notes(compare_records(a_run(one)))


def test_a_gate_about_these_tasks_without_an_answer_takes_that_about_others_and_says_so() -> None:
    """One trial of each task, and five that flipped."""
    runs = {"a": ["+"] * 12, "b": ["-"] * 5 + ["+"] * 7}
    found = gate(runs)
    assert not found.failed
    assert "on tasks like these, since these have no answer (one trial of each task" in found.unsettled[0]
    assert "on these tasks there is no answer" in verdicts.render(compare_records(a_run(runs)))


def test_all_pass_is_no_worse_and_no_better_on_these_tasks_and_open_on_others() -> None:
    """With the exact number of tasks that would settle it."""
    text = " ".join(verdicts.render(compare_records(a_run(healthy(0)))).split())
    assert "no worse and no better than 5 points, on average over these 8 tasks" in text
    assert "to settle pass rate on tasks like these: 72 tasks" in text
    assert "an effect on few tasks may be missing from 8" in text
    assert "as good as" not in text


def test_a_small_loss_is_told_as_what_it_is() -> None:
    """All of the interval is below no change, and above the margin."""
    runs = {"a": ["+" * 100] * 20, "b": [("-" * 3 + "+" * 97)] * 20}
    said = phrases.headline(compare_records(a_run(runs)).pairs[0])
    assert said.startswith("b is lower than a, but by less than 5 points, on average over these 20 tasks: ")


def test_the_typical_trial_and_the_bill_are_two_lines() -> None:
    """17 cheap tasks become cheaper, 3 dear ones dearer."""
    records = [
        record.model_copy(update={"cost_usd": price * (1 + 0.02 * record.index)})
        for record in a_run({name: ["+-+++"] * 20 for name in "ab"})
        for dear in (int(record.task[1:]) < 3,)
        for price in ((4.0 if dear else 0.1) * ((1.3 if dear else 0.7) if record.variant == "b" else 1.0),)
    ]
    pair = compare_records(records).pairs[0]
    assert (pair.verdict("cost"), pair.verdict("bill")) == ("improvement", "regression")
    for text in (verdicts.render(compare_records(records)), markdown.render(compare_records(records))):
        assert re.search(r"cost, typical trial.*-23%.*improvement", text)
        assert re.search(r"cost, the bill.*\+2\d%.*regression", text)
        assert "cost, each pass" in text


def test_arms_that_were_not_run_side_by_side_are_told() -> None:
    """In different runs, or one after the other; the gate says it too."""
    runs = a_run({"a": ["+++"] * 6, "b": ["+++"] * 6})
    later = [
        r.model_copy(update={"started_at": f"2026-11-2{3 + (r.variant == 'b')}T09:0{r.index}:00.000Z"})
        for r in runs
    ]
    mixed = [r.model_copy(update={"started_at": f"2026-11-23T09:0{r.index}:00.000Z"}) for r in runs]
    assert "one after the other, and not side by side" in notes(compare_records(later))
    assert "side by side" not in notes(compare_records(mixed))
    other = [r.model_copy(update={"run_id": f"run-{r.variant}"}) for r in runs]
    view = compare_records(other)
    assert "b and a are of different runs" in notes(view)
    judged = judge_gate(view, read_fail_on("regression"))
    assert judged
    assert any("different runs" in line for line in judged.unsettled)


def test_no_senseless_interval_is_shown() -> None:
    """Two tasks with 1755 and 997 ms, and two of which one takes a million times as long."""
    for times in ((1755.0, 997.0), (1.0, 1e6)):
        records = [
            trial(f"t{place}", name, 1, True, duration_ms=time, cost_usd=time)
            for name in "ab"
            for place, time in enumerate(times)
        ]
        view = compare_records(records)
        for text in (verdicts.render(view), markdown.render(view)):
            assert not re.search(r"e\+\d|\d{9}", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "broken=pass",
        "regression@others",
        "excluded:2",
        "excluded:-1%",
        "regression=",
        "regression=x",
        "regression=pass:",
        "regression=pass:0",
        "regression=pass:1.1",
        "regression=pass:1.2.3",
        "regression,",
    ],
)
def test_other_conditions_are_refused(text: str) -> None:
    """With what would be right."""
    with pytest.raises(UsageError) as error:
        read_fail_on(text)
    assert error.value.remedy


# The command


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`base.jsonl` is better than `new.jsonl`, which is also the run `new`."""
    monkeypatch.chdir(tmp_path)
    records = a_run(WORSE)
    write(tmp_path / "base.jsonl", [r for r in records if r.variant == "a"])
    new = [r.model_copy(update={"variant": "a"}) for r in records if r.variant == "b"]
    write(tmp_path / "new.jsonl", new)
    write(tmp_path / "results" / "20260101-run" / "records.jsonl", new)
    (tmp_path / "results" / "20260101-run" / "run.json").write_text("{}")
    return tmp_path


def compare(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["compare", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_exit_code_is_the_gates(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0: compared, or the gate holds; 1: the gate failed, with its reasons; a run is as good as a file."""
    assert compare(capsys, "base.jsonl", "new.jsonl")[0] == 0
    assert compare(capsys, "new.jsonl", "base.jsonl", "--fail-on", "regression")[0] == 0
    for new in ("new.jsonl", "20260101", "results/20260101-run"):
        code, out, _ = compare(capsys, "base.jsonl", new, "--fail-on", "regression")
        assert code == 1
        assert "gate: FAILED\n- pass rate of a (new) against a (base): regression" in out


def test_json_has_both_answers_and_the_gate(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nulls for what is not known."""
    code, out, _ = compare(capsys, "base.jsonl", "new.jsonl", "--format", "json", "--fail-on", "regression")
    found = json.loads(out)
    rate = found["pairs"][0]["metrics"]["pass"]
    assert (code, found["gate"]["words"], rate["answered_first"]) == (1, "FAILED", "suite")
    assert rate["suite"]["verdict"] == rate["population"]["verdict"] == "regression"
    assert rate["suite"]["low"] < rate["suite"]["difference"] < rate["suite"]["high"] < 0
    assert found["pairs"][0]["metrics"]["bill"]["suite"]["difference"] is None


def test_wrong_use_is_told_without_a_traceback(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, what is wrong, and what would be right."""
    (files / "empty.jsonl").touch()
    for arguments, says in (
        (["nowhere"], "no run begins with 'nowhere'"),
        (["nowhere.jsonl"], "nowhere.jsonl is neither a records file nor a run's folder"),
        (["base.jsonl", "new.jsonl", "--fail-on", "regression=cost:-5%"], "the margin must be above 0"),
        (["empty.jsonl"], "empty.jsonl has no records"),
        (["base.jsonl", "--baseline", "x"], "there are: a"),
        (["base.jsonl", "new.jsonl", "--fail-on", "x"], "is not understood"),
        (["git:HEAD"], "write git:REF:PATH"),
        (["git:--help:x"], "cannot begin with a dash"),
        (["git:HEAD:x"], "cannot be read"),
    ):
        code, out, err = compare(capsys, *arguments)
        assert (code, out) == (2, ""), arguments
        assert says in err


def test_what_can_be_compared_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a run, or with one that has one variant only: what to write, and the latest runs by name."""
    for name in ("20261123-090141-3f9c", "20261124-090141-77aa"):
        run = RunFolder.create(tmp_path, name, {}, NO_REDACTION)
        for record in a_run({"a": ["+"]}):
            run.append(record.model_copy(update={"run_id": name}))
    for arguments, says in (((), "needs a run, or two"), (("20261124",), "one variant only")):
        code, out, err = compare(capsys, *arguments, "--results", str(tmp_path))
        assert (code, out) == (2, "")
        assert says in err
        assert "harness compare BASE" in err
        assert "the latest runs: 20261124-090141-77aa, 20261123-090141-3f9c" in err


def test_a_torn_line_is_told_and_the_others_are_read(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill may have torn the last one."""
    with (files / "new.jsonl").open("a") as file:
        file.write('{"run_id": "x", "tri')
    code, out, _ = compare(capsys, "base.jsonl", "new.jsonl")
    assert code == 0
    assert "new.jsonl: 1 line is no record, and left out: line 19:" in out


def test_records_are_read_from_a_commit(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file as it was then, or a run's folder."""

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True
        )

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "x")
    (files / "base.jsonl").unlink()
    for base in ("git:HEAD:base.jsonl", "git:HEAD:results/20260101-run"):
        code, out, _ = compare(capsys, base, "new.jsonl", "--format", "markdown")
        assert code == 0
        assert out.startswith("## harness: comparison")


# Which k of pass@k


def test_the_terminal_has_a_column_for_each_k_that_some_variant_has() -> None:
    """A variant with fewer trials has no number there, and tasks with fewer are said to be left out."""
    view = compare_records(a_run({"a": ["+", "-"], "b": ["+-", "+-+"]}))
    lines = [line.split() for line in verdicts.render(view).splitlines()]
    assert ["of", "k", "trials", "k=1", "k=2", "k=3"] in lines
    assert ["a:", "one", "passes", "50%", "-", "-"] in lines
    assert ["a:", "all", "pass", "50%", "-", "-"] in lines
    assert ["b:", "one", "passes", "58%", "100%", "100%"] in lines
    assert ["b:", "all", "pass", "58%", "17%", "0%"] in lines
    assert "- each column is over the tasks that have as many trials" in verdicts.render(view)


def test_the_terminal_has_no_k_where_nothing_was_tried_twice() -> None:
    """pass@1 is the pass rate, which is told already."""
    assert "of k trials" not in verdicts.render(compare_records(a_run({"a": ["+", "-"], "b": ["-", "+"]})))
    assert "of k trials" in verdicts.render(compare_records(a_run({"a": ["+", "-"], "b": ["-", "++"]})))


def test_markdown_tells_each_k_with_the_tasks_that_it_is_over() -> None:
    """`3: 100% (1 of 2 tasks)`: a task with two trials says nothing about three."""
    text = markdown.render(compare_records(a_run({"a": ["+", "-"], "b": ["+-", "+-+"]})), None)
    (row,) = [unescape(line) for line in text.splitlines() if line.startswith("| b | 5 |")]
    assert "| 1: 58%, 2: 100%, 3: 100% (1 of 2 tasks) | 1: 58%, 2: 17%, 3: 0% (1 of 2 tasks) |" in row


def test_what_is_the_same_of_all_variants_is_said_once() -> None:
    """Seven variants that differ in nothing repeat no sentence; one that differs has its own."""
    same = compare_records(a_run({name: ["++"] for name in "abcdefg"}))
    text = verdicts.render(same)
    assert text.count("2 trials each") == 1
    assert text.count("smallest difference in pass rate") == 1
    assert text.index("all 6 comparisons:") > text.index("g may be better or worse than a")
    assert "all 1 comparisons" not in verdicts.render(compare_records(a_run({"a": ["++"], "b": ["++"]})))
    mixed = verdicts.render(compare_records(a_run({"a": ["++"], "b": ["++"], "c": ["+++"]})))
    assert mixed.index("1 task, 2 trials each") < mixed.index("c may be better")
