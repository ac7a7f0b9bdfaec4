"""Variants as users declare them: found beside the tasks, read, checked all at once, a grid spelled out, and chosen."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harness.errors import Problem, ProblemsError, UsageError
from harness.tasks.contents import escapes_folder, file_hash, files_in, folder_hash, read_text
from harness.tasks.manifest import is_name
from harness.tasks.templatefile import names_no_template, template_file
from harness.tasks.tomlfile import (
    TomlFile,
    abbreviate,
    describe_error,
    display_path,
    field_for,
    read_toml,
    suggest_key,
)
from harness.variants.contents import (
    described_in_overlay,
    names_of,
    parts_in_overlay,
    rules_in_overlay,
    settings_in_overlay,
    twice,
)
from harness.variants.contradictions import contradictions
from harness.variants.plugins import PluginError, read_plugin
from harness.variants.sham import sham_of
from harness.variants.table import PriceTable, ServerTable, Source, VariantTable, label
from harness.variants.variant import (
    DEFAULT,
    ClaudeMd,
    McpServer,
    Overlay,
    Plugin,
    Removed,
    TemplateSource,
    Text,
    Variant,
)

VARIANTS = "variants.toml"
MATRIX = "matrix"
PRICES = "prices"

_PYPROJECT = "pyproject.toml"
_IN_PYPROJECT = ("tool", "harness", "variants")
_LAID_OVER = ("env", "mcp", "mcp_gateway")
"""Tables of which a variant that extends another keeps the keys that it does not give itself."""
_OVERLAY_PARTS = ("repo", "home")
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
    reader = _Reader(file, prefix)
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


@dataclass
class _Reader:
    """Reads a file's tables, collecting problems on the way. `prefix` has the keys that lead to them."""

    file: TomlFile
    prefix: tuple[str, ...]
    problems: list[Problem] = field(default_factory=list)

    def complain(self, location: Sequence[str], what: str, remedy: str | None = None) -> None:
        place = self.file.place((*self.prefix, *location))
        self.problems.append(Problem(place, ".".join(location) or None, what, remedy))

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

    def part(self, location: tuple[str, ...], name: str, value: Any) -> Any:
        """A field's value, with what its files hold; None, and a complaint, where they are not as they should be."""
        match name:
            case "template":
                return self.template(location, value)
            case "args" | "network" | "betas" | "allowed_tools":
                return tuple(value)
            case "claude_md" | "agents_md" if value is False:
                return Removed()
            case "sham":
                text = self.text(location, value)
                return None if text is None else _sham(text, append=value.append)
            case "claude_md":
                text = self.text(location, value)
                return None if text is None else ClaudeMd(text, append=value.append)
            case "system_prompt" | "append_system_prompt" | "agents_md":
                text = self.text(location, value)
                return None if text is None else Text(text)
            case "settings":
                return self.settings(location, value)
            case "json_schema":
                return self.json_object(location, value, "a schema", '{type = "object"}')
            case "plugins":
                return self.plugins(location, value)
            case "overlay":
                return self.overlay(location, value)
            case "mcp":
                return {key: _server(server) for key, server in value.items()}
        return value

    def text(self, location: tuple[str, ...], source: Source) -> str | None:
        if source.file is None:
            return source.text
        path = self.existing(location, source.file, "file")
        try:
            text = read_text(path) if path else None
        except OSError as error:
            self.complain(
                location, f"{source.file!r} cannot be read: {error.strerror}", "give a file of text"
            )
            return None
        except UnicodeDecodeError as error:
            self.complain(location, f"{source.file!r} is not UTF-8 text: {error}", "save it as UTF-8")
            return None
        if text is not None and not text.strip():
            self.complain(location, f"{source.file!r} is empty", "write something into it")
        return text

    def existing(self, location: tuple[str, ...], name: str, kind: str) -> Path | None:
        """The path that a name stands for, relative to the file in which it is given."""
        path = self.file.path.parent / name
        if "\0" not in name and (path.is_file() if kind == "file" else path.is_dir()):
            return path
        there = "\0" not in name and path.exists()
        remedy = "names are relative to the file in which they stand"
        self.complain(location, f"{name!r} {f'is not a {kind}' if there else 'does not exist'}", remedy)
        return None

    def template(self, location: tuple[str, ...], name: str) -> str | TemplateSource | None:
        file = template_file(name)
        if incomplete := names_no_template(name):
            self.complain(location, f"{name!r} names a file alone", incomplete)
            return None
        if file is None:
            return name
        path = self.existing(location, str(file.path), "file")
        if path is None:
            return None
        whole = f"{path.resolve()}:{file.name}" if file.name else str(path.resolve())
        return TemplateSource(whole, file.name, file_hash(path) or "")

    def settings(self, location: tuple[str, ...], given: str | Mapping[str, Any]) -> Mapping[str, Any] | None:
        content = self.json_object(location, given, "settings", '{model = "opus"}')
        if content and content.get("disableAllHooks"):
            what = "disableAllHooks would switch off the hook that tells which CLAUDE.md was loaded"
            self.complain(location, what, "leave it out")
        return content

    def json_object(
        self, location: tuple[str, ...], given: str | Mapping[str, Any], what: str, example: str
    ) -> Mapping[str, Any] | None:
        """A table, or the object in a JSON file."""
        content: Any = given
        if isinstance(given, str):
            text = self.text(location, Source(given, None))
            if text is None:
                return None
            try:
                content = json.loads(text)
            except (ValueError, RecursionError) as error:
                remedy = f"{what} {'is' if what.startswith('a ') else 'are'} a JSON object"
                self.complain(location, f"{given!r} is not valid JSON: {error}", remedy)
                return None
        if not isinstance(content, dict) or not _is_json(content):
            self.complain(
                location, f"{abbreviate(given)} is not a JSON object", f"give something such as {example}"
            )
            return None
        return content

    def plugins(self, location: tuple[str, ...], names: Sequence[str]) -> tuple[Plugin, ...]:
        found: list[Plugin] = []
        for name in names:
            folder = self.existing(location, name, "folder")
            try:
                plugin = read_plugin(folder) if folder else None
            except PluginError as error:
                self.complain(location, f"{name!r} {error.what}", error.remedy)
                continue
            if plugin and plugin.name in {one.name for one in found}:
                self.complain(
                    location, f"two plugins are called {plugin.name!r}", "give one of them another name"
                )
            found += [plugin] if plugin else []
        return tuple(found)

    def overlay(self, location: tuple[str, ...], name: str) -> Overlay | None:
        folder = self.existing(location, name, "folder")
        if folder is None:
            return None
        beside = sorted(path.name for path in folder.iterdir() if path.name not in _OVERLAY_PARTS)
        files = list(files_in(folder))
        if beside:
            what = f"{name!r} holds {', '.join(beside[:5])}, which would be laid nowhere"
            self.complain(
                location, what, "put what goes into the repo into repo/, and into the home into home/"
            )
        elif not files:
            self.complain(location, f"{name!r} is empty", "put files into its repo/ or home/")
        for path in files:
            if path.is_symlink() and escapes_folder(path, folder / path.relative_to(folder).parts[0]):
                self.complain(
                    location, f"{display_path(path)} is a link that leads out", "copy what it leads to"
                )
        hashes = {str(path.relative_to(folder)): file_hash(path) or "" for path in files if path.is_file()}
        parts = list(parts_in_overlay(folder, hashes))
        for several in twice(parts):
            self.complain(
                location,
                f"{name!r} has several {several}, and Claude Code takes one",
                "give them other names",
            )
        return Overlay(
            folder.resolve(),
            folder_hash(folder),
            hashes,
            names_of(parts),
            tuple(rules_in_overlay(folder, hashes)),
            settings_in_overlay(folder, hashes),
            tuple(described_in_overlay(parts, hashes)),
        )


def _at(table: tuple[str, ...], key: str) -> tuple[str, ...]:
    """The place of a key: in its table, or, as an axis of a grid, where that is."""
    return table if table[0] == MATRIX and table[-1] == key else (*table, key)


def _sham(text: str, *, append: bool) -> ClaudeMd:
    return ClaudeMd(sham_of(text), append=append, sham_of=Text(text).sha256)


def _merged(below: Parts, above: Parts) -> Parts:
    both = [key for key in _LAID_OVER if key in below and key in above]
    return {**below, **above, **{key: {**below[key], **above[key]} for key in both}}


def _server(table: ServerTable) -> McpServer:
    return McpServer(
        command=table.command,
        args=tuple(table.args),
        env=table.env,
        url=table.url,
        headers=table.headers,
        tools=None if table.tools is None else tuple(table.tools),
    )


def _is_json(content: Any) -> bool:
    """True if JSON can hold it. TOML has dates too."""
    try:
        json.dumps(content, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


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
