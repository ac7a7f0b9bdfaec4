"""The view model of a comparison: records of one or several runs -> each arm by itself, and every verdict.

Terminal, Markdown and HTML draw what is here and compute nothing. Texts in here may come from an agent or a file:
escape them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.report.arms import Arm, ComparedArm, view_arm
from harness.report.notes import comparison_notes, run_apart
from harness.report.setup import TaskWords, merged_tasks
from harness.report.tags import TagRow, by_tag
from harness.stats.data import MetricName, RoundsPlan
from harness.stats.results import Comparison, Contrast, TaskFlip, Verdict


@dataclass(frozen=True)
class PairView:
    """An arm against its baseline: a contrast for each metric, and the tasks that flipped.

    `breakable` are the tasks that would be established as lost, had all excluded trials gone against the arm.
    """

    arm: str
    baseline: str
    contrasts: Mapping[MetricName, Contrast]
    flips: tuple[TaskFlip, ...]
    breakable: tuple[str, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """The tasks established as lost."""
        return tuple(flip.task for flip in self.flips if flip.flip == "lost" and flip.established)

    def verdict(self, metric: MetricName) -> Verdict:
        """The verdict on one metric."""
        return self.contrasts[metric].verdict


@dataclass(frozen=True)
class SourceSetup:
    """A source of records, and what is known of how they were made, as names and values."""

    source: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ComparisonView:
    """A comparison as a whole.

    `level` is the confidence that holds for all pairs of a metric together, and with a `plan` at all of its looks.
    `notes` are the sentences that a reader must know to read the verdicts rightly, the gravest first. With `replayed`
    some records are of replayed sessions, and the first note says so. `apart` are the notes on pairs whose arms were
    not run side by side. `setups` are what each source was asked for, as far as known, with when its trials began;
    `words` what tasks say of themselves, `tags` the numbers by tag.
    """

    level: float
    plan: RoundsPlan | None
    tasks: tuple[str, ...]
    arms: tuple[ComparedArm, ...]
    pairs: tuple[PairView, ...]
    replayed: bool
    notes: tuple[str, ...]
    apart: tuple[str, ...] = ()
    setups: tuple[SourceSetup, ...] = ()
    words: Mapping[str, TaskWords] = field(default_factory=dict)
    tags: tuple[TagRow, ...] = ()

    def arm(self, name: str) -> ComparedArm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


def compare_arms(
    arms: Sequence[Arm],
    pairs: Sequence[tuple[str, str]],
    *,
    margins: Mapping[MetricName, float] | None = None,
    level: float = 0.95,
    plan: RoundsPlan | None = None,
    notes: Sequence[str] = (),
) -> ComparisonView:
    """Compare arms, given as pairs of an arm's name and its baseline's. `notes` are about the records as a whole.

    With a `plan` (whose level then counts) the trials were added in rounds until the verdicts were settled.

    Raises:
        ValueError: when a value is impossible for its metric, a margin is not above 0, or a pair names no arm.
    """
    found = _statistics(arms, pairs, margins, level, plan)
    stats = {one.name: one for one in found.variants}
    views = [view_arm(arm, stats[arm.name]) for arm in arms]
    apart = tuple(run_apart(arms, pairs))
    words = merged_tasks([arm.setup for arm in arms])
    return ComparisonView(
        level=found.level,
        plan=plan,
        tasks=tuple(dict.fromkeys(record.task for arm in arms for record in arm.records)),
        arms=tuple(views),
        pairs=tuple(_pair_view(found, arm, base) for arm, base in pairs),
        replayed=any(record.model_source == "replay" for arm in arms for record in arm.records),
        notes=(*comparison_notes(arms, pairs, views, notes), *apart),
        apart=apart,
        setups=tuple(_setups(arms)),
        words=words,
        tags=by_tag(arms, words),
    )


def _setups(arms: Sequence[Arm]) -> Iterator[SourceSetup]:
    by_source: dict[str, list[Arm]] = {}
    for arm in arms:
        by_source.setdefault(arm.source, []).append(arm)
    for source, of_it in by_source.items():
        began = sorted(time for arm in of_it for time in arm.distinct("started_at"))
        times = dict.fromkeys(map(_minute, began[:1] + began[-1:]))
        started = [("trials began", " to ".join(times))] if times else []
        yield SourceSetup(source, (*started, *of_it[0].setup.facts))


def _minute(time: str) -> str:
    """A time of a record, to the minute: `2026-11-23 09:01 UTC`."""
    return f"{time[:16].replace('T', ' ')} UTC"


def _pair_view(found: Comparison, arm: str, base: str) -> PairView:
    own = {c.metric: c for c in found.contrasts if (c.variant, c.baseline) == (arm, base)}
    return PairView(arm, base, own, found.flips[arm], found.breakable[arm])


def _statistics(
    arms: Sequence[Arm],
    pairs: Sequence[tuple[str, str]],
    margins: Mapping[MetricName, float] | None,
    level: float,
    plan: RoundsPlan | None,
) -> Comparison:
    """The statistics; with a plan each pair is as it was when it stopped.

    The baseline's later trials, which were added for other arms, are no part of a pair that stopped before.
    """
    # NumPy and SciPy take half a second to load, and only a comparison needs them.
    from harness.stats.compare import compare

    trials = [cell for arm in arms for cell in arm.cells()]
    if plan is None or not pairs:
        return compare(trials, pairs, margins=margins, level=level)
    by_name = {arm.name: arm for arm in arms}
    contrasts: list[Contrast] = []
    flips: dict[str, tuple[TaskFlip, ...]] = {}
    breakable: dict[str, tuple[str, ...]] = {}
    for name, base_name in pairs:
        own, base = by_name[name], by_name[base_name]
        last = max(record.index for record in own.records)
        until = replace(base, records=[record for record in base.records if record.index <= last])
        cells = [*own.cells(), *until.cells()]
        found = compare(cells, [(name, base_name)], margins=margins, plan=plan, comparisons=len(pairs))
        contrasts += found.contrasts
        flips |= found.flips
        breakable |= found.breakable
    alone = compare(trials, [], level=plan.level)
    return replace(alone, contrasts=tuple(contrasts), flips=flips, breakable=breakable)
