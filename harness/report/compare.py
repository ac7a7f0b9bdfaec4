"""`harness compare`: sources -> view -> gate -> text."""

from __future__ import annotations

from pathlib import Path

from harness.report import markdown as as_markdown
from harness.report import verdicts
from harness.report.comparison import compare_arms
from harness.report.gate import margins, read_fail_on, reasons
from harness.report.sources import match, read_source
from harness.report.table import wrapped


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
    view = compare_arms(found.arms, found.pairs, margins=margins(conditions), notes=found.notes)
    failed = reasons(view, conditions) if conditions else ()
    judged = failed if conditions else None
    if markdown:
        return as_markdown.render(view, gate=judged), bool(failed)
    return verdicts.render(view, color=color) + gate_lines(judged), bool(failed)


def gate_lines(failed: tuple[str, ...] | None) -> str:
    """What the gate says; nothing where there is none."""
    if failed is None:
        return ""
    if not failed:
        return "\ngate: holds\n"
    lines = [line for reason in failed for line in wrapped(reason, width=verdicts.WIDTH, mark="- ")]
    return "\ngate: FAILED\n" + "".join(f"{line}\n" for line in lines)
