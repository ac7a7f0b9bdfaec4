"""`harness verify`: whatever was changed in a run's folder is named, also where the manifest was made to match."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.local.launch import LocalServer
from harness.records.manifest import MANIFEST, differences, read_manifest, write_manifest
from harness.records.reading import read_records
from harness.records.store import RunFolder
from harness.runs.verified import Verified
from harness.runs.verify import verify
from harness.tasks.task import Check
from harness.trials.checks import failed_check
from tests.support.folders import by_hand, says, task_folder
from tests.support.records import a_record

Json = Any

UNITTEST = (
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\n    def test_b(self): pass\n"
)
JUNIT = """<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>"""
TOML = f"""
[checks.tests.own]
runner = "unittest"
paths = ["test_own.py"]
must_pass = ["*"]

[checks.tests.junit]
runner = "junit"
command = '''echo '{JUNIT}' >r.xml'''
report = "r.xml"
must_pass = ["a"]
"""
WORK = {"type": "tool_use", "id": "x", "name": "Bash", "input": {"command": "echo 42 >answer.txt"}}


@pytest.fixture(scope="module")
def made(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two variants, with the real Claude Code, checks of each kind and a report, as it was written."""
    root = tmp_path_factory.mktemp("made")
    recording = by_hand([WORK], [says("done")])
    task_folder(root / "tasks", toml=TOML, repo={"test_own.py": UNITTEST}, replay=recording)
    (root / "tasks" / "variants.toml").write_text(
        '[plain]\n[terse]\nappend_system_prompt = {text = "Be terse."}\n'
    )
    e2b = {"E2B_API_KEY": server.api_key, "E2B_API_URL": server.url, "E2B_SANDBOX_URL": server.url}
    command = [sys.executable, "-m", "pytest", "tasks", "-p", "no:randomly", "--model-source", "replay"]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, **e2b}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    (run,) = (path for path in (root / "results").iterdir() if path.is_dir())
    assert main(["report", str(run)]) == 0
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "results" / made.name))


def verified(run: Path) -> Verified:
    return verify(run.parent, str(run))


def findings(run: Path) -> list[str]:
    return [one.sentence for one in verified(run).findings]


def files(run: Path) -> list[Path]:
    """All files that have a byte."""
    return sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)


def test_a_run_is_verified_wherever_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that it states was computed again: from transcripts, checks' evidence, work and records."""
    assert main(["verify", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verified"], told["findings"]) == (True, [])
    assert told["unverified"] == {}
    assert told["files"] == sum(path.is_file() for path in run.rglob("*")) - 1
    assert told["recomputed"] == {
        "records compared with their copies": 2,
        "tokens and costs": 2,
        "checks": 6,
        "outcomes": 2,
        "files of stored work": 2,
        "verdicts and means of the report": 1,
        "report.html": 1,
    }
    assert main(["verify", run.name, "--results", str(run.parent)]) == 0
    assert "verified: nothing contradicts it" in capsys.readouterr().out


def test_a_stranger_needs_no_harness_for_the_hashes(run: Path) -> None:
    """sha256sum reads the manifest."""
    check = ["sha256sum", "--quiet", "--strict", "-c", MANIFEST]
    assert subprocess.run(check, cwd=run, check=False).returncode == 0
    (run / "run.json").write_text("{}")
    assert subprocess.run(check, cwd=run, check=False, capture_output=True).returncode == 1


def flip(path: Path, draw: random.Random) -> bytes:
    """Change one byte of a file; returns what it was."""
    before = path.read_bytes()
    after = bytearray(before)
    after[draw.randrange(len(after))] ^= draw.randrange(1, 256)
    path.write_bytes(after)
    return before


def test_a_changed_byte_is_named_in_every_file(run: Path) -> None:
    """The manifest's own bytes too."""
    draw = random.Random(1)
    for path in files(run):
        before = flip(path, draw)
        assert str(path.relative_to(run)) in {one.file for one in verified(run).findings}
        path.write_bytes(before)
    assert findings(run) == []


@pytest.mark.slow
def test_a_thousand_changed_bytes_are_named(run: Path) -> None:
    """Of all files, each anywhere."""
    draw, all_files, named = random.Random(2), files(run), 0
    for _ in range(1000):
        path = draw.choice(all_files)
        before = flip(path, draw)
        known, is_whole = read_manifest(run)
        changed = {one.path for one in differences(run, known) if one.what == "changed"}
        named += str(path.relative_to(run)) in changed or (path.name == MANIFEST and not is_whole)
        path.write_bytes(before)
    assert named == 1000


# With the manifest rewritten to match


def leaves(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Json]]:
    """All values below a JSON value, with where they are."""
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if pairs is None:
        yield path, value
    for key, inner in pairs or ():
        yield from leaves(inner, (*path, key))


def other(value: Json, draw: random.Random) -> Json:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    for words in (("passed", "failed", "error", "invalid"), ("improvement", "regression", "inconclusive")):
        if value in words:
            return draw.choice([word for word in words if word != value])
    if value is None:
        return 7
    return value + draw.choice([-1, 1, 100]) if isinstance(value, int) else value * 1.0001 + 1e-9


def put(value: Json, path: tuple[Any, ...], new: Json) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def forge(path: Path, draw: random.Random, wanted: Callable[[tuple[Any, ...], Json], bool]) -> str:
    """Change one value in a JSON file, or in a line of it; returns which."""
    lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
    number = draw.randrange(len(lines))
    content = json.loads(lines[number])
    where, value = draw.choice([leaf for leaf in leaves(content) if wanted(*leaf)])
    put(content, where, other(value, draw))
    lines[number] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n")
    return f"{path.name} {where}: {value}"


def is_number(where: tuple[Any, ...], value: Json) -> bool:
    return isinstance(value, int | float) or where[-1] in ("outcome", "cost_usd")


def is_verdict(where: tuple[Any, ...], value: Json) -> bool:
    return isinstance(value, int | float) or where[-1] == "verdict"


def is_evidence(where: tuple[Any, ...], value: Json) -> bool:
    return where[-1] in ("exit_code", "timed_out", "duration_ms", "outcomes") or "outcomes" in where


PLACES: list[tuple[str, Callable[[tuple[Any, ...], Json], bool]]] = [
    ("records.jsonl", is_number),
    ("report.json", is_verdict),
    ("record.json", is_number),
    ("checks/*.json", is_evidence),
]


def missed_forgeries(run: Path, times: int, seed: int) -> list[str]:
    """Of so many changes, each with a manifest that matches it, those that are not found."""
    draw, missed = random.Random(seed), []
    for number in range(times):
        pattern, wanted = PLACES[0] if number % 2 else draw.choice(PLACES[1:])
        path = draw.choice(sorted(run.rglob(pattern)))
        before = path.read_bytes()
        what = forge(path, draw, wanted)
        write_manifest(run)
        if not findings(run):
            missed.append(what)
        path.write_bytes(before)
    write_manifest(run)
    assert findings(run) == []
    return missed


def test_forged_numbers_are_found_though_the_manifest_matches(run: Path) -> None:
    """Outcomes, tokens, costs, scores, times and verdicts: each is stated by more than one file, or computed."""
    assert missed_forgeries(run, 20, 3) == []


@pytest.mark.slow
def test_two_hundred_forged_numbers_are_found(run: Path) -> None:
    """The same, more of them."""
    assert missed_forgeries(run, 200, 4) == []


def test_a_report_that_says_something_else_is_found(run: Path) -> None:
    """Any byte of it, also what was put before or behind; and one of which nobody can tell what it is of is said."""
    report, draw = run / "report.html", random.Random(5)
    whole = report.read_bytes()
    start = whole.index(b"<title>")
    places = [draw.randrange(start, len(whole)) for _ in range(20)]
    forged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    for content in (
        *forged,
        whole.replace(b"inconclusive", b"regression"),
        whole[:-1],
        whole + b"<p>better</p>",
    ):
        report.write_bytes(content)
        write_manifest(run)
        assert any(one.startswith("report.html: line") for one in findings(run))
    report.write_bytes(b"<p>b is better</p>")
    write_manifest(run)
    assert "report.html: another version of harness wrote it" in next(iter(verified(run).unverified))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("outcome", "failed", "outcome is"),
        ("cost_usd", 0.0001, "cost_usd is 0.0001, and by trials/"),
        (
            "tokens",
            {"input": 1, "output": 2, "cache_read": 0, "cache_creation": 0},
            "tokens.input is 1, and by",
        ),
        ("checks", [], "outcome is"),
        ("transcript", None, "and by no transcript"),
        ("work_hashes", {"repo.tar": "0" * 64}, "is not the work that was judged"),
        ("score", 0.5, "score is 0.5, and by its checks 1.0"),
        (
            "error",
            {"cause": "sandbox", "type": "lost", "message": "x", "retry": True},
            "by its checks and faults",
        ),
    ],
)
def test_a_record_forged_in_both_places_is_found_by_its_evidence(
    run: Path, field: str, value: Json, told: str
) -> None:
    """Records, the record's copy and the manifest agree; the transcript, the checks and the work do not."""
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    lines[0][field] = value
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    copy = RunFolder(run).trial(lines[0]["task"], lines[0]["variant"], 1).path / "record.json"
    copy.write_text(json.dumps(lines[0]))
    write_manifest(run)
    assert any(told in sentence for sentence in findings(run)), findings(run)


# Files that are not what they were


def test_files_that_are_gone_or_were_added_are_told(run: Path) -> None:
    """What was added contradicts nothing, and is said; a link does, and is not followed."""
    (run / "mine.txt").write_text("a note")
    assert verified(run).findings == []
    assert "mine.txt was added after the run's end" in verified(run).unverified
    (run / "run.json").unlink()
    os.symlink("/etc/passwd", run / "run.json")
    assert "run.json: is a link, which harness never writes" in findings(run)
    (transcript, *_) = run.rglob("transcript.jsonl")
    transcript.unlink()
    assert f"{transcript.relative_to(run)}: is missing" in findings(run)


def test_a_record_that_was_taken_out_is_missed(run: Path) -> None:
    """Its trial's folder still has it."""
    first, _ = (run / "records.jsonl").read_text().splitlines()
    (run / "records.jsonl").write_text(first + "\n")
    write_manifest(run)
    assert any("has no record of it" in sentence for sentence in findings(run))


def test_contradictions_end_the_command_with_1(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And are named, without what would steer a terminal."""
    lines = (run / "records.jsonl").read_text().replace('"outcome":"passed"', '"outcome":"failed"')
    (run / "records.jsonl").write_text(lines)
    assert main(["verify", str(run)]) == 1
    said = capsys.readouterr().out
    assert "records.jsonl: is not what it was at the run's end" in said
    assert "contradictions" in said
    assert main(["verify", str(run / "none")]) == 2


# Runs that have not ended, or come from others


def test_a_run_without_a_manifest_is_computed_again_as_far_as_can_be(run: Path) -> None:
    """One that was killed, or goes on: said, and no contradiction. A torn last line neither."""
    (run / MANIFEST).unlink()
    (run / "report.json").unlink()
    with (run / "records.jsonl").open("a") as file:
        file.write('{"schema_version": 1, "ru')
    found = verified(run)
    assert (found.findings, found.manifest) == ([], "missing")
    assert any("is no record, or cut off" in what for what in found.unverified)
    assert found.recomputed["tokens and costs"] == 2
    _, second, _ = (run / "records.jsonl").read_text().splitlines()
    (run / "records.jsonl").write_text(second + "\n")
    found = verified(run)
    assert found.findings == []
    assert found.unverified["a trial that was recorded only in its own folder when the run was killed"] == 1


@pytest.mark.parametrize("name", ["20261127-081525-134f", "20261127-081634-8be6", "20261127-081745-be66"])
def test_runs_of_older_harnesses_are_computed_again(name: str) -> None:
    """By their transcripts and checks; what they lack is said."""
    runs = Path(__file__).parents[1] / "data" / "runs"
    found = verify(runs, name)
    assert found.findings == []
    assert found.recomputed["tokens and costs"] == found.recomputed["outcomes"] == found.records > 0
    assert any("has no copy" in what for what in found.unverified)


def test_merged_runs_are_sealed_as_a_run_of_their_own(run: Path, tmp_path: Path) -> None:
    """The records have the new run's name, in their copies too."""
    other_run = RunFolder(run.parent / "20261127-000000-aaaa")
    other_run = RunFolder.create(run.parent, other_run.id, {}, other_run.redact)
    other_run.append(a_record("another", agent="nop", outcome="failed", score=None))
    assert main(["merge", run.name, other_run.id, "--into", "all", "--results", str(run.parent)]) == 0
    found = verified(run.parent / "all")
    assert (found.findings, found.manifest, found.records) == ([], "whole", 3)


def test_an_earlier_attempts_tokens_are_computed_again(run: Path) -> None:
    """From its own transcript, as the last attempt's are."""
    line = json.loads((run / "records.jsonl").read_text().splitlines()[0])
    error = {"cause": "sandbox", "type": "timeout", "message": "too slow"}
    attempt = {"number": 1, "error": error, "sandbox_id": None, "started_at": None, "duration_ms": 1}
    attempt |= {key: line[key] for key in ("transcript", "cost_usd", "tokens_partial")}
    for more in (0, 1):
        tokens = {**line["tokens"], "output": line["tokens"]["output"] + more}
        attempts = [{**attempt, "tokens": tokens}]
        (run / "records.jsonl").write_text(json.dumps({**line, "attempts": attempts}) + "\n")
        named = [what for what in findings(run) if "attempts.1." in what]
        assert [("attempts.1.tokens.output is" in what) for what in named] == [True] * more


def test_a_check_that_left_nothing_has_failed(tmp_path: Path) -> None:
    """The work kept it from being run: no record can say that it has passed."""
    run = RunFolder.create(tmp_path, "r", {}, RunFolder(tmp_path / "r").redact)
    check = failed_check(Check(name="own", command="true"), "it could not be put in place")
    run.append(a_record("a", run_id="r", outcome="failed", score=0.0, checks=(check,)))
    assert not any("checks.own" in sentence for sentence in findings(run.path))
    check = check.model_copy(update={"passed": True})
    run.append(a_record("b", run_id="r", outcome="passed", score=0.0, checks=(check,)))
    (found,) = [sentence for sentence in findings(run.path) if "checks.own" in sentence]
    assert "checks.own.passed is true, and by no output false" in found


def test_a_resumed_runs_earlier_records_are_its_attempts(tmp_path: Path) -> None:
    """A record that a later one replaced is held against the attempt that it became."""
    run = RunFolder.create(tmp_path, "r", {}, RunFolder(tmp_path / "r").redact)
    first = a_record(run_id="r", outcome="failed", score=None, cost_usd=None, agent="nop")
    run.append(first)
    run.append(first.model_copy(update={"started_at": "2026-11-23T10:00:00.000Z"}))
    assert any("is no attempt of the last" in sentence for sentence in findings(run.path))
    assert len(read_records(run.path).records) == 1
