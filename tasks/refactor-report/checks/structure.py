#!/usr/bin/env python3
"""The prompt's limits, measured on the syntax tree of every module of the package."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_STATEMENTS, MOST_PARAMETERS, DEEPEST = 15, 4, 2
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
ESCAPES = {"exec", "eval", "compile", "locals", "globals", "vars", "__import__"}


def is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The statement lists directly below a node: body, else, handlers, cases."""
    for field in ("body", "orelse", "finalbody"):
        if isinstance(getattr(node, field, None), list):
            yield getattr(node, field)
    for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
        yield part.body


def statements(function: ast.AST) -> int:
    return sum(isinstance(node, ast.stmt) and not is_docstring(node) for node in ast.walk(function)) - 1


def parameters(function: ast.FunctionDef) -> int:
    given = function.args
    named = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
    return named + (given.vararg is not None) + (given.kwarg is not None)


def depth(node: ast.AST) -> int:
    """How deep blocks are nested below a node; nested functions are measured for themselves."""
    deepest = 0
    for body in bodies(node):
        for statement in body:
            if isinstance(statement, BLOCKS):
                is_elif = isinstance(node, ast.If) and body is node.orelse and isinstance(statement, ast.If)
                deepest = max(deepest, depth(statement) + (0 if is_elif and len(body) == 1 else 1))
    return deepest


def function_faults(function: ast.FunctionDef) -> Iterator[str]:
    if statements(function) > MOST_STATEMENTS:
        yield f"{function.name} has {statements(function)} statements, more than {MOST_STATEMENTS}"
    if parameters(function) > MOST_PARAMETERS:
        yield f"{function.name} has {parameters(function)} parameters, more than {MOST_PARAMETERS}"
    if depth(function) > DEEPEST:
        yield f"{function.name} nests blocks {depth(function)} deep, more than {DEEPEST}"


def module_faults(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement in tree.body:
        if (
            not isinstance(statement, DEFINITIONS)
            and not is_docstring(statement)
            and path.name != "__main__.py"
        ):
            yield f"line {statement.lineno}: work at the top level of the module"
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            yield from function_faults(node)
        if isinstance(node, ast.Name) and node.id in ESCAPES:
            yield f"line {node.lineno}: {node.id} hides what the code does"
        for body in bodies(node):
            lines = [statement.lineno for statement in body]
            if len(set(lines)) < len(lines):
                yield f"line {lines[0]}: several statements on one line"


def main() -> int:
    faults = [
        f"{path}: {fault}"
        for path in sorted(Path("shopreport").rglob("*.py"))
        for fault in module_faults(path)
    ]
    if not Path("shopreport/report.py").is_file():
        faults.append("shopreport/report.py is gone")
    print("\n".join(faults))
    return 1 if faults else 0


sys.exit(main())
