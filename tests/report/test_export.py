"""Records as tables: the same columns whatever is in them, nothing lost on the way, nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.records.record import TrialRecord
from harness.records.record_parts import ErrorRecord, TokenCounts, ToolCounts
from harness.report.export import to_dataset
from tests.support.hub import Hub
from tests.support.records import a_record, any_record

TOOLS = {"Bash": ToolCounts(calls=3, errors=1)}


def write(path: Path, *records: TrialRecord) -> Path:
    path.write_text("".join(json.dumps(record.line()) + "\n" for record in records), encoding="utf-8")
    return path


def export(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    code = main(["export", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
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
    assert (code, said) == (0, f"2 records to {tmp_path / 'r.parquet'}\n")
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
    with file.open("a") as records:
        records.write("torn")
    code, said = export(capsys, file, "--to", tmp_path / "r.csv")
    assert (code, "r.jsonl:3 is no record, and left out" in said) == (0, True)
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
        ([write(tmp_path / "empty.jsonl"), "--to", tmp_path / "r.csv"], "has no records"),
        ([file, "--push-to-hub", "a/b/c"], "'a/b/c' names no dataset on the Hub\n  it is called USER/NAME"),
    ):
        code, said = export(capsys, *arguments)
        assert code == 2, arguments
        assert says in said


@pytest.mark.parametrize("name", ["r.csv", "r.parquet", "dataset"])
def test_an_export_that_fails_leaves_what_was_there_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A disk that takes no more makes no stump, and takes nothing away."""
    file = write(tmp_path / "r.jsonl", a_record())
    target = tmp_path / "out" / name
    assert export(capsys, file, "--to", target)[0] == 0
    before = {path: path.read_bytes() for path in target.parent.rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        code, said = export(capsys, file, "--to", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, f"{target} cannot be written" in said) == (2, True), said
    assert {path: path.read_bytes() for path in target.parent.rglob("*") if path.is_file()} == before
    assert [path.name for path in target.parent.iterdir()] == [name]
    assert export(capsys, file, "--to", target)[0] == 0


# The Hugging Face Hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(token="hf_may_write") as server:
        yield server


def command(env: Mapping[str, str], *arguments: Any) -> tuple[int, str]:
    """A process of its own: the Hub's client reads its environment once."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [*map(str, arguments)], env={**own, **env}, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def push(env: Mapping[str, str], file: Path, *more: str) -> tuple[int, str]:
    harness = Path(sys.executable).with_name("harness")
    return command(env, harness, "export", file, "--push-to-hub", "me/runs", *more)


READ_BACK = """
import datasets, json, sys
datasets.disable_progress_bars()
print(json.dumps(datasets.load_dataset("me/runs", split="train").to_list()))
"""


def test_a_pushed_dataset_is_private_and_loads_as_the_records(hub: Hub, tmp_path: Path) -> None:
    """By the Hub's own client and `datasets`; pushed again, it holds what was pushed last."""
    env = hub.env(tmp_path / "home", "hf_may_write")
    records = [a_record(index=index, tools=TOOLS) for index in (1, 2, 3)]
    said = push(env, write(tmp_path / "r.jsonl", records[0]))
    assert said == (0, f"1 record to {hub.origin}/datasets/me/runs (private)\n")
    assert push(env, write(tmp_path / "r.jsonl", *records))[0] == 0

    code, read = command(env, sys.executable, "-c", READ_BACK)
    assert (code, hub.repos["me/runs"].private) == (0, True), read
    assert json.loads(read.splitlines()[-1]) == to_dataset(records).to_list()


def test_a_dataset_that_everybody_can_read_is_pushed_to_on_demand_only(hub: Hub, tmp_path: Path) -> None:
    """What agents wrote goes to nobody by accident, also where a public dataset of the name is there already."""
    env = hub.env(tmp_path / "home", "hf_may_write")
    file = write(tmp_path / "r.jsonl", a_record())
    assert push(env, file, "--public") == (0, f"1 record to {hub.origin}/datasets/me/runs (public)\n")
    before = hub.repos["me/runs"].commits[:]

    code, said = push(env, file)
    assert (code, hub.repos["me/runs"].commits) == (2, before)
    assert said.startswith("harness: the dataset me/runs is there already, and everybody can read it")


@pytest.mark.parametrize("token", ["hf_of_somebody_else", None])
def test_a_refused_push_is_told_in_two_lines(hub: Hub, tmp_path: Path, token: str | None) -> None:
    """With the Hub's own reason; nothing is left there."""
    code, said = push(hub.env(tmp_path / "home", token), write(tmp_path / "r.jsonl", a_record()))
    reason, remedy = said.splitlines()
    assert (code, hub.repos, hub.stored) == (2, {}, {})
    assert reason.startswith("harness: the dataset me/runs cannot be pushed: the Hub answered 401: Invalid ")
    assert remedy == "  log in with `hf auth login` or set HF_TOKEN, to a token that may write to me"


def test_a_hub_that_cannot_be_reached_is_told_in_two_lines(tmp_path: Path) -> None:
    """No traceback."""
    with Hub(token="hf_may_write") as gone:
        env = gone.env(tmp_path / "home", "hf_may_write")
    code, said = push(env, write(tmp_path / "r.jsonl", a_record()))
    assert (code, len(said.splitlines())) == (2, 2), said
    assert "is the network up" in said
