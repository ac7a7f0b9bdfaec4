"""File calls of a box. Paths are the sandbox's own, as in box.py."""

import os
import socket
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from harness.local.boxes.descriptors import JsonLines
from harness.local.boxes.guest_client import GuestClient
from harness.local.boxes.guest_launch import PathMap
from harness.local.boxes.process import Watch, check_reply
from harness.local.boxes.types import FileEntry


class BoxFiles:
    """File operations inside one sandbox. Its guest does all of them. They raise BoxDied if the sandbox is dead."""

    def __init__(self, client: GuestClient, paths: PathMap, account: int | None) -> None:
        self._client = client
        self._paths = paths
        # It is `user` if all users are one account, whatever this machine or the sandbox calls it.
        self._names = {} if account is None else {1000: "user", 0: "root", account: "user"}

    async def open(
        self,
        path: str,
        flags: int = os.O_RDONLY,
        mode: int = 0o644,
        parents: bool = False,
        user: str = "user",
    ) -> int:
        """Open a regular file inside the sandbox. Returns its descriptor, which the caller closes.

        `parents` makes missing folders. What is made is the user's. Raises OSError: EISDIR for a folder, EINVAL for a
        FIFO, device or socket.
        """

        def receive(_: object, fds: list[int]) -> int:
            (fd,) = fds
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise OSError("the guest handed over something that is no regular file")

        fd: int = await self._client.request(
            "open",
            receive=receive,
            path=self._map_path(path),
            flags=flags,
            mode=mode,
            parents=parents,
            user=user,
        )
        return fd

    async def set_metadata(self, fd: int, values: Mapping[str, str]) -> None:
        """Give an open file this metadata, and no other. Raises OSError."""
        await self._client.request("set_metadata", fds=[fd], values=dict(values))

    async def stat(self, path: str) -> FileEntry:
        """Describe the entry at a path; a link is not followed. Raises OSError."""
        return self._make_entry(await self._client.request("stat", path=self._map_path(path)))

    async def list(self, path: str, depth: int = 1) -> "list[FileEntry]":
        """List the entries below a folder, `depth` levels deep, depth first and by name. Raises OSError."""
        lines = await self._start_helper("list", path=self._map_path(path), depth=depth)
        try:
            found = []
            while "entry" in (reply := await check_reply(lines)):
                found.append(self._make_entry(reply["entry"]))
            return found
        finally:
            lines.close()

    async def make_dir(self, path: str, user: str = "user") -> bool:
        """Make a folder and those above it, for a user. Returns False if it existed. Raises OSError."""
        return bool(await self._client.request("make_dir", path=self._map_path(path), user=user))

    async def move(self, source: str, target: str, user: str = "user") -> FileEntry:
        """Rename an entry. Missing folders above the target are made; the target is replaced as by rename(2).

        Raises OSError.
        """
        paths = {"source": self._map_path(source), "target": self._map_path(target)}
        found = await self._run_helper("move", **paths, user=user)
        return self._make_entry(found)

    async def remove(self, path: str) -> None:
        """Remove a file, or a folder with its content. Raises OSError, FileNotFoundError if nothing is there."""
        await self._run_helper("remove", path=self._map_path(path))

    async def watch(self, path: str, recursive: bool = False) -> Watch:
        """Watch a folder. Every change after this returns is reported. Raises OSError."""
        ours, theirs = (end.detach() for end in socket.socketpair())  # both ways: it answers questions
        lines = await self._start_helper(
            "watch", (ours, theirs), path=self._map_path(path), recursive=recursive
        )
        try:
            await check_reply(lines)
        except BaseException:
            lines.close()
            raise
        return Watch(lines)

    async def disk_usage(self, paths: Iterable[str]) -> int:
        """Return the bytes that the files below some folders take. Raises OSError."""
        return int(await self._run_helper("disk", paths=[self._paths.outside(path) for path in paths]))

    async def _run_helper(self, op: str, **fields: Any) -> Any:
        lines = await self._start_helper(op, **fields)
        try:
            return (await check_reply(lines))["ok"]
        finally:
            lines.close()

    async def _start_helper(self, op: str, ends: tuple[int, int] | None = None, **fields: Any) -> JsonLines:
        """Start a request that may take long in a helper inside. Returns the helper's output."""
        ours, theirs = ends or os.pipe()
        lines = JsonLines(ours)
        try:
            await self._client.request(op, fds=[theirs], **fields)
        except BaseException:
            lines.close()
            raise
        finally:
            os.close(theirs)
        return lines

    def _map_path(self, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path!r}")
        return self._paths.outside(os.path.normpath(path))

    def _make_entry(self, fields: dict[str, Any]) -> FileEntry:
        target, target_mode = fields["target"], fields["target_mode"]
        return FileEntry(
            path=self._paths.inside(str(fields["path"])),
            mode=int(fields["mode"]),
            size=int(fields["size"]),
            owner=self._names.get(int(fields["uid"]), str(fields["owner"])),
            group=self._names.get(int(fields["gid"]), str(fields["group"])),
            mtime_ns=int(fields["mtime_ns"]),
            target=None if target is None else self._paths.inside(str(target)),
            target_mode=None if target_mode is None else int(target_mode),
            metadata={str(key): str(value) for key, value in fields["metadata"].items()},
        )
