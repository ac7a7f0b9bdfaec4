"""Results folders that others have made: whatever is in them, every command that reads one answers in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.records.store import RunFolder
from harness.report.live import RunningTrial, RunStatus, read_status, write_status
from tests.support.records import a_record
from tests.support.runs import made_up_run

RUN = "20261123-090141-3f9c"
TRIAL = "fix-booking-overlap[default-t1]"
COMMANDS: dict[str, list[str]] = {
    "ls": ["ls"],
    "table": ["show", "--run", RUN],
    "show": ["show", TRIAL, "--run", RUN],
    "json": ["show", TRIAL, "--run", RUN, "--json"],
    "compare": ["compare", RUN],
    "report": ["report", RUN],
    "export": ["export", RUN, "--to", "out.csv"],
    "merge": ["merge", RUN, "20261123-090141-0000", "--into", "merged"],
    "verify": ["verify", RUN],
    "apply": ["apply", TRIAL, "--run", RUN],
    "attach": ["attach", TRIAL, "--run", RUN],
    "checks": ["checks", TRIAL, "--run", RUN],
    "regrade": ["regrade", RUN],
    "follow": ["show", TRIAL, "--run", RUN, "--follow"],
    "watch": ["watch", RUN],
}
_TRIAL = "trials/fix-booking-overlap/default-t1"
SECRET = "the content of a file outside"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of four trials, and another one; a checkout beside it."""
    folder = tmp_path / "results"
    made_up_run(folder, tasks=1, trials=2, run_id=RUN)
    RunFolder.create(folder, "20261123-090141-0000", {}, RunFolder(folder).redact).append(a_record("another"))
    (tmp_path / "outside.txt").write_text(SECRET)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    return folder


def said(capfd: pytest.CaptureFixture[str], name: str) -> tuple[int, str]:
    """A command's exit code, and all that it said."""
    code = main(COMMANDS[name])
    captured = capfd.readouterr()
    return code, captured.out + captured.err


def with_first_line(run: Path, change: Callable[[str], bytes]) -> None:
    """The run's first record, changed; the others as they are."""
    first, *rest = (run / "records.jsonl").read_text().splitlines()
    (run / "records.jsonl").write_bytes(
        b"\n".join([change(first), *(line.encode() for line in rest)]) + b"\n"
    )


def with_fields(**fields: Any) -> Callable[[Path], None]:
    return lambda run: with_first_line(run, lambda line: json.dumps({**json.loads(line), **fields}).encode())


def as_fifo(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def as_link(name: str, to: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.symlink(to, run / name)

    return change


def as_sparse(name: str) -> Callable[[Path], None]:
    """A file of 10 GiB, which takes no room."""

    def change(run: Path) -> None:
        (run / name).touch()
        os.truncate(run / name, 10 * 1024**3)

    return change


def with_file(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda run: [(run / name).write_bytes(data), None][1]


HOSTILE: dict[str, Callable[[Path], None]] = {
    "a huge cost": with_fields(cost_usd=1e308),
    "a huge cost of an attempt": with_fields(attempts=[{"number": 1, "cost_usd": 1e308}]),
    "huge counts": with_fields(tokens={"input": 10**300, "output": 1, "cache_read": 0, "cache_creation": 0}),
    "a negative cost": with_fields(cost_usd=-1.0),
    "endless times": with_fields(duration_ms=10**40, phases_ms={"total": 10**40}),
    "an odd index": with_fields(index=10**30),
    "a raw surrogate": lambda run: with_first_line(run, lambda line: line.encode().replace(b"fix", b"f\xed\xa0\x80x")),
    "an escaped surrogate": lambda run: with_first_line(run, lambda line: line.encode().replace(b"fix", b"f\\ud800x")),
    "UTF-16": lambda run: with_first_line(run, lambda line: line.encode("utf-16")),
    "NUL bytes": lambda run: with_first_line(run, lambda line: b"\0" * 1000),
    "deep JSON": lambda run: with_first_line(run, lambda line: b"[" * 100_000),
    "another kind of JSON": lambda run: with_first_line(run, lambda line: b"[1, 2]"),
    "names that lead out": with_fields(task="../../outside", variant="../..", trial_id="../../x[y-t1]"),
    "control characters": with_fields(task="\x1b[2J\u202e\u200f\u2028", trial_id="\x1b]0;x\x07[default-t1]"),
    "a FIFO for its records": as_fifo("records.jsonl"),
    "a FIFO for what it is": as_fifo("run.json"),
    "a folder for its records": lambda run: ((run / "records.jsonl").unlink(), (run / "records.jsonl").mkdir())[1],
    "a link to a device": as_link("records.jsonl", "/dev/zero"),
    "no UTF-8 for what it is": lambda run: [(run / "run.json").write_bytes(b"\xff\xfe{}"), None][1],
    "deep JSON for what it is": lambda run: [(run / "run.json").write_bytes(b"[" * 10**6), None][1],
    "rounds without an end": lambda run: [
        (run / "run.json").write_text('{"until_decided": {"max_trials": 1e999}}'), None
    ][1],
    "a FIFO for its manifest": as_fifo("manifest.sha256"),
    "a FIFO for its verdicts": as_fifo("report.json"),
    "a FIFO for its lock": as_fifo("lock"),
    "a name of megabytes": with_fields(task="y" * 3_000_000, trial_id="y" * 3_000_000),
    "an endless transcript": as_sparse(f"{_TRIAL}/transcript.jsonl"),
    "an endless diff": as_sparse(f"{_TRIAL}/diff.patch"),
    "endless records": as_sparse("records.jsonl"),
    "links in a circle": lambda run: [
        *(as_link(name, Path(name).name)(run) for name in ("records.jsonl", "report.json", "manifest.sha256")),
        None,
    ][-1],
    "records of another": as_link("records.jsonl", "../20261123-090141-0000/records.jsonl"),
    "a statement of wrong types": with_file("report.json", b'{"baseline": [1], "fail_on": {}}'),
    "a copy of wrong types": with_file(f"{_TRIAL}/record.json", b'{"trial_id": [1], "checks": 7}'),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_every_command_answers_in_words(results: Path, capfd: pytest.CaptureFixture[str], what: str) -> None:
    """Without a traceback, without waiting for anybody, and without what would steer a terminal."""
    HOSTILE[what](results / RUN)
    for name in COMMANDS:
        code, text = said(capfd, name)
        assert code in (0, 1, 2), name
        assert "Traceback" not in text
        assert "\x1b" not in text
        assert not {"\u202e", "\u200f", "\u2028"} & {*text}


def test_a_bad_line_is_told_where_runs_are_listed(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With its number and the reason; the other records count."""
    HOSTILE["a huge cost"](results / RUN)
    for name in ("ls", "table"):
        _, text = said(capfd, name)
        assert "records.jsonl:1 is no record, and left out: cost_usd: Input should be less than" in text
    _, text = said(capfd, "compare")
    assert "1 line is no record" in text


@pytest.mark.parametrize(
    "one",
    [{"trial": [1]}, {"task": 5}, {"variant": [1]}, {"index": {}}, {"seconds": -1}, {"spent_usd": 1e308}],
)
def test_what_a_run_says_of_itself_is_validated(tmp_path: Path, one: dict[str, Any]) -> None:
    """A status of wrong types is none."""
    run = RunFolder.create(tmp_path, RUN, {}, RunFolder(tmp_path).redact)
    status = RunStatus(2, 1, 0, 0, None, 5.0, (RunningTrial("t", "t", "v", 1, 3.0, "agent"),))
    write_status(run, status)
    lock = run.lock()
    try:
        assert read_status(run) == status
        told = json.loads((run.path / "status.json").read_text())
        told["running"][0] |= one
        (run.path / "status.json").write_text(json.dumps(told))
        assert read_status(run) is None
    finally:
        lock.release()


def test_many_lines_that_are_no_records_are_counted(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A few of them are told by their numbers."""
    with (results / RUN / "records.jsonl").open("ab") as file:
        file.write(b"{}\n" * 30_000)
    _, text = said(capfd, "verify")
    assert "a further line of records.jsonl is no record, or cut off (29995)" in text
    assert text.count("is no record") == 6


LEADING_OUT: dict[str, Callable[[Path], None]] = {
    "a path": with_fields(transcript="../../outside.txt", diff="../../outside.txt", work="../..", checks=[]),
    "an absolute path": lambda run: with_fields(
        transcript=str(run.parents[1] / "outside.txt"), diff=str(run.parents[1] / "outside.txt"), checks=[]
    )(run),
    "a link": lambda run: [
        os.symlink(run.parents[1] / "outside.txt", run / "link"),
        with_fields(transcript="link", diff="link", checks=[])(run),
    ][1],
    "a link on the way": lambda run: [
        os.symlink(run.parents[1], run / "up"),
        with_fields(transcript="up/outside.txt", diff="up/outside.txt", checks=[])(run),
    ][1],
}


@pytest.mark.parametrize("what", LEADING_OUT)
def test_nothing_outside_of_the_runs_folder_is_read(
    results: Path, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    """By no command, whatever a record names; and nothing is written there."""
    LEADING_OUT[what](results / RUN)
    for name in COMMANDS:
        _, text = said(capfd, name)
        assert SECRET not in text
    assert "leads out of" in said(capfd, "show")[1]
    assert "leads out of" in said(capfd, "apply")[1]
    assert SECRET not in (results / RUN / "report.html").read_text()
    assert (results.parent / "outside.txt").read_text() == SECRET


def test_trials_that_are_links_are_not_merged(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What they lead to is another's."""
    trial = RunFolder(results / RUN).trial("fix-booking-overlap", "default", 1).path
    trial.rename(results.parent / "elsewhere")
    os.symlink(results.parent / "elsewhere", trial)
    code, text = said(capfd, "merge")
    assert code == 2
    assert "leads out of" in text
    assert not (results / "merged").exists(), "a part of the trials would be read as a run"


def test_a_line_of_100_mb_is_left_out_in_bounded_memory(results: Path) -> None:
    """The records after it count."""
    file = results / RUN / "records.jsonl"
    rest = file.read_bytes()
    with file.open("wb") as stream:
        stream.write(b'{"x": "' + b"y" * 100_000_000 + b'"}\n' + rest)
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"for command in (['ls'], ['show', '--run', '{RUN}'], ['verify', '{RUN}']): main([*command])\n"
        "(peak,) = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print(int(peak) // 1024, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "records.jsonl:1 is no record, and left out: it has more than 16 MiB" in done.stdout
    assert TRIAL in done.stdout
    assert int(done.stderr.split()[-1]) < 200
