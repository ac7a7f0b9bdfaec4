"""The state of a run that goes on, as its process tells it: for its own status line, and for other terminals."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from harness.errors import UsageError
from harness.records.files import file_below, read_bounded
from harness.records.metrics import Amount
from harness.records.store import RunFolder, RunLock
from harness.report.formatting import cost

_STATUS = "status.json"


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs: for how long, its present phase, and what it has used where the run knows prices."""

    trial: str
    task: str
    variant: str
    index: int
    seconds: Amount
    doing: str
    spent_usd: Amount | None = None


@dataclass(frozen=True)
class RunStatus:
    """A run at one moment. `spent` is in words, since a replay spends nothing; `left_s` is an estimate, or None."""

    expected: int
    done: int
    failed: int
    errors: int
    spent: str | None
    left_s: Amount | None
    running: tuple[RunningTrial, ...]


_STATUSES = TypeAdapter(RunStatus)


def status_line(status: RunStatus, *, named: int = 4) -> str:
    """The status in one line, what matters most first, so that it may be cut; with `named` of those that run."""
    parts = [f"{status.done}/{status.expected} done"]
    for number, what in ((status.failed, "failed"), (status.errors, "error")):
        if number:
            parts.append(f"{number} {what}")
    parts.append(f"{len(status.running)} running")
    if status.spent:
        parts.append(status.spent)
    if status.left_s is not None:
        parts.append(f"about {clock(status.left_s)} left")
    shown = [
        f"{one.trial} {one.doing} {clock(one.seconds)}".replace("  ", " ") for one in status.running[:named]
    ]
    more = len(status.running) - named
    names = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return " · ".join([*parts, names] if shown else parts)


def spent_words(spent: float, limit: float | None) -> str:
    """The money spent, and the limit."""
    return f"{cost(spent)} of {cost(limit)} spent" if limit is not None else f"{cost(spent)} spent"


def clock(seconds: float) -> str:
    """A time that goes on, as `m:ss`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def write_status(run: RunFolder, status: RunStatus) -> None:
    """Write how the run is doing into its folder, whole or not at all. Raises OSError."""
    partial = run.path / f"{_STATUS}.part"
    partial.write_text(json.dumps(asdict(status)), encoding="utf-8", errors="replace")
    partial.replace(run.path / _STATUS)


def remove_status(run: RunFolder) -> None:
    """Take away what was written, since the run is over."""
    with contextlib.suppress(FileNotFoundError):
        (run.path / _STATUS).unlink()


def read_status(run: RunFolder) -> RunStatus | None:
    """The state of a run; None when it does not go on, or its process has not told it yet."""
    if not is_running(run):
        return None
    try:
        return _STATUSES.validate_json(read_bounded(file_below(run.path, _STATUS)))
    except (OSError, ValidationError, UsageError):
        return None


def is_running(run: RunFolder) -> bool:
    """Tell whether a process works on the run."""
    return RunLock.is_held(run.path)
