"""The call that creates a sandbox: none is left over, and a refusal says what it means."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from typing import Any

from e2b import AsyncSandbox, exceptions

from harness.errors import SandboxFault
from harness.sandboxes.faults import raising_faults

_KILL_WHEN_CREATED_S = 20.0


async def create(seconds: float, template: str, **options: Any) -> AsyncSandbox:
    """Create a sandbox within `seconds`. One that is created too late is killed at once."""
    creating = asyncio.create_task(AsyncSandbox.create(template, **options))
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(creating)
    except (asyncio.CancelledError, TimeoutError):
        await asyncio.shield(_kill_when_created(creating))
        raise


async def _kill_when_created(creating: asyncio.Task[Any]) -> None:
    """Kill a sandbox that is still being created. After a cancelled request it would live until its timeout."""
    await asyncio.wait([creating], timeout=_KILL_WHEN_CREATED_S)
    if creating.done() and not creating.exception():
        with contextlib.suppress(SandboxFault), raising_faults("kill the sandbox"):
            await creating.result().kill()
    creating.cancel()


def create_error(error: Exception, template: str) -> SandboxFault | None:
    """The fault that a refusal to create means: no such template, or an engine that is too old; None: another thing.

    The SDK has no error of its own for the first: some servers' replies come as NotFoundException, E2B's do not. An
    engine that does not know the route answers 404 or 405, and says nothing of a template.
    """
    status = 404 if isinstance(error, exceptions.NotFoundException) else _status_of(error)
    if status not in (404, 405):
        return None
    words = str(error)
    if status == 404 and ("template" in words.lower() or template.partition(":")[0] in words):
        return SandboxFault(
            "template",
            f"there is no template {template!r}: {words}",
            remedy="`claude` and `base` are always there; check the task's [sandbox] template",
        )
    return SandboxFault("api_level", f"the engine has no POST /v2/sandboxes ({status}): {words}")


def _status_of(error: Exception) -> int | None:
    """The HTTP status behind an error of the SDK; also where its reply had no form that the SDK can read."""
    found = getattr(error, "status_code", None)
    for frame, _ in traceback.walk_tb(error.__traceback__) if found is None else ():
        found = getattr(frame.f_locals.get("response"), "status_code", found)
    return found if isinstance(found, int) else None
