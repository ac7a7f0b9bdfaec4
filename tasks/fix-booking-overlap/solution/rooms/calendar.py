from rooms.interval import Interval, clock, minutes


class Conflict(Exception):
    """The room is taken at that time."""


class Calendar:
    def __init__(self, opens: str, closes: str) -> None:
        self._hours = Interval(minutes(opens), minutes(closes))
        self._bookings: dict[Interval, str] = {}

    def book(self, start: str, end: str, who: str) -> None:
        wanted = Interval(minutes(start), minutes(end))
        if not self._hours.contains(wanted):
            raise ValueError(f"outside the opening hours {self._hours}: {wanted}")
        for taken, owner in self._bookings.items():
            if taken.overlaps(wanted):
                raise Conflict(f"{taken} is taken by {owner}")
        self._bookings[wanted] = who

    def cancel(self, start: str, end: str) -> None:
        del self._bookings[Interval(minutes(start), minutes(end))]

    def find(self, length: int) -> str | None:
        starts = [self._hours.start, *(booking.end for booking in sorted(self._bookings))]
        for start in starts:
            if start + length > self._hours.end:
                break
            wanted = Interval(start, start + length)
            if not any(taken.overlaps(wanted) for taken in self._bookings):
                return clock(start)
        return None

    def busy(self) -> list[str]:
        return [str(block) for block in self._blocks()]

    def free(self) -> list[str]:
        gaps = []
        start = self._hours.start
        for block in self._blocks():
            if start < block.start:
                gaps.append(Interval(start, block.start))
            start = block.end
        if start < self._hours.end:
            gaps.append(Interval(start, self._hours.end))
        return [str(gap) for gap in gaps]

    def _blocks(self) -> list[Interval]:
        blocks: list[Interval] = []
        for booking in sorted(self._bookings):
            if blocks and blocks[-1].touches(booking):
                blocks[-1] = blocks[-1].joined(booking)
            else:
                blocks.append(booking)
        return blocks
