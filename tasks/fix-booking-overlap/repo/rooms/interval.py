from dataclasses import dataclass


def minutes(clock: str) -> int:
    """Minutes since midnight of an "HH:MM" time; "24:00" is the end of the day."""
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@dataclass(frozen=True, order=True)
class Interval:
    """A stretch of one day, in minutes since midnight."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 24 * 60:
            raise ValueError(f"not a stretch of one day: {self.start} to {self.end}")

    def __str__(self) -> str:
        return f"{clock(self.start)}-{clock(self.end)}"

    def overlaps(self, other: "Interval") -> bool:
        return self.start <= other.end and other.start <= self.end

    def contains(self, other: "Interval") -> bool:
        return self.start <= other.start and other.end <= self.end

    def joined(self, other: "Interval") -> "Interval":
        return Interval(min(self.start, other.start), max(self.end, other.end))
