"""What a reply's parts become on their way to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Send

from harness.local.envd.coalesce import coalesce

HEAD: Message = {"type": "http.response.start", "status": 200, "headers": []}


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Client:
    """Takes messages, each when it is `ready`."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[Message] = asyncio.Queue()
        self.ready = asyncio.Event()
        self.ready.set()

    async def take(self, message: Message) -> None:
        await self.ready.wait()
        self.got.put_nowait(message)

    def bodies(self) -> list[bytes]:
        messages = [self.got.get_nowait() for _ in range(self.got.qsize())]
        return [message["body"] for message in messages if message["type"] == "http.response.body"]


def with_client(story: Callable[[Client, Send], Awaitable[None]]) -> None:
    async def run() -> None:
        client = Client()
        async with coalesce(client.take) as send:
            await story(client, send)

    asyncio.run(run())


def test_parts_that_follow_at_once_go_together() -> None:
    async def story(client: Client, send: Send) -> None:
        await send(HEAD)
        await send(part(b"begun "))
        await send(part(b"said "))
        await send(part(b"ended", more=False))
        assert client.got.get_nowait() == HEAD
        assert client.got.get_nowait() == part(b"begun said ended", more=False)
        assert client.got.empty()

    with_client(story)


def test_a_part_goes_by_itself_when_nothing_follows() -> None:
    async def story(client: Client, send: Send) -> None:
        await send(HEAD)
        await send(part(b"begun"))
        assert await client.got.get() == HEAD
        assert await client.got.get() == part(b"begun")
        await send(part(b"said"))
        assert await client.got.get() == part(b"said")

    with_client(story)


def test_much_waits_for_nothing() -> None:
    async def story(client: Client, send: Send) -> None:
        await send(HEAD)
        await send(part(b"a little "))
        await send(part(b"much" * 10_000))
        assert client.bodies() == [b"a little " + b"much" * 10_000]

    with_client(story)


def test_a_slow_client_gets_all_in_order_and_is_waited_for() -> None:
    words = [b"%d " % n * 2_000 for n in range(40)]

    async def story(client: Client, send: Send) -> None:
        async def send_all() -> None:
            for message in (HEAD, *map(part, words), part(b"end", more=False)):
                await send(message)

        client.ready.clear()
        sending = asyncio.create_task(send_all())
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert not sending.done()
        client.ready.set()
        await sending
        assert b"".join(client.bodies()) == b"".join(words) + b"end"

    with_client(story)


def test_what_failed_on_its_way_is_told_with_the_next() -> None:
    async def run() -> None:
        tried = asyncio.Event()

        async def take(message: Message) -> None:
            if not tried.is_set():
                tried.set()
                raise RuntimeError("the reply is closed")

        async with coalesce(take) as send:
            await send(part(b"begun"))
            await tried.wait()
            with pytest.raises(RuntimeError, match="the reply is closed"):
                await send(part(b"end", more=False))

    asyncio.run(run())


def test_what_was_not_finished_is_not_sent() -> None:
    async def run() -> None:
        client = Client()
        async with coalesce(client.take) as send:
            await send(HEAD)
        assert client.got.empty()

    asyncio.run(run())
