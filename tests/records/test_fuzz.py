"""Fuzzing of what reads untrusted bytes: Claude Code's stream, and records. A crash prints its input.

A plain run tries a few hundred inputs of each; `pytest -m fuzz` goes on for ten minutes.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.records.events import Lines, parse_line, parse_transcript
from harness.records.metrics import metrics_of
from harness.records.metrics import parse_metrics as measured
from harness.records.reading import read_measured, read_records
from harness.records.record import TrialRecord
from harness.records.session_fields import forgeries, notes_of, session_fields
from harness.records.store import RunFolder
from harness.records.stream import SessionBuilder
from harness.report.listing import list_of_runs
from harness.report.show import show
from harness.report.transcript import entries
from harness.runs.verify import verify
from tests.support.records import a_record

STREAMS = sorted((Path(__file__).parents[1] / "data" / "streams").rglob("*.jsonl"))
LONG_S = float(os.environ.get("HARNESS_FUZZ_SECONDS", "600"))
"""For how long all long ones of a module go on together."""

ODD = [
    b"null", b"true", b"-1", b"1e308", b"1e999", b"NaN", b"9" * 400, b"[]", b"{}", b'""', b'"\\ud800"', b"[[[[",
    b"\xff\xfe", b"\xed\xa0\x80", b"\0", b'"a\\u0000b"', b"0.1", b'"\xe2\x80\xae"', b'{"a":{}}', b"[null]",
    b"1" * 5000, b"-0", b'"passed"',
]  # fmt: skip
"""What stands in the place of a value, or anywhere."""


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The data with a few changes: bytes, values, lines that are gone, doubled, cut or in another order."""
    for _ in range(draw.randrange(1, 6)):
        lines = data.split(b"\n")
        at = draw.randrange(len(lines))
        match draw.randrange(7):
            case 0:
                place = draw.randrange(len(data) + 1)
                data = data[:place] + bytes([draw.randrange(256)]) + data[place + draw.randrange(2) :]
            case 1:
                data = b"\n".join([*lines[:at], *lines[at + 1 :]])
            case 2:
                data = b"\n".join([*lines[:at], lines[at], *lines[at:]])
            case 3:
                data = b"\n".join(
                    [*lines[:at], lines[at][: draw.randrange(len(lines[at]) + 1)], *lines[at + 1 :]]
                )
            case 4:
                draw.shuffle(lines)
                data = b"\n".join(lines)
            case 5:
                place = draw.randrange(len(data) + 1)
                data = data[:place] + draw.choice(ODD) + data[place:]
            case _:
                # A value: from a colon or = to the next comma, brace or line.
                mark = draw.choice([b":", b"="])
                start = data.find(mark, draw.randrange(len(data) + 1)) + 1
                ends = [end for end in (data.find(each, start) for each in (b",", b"}", b"\n")) if end > 0]
                if start and ends:
                    data = data[:start] + draw.choice(ODD) + data[min(ends) :]
    return data


def fuzz(seeds: list[bytes], target: Callable[[bytes], None], rounds: int, seconds: float | None) -> int:
    """Try mutations of seeds; returns how many. A crash is printed with its input, in base64."""
    # The short ones try the same each time: what a change breaks is found by it, and what is new by the long ones.
    draw, tried, end = (
        random.Random(0 if seconds is None else time.time_ns()),
        0,
        time.monotonic() + (seconds or 0),
    )
    while tried < rounds if seconds is None else time.monotonic() < end:
        data = mutated(draw.choice(seeds), draw)
        tried += 1
        try:
            target(data)
        except BaseException:
            sys.stderr.write(f"crash after {tried} inputs: {base64.b64encode(data).decode()}\n")
            raise
    sys.stderr.write(f"{tried} inputs, 0 crashes\n")
    return tried


def read_stream(data: bytes) -> None:
    """All that is done with a transcript: in chunks and whole, to a record's fields and to what is shown."""
    builder, lines = SessionBuilder(), Lines()
    for start in range(0, len(data), 7_001):
        builder.add_all(map(parse_line, lines.feed(data[start : start + 7_001])))
    session = builder.add_all(map(parse_line, lines.finish())).session()
    assert session == SessionBuilder().add_all(parse_transcript(data)).session()
    given = {"glm-4.6": {"input": 1.0, "output": 2.0}}
    for prices in ({}, given):
        record = a_record(
            **session_fields(session, prices), notes=notes_of(session), tampering=forgeries(session, "t")
        )
        line = json.dumps(record.line(), allow_nan=False).encode("utf-8")
        assert TrialRecord.model_validate_json(line) == record
        assert measured(line) == metrics_of(record)
    assert sum(1 for _ in entries(parse_transcript(data))) >= 0


def read_folder(folder: Path) -> Callable[[bytes], None]:
    """All that is done with a records file."""
    run = RunFolder.create(folder, "r", {}, RunFolder(folder).redact)

    def read(data: bytes) -> None:
        run.records_file.write_bytes(data)
        whole = read_records(run.path)
        read_measured(run.path)
        list_of_runs(folder)
        show(folder, "r", None, io.StringIO(), full=False, as_json=False, color=False)
        for record in whole.records[:1]:
            try:
                show(folder, "r", record.trial_id, io.StringIO(), full=True, as_json=True, color=False)
                show(folder, "r", record.trial_id, io.StringIO(), full=True, as_json=False, color=False)
            except HarnessError:
                pass  # Two ids may begin alike.
        verify(folder, "r").text()

    return read


def records() -> list[bytes]:
    """Files of records, with all fields that they may have."""
    run = Path(__file__).parents[1] / "data" / "runs"
    kept = [path.read_bytes() for path in sorted(run.glob("*/records.jsonl"))]
    made = [a_record(index=index, cost_usd=0.5, answered={"m": 3}, retry_wait_ms=5) for index in (1, 2)]
    return [*kept, b"".join(json.dumps(record.line()).encode() + b"\n" for record in made)]


def streams() -> list[bytes]:
    return [path.read_bytes() for path in STREAMS]


def test_no_stream_can_raise() -> None:
    """Whatever a stream holds is events, a session, a valid record and something to show."""
    assert fuzz(streams(), read_stream, 150, None) == 150


def test_no_records_file_can_raise(tmp_path: Path) -> None:
    """Whatever a records file holds is records and bad lines, for every reader."""
    assert fuzz(records(), read_folder(tmp_path), 60, None) == 60


@pytest.mark.fuzz
def test_streams_for_ten_minutes() -> None:
    """The same, with other inputs at each run."""
    fuzz(streams(), read_stream, 0, LONG_S / 2)


@pytest.mark.fuzz
def test_records_files_for_ten_minutes(tmp_path: Path) -> None:
    """The same, with other inputs at each run."""
    fuzz(records(), read_folder(tmp_path), 0, LONG_S / 2)
