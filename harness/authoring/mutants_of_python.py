"""Edits of Python that change what it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from harness.authoring.edits import Edit

_TURNED: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", ">="),
    ast.GtE: (">=", "<"),
    ast.Gt: (">", "<="),
    ast.LtE: ("<=", ">"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}


def meaning(text: str) -> str | None:
    """The tree of a Python text without docstrings: the same for texts of one meaning; None if it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and _docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def edits(text: str) -> Iterator[Edit]:
    """All edits, in the order of the text; none of a text that does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    place = _Places(text)
    skipped = _not_looked_at(tree)
    for node in ast.walk(tree):
        if id(node) not in skipped:
            yield from _edits_of(node, place)


class _Places:
    """Offsets in a text of what a tree tells in lines and bytes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """The place of a line (from 1) and a column in bytes."""
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)

    def start(self, node: ast.expr | ast.stmt) -> int:
        """The offset at which a node begins."""
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        """The offset at which a node ends."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.end_lineno, node.end_col_offset)

    def replaced(self, node: ast.expr | ast.stmt, by: str, how: str) -> Edit:
        """The edit that puts a text in a node's place."""
        return Edit(self.start(node), self.end(node), by, node.lineno, how)


def _not_looked_at(tree: ast.Module) -> set[int]:
    """The nodes whose change would change nothing that a check could see: docstrings, annotations, text of f-strings,
    and what only a start from the command line decides."""
    left_out: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = _docstring(node)
            left_out += [docstring, docstring.value] if docstring else []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left_out += [node.returns] if node.returns else []
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            left_out.append(node.annotation)
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            left_out.append(node.test)
        if isinstance(node, ast.JoinedStr):
            left_out.append(node)
    return {id(inner) for node in left_out for inner in ast.walk(node)}


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.Expr | None:
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return first
    return None


def _edits_of(node: ast.AST, place: _Places) -> Iterator[Edit]:
    if isinstance(node, ast.Compare):
        yield from _turned(node, place)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        test = place.text[place.start(node.test) : place.end(node.test)]
        if not isinstance(node.test, ast.Compare):
            yield place.replaced(node.test, f"(not ({test}))", "a condition is turned")
        if not isinstance(node, ast.While):
            yield place.replaced(node.test, "True", "a condition always holds")
    elif isinstance(node, ast.BoolOp):
        yield from _other_word(node, place)
    elif isinstance(node, ast.Constant):
        yield from _other_constant(node, place)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield place.replaced(node, "return None", "nothing is returned")
    elif isinstance(node, ast.AugAssign | ast.Raise | ast.Delete) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
    ):
        yield place.replaced(node, "pass", "a statement is dropped")


def _turned(node: ast.Compare, place: _Places) -> Iterator[Edit]:
    if len(node.ops) != 1:
        return
    before, after = _TURNED[type(node.ops[0])]
    start, end = place.end(node.left), place.start(node.comparators[0])
    between = place.text[start:end]
    turned, count = re.subn(rf"(?<![\w=<>!]){before}(?![\w=])", after, between, count=1)
    if count:
        yield Edit(start, end, turned, node.lineno, "a condition is turned")


def _other_word(node: ast.BoolOp, place: _Places) -> Iterator[Edit]:
    before, after = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    start, end = place.end(node.values[0]), place.start(node.values[1])
    between, count = re.subn(rf"\b{before}\b", after, place.text[start:end], count=1)
    if count:
        yield Edit(start, end, between, node.lineno, f"`{before}` is `{after}`")


def _other_constant(node: ast.Constant, place: _Places) -> Iterator[Edit]:
    value = node.value
    if isinstance(value, bool):
        yield place.replaced(node, str(not value), "a constant is changed")
    elif isinstance(value, int | float) and not isinstance(value, complex):
        yield place.replaced(node, repr(value + 1), "a constant is changed")
    elif isinstance(value, str) and re.fullmatch(r"\S+", value):
        # Sentences are for people.
        yield place.replaced(node, repr(f"{value}x"), "a constant is changed")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
