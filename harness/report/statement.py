"""`report.json` in a run's folder: what its report says, each variant's counts and means, and every verdict."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from harness import __version__
from harness.errors import UsageError
from harness.records.manifest import write_manifest
from harness.records.reading import read_records
from harness.records.store import RunFolder, disk_fault
from harness.report.run_verdict import judge_run, load_comparison_target
from harness.report.terminal import summary_rows

STATEMENT = "report.json"


def statement_of(run: RunFolder, baseline: str | None, fail_on: str | None) -> dict[str, Any]:
    """The statement on a run, with the baseline and the gate that it was started with.

    Raises:
        UsageError: when its records cannot be read.
    """
    records = read_records(run.path).records
    is_compared = baseline is not None or len({record.variant for record in records}) > 1
    return {
        "harness_version": __version__,
        "run": run.id,
        "trials": len(records),
        "baseline": baseline,
        "fail_on": fail_on,
        "variants": as_json_values(summary_rows(records)),
        "verdict": _verdict(run, baseline, fail_on) if is_compared else None,
    }


def statement_text(run: RunFolder, baseline: str | None, fail_on: str | None) -> str:
    """It as the text of the file, wherever the run's folder is."""
    text = json.dumps(statement_of(run, baseline, fail_on), indent=1, ensure_ascii=False) + "\n"
    return text.replace(json.dumps(str(run.path), ensure_ascii=False)[1:-1], run.id)


def _verdict(run: RunFolder, baseline: str | None, fail_on: str | None) -> Any:
    try:
        target = load_comparison_target(run.path.parent, baseline, fail_on)
        found = judge_run(run, target)
    except UsageError as error:
        return {"cannot_be_judged": error.message}
    return found and {"comparison": as_json_values(found.view), "gate": as_json_values(found.gate)}


def as_json_values(value: Any) -> Any:
    """A value of frozen dataclasses as JSON's own."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json_values(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json_values(one) for name, one in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Iterable):
        return [as_json_values(one) for one in value]
    return as_json_values(value.item()) if hasattr(value, "item") else str(value)


def seal_run(run: RunFolder, baseline: str | None = None, fail_on: str | None = None) -> None:
    """End a run's folder: what it came to, and the hash of all that is in it.

    Raises:
        InternalFault: when the disk does not take it.
    """
    if run.records_file.is_file():
        target = run.path / STATEMENT
        try:
            target.write_bytes(run.redact(statement_text(run, baseline, fail_on).encode("utf-8", "replace")))
        except OSError as error:
            raise disk_fault(target, error) from error
    write_manifest(run.path)
