"""The gate for CI: the verdicts that make a comparison fail, and the reasons when it does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import UsageError
from harness.report import phrases
from harness.report.comparison import ComparisonView, PairView
from harness.report.formatting import LABELS, names, percent, plural
from harness.report.table import WIDTH, wrapped
from harness.stats.data import METRIC_NAMES, MetricName
from harness.stats.results import Answer, Contrast, Question

Kind = Literal["regression", "inconclusive", "broken", "excluded"]
_VERDICT = re.compile(
    r"(?P<kind>regression|inconclusive)(?:@(?P<question>suite|population))?"
    r"(?:=(?P<metric>\w+)(?::(?P<margin>-?[0-9.]+)(?P<percent>%?))?)?"
)
_EXCLUDED = re.compile(r"excluded(?::(?P<share>-?[0-9.]+)(?P<percent>%?))?")


@dataclass(frozen=True)
class Condition:
    """A condition that fails the gate.

    `regression` and `inconclusive` are verdicts on one metric, by one question; `question` None is the one that is
    answered first. Then a regression of the pass rate is also a task established as lost. `margin` None is the
    metric's default. `broken` is such a task alone. `excluded` is a share of left-out trials above `margin`.
    """

    kind: Kind
    metric: MetricName = "pass"
    question: Question | None = None
    margin: float | None = None

    @property
    def asks_for_broken(self) -> bool:
        """True if a task established as lost fails it."""
        return self.kind == "broken" or (
            self.kind == "regression" and self.metric == "pass" and self.question != "population"
        )


def read_fail_on(text: str) -> tuple[Condition, ...]:
    """Read `--fail-on`: conditions with commas between.

    They are `regression[@suite|@population][=METRIC[:MARGIN]]`, the same of `inconclusive`, `broken`, and
    `excluded[:SHARE]`. Without a metric it is the pass rate. A margin is a share: 0.1 or 10% (of a rate, 10 points).

    Raises:
        UsageError: when the text has another form.
    """
    return tuple(_condition(part.strip()) for part in text.split(","))


def _condition(text: str) -> Condition:
    if text == "broken":
        return Condition("broken")
    if found := _EXCLUDED.fullmatch(text):
        share = found["share"]
        return Condition(
            "excluded", margin=_share(text, share, found["percent"], least=True) if share else 0.0
        )
    found = _VERDICT.fullmatch(text)
    if not found:
        raise UsageError(
            f"--fail-on {text!r} is not understood",
            remedy="write regression, regression@population, regression=METRIC, regression=METRIC:MARGIN (such as "
            "regression=bill:10%), inconclusive, broken, excluded or excluded:SHARE; several with commas",
        )
    name = found["metric"] or "pass"
    metric = next((metric for metric in METRIC_NAMES if metric == name), None)
    if metric is None:
        raise UsageError(
            f"--fail-on {text!r}: there is no metric {name!r}", remedy=f"there are: {', '.join(METRIC_NAMES)}"
        )
    kind: Kind = "regression" if found["kind"] == "regression" else "inconclusive"
    question: Question | None = {"suite": "suite", "population": "population"}.get(found["question"])  # type: ignore[assignment]
    margin = _share(text, found["margin"], found["percent"]) if found["margin"] else None
    return Condition(kind, metric, question, margin)


def _share(text: str, number: str, percent: str, *, least: bool = False) -> float:
    """A share above 0, or from 0 on."""
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not (0 < share <= 1 or (least and share == 0)):
        what = "the share must be from 0 to 1" if least else "the margin must be above 0 and at most 1"
        raise UsageError(
            f"--fail-on {text!r}: {what} (or 100%)",
            remedy="0.05 and 5% are the same: 5 points of a rate, or 5% of a cost",
        )
    return share


def margins(conditions: Sequence[Condition]) -> Mapping[MetricName, float]:
    """The margins that the verdicts are to be judged by."""
    return {one.metric: one.margin for one in conditions if one.margin is not None and one.kind != "excluded"}


def settled_words(pair: PairView, conditions: Sequence[Condition]) -> str | None:
    """The words for a pair on which all that the gate asks is answered; None while anything is open.

    Without conditions the question is the verdict on the pass rate. Only conditions on the pass rate are waited for.
    """
    asked = [one for one in conditions if one.metric == "pass" and one.kind != "excluded"] or [
        Condition("regression")
    ]
    said: list[str] = []
    for one in asked:
        contrast = pair.contrasts["pass"]
        verdict = contrast.by(one.question or contrast.question).verdict
        if one.asks_for_broken and pair.broken:
            said.append(f"{plural(len(pair.broken), 'task')} lost")
        elif verdict != "inconclusive":
            said.append(verdict)
        else:
            return None
    return ", ".join(dict.fromkeys(said))


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
    if not conditions:
        return None
    failed = [] if view.pairs else ["there is nothing to compare"]
    unsettled: list[str] = []
    for pair in view.pairs:
        for condition in conditions:
            failed += _failures(view, pair, condition)
            unsettled += _unsettled(pair, condition)
    return Gate(
        tuple(dict.fromkeys(failed)), tuple(dict.fromkeys(unsettled)) + (view.apart if view.pairs else ())
    )


def _failures(view: ComparisonView, pair: PairView, condition: Condition) -> Iterator[str]:
    """The reasons why one condition fails. A pair that cannot be compared fails too: it shows nothing."""
    if condition.kind == "excluded":
        yield from _excluded(view, pair, condition.margin or 0.0)
        return
    contrast = pair.contrasts[condition.metric]
    question = condition.question or contrast.question
    answer = contrast.by(question)
    what = f"{LABELS[condition.metric]} of {pair.arm} against {pair.baseline}"
    if answer.difference.value is None:
        yield f"{what} cannot be judged: {answer.difference.reason}"
        return
    if condition.asks_for_broken:
        yield from _broken(pair)
    if condition.kind == "broken":
        return
    where = phrases.tasks_of(question, answer.difference.tasks) + _instead(contrast, condition)
    if answer.verdict == condition.kind:
        yield f"{what}: {condition.kind}, {phrases.difference(contrast, question)} on {where}"
    elif _turned(answer, condition):
        yield f"{what}: the excluded trials could make it a regression on {where}; none is ruled out"


def _turned(answer: Answer, condition: Condition) -> bool:
    ends = answer.if_excluded if condition.kind == "regression" else None
    return ends is not None and ends.verdict_against == "regression"


def _broken(pair: PairView) -> Iterator[str]:
    if pair.broken:
        yield f"{plural(len(pair.broken), 'task')} of {pair.arm} lost against {pair.baseline}: {names(pair.broken)}"
    if more := [task for task in pair.breakable if task not in pair.broken]:
        yield (
            f"the excluded trials could make {plural(len(more), 'task')} of {pair.arm} lost against "
            f"{pair.baseline}: {names(more)}"
        )


def _instead(contrast: Contrast, condition: Condition) -> str:
    """That the population's answer stands for the suite's, which has none."""
    if condition.question or contrast.question == "suite":
        return ""
    return f", since these have no answer ({contrast.suite.difference.reason})"


def _excluded(view: ComparisonView, pair: PairView, share: float) -> Iterator[str]:
    for arm in (view.arm(pair.baseline), view.arm(pair.arm)):
        if arm.trials and arm.excluded_trials / arm.trials > share:
            part = percent(arm.excluded_trials / arm.trials)
            yield f"{arm.excluded_trials} of {arm.trials} trials of {arm.name} are excluded: {part}"


def _unsettled(pair: PairView, condition: Condition) -> Iterator[str]:
    if condition.kind != "regression":
        return
    contrast = pair.contrasts[condition.metric]
    question = condition.question or contrast.question
    answer = contrast.by(question)
    if answer.verdict == "inconclusive" and answer.difference.value is not None:
        where = phrases.tasks_of(question) + _instead(contrast, condition)
        yield f"{LABELS[condition.metric]} of {pair.arm} is inconclusive on {where}: a regression is not ruled out"
