"""`harness compare`: sources -> view -> gate -> text."""

from __future__ import annotations

from pathlib import Path

from harness.report import markdown as as_markdown
from harness.report import verdicts
from harness.report.comparison import compare_arms
from harness.report.gate import judge_gate, margins, read_fail_on
from harness.report.sources import match, read_source


def compare_command(
    results: Path,
    base: str,
    new: str | None,
    *,
    baseline: str | None,
    fail_on: str,
    markdown: bool,
    color: bool,
) -> tuple[str, bool]:
    """The comparison as text, and whether the gate failed.

    Raises:
        UsageError: when a source, a variant or a condition cannot be used.
    """
    conditions = read_fail_on(fail_on) if fail_on else ()
    found = match(read_source(base, results), read_source(new, results) if new else None, baseline)
    view = compare_arms(
        found.arms, found.pairs, margins=margins(conditions), plan=found.plan, notes=found.notes
    )
    gate = judge_gate(view, conditions)
    text = as_markdown.render(view, gate) if markdown else verdicts.render(view, color=color)
    if gate and not markdown:
        text += gate.lines()
    return text, bool(gate and gate.failed)
