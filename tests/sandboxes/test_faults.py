"""Whose fault it was, and what is done about it, is the type's business; no error of the SDK is without one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping

import e2b
import httpx
import pytest
from e2b import exceptions

from harness.errors import Problem, ProblemsError, UsageError
from harness.sandboxes.faults import KIND_BY_ERROR, raising_faults, to_fault

# What the SDK exports and no call of ours can raise as a fault.
ELSEWHERE: Mapping[str, str] = {
    "CommandExitException": "a command's exit code is a result, not a fault",
}


def exported(*modules: object) -> dict[str, type[BaseException]]:
    """The exception classes that can be reached from modules."""
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and not name.startswith("_")
    }


# The SDK's errors


@pytest.mark.parametrize("name", sorted(exported(exceptions, e2b)))
def test_every_error_of_the_sdk_has_a_policy_of_its_own(name: str) -> None:
    """A new one in a new SDK is a decision to be made here: add it to `harness.sandboxes.faults.KIND_BY_ERROR`."""
    kind = exported(exceptions, e2b)[name]
    assert kind in KIND_BY_ERROR or name in ELSEWHERE, (
        f"harness.sandboxes.faults.KIND_BY_ERROR has no entry for {name}"
    )


def test_what_is_left_out_is_still_there() -> None:
    """Else its reason is stale."""
    assert set(ELSEWHERE) <= set(exported(exceptions, e2b))


@pytest.mark.parametrize(
    ("error", "kind", "retry", "fatal"),
    [
        (exceptions.AuthenticationException("401: no such key"), "auth", False, True),
        (exceptions.RateLimitException("429"), "rate_limit", True, False),
        (exceptions.ServiceBusyException("503"), "busy", True, False),
        (exceptions.SandboxNotFoundException("it is gone"), "sandbox_gone", True, False),
        (exceptions.SandboxNotRunningException("it is gone"), "sandbox_gone", True, False),
        (exceptions.NotFoundException("no such thing"), "not_found", False, False),
        (exceptions.FileNotFoundException("no such file"), "file_not_found", False, False),
        (exceptions.TimeoutException("too long"), "timeout", True, False),
        (exceptions.NotEnoughSpaceException("507"), "disk_full", False, False),
        (exceptions.InvalidArgumentException("400"), "invalid_request", False, False),
        (exceptions.TemplateException("old template"), "template", False, False),
        (exceptions.BuildException("it broke"), "build", False, False),
        (e2b.DockerfileSyntaxError("line 1"), "template", False, False),
        (exceptions.SandboxException("500", status_code=500), "sandbox", True, False),
        (exceptions.SandboxException("who knows"), "sandbox", True, False),
        (exceptions.SandboxException("400: timeout too long", status_code=400), "sandbox", False, False),
        (httpx.ConnectError("refused"), "connection", True, False),
        (httpx.ReadTimeout("silence"), "connection", True, False),
        (httpx.RemoteProtocolError("peer closed"), "connection", True, False),
        (httpx.InvalidURL("what"), "connection", False, True),
        (TimeoutError("ours"), "timeout", True, False),
        (ConnectionResetError("reset"), "connection", True, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_an_error_means(error: BaseException, kind: str, retry: bool, fatal: bool) -> None:
    """Its kind for the record, whether a fresh sandbox may help, and whether every other trial would meet it."""
    fault = to_fault(error, "create a sandbox")
    assert fault is not None
    assert (fault.kind, fault.retry, fault.fatal) == (kind, retry, fatal)
    assert fault.cause == "sandbox"
    assert fault.message.startswith("create a sandbox: ")


def test_a_subclass_goes_by_its_nearest_kin() -> None:
    """An error that a later SDK derives from a known one is treated like it."""

    class BrandNew(exceptions.RateLimitException):
        pass

    fault = to_fault(BrandNew("slow down"), "x")
    assert fault
    assert fault.kind == "rate_limit"


def test_an_unknown_error_of_the_sdk_is_the_sandboxs() -> None:
    """What the SDK lets through from its inside (its protocol's own errors) is no defect of ours."""
    inside = type("StrangeError", (Exception,), {"__module__": "e2b.somewhere.new"})
    fault = to_fault(inside("odd"), "x")
    assert fault
    assert (fault.kind, fault.retry) == ("protocol", True)


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), RuntimeError("x"), KeyboardInterrupt()], ids=repr
)
def test_an_error_of_ours_is_no_fault(error: BaseException) -> None:
    """A defect must not hide behind the sandbox."""
    assert to_fault(error, "x") is None


def test_a_fault_says_what_was_being_done() -> None:
    """On one line, with the remedy on its own; an error without words is told by its name."""
    fault = to_fault(exceptions.AuthenticationException("401:\n  bad key"), "create a sandbox")
    assert str(fault).splitlines() == [
        "create a sandbox: 401: bad key",
        "  check E2B_API_KEY (and E2B_DOMAIN, E2B_API_URL)",
    ]
    silent = to_fault(TimeoutError(), "read a file")
    assert silent
    assert silent.message == "read a file: TimeoutError"


# The tree


def test_errors_show_their_remedy() -> None:
    """Below what is wrong."""
    assert str(UsageError("it is wrong", remedy="do it right")) == "it is wrong\n  do it right"
    assert str(UsageError("it is wrong")) == "it is wrong"


def test_problems_are_told_together() -> None:
    """One a line: where, what, and what would be right."""
    error = ProblemsError(
        "task 'a' cannot be used:",
        [Problem("task.toml", "timeout", "is wrong", "give seconds"), Problem("prompt.md", None, "is empty")],
    )
    assert str(error).splitlines() == [
        "task 'a' cannot be used:",
        "  task.toml: timeout: is wrong (give seconds)",
        "  prompt.md: is empty",
    ]
    assert len(error.problems) == 2
    assert isinstance(error, UsageError)


@pytest.mark.parametrize("made_of_it", [None, exceptions.SandboxException("Request was cancelled")])
def test_a_cancellation_counts_whatever_the_sdk_makes_of_it(made_of_it: Exception | None) -> None:
    """The SDK drops one, or makes an error of it: a time limit around the call still ends it."""

    async def call() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as cancelled:
            if made_of_it:
                raise made_of_it from cancelled

    async def story() -> None:
        async with asyncio.timeout(0):
            with raising_faults("call"):
                await call()

    with pytest.raises(TimeoutError):
        asyncio.run(story())
