"""The view model: what every report shows, computed once from records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.records.metrics import variants_in_order
from harness.records.record import TrialRecord


@dataclass(frozen=True)
class VariantView:
    """One variant's row. Means are over the trials that count (passed or failed) and whose value is known.

    `pass_rate` is passed / (passed + failed); errors and invalid ones count for nobody. `cost_usd` is all that
    was spent, faulty attempts included; `cost_mean_usd` a trial's share of what counts.
    """

    name: str
    trials: int
    passed: int
    failed: int
    errors: int
    invalid: int
    pass_rate: float | None
    cost_usd: float | None
    cost_mean_usd: float | None
    tokens_mean: float | None
    tokens_output_mean: float | None
    duration_ms_mean: float | None
    total_ms_mean: float | None


@dataclass(frozen=True)
class RunView:
    """A run as a whole."""

    variants: tuple[VariantView, ...]
    records: tuple[TrialRecord, ...]
    replayed: bool
    by_hand: bool

    @property
    def cost_usd(self) -> float | None:
        """What is known to have been spent."""
        return _sum([variant.cost_usd for variant in self.variants])


def view(records: Sequence[TrialRecord]) -> RunView:
    """The view of some records."""
    names = variants_in_order(records)
    return RunView(
        variants=tuple(_variant(name, [r for r in records if r.variant == name]) for name in names),
        records=tuple(records),
        replayed=any(record.model_source == "replay" for record in records),
        by_hand=any(record.replay_by_hand for record in records),
    )


def _variant(name: str, records: Sequence[TrialRecord]) -> VariantView:
    counted = [record for record in records if record.outcome in ("passed", "failed")]
    passed = sum(record.outcome == "passed" for record in records)
    return VariantView(
        name=name,
        trials=len(records),
        passed=passed,
        failed=len(counted) - passed,
        errors=sum(record.outcome == "error" for record in records),
        invalid=sum(record.outcome == "invalid" for record in records),
        pass_rate=passed / len(counted) if counted else None,
        cost_usd=_sum([record.total_cost_usd for record in records]),
        cost_mean_usd=_mean(counted, lambda record: record.cost_usd),
        tokens_mean=_mean(counted, lambda record: record.tokens.total),
        tokens_output_mean=_mean(counted, lambda record: record.tokens.output),
        duration_ms_mean=_mean(counted, lambda record: record.duration_ms),
        total_ms_mean=_mean(counted, lambda record: record.phases_ms.total),
    )


def _mean(records: Sequence[TrialRecord], value: Callable[[TrialRecord], float | None]) -> float | None:
    known = [number for record in records if (number := value(record)) is not None]
    return fmean(known) if known else None


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
