"""The section of the variants by themselves: their numbers stand in their rows, and pass@k and pass^k here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.formatting import percent
from harness.report.html.page_data import ArmRow, PageData


@dataclass(frozen=True)
class AtKRow:
    """A variant's pass@k and pass^k, each with what the numbers leave out."""

    arm: ArmRow
    any_of: tuple[str, ...]
    all_of: tuple[str, ...]


@dataclass(frozen=True)
class VariantsSection:
    """pass@k and pass^k of all variants, for each k."""

    ks: tuple[int, ...]
    at_k: tuple[AtKRow, ...]


def variants_section(data: PageData) -> VariantsSection:
    """The section, with as many k as any variant has."""
    ks = max((tuple(at.k for at in arm.stats.pass_at_k) for arm in data.view.arms), key=len, default=())
    return VariantsSection(ks, tuple(_at_k_row(arm, ks) for arm in data.arms))


def _at_k_row(arm: ArmRow, ks: Sequence[int]) -> AtKRow:
    """A variant's pass@k and pass^k for each k."""
    any_of = {at.k: at.value for at in arm.view.stats.pass_at_k}
    all_of = {at.k: at.value for at in arm.view.stats.pass_hat_k}
    return AtKRow(arm, tuple(percent(any_of.get(k)) for k in ks), tuple(percent(all_of.get(k)) for k in ks))
