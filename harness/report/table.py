"""Plain tables for terminals and files; colour is only an addition."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.sanitize import sanitize

WIDTH = 80
"""Columns that every terminal has; reports fit it."""


@dataclass(frozen=True)
class Column:
    """A column's head, and the side on which its values stand."""

    name: str
    right: bool = False


def as_text(
    columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], *, width: int = 200, color: bool = False
) -> str:
    """The table as lines. Values are taken literally: they may come from an agent."""
    table = Table(box=None, pad_edge=False, header_style="bold" if color else "")
    for column in columns:
        table.add_column(
            column.name, justify="right" if column.right else "left", overflow="fold", no_wrap=column.right
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=color, no_color=not color, highlight=False)
    # Rich would cut values short. Instead the room between columns gives way first, then names are folded.
    table.collapse_padding = (
        console.measure(table, options=console.options.update(width=10_000)).maximum > width
    )
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def printable(text: str) -> str:
    """A name on one line, without what would steer a terminal, turn its reading direction, or not be seen."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in sanitize(text))


def wrapped(text: str, *, width: int, mark: str = "") -> list[str]:
    """A sentence as lines; `mark` stands before the first, and the others are indented by it."""
    return textwrap.wrap(
        printable(text),
        width,
        initial_indent=mark,
        subsequent_indent=" " * len(mark) or "  ",
        break_on_hyphens=False,
    )
