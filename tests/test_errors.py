"""A raise says a fault's kind, and one table what follows from it."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Iterator, Sequence

import pytest

from harness import errors
from harness.agents.endings import KIND_BY_STATUS
from harness.errors import (
    FAULT_BY_CAUSE,
    FAULTS,
    GIVE_UP,
    RETRY,
    Cause,
    Fault,
    FaultPolicy,
    HarnessError,
    InternalFault,
    NotAppliedError,
    Problem,
    ProblemsError,
    SandboxFault,
    UsageError,
)
from harness.runs.budget import NotStartedError
from harness.sandboxes.faults import KIND_BY_ERROR
from tests.support.sources import modules

CAUSES: dict[str, Cause] = {type_.__name__: cause for cause, type_ in FAULT_BY_CAUSE.items()}
# These pass a kind on that somebody else has named.
PASS_ON = {"records.record_parts", "tasks.gitrepo"}


def raising() -> Iterator[tuple[str, ast.Module]]:
    """The modules that may raise a fault, parsed."""
    for name, tree in modules().items():
        if name != "errors" and name.partition(".")[0] != "local":
            yield name, tree


def raised() -> Iterator[tuple[str, Cause, set[str]]]:
    """Each fault that is made in the package: its module, its cause, and the kinds that it may have."""
    for module, tree in raising():
        for scope in ast.walk(tree):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(scope):
                    if isinstance(node, ast.Call) and (found := fault_of(node)):
                        cause, kind = found
                        yield module, cause, strings(kind, scope) or strings(kind, tree)


def fault_of(call: ast.Call) -> tuple[Cause, ast.expr] | None:
    """The cause and the kind that a call gives a fault."""
    match call.func:
        case ast.Name(name) if name in CAUSES:
            return CAUSES[name], call.args[0]
        case ast.Subscript(ast.Name("FAULT_BY_CAUSE")):
            return "harness", call.args[0]
        case ast.Name("require_finished"):
            return "sandbox", call.args[1]
    return None


def strings(value: ast.expr, scope: ast.AST) -> set[str]:
    """The strings that an expression may come to; for a name, what the scope assigns to it."""
    values = [value]
    if isinstance(value, ast.Name):
        values = [
            node.value
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == value.id
        ]
    found = [node.value for one in values for node in ast.walk(one) if isinstance(node, ast.Constant)]
    return {constant for constant in found if isinstance(constant, str)}


ROWS = {(cause, kind) for cause, kinds in FAULTS.items() for kind in kinds}


def test_every_kind_that_is_raised_has_a_row_and_every_row_is_raised() -> None:
    """Without a row the raise itself would fail, and only where it is needed; a row that nobody uses is gone."""
    made = list(raised())
    used = {(cause, kind) for _, cause, kinds in made for kind in kinds}
    used |= {("sandbox", kind) for kind in KIND_BY_ERROR.values()}
    used |= {("provider", kind) for kind in KIND_BY_STATUS.values()}
    assert used == ROWS
    assert {module for module, _, kinds in made if not kinds} == PASS_ON


def test_a_policy_of_its_own_is_rare() -> None:
    """A raise overrules the table only where the same kind means something else at that moment."""
    keywords = [
        module
        for module, tree in raising()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        if node.arg == "policy"
    ]
    assert keywords == [
        "agents.endings",
        "agents.endings",
        "records.record_parts",
        "sandboxes.faults",
        "sandboxes.templates",
        "sandboxes.templates",
        "tasks.gitrepo",
    ]


def test_an_unknown_kind_is_an_error() -> None:
    """So is a kind that belongs to another cause."""
    with pytest.raises(KeyError, match="no_such_kind"):
        SandboxFault("no_such_kind", "it broke")
    with pytest.raises(KeyError, match="worker_died"):
        SandboxFault("worker_died", "it broke")


@pytest.mark.parametrize(("cause", "kind"), sorted(ROWS))
def test_a_fault_has_what_its_row_says(cause: Cause, kind: str) -> None:
    """The class says the cause."""
    fault, policy = FAULT_BY_CAUSE[cause](kind, "it broke"), FAULTS[cause][kind]
    assert (fault.cause, fault.kind, fault.message) == (cause, kind, "it broke")
    assert (fault.retry, fault.fatal, fault.remedy) == (policy.retry, policy.fatal, policy.remedy)


def test_what_ends_the_run_can_be_remedied() -> None:
    """What every trial would meet, a new attempt would meet too: somebody has to do something."""
    ends = {
        (cause, kind): policy
        for cause, kinds in FAULTS.items()
        for kind, policy in kinds.items()
        if policy.fatal
    }
    assert set(ends) == {
        ("sandbox", "api_level"),
        ("sandbox", "auth"),
        ("provider", "auth"),
        ("harness", "disk"),
    }
    assert all(policy.remedy and not policy.retry for policy in ends.values())


@pytest.mark.parametrize(
    ("cause", "kinds"),
    [
        ("provider", {"api_error", "overloaded", "rate_limit", "silent"}),
        ("agent", {"died", "error_result"}),
        ("check", set()),
        ("task", {"repo_unreachable", "setup_timeout"}),
        ("harness", {"worker_died"}),
    ],
)
def test_what_may_be_over_soon_is_tried_again(cause: Cause, kinds: set[str]) -> None:
    """Everything else would end the same way in a fresh sandbox."""
    assert {kind for kind, policy in FAULTS[cause].items() if policy.retry} == kinds


def test_only_a_sandbox_that_is_gone_is_given_up_at_once() -> None:
    """And only a refusal by the platform makes everybody ask it less often."""
    rows = [(cause, kind, policy) for cause, kinds in FAULTS.items() for kind, policy in kinds.items()]
    assert [(cause, kind) for cause, kind, policy in rows if policy.is_gone] == [("sandbox", "sandbox_gone")]
    assert [(cause, kind) for cause, kind, policy in rows if policy.is_refusal] == [("sandbox", "rate_limit")]
    assert all(policy.retry for _, _, policy in rows if policy.is_gone or policy.is_refusal)


def test_a_raise_can_overrule_its_row() -> None:
    """As a whole by a policy, or only in what can be done about it."""
    fault = InternalFault("disk", "it is full", policy=GIVE_UP)
    assert (fault.retry, fault.fatal, fault.remedy) == (False, False, None)
    fault = InternalFault("disk", "it is full", remedy="buy one")
    assert (fault.retry, fault.fatal, fault.remedy) == (False, True, "buy one")


def test_every_fault_of_the_tree_has_a_cause() -> None:
    """The table of causes is complete."""
    assert set(errors.Fault.__subclasses__()) == set(FAULT_BY_CAUSE.values())
    assert set(FAULTS) == set(FAULT_BY_CAUSE)


# From process to process


FATES = [(True, False), (False, True), (True, True), (False, False)]


@pytest.mark.parametrize(("retry", "fatal"), FATES, ids=["retry", "fatal", "both", "neither"])
@pytest.mark.parametrize("kind", FAULT_BY_CAUSE.values(), ids=lambda kind: kind.__name__)
def test_a_fault_goes_from_process_to_process_whole(kind: type[Fault], retry: bool, fatal: bool) -> None:
    """A worker of xdist meets it, and the main process decides on it."""
    for remedy in (None, "wait a while"):
        fault = kind("any", "too many, 50% of all\nof them", policy=FaultPolicy(retry, fatal), remedy=remedy)
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


@pytest.mark.parametrize(
    "fault",
    [
        SandboxFault("rate_limit", "too many"),
        SandboxFault("sandbox_gone", "it is gone", remedy="look for it"),
        InternalFault("disk", "it is full", policy=RETRY),
        FAULT_BY_CAUSE["agent"]("of a later version", "it broke", policy=GIVE_UP),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_fault_survives_the_way_to_another_process(fault: Fault) -> None:
    """With everything that anybody decides by."""
    again = pickle.loads(pickle.dumps(fault))
    assert type(again) is type(fault)
    assert (again.kind, again.message, again.remedy) == (fault.kind, fault.message, fault.remedy)
    assert (again.policy, str(again)) == (fault.policy, str(fault))
