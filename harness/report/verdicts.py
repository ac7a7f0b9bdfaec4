"""A comparison in the terminal: fits 80 columns, and colour only adds to what the words say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.text import Text

from harness.report import phrases
from harness.report.comparison import ComparisonView, PairView
from harness.report.formatting import UNKNOWN, percent
from harness.report.table import WIDTH, Column, as_text, wrapped
from harness.stats.results import Question, Verdict

_STYLES: Mapping[Verdict, str] = {
    "improvement": "green",
    "regression": "red",
    "equivalent": "cyan",
    "inconclusive": "yellow",
}


def render(view: ComparisonView, *, color: bool = False) -> str:
    """All sections, with an empty line between two."""
    return "\n".join(part for section in SECTIONS for part in section(view, color) if part)


def headlines(view: ComparisonView) -> str:
    """The answers alone."""
    judged = (phrases.headline(pair) for pair in view.pairs if phrases.has_verdict(view, pair))
    return _lines([*judged, *phrases.no_verdicts(view)], "")


def _compared(view: ComparisonView, color: bool) -> Iterator[str]:
    """The variants, each on a line."""
    yield _lines((f"{arm.name}: {line}" for arm in view.arms if (line := phrases.variant_line(arm))), "- ")


def _tags(view: ComparisonView, color: bool) -> Iterator[str]:
    rows = [cells for row in view.tags for cells in phrases.tag_cells(row)]
    columns = [Column(name, right=place not in (0, 2)) for place, name in enumerate(phrases.TAG_COLUMNS)]
    yield as_text(columns, rows, width=WIDTH, color=color) if rows else ""


def _pairs(view: ComparisonView, color: bool) -> Iterator[str]:
    judged = [pair for pair in view.pairs if phrases.has_verdict(view, pair)]
    heads = [_said([phrases.elsewhere(pair), phrases.design(view, pair)]) for pair in judged]
    details = [list(phrases.details(view, pair)) for pair in judged]
    shared_heads, shared_details = _shared(heads), _shared(details)
    for pair, head, said in zip(judged, heads, details, strict=True):
        tables = "".join(_metrics(view, pair, question, color) for question in phrases.QUESTIONS)
        own = [line for line in head if line not in shared_heads]
        notes = [line for line in said if line not in shared_details]
        yield _lines([phrases.headline(pair), *own], "") + tables + _lines(notes, "- ")
    if shared_heads or shared_details:
        yield _lines([f"all {len(judged)} comparisons:", *shared_heads], "") + _lines(shared_details, "- ")
    yield _lines(phrases.no_verdicts(view), "") if view.pairs else ""
    if not view.pairs:
        yield "there is only one variant: nothing to compare it with\n"


def _said(lines: Iterable[str | None]) -> list[str]:
    return [line for line in lines if line]


def _shared(said: Sequence[Sequence[str]]) -> list[str]:
    """The lines that are said of each of several pairs: once is enough."""
    return [line for line in said[0] if all(line in one for one in said)] if len(said) > 1 else []


def _metrics(view: ComparisonView, pair: PairView, question: Question, color: bool) -> str:
    """The metrics by one question; the second table says no value again."""
    own_values = question == "suite"
    numbers = ("baseline", "variant", "difference", "interval") if own_values else ("difference", "interval")
    about = phrases.tasks_of(question, None)
    columns = [Column(f"on {about}"), *(Column(name, right=True) for name in numbers), Column("verdict")]
    rows: list[list[str | Text]] = [
        [
            *(cells if own_values else [cells[0], *cells[3:]]),
            Text(phrases.verdict(contrast, question), style=_STYLES[contrast.by(question).verdict]),
        ]
        for contrast, cells in phrases.metric_rows(view, pair, question)
        if own_values or contrast.population.difference.interval
    ]
    return as_text(columns, rows, width=WIDTH, color=color) if rows else ""


def _consistency(view: ComparisonView, color: bool) -> Iterator[str]:
    """pass@k and pass^k, where tasks were tried more than once, and the flaky tasks."""
    ks = max((len(arm.stats.pass_at_k) for arm in view.arms), default=0)
    flaky = _lines((line for arm in view.arms if (line := phrases.flaky(arm))), "- ")
    if ks < 2:
        yield flaky
        return
    shown = max(view.arms, key=lambda arm: len(arm.stats.pass_at_k)).stats.pass_at_k
    columns = [Column("of k trials"), *(Column(f"k={one.k}", right=True) for one in shown)]
    rows: list[list[str]] = []
    for arm in view.arms:
        for what, found in (("one passes", arm.stats.pass_at_k), ("all pass", arm.stats.pass_hat_k)):
            cells = [percent(one.value) for one in found]
            rows.append([f"{arm.name}: {what}", *cells, *[UNKNOWN] * (ks - len(cells))])
    fewer = any(one.left_out for arm in view.arms for one in arm.stats.pass_at_k)
    note = _lines(["each column is over the tasks that have as many trials"], "- ") if fewer else ""
    yield as_text(columns, rows, width=WIDTH, color=color) + note + flaky


def _notes(view: ComparisonView, color: bool) -> Iterator[str]:
    yield _lines(view.notes, "! ")


# The sections in their order: each makes texts that end with a line.
SECTIONS: tuple[Callable[[ComparisonView, bool], Iterator[str]], ...] = (
    _compared,
    _pairs,
    _consistency,
    _tags,
    _notes,
)


def _lines(lines: Iterable[str], mark: str) -> str:
    return "".join(f"{part}\n" for line in lines for part in wrapped(line, width=WIDTH, mark=mark))
