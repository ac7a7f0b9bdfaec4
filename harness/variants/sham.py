"""A sham: a text of the length of another that asks for nothing, so that a comparison with it shows what the words do,
and not that there are so many of them."""

from __future__ import annotations

import itertools
import re

_TEXT = (
    "The river bends to the east below the old mill and runs on between low hills. In spring the water is high and "
    "brown, and in the summer it is clear. A narrow road goes along the bank for some miles and then turns away from "
    "it. There are willows on one side and fields of barley on the other. On most days the wind comes from the west. "
    "The village has a church, a school and two shops, and on market days the square is full by nine. Swallows nest "
    "under the eaves of the barn, and leave again in September. "
)
_MARKUP = re.compile(r"^\s*(?:#{1,6}\s+|[-*+]\s+|\d+[.)]\s+|>\s+)?")


def sham_of(text: str) -> str:
    """A text that says nothing to the point, with as many characters as `text`, on the same lines: headings, lists and
    paragraphs stay what they are."""
    words = itertools.cycle(_TEXT.split())
    return "\n".join(_filled(line, words) for line in text.split("\n"))


def _filled(line: str, words: itertools.cycle[str]) -> str:
    markup = _MARKUP.match(line)
    filled = markup[0] if markup else ""
    missing = len(line) - len(filled)
    found: list[str] = []
    while sum(map(len, found)) + len(found) <= missing:
        found.append(next(words))
    # A line must not end in a space, which Markdown reads as a break.
    body = " ".join(found)[:missing]
    return filled + (f"{body[:-1]}." if body.endswith(" ") else body)
