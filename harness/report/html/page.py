"""What the page shows, as plain values. The template lays them out and computes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from string import ascii_uppercase

from harness.record import TrialRecord
from harness.report import words
from harness.report.comparison import ArmView, ComparisonView, PairView
from harness.report.html.charts import Scale, Spread, Tick, scale_around_zero, scale_of, spread
from harness.report.text import cost, count, percent, seconds
from harness.stats.compare import Contrast
from harness.stats.data import METRIC_NAMES, METRICS, Estimate, MetricName
from harness.stats.taskwise import TaskFlip
from harness.stats.verdict import Verdict, half_width

COLOURS = 8


@dataclass(frozen=True)
class Trial:
    """A record with its place among the page's packed trials."""

    number: int
    record: TrialRecord


@dataclass(frozen=True)
class Range:
    """An interval drawn on a scale: its ends and its middle, in percent; None where there is none."""

    low: float | None
    high: float | None
    value: float | None


@dataclass(frozen=True)
class Arm:
    """A variant's row. `key` is its letter on the page: A is the first baseline."""

    key: str
    colour: int
    view: ArmView
    rate: str
    rate_interval: str | None
    rate_range: Range
    numbers: tuple[tuple[str, str | None], ...]


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
    range: Range
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

    own: Arm
    baseline: Arm
    verdict: Verdict
    sign: str
    says: str
    sure: str
    price: str
    design: str
    details: tuple[str, ...]
    groups: tuple[MetricGroup, ...]


@dataclass(frozen=True)
class Mark:
    """One trial in the grid."""

    number: int
    outcome: str
    label: str


@dataclass(frozen=True)
class Cell:
    """One task under one variant. `shade` is its pass rate in tenths, None when nothing counts."""

    colour_key: str
    marks: tuple[Mark, ...]
    passed: int
    counted: int
    shade: int | None


@dataclass(frozen=True)
class GridRow:
    """One task under all variants. `kinds` are the filters that keep it; `order` sorts by how much variants differ."""

    task: str
    cells: tuple[Cell, ...]
    kinds: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    rate: float
    gap: float


@dataclass(frozen=True)
class Point:
    """A variant in the chart of cost against pass rate."""

    arm: Arm
    x: Range
    y: Range
    label: str


@dataclass(frozen=True)
class Scatter:
    """Cost against pass rate, places in percent from the left and from the top."""

    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class SpreadRow:
    """One variant in a distribution; None when none of its values is known."""

    arm: Arm
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
class ToolCell:
    """A tool under a variant: calls a trial as a number and as a bar (in percent), and errors in words."""

    calls: str
    bar: float
    errors: str | None


@dataclass(frozen=True)
class ToolRow:
    """A tool; `server` is the MCP server that it belongs to, empty for Claude Code's own."""

    name: str
    server: str
    cells: tuple[ToolCell, ...]


@dataclass(frozen=True)
class AtKRow:
    """A variant's pass@k and pass^k, each with what the numbers leave out."""

    arm: Arm
    any_of: tuple[str, ...]
    all_of: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """All of the page but its packed trials."""

    title: str
    sources: tuple[str, ...]
    about: tuple[tuple[str, str], ...]
    plumbing: str | None
    notes: tuple[str, ...]
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    level: str
    ks: tuple[int, ...]
    at_k: tuple[AtKRow, ...]
    grid: tuple[GridRow, ...]
    filters: tuple[tuple[str, str, int], ...]
    scatter: Scatter | None
    distributions: tuple[Distribution, ...]
    tools: tuple[ToolRow, ...]
    servers: tuple[tuple[str, tuple[str, ...]], ...]
    trials: int


def page_of(
    title: str, sources: Sequence[str], view: ComparisonView, trials: Mapping[str, Sequence[Trial]]
) -> Page:
    """The page of a comparison. `trials` has each arm's trials by the arm's name."""
    arms = tuple(_arm(place, arm) for place, arm in enumerate(view.arms))
    by_name = {arm.view.name: arm for arm in arms}
    pairs = tuple(_pair(view, pair, by_name) for pair in view.pairs)
    grid = tuple(_grid(view, arms, trials))
    ks = max((tuple(at.k for at in arm.stats.pass_at_k) for arm in view.arms), key=len, default=())
    return Page(
        title=title,
        sources=tuple(sources),
        about=tuple(_about(view)),
        plumbing=_plumbing(view),
        notes=tuple(words.notes(view)),
        arms=arms,
        pairs=pairs,
        level=f"{view.level * 100:.3g}%",
        ks=ks,
        at_k=tuple(_at_k(arm, ks) for arm in arms),
        grid=grid,
        filters=tuple(_filters(grid)),
        scatter=_scatter(arms),
        distributions=tuple(_distributions(arms, trials)),
        tools=tuple(_tools(arms, trials)),
        servers=tuple(_servers(arms, trials)),
        trials=sum(len(found) for found in trials.values()),
    )


def _about(view: ComparisonView) -> Iterator[tuple[str, str]]:
    def all_of(values: Callable[[ArmView], tuple[str, ...]]) -> str:
        return ", ".join(dict.fromkeys(value for arm in view.arms for value in values(arm))) or "unknown"

    yield "model", all_of(lambda arm: arm.models)
    yield "Claude Code", all_of(lambda arm: arm.claude_versions)
    yield "template", all_of(lambda arm: arm.templates)
    yield "trials", f"{sum(arm.trials for arm in view.arms):,} ({len(view.tasks):,} tasks)"
    spent = [arm.spent_usd for arm in view.arms if arm.spent_usd is not None]
    yield "cost at list prices" if view.replayed else "spent", cost(sum(spent) if spent else None)


def _plumbing(view: ComparisonView) -> str | None:
    if not view.replayed:
        return None
    by_hand = ", some or all of them written by hand," if view.by_hand else ""
    how = f"Recorded sessions{by_hand} were replayed"
    return f"{how}: this measures the plumbing (sandboxes, templates, checks), not a model, and nothing was spent."


# The variants by themselves


def _arm(place: int, arm: ArmView) -> Arm:
    mean = arm.stats.metrics["pass"].mean
    share = Scale(0.0, 1.0)
    return Arm(
        key=_key(place),
        colour=place % COLOURS,
        view=arm,
        rate=percent(mean.value),
        rate_interval=_interval(mean, "pass"),
        rate_range=_range(share, mean),
        numbers=tuple(
            (words.SHOW[name](summary.mean.value), _interval(summary.mean, name))
            for name in METRIC_NAMES
            if name != "pass"
            for summary in (arm.stats.metrics[name],)
        ),
    )


def _key(place: int) -> str:
    around, letter = divmod(place, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(around + 1) if around else "")


def _interval(estimate: Estimate, metric: MetricName) -> str | None:
    interval, show = estimate.interval, words.SHOW[metric]
    return f"{show(interval.low)} to {show(interval.high)}" if interval else None


def _range(scale: Scale, estimate: Estimate) -> Range:
    def at(value: float | None) -> float | None:
        return None if value is None else scale.at(value)

    interval = estimate.interval
    return Range(
        at(interval.low if interval else None), at(interval.high if interval else None), at(estimate.value)
    )


def _at_k(arm: Arm, ks: Sequence[int]) -> AtKRow:
    any_of = {at.k: at.value for at in arm.view.stats.pass_at_k}
    all_of = {at.k: at.value for at in arm.view.stats.pass_hat_k}
    return AtKRow(arm, tuple(percent(any_of.get(k)) for k in ks), tuple(percent(all_of.get(k)) for k in ks))


# Against the baseline


_SIGNS: Mapping[Verdict, str] = {
    "improvement": "▲",
    "regression": "▼",
    "equivalent": "≈",
    "inconclusive": "?",
}


def _pair(view: ComparisonView, pair: PairView, arms: Mapping[str, Arm]) -> Pair:
    own, baseline = arms[pair.arm], arms[pair.baseline]
    contrast = pair.contrasts["pass"]
    known = contrast.difference.value is not None
    return Pair(
        own=own,
        baseline=baseline,
        verdict=contrast.verdict,
        sign=_SIGNS[contrast.verdict],
        says=words.SAYS[contrast.verdict] if known else "cannot be compared with",
        sure=f"Pass rate {words.difference(contrast)}",
        price=_price(pair.contrasts["cost"], own, baseline),
        design=words.design(view, pair),
        details=tuple(words.details(view, pair)),
        groups=tuple(
            _group(pair, [name for name in METRIC_NAMES if METRICS[name].relative is relative], own, baseline)
            for relative in (False, True)
        ),
    )


def _price(contrast: Contrast, own: Arm, baseline: Arm) -> str:
    """The bill is the mean's; the change is that of a typical trial."""
    means = [cost(arm.view.stats.metrics["cost"].mean.value) for arm in (baseline, own)]
    return f"Cost {words.difference(contrast)}, from {means[0]} to {means[1]} a trial"


def _group(pair: PairView, names: Sequence[MetricName], own: Arm, baseline: Arm) -> MetricGroup:
    contrasts = [pair.contrasts[name] for name in names]
    scale = scale_around_zero(_reach(contrasts))
    relative = METRICS[names[0]].relative
    return MetricGroup(
        caption="change of a typical trial" if relative else "change in points of 100",
        rows=tuple(_metric_row(contrast, own, baseline, scale) for contrast in contrasts),
        ticks=_factor_ticks(scale) if relative else scale.ticks(_point_tick),
    )


def _point_tick(value: float) -> str:
    return f"{100 * value:+.3g}" if abs(value) > 1e-9 else "0"


def _reach(contrasts: Sequence[Contrast]) -> float:
    """As far as the farthest end of an interval, and in any case twice as far as the widest margin."""
    found = [contrast.difference for contrast in contrasts]
    ends = [abs(end) for one in found for end in (one.low, one.high, one.center) if end is not None]
    margins = [2 * half_width(METRICS[contrast.metric], contrast.margin) for contrast in contrasts]
    return 1.08 * max([*ends, *margins])


_FACTORS = (1.1, 1.25, 1.5, 2, 3, 5, 10, 30, 100, 1000)


def _factor_ticks(scale: Scale) -> tuple[Tick, ...]:
    inside = [factor for factor in _FACTORS if log(factor) < 0.97 * scale.high]
    chosen = inside[-1:]
    if len(inside) > 1:
        chosen.append(min(inside[:-1], key=lambda factor: abs(log(factor) - log(inside[-1]) / 2)))
    values = sorted([*(1 / factor for factor in chosen), 1.0, *chosen])
    return tuple(
        Tick(scale.at(log(value)), "0" if value == 1 else f"{100 * (value - 1):+.0f}%") for value in values
    )


def _metric_row(contrast: Contrast, own: Arm, baseline: Arm, scale: Scale) -> MetricRow:
    metric, found = METRICS[contrast.metric], contrast.difference
    width = half_width(metric, contrast.margin)
    ends = [None if end is None else scale.at(end) for end in (found.low, found.high, found.center)]
    return MetricRow(
        name=words.LABELS[contrast.metric],
        baseline=words.value(baseline.view, contrast.metric),
        own=words.value(own.view, contrast.metric),
        difference=words.change(contrast.metric, found.value),
        interval=words.change_interval(contrast.metric, found.interval),
        reason=found.reason,
        verdict=contrast.verdict,
        sign=_SIGNS[contrast.verdict],
        range=Range(*ends),
        margin_low=scale.at(-width),
        margin_high=scale.at(width),
    )


# Task by task


def _grid(
    view: ComparisonView, arms: Sequence[Arm], trials: Mapping[str, Sequence[Trial]]
) -> Iterator[GridRow]:
    places: dict[tuple[str, str], list[Trial]] = {}
    for name, found in trials.items():
        for trial in found:
            places.setdefault((trial.record.task, name), []).append(trial)
    flips = {pair.arm: {flip.task: flip for flip in pair.flips} for pair in view.pairs}
    for task in sorted(view.tasks):
        cells = [_cell(arm, places.get((task, arm.view.name), ())) for arm in arms]
        tags = _flip_tags(task, arms, flips)
        yield _grid_row(task, cells, tags)


def _flip_tags(
    task: str, arms: Sequence[Arm], flips: Mapping[str, Mapping[str, TaskFlip]]
) -> list[tuple[str, str]]:
    """What flipped, in words: all variants for which the task did the same, as surely, together."""
    keys: dict[tuple[str, bool], list[str]] = {}
    for arm in arms:
        flip = flips.get(arm.view.name, {}).get(task)
        if flip:
            keys.setdefault((flip.flip, flip.established), []).append(arm.key)
    return [
        (kind, f"{kind} by {', '.join(of)}{'' if sure else ', maybe noise'}")
        for (kind, sure), of in keys.items()
    ]


def _grid_row(task: str, cells: Sequence[Cell], tags: Sequence[tuple[str, str]]) -> GridRow:
    rates = [cell.passed / cell.counted for cell in cells if cell.counted]
    outcomes = {mark.outcome for cell in cells for mark in cell.marks}
    kinds = [
        kind
        for kind, holds in (
            ("flipped", bool(tags)),
            ("flaky", any(0 < cell.passed < cell.counted for cell in cells)),
            ("failed", "failed" in outcomes),
            ("excluded", bool(outcomes & {"error", "invalid"})),
        )
        if holds
    ]
    flaky = [("flaky", "flaky")] if "flaky" in kinds else []
    return GridRow(
        task=task,
        cells=tuple(cells),
        kinds=tuple(kinds),
        tags=(*tags, *flaky),
        rate=round(sum(rates) / len(rates), 4) if rates else -1,
        gap=round(max(rates) - min(rates), 4) if rates else -1,
    )


def _cell(arm: Arm, trials: Sequence[Trial]) -> Cell:
    ordered = sorted(trials, key=lambda trial: trial.record.index)
    passed = sum(trial.record.outcome == "passed" for trial in ordered)
    counted = sum(trial.record.outcome in ("passed", "failed") for trial in ordered)
    return Cell(
        colour_key=arm.key,
        marks=tuple(Mark(trial.number, trial.record.outcome, _label(arm, trial.record)) for trial in ordered),
        passed=passed,
        counted=counted,
        shade=round(10 * passed / counted) if counted else None,
    )


def _label(arm: Arm, record: TrialRecord) -> str:
    about = [f"{record.task}, {arm.key}, trial {record.index}: {record.outcome}"]
    if record.score is not None:
        about.append(f"score {record.score:.2f}")
    about += [seconds(record.phases_ms.total), cost(record.cost_usd)]
    return ", ".join(part for part in about if part != "-")


_FILTERS = (
    ("flipped", "Flipped"),
    ("flaky", "Flaky"),
    ("failed", "With failures"),
    ("excluded", "With excluded"),
)


def _filters(grid: Sequence[GridRow]) -> Iterator[tuple[str, str, int]]:
    yield "all", "All tasks", len(grid)
    for kind, label in _FILTERS:
        yield kind, label, sum(kind in row.kinds for row in grid)


# Amounts


def _scatter(arms: Sequence[Arm]) -> Scatter | None:
    seen = [
        (arm, arm.view.stats.metrics["cost"].mean, arm.view.stats.metrics["pass"].mean)
        for arm in arms
        if arm.view.stats.metrics["cost"].mean.value is not None
        and arm.view.stats.metrics["pass"].mean.value is not None
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
        points=tuple(
            Point(
                arm,
                _range(x, spent),
                _upside_down(_range(y, rate)),
                f"{arm.view.name}: {cost(spent.value)} a trial, {percent(rate.value)} passed",
            )
            for arm, spent, rate in seen
        ),
        x_ticks=x.ticks(cost),
        y_ticks=tuple(Tick(100 - tick.at, tick.label) for tick in y.ticks(percent)),
    )


def _upside_down(found: Range) -> Range:
    """From the bottom to from the top."""
    low, high, value = (None if at is None else 100 - at for at in (found.low, found.high, found.value))
    return Range(high, low, value)


@dataclass(frozen=True)
class _Amount:
    name: str
    of: Callable[[TrialRecord], float | None]
    show: Callable[[float | None], str]
    is_time: bool = False

    def unit(self, most: float) -> float:
        """What round numbers of it are counted in: long times are read in minutes."""
        if not self.is_time:
            return 1.0
        return 60_000.0 if most > 240_000 else 1_000.0


_AMOUNTS = (
    _Amount("Tokens", lambda record: None if record.tokens_partial else record.tokens.total, count),
    _Amount("Output tokens", lambda record: None if record.tokens_partial else record.tokens.output, count),
    _Amount("Agent's time", lambda record: record.duration_ms, seconds, is_time=True),
    _Amount("Whole time", lambda record: record.phases_ms.total, seconds, is_time=True),
    _Amount("Cost", lambda record: record.cost_usd, cost),
)


def _distributions(arms: Sequence[Arm], trials: Mapping[str, Sequence[Trial]]) -> Iterator[Distribution]:
    for amount in _AMOUNTS:
        values = {arm.key: _known(amount, trials[arm.view.name]) for arm in arms}
        known = [value for found in values.values() for value in found]
        if not known:
            continue
        scale = scale_of(known)
        rows = tuple(_spread_row(arm, values[arm.key], scale, amount.show) for arm in arms)
        yield Distribution(amount.name, scale.log, rows, scale.ticks(amount.show, amount.unit(max(known))))


def _known(amount: _Amount, trials: Sequence[Trial]) -> list[float]:
    counted = (trial.record for trial in trials if trial.record.outcome in ("passed", "failed"))
    return [value for record in counted if (value := amount.of(record)) is not None]


def _spread_row(
    arm: Arm, values: Sequence[float], scale: Scale, show: Callable[[float | None], str]
) -> SpreadRow:
    found = spread(values, scale) if values else None
    return SpreadRow(arm, found, show(found.median if found else None), show(found.p90 if found else None))


# Tools


def _tools(arms: Sequence[Arm], trials: Mapping[str, Sequence[Trial]]) -> Iterator[ToolRow]:
    calls: dict[str, Counter[str]] = {arm.key: Counter() for arm in arms}
    errors: dict[str, Counter[str]] = {arm.key: Counter() for arm in arms}
    played: dict[str, int] = {}
    for arm in arms:
        counted = [
            trial.record for trial in trials[arm.view.name] if trial.record.outcome in ("passed", "failed")
        ]
        played[arm.key] = len(counted)
        for record in counted:
            for tool, use in record.tools.items():
                calls[arm.key][tool] += use.calls
                errors[arm.key][tool] += use.errors
    total = sum(calls.values(), Counter())
    most = max(
        (calls[arm.key][tool] / played[arm.key] for arm in arms if played[arm.key] for tool in total),
        default=1.0,
    )
    for tool in sorted(total, key=lambda name: (_server(name), -total[name], name)):
        yield ToolRow(
            tool,
            _server(tool),
            tuple(
                _tool_cell(calls[arm.key][tool], errors[arm.key][tool], played[arm.key], most) for arm in arms
            ),
        )


def _tool_cell(calls: int, errors: int, trials: int, most: float) -> ToolCell:
    if not trials:
        return ToolCell("-", 0.0, None)
    each = calls / trials
    shown = f"{each:.1f}" if each >= 0.05 or not calls else "<0.1"
    return ToolCell(
        shown,
        round(100 * each / most, 1) if most else 0.0,
        f"{percent(errors / calls)} errors" if errors else None,
    )


def _server(tool: str) -> str:
    """The MCP server of a tool: Claude Code names them `mcp__SERVER__TOOL`."""
    kind, _, rest = tool.partition("__")
    return rest.partition("__")[0] if kind == "mcp" else ""


def _servers(
    arms: Sequence[Arm], trials: Mapping[str, Sequence[Trial]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    states: dict[str, dict[str, Counter[str]]] = {}
    for arm in arms:
        for trial in trials[arm.view.name]:
            for server, state in trial.record.mcp_servers.items():
                states.setdefault(server, {}).setdefault(arm.key, Counter())[state] += 1
    for server, by_arm in sorted(states.items()):
        yield (
            server,
            tuple(
                ", ".join(
                    f"{state} in {number}" for state, number in by_arm.get(arm.key, Counter()).most_common()
                )
                or "-"
                for arm in arms
            ),
        )
