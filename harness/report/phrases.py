"""A comparison in words: the same in the terminal, in Markdown and in HTML.

Nothing is escaped here: names come from records, and are untrusted wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from harness.report.arms import ComparedArm
from harness.report.comparison import ComparisonView, PairView
from harness.report.formatting import LABELS, UNKNOWN, cost, count, names, percent, seconds, several
from harness.stats.data import METRICS, WAITS, MetricName
from harness.stats.results import (
    POWER,
    AtK,
    Contrast,
    Estimate,
    IfExcluded,
    Interval,
    Needed,
    Number,
    Verdict,
)

SAYS: Mapping[Verdict, str] = {
    "improvement": "is better than",
    "regression": "is worse than",
    "equivalent": "is as good as",
    "inconclusive": "may be better or worse than",
}
"""A verdict on the pass rate, as it stands between the names of a variant and of its baseline."""

SHOW: Mapping[MetricName, Callable[[float | None], str]] = {
    "pass": percent,
    "score": percent,
    "cost": cost,
    "tokens": count,
    "duration": seconds,
    "start": seconds,
    "retry_wait": seconds,
    "mcp_wait": seconds,
    "turns": lambda number: UNKNOWN if number is None else f"{number:.1f}",
}


def is_shown(arms: Iterable[ComparedArm], metric: MetricName) -> bool:
    """False for a wait that no trial had."""
    return metric not in WAITS or any(arm.stats.metrics[metric].mean.value for arm in arms)


def estimate(arm: ComparedArm, metric: MetricName) -> Estimate:
    """The value that the comparison stands on: the geometric mean of a skewed metric, the mean of the others."""
    summary = arm.stats.metrics[metric]
    return summary.geometric_mean or summary.mean


def value(arm: ComparedArm, metric: MetricName) -> str:
    """An arm's value: `35%`, `$0.41`."""
    return SHOW[metric](estimate(arm, metric).value)


def interval(metric: MetricName, found: Estimate) -> str:
    """The interval of a value: `16% to 62%`; empty when there is none."""
    show = SHOW[metric]
    return f"{show(found.interval.low)} to {show(found.interval.high)}" if found.interval else ""


def change(metric: MetricName, number: float | None) -> str:
    """A difference: `+12.5 pts` of a rate, `-20%` of a baseline. Only no difference at all is shown as 0."""
    if number is None:
        return UNKNOWN
    unit = "%" if METRICS[metric].relative else " pts"
    scaled = number * 100
    if abs(scaled) >= 1000:
        return f"x{number + 1:.3g}"
    digits = 0 if abs(scaled) >= 9.95 else 1
    shown = f"{scaled:+.{digits}f}"
    if scaled and not shown.strip("+-0."):
        return f"{'+' if scaled > 0 else '-'}<0.1{unit}"
    return f"{shown}{unit}" if scaled else f"0{unit}"


def change_interval(metric: MetricName, interval: Interval | None) -> str:
    """The interval of a difference: `-3.0 to +27`; the unit is the difference's."""
    if interval is None:
        return ""
    unit = "%" if METRICS[metric].relative else " pts"
    low, high = (change(metric, number).removesuffix(unit) for number in (interval.low, interval.high))
    return f"{low} to {high}"


def difference(contrast: Contrast) -> str:
    """The difference and its interval: `+41 pts (+12 to +66)`."""
    found = contrast.difference
    interval = change_interval(contrast.metric, found.interval)
    return change(contrast.metric, found.value) + (f" ({interval})" if interval else "")


def verdict(contrast: Contrast) -> str:
    """The verdict in a word; unknown where there is no value to judge."""
    return UNKNOWN if contrast.difference.value is None else contrast.verdict


def metric_rows(view: ComparisonView, pair: PairView) -> Iterator[tuple[Contrast, list[str]]]:
    """Each metric's contrast, with its name, the baseline's value, the arm's, the difference and its interval."""
    own, base = view.arm(pair.arm), view.arm(pair.baseline)
    for metric, contrast in pair.contrasts.items():
        if not is_shown(view.arms, metric):
            continue
        found = contrast.difference
        both = value(base, metric), value(own, metric)
        ends = change_interval(metric, found.interval) or UNKNOWN
        yield contrast, [LABELS[metric], *both, change(metric, found.value), ends]


def headline(pair: PairView) -> str:
    """The answer in one sentence, about the pass rate."""
    contrast = pair.contrasts["pass"]
    if contrast.difference.value is None:
        return f"{pair.arm} cannot be compared with {pair.baseline}: {contrast.difference.reason}"
    return f"{pair.arm} {SAYS[contrast.verdict]} {pair.baseline}: pass rate {difference(contrast)}"


def design(view: ComparisonView, pair: PairView) -> str:
    """The design that the verdicts stand on: tasks, trials, level and corrections."""
    found = pair.contrasts["pass"].difference
    corrected = f", corrected for {len(view.pairs)} comparisons" if len(view.pairs) > 1 else ""
    tasks = several(found.tasks, "task")
    trials = f"{found.trials:.3g} {'trial' if found.trials == 1 else 'trials'}"
    if view.plan:
        looks = len(view.plan.looks)
        corrected += f", valid at each of up to {looks} looks" if looks > 1 else ", for one look at the end"
    return f"{tasks}, {trials} each; {view.level * 100:.3g}% intervals{corrected}"


def details(view: ComparisonView, pair: PairView) -> Iterator[str]:
    """Sentences about one pair: why there is no interval, what would settle it, what the excluded could change."""
    yield from _unreckoned(view, pair)
    main = pair.contrasts["pass"]
    if main.unpaired:
        what = "1 task counts" if main.unpaired == 1 else f"{main.unpaired} tasks count"
        yield f"{what} under one of the two only, and cannot be compared"
    if main.detectable.value is not None:
        yield (
            f"smallest difference in pass rate that this design finds in {POWER * 100:.0f} of 100 runs: "
            f"{change('pass', main.detectable.value).lstrip('+')}"
        )
    elif (
        main.verdict == "inconclusive"
        and main.difference.value is not None
        and main.detectable.reason != main.difference.reason
    ):
        yield f"smallest difference in pass rate: {main.detectable.reason}"
    yield from _settle(pair)
    for contrast in pair.contrasts.values():
        if contrast.if_excluded:
            yield _bounds(contrast, contrast.if_excluded)
    yield from _flips(pair)


def _unreckoned(view: ComparisonView, pair: PairView) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for metric, contrast in pair.contrasts.items():
        if contrast.difference.reason and is_shown(view.arms, metric):
            reasons.setdefault(contrast.difference.reason, []).append(LABELS[metric])
    for reason, metrics in reasons.items():
        yield f"no interval for {', '.join(metrics)}: {reason}"


def _settle(pair: PairView) -> Iterator[str]:
    for metric, contrast in pair.contrasts.items():
        if contrast.needed and contrast.difference.interval:
            yield (
                f"to settle {LABELS[metric]}, if {change(metric, contrast.difference.value)} is true: "
                + _needed(contrast.needed)
            )


def _needed(needed: Needed) -> str:
    trials, tasks = needed.trials, needed.tasks
    ways = [
        f"{_whole(number)} {what}"
        for number, what in ((trials, "trials of each task"), (tasks, "tasks"))
        if number.value is not None
    ]
    if ways:
        return " or ".join(ways)
    return "; ".join(dict.fromkeys(str(number.reason) for number in (trials, tasks)))


def _whole(number: Number) -> str:
    return f"{number.value:,.0f}" if number.value is not None else UNKNOWN


def _bounds(contrast: Contrast, ends: IfExcluded) -> str:
    metric = contrast.metric
    return (
        f"{LABELS[metric]}, had all excluded trials gone against {contrast.variant}: "
        f"{change(metric, ends.against.value)}, {ends.verdict_against}; "
        f"had all gone for it: {change(metric, ends.favour.value)}, {ends.verdict_favour}"
    )


def _flips(pair: PairView) -> Iterator[str]:
    for kind, says in (("gained", "now passes"), ("lost", "now fails")):
        of_kind = [flip for flip in pair.flips if flip.flip == kind]
        sure = [flip.task for flip in of_kind if flip.established]
        noisy = [flip.task for flip in of_kind if not flip.established]
        if sure:
            yield f"{says} (established): {names(sure)}"
        if noisy:
            yield f"{says} in most trials (may be noise): {names(noisy)}"


def flaky(arm: ComparedArm) -> str | None:
    """The tasks of an arm that both passed and failed."""
    tasks = arm.flaky
    return f"{arm.name}: {len(tasks)} flaky: {names(tasks)}" if tasks else None


def at_k(found: Sequence[AtK]) -> str:
    """`1: 35%, 3: 57% (7 of 8 tasks)`."""
    return ", ".join(
        f"{one.k}: {percent(one.value)}"
        + (f" ({one.tasks} of {one.tasks + one.left_out} tasks)" if one.left_out else "")
        for one in found
    )
