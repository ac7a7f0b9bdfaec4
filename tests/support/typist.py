"""A terminal for commands that want one."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

PATIENCE = 60.0


class Typist:
    """Types to a command of `harness`, which has a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.screen = b""
        self.seen = 0
        self.ours, theirs = pty.openpty()
        code = f"import sys; from harness.cli import program; sys.argv[1:] = {list(arguments)!r}; program()"
        command = [sys.executable, "-c", code]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)

    def until(self, words: bytes) -> None:
        """Wait for words on the screen, behind those that were waited for before."""
        end = time.monotonic() + PATIENCE
        while (place := self.screen.find(words, self.seen)) < 0:
            ready, _, _ = select.select([self.ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{words!r} did not come: {self.screen!r}"
            self.screen += os.read(self.ours, 65536)
        self.seen = place + len(words)

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def end(self) -> int:
        code = self.process.wait(PATIENCE)
        os.close(self.ours)
        return code
