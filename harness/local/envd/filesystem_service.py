"""The RPC service for files and directories, `filesystem.Filesystem`. File contents go through `files.py`."""

from __future__ import annotations

import asyncio
import posixpath
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing, suppress
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem import filesystem_pb as pb
from e2b.envd.filesystem.filesystem_connect import Filesystem as FilesystemProtocol
from protobuf import Oneof
from protobuf.wkt import Timestamp

from harness.local.boxes.box import Box
from harness.local.boxes.process import Watch
from harness.local.boxes.types import BoxDied, FileEntry, WatchEvent
from harness.local.envd import rpc
from harness.local.envd.channel import Channel, LostError

_MAX_POLLED_EVENTS = 100_000
"""The most events of a polled watcher, so that a client which never polls cannot fill the server's memory."""

_EVENTS = {
    "create": pb.EventType.CREATE,
    "write": pb.EventType.WRITE,
    "remove": pb.EventType.REMOVE,
    "rename": pb.EventType.RENAME,
    "chmod": pb.EventType.CHMOD,
}


class FilesystemService(FilesystemProtocol):
    """envd's service for the files of one sandbox."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._watchers: dict[str, _PolledWatcher] = {}
        self._channels: set[Channel[pb.FilesystemEvent]] = set()

    def fail_streams(self) -> None:
        """End the streams of all clients with an error, because the sandbox is dead or frozen."""
        for channel in self._channels:
            channel.fail(LostError("the connection to the sandbox ended while it was watched"))
        for watcher in self._watchers.values():
            watcher.release()

    async def stat(self, request: pb.StatRequest, ctx: rpc.Context) -> pb.StatResponse:
        """Describe the file or directory at a path."""
        path = self._resolve(request.path, ctx)
        try:
            return pb.StatResponse(entry=_encode_entry(await self._box.files.stat(path)))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConnectError(Code.NOT_FOUND, f"file not found: {path}") from error
        except OSError as error:
            raise rpc.to_connect_error("getting file info", error) from error

    async def list_dir(self, request: pb.ListDirRequest, ctx: rpc.Context) -> pb.ListDirResponse:
        """List a directory, `depth` levels deep (1 by default)."""
        path = self._resolve(request.path, ctx)
        try:
            entries = await self._box.files.list(path, request.depth or 1)
        except NotADirectoryError as error:
            raise ConnectError(Code.INVALID_ARGUMENT, f"path is not a directory: {path}") from error
        except FileNotFoundError as error:
            raise ConnectError(Code.NOT_FOUND, f"path not found: {path}") from error
        except OSError as error:
            raise rpc.to_connect_error(f"reading directory {path}", error) from error
        return pb.ListDirResponse(entries=[_encode_entry(entry) for entry in entries])

    async def make_dir(self, request: pb.MakeDirRequest, ctx: rpc.Context) -> pb.MakeDirResponse:
        """Make a directory and the missing ones above it."""
        path = self._resolve(request.path, ctx)
        try:
            made = await self._box.files.make_dir(path, rpc.find_caller(self._box, ctx).name)
            entry = await self._box.files.stat(path)
        except (FileExistsError, NotADirectoryError) as error:
            message = f"path already exists but it is not a directory: {path}"
            raise ConnectError(Code.INVALID_ARGUMENT, message) from error
        except OSError as error:
            raise rpc.to_connect_error(f"creating directory {path}", error) from error
        if not made:
            raise ConnectError(Code.ALREADY_EXISTS, f"directory already exists: {path}")
        return pb.MakeDirResponse(entry=_encode_entry(entry))

    async def move(self, request: pb.MoveRequest, ctx: rpc.Context) -> pb.MoveResponse:
        """Rename a file or directory. Missing directories above the destination are made."""
        source = self._resolve(request.source, ctx)
        destination = self._resolve(request.destination, ctx)
        user = rpc.find_caller(self._box, ctx).name
        try:
            return pb.MoveResponse(entry=_encode_entry(await self._box.files.move(source, destination, user)))
        except FileNotFoundError as error:
            raise ConnectError(Code.NOT_FOUND, f"source file not found: {source}") from error
        except OSError as error:
            raise rpc.to_connect_error(f"renaming {source}", error) from error

    async def remove(self, request: pb.RemoveRequest, ctx: rpc.Context) -> pb.RemoveResponse:
        """Remove a file or a whole directory. A missing one is no error, as on E2B."""
        path = self._resolve(request.path, ctx)
        try:
            await self._box.files.remove(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise rpc.to_connect_error("removing file or directory", error) from error
        return pb.RemoveResponse()

    async def watch_dir(
        self, request: pb.WatchDirRequest, ctx: rpc.Context
    ) -> AsyncIterator[pb.WatchDirResponse]:
        """Stream the changes in a directory, beginning with a start event."""
        path = self._resolve(request.path, ctx)
        changes = await self._watch(path, request.recursive)
        channel: Channel[pb.FilesystemEvent] = Channel()
        if (seconds := rpc.timeout_s(ctx)) is not None:
            channel.fail_after(seconds)
        feeding = asyncio.create_task(self._feed(changes, path, request.include_entry, channel))
        self._channels.add(channel)
        try:
            yield _response("start", pb.WatchDirResponse.StartEvent())
            watched = rpc.read_channel(channel, ctx)
            async with aclosing(watched):
                async for event in watched:
                    yield _encode_event(event)
        finally:
            self._channels.discard(channel)
            channel.close_reader()
            feeding.cancel()

    async def create_watcher(
        self, request: pb.CreateWatcherRequest, ctx: rpc.Context
    ) -> pb.CreateWatcherResponse:
        """Collect the changes in a directory until the client polls."""
        path = self._resolve(request.path, ctx)
        changes = await self._watch(path, request.recursive)
        watcher_id = "w" + secrets.token_hex(10)
        events = self._watch_events(changes, path, request.include_entry)
        self._watchers[watcher_id] = _PolledWatcher(changes, events)
        return pb.CreateWatcherResponse(watcher_id=watcher_id)

    async def get_watcher_events(
        self, request: pb.GetWatcherEventsRequest, ctx: rpc.Context
    ) -> pb.GetWatcherEventsResponse:
        """Return the changes since the client last polled, all of those before this call."""
        return pb.GetWatcherEventsResponse(events=await self._watcher(request.watcher_id).take())

    async def remove_watcher(
        self, request: pb.RemoveWatcherRequest, ctx: rpc.Context
    ) -> pb.RemoveWatcherResponse:
        """Stop collecting changes."""
        self._watcher(request.watcher_id).stop()
        del self._watchers[request.watcher_id]
        return pb.RemoveWatcherResponse()

    def _watcher(self, watcher_id: str) -> _PolledWatcher:
        try:
            return self._watchers[watcher_id]
        except KeyError:
            raise ConnectError(Code.NOT_FOUND, f"watcher with id {watcher_id} not found") from None

    def _resolve(self, path: str, ctx: rpc.Context) -> str:
        return rpc.resolve_path(rpc.find_caller(self._box, ctx), path)

    async def _watch(self, path: str, recursive: bool) -> Watch:
        """Watch a directory. Every change after this returns is reported."""
        try:
            return await self._box.files.watch(path, recursive)
        except FileNotFoundError as error:
            raise ConnectError(Code.NOT_FOUND, f"path {path} not found") from error
        except NotADirectoryError as error:
            raise ConnectError(Code.INVALID_ARGUMENT, f"path {path} not a directory") from error
        except OSError as error:
            raise rpc.to_connect_error(f"watching {path}", error) from error

    async def _feed(
        self,
        changes: Watch,
        path: str,
        include_entry: bool,
        channel: Channel[pb.FilesystemEvent],
    ) -> None:
        # A watch that ends before its client ends it has lost its sandbox.
        with suppress(BoxDied):
            async with aclosing(self._watch_events(changes, path, include_entry)) as events:
                async for event in events:
                    await channel.put(event)
        channel.fail(LostError("the connection to the sandbox ended while it was watched"))

    async def _watch_events(
        self, changes: Watch, path: str, include_entry: bool
    ) -> AsyncGenerator[pb.FilesystemEvent, None]:
        with closing(changes):
            try:
                async for change in changes:
                    if change.kind != "overflow":  # E2B's protocol has no such event
                        yield await self._make_event(change, path, include_entry)
            except (ValueError, KeyError, TypeError) as error:
                raise BoxDied("what watches in the sandbox makes no sense any more") from error

    async def _make_event(self, change: WatchEvent, path: str, include_entry: bool) -> pb.FilesystemEvent:
        entry = await self._stat_if_there(posixpath.join(path, change.name)) if include_entry else None
        return pb.FilesystemEvent(name=_text(change.name), type=_EVENTS[change.kind], entry=entry)

    async def _stat_if_there(self, path: str) -> pb.EntryInfo | None:
        try:
            return _encode_entry(await self._box.files.stat(path))
        except OSError:
            return None  # it has been removed or renamed


class _PolledWatcher:
    """Changes that wait until their client polls."""

    def __init__(self, changes: Watch, events: AsyncGenerator[pb.FilesystemEvent, None]) -> None:
        self._changes = changes
        self._events: list[pb.FilesystemEvent] = []
        self._overflowed = False
        self._task = asyncio.create_task(self._collect(events))

    async def take(self) -> list[pb.FilesystemEvent]:
        """Return the changes since the last poll. Raises ConnectError if some were lost."""
        await self._changes.sync()
        events, self._events = self._events, []
        if self._overflowed:
            self._overflowed = False
            raise ConnectError(Code.ABORTED, f"watcher error: more than {_MAX_POLLED_EVENTS} events waited")
        return events

    def release(self) -> None:
        """Let polls return with what has come."""
        self._changes.release()

    def stop(self) -> None:
        self._task.cancel()

    async def _collect(self, events: AsyncGenerator[pb.FilesystemEvent, None]) -> None:
        with suppress(BoxDied):  # later polls report it
            async with aclosing(events):
                async for event in events:
                    if len(self._events) < _MAX_POLLED_EVENTS:
                        self._events.append(event)
                    else:
                        self._overflowed = True


def _encode_event(event: pb.FilesystemEvent | None) -> pb.WatchDirResponse:
    if event is None:
        return _response("keepalive", pb.WatchDirResponse.KeepAlive())
    return _response("filesystem", event)


def _response(kind: str, content: Any) -> pb.WatchDirResponse:
    # The type of a oneof lists its field names as literals, so a variable does not type-check.
    one: Any = Oneof(kind, content)
    return pb.WatchDirResponse(event=one)


def _encode_entry(entry: FileEntry) -> pb.EntryInfo:
    """Encode an entry. For a link E2B sends the target's type and mode, and a flag that it is a link."""
    return pb.EntryInfo(
        name=_text(entry.name),
        type=_type(entry.mode if entry.target_mode is None else entry.target_mode),
        path=_text(entry.path),
        size=entry.size,
        mode=(entry.mode if entry.target_mode is None else entry.target_mode) & 0o777,
        permissions=_permissions(entry.mode),
        owner=entry.owner,
        group=entry.group,
        modified_time=Timestamp.from_nanos(entry.mtime_ns),
        symlink_target=None if entry.target is None else _text(entry.target),
        metadata=dict(entry.metadata),
        is_symlink=entry.is_symlink,
    )


def _text(name: str) -> str:
    """Replace bytes that are not UTF-8, which file names may contain but the protocol may not."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _type(mode: int) -> pb.FileType:
    if stat.S_ISDIR(mode):
        return pb.FileType.DIRECTORY
    if stat.S_ISLNK(mode):
        return pb.FileType.SYMLINK
    return pb.FileType.FILE if stat.S_ISREG(mode) else pb.FileType.UNSPECIFIED


_GO_KINDS = {
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "L",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "S",
    stat.S_IFBLK: "D",
    stat.S_IFCHR: "Dc",
}


def _permissions(mode: int) -> str:
    """Format a mode as Go does, which has other letters than ls, and puts them all before the nine of `rwx`."""
    kind = _GO_KINDS.get(stat.S_IFMT(mode), "")
    bits = (("u", stat.S_ISUID), ("g", stat.S_ISGID), ("t", stat.S_ISVTX))
    marks = kind + "".join(letter for letter, bit in bits if mode & bit)
    return (marks or "-") + stat.filemode(stat.S_IFREG | mode & 0o777)[1:]
