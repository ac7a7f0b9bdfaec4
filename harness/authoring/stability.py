"""The trial of a check's stability: the same verdict on the same work each time, in each order of checks, and alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.authoring.findings import Finding
from harness.records.record_parts import CheckResult
from harness.tasks.task import Check

GIVEN, ALONE, AGAIN = "in the order given", "alone", "a second time in one sandbox"
_CONFIRMATIONS = 8
"""How often a verdict that has changed is asked for again, in its own order and in the order given."""

Judge = Callable[[Sequence[Check], int], Awaitable[list[tuple[CheckResult, ...]]]]
"""Has checks judge one work in this order in a fresh sandbox, so many times in it."""


@dataclass
class CheckVerdicts:
    """The verdicts of each check on one work, by the way in which it was asked."""

    by_check: dict[str, dict[str, list[bool]]] = field(default_factory=dict)
    orders: dict[str, tuple[Check, ...]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def add(self, how: str, order: Sequence[Check], results: Sequence[CheckResult]) -> None:
        """Count the results of one run."""
        self.orders.setdefault(how, tuple(order))
        for result in results:
            self.by_check.setdefault(result.name, {}).setdefault(how, []).append(result.passed)
            if not result.passed:
                self.words.setdefault(result.name, result.output_tail)

    def runs(self) -> int:
        """The number of runs of the check that ran least."""
        counts = [sum(map(len, verdicts.values())) for verdicts in self.by_check.values()]
        return min(counts, default=0)

    def changing(self) -> Iterator[tuple[str, str]]:
        """Checks that did not say the same each time, each with a way of asking in which it failed."""
        for name, verdicts in self.by_check.items():
            said = [passed for found in verdicts.values() for passed in found]
            if any(said) and not all(said):
                failed = [how for how, found in verdicts.items() if not all(found)]
                yield name, min(failed, key=lambda how: (how == AGAIN, not how.startswith(ALONE)))


def orders_of(checks: Sequence[Check], count: int, seed: str) -> Iterator[tuple[str, tuple[Check, ...]]]:
    """So many ways to ask: every other one in the order given, the others from the last to the first, then mixed."""
    draw = random.Random(hashlib.sha256(seed.encode()).digest())
    for number in range(count):
        if number % 2 == 0 or len(checks) < 2:
            yield GIVEN, tuple(checks)
        elif number == 1:
            yield "from the last to the first", tuple(reversed(checks))
        else:
            order = list(checks)
            draw.shuffle(order)
            yield f"in the order {', '.join(check.name for check in order)}", tuple(order)


async def run_twice(judge: Judge, verdicts: CheckVerdicts, how: str, order: Sequence[Check]) -> None:
    """Run checks in an order, twice in one sandbox; the second time tells less, since the first has left things."""
    first, *second = await judge(order, 2)
    verdicts.add(how, order, first)
    for results in second:
        verdicts.add(AGAIN, order, results)


async def findings_of(
    judge: Judge, verdicts: CheckVerdicts, runs: Callable[..., Awaitable[object]]
) -> list[Finding]:
    """Name the checks whose verdict changes, and tell chance from order: each is asked again as it failed.

    `runs` waits for several at once.
    """
    found = []
    for name, how in list(verdicts.changing()):
        order = verdicts.orders[GIVEN] if how == AGAIN else verdicts.orders[how]

        async def once(how: str, order: Sequence[Check]) -> None:
            for results in await judge(order, 1):
                verdicts.add(how, order, results)

        given = verdicts.orders[GIVEN]
        again = [once(GIVEN if how == AGAIN else how, order) for _ in range(_CONFIRMATIONS)]
        await runs(*again, *(once(GIVEN, given) for _ in range(_CONFIRMATIONS // 2)))
        finding = _finding(name, how, verdicts)
        if finding:
            found.append(finding)
    return found


def _finding(name: str, how: str, verdicts: CheckVerdicts) -> Finding | None:
    said = {way: found for way, found in verdicts.by_check[name].items() if way != AGAIN}
    passed, asked = sum(map(sum, said.values())), sum(map(len, said.values()))
    if all(all(found) for found in said.values()):
        return None  # Only what it has left itself makes it fail, and a trial asks once.
    if any(any(found) and not all(found) for found in said.values()):
        what = f"check {name} says now this, now that of the same work: it passed {passed} of {asked} times"
        return Finding("flaky_check", what, "find what it depends on: time, chance, a race", check=name)
    shown = ALONE if how.startswith(ALONE) else how
    what = f"check {name} depends on the other checks: it fails when it is run {shown}"
    remedy = "let it make itself what it needs, and clean up what it leaves"
    return Finding("order_dependent", what, remedy, check=name)
