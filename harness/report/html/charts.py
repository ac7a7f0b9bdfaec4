"""Pure functions from values to places on a scale, in percent of its length, so that a chart can have any width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

_LOG_FROM = 20
_NOTHING = 1e-12


@dataclass(frozen=True)
class Tick:
    """A number written at a place (in percent)."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """From values to percent of the width. Values outside of it are drawn at the edge."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """The value's place, from 0 to 100."""
        low, high, here = (self._on(number) for number in (self.low, self.high, value))
        share = (here - low) / (high - low) if high > low else 0.5
        return round(100 * min(1.0, max(0.0, share)), 2)

    def _on(self, value: float) -> float:
        return math.log(max(value, self.low)) if self.log else value

    def ticks(self, label: Callable[[float], str], unit: float = 1.0) -> tuple[Tick, ...]:
        """Round numbers of units along the scale, about four."""
        rounded = _round_logs if self.log else _round_values
        values = [unit * number for number in rounded(self.low / unit, self.high / unit)]
        return tuple(Tick(self.at(value), label(value)) for value in values)


def scale_of(values: Sequence[float]) -> Scale:
    """A scale for amounts: from 0, or logarithmic where they span factors."""
    low, high = min(values), max(values)
    if low > _NOTHING and high / low >= _LOG_FROM:
        return Scale(low / 1.15, high * 1.15, log=True)
    return Scale(0.0, high * 1.05 if high > _NOTHING else 1.0)


def _round_values(low: float, high: float) -> list[float]:
    raw = (high - low) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _round_logs(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= 5:
            return inside
    whole = [value for power in powers if low <= (value := 10.0**power) <= high]
    return whole[:: math.ceil(len(whole) / 5)]


@dataclass(frozen=True)
class Spread:
    """One variant's values along a scale: the middle half, the median, and every value as a dot.

    `dots` is an SVG path in a box 1000 wide and 100 high: one element, however many values there are.
    """

    n: int
    median: float
    p90: float
    median_at: float
    low_at: float
    high_at: float
    dots: str


def spread(values: Sequence[float], scale: Scale) -> Spread:
    """The spread of one or more values."""
    quarters = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    tenths = quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
    return Spread(
        n=len(values),
        median=median(values),
        p90=tenths[-1],
        median_at=scale.at(median(values)),
        low_at=scale.at(quarters[0]),
        high_at=scale.at(quarters[2]),
        dots="".join(
            f"M{scale.at(value) * 10:.0f} {_height(place):.0f}h0"
            for place, value in enumerate(sorted(values))
        ),
    )


def _height(place: int) -> float:
    """The height of a dot. The van der Corput sequence keeps neighbours apart, and is the same at every drawing."""
    share, step = 0.0, 0.5
    number = place + 1
    while number:
        share += step * (number & 1)
        number >>= 1
        step /= 2
    return 12 + 76 * share
