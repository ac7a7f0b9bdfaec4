"""`--plan`: the trials of a run, and the cost and time that earlier ones foretell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.records.history import History, wall_seconds
from harness.report.formatting import seconds


@dataclass(frozen=True)
class Planned:
    """A trial to be run: the names of its task and variant."""

    task: str
    variant: str


def forecast(
    trials: Sequence[Planned], history: History, *, concurrency: int, paid: bool, limit_usd: float | None
) -> Iterator[str]:
    """Lines for a person.

    Args:
        trials: those to be run, in their order.
        history: what earlier trials of the same agent and source of replies tell.
        concurrency: how many run at once.
        paid: whether a model is asked, which costs money.
        limit_usd: what the run may spend.
    """
    tasks = Counter(trial.task for trial in trials)
    variants = Counter(trial.variant for trial in trials)
    yield f"plan: {len(trials)} trials ({len(tasks)} tasks, {len(variants)} variants), {concurrency} at once"
    for task, count in tasks.items():
        names = Counter(trial.variant for trial in trials if trial.task == task)
        yield f"  {task}: {count} ({', '.join(f'{name} {times}' for name, times in names.items())})"
    yield from _cost(trials, history, limit_usd) if paid else ["cost: nothing, since no model is asked"]
    times = [history.seconds(trial.task, trial.variant) for trial in trials]
    known = [time for time in times if time is not None]
    if len(known) < len(times) or not times:
        yield "time: no earlier trials to tell from"
        return
    yield f"time: about {seconds(1000 * wall_seconds(known, concurrency))}"
    yield from _basis(trials, history)


def _cost(trials: Sequence[Planned], history: History, limit_usd: float | None) -> Iterator[str]:
    costs = [history.cost_usd(trial.task, trial.variant) for trial in trials]
    known = [number for number in costs if number is not None]
    limit = (
        "no limit (--max-cost none)"
        if limit_usd is None
        else f"the limit is {limit_usd:.2f} USD (--max-cost)"
    )
    if len(known) < len(costs) or not costs:
        yield f"cost: no earlier trials to tell from; {limit}"
        return
    total = sum(known)
    yield f"cost: about {total:.2f} USD; {limit}"
    if limit_usd is not None and total > limit_usd:
        yield "  that is more than the limit: the last trials will be skipped"


def _basis(trials: Sequence[Planned], history: History) -> Iterator[str]:
    yield f"as {history.trials} earlier trials tell"
    new = sorted({trial.task for trial in trials if not history.knows(trial.task)})
    if new:
        yield f"  never run before, taken to be like the others: {', '.join(new)}"
