"""A run's own verdicts at its end: its variants against each other, or against a comparison target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError
from harness.records.store import RunFolder
from harness.report import markdown, verdicts
from harness.report.comparison import ComparisonView, compare_arms
from harness.report.gate import Condition, Gate, judge_gate, margins, read_fail_on
from harness.report.sources import Match, RecordSource, match, read_source


@dataclass(frozen=True)
class ComparisonTarget:
    """The target that a run is to be compared with, and the gate's conditions. It is read before the run starts.

    `variant` names the baseline among the run's own variants (None: the first), `source` has records from elsewhere.
    """

    variant: str | None = None
    source: RecordSource | None = None
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class RunVerdict:
    """The verdicts, and the gate where there is one."""

    view: ComparisonView
    gate: Gate | None

    def text(self, *, color: bool) -> str:
        """For the terminal."""
        return verdicts.render(self.view, color=color) + (self.gate.lines() if self.gate else "")

    def headlines(self) -> str:
        """The answers alone."""
        return verdicts.headlines(self.view)

    def markdown(self) -> str:
        """For a pull request."""
        return markdown.render(self.view, self.gate)


def load_comparison_target(results: Path, baseline: str | None, fail_on: str | None) -> ComparisonTarget:
    """Read `--baseline` and `--fail-on`. A baseline that is no source must be one of the run's variants.

    Raises:
        UsageError: when a condition or a source cannot be used.
    """
    conditions = read_fail_on(fail_on) if fail_on else ()
    if baseline is None:
        return ComparisonTarget(None, None, conditions)
    try:
        return ComparisonTarget(None, read_source(baseline, results), conditions)
    except UsageError:
        if baseline.startswith("git:") or os.sep in baseline or Path(baseline).exists():
            raise
        return ComparisonTarget(baseline, None, conditions)


def refuse_nothing_to_compare(target: ComparisonTarget, variants: tuple[str, ...]) -> None:
    """Refuse a run that could not be judged at its end.

    Raises:
        UsageError: when the baseline is neither a source nor a variant, or there is nothing to compare.
    """
    if target.variant is not None and target.variant not in variants:
        raise UsageError(
            f"--baseline {target.variant!r} is neither one of the variants nor a run or records file",
            remedy=f"the variants are: {', '.join(variants)}; `harness ls` lists the runs",
        )
    if target.conditions and not target.source and len(variants) < 2:
        raise UsageError(
            "--fail-on needs something to compare", remedy="run two variants, or name a run with --baseline"
        )


def judge_run(run: RunFolder, target: ComparisonTarget) -> RunVerdict | None:
    """Judge a run by its records; None when there is only one variant and nothing to compare it with.

    Raises:
        UsageError: when the run has no records, or none of the baseline.
    """
    own = read_source(str(run.path), run.path.parent)
    own = replace(own, name=run.id)
    found = match(target.source, own) if target.source else match(own, None, target.variant)
    if not found.pairs and not target.conditions:
        return None
    return judge_match(found, target.conditions)


def judge_match(found: Match, conditions: Sequence[Condition]) -> RunVerdict:
    """Compare matched arms, and judge the gate by its conditions."""
    view = compare_arms(
        found.arms, found.pairs, margins=margins(conditions), plan=found.plan, notes=found.notes
    )
    return RunVerdict(view, judge_gate(view, conditions))
