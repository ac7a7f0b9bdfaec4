"""The places of letters and whiskers in the chart of cost against pass rate: none hides another.

Places are in percent of the plane, whose width is the screen's, and offsets are in pixels: what is chosen has to hold
at every width.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, hypot, pi, sin

HEIGHT = 288.0
"""The plane's height in pixels, as the style sheet has it."""
NARROW = 230.0
"""Its width on the smallest screens."""
_WIDTHS = (NARROW, 270.0, 320.0, 400.0, 500.0, 640.0, 860.0)
RADIUS = 10.0
_DOT = 4.0
_RINGS = (RADIUS + 10, RADIUS + 18, RADIUS + 30, RADIUS + 44)
_LANE = 5.0

Place = tuple[float, float]


def letter_offsets(anchors: Sequence[Place]) -> list[Place]:
    """For each point the way from it to its letter, in pixels; none where the letter can stand on the point.

    No letter covers another, or another's point, at any width.
    """
    chosen: list[Place] = []
    for place in range(len(anchors)):
        fits = [(_room(anchors, chosen, place, offset), offset) for offset in _OFFSETS]
        chosen.append(next((offset for room, offset in fits if room >= 0), max(fits)[1]))
    return chosen


_OFFSETS: tuple[Place, ...] = (
    (0.0, 0.0),
    *(
        (round(ring * cos(turn * pi / 4), 1), round(ring * sin(turn * pi / 4), 1))
        for ring in _RINGS
        for turn in (0, 4, 6, 2, 7, 5, 1, 3)
    ),
)


def _room(anchors: Sequence[Place], chosen: Sequence[Place], place: int, offset: Place) -> float:
    """The pixels between a letter and the nearest of what it must not touch; negative where it does."""
    return min(_room_at(width, anchors, chosen, place, offset) for width in _WIDTHS)


def _room_at(
    width: float, anchors: Sequence[Place], chosen: Sequence[Place], place: int, offset: Place
) -> float:
    points = [(x * width / 100, y * HEIGHT / 100) for x, y in anchors]
    x, y = points[place][0] + offset[0], points[place][1] + offset[1]
    edges = [x + 6, width + 6 - x, y + 6, HEIGHT + 6 - y] if offset != (0.0, 0.0) else []
    letters = [
        hypot(x - points[other][0] - dx, y - points[other][1] - dy) - 2 * RADIUS - 1
        for other, (dx, dy) in enumerate(chosen)
    ]
    dots = [hypot(x - px, y - py) - RADIUS - _DOT for other, (px, py) in enumerate(points) if other != place]
    return min([*edges, *letters, *dots], default=0.0)


def lane_offsets(whiskers: Sequence[tuple[float, float, float] | None], size: float) -> list[float]:
    """For each whisker (its ends, and where it stands across, in percent) how far it gives way, in pixels.

    Whiskers that would lie on each other get lanes of their own. `size` is that of the plane across them.
    """
    taken: list[tuple[float, float, float]] = []
    found: list[float] = []
    for whisker in whiskers:
        if whisker is None:
            found.append(0.0)
            continue
        low, high, across = whisker
        at = across * size / 100
        near = [other for first, last, other in taken if first <= high and low <= last]
        steps = (_LANE * ((step + 1) // 2) * (-1) ** step for step in range(4 * len(near) + 1))
        lane = next((one for one in steps if all(abs(at + one - other) >= _LANE for other in near)), 0.0)
        taken.append((low, high, at + lane))
        found.append(lane)
    return found
