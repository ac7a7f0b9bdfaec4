"""The gate for CI: the verdicts that make a comparison fail, and the reasons when it does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.report import phrases
from harness.report.comparison import ComparisonView
from harness.report.formatting import LABELS
from harness.report.table import WIDTH, wrapped
from harness.stats.data import METRIC_NAMES, MetricName

_FORM = re.compile(r"regression(?:=(?P<metric>\w+)(?::(?P<margin>-?[0-9.]+)(?P<percent>%?))?)?")


@dataclass(frozen=True)
class Condition:
    """A regression in this metric fails the gate. `margin` None is the metric's default."""

    metric: MetricName
    margin: float | None = None


def read_fail_on(text: str) -> tuple[Condition, ...]:
    """Read `--fail-on`: `regression[=METRIC[:MARGIN]]`, several of them with commas between.

    Without a metric it is the pass rate. A margin is a share: 0.1 or 10% (of a rate, 10 points).

    Raises:
        UsageError: when the text has another form.
    """
    return tuple(_condition(part.strip()) for part in text.split(","))


def _condition(text: str) -> Condition:
    found = _FORM.fullmatch(text)
    if not found:
        raise UsageError(
            f"--fail-on {text!r} is not understood",
            remedy="write regression, regression=METRIC or regression=METRIC:MARGIN, such as regression=cost:10%",
        )
    name = found["metric"] or "pass"
    metric = next((metric for metric in METRIC_NAMES if metric == name), None)
    if metric is None:
        raise UsageError(
            f"--fail-on {text!r}: there is no metric {name!r}", remedy=f"there are: {', '.join(METRIC_NAMES)}"
        )
    return Condition(metric, _margin(text, found["margin"], found["percent"]) if found["margin"] else None)


def _margin(text: str, number: str, percent: str) -> float:
    try:
        margin = float(number) / (100 if percent else 1)
    except ValueError:
        margin = 0.0
    if not 0 < margin <= 1:
        raise UsageError(
            f"--fail-on {text!r}: the margin must be above 0 and at most 1 (or 100%)",
            remedy="0.05 and 5% are the same: 5 points of a rate, or 5% of a cost",
        )
    return margin


def margins(conditions: Sequence[Condition]) -> Mapping[MetricName, float]:
    """The margins that the verdicts are to be judged by."""
    return {one.metric: one.margin for one in conditions if one.margin is not None}


@dataclass(frozen=True)
class Gate:
    """The gate's answer. `failed` has the reasons why it fails, `unsettled` what passes without being sure."""

    failed: tuple[str, ...]
    unsettled: tuple[str, ...]

    @property
    def words(self) -> str:
        """The answer in a few words."""
        if self.failed:
            return "FAILED"
        return "holds, but is not sure" if self.unsettled else "holds"

    def lines(self) -> str:
        """For the terminal."""
        said = [
            line
            for reason in self.failed + self.unsettled
            for line in wrapped(reason, width=WIDTH, mark="- ")
        ]
        return f"\ngate: {self.words}\n" + "".join(f"{line}\n" for line in said)


def judge_gate(view: ComparisonView, conditions: Sequence[Condition]) -> Gate | None:
    """Judge a comparison; None without conditions."""
    return (
        Gate(tuple(_reasons(view, conditions)), tuple(_unsettled(view, conditions))) if conditions else None
    )


def _reasons(view: ComparisonView, conditions: Sequence[Condition]) -> Iterator[str]:
    """The reasons why the gate fails. A pair that cannot be compared fails too: it shows nothing."""
    if not view.pairs:
        yield "there is nothing to compare"
    for pair in view.pairs:
        for condition in conditions:
            contrast = pair.contrasts[condition.metric]
            what = f"{LABELS[condition.metric]} of {pair.arm} against {pair.baseline}"
            if contrast.difference.value is None:
                yield f"{what} cannot be judged: {contrast.difference.reason}"
            elif contrast.verdict == "regression":
                yield f"{what}: regression, {phrases.difference(contrast)}"


def _unsettled(view: ComparisonView, conditions: Sequence[Condition]) -> Iterator[str]:
    for pair in view.pairs:
        for condition in conditions:
            if pair.verdict(condition.metric) == "inconclusive":
                yield f"{LABELS[condition.metric]} of {pair.arm} is inconclusive: a regression is not ruled out"
