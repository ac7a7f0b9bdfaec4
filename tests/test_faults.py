"""Whose fault it was, and what is done about it, is the type's business; no error of the SDK is without one."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator, Mapping, Sequence

import e2b
import httpx
import pytest
from e2b import exceptions

from harness.budget import NotStartedError
from harness.errors import (
    AgentFault,
    CheckFault,
    Fault,
    HarnessError,
    InternalFault,
    NotAppliedError,
    Problem,
    ProblemsError,
    ProviderFault,
    SandboxFault,
    TaskFault,
    UsageError,
)
from harness.sandbox import FAULTS, fault_of

# What the SDK exports and no call of ours can raise as a fault.
ELSEWHERE: Mapping[str, str] = {
    "CommandExitException": "a command's exit code is a result, not a fault",
}

CAUSES = {
    AgentFault: "agent",
    SandboxFault: "sandbox",
    ProviderFault: "provider",
    CheckFault: "check",
    TaskFault: "task",
    InternalFault: "harness",
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
    """A new one in a new SDK is a decision to be made here: add it to `harness.sandbox.FAULTS`."""
    kind = exported(exceptions, e2b)[name]
    assert kind in FAULTS or name in ELSEWHERE, f"harness.sandbox.FAULTS has no entry for {name}"


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
    fault = fault_of(error, "create a sandbox")
    assert fault is not None
    assert (fault.kind, fault.retry, fault.fatal) == (kind, retry, fatal)
    assert fault.cause == "sandbox"
    assert fault.message.startswith("create a sandbox: ")


def test_a_subclass_goes_by_its_nearest_kin() -> None:
    """An error that a later SDK derives from a known one is treated like it."""

    class BrandNew(exceptions.RateLimitException):
        pass

    fault = fault_of(BrandNew("slow down"), "x")
    assert fault
    assert fault.kind == "rate_limit"


def test_an_unknown_error_of_the_sdk_is_the_sandboxs() -> None:
    """What the SDK lets through from its inside (its protocol's own errors) is no defect of ours."""
    inside = type("StrangeError", (Exception,), {"__module__": "e2b.somewhere.new"})
    fault = fault_of(inside("odd"), "x")
    assert fault
    assert (fault.kind, fault.retry) == ("protocol", True)


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), RuntimeError("x"), KeyboardInterrupt()], ids=repr
)
def test_an_error_of_ours_is_no_fault(error: BaseException) -> None:
    """A defect must not hide behind the sandbox."""
    assert fault_of(error, "x") is None


def test_a_fault_says_what_was_being_done() -> None:
    """On one line, with the remedy on its own; an error without words is told by its name."""
    fault = fault_of(exceptions.AuthenticationException("401:\n  bad key"), "create a sandbox")
    assert str(fault).splitlines() == [
        "create a sandbox: 401: bad key",
        "  check E2B_API_KEY (and E2B_DOMAIN, E2B_API_URL)",
    ]
    silent = fault_of(TimeoutError(), "read a file")
    assert silent
    assert silent.message == "read a file: TimeoutError"


def test_what_can_be_remedied_says_how() -> None:
    """What is fatal is so for everybody: somebody has to do something."""
    assert all(policy.remedy for policy in FAULTS.values() if policy.fatal)
    assert not any(policy.retry for policy in FAULTS.values() if policy.fatal)


# The tree


def test_every_fault_has_a_cause_of_its_own() -> None:
    """The record tells by it whose fault it was."""
    assert set(Fault.__subclasses__()) == set(CAUSES)
    for kind, cause in CAUSES.items():
        fault = kind("died", "it died", retry=True)
        assert (fault.cause, fault.kind, fault.retry, fault.fatal) == (cause, "died", True, False)
        assert isinstance(fault, HarnessError)
        assert not isinstance(fault, UsageError)


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


# From process to process


def tree(root: type[Fault]) -> Iterator[type[Fault]]:
    """A class and all that come from it."""
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


FATES = [(True, False), (False, True), (True, True), (False, False)]


@pytest.mark.parametrize(("retry", "fatal"), FATES, ids=["retry", "fatal", "both", "neither"])
@pytest.mark.parametrize("kind", list(tree(Fault)), ids=lambda kind: kind.__name__)
def test_a_fault_goes_from_process_to_process_whole(kind: type[Fault], retry: bool, fatal: bool) -> None:
    """A worker of xdist meets it, and the main process decides on it."""
    for remedy in (None, "wait a while"):
        fault = kind("rate_limit", "too many, 50% of all\nof them", retry=retry, fatal=fatal, remedy=remedy)
        for again in (pickle.loads(pickle.dumps(fault)), copy.copy(fault), copy.deepcopy(fault)):
            assert type(again) is kind
            assert vars(again) == vars(fault)
            assert (again.kind, again.message, again.cause) == (fault.kind, fault.message, fault.cause)
            assert (again.retry, again.fatal, again.remedy) == (retry, fatal, remedy)
            assert str(again) == str(fault)


ERRORS: Sequence[HarnessError] = [
    HarnessError("it is wrong", remedy="do it right"),
    UsageError("it is wrong", remedy="do it right"),
    NotStartedError("the limit is reached"),
    ProblemsError("task 'a' cannot be used:", [Problem("task.toml", "timeout", "is wrong", "give seconds")]),
    NotAppliedError(["the model is a, not b", "the tool 'c' is offered"]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_is_no_fault_goes_whole_too(error: HarnessError) -> None:
    """With all that it was made of."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert again.args == error.args
    assert str(again) == str(error)
