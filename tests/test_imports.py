"""Imports point one way, and each foreign library is known to few rooms."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent

# The pytest plugin is one room of several files.
PLUGIN = {"plugin", "pytestoptions", "gatekeeper", "session", "items", "fixtures", "progress", "conductor"}

# From the ground up: a room knows only those of the rows before its own. A package is one room.
ROWS: list[set[str]] = [
    {"userstate"},
    {
        "",
        "errors",
        "disk",
        "owner",
        "patience",
        "contents",
        "variant",
        "stream",
        "replay",
        "stats",
        "local",
        "gitsource",
        "templatefile",
        "hosts",
    },
    {"tomlfile", "varianttable", "archive", "shard", "plan", "relay", "once"},
    {"manifest", "options"},
    {"task", "variants"},
    {"record"},
    {"measured"},
    {"store", "sandbox"},
    {"model", "shell", "apply", "report", "gc", "gitrepo", "history", "merge", "pacing", "asked", "building"},
    {"protect", "checks", "proof", "starts", "templates"},
    {"workspace"},
    {"agents", "world"},
    {"attempt"},
    {"trial"},
    {"budget", "forecast", "resume", "run", "setup", "patch", "attach"},
    {"engine", "rounds"},
    PLUGIN | {"kept"},
    {"cli"},
]


def modules() -> dict[str, ast.Module]:
    """Each module of the package by its name within it ("" is the package itself), parsed."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imported(name: str) -> Iterator[str]:
    """What a module imports, anywhere in it: for `from a import b` it is `a.b`."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: write `from harness...`, so that the direction can be read"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name: str) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for target in imported(name):
        first, _, rest = target.partition(".")
        if first == "harness":
            while rest and rest not in MODULES:
                rest = rest.rpartition(".")[0]
            found.add(rest)
    return found - {name}


def libraries(name: str) -> set[str]:
    """The other packages that a module imports."""
    return {target.partition(".")[0] for target in imported(name)} - {"harness"}


def room(name: str) -> str:
    return name.partition(".")[0]


def row(name: str) -> int:
    found = [index for index, rooms in enumerate(ROWS) if room(name) in rooms]
    assert len(found) == 1, f"give harness.{name} one place among the ROWS"
    return found[0]


def test_imports_point_one_way() -> None:
    """Towards the ground: what knows more is known by less."""
    wrong = [
        f"harness.{name} imports harness.{target}"
        for name in MODULES
        for target in own(name)
        if row(target) >= row(name)
        and room(target) != room(name)
        and not {room(name), room(target)} <= PLUGIN
    ]
    assert wrong == []


def test_no_imports_go_in_circles() -> None:
    """Within a room neither."""
    graph = {name: own(name) for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_the_local_server_stands_alone() -> None:
    """It speaks E2B's protocol to anybody, and knows nothing of tasks and trials; only two doors lead to it."""
    inside = {name for name in MODULES if room(name) == "local"}
    assert all(room(target) == "local" for name in inside for target in own(name))
    doors = {name: targets for name in MODULES if name not in inside and (targets := own(name) & inside)}
    assert doors == {"setup": {"local.lasting", "local.launch", "local.tier"}, "cli": {"local.__main__"}}


@pytest.mark.parametrize("name", ["replay", "local.boxes.guest", "errors", "stream", "contents", "variant"])
def test_some_need_only_the_standard_library(name: str) -> None:
    """Two run by themselves inside a sandbox; the others are the ground that all stand on."""
    assert libraries(name) <= sys.stdlib_module_names
    assert own(name) == set()


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        # One vendor, one room; the local server is built on the SDK's own server half.
        ("e2b", {"sandbox", "building", "local"}),
        ("httpx", {"sandbox"}),
        ("pytest", PLUGIN),
        ("jsonlines", {"store"}),
        ("rich", {"report"}),
        ("wcmatch", {"protect"}),
        (
            "pydantic",
            {"tomlfile", "hosts", "varianttable", "manifest", "variants", "record", "measured", "store"},
        ),
    ],
)
def test_a_library_is_known_to_few(library: str, rooms: set[str]) -> None:
    """So that it can be exchanged, and its errors mapped once."""
    assert {room(name) for name in MODULES if library in libraries(name)} <= rooms
