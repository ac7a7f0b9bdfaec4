"""The section of tags: pass rate and cost of each variant over the tasks that share one."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.formatting import cost, percent
from harness.report.html.page_data import ArmRow, PageData


@dataclass(frozen=True)
class ShownCell:
    """A variant's numbers over a tag's tasks; `bar` is its rate in percent."""

    arm: ArmRow
    passed: int
    counted: int
    rate: str
    bar: float
    bill: str
    pass_cost: str


@dataclass(frozen=True)
class ShownTag:
    """A tag, how many tasks have it, and a line for each variant."""

    tag: str
    tasks: int
    cells: tuple[ShownCell, ...]


def tags_section(data: PageData) -> tuple[ShownTag, ...] | None:
    """The section; None where no task is known to have a tag."""
    return (
        tuple(
            ShownTag(
                row.tag,
                row.tasks,
                tuple(
                    ShownCell(
                        data.row(cell.arm),
                        cell.passed,
                        cell.counted,
                        percent(cell.rate),
                        round(100 * (cell.rate or 0.0), 2),
                        cost(cell.bill_usd),
                        cost(cell.pass_cost_usd),
                    )
                    for cell in row.cells
                ),
            )
            for row in data.view.tags
        )
        or None
    )
