"""`POST /files/compose`: several files of a sandbox become one, in their order. The sources go."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress

from starlette.responses import JSONResponse, Response

from harness.local.api_errors import bad_request
from harness.local.boxes.box import Box
from harness.local.control.body import Body
from harness.local.envd.files import (
    entry_json,
    open_to_read,
    open_to_write,
    resolve_path,
    write_all,
    write_error,
)
from harness.local.envd.users import User


async def compose_files(body: Body, box: Box, user: User) -> Response:
    """Answer the request. Raises `ApiError`: 400 for a bad request, 404 for a missing source, 507 on a full disk."""
    sources = body.strings("source_paths")
    destination = body.string("destination")
    if not sources:
        raise bad_request("source_paths must not be empty")
    if not destination:
        raise bad_request("destination is required")
    target = resolve_path(destination, user)
    paths = [resolve_path(source, user) for source in sources]
    if target in paths:
        raise bad_request(f"source path '{target}' cannot be the same as destination")
    unfinished = f"{target}.e2b-compose.{secrets.token_hex(8)}.tmp"
    try:
        await _concatenate(box, user, paths, unfinished)
        await box.files.move(unfinished, target)
    except OSError as error:
        raise write_error("error finalizing compose", error) from error
    finally:
        with suppress(OSError):
            await box.files.remove(unfinished)  # it is there only after a failure
    for path in paths:
        with suppress(OSError):
            await box.files.remove(path)
    return JSONResponse(entry_json(target, {}))


async def _concatenate(box: Box, user: User, sources: list[str], target: str) -> None:
    out = await open_to_write(box, user, target)
    try:
        for source in sources:
            fd = await open_to_read(box, source)
            try:
                await asyncio.to_thread(_append, fd, out, source)
            except OSError as error:
                raise write_error(f"error composing source {source}", error) from error
            finally:
                os.close(fd)
    finally:
        os.close(out)


def _append(fd: int, out: int, source: str) -> None:
    while True:
        try:
            data = os.read(fd, 1 << 20)  # sendfile(2) does not know files of /proc
        except OSError as error:
            raise bad_request(f"error reading source {source}: {error.strerror}") from error
        if not data:
            return
        write_all(out, data)
