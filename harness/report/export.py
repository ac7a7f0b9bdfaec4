"""Records as tables for other tools: `datasets.Dataset`, Parquet, CSV, and a dataset on the Hugging Face Hub.

Every record is a row, with `TrialRecord`'s fields as columns. What is a mapping there (tools, models, MCP servers) is
a list of structs with a `name` here, so that the columns do not depend on what is in the records.
"""

from __future__ import annotations

import csv
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from harness.errors import UsageError
from harness.record import TrialRecord
from harness.store import find_run, read_records

if TYPE_CHECKING:
    from datasets import Dataset

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_command(
    results: Path, sources: Sequence[str], to: Path | None, push: str | None, *, public: bool
) -> str:
    """Write the records of runs or records files to `to`, and to the Hub's dataset `push`; says what was done.

    Raises:
        UsageError: when a source, the target or the Hub cannot be used.
    """
    if to is None and push is None:
        raise UsageError(
            "nowhere to export to", remedy="name a file with --to, or a dataset with --push-to-hub"
        )
    named: Sequence[str | None] = sources or [None]
    records = [record for text in named for record in _read(text, results)]
    if not records:
        raise UsageError("there are no records to export", remedy="`harness ls` lists the runs")
    said = [f"{len(records)} records"]
    if to is not None:
        _write(records, to)
        said.append(f"to {to}")
    if push is not None:
        said.append(f"to {_push(records, push, public=public)}")
    return " ".join(said) + "\n"


def _read(text: str | None, results: Path) -> tuple[TrialRecord, ...]:
    path = Path(text) if text else None
    return read_records(path if path and path.exists() else find_run(results, text).path).records


def to_dataset(records: Sequence[TrialRecord]) -> Dataset:
    """The records as a dataset in memory, with the same columns and types whatever is in them."""
    from datasets import Dataset, Features

    features = {name: _feature(field.annotation) for name, field in TrialRecord.model_fields.items()}
    rows = [_row(record) for record in records]
    return Dataset.from_list(rows, features=Features(features))


def _row(record: TrialRecord) -> dict[str, Any]:
    line = record.line()
    return {name: _value(field.annotation, line[name]) for name, field in TrialRecord.model_fields.items()}


def _write(records: Sequence[TrialRecord], to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if to.suffix == ".csv":
            _write_csv(records, to)
        elif to.suffix == ".parquet":
            to_dataset(records).to_parquet(to)
        elif not to.suffix:
            to_dataset(records).save_to_disk(to)
        else:
            raise UsageError(
                f"{to}: unknown ending {to.suffix!r}",
                remedy="there are .parquet, .csv, and none: a dataset's folder",
            )
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror or error}") from error


def _write_csv(records: Sequence[TrialRecord], to: Path) -> None:
    """Structs become columns of their own (`tokens_input`), lists become JSON."""
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(_flat(records[0])))
        writer.writeheader()
        writer.writerows(_flat(record) for record in records)


def _flat(record: TrialRecord) -> dict[str, Any]:
    return dict(_cells(TrialRecord.model_fields, _row(record), ""))


def _cells(
    fields: Mapping[str, Any], row: Mapping[str, Any] | None, prefix: str
) -> Iterator[tuple[str, Any]]:
    for name, field in fields.items():
        kind, value = _bare(field.annotation), None if row is None else row[name]
        if _is_model(kind):
            yield from _cells(kind.model_fields, value, f"{prefix}{name}_")
        elif isinstance(value, list):
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)
        elif isinstance(value, str) and value.startswith(_FORMULA):
            # A spreadsheet would run it; the text may be an agent's.
            yield f"{prefix}{name}", f"'{value}"
        else:
            yield f"{prefix}{name}", value


def _push(records: Sequence[TrialRecord], name: str, *, public: bool) -> str:
    try:
        to_dataset(records).push_to_hub(name, private=not public)
    # The Hub's client lets through the errors of its HTTP library; which one that is depends on the client's version.
    except Exception as error:
        raise UsageError(
            f"the dataset {name!r} cannot be pushed: {error}",
            remedy="log in with `hf auth login` or set HF_TOKEN; the name is USER/DATASET",
        ) from error
    return f"https://huggingface.co/datasets/{name} ({'public' if public else 'private'})"


# The record's types as columns


def _bare(annotation: Any) -> Any:
    """A type without None and without bounds."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(annotation) if part is not type(None))
        return _bare(kind)
    return annotation


def _is_model(kind: Any) -> bool:
    return hasattr(kind, "model_fields")


def _feature(annotation: Any) -> Any:
    from datasets import List, Value

    kind = _bare(annotation)
    origin, arguments = get_origin(kind), get_args(kind)
    if _is_model(kind):
        return {name: _feature(field.annotation) for name, field in kind.model_fields.items()}
    if origin is tuple:
        return List(_feature(arguments[0]))
    if origin is Mapping:
        of = _feature(arguments[1])
        return List({"name": Value("string"), **(of if isinstance(of, dict) else {"value": of})})
    if origin is Literal:
        return Value("int64" if isinstance(arguments[0], int) else "string")
    # What may be anything is JSON in its column.
    return Value({str: "string", bool: "bool", int: "int64", float: "float64", Any: "string"}[kind])


def _value(annotation: Any, value: Any) -> Any:
    """A JSON value in its column's form. What a newer version has added to a record has no column."""
    kind = _bare(annotation)
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return json.dumps(value, ensure_ascii=False)
    if value is None:
        return None
    if _is_model(kind):
        return {name: _value(field.annotation, value[name]) for name, field in kind.model_fields.items()}
    if origin is tuple:
        return [_value(arguments[0], item) for item in value]
    if origin is Mapping:
        items = ((name, _value(arguments[1], item)) for name, item in value.items())
        return [
            {"name": name, **(item if isinstance(item, dict) else {"value": item})} for name, item in items
        ]
    return value
