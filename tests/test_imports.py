"""Imports point one way, and each foreign library is known to few rooms."""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter

import pytest

from tests.support.sources import modules

# Each sub-package (or top-level module), and what it may import beside errors, text and the package itself.
DIRECTIONS: dict[str, str] = {
    "errors": "",
    "text": "",
    "tasks": "",
    "variants": "tasks",
    "records": "tasks variants",
    "sandboxes": "tasks records",
    "models": "tasks records sandboxes",
    "stats": "",
    "report": "tasks records stats",
    "agents": "tasks variants records sandboxes models",
    "trials": "tasks variants records sandboxes models agents",
    "local": "",
    "runs": "tasks variants records sandboxes models stats report agents trials local",
    "authoring": "tasks variants records sandboxes models report trials runs",
    "pytest_plugin": "tasks variants records sandboxes report agents trials runs",
    "cli": "tasks records sandboxes report runs authoring local",
}


@cache
def imported(name: str) -> frozenset[str]:
    """What a module imports, anywhere in it: for `from a import b` it is `a.b`."""
    found = set()
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: write `from harness...`, so that the direction can be read"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own(name: str) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for target in imported(name):
        first, _, rest = target.partition(".")
        if first == "harness":
            while rest and rest not in modules():
                rest = rest.rpartition(".")[0]
            found.add(rest)
    return found - {name}


def libraries(name: str) -> set[str]:
    """The other packages that a module imports."""
    return {target.partition(".")[0] for target in imported(name)} - {"harness"}


def room(name: str) -> str:
    return name.partition(".")[0]


def allowed(name: str) -> set[str]:
    """The sub-packages that a module may import."""
    return {*DIRECTIONS[room(name)].split(), "errors", "text", "", room(name)}


def test_the_directions_lead_one_way() -> None:
    """The table has no cycle, and a place for each sub-package."""
    TopologicalSorter({name: below.split() for name, below in DIRECTIONS.items()}).prepare()
    assert {room(name) for name in modules()} == {*DIRECTIONS, ""}


def test_imports_point_one_way() -> None:
    """A sub-package imports only what the table names."""
    wrong = [
        f"harness.{name} imports harness.{target}"
        for name in modules()
        for target in own(name)
        if room(target) not in allowed(name)
    ]
    assert wrong == []


def test_no_imports_go_in_circles() -> None:
    """Inside of a sub-package neither."""
    graph = {name: own(name) for name in modules()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules())


def test_the_local_server_stands_alone() -> None:
    """It speaks E2B's protocol to anybody, and knows nothing of tasks and trials; only two doors lead to it."""
    inside = {name for name in modules() if room(name) == "local"}
    assert all(room(target) == "local" for name in inside for target in own(name))
    doors = {name: targets for name in modules() if name not in inside and (targets := own(name) & inside)}
    assert doors == {
        "runs.resources": {
            "local.shared_server",
            "local.shared_files",
            "local.launch",
            "local.state",
            "local.tier",
        },
        "runs.early": {"local.launch"},
        "runs.controller": {"local.launch"},
        "cli.sandboxes": {"local.__main__"},
    }


def test_some_need_only_the_standard_library() -> None:
    """The first run by themselves inside a sandbox; the others are the ground that all stand on."""
    guest = {name for name in modules() if name.startswith("local.boxes.guest.")}
    alone: dict[str, set[str]] = {
        "tasks.recording": set(),
        "models.replay_server": {"tasks.recording"},
        **dict.fromkeys(guest, guest),
        "errors": set(),
        "records.json_values": set(),
        "tasks.contents": set(),
        "variants.variant": set(),
    }
    assert len(guest) > 5
    assert {name for name in alone if libraries(name) - sys.stdlib_module_names} == set()
    assert {name for name, known in alone.items() if own(name) - known} == set()


@pytest.mark.parametrize(
    ("library", "places"),
    [
        # One vendor, one place; the local server is built on the SDK's own server half.
        ("e2b", {"sandboxes", "local"}),
        ("httpx", {"sandboxes", "models.provider"}),
        ("pytest", {"pytest_plugin"}),
        ("jsonlines", {"records.store"}),
        ("rich", {"report"}),
        ("pydantic", {"tasks", "variants", "records", "report.live"}),
    ],
)
def test_a_library_is_known_to_few(library: str, places: set[str]) -> None:
    """So that it can be exchanged, and its errors mapped once."""
    users = {name for name in modules() if library in libraries(name)}
    assert {name for name in users if not {name, room(name)} & places} == set()
