"""A shell in a sandbox, on this terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator

from harness.errors import UsageError
from harness.sandboxes.sandbox import Sandbox
from harness.sandboxes.terminal import Terminal

_READ_BYTES = 65536


async def open_shell(sandbox: Sandbox, folder: str) -> None:
    """Have the user work in a folder of a sandbox, until the shell ends.

    Raises:
        UsageError: when this is no terminal.
        SandboxFault: when the sandbox is lost.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("a shell needs a terminal", remedy="call `harness attach` from one, without a pipe")
    output = sys.stdout.fileno()
    async with sandbox.terminal(
        _size(), lambda data: _write(output, data), os.environ.get("TERM"), folder
    ) as terminal:
        with _raw(sys.stdin.fileno()), _typed(terminal), _resized(terminal):
            await terminal.wait()


def _size() -> tuple[int, int]:
    """Rows and columns."""
    size = os.get_terminal_size(sys.stdout.fileno())
    return size.lines, size.columns


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the sandbox, Ctrl-C too."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _typed(terminal: Terminal) -> Iterator[None]:
    """Send typed keys to the terminal, in their order, while this is open."""
    loop, keys = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    stdin = sys.stdin.fileno()

    async def send() -> None:
        while True:
            await terminal.send(await keys.get())

    def read() -> None:
        data = os.read(stdin, _READ_BYTES)
        if not data:
            loop.remove_reader(stdin)
        # The end of a terminal's input is Ctrl-D to the shell.
        keys.put_nowait(data or b"\x04")

    sending = asyncio.create_task(send())
    loop.add_reader(stdin, read)
    try:
        yield
    finally:
        loop.remove_reader(stdin)
        sending.cancel()


@contextlib.contextmanager
def _resized(terminal: Terminal) -> Iterator[None]:
    """The terminal in the sandbox has the window's size."""
    loop, resizing = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def resize() -> None:
        task = asyncio.create_task(terminal.resize(_size()))
        resizing.add(task)
        task.add_done_callback(resizing.discard)

    loop.add_signal_handler(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
