"""The section of amounts: cost against pass rate, and the spread of tokens, times and cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.records.record import TrialRecord
from harness.report.formatting import cost, count, percent, seconds
from harness.report.html.charts import Scale, Spread, Tick, scale_of, spread
from harness.report.html.page_data import ArmRow, DrawnRange, NumberedRecord, PageData, range_of
from harness.report.html.places import HEIGHT, NARROW, lane_offsets, letter_offsets


@dataclass(frozen=True)
class Point:
    """A variant in the chart of cost against pass rate.

    `dx` and `dy` lead from the point to its letter, `lane_x` and `lane_y` shift its whiskers, all in pixels.
    """

    arm: ArmRow
    x: DrawnRange
    y: DrawnRange
    label: str
    dx: float
    dy: float
    lane_x: float
    lane_y: float


@dataclass(frozen=True)
class Scatter:
    """Cost against pass rate, places in percent from the left and from the top."""

    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class SpreadRow:
    """One variant in a distribution; None when none of its values is known."""

    arm: ArmRow
    spread: Spread | None
    median: str
    p90: str


@dataclass(frozen=True)
class Distribution:
    """One amount by variant."""

    name: str
    log: bool
    rows: tuple[SpreadRow, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class AmountsSection:
    """Both kinds of charts. `scatter` is None when no variant has a known cost."""

    scatter: Scatter | None
    distributions: tuple[Distribution, ...]


def amounts_section(data: PageData) -> AmountsSection:
    """The section, with a distribution for each amount of which anything is known."""
    return AmountsSection(_scatter(data.arms), tuple(_distributions(data)))


def _scatter(arms: Sequence[ArmRow]) -> Scatter | None:
    seen = [
        (arm, arm.view.stats.metrics["bill"].estimate, arm.view.stats.metrics["pass"].estimate)
        for arm in arms
        if arm.view.stats.metrics["bill"].estimate.value is not None
        and arm.view.stats.metrics["pass"].estimate.value is not None
    ]
    if not seen:
        return None
    farthest = max(
        min(spent.interval.high, 3 * spent.value) if spent.interval else spent.value
        for _, spent, _ in seen
        if spent.value is not None
    )
    x, y = Scale(0.0, 1.08 * farthest or 1.0), Scale(0.0, 1.0)
    return Scatter(
        points=_points(
            [
                (
                    arm,
                    range_of(x, spent),
                    _upside_down(range_of(y, rate)),
                    f"{arm.view.name}: {cost(spent.value)} a trial, {percent(rate.value)} passed",
                )
                for arm, spent, rate in seen
            ]
        ),
        x_ticks=x.ticks(cost),
        y_ticks=tuple(Tick(100 - tick.at, tick.label) for tick in y.ticks(percent)),
    )


def _points(found: Sequence[tuple[ArmRow, DrawnRange, DrawnRange, str]]) -> tuple[Point, ...]:
    """Points whose letters and whiskers do not hide each other."""
    offsets = letter_offsets([(x.value or 0.0, y.value or 0.0) for _, x, y, _ in found])
    across = lane_offsets([_whisker(x, y) for _, x, y, _ in found], HEIGHT)
    down = lane_offsets([_whisker(y, x) for _, x, y, _ in found], NARROW)
    return tuple(
        Point(*one, *offset, *shifts)
        for one, offset, shifts in zip(found, offsets, zip(across, down, strict=True), strict=True)
    )


def _whisker(along: DrawnRange, across: DrawnRange) -> tuple[float, float, float] | None:
    if along.low is None or along.high is None or across.value is None:
        return None
    return along.low, along.high, across.value


def _upside_down(found: DrawnRange) -> DrawnRange:
    """Places from the top, for places from the bottom."""
    low, high, value = (None if at is None else 100 - at for at in (found.low, found.high, found.value))
    return DrawnRange(high, low, value)


@dataclass(frozen=True)
class _Amount:
    name: str
    of: Callable[[TrialRecord], float | None]
    show: Callable[[float | None], str]
    is_time: bool = False

    def unit(self, most: float) -> float:
        """The unit of the round numbers on the scale: minutes for long times."""
        if not self.is_time:
            return 1.0
        return 60_000.0 if most > 240_000 else 1_000.0


_AMOUNTS = (
    _Amount("Tokens", lambda record: None if record.tokens_partial else record.tokens.total, count),
    _Amount("Output tokens", lambda record: None if record.tokens_partial else record.tokens.output, count),
    _Amount("Agent's time", lambda record: record.duration_ms, seconds, is_time=True),
    _Amount("Whole time", lambda record: record.phases_ms.own, seconds, is_time=True),
    _Amount("Cost", lambda record: record.cost_usd, cost),
)


def _distributions(data: PageData) -> Iterator[Distribution]:
    for amount in _AMOUNTS:
        values = {arm.key: _known(amount, data.trials[arm.view.name]) for arm in data.arms}
        known = [value for found in values.values() for value in found]
        if not known:
            continue
        scale = scale_of(known)
        rows = tuple(_spread_row(arm, values[arm.key], scale, amount.show) for arm in data.arms)
        yield Distribution(amount.name, scale.log, rows, scale.ticks(amount.show, amount.unit(max(known))))


def _known(amount: _Amount, trials: Sequence[NumberedRecord]) -> list[float]:
    return [value for trial in trials if trial.counts and (value := amount.of(trial.record)) is not None]


def _spread_row(
    arm: ArmRow, values: Sequence[float], scale: Scale, show: Callable[[float | None], str]
) -> SpreadRow:
    found = spread(values, scale) if values else None
    return SpreadRow(arm, found, show(found.median if found else None), show(found.p90 if found else None))
