"""`/files`: reading and writing a sandbox's files in chunks.

Every file is opened inside the sandbox, and read or written through that descriptor. The server never opens a path of
a sandbox itself.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import posixpath
import re
import stat
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from email.utils import formatdate

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from harness.local.api_errors import ApiError, bad_request
from harness.local.boxes.box import Box
from harness.local.client_text import parse_count
from harness.local.envd.users import PathError, User

_CHUNK_BYTES = 1 << 18
_INLINE_BYTES = 1 << 14
"""Up to this size reading or writing a cached file is cheaper than handing it to a thread."""

_METADATA_HEADER = "x-metadata-"
_METADATA_ATTRIBUTE = "user.e2b."
_MAX_UNSIZED_BYTES = 16 << 20

_MAX_METADATA_KEY = 246
_MAX_METADATA_BYTES = 4096
"""E2B's limits, which are those of file systems. The prefix of each key counts."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EINVAL, errno.EPERM, errno.EACCES, errno.EFBIG, errno.EBUSY)
"""Errors of writing that a file itself makes, such as those of /proc; not the machine."""


@dataclass(frozen=True)
class _PartHead:
    """The head of one part of a multipart body. Its bytes follow."""

    name: str
    filename: str


class _Sink:
    """A file in a sandbox that is open for writing."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._written = 0

    @classmethod
    async def open(cls, box: Box, user: User, path: str, metadata: Mapping[str, str]) -> _Sink:
        """Open an empty file with the client's metadata as extended attributes. Raises `ApiError`."""
        sink = cls(path, await open_to_write(box, user, path))
        try:
            if not box.has_accounts:  # E2B's watchers tell of its chown, and here there was none
                with suppress(PermissionError):
                    os.fchmod(sink._fd, stat.S_IMODE(os.fstat(sink._fd).st_mode))
            if metadata:  # what the file had before has gone with its content
                await box.files.set_metadata(sink._fd, metadata)
        except OSError as error:
            sink.close()
            raise write_error("error setting metadata", error) from error
        except BaseException:
            sink.close()
            raise
        return sink

    async def write(self, data: bytes) -> None:
        """Append bytes. Raises `ApiError`, 507 if the disk is full."""
        try:
            if len(data) <= _INLINE_BYTES:
                write_all(self._fd, data)
            else:
                await asyncio.to_thread(write_all, self._fd, data)
        except OSError as error:
            raise write_error(f"error writing file after {self._written} bytes", error) from error
        self._written += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


async def read_file(request: Request, box: Box, user: User) -> Response:
    """Answer `GET /files?path=` with a file or one range of it, gzipped for clients that accept only gzip.

    Raises `ApiError`: 404 if there is no such file, 400 for a directory, 416 for a range outside of the file.
    """
    path = _query_path(request, user)
    fd = await open_to_read(box, path)
    handed_over = False
    try:
        status = os.fstat(fd)
        headers = {
            "content-type": mimetypes.guess_type(path)[0] or "application/octet-stream",
            "last-modified": formatdate(status.st_mtime, usegmt=True),
            "accept-ranges": "bytes",
            "vary": "Accept-Encoding",
        }
        size = status.st_size
        if size == 0:
            fd, size = await _copy_unsized(fd, path)
        start, end = _parse_range(request, size)
        whole = end - start == size
        if not whole:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        chunks = _read_chunks(fd, start, end)
        if whole and request.headers.get("accept-encoding", "").strip().lower() == "gzip":
            headers["content-encoding"] = "gzip"
            chunks = _gzip(chunks)
        else:
            headers["content-length"] = str(end - start)
        handed_over = True
        return StreamingResponse(chunks, status_code=200 if whole else 206, headers=headers)
    finally:
        if not handed_over:
            os.close(fd)


async def write_files(request: Request, box: Box, user: User) -> Response:
    """Answer `POST /files?path=`: write the body (octet-stream), or the files in it (multipart).

    Missing directories are made. Raises `ApiError`: 400 for a directory or a malformed body, 507 on a full disk.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    metadata = _read_metadata(request)
    async with aclosing(_read_body(request)) as body:
        if kind == b"application/octet-stream":
            written = [await _write_whole(box, user, _query_path(request, user), body, metadata)]
        elif kind.startswith(b"multipart/"):
            parts = _read_parts(body, options.get(b"boundary", b""))
            written = await _write_parts(
                box, user, parts, lambda head: _part_path(request, user, head), metadata
            )
        else:
            raise bad_request(
                f"unsupported content type: {kind.decode('latin-1')}, "
                "expected multipart/form-data or application/octet-stream"
            )
    return JSONResponse([entry_json(path, metadata) for path in written])


def _query_path(request: Request, user: User) -> str:
    path = request.query_params.get("path")
    if not path:
        raise bad_request("path query parameter is required")
    return resolve_path(path, user)


def resolve_path(path: str, user: User) -> str:
    """Return the absolute path that a path means for a user. Raises `ApiError` 400."""
    try:
        return user.resolve(path)
    except PathError as error:
        raise bad_request(f"error resolving path: {error}") from error


def entry_json(path: str, metadata: Mapping[str, str]) -> dict[str, object]:
    """Return a written file as E2B describes it."""
    entry: dict[str, object] = {"path": path, "name": posixpath.basename(path), "type": "file"}
    return {**entry, "metadata": dict(metadata)} if metadata else entry


async def open_to_read(box: Box, path: str) -> int:
    """Open a file. Raises `ApiError`."""
    try:
        return await box.files.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ApiError(404, f"path '{path}' does not exist") from error
    except IsADirectoryError as error:
        raise bad_request(f"path '{path}' is a directory") from error
    except OSError as error:
        raise _open_error(f"error opening file '{path}'", error) from error


def _open_error(doing: str, error: OSError) -> ApiError:
    """Return the reply for the other errors of open: special files, circular links, missing permissions."""
    status = 400 if error.errno in (errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO) else 403
    return ApiError(status, f"{doing}: {error.strerror or error}")


async def _copy_unsized(fd: int, path: str) -> tuple[int, int]:
    """Return a descriptor of a copy of the content, and its size, for a file that reports a size of 0.

    Those of /proc do, whatever they contain. A file that is empty is returned as it is.
    """
    try:
        copy, size = await asyncio.to_thread(_copy_to_memory, fd)
    except OSError as error:
        raise bad_request(f"error reading file '{path}': {error.strerror or error}") from error
    if size > _MAX_UNSIZED_BYTES:
        os.close(copy)
        raise bad_request(
            f"'{path}' tells no size and has more than {_MAX_UNSIZED_BYTES} bytes: read it with a command"
        )
    os.close(fd)
    return copy, size


def _copy_to_memory(fd: int) -> tuple[int, int]:
    copy, size = os.memfd_create("unsized", os.MFD_CLOEXEC), 0
    try:
        while size <= _MAX_UNSIZED_BYTES and (data := os.read(fd, _CHUNK_BYTES)):
            write_all(copy, data)
            size += len(data)
    except BaseException:
        os.close(copy)
        raise
    return copy, size


def _parse_range(request: Request, size: int) -> tuple[int, int]:
    """Return the requested half-open range of bytes; the whole file unless exactly one range is requested."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if not match or match[0] == "bytes=-":
        return 0, size
    first, last = match.groups()
    if first:
        start, end = parse_count(first), min(size, parse_count(last) + 1) if last else size
    else:
        start, end = max(0, size - parse_count(last)), size
    if start >= end:
        raise ApiError(416, f"invalid range: the file has {size} bytes")
    return start, end


async def _read_chunks(fd: int, start: int, end: int) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an open file, and close it. A file that is truncated meanwhile ends early."""
    try:
        while start < end:
            size = min(_CHUNK_BYTES, end - start)
            inline = size <= _INLINE_BYTES
            data = os.pread(fd, size, start) if inline else await asyncio.to_thread(os.pread, fd, size, start)
            if not data:
                return
            yield data
            start += len(data)
    finally:
        os.close(fd)


async def _gzip(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    packer = zlib.compressobj(level=1, wbits=31)
    async with aclosing(chunks):
        async for chunk in chunks:
            if packed := packer.compress(chunk):
                yield packed
    yield packer.flush()


async def _read_body(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the request's body, decompressed if it is gzipped. Raises `ApiError` 400 if that fails."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip"):
        raise bad_request(f"unsupported Content-Encoding: {encoding}")
    unpacker = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    async for chunk in request.stream():
        if unpacker is None:
            yield chunk
            continue
        while chunk:
            try:
                yield unpacker.decompress(chunk, _CHUNK_BYTES)
            except zlib.error as error:
                raise bad_request(f"error decompressing request body: {error}") from error
            chunk = unpacker.unconsumed_tail
    if unpacker is not None and not unpacker.eof:
        raise bad_request("error decompressing request body: it ends too early")


async def open_to_write(box: Box, user: User, path: str) -> int:
    """Open an empty file, in folders that are made if they are missing. Raises `ApiError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return await box.files.open(path, flags, 0o644, parents=True, user=user.name)
    except IsADirectoryError as error:
        raise bad_request(f"path is a directory: {path}") from error
    except (NotADirectoryError, FileExistsError) as error:
        raise bad_request(f"error ensuring directories: a file is in the way of {path}") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise write_error("error opening file", error) from error
        raise _open_error("error opening file", error) from error


def write_error(doing: str, error: OSError) -> ApiError:
    """Return the reply for an error of writing."""
    if error.errno == errno.ENOTSUP:
        return ApiError(501, f"{doing}: the file system of this path keeps none")
    if error.errno in _NO_SPACE:
        return ApiError(507, f"{doing}: not enough disk space available")
    status = 400 if error.errno in _REFUSED else 500
    return ApiError(status, f"{doing}: {error.strerror or error}")


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes to a file."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def _write_whole(
    box: Box, user: User, path: str, body: AsyncIterator[bytes], metadata: Mapping[str, str]
) -> str:
    sink = await _Sink.open(box, user, path, metadata)
    try:
        async for chunk in body:
            await sink.write(chunk)
    finally:
        sink.close()
    return path


async def _write_parts(
    box: Box,
    user: User,
    parts: AsyncIterator[_PartHead | bytes],
    path_of: Callable[[_PartHead], str],
    metadata: Mapping[str, str],
) -> list[str]:
    """Write each file of a form as it arrives. Parts that are not files are ignored."""
    written: list[str] = []
    sink: _Sink | None = None
    try:
        async for item in parts:
            if isinstance(item, bytes):
                if sink:
                    await sink.write(item)
                continue
            if sink:
                sink.close()
                sink = None
            if item.name == "file":
                path = path_of(item)
                if path in written:
                    raise bad_request(
                        f"you cannot upload multiple files to the same path '{path}' in one request"
                    )
                sink = await _Sink.open(box, user, path, metadata)
                written.append(path)
    finally:
        if sink:
            sink.close()
    return written


def _part_path(request: Request, user: User, head: _PartHead) -> str:
    """Return the path for a file of a form: the query's, or else the file's own name."""
    path = request.query_params.get("path") or head.filename
    if not path:
        raise bad_request("a file of the form has no name, and the query names no path")
    return resolve_path(path, user)


async def _read_parts(body: AsyncIterator[bytes], boundary: bytes) -> AsyncGenerator[_PartHead | bytes, None]:
    """Yield the parts of a multipart body: each one's head, then its bytes. Raises `ApiError` 400."""
    reader = _PartReader(boundary)
    async for chunk in body:
        for item in reader.feed(chunk):
            yield item
    if not reader.complete:
        raise bad_request("error reading form: it ends too early")


class _PartReader:
    """Turns the parser's callbacks into a sequence of heads and bytes."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise bad_request("error parsing multipart form: no multipart boundary param in Content-Type")
        self.complete = False
        self._items: list[_PartHead | bytes] = []
        self._header: list[bytes] = [b"", b""]
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_begin,
                    "on_header_field": lambda data, start, end: self._on_header(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._on_header(1, data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._items.append(bytes(data[start:end])),
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise bad_request(f"error parsing multipart form: {error}") from error

    def feed(self, chunk: bytes) -> list[_PartHead | bytes]:
        """Parse more of the body. Returns the heads and bytes in it."""
        self._items = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise bad_request(f"error reading form: {error}") from error
        return self._items

    def _on_begin(self) -> None:
        self._disposition = b""

    def _on_header(self, half: int, data: bytes) -> None:
        self._header[half] += data

    def _on_header_end(self) -> None:
        field, value = self._header
        if field.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name, filename = (options.get(key, b"").decode("utf-8", "replace") for key in (b"name", b"filename"))
        self._items.append(_PartHead(name, filename))

    def _on_end(self) -> None:
        self.complete = True


def _read_metadata(request: Request) -> dict[str, str]:
    """Return the metadata for the files sent: one header for each key. Raises `ApiError` 400."""
    metadata: dict[str, str] = {}
    for name, value in request.headers.items():
        if key := name.removeprefix(_METADATA_HEADER) if name.startswith(_METADATA_HEADER) else "":
            metadata.setdefault(key, value)
    for key, value in metadata.items():
        if not all(" " <= letter <= "~" for letter in key + value):
            raise bad_request(f"metadata '{key!a}': keys and values must be printable ASCII")
        if len(key) > _MAX_METADATA_KEY:
            raise bad_request(f"metadata '{key[:40]}...': a key has at most {_MAX_METADATA_KEY} bytes")
    size = sum(len(_METADATA_ATTRIBUTE + key + value) for key, value in metadata.items())
    if size > _MAX_METADATA_BYTES:
        raise bad_request(f"metadata takes {size} bytes, and a file has room for {_MAX_METADATA_BYTES}")
    return metadata
