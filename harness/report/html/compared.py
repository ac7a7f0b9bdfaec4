"""The section on what was compared: each variant's keys and texts, and how the runs were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.report.arms import ComparedArm
from harness.report.comparison import SourceSetup
from harness.report.formatting import plural
from harness.report.html.page_data import ArmRow, PageData
from harness.report.setup import difference


@dataclass(frozen=True)
class ShownText:
    """A text that a variant brings. `changes` are the lines of its difference from the baseline's, with their kind.

    `note` says how it stands to the baseline's.
    """

    title: str
    note: str
    text: str
    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Treatment:
    """A variant: the keys that it sets; None where the run does not tell. `ran` is what its sessions had."""

    arm: ArmRow
    asked: tuple[tuple[str, str], ...] | None
    ran: str
    texts: tuple[ShownText, ...]


@dataclass(frozen=True)
class ComparedSection:
    """The variants, and the facts of each source."""

    treatments: tuple[Treatment, ...]
    setups: tuple[SourceSetup, ...]


def compared_section(data: PageData) -> ComparedSection:
    """The section."""
    bases = {pair.arm: data.row(pair.baseline) for pair in data.view.pairs}
    return ComparedSection(
        tuple(_treatment(row, bases.get(row.view.name)) for row in data.arms), data.view.setups
    )


def _treatment(row: ArmRow, base: ArmRow | None) -> Treatment:
    arm = row.view
    return Treatment(
        row,
        None if arm.asked is None else tuple(arm.asked.items()),
        "; ".join(_ran(arm)),
        tuple(_texts(arm.texts, base)),
    )


def _ran(arm: ComparedArm) -> Iterator[str]:
    for what, values in (
        ("", arm.models),
        ("Claude Code ", arm.claude_versions),
        ("template ", arm.templates),
    ):
        if values:
            yield what + ", ".join(values)


def _texts(texts: Mapping[str, str], base: ArmRow | None) -> Iterator[ShownText]:
    for title, text in sorted(texts.items()):
        before = base.view.texts.get(title) if base else None
        changed = None if before is None else difference(text, before)
        key = base.key if base else ""
        if before == text:
            note = f"the same as {key}'s"
        elif changed is not None:
            note = f"against {key}'s"
        else:
            note = plural(len(text.splitlines()), "line")
        yield ShownText(title, note, text, tuple(_lines(changed or "")))


_KINDS = {"+": "add", "-": "del", "@": "hunk"}


def _lines(changed: str) -> Iterator[tuple[str, str]]:
    for line in changed.splitlines():
        yield _KINDS.get(line[:1], "same"), line
