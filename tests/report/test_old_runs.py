"""Runs that an earlier version wrote can be read: `tests/data/runs` was written before modules got their packages.

Three runs of 0.1.0 at commit 36a2f9d: two shipped tasks replayed with two variants, the same ones with nothing done,
and a task whose repository could not be cloned.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import jsonlines
import pytest
from jsonschema import Draft202012Validator

from harness.cli import main
from harness.records.reading import read_records
from harness.records.record import TrialRecord, schema

RUNS = Path(__file__).parents[1] / "data" / "runs"
REPLAYED, NOTHING_DONE, NOT_CLONED = (
    "20261127-081525-134f",
    "20261127-081634-8be6",
    "20261127-081745-be66",
)


def lines(run: str) -> list[dict[str, Any]]:
    with jsonlines.open(RUNS / run / "records.jsonl") as reader:
        return list(reader)


def say(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """The lines that a command prints, with single spaces."""
    assert main([*arguments, "--results", str(RUNS)]) == code
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def without_new_fields(value: Any, known: Any) -> Any:
    """A value with those fields alone that an older one has, at every depth."""
    if isinstance(known, dict):
        return {key: without_new_fields(value[key], known[key]) for key in known}
    if isinstance(known, list):
        return [without_new_fields(one, other) for one, other in zip(value, known, strict=True)]
    return value


@pytest.mark.parametrize("run", [REPLAYED, NOTHING_DONE, NOT_CLONED])
def test_a_record_keeps_every_field(run: str) -> None:
    """What is read is what was written: no field is lost, renamed or has another meaning by default."""
    records = read_records(RUNS / run).records
    assert len(records) == len(lines(run))
    for record, line in zip(records, lines(run), strict=True):
        assert isinstance(record, TrialRecord)
        again = json.loads(record.model_dump_json())
        assert without_new_fields(again, line) == line
        assert not list(Draft202012Validator(schema()).iter_errors(line))


def test_ls_lists_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """With who did the tasks, how they ended and what that cost."""
    assert say(capsys, "ls")[1:] == [
        f"{REPLAYED} claude replay 4 4 0 0 100% $0.4995",
        f"{NOTHING_DONE} nop none 2 0 2 0 0% -",
        f"{NOT_CLONED} nop none 1 0 0 1 - -",
    ]


def test_show_finds_transcript_diff_and_checks(capsys: pytest.CaptureFixture[str]) -> None:
    """Each from the file that the record names."""
    page = say(capsys, "show", "--run", REPLAYED, "two-step-photo-sort[terse")
    assert page[0] == "two-step-photo-sort[terse-t1] PASSED"
    assert [line for line in page if line.startswith("■ prompt")] == ["■ prompt 1", "■ prompt 2"]
    assert "▸ Write /home/user/repo/bin/sort-photos" in page
    assert "diff --git a/bin/sort-photos b/bin/sort-photos" in page
    failed = say(capsys, "show", "--run", NOTHING_DONE, "fix-booking-overlap")
    assert failed[0] == "fix-booking-overlap[default-t1] FAILED"
    assert "busy(): expected ['09:45-12:15'], got ['10:00-11:00']" in failed


def test_show_tells_of_the_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """With the kinds of faults that there were then."""
    page = "\n".join(say(capsys, "show", "--run", NOT_CLONED, "unreachable"))
    assert "could not be cloned" in page
    (record,) = read_records(RUNS / NOT_CLONED).records
    assert record.error
    assert (record.error.cause, record.error.type) == ("task", "repo_unreachable")
    assert len(record.attempts) == 1


def test_compare_has_both_variants(capsys: pytest.CaptureFixture[str]) -> None:
    """And those of two runs."""
    own = say(capsys, "compare", REPLAYED)
    assert any(line.startswith("pass rate 100% 100% 0 pts") for line in own)
    assert any(line.startswith("cost, typical trial $0.1242 $0.1242 0%") for line in own)
    both = say(capsys, "compare", REPLAYED, NOTHING_DONE, "--baseline", "plain")
    assert any(line.startswith("pass rate 100% 0% -100 pts") for line in both)


def test_report_has_every_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one file, with what the agent said."""
    target = tmp_path / "report.html"
    say(capsys, "report", REPLAYED, NOTHING_DONE, NOT_CLONED, "--output", str(target))
    page = target.read_text(encoding="utf-8")
    packs = re.findall(r">(H4sI[\w+/=]+)<", page)
    trials = b"".join(gzip.decompress(base64.b64decode(pack)) for pack in packs).decode()
    assert len(packs) == sum(len(lines(run)) for run in (REPLAYED, NOTHING_DONE, NOT_CLONED))
    assert "Parsing `ls` and unquoted variables are behind all three symptoms." in trials
    assert "could not be cloned" in trials


def test_export_has_a_row_for_each_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all three runs."""
    target = tmp_path / "trials.csv"
    say(capsys, "export", REPLAYED, NOTHING_DONE, NOT_CLONED, "--to", str(target))
    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    written = [line for run in (REPLAYED, NOTHING_DONE, NOT_CLONED) for line in lines(run)]
    assert [(row["run_id"], row["trial_id"]) for row in rows] == [
        (line["run_id"], line["trial_id"]) for line in written
    ]
