"""Variants as users declare them: found beside the tasks, read, checked all at once, a grid spelled out, and chosen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harness.errors import Problem, ProblemsError, UsageError
from harness.tasks.manifest import is_name
from harness.tasks.tomlfile import (
    abbreviate,
    describe_error,
    display_path,
    field_for,
    read_toml,
    suggest_key,
)
from harness.variants.contradictions import contradictions
from harness.variants.part_reader import PartReader
from harness.variants.table import PriceTable, ServerTable, VariantTable, label
from harness.variants.variant import (
    DEFAULT,
    Variant,
)

VARIANTS = "variants.toml"
MATRIX = "matrix"
PRICES = "prices"

_PYPROJECT = "pyproject.toml"
_IN_PYPROJECT = ("tool", "harness", "variants")
_LAID_OVER = ("env", "mcp", "mcp_gateway")
"""Tables of which a variant that extends another keeps the keys that it does not give itself."""
_WORDS_OF_PYTEST = ("and", "or", "not")
_PRICE_FORM = f"write [{PRICES}.MODEL], and input = USD and output = USD below"

Parts = dict[str, Any]
"""The values of a table, by the fields of Variant."""


@dataclass(frozen=True)
class VariantFile:
    """The variants of one file, in its order, those of its grid last; without a file the default alone."""

    variants: tuple[Variant, ...] = (DEFAULT,)
    source: Path | None = None

    def chosen(self, names: Sequence[str]) -> tuple[Variant, ...]:
        """Those of these names, in this order; all, when none is given.

        Raises:
            UsageError: for a name that there is not.
        """
        known = {variant.name: variant for variant in self.variants}
        unknown = [name for name in dict.fromkeys(names) if name not in known]
        if unknown:
            where = f"in {display_path(self.source)}" if self.source else f"since there is no {VARIANTS}"
            raise UsageError(
                f"there is no variant {', '.join(map(repr, unknown))} {where}",
                remedy=f"there {'is' if len(known) == 1 else 'are'}: {', '.join(known)}",
            )
        wanted = [known[name] for name in dict.fromkeys(names)] or self.variants
        return tuple(replace(variant, position=position) for position, variant in enumerate(wanted))


def source_for(folder: Path, root: Path) -> Path | None:
    """The nearest file that declares variants: beside a task's folder, or further up to `root`.

    Raises:
        ProblemsError: when two files of one folder do, or one cannot be read.
    """
    beside = folder.absolute().parent
    above = [beside, *(parent for parent in beside.parents if root in (parent, *parent.parents))]
    for place in above:
        own, project = place / VARIANTS, place / _PYPROJECT
        in_project = project.is_file() and _inner(read_toml(project, _subject(project)).data) is not None
        if own.is_file() and in_project:
            problem = Problem(
                display_path(own), None, f"{_PYPROJECT} beside it declares variants too", "keep one of them"
            )
            raise ProblemsError(_subject(own), [problem])
        if own.is_file() or in_project:
            return own if own.is_file() else project
    return None


def load_variants(source: Path) -> VariantFile:
    """Read a file of variants: a `variants.toml` by any name, or a `pyproject.toml`.

    Raises:
        ProblemsError: with every problem that it has.
    """
    file = read_toml(source, _subject(source))
    tables, prefix = (
        (_inner(file.data) or {}, _IN_PYPROJECT) if source.name == _PYPROJECT else (file.data, ())
    )
    reader = _VariantReader(file, prefix)
    try:
        variants = reader.variants(tables)
    except OSError as error:
        where = display_path(Path(str(error.filename))) if error.filename else "a file"
        reader.problems.append(
            Problem(where, None, f"cannot be read: {error.strerror or error}", "check its permissions")
        )
        variants = ()
    if reader.problems:
        raise ProblemsError(_subject(source), reader.problems)
    return VariantFile(variants, source)


def _subject(source: Path) -> str:
    return f"the variants of {display_path(source)} cannot be used:"


def _inner(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    inner: Any = data
    for key in _IN_PYPROJECT:
        inner = inner.get(key) if isinstance(inner, dict) else None
    return inner if isinstance(inner, dict) else None


class _VariantReader(PartReader):
    """Reads a file's tables, collecting problems on the way. `prefix` has the keys that lead to them."""

    def variants(self, tables: Mapping[str, Any]) -> tuple[Variant, ...]:
        if not tables:
            self.complain((), "declares no variant", "write a table for each: [NAME], and its keys below")
        named = {
            name: self.table(name, table) for name, table in tables.items() if name not in (MATRIX, PRICES)
        }
        whole = {name: self.extended(name, named) for name in named}
        if MATRIX in tables:
            whole |= self.grid(tables[MATRIX], whole)
        prices = self.prices(tables.get(PRICES, {}))
        if self.problems:
            return ()
        variants = tuple(
            Variant(name, **parts, prices=prices) for name, parts in (whole or {DEFAULT.name: {}}).items()
        )
        for variant in variants:
            for key, what, remedy in contradictions(variant):
                self.complain((variant.name if variant.name in named else MATRIX, key), what, remedy)
        return variants

    def prices(self, table: Any) -> dict[str, dict[str, float]]:
        """Each model's price, by kind of token."""
        if not isinstance(table, dict):
            self.complain((PRICES,), f"should be a table, not {abbreviate(table)}", f"write [{PRICES}.MODEL]")
            return {}
        found: dict[str, dict[str, float]] = {}
        for model, price in table.items():
            try:
                found[model] = PriceTable.model_validate(price).model_dump(exclude_none=True)
            except ValidationError as error:
                for details in error.errors(include_url=False):
                    self.wrong_price((PRICES, model), details)
        return found

    def wrong_price(self, location: tuple[str, ...], details: ErrorDetails) -> None:
        key = [str(part) for part in details["loc"]][:1]
        if details["type"] == "extra_forbidden":
            self.complain((*location, *key), "is not a known key", suggest_key(PriceTable, key))
            return
        info = field_for(PriceTable, key) if key else None
        if details["type"] == "missing":
            self.complain((*location, *key), "is missing", _PRICE_FORM)
            return
        remedy = f"give the price of {info.description}, in US dollars a million" if info else _PRICE_FORM
        self.complain((*location, *key), describe_error(details), remedy)

    def table(self, name: str, table: Any) -> Parts:
        if not isinstance(table, dict):
            header = ".".join((*self.prefix, "NAME"))
            self.complain((name,), "stands outside of any variant", f"write it below a [{header}]")
            return {}
        if not is_name(name) or name in _WORDS_OF_PYTEST:
            remedy = "use up to 100 letters, digits, _ - and ., a letter or digit first"
            self.complain((name,), "cannot be a variant's name", remedy)
        return self.parts((name,), table)

    def extended(self, name: str, tables: Mapping[str, Parts]) -> Parts:
        """A table laid over the one that it extends, that over the one that it extends, and so on."""
        chain, parts = [name], dict(tables[name])
        while (base := tables[chain[-1]].get("extends")) is not None:
            if base in chain:
                self.circle(name, chain[chain.index(base) :], list(tables))
                break
            if not self.is_base(chain[-1], base, tables, say=len(chain) == 1):
                break
            chain.append(base)
            parts = _merged(tables[base], parts)
        parts.pop("extends", None)
        return parts

    def circle(self, name: str, members: Sequence[str], order: Sequence[str]) -> None:
        """Tables that extend each other: told once, at the first of them."""
        if name == min(members, key=order.index):
            self.complain((name, "extends"), f"leads back to {name!r} itself", "let one of them extend none")

    def is_base(self, name: str, base: str, tables: Mapping[str, Parts], *, say: bool = True) -> bool:
        if base not in tables and say:
            self.complain(
                (name, "extends"), f"there is no variant {base!r}", f"there are: {', '.join(tables)}"
            )
        return base in tables

    def grid(self, matrix: Any, named: Mapping[str, Parts]) -> dict[str, Parts]:
        """A variant for each combination of the axes' values."""
        if not isinstance(matrix, dict):
            self.complain((MATRIX,), f"should be a table, not {abbreviate(matrix)}", f"write [{MATRIX}]")
            return {}
        base: Parts = {}
        name = matrix.get("extends")
        if isinstance(name, str) and self.is_base(MATRIX, name, named):
            base = dict(named[name])
        axes = [
            self.axis(key, values)
            for key, values in matrix.items()
            if not (key == "extends" and isinstance(name, str))
        ]
        found: dict[str, Parts] = {}
        for combination in itertools.product(*(axis.items() for axis in axes)):
            name = "-".join(label for label, _ in combination)
            if not is_name(name) or name in found or name in named:
                what = "is two variants' name" if is_name(name) else "cannot be a variant's name"
                remedy = f"name an axis's values: [{MATRIX}.KEY], and NAME = value below"
                self.complain((MATRIX,), f"{name!r} {what}", remedy)
            found[name] = base
            for _, parts in combination:
                found[name] = _merged(found[name], parts)
        return found

    def axis(self, key: str, values: Any) -> dict[str, Parts]:
        """An axis's values by their labels."""
        location = (MATRIX, key)
        if key not in VariantTable.model_fields or key == "extends":
            self.complain(location, "is not a known key", suggest_key(VariantTable, [key]))
            return {}
        if not isinstance(values, list | dict) or not values:
            remedy = 'give a list such as ["a", "b"], or a table of values by name'
            self.complain(location, f"{abbreviate(values)} is no axis", remedy)
            return {}
        if isinstance(values, list):
            labels = [label(key, value, number) for number, value in enumerate(values, 1)]
            for twice in sorted({name for name in labels if labels.count(name) > 1}):
                remedy = f"name the values: [{MATRIX}.{key}], and NAME = value below"
                self.complain(location, f"two of its values would be called {twice!r}", remedy)
            values = dict(zip(labels, values, strict=True))
        return {name: self.parts(location, {key: value}) for name, value in values.items()}

    def parts(self, location: tuple[str, ...], table: Mapping[str, Any]) -> Parts:
        """A table's keys as a Variant has them, without those in which something is wrong."""
        try:
            VariantTable.model_validate(dict(table))
        except ValidationError as error:
            wrong = error.errors(include_url=False)
            for details in wrong:
                self.wrong(location, details)
            table = {key: value for key, value in table.items() if key not in {d["loc"][0] for d in wrong}}
        given = VariantTable.model_validate(dict(table))
        if {"sham", "claude_md"} <= given.model_fields_set:
            self.complain(
                (*location, "sham"),
                "stands in for a claude_md, and there is one",
                "make it a variant of its own",
            )
        found = {
            "claude_md" if name == "sham" else name: self.part(
                _at(location, name), name, getattr(given, name)
            )
            for name in given.model_fields_set
        }
        return {name: part for name, part in found.items() if part is not None}

    def wrong(self, table: tuple[str, ...], details: ErrorDetails) -> None:
        """A complaint in the model's words."""
        inner = [str(part) for part in details["loc"] if part != "[key]"]
        location = (*_at(table, inner[0]), *inner[1:])
        server = inner[0] == "mcp" and len(inner) > 2
        model, known = (ServerTable, inner[2:]) if server else (VariantTable, inner)
        if details["type"] == "extra_forbidden":
            self.complain(location, "is not a known key", suggest_key(model, known))
            return
        info = field_for(model, known)
        self.complain(location, describe_error(details), f"give {info.description}" if info else None)


def _at(table: tuple[str, ...], key: str) -> tuple[str, ...]:
    """The place of a key: in its table, or, as an axis of a grid, where that is."""
    return table if table[0] == MATRIX and table[-1] == key else (*table, key)


def _merged(below: Parts, above: Parts) -> Parts:
    both = [key for key in _LAID_OVER if key in below and key in above]
    return {**below, **above, **{key: {**below[key], **above[key]} for key in both}}


class VariantResolver:
    """The variants that one invocation wants, for any task; each file is read once.

    Args:
        root: where the search for a task's file ends.
        source: the file to use for all tasks in place of the nearest.
        names: those that are wanted; none: all.
    """

    def __init__(self, root: Path, source: Path | None, names: Sequence[str]) -> None:
        self._root, self._source, self._names = root, source, names
        self._chosen: dict[Path | None, tuple[Variant, ...]] = {}
        self._sources: dict[Path, Path | None] = {}
        self._brought: dict[Path, Path] = {}
        self._known: dict[str, tuple[str, Path | None]] = {}

    def for_task(self, folder: Path) -> tuple[Variant, ...]:
        """The variants for the task of a folder.

        Raises:
            UsageError: when its file cannot be used, does not have one that is wanted, or gives a name another
                meaning than the file of an earlier task.
        """
        source = self._source or self._nearest(folder) or self._brought.get(folder.absolute())
        if source not in self._chosen:
            chosen = (load_variants(source) if source else VariantFile()).chosen(self._names)
            for variant in chosen:
                self._claim(variant, source)
            self._chosen[source] = chosen
        return self._chosen[source]

    def bring(self, folder: Path, source: Path) -> None:
        """Name a file that serves the task of a folder where nobody has declared variants for it."""
        self._brought[folder.absolute()] = source

    def _nearest(self, folder: Path) -> Path | None:
        place = folder.absolute().parent
        if place not in self._sources:
            self._sources[place] = source_for(folder, self._root)
        return self._sources[place]

    def _claim(self, variant: Variant, source: Path | None) -> None:
        """Have a variant's name mean one treatment in all of the run, since trials are compared by it."""
        known, where = self._known.setdefault(variant.name, (variant.hash, source))
        if known != variant.hash:
            files = [display_path(file) if file else "where no file declares it" for file in (where, source)]
            raise UsageError(
                f"the variant {variant.name!r} is one thing in {files[0]} and another in {files[1]}",
                remedy="rename one of them, or run the tasks of one file at a time",
            )
