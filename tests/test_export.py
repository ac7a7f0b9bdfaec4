"""Records as tables: the same columns whatever is in them, nothing lost on the way, nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.record import ErrorRecord, TokenCounts, ToolCounts, TrialRecord
from harness.report.export import to_dataset
from tests.support.records import a_record, any_record

TOOLS = {"Bash": ToolCounts(calls=3, errors=1)}


def write(path: Path, *records: TrialRecord) -> Path:
    path.write_text("".join(json.dumps(record.line()) + "\n" for record in records), encoding="utf-8")
    return path


def export(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    code = main(["export", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(any_record(), min_size=1, max_size=3))
def test_any_records_make_a_dataset_of_the_same_columns(records: list[TrialRecord]) -> None:
    """Empty lists and unknown numbers do not change a type, so that runs can be put together."""
    found = to_dataset(records)
    assert found.features == to_dataset([a_record()]).features
    assert found["trial_id"][:] == [record.trial_id for record in records]
    assert found["cost_usd"][:] == [record.cost_usd for record in records]
    assert [row["tokens"]["input"] for row in found] == [record.tokens.input for record in records]


def test_mappings_become_lists_with_names() -> None:
    """Tools differ from trial to trial; columns must not."""
    (row,) = to_dataset([a_record(tools=TOOLS, tokens=TokenCounts(input=7))])
    assert row["tools"] == [{"name": "Bash", "calls": 3, "errors": 1, "in_subagents": 0}]
    assert (row["tokens"]["input"], row["tokens"]["output"]) == (7, None)


def test_parquet_and_a_datasets_folder_hold_what_the_records_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read back by `datasets` itself."""
    from datasets import Dataset, load_from_disk

    records = [a_record(index=i, tools=TOOLS) for i in (1, 2)]
    file = write(tmp_path / "r.jsonl", *records)
    code, said = export(capsys, file, "--to", tmp_path / "r.parquet")
    assert (code, said.splitlines()[0]) == (0, f"2 records to {tmp_path / 'r.parquet'}")
    assert export(capsys, file, "--to", tmp_path / "folder")[0] == 0
    expected = to_dataset(records).to_list()
    assert (
        Dataset.from_parquet(str(tmp_path / "r.parquet"), cache_dir=str(tmp_path / "cache")).to_list()
        == expected
    )
    assert load_from_disk(str(tmp_path / "folder")).to_list() == expected


def test_csv_has_flat_columns_and_no_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Structs are columns, lists JSON, unknown is empty; and no text of an agent is run by a spreadsheet."""
    error = ErrorRecord(cause="agent", type="died", message='=HYPERLINK("http://e.vil")')
    file = write(
        tmp_path / "r.jsonl",
        a_record(outcome="error", score=None, error=error, tools=TOOLS),
        a_record(index=2),
    )
    assert export(capsys, file, "--to", tmp_path / "r.csv")[0] == 0
    with (tmp_path / "r.csv").open(newline="") as stream:
        broken, passed = csv.DictReader(stream)
    assert broken["error_message"] == '\'=HYPERLINK("http://e.vil")'
    assert (broken["score"], passed["score"], passed["error_message"]) == ("", "1.0", "")
    assert json.loads(broken["tools"])[0]["calls"] == 3
    assert broken["sandbox_kind"] == "local"


def test_wrong_use_of_export_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what would be right."""
    file = write(tmp_path / "r.jsonl", a_record())
    for arguments, says in (
        ([file], "nowhere to export to"),
        ([file, "--to", tmp_path / "r.xls"], "unknown ending '.xls'"),
        ([file, "--to", file / "x.csv"], "cannot be written"),
        ([write(tmp_path / "empty.jsonl"), "--to", tmp_path / "r.csv"], "no records to export"),
        ([file, "--push-to-hub", "a/b/c"], "cannot be pushed"),
    ):
        code, said = export(capsys, *arguments)
        assert code == 2, arguments
        assert says in said
