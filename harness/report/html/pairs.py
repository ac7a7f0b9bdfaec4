"""The section of verdicts: each variant against its baseline, with drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from harness.report import phrases
from harness.report.comparison import PairView
from harness.report.formatting import LABELS, cost
from harness.report.html.charts import Scale, Tick
from harness.report.html.page_data import ArmRow, DrawnRange, PageData
from harness.stats.data import METRICS, MetricName
from harness.stats.results import Contrast, Verdict
from harness.stats.verdict import half_width


@dataclass(frozen=True)
class MetricRow:
    """One metric of a pair: both values, their difference, its interval drawn, and the verdict."""

    name: str
    baseline: str
    own: str
    difference: str
    interval: str
    reason: str | None
    verdict: Verdict
    sign: str
    elsewhere: str
    range: DrawnRange
    margin_low: float
    margin_high: float


@dataclass(frozen=True)
class MetricGroup:
    """Metrics that share a scale: points, or factors."""

    caption: str
    rows: tuple[MetricRow, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Pair:
    """A variant against its baseline. `verdict` is that on the pass rate."""

    own: ArmRow
    baseline: ArmRow
    verdict: Verdict
    sign: str
    says: str
    where: str
    sure: str
    elsewhere: str | None
    price: str
    design: str
    details: tuple[str, ...]
    glance: tuple[MetricRow, ...]
    groups: tuple[MetricGroup, ...]


_SIGNS: Mapping[Verdict, str] = {
    "improvement": "▲",
    "regression": "▼",
    "equivalent": "≈",
    "inconclusive": "?",
}


def verdict_section(data: PageData) -> tuple[Pair, ...]:
    """Each comparison's card. The rows `glance` of all of them are drawn on the same scales."""
    pairs = data.view.pairs
    scales = {
        metric: _scale([pair.contrasts[metric] for pair in pairs])
        for metric in (_AT_A_GLANCE if pairs else ())
    }
    return tuple(_pair(data, pair, scales) for pair in pairs)


_AT_A_GLANCE: tuple[MetricName, ...] = ("pass", "bill")


def _pair(data: PageData, pair: PairView, scales: Mapping[MetricName, Scale]) -> Pair:
    own, baseline = data.row(pair.arm), data.row(pair.baseline)
    contrast = pair.contrasts["pass"]
    says, where = phrases.verdict_words(contrast)
    if contrast.difference.value is None:
        says, where = "cannot be compared with", ""
    return Pair(
        own=own,
        baseline=baseline,
        verdict=contrast.verdict,
        sign=_SIGNS[contrast.verdict],
        says=says,
        where=where,
        sure=_capital(phrases.confidence(pair)),
        elsewhere=phrases.elsewhere(pair),
        price=_price(pair, own, baseline),
        design=phrases.design(data.view, pair),
        details=tuple(phrases.details(data.view, pair)),
        glance=tuple(
            _metric_row(pair.contrasts[metric], own, baseline, scale) for metric, scale in scales.items()
        ),
        groups=tuple(_group(pair, relative, own, baseline) for relative in (False, True)),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _price(pair: PairView, own: ArmRow, baseline: ArmRow) -> str:
    """The cost in words: the bill with the means that make it, and the typical trial; nothing where it is not known.

    Where some tasks are not compared, the means are of different tasks, and are left out.
    """
    bill, typical = pair.contrasts["bill"], pair.contrasts["cost"]
    if bill.difference.value is None:
        return ""
    said = f"The bill {phrases.difference(bill)}"
    if not bill.unpaired:
        means = [cost(arm.view.stats.metrics["bill"].estimate.value) for arm in (baseline, own)]
        said += f", from {means[0]} to {means[1]} a trial"
    return f"{said}; a typical trial's cost {phrases.difference(typical)}"


def _group(pair: PairView, relative: bool, own: ArmRow, baseline: ArmRow) -> MetricGroup:
    contrasts = [
        contrast for contrast in phrases.shown(pair) if METRICS[contrast.metric].relative is relative
    ]
    scale = _scale(contrasts)
    return MetricGroup(
        caption="change of the baseline" if relative else "change in points of 100",
        rows=tuple(_metric_row(contrast, own, baseline, scale) for contrast in contrasts),
        ticks=_factor_ticks(scale) if relative else scale.ticks(_point_tick),
    )


def _point_tick(value: float) -> str:
    return f"{100 * value:+.3g}" if abs(value) > 1e-9 else "0"


def _scale(contrasts: Sequence[Contrast]) -> Scale:
    """As far to both sides as the farthest end of an interval, or twice the widest margin if that is farther."""
    found = [contrast.difference for contrast in contrasts]
    ends = [abs(end) for one in found for end in (one.low, one.high, one.center) if end is not None]
    margins = [2 * half_width(METRICS[contrast.metric], contrast.margin) for contrast in contrasts]
    reach = 1.08 * max([*ends, *margins])
    return Scale(-reach, reach)


_TICK_ROOM = 0.27
_FACTORS = (1.1, 1.25, 1.5, 2, 3, 5, 10, 30, 100, 1000)


def _factor_ticks(scale: Scale) -> tuple[Tick, ...]:
    inside = [factor for factor in _FACTORS if log(factor) < 0.97 * scale.high]
    chosen = inside[-1:]
    for factor in inside[-2::-1]:
        if min(log(factor), log(chosen[-1]) - log(factor)) > _TICK_ROOM * scale.high:
            chosen.append(factor)
    values = sorted([*(1 / factor for factor in chosen), 1.0, *chosen])
    return tuple(
        Tick(scale.at(log(value)), "0" if value == 1 else f"{100 * (value - 1):+.0f}%") for value in values
    )


def _metric_row(contrast: Contrast, own: ArmRow, baseline: ArmRow, scale: Scale) -> MetricRow:
    metric, found = METRICS[contrast.metric], contrast.difference
    width = half_width(metric, contrast.margin)
    ends = [None if end is None else scale.at(end) for end in (found.low, found.high, found.center)]
    return MetricRow(
        name=LABELS[contrast.metric],
        baseline=phrases.value(baseline.view, contrast.metric),
        own=phrases.value(own.view, contrast.metric),
        difference=phrases.change(contrast.metric, found.value),
        interval=phrases.change_interval(contrast.metric, found.interval),
        reason=found.reason,
        verdict=contrast.verdict,
        sign=_SIGNS[contrast.verdict],
        elsewhere=_elsewhere(contrast),
        range=DrawnRange(*ends),
        margin_low=scale.at(-width),
        margin_high=scale.at(width),
    )


def _elsewhere(contrast: Contrast) -> str:
    """The interval on tasks like these, with its verdict where that is another, or that it stands in the drawing."""
    if contrast.question == "population":
        return "drawn: these have no answer"
    ends = phrases.change_interval(contrast.metric, contrast.population.difference.interval)
    said = phrases.verdict(contrast, "population")
    if not ends:
        return said
    return ends if said == contrast.verdict else f"{ends}: {said}"
