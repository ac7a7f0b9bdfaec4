"""Records as tables for other tools: `datasets.Dataset`, Parquet, CSV, and a dataset on the Hugging Face Hub.

Every record is a row, with `TrialRecord`'s fields as columns. What is a mapping there (tools, models, MCP servers) is
a list of structs with a `name` here, so that the columns do not depend on what is in the records.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from harness.errors import UsageError
from harness.records.reading import Records, bad_line_notes, find_run, no_records, read_records
from harness.records.record import TrialRecord
from harness.report.sources import find_source
from harness.report.table import printable
from harness.tasks.wholefile import written_whole

if TYPE_CHECKING:
    from datasets import Dataset

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_command(
    results: Path, sources: Sequence[str], to: Path | None, push: str | None, *, public: bool
) -> str:
    """Write the records of runs or records files to `to`, and to the Hub's dataset `push`. Returns a message on it.

    Raises:
        UsageError: when a source, the target or the Hub cannot be used.
    """
    if to is None and push is None:
        raise UsageError(
            "nowhere to export to", remedy="name a file with --to, or a dataset with --push-to-hub"
        )
    named: Sequence[str | None] = sources or [None]
    read = [_read(text, results) for text in named]
    records, bad = (
        [record for one in read for record in one.records],
        [line for one in read for line in one.bad],
    )
    if not records:
        raise no_records("what is to be exported", bad)
    said = [f"{len(records)} record{'s' * (len(records) != 1)}"]
    if to is not None:
        _write(records, to)
        said.append(f"to {to}")
    if push is not None:
        said.append(f"to {_push(records, push, public=public)}")
    return "".join(f"{printable(line)}\n" for line in (" ".join(said), *bad_line_notes(bad)))


def _read(text: str | None, results: Path) -> Records[TrialRecord]:
    path = Path(text) if text else None
    if path is None or not path.exists():
        path = find_source(results, text) if text else find_run(results, None).path
    return read_records(path)


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
    if to.suffix not in ("", ".csv", ".parquet"):
        raise UsageError(
            f"{to}: unknown ending {to.suffix!r}",
            remedy="there are .parquet, .csv, and none: a dataset's folder",
        )
    try:
        with written_whole(to) as path:
            if to.suffix == ".csv":
                _write_csv(records, path)
                return
            _without_progress_bars()
            dataset = to_dataset(records)
            if to.suffix:
                dataset.to_parquet(path)
            else:
                dataset.save_to_disk(path)
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
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UsageError(f"{name!r} names no dataset on the Hub", remedy="it is called USER/NAME")
    import datasets
    from huggingface_hub import HfApi

    # Its log is about how it splits files, and its errors are reported below.
    datasets.logging.set_verbosity_error()
    _without_progress_bars()
    try:
        if not public and _is_public(name):
            raise UsageError(
                f"the dataset {name} is there already, and everybody can read it",
                remedy="add --public to push to it all the same, or give a new one another name",
            )
        to_dataset(records).push_to_hub(name, private=not public)
        seen_by = "public" if _is_public(name) else "private"
    except UsageError:
        raise
    # The Hub's client lets through the errors of its HTTP library; which one that is depends on the client's version.
    except Exception as error:
        raise _not_pushed(name, error) from error
    return f"{HfApi().endpoint}/datasets/{name} ({seen_by})"


def _without_progress_bars() -> None:
    """They are for terminals only."""
    import datasets
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # its documented place

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        disable_progress_bars()


def _is_public(name: str) -> bool:
    """True if everybody can read the dataset; nobody can read one that does not exist."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return HfApi().dataset_info(name).private is False
    except RepositoryNotFoundError:
        return False


def _not_pushed(name: str, error: Exception) -> UsageError:
    """The error to show. The client's own has several lines, and the reason is in the last one or in none of them."""
    from huggingface_hub.errors import HfHubHTTPError

    refused = next((cause for cause in _causes(error) if isinstance(cause, HfHubHTTPError)), None)
    if refused is None or refused.response is None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        network = any(isinstance(cause, OSError) for cause in _causes(error))
        remedy = "is the network up, and does HF_ENDPOINT, if set, name the Hub?" if network else None
        return UsageError(f"the dataset {name} cannot be pushed: {lines[0]}", remedy=remedy)
    status = refused.response.status_code
    said = (refused.server_message or "").strip().splitlines()
    why = f"the Hub answered {status}" + (f": {said[0]}" if said else "")
    remedy = "try again later; what was uploaded is not seen until all of it is there"
    if status in (401, 403, 404):
        remedy = (
            f"log in with `hf auth login` or set HF_TOKEN, to a token that may write to {name.split('/')[0]}"
        )
    return UsageError(f"the dataset {name} cannot be pushed: {why}", remedy=remedy)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
    # A field of any type becomes JSON in its column.
    return Value({str: "string", bool: "bool", int: "int64", float: "float64", Any: "string"}[kind])


def _value(annotation: Any, value: Any) -> Any:
    """A JSON value in its column's form. Fields that a newer version added to the record have no column."""
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
