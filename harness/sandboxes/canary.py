"""The canary: a sandbox that may reach nothing, and tries. It tells whether the engine enforces the network."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from harness.sandboxes.platform import Network

Run = Callable[[str], Awaitable[str]]
"""Runs a command in a sandbox, and returns what it printed."""
Opened = Callable[[Network], AbstractAsyncContextManager[Run]]
"""Opens a sandbox that may reach what it is given."""
_PUBLIC = "1.1.1.1:80"
"""A public address that answers everybody, for engines that do not run on this machine."""


@dataclass
class Canary:
    """A listener on this machine's loopback that answers with a word, and keeps the headers that it was sent."""

    word: str = field(default_factory=lambda: secrets.token_hex(8))
    heard: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def where(self) -> str:
        """Its address and port."""
        return f"127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Canary]:
        """While this is open."""
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(10):
                self.heard.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                body = self.word.encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                    % (len(body), body)
                )
                await writer.drain()
        writer.close()


@dataclass(frozen=True)
class Enforcement:
    """The enforcement of a sandbox's network: whether there is one (None: unknown), and how that was seen."""

    answer: bool | None
    said: str


async def try_network(opened: Opened, *, is_here: bool) -> Enforcement:
    """Try it by a sandbox that may reach nothing, and one that may: they have to differ.

    `is_here`: the engine runs on this machine, and can be given a way to this machine's loopback.
    """
    async with Canary().listening() as canary:
        where = canary.where if is_here else _PUBLIC
        heard = canary if is_here else None
        async with opened(Network()) as run:
            if await reaches(run, where, heard):
                said = f"a sandbox with allow_internet_access=False reached {where}"
                return Enforcement(False, said)
        async with opened(Network(allow=(where,)) if is_here else Network(open=True)) as run:
            can = await reaches(run, where, heard)
    if not can:
        return Enforcement(None, f"{where} was reached by no sandbox, allowed or not")
    return Enforcement(True, f"{where} is reached where it is allowed, and not where nothing is")


async def reaches(run: Run, where: str, canary: Canary | None) -> bool:
    """True if a sandbox gets an answer from an address: the canary's word, or of anybody."""
    host, _, port = where.partition(":")
    script = (
        f"exec 3<>/dev/tcp/{host}/{port} && printf 'GET / HTTP/1.1\\r\\nHost: {where}\\r\\n"
        "Connection: close\\r\\n\\r\\n' >&3 && cat <&3"
    )
    # Straight, and by the proxy that the engine may have told it of.
    said = await run(
        f'timeout 8 bash -c "{script}" 2>/dev/null || curl -s -i -m 8 http://{where}/ 2>/dev/null || true'
    )
    return canary.word in said if canary else said.startswith("HTTP/1")
