"""What the page shows, as plain values. The template lays them out and computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.report.arms import ComparedArm
from harness.report.comparison import ComparisonView
from harness.report.formatting import cost
from harness.report.html.arms import ArmRow, AtKRow, NumberedRecord, arm_row, at_k_of
from harness.report.html.cost_charts import Distribution, Scatter, distributions_of, scatter_of
from harness.report.html.pairs import Pair, pairs_of
from harness.report.html.task_matrix import MatrixRow, filters_of, matrix_of
from harness.report.html.tools import ServerRow, ToolRow, servers_of, tools_of


@dataclass(frozen=True)
class Page:
    """All of the page but its packed trials."""

    title: str
    sources: tuple[str, ...]
    about: tuple[tuple[str, str], ...]
    plumbing: str | None
    notes: tuple[str, ...]
    arms: tuple[ArmRow, ...]
    pairs: tuple[Pair, ...]
    level: str
    ks: tuple[int, ...]
    at_k: tuple[AtKRow, ...]
    grid: tuple[MatrixRow, ...]
    filters: tuple[tuple[str, str, int], ...]
    scatter: Scatter | None
    distributions: tuple[Distribution, ...]
    tools: tuple[ToolRow, ...]
    servers: tuple[ServerRow, ...]
    trials: int


def page_of(
    title: str, sources: Sequence[str], view: ComparisonView, trials: Mapping[str, Sequence[NumberedRecord]]
) -> Page:
    """The page of a comparison. `trials` has each arm's trials by the arm's name."""
    arms = tuple(arm_row(place, arm) for place, arm in enumerate(view.arms))
    by_name = {arm.view.name: arm for arm in arms}
    pairs = tuple(pairs_of(view, by_name))
    grid = tuple(matrix_of(view, arms, trials))
    ks = max((tuple(at.k for at in arm.stats.pass_at_k) for arm in view.arms), key=len, default=())
    return Page(
        title=title,
        sources=tuple(sources),
        about=tuple(_about(view)),
        plumbing=_plumbing(view),
        notes=tuple(view.notes),
        arms=arms,
        pairs=pairs,
        level=f"{view.level * 100:.3g}%",
        ks=ks,
        at_k=tuple(at_k_of(arm, ks) for arm in arms),
        grid=grid,
        filters=tuple(filters_of(grid)),
        scatter=scatter_of(arms),
        distributions=tuple(distributions_of(arms, trials)),
        tools=tuple(tools_of(arms, trials)),
        servers=tuple(servers_of(arms, trials)),
        trials=sum(len(found) for found in trials.values()),
    )


def _about(view: ComparisonView) -> Iterator[tuple[str, str]]:
    def all_of(values: Callable[[ComparedArm], tuple[str, ...]]) -> str:
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
    note = view.notes[0]
    return f"{note[0].upper()}{note[1:]}. Nothing was spent on them."
