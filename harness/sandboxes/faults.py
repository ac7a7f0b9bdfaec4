"""The errors of the `e2b` SDK and of the network under it, as faults."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Iterator, Mapping

import e2b
import httpx
from e2b import exceptions

from harness.errors import GIVE_UP, FaultPolicy, SandboxFault

KIND_BY_ERROR: Mapping[type[BaseException], str] = {
    exceptions.AuthenticationException: "auth",
    exceptions.GitAuthException: "git_auth",
    exceptions.GitUpstreamException: "git",
    exceptions.InvalidArgumentException: "invalid_request",
    exceptions.NotEnoughSpaceException: "disk_full",
    exceptions.FileNotFoundException: "file_not_found",
    exceptions.SandboxNotFoundException: "sandbox_gone",
    exceptions.SandboxNotRunningException: "sandbox_gone",
    exceptions.SandboxUnreachableException: "unreachable",
    exceptions.NotFoundException: "not_found",
    exceptions.TimeoutException: "timeout",
    exceptions.TemplateException: "template",
    exceptions.RateLimitException: "rate_limit",
    exceptions.ServiceBusyException: "busy",
    exceptions.GuestUnresponsiveException: "unresponsive",
    e2b.DockerfileSyntaxError: "template",
    exceptions.BuildException: "build",
    exceptions.FileUploadException: "upload",
    exceptions.VolumeException: "volume",
    exceptions.VolumeNotFoundException: "volume",
    exceptions.VolumePathNotFoundException: "volume",
    exceptions.SecretException: "secret",
    exceptions.SecretNotFoundException: "secret",
    exceptions.SandboxException: "sandbox",
    httpx.HTTPError: "connection",
    httpx.InvalidURL: "connection",
    TimeoutError: "timeout",
    OSError: "connection",
}

OF_CONTENT = frozenset({"disk_full", "file_not_found", "invalid_request"})
"""Kinds that what is in a sandbox brings about, while the sandbox is there and answers."""

_POLICY_BY_ERROR: Mapping[type[BaseException], FaultPolicy] = {
    e2b.DockerfileSyntaxError: FaultPolicy(remedy="mend the template's Dockerfile"),
    httpx.InvalidURL: FaultPolicy(fatal=True, remedy="check E2B_API_URL and E2B_SANDBOX_URL"),
}
"""Errors with another policy than the rest of their kind."""


def to_fault(error: BaseException, doing: str) -> SandboxFault | None:
    """The fault that an error of the SDK means; None for an error that is not the SDK's or the network's."""
    nearest = next((type_ for type_ in type(error).__mro__ if type_ in KIND_BY_ERROR), None)
    if nearest is None and not (_is_of_sdk(type(error).__module__) or _was_raised_in_sdk(error)):
        return None
    kind = KIND_BY_ERROR[nearest] if nearest else "protocol"
    policy = _POLICY_BY_ERROR.get(nearest) if nearest else None
    status = getattr(error, "status_code", None)
    if kind == "sandbox" and isinstance(status, int) and 400 <= status < 500:
        policy = GIVE_UP  # a request that is rejected would be rejected again
    message = " ".join(str(error).split()) or type(error).__name__
    return SandboxFault(kind, f"{doing}: {message}", policy=policy)


def _is_of_sdk(module: str) -> bool:
    return module.split(".")[0] in {"e2b", "pyqwest", "connectrpc"}


def _was_raised_in_sdk(error: BaseException) -> bool:
    """True for an error that passed through the SDK's code. A reply of unknown form makes it raise a KeyError, say."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(_is_of_sdk(frame.f_globals.get("__name__", "")) for frame, _ in frames)


@contextlib.contextmanager
def raising_faults(doing: str) -> Iterator[None]:
    """Turn the errors of a block into SandboxFault; `doing` says in its message what could not be done.

    A cancellation that came to the block's task ends it, whatever the SDK makes of it. Its `asyncio.wait_for` drops
    one that comes together with the answer (Python 3.11), and its RPC client can make an error of one; a time limit
    around the block would then never end it.

    Raises:
        SandboxFault: for an error of the SDK or of the network.
        asyncio.CancelledError: when the task was cancelled meanwhile.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except Exception as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from error
        fault = to_fault(error, doing)
        if fault is None:
            raise
        raise fault from error
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
