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
from harness.report.notes import uncounted
from harness.report.table import plain
from harness.stats.results import Contrast, Question, Verdict

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


def render(view: ComparisonView, gate: Gate | None = None) -> str:
    """All sections, with an empty line between two. `gate` is there where a run has one."""
    parts = (part for section in SECTIONS for part in section(view, gate))
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no HTML, no mention, reference or link."""
    line = plain(" ".join(text.split()))
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
    for pair in view.pairs:
        yield _pair(view, pair)
    if not view.pairs:
        yield "There is only one variant: nothing to compare it with."


def _pair(view: ComparisonView, pair: PairView) -> str:
    reasons = [line for name in (pair.arm, pair.baseline) if (line := uncounted(view.arm(name)))]
    if reasons:
        return _bullets(reasons)
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


_ARM_COLUMNS = [
    "variant",
    "trials",
    "passed",
    "failed",
    "errors",
    "invalid",
    "pass rate (tasks like these)",
    "pass@k",
    "pass^k",
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
            escape(cost(arm.spent_usd)),
        ]
        for arm in view.arms
    ]
    table = _table(_ARM_COLUMNS, rows, right=(1, 2, 3, 4, 5, 9))
    flaky = _bullets(line for arm in view.arms if (line := phrases.flaky(arm)))
    yield _details("Variants", "\n\n".join(part for part in (table, flaky) if part))


def _notes(view: ComparisonView, gate: Gate | None) -> Iterator[str]:
    yield _bullets(view.notes)


# The sections in their order: each makes blocks of Markdown.
SECTIONS: tuple[Callable[[ComparisonView, Gate | None], Iterator[str]], ...] = (_head, _pairs, _arms, _notes)


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
