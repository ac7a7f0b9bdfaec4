"""Common parts of the two RPC services: the calling user, timeouts, and error replies."""

from __future__ import annotations

import errno
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.codec import Codec, proto_binary_codec, proto_json_codec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from harness.local.boxes.box import Box
from harness.local.boxes.types import BoxDied
from harness.local.client_text import MAX_DEPTH, nests_too_deeply
from harness.local.envd.channel import Channel, DeadlineError, LostError
from harness.local.envd.users import PathError, User, UserError, find_user, user_in_header

Context = RequestContext[Any, Any]
T = TypeVar("T")
R = TypeVar("R")

_KEEP_ALIVE_SECONDS = 90.0
"""envd's interval for keep-alive messages on a silent stream, if the client does not set one."""

_LONGEST_KEEP_ALIVE_SECONDS = 3600.0

# All others are FAILED_PRECONDITION: what the sandbox's files do not allow is no fault of the server.
_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.ENOTDIR: Code.INVALID_ARGUMENT,
    errno.EISDIR: Code.INVALID_ARGUMENT,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
}


def find_caller(box: Box, context: Context) -> User:
    """Return the user that makes the call."""
    try:
        return find_user(box, user_in_header(context.request_headers.get("authorization")))
    except UserError as error:
        raise ConnectError(Code.UNAUTHENTICATED, str(error)) from error


def resolve_path(user: User, path: str) -> str:
    """Return the absolute path that a path means for the caller."""
    try:
        return user.resolve(path)
    except PathError as error:
        raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error


def timeout_s(context: Context) -> float | None:
    """Return the client's timeout for this call in seconds; None if there is none."""
    remaining = context.timeout_ms
    return None if remaining is None or remaining <= 0 else remaining / 1000


def keep_alive_s(context: Context) -> float:
    """Return the interval of keep-alive messages on a silent stream in seconds."""
    try:
        seconds = float(context.request_headers.get("keepalive-ping-interval") or _KEEP_ALIVE_SECONDS)
    except ValueError:
        return _KEEP_ALIVE_SECONDS
    return min(seconds, _LONGEST_KEEP_ALIVE_SECONDS) if seconds > 0 else _KEEP_ALIVE_SECONDS


async def read_channel(channel: Channel[T], context: Context) -> AsyncGenerator[T | None, None]:
    """Yield the items of a channel, and None as a keep-alive. Failures become errors of the protocol."""
    try:
        async with aclosing(channel.items(keep_alive_s(context))) as items:
            async for item in items:
                yield item
    except DeadlineError as error:
        raise ConnectError(Code.DEADLINE_EXCEEDED, str(error)) from error
    except LostError as error:
        raise ConnectError(Code.UNAVAILABLE, str(error)) from error


class _Codec:
    """A codec that reports an unreadable message as an invalid argument."""

    def __init__(self, codec: Codec[Any, Any]) -> None:
        self._codec = codec

    def name(self) -> str:
        """Return the codec's name in the content type."""
        return self._codec.name()

    def encode(self, message: Any) -> bytes:
        """Encode a message."""
        return self._codec.encode(message)

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        """Decode a message. Raises ConnectError."""
        if self.name() == "json" and nests_too_deeply(data):
            message = f"the message cannot be read: nested more than {MAX_DEPTH} deep"
            raise ConnectError(Code.INVALID_ARGUMENT, message)
        try:
            return self._codec.decode(data, message_class)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ConnectError(Code.INVALID_ARGUMENT, f"the message cannot be read: {error}") from error


CODECS = (_Codec(proto_json_codec()), _Codec(proto_binary_codec()))
"""JSON, which the SDKs use, and protobuf's binary form."""


class _Gzip(GzipCompression):
    """gzip that reports what it cannot decompress as an invalid argument."""

    def decompress(self, data: bytes | bytearray | memoryview, read_max_bytes: int | None = None) -> bytes:
        """Decompress a message. Raises ConnectError."""
        try:
            return super().decompress(data, read_max_bytes)
        except (zlib.error, EOFError) as error:
            raise ConnectError(
                Code.INVALID_ARGUMENT, f"the message cannot be decompressed: {error}"
            ) from error


COMPRESSIONS = (_Gzip(),)


class LostSandboxInterceptor:
    """An interceptor that maps the death of the sandbox to an error after which the SDK checks its health."""

    async def intercept_unary(
        self, call_next: Callable[[T, Context], Awaitable[R]], request: T, ctx: Context
    ) -> R:
        """Intercept calls with one request and one reply."""
        with _map_box_died():
            return await call_next(request, ctx)

    async def intercept_client_stream(
        self,
        call_next: Callable[[AsyncIterator[T], Context], Awaitable[R]],
        request: AsyncIterator[T],
        ctx: Context,
    ) -> R:
        """Intercept calls with a stream of requests."""
        with _map_box_died():
            return await call_next(request, ctx)

    async def intercept_server_stream(
        self, call_next: Callable[[T, Context], AsyncGenerator[R, None]], request: T, ctx: Context
    ) -> AsyncGenerator[R, None]:
        """Intercept calls with a stream of replies."""
        with _map_box_died():
            async with aclosing(call_next(request, ctx)) as replies:
                async for reply in replies:
                    yield reply


@contextmanager
def _map_box_died() -> Iterator[None]:
    try:
        yield
    except BoxDied as error:
        message = "the connection to the sandbox ended before the call completed"
        raise ConnectError(Code.UNAVAILABLE, message) from error


def to_connect_error(doing: str, error: OSError) -> ConnectError:
    """Map an error of the sandbox's file system to an error of the protocol."""
    return ConnectError(
        _CODES.get(error.errno or 0, Code.FAILED_PRECONDITION), f"error {doing}: {error.strerror or error}"
    )
