"""A terminal in a sandbox."""

from __future__ import annotations

import contextlib

import e2b
from e2b import AsyncSandbox

from harness.sandboxes.faults import raising_faults


class Terminal:
    """A terminal in a sandbox."""

    def __init__(self, sdk: AsyncSandbox, handle: e2b.AsyncCommandHandle) -> None:
        self._sdk, self._handle = sdk, handle

    async def send(self, data: bytes) -> None:
        """Type."""
        with raising_faults("type into the terminal"):
            await self._sdk.pty.send_stdin(self._handle.pid, data)

    async def resize(self, size: tuple[int, int]) -> None:
        """Give it another size, in rows and columns."""
        with raising_faults("resize the terminal"):
            await self._sdk.pty.resize(self._handle.pid, e2b.PtySize(rows=size[0], cols=size[1]))

    async def wait(self) -> None:
        """Wait until its shell has ended, however it did."""
        with raising_faults("follow the terminal"), contextlib.suppress(e2b.CommandExitException):
            await self._handle.wait()
