"""Sandboxes are asked for at a rate that the platform can bear; in simulated time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from harness.errors import SandboxFault
from harness.sandboxes.pacing import MAX_WAIT_S, SLOWEST, Pacer
from tests.support.virtual_time import simulate

TOO_MANY = SandboxFault("rate_limit", "too many")


def now() -> float:
    return asyncio.get_running_loop().time()


class Platform:
    """Notes when it was asked, and refuses as it is told."""

    def __init__(self, refuse: Callable[[float], bool] = lambda at: False) -> None:
        self.refuse = refuse
        self.asked: list[float] = []
        self.made: list[float] = []

    async def make(self, after_rate_limit: bool) -> int:
        self.asked.append(now())
        await asyncio.sleep(0.05)
        if self.refuse(self.asked[-1]):
            raise TOO_MANY
        self.made.append(now())
        return len(self.made)


async def create_all(pacer: Pacer, make: Callable[[bool], Awaitable[int]], count: int) -> None:
    await asyncio.gather(*(pacer.create(make) for _ in range(count)))


def test_creations_keep_to_their_rate() -> None:
    """`--create-rate 5` asks for five sandboxes a second, however many trials wait."""
    platform = Platform()
    simulate(create_all(Pacer(5), platform.make, 100))
    gaps = [b - a for a, b in zip(platform.asked, platform.asked[1:], strict=False)]
    assert min(gaps) == pytest.approx(0.2)
    assert max(gaps) == pytest.approx(0.2)


def test_without_a_rate_nobody_waits() -> None:
    """All are asked for at once."""
    platform = Platform()
    simulate(create_all(Pacer(), platform.make, 1000))
    assert set(platform.asked) == {0.0}


def test_a_refusal_slows_all_down_and_success_speeds_up_again() -> None:
    """A platform that is overrun for a minute is asked seldom meanwhile, and at full speed some time after."""
    platform = Platform(refuse=lambda at: 10 <= at < 70)
    pacer = Pacer(5, draw=lambda: 0.5)
    simulate(create_all(pacer, platform.make, 400))
    assert len(platform.made) == 400
    assert sum(10.5 <= at < 70 for at in platform.asked) < 20
    assert pacer.rate == 5
    last = platform.asked[-50:]
    assert last[-1] - last[0] == pytest.approx(49 / 5)


def test_refusals_of_one_moment_count_once() -> None:
    """Twenty that were under way together say the same thing."""
    refused = iter([True] * 20)
    pacer = Pacer(100, draw=lambda: 0.5)
    platform = Platform(refuse=lambda at: next(refused, False))

    async def story() -> float:
        creating = asyncio.ensure_future(create_all(pacer, platform.make, 20))
        await asyncio.sleep(0.5)
        rate = pacer.rate
        await creating
        return rate

    # 0.05 s after the first was asked for its refusal came; those asked for later than that count once more.
    assert simulate(story()) in (16, 8)
    assert len(platform.made) == 20


def test_a_limit_of_sandboxes_at_once_is_waited_out() -> None:
    """A plan of 20 sandboxes with 100 trials: 429 until one ends; all come in the end, none is a fault."""
    running: set[int] = set()

    async def trial(pacer: Pacer, number: int) -> None:
        async def make(after_rate_limit: bool) -> None:
            if len(running) >= 20:
                raise TOO_MANY
            running.add(number)

        await pacer.create(make)
        await asyncio.sleep(30)
        running.discard(number)

    async def story() -> float:
        pacer = Pacer()
        await asyncio.gather(*(trial(pacer, number) for number in range(100)))
        return now()

    assert simulate(story()) < 2.5 * 5 * 30


def test_patience_ends() -> None:
    """A platform that refuses for ever makes a fault, which says why."""
    platform = Platform(refuse=lambda at: True)
    pacer = Pacer()

    async def story() -> float:
        with pytest.raises(SandboxFault, match="too many"):
            await pacer.create(platform.make)
        return now()

    assert MAX_WAIT_S <= simulate(story()) < MAX_WAIT_S + 60
    assert pacer.rate == SLOWEST


def test_other_faults_are_not_its_business() -> None:
    """They go to whoever decides on a new attempt."""

    async def make(after_rate_limit: bool) -> None:
        raise SandboxFault("unreachable", "no answer")

    with pytest.raises(SandboxFault, match="no answer"):
        simulate(Pacer().create(make))


def test_whoever_asks_again_is_told_so() -> None:
    """So that it does as the refusal says: Retry-After is the SDK's to read."""
    told: list[bool] = []

    async def make(after_rate_limit: bool) -> None:
        told.append(after_rate_limit)
        if len(told) < 3:
            raise TOO_MANY

    simulate(Pacer().create(make))
    assert told == [False, True, True]


@pytest.mark.parametrize(("drawn", "share"), [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_each_refusal_in_a_row_makes_all_wait_twice_as_long(drawn: float, share: float) -> None:
    """A second, two, four, ... and at most half a minute, each half to one and a half times as long."""
    refused = iter([True] * 8)
    platform = Platform(refuse=lambda at: next(refused, False))
    simulate(create_all(Pacer(draw=lambda: drawn), platform.make, 1))
    # A refusal takes 0.05 s; at the slowest rate the next is due 10 s after the last.
    waits = [b - a - 0.05 for a, b in zip(platform.asked, platform.asked[1:], strict=False)]
    assert waits == pytest.approx([share * pause for pause in (1, 2, 4, 8, 16, 30, 30, 30)])


def test_a_sandbox_that_comes_ends_the_row_of_refusals() -> None:
    """The next refusal waits a second again, and whoever asks then has not been refused."""
    answers = iter([True, True, False, True, False])
    platform = Platform(refuse=lambda at: next(answers))

    async def story() -> None:
        pacer = Pacer(draw=lambda: 0.5)
        await pacer.create(platform.make)
        await asyncio.sleep(100)
        await pacer.create(platform.make)

    simulate(story())
    *_, third, again, last = platform.asked
    assert again - third > 100
    assert last - again == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("limit", "rates"),
    [
        (10.0, [5.0, 6.0, 7.2, 8.64, 10.0, 10.0]),
        (100.0, [16.0, 19.2, 23.04, 27.648, 100.0, 100.0]),
        (None, [16.0, 19.2, 23.04, 27.648, math.inf, math.inf]),
        (0.15, [0.1, 0.12, 0.144, 0.15, 0.15, 0.15]),
    ],
)
def test_a_refusal_halves_the_rate_and_each_sandbox_gives_a_fifth_back(
    limit: float | None, rates: list[float]
) -> None:
    """Down to the slowest, and up to the one that was set; what was never bounded is halved from 32 a second."""
    refused = iter([True])
    found: list[float] = []

    async def story() -> None:
        pacer = Pacer(limit, draw=lambda: 0.5)

        async def make(again: bool) -> None:
            if again:
                found.append(pacer.rate)
            if next(refused, False):
                raise TOO_MANY

        await pacer.create(make)
        for _ in rates[1:]:
            found.append(pacer.rate)
            await pacer.create(make)

    simulate(story())
    assert found == pytest.approx(rates)


def test_a_refusal_of_what_was_asked_for_before_the_last_one_says_nothing_new() -> None:
    """Two under way when the first is refused: the second's refusal, later, neither halves nor waits again."""
    rates: list[float] = []

    async def story() -> None:
        pacer = Pacer(32, draw=lambda: 0.5)
        takes = iter([0.5, 1.0])

        async def make(again: bool) -> None:
            if (late := next(takes, None)) is None:
                rates.append(pacer.rate)
                return
            await asyncio.sleep(late)
            raise TOO_MANY

        await asyncio.gather(pacer.create(make), pacer.create(make))

    simulate(story())
    assert rates[0] == 16


def test_a_refusal_never_makes_the_next_come_sooner() -> None:
    """At one in ten seconds, the second that a first refusal waits is over before the next turn."""
    refused = iter([True])
    platform = Platform(refuse=lambda at: next(refused, False))
    simulate(create_all(Pacer(0.1, draw=lambda: 0.5), platform.make, 1))
    assert platform.asked == [0.0, pytest.approx(10.0)]
