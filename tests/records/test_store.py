"""What a run leaves on disk: whole records, whatever happens on the way, and nobody's secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import InternalFault, UsageError
from harness.records.cut_record import NOTE
from harness.records.reading import find_run, list_runs, read_records
from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult, Tampering, ToolCounts
from harness.records.redaction import NO_REDACTION, Redactor
from harness.records.store import MAX_RECORD, RECORD, RunFolder, RunLock, new_run_id
from tests.support.records import a_record, any_record

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path)


def make_run(results: Path, name: str = "20261123-090141-3f9c", **secrets: str) -> RunFolder:
    return RunFolder.create(results, name, {"agent": "nop"}, Redactor(secrets))


def in_another_process(code: str, *args: object) -> subprocess.Popen[str]:
    """Python code with `run`, a run's folder, and `a_record` in it."""
    head = "import sys; from pathlib import Path; from harness.records.store import RunFolder\n"
    head += "from tests.support.records import a_record\nrun = RunFolder(Path(sys.argv[1]))\n"
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, args)], cwd=root, stdout=subprocess.PIPE, text=True
    )


def to_fault(write: Callable[[], object]) -> InternalFault:
    with pytest.raises(InternalFault) as caught:
        write()
    return caught.value


# Records


def test_a_record_is_a_line(run: RunFolder) -> None:
    """Readable by any reader of JSON Lines, non-ASCII text as itself."""
    record = a_record(task="answer", tags=("größe",))
    run.append(record)
    text = run.records_file.read_text(encoding="utf-8")
    assert text.count("\n") == 1
    assert "größe" in text
    assert json.loads(text) == record.line()
    assert read_records(run.path).records == (record,)
    assert read_records(run.records_file).records == (record,)


@settings(same_folder, max_examples=25)
@given(st.lists(any_record(), max_size=3, unique_by=lambda record: (record.run_id, record.trial_id)))
def test_any_record_comes_back(tmp_path: Path, records: list[TrialRecord]) -> None:
    """Whatever its values, in the order in which they were appended, and each on one line."""
    run = make_run(tmp_path)
    run.records_file.unlink(missing_ok=True)
    for record in records:
        run.append(record)
    if records:
        assert run.records_file.read_bytes().count(b"\n") == len(records)
        assert read_records(run.path).records == tuple(records)


def test_the_last_record_of_a_trial_wins(run: RunFolder) -> None:
    """A trial may be run again; others keep their place."""
    run.append(a_record(outcome="error", score=None))
    run.append(a_record(index=2))
    run.append(a_record(outcome="failed", score=0.0))
    found = read_records(run.path).records
    assert [(record.index, record.outcome) for record in found] == [(1, "failed"), (2, "passed")]


def test_trials_of_two_runs_in_one_file_are_two(run: RunFolder) -> None:
    """Files may be put together by hand."""
    run.append(a_record())
    run.append(a_record(run_id="another"))
    assert len(read_records(run.path).records) == 2


def test_what_is_no_text_does_not_make_a_record_unreadable(run: RunFolder) -> None:
    """A file name that is no UTF-8 reaches Python as lone surrogates, which JSON cannot carry."""
    check = CheckResult(
        name="a", passed=True, score=1, exit_code=0, duration_ms=1, output_tail="odd: \udcff \ud800 π"
    )
    run.append(a_record(checks=(check,)))
    found = read_records(run.path)
    assert not found.bad
    assert found.records[0].checks[0].output_tail == "odd: ? ? π"


# Records that were cut, or are none


def test_what_an_agent_brings_about_makes_no_record_too_large_to_be_read(run: RunFolder) -> None:
    """It would count for nobody then: long names of bytes that are no text, a model's name without an end, and more."""
    name = "\udcff" * 4_000
    usage = ToolCounts(calls=1, errors=0)
    given = a_record(
        outcome="failed",
        model="m" * MAX_RECORD,
        tampering=tuple(Tampering(path=f"{number}{name}", change="added") for number in range(1_000)),
        tools={f"{number}{name}": usage for number in range(300)},
        notes=("kept",),
    )
    run.append(given)
    run.write_copy(given)
    (read,) = read_records(run.path).records
    assert (read.trial_id, read.task_hash, read.outcome) == (given.trial_id, given.task_hash, "failed")
    assert read.notes == ("kept", NOTE)
    assert (len(read.tampering), len(read.tools)) == (1_000, 300)
    copy = run.trial(given.task, given.variant, given.index).path / RECORD
    assert copy.read_bytes() == run.records_file.read_bytes()


def test_a_torn_last_line_is_read_past_and_told(run: RunFolder) -> None:
    """The harness was killed while it wrote: the records before it are there."""
    run.append(a_record())
    whole = run.records_file.read_bytes()
    run.records_file.write_bytes(whole + whole[:-30])
    found = read_records(run.path)
    assert found.records == (a_record(),)
    (bad,) = found.bad
    assert (bad.file, bad.number) == (run.records_file, 2)
    assert bad.reason == "it is no JSON, or cut off"


def test_what_comes_after_a_torn_line_starts_on_its_own(run: RunFolder) -> None:
    """No later record is lost to it."""
    run.append(a_record())
    with run.records_file.open("ab") as file:
        file.write(b'{"schema_version": 1, "run_')
    run.append(a_record(index=2))
    found = read_records(run.path)
    assert [record.index for record in found.records] == [1, 2]
    assert [bad.number for bad in found.bad] == [2]


def test_a_record_that_lost_only_its_line_end_is_whole(run: RunFolder) -> None:
    """It is read, and the next is not glued to it."""
    run.append(a_record())
    run.records_file.write_bytes(run.records_file.read_bytes().rstrip(b"\n"))
    run.append(a_record(index=2))
    found = read_records(run.path)
    assert [record.index for record in found.records] == [1, 2]
    assert not found.bad


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello", "it is no JSON, or cut off"),
        ("{}", "trial_id: Field required"),
        ("[]", "Input should be an object"),
        (json.dumps({**a_record().line(), "schema_version": 2}), "its schema_version is not 1: a newer"),
        (json.dumps({**a_record().line(), "outcome": "great"}), "outcome: Input should be 'passed'"),
        (
            json.dumps({**a_record().line(), "cost_usd": float("nan")}),
            "cost_usd: Input should be a finite number",
        ),
    ],
)
def test_what_is_no_record_is_told(run: RunFolder, line: str, reason: str) -> None:
    """With its number and the reason, and the others are read; empty lines are nothing."""
    run.append(a_record())
    with run.records_file.open("a") as file:
        file.write(f"\n{line}\n")
    run.append(a_record(index=2))
    found = read_records(run.path)
    assert [record.index for record in found.records] == [1, 2]
    (bad,) = found.bad
    assert bad.number == 3
    assert bad.reason.startswith(reason)


@same_folder
@given(st.binary(max_size=100))
def test_no_bytes_can_hide_a_record(tmp_path: Path, noise: bytes) -> None:
    """Whatever was in the file before, what is appended is found."""
    run = make_run(tmp_path)
    run.records_file.write_bytes(noise)
    run.append(a_record())
    assert read_records(run.path).records == (a_record(),)


def test_no_records_is_told(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(UsageError, match=r"no records can be read from .*: No such file") as caught:
        read_records(tmp_path / "nothing")
    assert "harness ls" in str(caught.value)


# Several processes, and a full disk


def test_processes_append_at_once(run: RunFolder) -> None:
    """Each record is there, whole, however long the lines are."""
    code = """
for index in range(1, 41):
    run.append(a_record(sys.argv[2], index=index, tags=("x" * 40_000,)))
"""
    processes = [in_another_process(code, run.path, name) for name in ("one", "two")]
    assert [process.wait(60) for process in processes] == [0, 0]
    found = read_records(run.path)
    assert not found.bad
    assert len(found.records) == 80
    for name in ("one", "two"):
        mine = [record.index for record in found.records if record.task == name]
        assert mine == list(range(1, 41))


def test_threads_append_at_once(run: RunFolder) -> None:
    """Each record is there, whole, when its own append returns."""

    def append(index: int) -> bool:
        run.append(a_record(index=index, tags=("x" * 40_000,)))
        return index in {record.index for record in read_records(run.path).records}

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(append, range(1, 81)))
    found = read_records(run.path)
    assert not found.bad
    assert sorted(record.index for record in found.records) == list(range(1, 81))


def test_each_thread_learns_that_its_record_was_not_written(run: RunFolder) -> None:
    """Also those whose lines another thread took along."""
    run.records_file.mkdir()
    with ThreadPoolExecutor(16) as threads:
        faults = list(
            threads.map(lambda index: to_fault(lambda: run.append(a_record(index=index))), range(1, 81))
        )
    assert {fault.kind for fault in faults} == {"disk"}


FULL = """
import resource, signal
from harness.errors import InternalFault
from harness.records.store import TrialFolder
room = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
transcript = run.trial("answer", "default", 1).line_writer("transcript.jsonl")
transcript.write(b"short")
for write in (
    lambda: run.append(a_record(tags=("x" * room,))),
    lambda: transcript.write(b"x" * room),
    lambda: run.trial("answer", "default", 1).write("diff.patch", b"x" * 2 * room),
):
    try:
        write()
    except InternalFault as fault:
        print(fault.cause, fault.kind, fault.retry, fault.fatal)
transcript.close()
run.append(a_record(index=2))
"""


def test_a_full_disk_is_told_and_breaks_nothing(run: RunFolder) -> None:
    """A file that may not grow takes nothing, keeps what it has, and takes what fits later on."""
    run.append(a_record())
    room = run.records_file.stat().st_size + 5_000
    process = in_another_process(FULL, run.path, room)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.splitlines() == ["harness disk False True"] * 3
    found = read_records(run.path)
    assert not found.bad
    assert [record.index for record in found.records] == [1, 2]
    transcript = run.trial("answer", "default", 1).path / "transcript.jsonl"
    assert transcript.read_bytes() == b"short\n"


def test_a_disk_fault_says_what_to_do(run: RunFolder) -> None:
    """Which file, why, and the remedy; every other trial would meet it too."""
    run.records_file.mkdir()
    fault = to_fault(lambda: run.append(a_record()))
    assert (fault.kind, fault.retry, fault.fatal) == ("disk", False, True)
    assert f"{run.records_file} cannot be written: Is a directory" in str(fault)
    assert "--results" in str(fault)


# Trials' files


def test_a_trials_files_are_named_in_the_record(run: RunFolder) -> None:
    """By paths that are relative to the run, so that a run can be moved."""
    folder = run.trial("answer", "default", 3)
    name = folder.write("checks/tests.txt", b"ok")
    assert name == "trials/answer/default-t3/checks/tests.txt"
    assert (run.path / name).read_bytes() == b"ok"


def test_a_transcript_grows_line_by_line(run: RunFolder) -> None:
    """Each line is there the moment that it was given; nothing is made before the first."""
    transcript = run.trial("answer", "default", 1).line_writer("transcript.jsonl")
    file = run.path / transcript.path
    assert not transcript.started
    assert not file.exists()
    transcript.write(b"one")
    assert file.read_bytes() == b"one\n"
    transcript.write(b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"
    assert transcript.started
    transcript.close()


def test_a_faulty_attempts_transcript_is_set_aside(run: RunFolder) -> None:
    """It keeps its lines, and the record is told where they are; the next attempt starts on a clean page."""
    folder = run.trial("answer", "default", 1)
    first = folder.line_writer("transcript.jsonl")
    first.write(b"one")
    first.move(folder.attempt(1))
    assert first.path == "trials/answer/default-t1/attempt-1/transcript.jsonl"
    assert (run.path / first.path).read_bytes() == b"one\n"
    second = folder.line_writer("transcript.jsonl")
    second.write(b"two")
    second.close()
    assert (run.path / second.path).read_bytes() == b"two\n"
    unused = folder.line_writer("stderr.txt")
    unused.move(folder.attempt(2))
    assert not (folder.path / "attempt-2").exists()


@pytest.mark.parametrize(
    "name", ["a/b", "../../x", "..", ".hidden", "a b", "a\0b", "x" * 300, "ü", "", "\udcff"]
)
def test_no_name_leads_out_of_the_run(run: RunFolder, name: str) -> None:
    """Whatever a task or a variant is called, its files are below the run's folder."""
    written = run.path / run.trial(name, name, 1).write("diff.patch", b"")
    assert written.resolve().relative_to(run.path.resolve()).parts[0] == "trials"
    assert len(written.relative_to(run.path).parts) == 4


@given(st.lists(st.text(max_size=20) | st.sampled_from(["a b", "a_b", "a/b", "ä", "ö"]), unique=True))
def test_two_names_are_two_folders(names: list[str]) -> None:
    """No trial overwrites another's files because their names look alike."""
    run = RunFolder(Path("run"))
    assert len({run.trial(name, "default", 1).relative for name in names}) == len(names)


# Secrets

KEY = "sk-ant-0123456789"


def test_secrets_are_nowhere(tmp_path: Path) -> None:
    """Not in records, transcripts, files or the run's own description: their names stand there instead."""
    run = RunFolder.create(tmp_path, "r", {"sandbox": f"at {KEY}"}, Redactor({"ANTHROPIC_API_KEY": KEY}))
    folder = run.trial("answer", "default", 1)
    folder.write("diff.patch", f"+key = '{KEY}'".encode())
    transcript = folder.line_writer("transcript.jsonl")
    transcript.write(json.dumps({"env": f"KEY={KEY}"}).encode())
    transcript.close()
    folder.attempt(1).write("stderr.txt", KEY.encode())
    run.append(a_record(tags=(f"x{KEY}y",)))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 5
    for file in files:
        text = file.read_text()
        assert KEY not in text
        assert "[redacted:ANTHROPIC_API_KEY]" in text
    assert read_records(run.path).records[0].tags == ("x[redacted:ANTHROPIC_API_KEY]y",)


@pytest.mark.parametrize(
    "secret", ['quote"and\\slash', "line\nbreak-in-it", "tab\tand/slash", "grün-and-gelb"]
)
def test_a_secret_is_known_in_jsons_spelling(secret: str) -> None:
    """Escaped as Python's or JavaScript's writers do it, and as it is."""
    redact = Redactor({"KEY": secret})
    for text in (secret, json.dumps(f"a {secret} b"), json.dumps(f"a {secret} b", ensure_ascii=False)):
        assert secret.encode() not in redact(text.encode())
        assert b"[redacted:KEY]" in redact(text.encode())
    assert json.loads(redact(json.dumps({"a": secret}).encode())) == {"a": "[redacted:KEY]"}


def test_a_secret_within_another_does_not_leave_the_rest(tmp_path: Path) -> None:
    """The longest goes first, whatever the order; and a name is not mistaken for a secret."""
    secrets = {"SHORT": "abcdefgh", "LONG": "abcdefgh-and-more", "ODD": "redacted"}
    for names in (("SHORT", "LONG", "ODD"), ("ODD", "LONG", "SHORT")):
        redact = Redactor({name: secrets[name] for name in names})
        assert redact.text("abcdefgh-and-more abcdefgh") == "[redacted:LONG] [redacted:SHORT]"


def test_a_short_value_is_no_secret() -> None:
    """It would hit innocent text."""
    assert Redactor({"KEY": "replay", "EMPTY": ""}).text("replay it") == "replay it"
    assert NO_REDACTION(b"\xff\x00") == b"\xff\x00"


@given(
    st.text(min_size=8, max_size=30).filter(lambda text: len(text.strip()) >= 8),
    st.text(max_size=30),
    st.text(max_size=30),
)
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    """Whatever it is made of, and wherever it stands."""
    redact = Redactor({"K": secret})
    for text in (before + secret + after, json.dumps([before, secret, after])):
        assert redact.text(text) == text.replace(secret, "[redacted:K]") or "[redacted:K]" in redact.text(
            text
        )
        assert secret.encode() not in re.sub(rb"\[redacted:K\]", b"\0", redact(text.encode()))


# Runs


def test_a_runs_id_sorts_by_time_and_is_its_own() -> None:
    """Two at the same moment are two."""
    now = datetime(2026, 11, 23, 9, 1, 41, tzinfo=UTC)
    assert re.fullmatch(r"20261123-090141-[0-9a-f]{4}", new_run_id(now))
    assert len({new_run_id(now) for _ in range(20)}) > 10
    assert new_run_id(now) < new_run_id(now.replace(hour=10))


def test_a_run_can_be_joined(tmp_path: Path) -> None:
    """Each process of a run makes its folder; the first one's description stays."""
    make_run(tmp_path, "r")
    RunFolder.create(tmp_path, "r", {"agent": "claude"}, NO_REDACTION)
    assert json.loads((tmp_path / "r" / "run.json").read_text()) == {"run_id": "r", "agent": "nop"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the remedy."""
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UsageError, match=r"results/r cannot be made: Not a directory") as caught:
        make_run(tmp_path / "results", "r")
    assert "--results" in str(caught.value)


def test_runs_are_listed_by_time(tmp_path: Path) -> None:
    """Other folders are none."""
    for name in ("20261124-1", "20261123-1", "20261123-2"):
        make_run(tmp_path, name)
    (tmp_path / "notes").mkdir()
    assert [run.id for run in list_runs(tmp_path)] == ["20261123-1", "20261123-2", "20261124-1"]
    assert list_runs(tmp_path / "nothing") == []


def test_runs_of_one_second_are_listed_as_they_began(tmp_path: Path) -> None:
    """What follows the second in their names is drawn by lot; the last one is the one that is shown and resumed."""
    for began, end in enumerate(("9a9a", "0629", "dcff", "1b1b")):
        run = make_run(tmp_path, f"20261123-090141-{end}")
        os.utime(run.path / "run.json", (0, began))
    make_run(tmp_path, "20261123-090140-ffff")
    assert [run.id[-4:] for run in list_runs(tmp_path)] == ["ffff", "9a9a", "0629", "dcff", "1b1b"]
    assert find_run(tmp_path, None).id.endswith("1b1b")


def test_a_run_is_found(tmp_path: Path) -> None:
    """By its name, a beginning that no other has, a path to it; without a name it is the last."""
    for name in ("20261123-1", "20261123-12", "20261124-1"):
        make_run(tmp_path, name)
    assert find_run(tmp_path, None).id == "20261124-1"
    assert find_run(tmp_path, "20261123-1").id == "20261123-1"
    assert find_run(tmp_path, "20261124").id == "20261124-1"
    assert find_run(Path("elsewhere"), str(tmp_path / "20261123-12")).id == "20261123-12"


WRONG_NAMES: Mapping[str, tuple[list[str], str | None, str, str]] = {
    "no runs": ([], None, "there are no runs in", "run `pytest tasks` first"),
    "no such run": (["20261123-1"], "2025", "no run begins with '2025'", "`harness ls` lists them"),
    "several": (
        ["20261123-1", "20261123-2"],
        "2026",
        "several runs begin with '2026'",
        "`harness ls` lists them",
    ),
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_run_that_is_not_found_is_told(tmp_path: Path, name: str) -> None:
    """With what to do next."""
    runs, wanted, what, remedy = WRONG_NAMES[name]
    for run in runs:
        make_run(tmp_path, run)
    with pytest.raises(UsageError) as caught:
        find_run(tmp_path, wanted)
    assert what in caught.value.message
    assert remedy in (caught.value.remedy or "")


def test_a_run_that_is_worked_on_says_so(tmp_path: Path) -> None:
    """Until it is let go of; nobody else gets it meanwhile, and asking takes it from nobody."""
    run = RunFolder.create(tmp_path, "r", {}, NO_REDACTION)
    assert not RunLock.is_held(run.path)
    lock = run.lock()
    assert RunLock.is_held(run.path)
    with pytest.raises(UsageError, match="is being worked on by another process"):
        run.lock()
    lock.release()
    assert not RunLock.is_held(run.path)
