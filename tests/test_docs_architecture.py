"""The page on the architecture says what is: its files, its names, its directions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.sources import parsed
from tests.test_imports import DIRECTIONS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
# A paragraph may be wrapped; a row of a table may not.
BLOCKS = [
    block for part in PROSE.split("\n\n") for block in (part.split("\n") if part[:1] == "|" else [part])
]


def code_in(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def is_path(code: str) -> bool:
    return "/" in code


@cache
def defined_in(place: str) -> frozenset[str]:
    """The names that a Python file defines, those of a class with the class before them, too."""
    found: set[str] = set()
    for node in ast.walk(parsed(ROOT / place)):
        found.update(names_of(node))
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}.{name}" for inner in node.body for name in names_of(inner))
    return frozenset(found)


def names_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_there_is_something_to_hold_it_to() -> None:
    """The tests below look at what they are meant to look at."""
    assert len([code for code in code_in(PROSE) if is_path(code)]) > 60
    assert len([code for code in code_in(PROSE) if not is_path(code)]) > 40


def test_every_file_is_there() -> None:
    """A folder's name ends with a slash."""
    paths = {code for code in code_in(PROSE) if is_path(code)}
    assert {path for path in paths if path.endswith("/") and not (ROOT / path).is_dir()} == set()
    assert {path for path in paths if not path.endswith("/") and not (ROOT / path).is_file()} == set()


def test_every_name_is_defined_in_a_file_beside_it() -> None:
    """Those of a row in the files of the row; `Task` of a sub-package's row in any of its files."""
    unknown = {}
    for block in BLOCKS:
        places = [code for code in code_in(block) if is_path(code)]
        files = [
            file
            for place in places
            for file in (
                [str(path.relative_to(ROOT)) for path in (ROOT / place).rglob("*.py")]
                if place.endswith("/")
                else [place] * place.endswith(".py")
            )
        ]
        known = {name for file in files for name in defined_in(file)}
        if names := {code for code in code_in(block) if not is_path(code)} - known:
            unknown[block[:40]] = names
    assert unknown == {}


def test_the_table_has_the_directions() -> None:
    """Those that are kept: the same sub-packages, and what each may import."""
    rows = re.findall(r"^\| `harness/(\w+)(?:/|\.py)` \| ([a-z_ ]*?) ?\| ", PAGE, re.MULTILINE)
    assert dict(rows) == DIRECTIONS


def test_the_drawing_has_each_above_what_it_imports() -> None:
    (drawing,) = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    line_of = {
        name: number for number, line in enumerate(drawing.splitlines()) for name in re.findall(r"\w+", line)
    }
    assert set(line_of) == set(DIRECTIONS)
    wrong = [(name, below) for name in DIRECTIONS for below in DIRECTIONS[name].split()]
    assert [pair for pair in wrong if line_of[pair[0]] >= line_of[pair[1]]] == []


def test_every_sub_package_has_a_sentence() -> None:
    rows = re.findall(r"^\| `harness/\w+(?:/|\.py)` \|[^|]*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == len(DIRECTIONS)
    assert all(row.endswith(".") for row in rows)
