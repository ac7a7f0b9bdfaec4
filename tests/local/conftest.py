"""One local server for all tests of this folder, and a fresh sandbox on it for those that want one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from e2b import AsyncSandbox

from harness.local.launch import LocalServer, start_server

T = TypeVar("T")
Story = Callable[[AsyncSandbox], Awaitable[T]]

TIMEOUT_S = 90.0
"""No test waits longer than this for anything; it is a bound for what hangs, not a measure of speed."""


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    with start_server() as server:
        yield server
        log = server.log_tail()
    assert not log, f"the server logged unexpected errors:\n{log}"


@pytest.fixture(scope="session")
def api(server: LocalServer) -> dict[str, str]:
    """The SDK's options for this server."""
    return {"api_key": server.api_key, "api_url": server.url, "sandbox_url": server.url}


@pytest.fixture
def in_sandbox(api: dict[str, str]) -> Callable[..., Any]:
    """Runs a story in a fresh sandbox, created with the given options, and kills it afterwards."""

    def run(story: Story[T], **options: Any) -> T:
        async def main() -> T:
            sandbox = await AsyncSandbox.create(**options, **api)
            try:
                return await asyncio.wait_for(story(sandbox), TIMEOUT_S)
            finally:
                await sandbox.kill()

        return asyncio.run(main())

    return run


@pytest.fixture
def with_server() -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Runs a story that makes its own sandboxes."""

    def run(story: Callable[[], Awaitable[T]]) -> T:
        async def main() -> T:
            return await asyncio.wait_for(story(), TIMEOUT_S)

        return asyncio.run(main())

    return run
