"""The bounds of one sandbox."""

from dataclasses import dataclass

LOW_DISK = 1 << 30
"""A sandbox that wrote more bytes is ended when the machine's volume has fewer left, whatever its own bounds: without
room, neither other sandboxes nor the run itself could go on."""


@dataclass(frozen=True)
class BoxLimits:
    """Resource limits of one sandbox; None means unlimited. The tier decides which of them are enforced."""

    memory_mb: int | None = None
    cpus: float | None = None
    pids: int | None = 2048
    """The number of processes and threads."""
    disk_mb: int | None = None
    """What the sandbox writes, beyond what it starts with."""

    def within(self, other: "BoxLimits") -> "BoxLimits":
        """Return these limits, and the other's where these have none."""
        return BoxLimits(
            self.memory_mb or other.memory_mb,
            self.cpus or other.cpus,
            other.pids,
            self.disk_mb or other.disk_mb,
        )
