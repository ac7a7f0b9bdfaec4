"""Arms: the records of one variant, of one source (a run, a records file, a commit), and their counts.

Every report draws its arms from `ArmView`. Texts in here may come from an agent or a file: escape them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from harness.errors import UsageError
from harness.records.metrics import TrialMetrics, variants_in_order
from harness.records.record import TrialRecord
from harness.report.setup import UNKNOWN_SETUP, RunSetup
from harness.stats.data import MEASURED, MetricName, Trials
from harness.stats.results import OneVariant


@dataclass(frozen=True)
class Arm:
    """One side of a comparison. `name` is unique in a comparison; `source` says where the records come from.

    `setup` is that of the run; unknown, where there are its records alone.
    """

    name: str
    source: str
    variant: str
    records: Sequence[TrialMetrics] = field(repr=False)
    setup: RunSetup = field(default=UNKNOWN_SETUP, repr=False)

    def distinct(self, trait: str) -> tuple[str, ...]:
        """All known values that the records have in one field, in their order."""
        values = dict.fromkeys(map(attrgetter(trait), self.records))
        return tuple(value for value in values if value is not None)

    def cells(self) -> Iterator[Trials]:
        """The arm's trials for the statistics, task by task."""
        by_task: dict[str, list[TrialMetrics]] = {}
        for record in self.records:
            by_task.setdefault(record.task, []).append(record)
        for task, records in by_task.items():
            outcomes = Counter(map(attrgetter("outcome"), records))
            counted = [record for record in records if record.is_counted]
            values = {name: list(map(_VALUES[name], counted)) for name in MEASURED}
            yield Trials(task, self.name, values, errors=outcomes["error"], invalid=outcomes["invalid"])


# Getters rather than functions of our own: they are called a million times for a hundred thousand records.
_VALUES: Mapping[MetricName, Callable[[TrialMetrics], float | None]] = {
    "pass": lambda record: float(record.outcome == "passed"),
    "score": attrgetter("score"),
    "cost": attrgetter("cost_usd"),
    "tokens": attrgetter("tokens"),
    "duration": attrgetter("duration_ms"),
    "start": attrgetter("start_ms"),
    "retry_wait": attrgetter("retry_wait_ms"),
    "mcp_wait": attrgetter("mcp_wait_ms"),
    "turns": attrgetter("turns"),
}


@dataclass(frozen=True)
class ArmView:
    """One arm by itself: its counts. `spent_usd` is the cost of all its attempts, as far as known."""

    name: str
    trials: int
    passed: int
    failed: int
    errors: int
    invalid: int
    spent_usd: float | None

    @property
    def excluded_trials(self) -> int:
        """The trials that count for nobody."""
        return self.errors + self.invalid

    @property
    def pass_share(self) -> float | None:
        """The passed among the trials that count, None without any."""
        counted = self.passed + self.failed
        return self.passed / counted if counted else None


@dataclass(frozen=True)
class Excluded:
    """The trials of an arm that count for nobody for one reason: `error` or `invalid`, and its kind."""

    arm: str
    outcome: str
    why: str
    trials: int


@dataclass(frozen=True)
class ComparedArm(ArmView):
    """One arm of a comparison, with its statistics.

    `stats` has a summary with its interval for each metric, pass@k, pass^k and each task's passes. The tuples name
    all values that its records have. `asked` is what the variant sets, None where that is unknown, `texts` what it
    brings, by their titles.
    """

    source: str
    variant: str
    stats: OneVariant
    models: tuple[str, ...]
    claude_versions: tuple[str, ...]
    templates: tuple[str, ...]
    excluded: tuple[Excluded, ...]
    asked: Mapping[str, str] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def flaky(self) -> tuple[str, ...]:
        """The tasks that both passed and failed."""
        return tuple(result.task for result in self.stats.tasks if result.flaky)


def count_records(name: str, records: Sequence[TrialRecord]) -> ArmView:
    """The counts of some records as they were written."""
    return ArmView(name, **_counts(records, [record.total_cost_usd for record in records]))


def count_measured(name: str, records: Sequence[TrialMetrics]) -> ArmView:
    """The counts of some records, of which no more was read than a comparison needs."""
    return ArmView(name, **_counts(records, [record.spent_usd for record in records]))


def view_arm(arm: Arm, stats: OneVariant) -> ComparedArm:
    """An arm with its statistics."""
    reasons = Counter(map(attrgetter("outcome", "excluded_because"), arm.records)).most_common()
    return ComparedArm(
        arm.name,
        **_counts(arm.records, [record.spent_usd for record in arm.records]),
        source=arm.source,
        variant=arm.variant,
        stats=stats,
        models=arm.distinct("model"),
        claude_versions=arm.distinct("claude_version"),
        templates=arm.distinct("template"),
        excluded=tuple(
            Excluded(arm.name, outcome, why, trials) for (outcome, why), trials in reasons if why is not None
        ),
        asked=arm.setup.variants.get(arm.variant),
        texts=arm.setup.texts.get(arm.variant, {}),
    )


def _counts(records: Sequence[Any], costs: Sequence[float | None]) -> dict[str, Any]:
    outcomes = Counter(map(attrgetter("outcome"), records))
    known = [cost for cost in costs if cost is not None]
    return {
        "trials": len(records),
        "passed": outcomes["passed"],
        "failed": outcomes["failed"],
        "errors": outcomes["error"],
        "invalid": outcomes["invalid"],
        "spent_usd": sum(known) if known else None,
    }


def arms_by_variant(
    records: Sequence[TrialMetrics], source: str, setup: RunSetup = UNKNOWN_SETUP
) -> list[Arm]:
    """One arm for each variant, in the order that the run had them in."""
    by_variant: dict[str, list[TrialMetrics]] = {name: [] for name in variants_in_order(records)}
    for record in records:
        by_variant[record.variant].append(record)
    return [Arm(variant, source, variant, found, setup) for variant, found in by_variant.items()]


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
