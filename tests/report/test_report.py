"""Reports show what the records say: no guess, no rounding to a certainty, nothing cut off."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from harness.records.record import TrialRecord
from harness.records.record_parts import Phases, TokenCounts
from harness.report.arms import ArmView, count_records
from harness.report.formatting import cost, count, percent, seconds
from harness.report.notes import summary_notes
from harness.report.table import Column, as_text
from harness.report.terminal import SummaryRow, render, summary_rows
from tests.support.records import a_record

NUMBERS_OF = (cost, count, percent, seconds)
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def trial(outcome: str, variant: str = "default", index: int = 1, **fields: Any) -> TrialRecord:
    score = {"passed": 1.0, "failed": 0.0}.get(outcome)
    return a_record(variant=variant, index=index, outcome=outcome, score=score, **fields)


def one_variant(*records: TrialRecord) -> SummaryRow:
    (found,) = summary_rows(records)
    return found


def notes(*records: TrialRecord) -> list[str]:
    return list(summary_notes(records, [row.arm for row in summary_rows(records)]))


# Numbers


def test_unknown_is_a_dash() -> None:
    """Never 0, which is a number."""
    for shown in NUMBERS_OF:
        assert shown(None) == "-"
        assert shown(0) not in ("-", "")


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0.0 s"),
        (840, "0.8 s"),
        (9_949, "9.9 s"),
        (9_950, "10 s"),
        (42_400, "42 s"),
        (119_499, "119 s"),
        (119_500, "2:00 min"),
        (187_000, "3:07 min"),
        (3_600_000, "60:00 min"),
    ],
)
def test_times_are_seconds_or_minutes(ms: float, shown: str) -> None:
    """With a digit where it matters; a minute has no more than 59 seconds."""
    assert seconds(ms) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (12.4, "12"),
        (999.4, "999"),
        (999.5, "1.0k"),
        (12_345, "12.3k"),
        (999_949, "999.9k"),
        (999_950, "1.00M"),
        (4_560_000, "4.56M"),
    ],
)
def test_counts_are_short(number: float, shown: str) -> None:
    """Three digits or four, and no four before the point."""
    assert count(number) == shown


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (0, "$0.00"),
        (0.00001, "<$0.0001"),
        (0.0042, "$0.0042"),
        (0.5, "$0.5000"),
        (0.99994, "$1.00"),
        (1.2, "$1.20"),
        (1234.5, "$1234.50"),
    ],
)
def test_costs_have_the_digits_that_matter(usd: float, shown: str) -> None:
    """What is not free does not look free."""
    assert cost(usd) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0%"),
        (0.001, "<1%"),
        (0.005, "<1%"),
        (0.0051, "1%"),
        (0.995, ">99%"),
        (0.5, "50%"),
        (2 / 3, "67%"),
        (0.994, "99%"),
        (0.999, ">99%"),
        (1, "100%"),
    ],
)
def test_only_all_is_all(share: float, shown: str) -> None:
    """One failure in three hundred is no 100 %."""
    assert percent(share) == shown


# The view


def test_a_fault_counts_for_nobody() -> None:
    """`[passed, passed, error]` is 100 % of two, with one excluded; so it is for an invalid one."""
    found = one_variant(
        trial("passed"), trial("passed", index=2), trial("error", index=3), trial("invalid", index=4)
    ).arm
    assert (found.trials, found.passed, found.failed, found.errors, found.invalid) == (4, 2, 0, 1, 1)
    assert found.pass_share == 1.0


def test_without_a_trial_that_counts_there_is_no_rate() -> None:
    """Not 0 %."""
    found = one_variant(trial("error"))
    assert found.arm.pass_share is None
    assert (found.cost_usd, found.tokens, found.total_ms) == (None, None, None)


def test_means_are_over_what_counts_and_is_known() -> None:
    """A fault's tokens are in no mean, an unknown cost is no 0; but all that was spent is in the sum."""

    def used(output: int) -> TokenCounts:
        return TokenCounts(input=10, output=output, cache_read=0, cache_creation=0)

    found = one_variant(
        trial("passed", tokens=used(10), cost_usd=1.0, duration_ms=100, phases_ms=Phases(total=200)),
        trial(
            "failed", index=2, tokens=used(30), cost_usd=None, duration_ms=None, phases_ms=Phases(total=400)
        ),
        trial("error", index=3, tokens=used(1000), cost_usd=5.0, duration_ms=9, phases_ms=Phases(total=9)),
    )
    assert found.arm.pass_share == 0.5
    assert found.output_tokens == 20
    assert found.tokens == 30
    assert found.cost_usd == 1.0
    assert found.arm.spent_usd == 6.0
    assert found.total_ms == 300


def test_variants_stand_apart_in_the_order_of_their_coming() -> None:
    """Each with its own trials."""
    found = summary_rows([trial("passed", "b"), trial("failed", "a"), trial("failed", "b", 2)])
    assert [(row.arm.name, row.arm.passed, row.arm.failed) for row in found] == [("b", 1, 1), ("a", 0, 1)]


def test_what_was_spent_is_summed_as_far_as_it_is_known() -> None:
    """Over variants too; nothing known is not nothing spent."""
    known, unknown = trial("passed", "a", cost_usd=1.0), trial("failed", "b")
    assert count_records("run", [known, trial("failed", "b", cost_usd=0.5)]).spent_usd == 1.5
    assert count_records("run", [known, unknown]).spent_usd == 1.0
    assert count_records("run", [unknown]).spent_usd is None
    assert summary_rows([]) == ()


# The table


SMALL: dict[str, Any] = {"passed": 2, "failed": 1, "errors": 0, "invalid": 0, "total_ms": 840}
LARGE: dict[str, Any] = {
    "passed": 987_654,
    "failed": 1234,
    "errors": 99,
    "invalid": 24,
    "spent_usd": 12345.678,
    "cost_usd": 12.3456,
    "tokens": 1_234_567.0,
    "output_tokens": 123_456.0,
    "total_ms": 7_387_000.0,
}


def row(name: str = "default", **fields: Any) -> SummaryRow:
    given = {"spent_usd": None, "cost_usd": None, "tokens": None, "output_tokens": None, **SMALL, **fields}
    counts = {key: given.pop(key) for key in ("passed", "failed", "errors", "invalid")}
    arm = ArmView(name, trials=sum(counts.values()), **counts, spent_usd=given.pop("spent_usd"))
    return SummaryRow(arm, **given)


def table(*rows: SummaryRow, width: int = 80, color: bool = False) -> str:
    return render(rows, width=width, color=color)


def test_a_row_says_it_all() -> None:
    """In the order of its head."""
    head, line = table(row(errors=1, invalid=2)).splitlines()
    assert " ".join(head.split()) == "variant passed failed excluded pass cost each tokens output time"
    assert line.split() == ["default", "2", "1", "3", "67%", "-", "-", "-", "-", "0.8", "s"]


@pytest.mark.parametrize("fields", [{}, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "name", ["a", "a long name of a variant", "x" * 200, "名前" * 20, "[red]no markup[/red]"]
)
def test_it_fits_eighty_columns(name: str, fields: dict[str, Any]) -> None:
    """However long a name is: it is folded, and no number is cut."""
    text = table(row(name, **fields), row("other", **fields))
    assert max(Text(line).cell_len for line in text.splitlines()) <= 80
    for shown in ("123:07 min", "$12345.68", "123.5k", ">99%") if fields else ("0.8 s", "67%"):
        assert text.count(shown) == 2
    assert Counter(name.replace(" ", "")) <= Counter(text)


def test_a_wide_terminal_folds_nothing() -> None:
    """Where there is room, a line is a variant."""
    assert len(table(row("a-rather-long-name-of-a-variant", **LARGE), width=140).splitlines()) == 2


@pytest.mark.parametrize("fields", [{}, LARGE, {"failed": 0, "passed": 3}])
def test_colour_adds_nothing_to_the_words(fields: dict[str, Any]) -> None:
    """Without it the same is said; with it something is to be seen."""
    coloured, plain = table(row(**fields), color=True), table(row(**fields))
    assert STYLE.sub("", coloured) == plain
    assert "\x1b" in coloured
    assert "\x1b" not in plain


@given(
    st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["1", "$1.00", "123:07 min"])), max_size=5),
    st.booleans(),
)
def test_values_are_taken_literally(cells: list[tuple[str, str]], color: bool) -> None:
    """They may come from an agent, and mean something to a terminal's library."""
    columns = [Column("name"), Column("number", right=True)]
    text = STYLE.sub("", as_text(columns, cells, width=80, color=color))
    assert text.startswith("name")
    for _, number in cells:
        assert number in text


# The notes


def test_notes_say_how_to_read_the_table() -> None:
    """What was excluded, what is only a bound, and that a replay measures no model."""
    plain = trial("passed")
    assert len(notes(plain)) == 2
    assert all(len(line) <= 80 for line in notes(plain))
    told = "\n".join(notes(plain, trial("error", index=2), trial("invalid", index=3)))
    assert "1 of 3 trials broke on infrastructure (error): they count for nobody" in told
    assert "1 of 3 trials are invalid" in told
    told = "\n".join(notes(plain, trial("failed", index=2, tokens_partial=True)))
    assert "1 of those were cut off: their tokens are lower bounds, their cost is unknown" in told
    told = "\n".join(notes(trial("passed", model_source="replay", replay_by_hand=False)))
    assert "replayed sessions: this measures the plumbing, not a model" in told
    told = "\n".join(notes(trial("passed", model_source="replay", replay_by_hand=True)))
    assert "1 of them written by hand" in told


def test_an_excluded_trials_cut_is_not_told_twice() -> None:
    """It counts for nobody already."""
    assert not any("cut off" in line for line in notes(trial("error", tokens_partial=True)))


# The arithmetic


def test_only_a_comparison_loads_the_arithmetic() -> None:
    """NumPy and SciPy take half a second: the summary of a run with one variant does not wait for them."""
    program = (
        "import importlib, pkgutil, sys, harness.report as report\n"
        "for module in pkgutil.walk_packages(report.__path__, 'harness.report.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(sorted({'numpy', 'scipy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
