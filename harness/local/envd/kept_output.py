"""The output of one command, kept from its start, for clients that have lost a part of it.

E2B's envd sends a command's output to whoever listens at that moment, and keeps none. As an extension a command with
HARNESS_KEEP_OUTPUT=1 in its environment is kept here, outside of the sandbox: `connect` gives all of it from the start,
also after the command has ended.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Generic, TypeVar

KEEP_OUTPUT = "HARNESS_KEEP_OUTPUT"
MAX_BYTES = 1 << 30
_IN_MEMORY = 1 << 20
_PIECE = 1 << 16

Name = TypeVar("Name", bound=str)


class KeptOutput(Generic[Name]):
    """Pieces of output in their order, in memory while they are small, else in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - open for as long as this
        self._pieces: list[tuple[Name, int]] = []
        self._size = 0
        self.is_whole = True
        """False once there was more than is kept."""

    def add(self, name: Name, data: bytes) -> None:
        """Add a piece."""
        self.is_whole = self.is_whole and self._size + len(data) <= MAX_BYTES
        if not self.is_whole:
            return
        self._file.seek(self._size)
        self._file.write(data)
        self._size += len(data)
        if self._pieces and self._pieces[-1][0] == name:
            self._pieces[-1] = (name, self._pieces[-1][1] + len(data))
        else:
            self._pieces.append((name, len(data)))

    def read(self) -> Iterator[tuple[Name, bytes]]:
        """All that is there at the moment of the call. More may be added meanwhile."""
        return self._read(tuple(self._pieces))

    def _read(self, pieces: tuple[tuple[Name, int], ...]) -> Iterator[tuple[Name, bytes]]:
        place = 0
        for name, size in pieces:
            end = place + size
            while place < end:
                self._file.seek(place)
                data = self._file.read(min(_PIECE, end - place))
                place += len(data)
                yield name, data
