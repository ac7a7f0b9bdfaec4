"""The disk's part of many trials, off their loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.trials.disk import DiskExecutor
from tests.support.records import a_record


def with_busy_disk(work: Callable[[DiskExecutor], Awaitable[object]]) -> object:
    """What becomes of work that is given to a disk which is at other work, until all of it waits."""

    async def main() -> object:
        disk, free = DiskExecutor(), threading.Event()
        before = asyncio.create_task(disk.run(free.wait))
        waits = asyncio.ensure_future(work(disk))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        free.set()
        await before
        return await waits

    return asyncio.run(main())


def test_what_waits_is_done_in_order_in_another_thread() -> None:
    """Nothing is overtaken: a trial's files are there before its record."""
    done: list[tuple[int, bool]] = []

    def one(number: int) -> int:
        done.append((number, threading.current_thread() is threading.main_thread()))
        return number

    async def some(disk: DiskExecutor) -> list[int]:
        return await asyncio.gather(*(disk.run(lambda number=number: one(number)) for number in range(5)))

    assert with_busy_disk(some) == [0, 1, 2, 3, 4]
    assert done == [(number, False) for number in range(5)]


def test_a_failure_is_told_to_whom_it_concerns() -> None:
    """The works beside it go on."""

    async def some(disk: DiskExecutor) -> list[object]:
        works: list[Callable[[], object]] = [lambda: 1, lambda: 1 / 0, lambda: 3]
        return await asyncio.gather(*map(disk.run, works), return_exceptions=True)

    first, second, third = with_busy_disk(some)  # type: ignore[misc]  # a list, as gather gives it
    assert (first, type(second), third) == (1, ZeroDivisionError, 3)


def test_work_is_done_though_nobody_waits_any_more() -> None:
    """A trial that is cut off has its record; the disk goes on with the next work."""
    done = []

    async def given_up(disk: DiskExecutor) -> str:
        waiting = asyncio.create_task(disk.run(lambda: done.append("given up")))
        await asyncio.sleep(0)
        waiting.cancel()
        return await disk.run(lambda: "next")

    assert with_busy_disk(given_up) == "next"
    assert done == ["given up"]


def test_records_that_wait_go_together(tmp_path: Path) -> None:
    """To write each by itself, and make it last, would take as long as the disk takes for a thousand."""
    folder = RunFolder.create(tmp_path, "run", {}, NO_REDACTION)

    async def some(disk: DiskExecutor) -> None:
        records = (a_record(run_id="run", index=index) for index in range(1, 101))
        await asyncio.gather(*(disk.run(folder.prepare_append(record)) for record in records))

    before = writes()
    with_busy_disk(some)
    assert len(folder.records_file.read_text().splitlines()) == 100
    assert writes() - before < 20


def writes() -> int:
    """How often this process has written something."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["syscw"])
