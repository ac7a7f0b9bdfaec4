"""The page as plain values: its sections, and what stands around them. Templates lay them out and compute nothing.

To add a section: write a function that makes its content from `PageData`, add one line to `SECTIONS`, and lay the
content out in `sections/KEY.html`, where it is `content`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.report.arms import ComparedArm
from harness.report.comparison import ComparisonView
from harness.report.formatting import cost
from harness.report.html.compared import compared_section
from harness.report.html.cost_charts import amounts_section
from harness.report.html.page_data import ArmRow, NumberedRecord, PageData, arm_row
from harness.report.html.pairs import verdict_section
from harness.report.html.pass_at_k import variants_section
from harness.report.html.tags import tags_section
from harness.report.html.task_matrix import tasks_section
from harness.report.html.tools import tools_section

# The sections in their order: the anchor, the title in the navigation, and the function that makes the content. One
# that makes None is left out.
SECTIONS: tuple[tuple[str, str, Callable[[PageData], object]], ...] = (
    ("verdict", "Verdict", verdict_section),
    ("compared", "What was compared", compared_section),
    ("variants", "Variants", variants_section),
    ("tasks", "Tasks", tasks_section),
    ("tags", "By tag", tags_section),
    ("amounts", "Cost and time", amounts_section),
    ("tools", "Tools", tools_section),
    ("notes", "Notes", lambda data: data.view.notes),
)


@dataclass(frozen=True)
class Page:
    """All of the page but its packed trials. A section is its anchor, its title and its content."""

    title: str
    sources: tuple[str, ...]
    about: tuple[tuple[str, str], ...]
    plumbing: str | None
    level: str
    arms: tuple[ArmRow, ...]
    sections: tuple[tuple[str, str, object], ...]
    trials: int


def page_of(
    title: str, sources: Sequence[str], view: ComparisonView, trials: Mapping[str, Sequence[NumberedRecord]]
) -> Page:
    """The page of a comparison. `trials` has each arm's trials by the arm's name."""
    data = PageData(view, tuple(arm_row(place, arm) for place, arm in enumerate(view.arms)), trials)
    sections = [(key, name, fill(data)) for key, name, fill in SECTIONS]
    return Page(
        title=title,
        sources=tuple(sources),
        about=tuple(_about(view)),
        plumbing=_plumbing(view),
        level=f"{view.level * 100:.3g}%",
        arms=data.arms,
        sections=tuple(section for section in sections if section[-1] is not None),
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
