"""The values that several sections of the page are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from harness.records.record import TrialRecord
from harness.report import phrases
from harness.report.arms import ComparedArm
from harness.report.comparison import ComparisonView
from harness.report.formatting import percent
from harness.report.html.charts import Scale
from harness.stats.data import MetricName
from harness.stats.results import Estimate

COLOURS = 8


@dataclass(frozen=True)
class NumberedRecord:
    """A record with its place among the page's packed trials."""

    number: int
    record: TrialRecord

    @property
    def counts(self) -> bool:
        """True if it passed or failed."""
        return self.record.outcome in ("passed", "failed")


@dataclass(frozen=True)
class DrawnRange:
    """An interval drawn on a scale: its ends and its middle, in percent; None where there is none."""

    low: float | None
    high: float | None
    value: float | None


@dataclass(frozen=True)
class ArmRow:
    """A variant's row. `key` is its letter on the page: A is the first baseline."""

    key: str
    colour: int
    view: ComparedArm
    rate: str
    rate_interval: str
    rate_range: DrawnRange
    numbers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PageData:
    """The material that all sections of the page are made from. `trials` has each arm's trials by the arm's name."""

    view: ComparisonView
    arms: tuple[ArmRow, ...]
    trials: Mapping[str, Sequence[NumberedRecord]]

    def row(self, name: str) -> ArmRow:
        """The row of the arm of that name."""
        return next(arm for arm in self.arms if arm.view.name == name)


_OWN_NUMBERS: tuple[MetricName, ...] = ("score", "bill", "pass_cost", "all_tokens", "all_duration", "turns")


def arm_row(place: int, arm: ComparedArm) -> ArmRow:
    """The row of the variant at a place, from 0."""
    mean = arm.stats.metrics["pass"].estimate
    share = Scale(0.0, 1.0)
    return ArmRow(
        key=_key(place),
        colour=place % COLOURS,
        view=arm,
        rate=percent(mean.value),
        rate_interval=phrases.interval("pass", mean),
        rate_range=range_of(share, mean),
        numbers=tuple(
            (phrases.SHOW[name](summary.estimate.value), phrases.interval(name, summary.estimate))
            for name in _OWN_NUMBERS
            for summary in (arm.stats.metrics[name],)
        ),
    )


def _key(place: int) -> str:
    around, letter = divmod(place, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(around + 1) if around else "")


def range_of(scale: Scale, estimate: Estimate) -> DrawnRange:
    """An estimate drawn on a scale."""
    interval = estimate.interval
    ends = (interval.low, interval.high) if interval else (None, None)
    return DrawnRange(*(None if value is None else scale.at(value) for value in (*ends, estimate.value)))
