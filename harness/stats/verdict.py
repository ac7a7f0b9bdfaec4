"""Four verdicts on a difference, and the levels that keep several comparisons at once honest.

With the interval turned so that up is better, and a margin for the smallest change worth speaking of:
- `equivalent`: two one-sided tests, at the interval's error each, show it within the margin on either side of no change
  (Schuirmann 1987, "A comparison of the two one-sided tests procedure", J. Pharmacokinetics Biopharm. 15);
- `improvement`: all of it is above no change;
- `regression`: all of it is below no change;
- `inconclusive`: anything else, or no interval.

Equivalence goes first: a difference that is certain, and certainly too small to matter, is no improvement. It never
stands beside a task that is established as lost: an average within the margin would hide it.

Several comparisons at once: simultaneous intervals at Sidak's level (Sidak 1967, "Rectangular confidence regions for
the means of multivariate normal distributions", JASA 62), valid however the comparisons depend on each other, and
the verdicts are read from these very intervals. Step-down procedures (Holm) decide a little more, but their
intervals say nothing about the size of what they found.
"""

from __future__ import annotations

from math import log1p

from harness.stats.data import Metric
from harness.stats.results import Difference, Verdict


def family_level(level: float, comparisons: int) -> float:
    """The level of each of several intervals that all hold together with confidence `level`."""
    return float(level ** (1 / comparisons))


def half_width(metric: Metric, margin: float) -> float:
    """The margin on the scale of the difference: a share of the baseline becomes a log ratio.

    Raises ValueError for a margin that is not positive.
    """
    if not margin > 0:
        raise ValueError(f"the margin of {metric.name!r} must be above 0, not {margin}")
    return log1p(margin) if metric.relative else margin


def verdict(difference: Difference, metric: Metric, margin: float, *, broken: bool = False) -> Verdict:
    """The verdict on one difference. `broken`: a task is established as lost."""
    width = half_width(metric, margin)
    if difference.low is None or difference.high is None:
        return "inconclusive"
    if difference.within is not None and -width < difference.within[0] and difference.within[1] < width:
        return "inconclusive" if broken else "equivalent"
    if difference.low > 0:
        return "improvement" if metric.higher_is_better else "regression"
    if difference.high < 0:
        return "regression" if metric.higher_is_better else "improvement"
    return "inconclusive"
