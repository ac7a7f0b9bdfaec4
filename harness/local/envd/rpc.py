"""What the two RPC services have in common: whose call it is, how long it may take, and how an error is said."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.codec import Codec, proto_binary_codec, proto_json_codec
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from harness.local.boxes.box import Box
from harness.local.boxes.types import BoxDied
from harness.local.envd.channel import Channel, DeadlineError, LostError
from harness.local.envd.users import PathError, User, UserError, find_user, user_in_header

Context = RequestContext[Any, Any]
T = TypeVar("T")
R = TypeVar("R")

_KEEP_ALIVE_SECONDS = 90.0
"""How often envd says that a silent stream lives, where the client does not name an interval."""

_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.ENOTDIR: Code.INVALID_ARGUMENT,
    errno.EISDIR: Code.INVALID_ARGUMENT,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.ELOOP: Code.FAILED_PRECONDITION,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
}


def find_caller(box: Box, context: Context) -> User:
    """The user that the call is made as."""
    try:
        return find_user(box, user_in_header(context.request_headers.get("authorization")))
    except UserError as error:
        raise ConnectError(Code.UNAUTHENTICATED, str(error)) from error


def resolve_path(user: User, path: str) -> str:
    """The absolute path that the caller means."""
    try:
        return user.resolve(path)
    except PathError as error:
        raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error


def timeout_s(context: Context) -> float | None:
    """How many seconds the client gives this call; None for as long as it takes."""
    remaining = context.timeout_ms
    return None if remaining is None or remaining <= 0 else remaining / 1000


def keep_alive_s(context: Context) -> float:
    """After how many seconds of silence a stream must show that it lives."""
    try:
        seconds = float(context.request_headers.get("keepalive-ping-interval") or _KEEP_ALIVE_SECONDS)
    except ValueError:
        return _KEEP_ALIVE_SECONDS
    return seconds if 0 < seconds < float("inf") else _KEEP_ALIVE_SECONDS


async def read_channel(channel: Channel[T], context: Context) -> AsyncGenerator[T | None, None]:
    """What comes through a channel, None being a sign of life; its failures in the protocol's words."""
    try:
        async with aclosing(channel.items(keep_alive_s(context))) as items:
            async for item in items:
                yield item
    except DeadlineError as error:
        raise ConnectError(Code.DEADLINE_EXCEEDED, str(error)) from error
    except LostError as error:
        raise ConnectError(Code.UNAVAILABLE, str(error)) from error


class _Codec:
    """A codec that says of a message it cannot read that the client's argument is wrong."""

    def __init__(self, codec: Codec[Any, Any]) -> None:
        self._codec = codec

    def name(self) -> str:
        """What the content type calls it."""
        return self._codec.name()

    def encode(self, message: Any) -> bytes:
        """From a message to bytes."""
        return self._codec.encode(message)

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        """From bytes to a message."""
        try:
            return self._codec.decode(data, message_class)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ConnectError(Code.INVALID_ARGUMENT, f"the message cannot be read: {error}") from error


CODECS = (_Codec(proto_json_codec()), _Codec(proto_binary_codec()))
"""JSON, as the SDKs speak it, and protobuf's own form."""


class LostSandboxInterceptor:
    """An interceptor: a call that finds its sandbox dead says so in words on which the SDK asks for its health."""

    async def intercept_unary(
        self, call_next: Callable[[T, Context], Awaitable[R]], request: T, ctx: Context
    ) -> R:
        """Calls with one request and one reply."""
        with _map_box_died():
            return await call_next(request, ctx)

    async def intercept_client_stream(
        self,
        call_next: Callable[[AsyncIterator[T], Context], Awaitable[R]],
        request: AsyncIterator[T],
        ctx: Context,
    ) -> R:
        """Calls with a stream of requests."""
        with _map_box_died():
            return await call_next(request, ctx)

    async def intercept_server_stream(
        self, call_next: Callable[[T, Context], AsyncGenerator[R, None]], request: T, ctx: Context
    ) -> AsyncGenerator[R, None]:
        """Calls with a stream of replies."""
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
    """The reply to a call that the sandbox's file system refused."""
    return ConnectError(
        _CODES.get(error.errno or 0, Code.INTERNAL), f"error {doing}: {error.strerror or error}"
    )
