"""A comparison as Markdown, for a pull request's comment and for GitHub's job summary.

Names and reasons come from records, and records from agents: nothing of them may become markup, a mention or a link.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.report import phrases
from harness.report.arms import ComparedArm
from harness.report.comparison import ComparisonView, PairView
from harness.report.formatting import UNKNOWN, cost, percent
from harness.report.gate import Gate
from harness.report.sanitize import sanitize
from harness.report.setup import difference
from harness.report.table import printable
from harness.stats.results import Contrast, Question, Verdict
from harness.text import keep_start

_MARKS: dict[Verdict, str] = {
    "improvement": "✅",
    "regression": "❌",
    "equivalent": "🟰",
    "inconclusive": "❔",
}
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>!|~&$^]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_BLOCK = re.compile(r"^(?:[-+=]|\d+(?=[.)]))")
_REFERENCE = re.compile(r"[@#]|\bGH-", re.IGNORECASE)
_NOTHING = "\N{ZERO WIDTH SPACE}"
_MOST_OF_A_TEXT = 4_000
"""A comment on GitHub has room for 65,536 characters in all."""


def render(view: ComparisonView, gate: Gate | None = None) -> str:
    """All sections, with an empty line between two. `gate` is there where a run has one."""
    parts = (part for section in SECTIONS for part in section(view, gate))
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no HTML, no mention, reference or link."""
    line = printable(" ".join(text.split()))
    # GitHub looks for mentions and issues after Markdown is done, when entities are characters again.
    line = _REFERENCE.sub(lambda found: f"{found[0]}{_NOTHING}", line)
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", line)


def _sentence(text: str) -> str:
    """The same where a block may begin: no list, heading or line of its own."""
    return _BLOCK.sub(lambda found: f"{_NOTHING}{found[0]}", escape(text))


def _head(view: ComparisonView, gate: Gate | None) -> Iterator[str]:
    yield "## harness: comparison"
    if gate:
        yield f"**Gate: {gate.words}**"
        yield _bullets(gate.failed + gate.unsettled)
    if view.replayed:
        yield f"> [!WARNING]\n> {_sentence(view.notes[0])}"


def _pairs(view: ComparisonView, gate: Gate | None) -> Iterator[str]:
    yield from (_pair(view, pair) for pair in view.pairs if phrases.has_verdict(view, pair))
    reasons = phrases.no_verdicts(view)
    if view.pairs and reasons:
        yield _bullets(reasons)
    if not view.pairs:
        yield "There is only one variant: nothing to compare it with."


def _pair(view: ComparisonView, pair: PairView) -> str:
    verdict = pair.verdict("pass")
    by_question = [list(phrases.metric_rows(view, pair, question)) for question in phrases.QUESTIONS]
    rows = [
        [
            *map(escape, cells),
            _verdict(contrast, "suite"),
            escape(others[-1]),
            _verdict(contrast, "population"),
        ]
        for (contrast, cells), (_, others) in zip(*by_question, strict=True)
    ]
    head = ["metric", escape(pair.baseline), escape(pair.arm), "difference", "on these tasks", "verdict"]
    parts = [
        f"### {_MARKS[verdict]} {escape(phrases.headline(pair))}",
        escape(phrases.elsewhere(pair) or ""),
        escape(phrases.design(view, pair)),
        _table([*head, "on tasks like these", "verdict"], rows, right=(1, 2, 3, 4, 6)),
        _details("What this stands on", _bullets(phrases.details(view, pair))),
    ]
    return "\n\n".join(part for part in parts if part)


def _verdict(contrast: Contrast, question: Question) -> str:
    said = phrases.verdict(contrast, question)
    verdict = contrast.by(question).verdict
    return f"{_MARKS[verdict]} {said}" if said == verdict else said


def _compared(view: ComparisonView, gate: Gate | None) -> Iterator[str]:
    """The variants with their texts, and how the runs were made."""
    parts = [_bullets(f"{arm.name}: {line}" for arm in view.arms if (line := phrases.variant_line(arm)))]
    bases = {pair.arm: view.arm(pair.baseline) for pair in view.pairs}
    for arm in view.arms:
        for title, text in sorted(arm.texts.items()):
            base = bases[arm.name].texts.get(title) if arm.name in bases else None
            parts.append(_text(arm.name, title, text, base))
    for setup in view.setups:
        parts.append(_bullets(f"{name}: {value}" for name, value in (("run", setup.source), *setup.facts)))
    yield _details("What was compared", "\n\n".join(part for part in parts if part))


def _text(arm: str, title: str, text: str, base: str | None) -> str:
    """A variant's text, or what is other in it than in the baseline's."""
    if base == text:
        return _sentence(f"{arm}, {title}: as the baseline's")
    changed = difference(text, base) if base is not None else None
    what = f"{arm}, {title}" + (", against the baseline's" if changed is not None else "")
    return f"{_sentence(what)}:\n\n{_block(text if changed is None else changed)}"


def _block(text: str) -> str:
    """Text as it is, line by line, in a fence that nothing of it can close."""
    shown = keep_start(sanitize(text).rstrip("\n"), _MOST_OF_A_TEXT)
    longest = max((len(found) for found in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _tags(view: ComparisonView, gate: Gate | None) -> Iterator[str]:
    rows = [list(map(escape, cells)) for row in view.tags for cells in phrases.tag_cells(row)]
    if rows:
        yield _details("By tag", _table(phrases.TAG_COLUMNS, rows, right=(1, 3, 4, 5, 6)))


_ARM_COLUMNS = [
    "variant",
    "trials",
    "passed",
    "failed",
    "error",
    "invalid",
    "pass rate (tasks like these)",
    "pass@k",
    "pass^k",
    "cost, each pass",
    "spent",
]


def _arms(view: ComparisonView, gate: Gate | None) -> Iterator[str]:
    rows = [
        [
            escape(arm.name),
            str(arm.trials),
            str(arm.passed),
            str(arm.failed),
            str(arm.errors),
            str(arm.invalid),
            _with_interval(arm),
            escape(phrases.at_k(arm.stats.pass_at_k) or UNKNOWN),
            escape(phrases.at_k(arm.stats.pass_hat_k) or UNKNOWN),
            escape(phrases.value(arm, "pass_cost")),
            escape(cost(arm.spent_usd)),
        ]
        for arm in view.arms
    ]
    table = _table(_ARM_COLUMNS, rows, right=(1, 2, 3, 4, 5, 9, 10))
    flaky = _bullets(line for arm in view.arms if (line := phrases.flaky(arm)))
    yield _details("Variants", "\n\n".join(part for part in (table, flaky) if part))


def _notes(view: ComparisonView, gate: Gate | None) -> Iterator[str]:
    yield _bullets(view.notes)


# The sections in their order: each makes blocks of Markdown.
SECTIONS: tuple[Callable[[ComparisonView, Gate | None], Iterator[str]], ...] = (
    _head,
    _pairs,
    _compared,
    _arms,
    _tags,
    _notes,
)


def _with_interval(arm: ComparedArm) -> str:
    found = phrases.estimate(arm, "pass")
    interval = phrases.interval("pass", found)
    return escape(percent(found.value) + (f" ({interval})" if interval else ""))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int]) -> str:
    sides = ["--:" if place in right else "---" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, sides, *rows))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_sentence(line)}" for line in lines)


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>" if content else ""
