"""The view model of a comparison: records of one or several runs -> each variant by itself, and every verdict.

Terminal, Markdown and HTML draw what is here and compute nothing. An arm is what is compared: the records of one
variant, of one source (a run, a records file, a commit). Texts in here may come from an agent or a file: escape them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from harness.errors import UsageError
from harness.records.metrics import Measured, measured, variants_in_order
from harness.records.record import TrialRecord
from harness.report.formatting import names, several
from harness.stats.compare import compare
from harness.stats.data import METRIC_NAMES, MetricName, Plan, Trials
from harness.stats.results import Comparison, Contrast, OneVariant, TaskFlip, Verdict


@dataclass(frozen=True)
class Arm:
    """What is compared. `name` is unique in a comparison; `source` says where the records come from."""

    name: str
    source: str
    variant: str
    records: Sequence[Measured] = field(repr=False)


@dataclass(frozen=True)
class Excluded:
    """How many trials of an arm count for nobody, for one reason: `error` or `invalid`, and what kind."""

    arm: str
    outcome: str
    why: str
    trials: int


@dataclass(frozen=True)
class ArmView:
    """One arm by itself.

    `stats` has a summary with its interval for each metric, pass@k, pass^k and each task's passes. `spent_usd` is
    what all its attempts cost, as far as known. The tuples name all values that its records have.
    """

    name: str
    source: str
    variant: str
    trials: int
    passed: int
    failed: int
    errors: int
    invalid: int
    spent_usd: float | None
    stats: OneVariant
    models: tuple[str, ...]
    claude_versions: tuple[str, ...]
    templates: tuple[str, ...]
    excluded: tuple[Excluded, ...]

    @property
    def flaky(self) -> tuple[str, ...]:
        """The tasks that both passed and failed."""
        return tuple(result.task for result in self.stats.tasks if result.flaky)


@dataclass(frozen=True)
class PairView:
    """An arm against its baseline: a contrast for each metric, and the tasks that flipped."""

    arm: str
    baseline: str
    contrasts: Mapping[MetricName, Contrast]
    flips: tuple[TaskFlip, ...]

    def verdict(self, metric: MetricName) -> Verdict:
        """The verdict on one metric."""
        return self.contrasts[metric].verdict


@dataclass(frozen=True)
class ComparisonView:
    """A comparison as a whole.

    `level` is the confidence that holds for all pairs of a metric together, and with a `plan` at all of its looks.
    `notes` are what a reader must know to
    read the verdicts rightly, the gravest first. `replayed` and `by_hand`: some records are of replayed sessions,
    or of sessions written by hand, and then the numbers measure the plumbing and not a model.
    """

    level: float
    plan: Plan | None
    tasks: tuple[str, ...]
    arms: tuple[ArmView, ...]
    pairs: tuple[PairView, ...]
    replayed: bool
    by_hand: bool
    notes: tuple[str, ...]

    def arm(self, name: str) -> ArmView:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def undecided(self, metric: MetricName) -> tuple[str, ...]:
        """The arms whose verdict in this metric is still open."""
        return tuple(pair.arm for pair in self.pairs if pair.verdict(metric) == "inconclusive")


def arms_by_variant(records: Sequence[Measured], source: str) -> list[Arm]:
    """One arm for each variant, in the order that the run had them in."""
    by_variant: dict[str, list[Measured]] = {name: [] for name in variants_in_order(records)}
    for record in records:
        by_variant[record.variant].append(record)
    return [Arm(variant, source, variant, found) for variant, found in by_variant.items()]


def pairs_within(arms: Sequence[Arm], baseline: str | None = None) -> list[tuple[str, str]]:
    """Every other arm against the baseline (the first, if none is named).

    Raises:
        UsageError: when there is no such arm.
    """
    names = [arm.name for arm in arms]
    base = names[0] if baseline is None and names else baseline
    if base not in names:
        raise UsageError(
            f"the baseline {base!r} is none of the variants",
            remedy=f"there are: {', '.join(names) or 'none'}",
        )
    return [(name, base) for name in names if name != base]


def compare_records(
    records: Sequence[TrialRecord], *, source: str = "", baseline: str | None = None
) -> ComparisonView:
    """The variants of one run against the baseline among them (the first, if none is named).

    Raises:
        UsageError: when there is no such variant.
    """
    arms = arms_by_variant([measured(record) for record in records], source)
    return compare_arms(arms, pairs_within(arms, baseline) if arms else [])


def compare_arms(
    arms: Sequence[Arm],
    pairs: Sequence[tuple[str, str]],
    *,
    margins: Mapping[MetricName, float] | None = None,
    level: float = 0.95,
    plan: Plan | None = None,
    notes: Sequence[str] = (),
) -> ComparisonView:
    """Compare arms, given as pairs of an arm's name and its baseline's. `notes` are about the records as a whole.

    With a `plan` (whose level then counts) the trials were added in rounds until the verdicts were settled.

    Raises:
        ValueError: when a value is impossible for its metric, a margin is not above 0, or a pair names no arm.
    """
    trials = [cell for arm in arms for cell in _cells(arm)]
    found = (
        _compare_as_stopped(arms, pairs, margins, plan)
        if plan and pairs
        else compare(trials, pairs, margins=margins, level=level)
    )
    by_name = {one.name: one for one in found.variants}
    records = [record for arm in arms for record in arm.records]
    return ComparisonView(
        level=found.level,
        plan=plan,
        tasks=tuple(dict.fromkeys(cell.task for cell in trials)),
        arms=tuple(_arm_view(arm, by_name[arm.name]) for arm in arms),
        pairs=tuple(_pair_view(found, arm, base) for arm, base in pairs),
        replayed=any(record.model_source == "replay" for record in records),
        by_hand=any(record.by_hand for record in records),
        notes=(*_notes(arms, pairs), *notes),
    )


def _pair_view(found: Comparison, arm: str, base: str) -> PairView:
    own = {c.metric: c for c in found.contrasts if (c.variant, c.baseline) == (arm, base)}
    return PairView(arm, base, own, found.flips[arm])


def _compare_as_stopped(
    arms: Sequence[Arm],
    pairs: Sequence[tuple[str, str]],
    margins: Mapping[MetricName, float] | None,
    plan: Plan,
) -> Comparison:
    """Each pair as it was when it stopped: what the baseline tried later, for the others, is not a part of it."""
    by_name = {arm.name: arm for arm in arms}
    alone = compare([cell for arm in arms for cell in _cells(arm)], [], level=plan.level)
    contrasts: list[Contrast] = []
    flips: dict[str, tuple[TaskFlip, ...]] = {}
    for name, base_name in pairs:
        own, base = by_name[name], by_name[base_name]
        last = max(record.index for record in own.records)
        until = replace(base, records=[record for record in base.records if record.index <= last])
        cells = [*_cells(own), *_cells(until)]
        found = compare(cells, [(name, base_name)], margins=margins, plan=plan, comparisons=len(pairs))
        contrasts += found.contrasts
        flips |= found.flips
    return replace(alone, contrasts=tuple(contrasts), flips=flips)


# Getters rather than functions of our own: they are called a million times for a hundred thousand records.
_VALUES: Mapping[MetricName, Callable[[Measured], float | None]] = {
    "pass": lambda record: float(record.outcome == "passed"),
    "score": attrgetter("score"),
    "cost": attrgetter("cost_usd"),
    "tokens": attrgetter("tokens"),
    "duration": attrgetter("duration_ms"),
    "turns": attrgetter("turns"),
}


def _cells(arm: Arm) -> Iterator[Trials]:
    by_task: dict[str, list[Measured]] = {}
    for record in arm.records:
        by_task.setdefault(record.task, []).append(record)
    for task, records in by_task.items():
        outcomes = Counter(map(attrgetter("outcome"), records))
        counted = [record for record in records if record.counts]
        values = {name: list(map(_VALUES[name], counted)) for name in METRIC_NAMES}
        yield Trials(task, arm.name, values, errors=outcomes["error"], invalid=outcomes["invalid"])


def _arm_view(arm: Arm, stats: OneVariant) -> ArmView:
    outcomes = Counter(map(attrgetter("outcome"), arm.records))
    costs = [cost for record in arm.records if (cost := record.spent_usd) is not None]
    return ArmView(
        name=arm.name,
        source=arm.source,
        variant=arm.variant,
        trials=len(arm.records),
        passed=outcomes["passed"],
        failed=outcomes["failed"],
        errors=outcomes["error"],
        invalid=outcomes["invalid"],
        spent_usd=sum(costs) if costs else None,
        stats=stats,
        models=_distinct(arm, "model"),
        claude_versions=_distinct(arm, "claude_version"),
        templates=_distinct(arm, "template"),
        excluded=tuple(
            Excluded(arm.name, outcome, why, trials)
            for (outcome, why), trials in Counter(
                map(attrgetter("outcome", "why"), arm.records)
            ).most_common()
            if why is not None
        ),
    )


def _distinct(arm: Arm, trait: str) -> tuple[str, ...]:
    return tuple(found for found in dict.fromkeys(map(attrgetter(trait), arm.records)) if found is not None)


def _notes(arms: Sequence[Arm], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield from _not_a_model(arms)
    yield from _mixed(arms)
    yield from _changed_tasks(arms, pairs)
    yield from _unknown(arms)


def _not_a_model(arms: Sequence[Arm]) -> Iterator[str]:
    records = [record for arm in arms for record in arm.records]
    replayed = [record for record in records if record.model_source == "replay"]
    by_hand = sum(record.by_hand for record in replayed)
    if replayed:
        some = "all" if len(replayed) == len(records) else f"{len(replayed)} of {len(records)}"
        hand = f" ({by_hand} of them written by hand)" if by_hand else ""
        yield f"{some} trials replayed recorded sessions{hand}: the verdicts measure the plumbing, not a model"
    others = Counter(record.agent for record in records if record.agent != "claude")
    for agent, trials in others.items():
        yield f"{several(trials, 'trial')} by the agent {agent}: they say nothing about Claude Code"


def _mixed(arms: Sequence[Arm]) -> Iterator[str]:
    """An arm that is not one treatment."""
    traits = (
        ("settings", "variant_hash"),
        ("models", "model"),
        ("versions of Claude Code", "claude_version"),
    )
    for arm in arms:
        # Tasks may name templates of their own.
        templates = Counter(task for task, _ in set(map(attrgetter("task", "template"), arm.records)))
        mixed = sorted(task for task, found in templates.items() if found > 1)
        if mixed:
            yield f"{arm.name} mixes templates in {several(len(mixed), 'task')}: {names(mixed)}"
        for what, trait in traits:
            values = _distinct(arm, trait)
            if trait == "variant_hash":
                values = tuple(value[:8] for value in values)
            if len(values) > 1:
                yield f"{arm.name} mixes {len(values)} {what}: {names(values)}"


def _changed_tasks(arms: Sequence[Arm], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    hashes: dict[str, dict[str, set[str]]] = {}
    for arm in arms:
        for task, digest in set(map(attrgetter("task", "task_hash"), arm.records)):
            hashes.setdefault(arm.name, {}).setdefault(task, set()).add(digest)
    for arm_name, base in pairs:
        own, before = hashes.get(arm_name, {}), hashes.get(base, {})
        changed = sorted(task for task in own.keys() & before.keys() if len(own[task] | before[task]) > 1)
        if changed:
            yield (
                f"{several(len(changed), 'task')} changed between {arm_name} and {base}, and a difference may "
                f"come from that: {names(changed)}"
            )
        for one, here, other in ((arm_name, own, before), (base, before, own)):
            alone = sorted(here.keys() - other.keys())
            if alone:
                yield f"{several(len(alone), 'task')} with trials of {one} only, not compared: {names(alone)}"


def _unknown(arms: Sequence[Arm]) -> Iterator[str]:
    cut = sum(record.cut_off and record.counts for arm in arms for record in arm.records)
    if cut:
        yield f"{several(cut, 'trial')} cut off: their tokens and cost are unknown, and left out"
