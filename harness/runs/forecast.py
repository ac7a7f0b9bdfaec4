"""`--plan`: the trials of a run, what they can find, and the cost and time that earlier ones foretell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.records.history import History, wall_seconds
from harness.report.formatting import plural, seconds


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
    sizes = f"{plural(len(tasks), 'task')}, {plural(len(variants), 'variant')}"
    yield f"plan: {plural(len(trials), 'trial')} ({sizes}), {concurrency} at once"
    for task, count in tasks.items():
        names = Counter(trial.variant for trial in trials if trial.task == task)
        yield f"  {task}: {count} ({', '.join(f'{name} {times}' for name, times in names.items())})"
    yield from _cost(trials, history, limit_usd) if paid else ["cost: nothing, since no model is asked"]
    if len(variants) > 1:
        yield from _what_it_finds(trials, history)
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


def _what_it_finds(trials: Sequence[Planned], history: History) -> Iterator[str]:
    """The smallest difference that this design finds, and others of other cost; of two variants."""
    # NumPy and SciPy take half a second to load, and only this needs them.
    from harness.stats.frontier import frontier

    tasks = list(dict.fromkeys(trial.task for trial in trials))
    variants = list(dict.fromkeys(trial.variant for trial in trials))
    each = max(1, round(len(trials) / len(tasks) / len(variants)))
    seen = history.passes(tasks)
    found = frontier(len(tasks), each, seen or None)
    basis = (
        f"as {len(seen)} of its tasks passed before" if seen else "if its tasks pass in 50 to 95% of trials"
    )
    yield f"finds on these tasks, in 80 of 100 runs, {basis}, two variants compared:"
    costs = [history.cost_usd(task, variant) for task in tasks for variant in variants[:2]]
    one_round = sum(cost for cost in costs if cost is not None) if None not in costs else None
    for design in found.designs:
        price = (
            f"{design.trials * one_round:.2f} USD" if one_round else f"{design.trials * len(costs)} trials"
        )
        size = f"{design.points:.0f} points" if design.points else "no difference below 100 points"
        yield f"  {price}: {size} ({design.trials} {'trial' if design.trials == 1 else 'trials'} of each task)"
    if (here := found.at(each)) is None or here > 50:
        yield f"  this run of {each} cannot find even 50 points: more trials are needed, or more tasks"
    yield (
        f"on tasks like these: twice the tasks find {found.more_tasks:.0f} points, twice the trials "
        f"{found.more_trials:.0f}, if tasks differ by 15 points in what a variant does to them: "
        f"more {'tasks' if found.more_tasks < found.more_trials else 'trials'} are the cheaper way"
        if found.more_tasks and found.more_trials
        else "on tasks like these: no verdict with fewer than 6 tasks; more tasks are the only way"
    )


def cannot_find(tasks: int, trials: int, *, looking: bool) -> str | None:
    """The sentence that a run of two variants cannot find even 50 points, None if it can.

    With `looking` (--until-decided) the trials are the most that there may be.
    """
    from harness.stats.data import RoundsPlan
    from harness.stats.frontier import is_found
    from harness.stats.sequential import level_at

    if is_found(tasks, trials, 50, level_at(RoundsPlan(trials), trials) if looking else 0.95):
        return None
    design = f"{plural(tasks, 'task')} with {plural(trials, 'trial')} of each"
    who = "even the last look" if looking else "this run"
    return f"{who} cannot find 50 points with {design}: more trials are needed, or more tasks"
