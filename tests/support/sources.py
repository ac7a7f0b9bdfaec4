"""The package's own modules, parsed once by those tests that look at them, and not where tests are collected."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import harness

PACKAGE = Path(harness.__file__).parent


@cache
def parsed(file: Path) -> ast.Module:
    """A file of Python."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def modules() -> dict[str, ast.Module]:
    """Each module of the package by its name within it ("" is the package itself)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = parsed(path)
    return found
