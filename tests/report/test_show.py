"""`harness show`: a trial as a person would read it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.records.events import parse_line
from harness.records.record_parts import CheckResult, Tampering
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.report.show import show
from tests.support.folders import says, uses
from tests.support.records import a_record

WORDS = [f"word{number}" for number in range(60)]


def a_run(
    results: Path, *messages: list[dict[str, Any]], name: str = "20261123-090141-3f9c", **fields: Any
) -> None:
    """A run of one trial, whose agent sent these messages."""
    run = RunFolder.create(results, name, {}, NO_REDACTION)
    files = run.trial("answer", "default", 1)
    lines = [
        json.dumps(
            {"type": "assistant", "message": {"id": f"m{number}", "model": "m", "content": content}}
        ).encode()
        for number, content in enumerate(messages)
    ]
    assert all(parse_line(line) for line in lines)
    transcript = files.write("transcript.jsonl", b"\n".join(lines) + b"\n")
    diff = files.write("diff.patch", b"diff --git a/answer.txt b/answer.txt\n+42\n")
    run.append(a_record(run_id=name, transcript=transcript, diff=diff, **fields))


def shown(results: Path, trial: str | None = "answer", **options: Any) -> str:
    given: dict[str, Any] = {"full": False, "as_json": False, "color": False, **options}
    out = io.StringIO()
    show(results, None, trial, out, **given)
    return out.getvalue()


def test_it_tells_verdict_transcript_diff_and_checks(tmp_path: Path) -> None:
    """All that a reader wants to know, on one page."""
    check = CheckResult(
        name="said", passed=False, score=0.5, exit_code=3, duration_ms=1200, output_tail="expected 42\n"
    )
    a_run(
        tmp_path,
        [says("Let me see."), uses("Bash", command="cat question.txt")],
        outcome="failed",
        checks=(check,),
        tampering=(Tampering(path="tests/x.py", change="deleted"),),
    )
    page = shown(tmp_path)
    for words in (
        "answer[default-t1]  FAILED",
        "● Let me see.",
        "▸ Bash  cat question.txt",
        "+42",
        "failed (3)  said  score 0.5, 1.2 s",
        "expected 42",
        "the agent had deleted the protected file tests/x.py",
    ):
        assert words in page


@pytest.mark.parametrize("width", [None, 30, 80])
def test_what_was_said_is_not_cut_off(tmp_path: Path, width: int | None) -> None:
    """A long line is folded, and no word of it is lost."""
    a_run(tmp_path, [says(" ".join(WORDS))])
    page = shown(tmp_path, width=width)
    assert [word for word in page.split() if word in WORDS] == WORDS
    if width:
        transcript = page.partition("transcript")[2].partition("── diff")[0]
        assert max(len(line) for line in transcript.splitlines()[1:]) <= width


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    text=st.text(st.one_of(st.characters(), st.sampled_from("\x1b[]\x07\x9b;0m\r\b")), max_size=200),
    color=st.booleans(),
)
def test_an_agent_cannot_command_the_terminal(tmp_path: Path, text: str, color: bool) -> None:
    """Whatever it says: no control character of its own gets through."""
    name = f"run-{len(list(tmp_path.iterdir()))}"
    a_run(tmp_path, [says(text)], name=name)
    out = io.StringIO()
    show(tmp_path, name, "answer", out, full=True, as_json=False, color=color)
    page = out.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", page) if color else page
    assert not {"\x1b", "\x07", "\x9b", "\r", "\b"} & set(plain)


def test_a_trial_is_named_by_its_unique_beginning(tmp_path: Path) -> None:
    """Anything else is told, with what there is."""
    a_run(tmp_path)
    assert "answer[default-t1]" in shown(tmp_path, "ans")
    with pytest.raises(UsageError, match=r"no trial .* 'other'\n  there are: answer\[default-t1\]"):
        shown(tmp_path, "other")
    assert "answer[default-t1]  passed" in shown(tmp_path, None)


def test_a_trial_whose_record_is_broken_is_there(tmp_path: Path) -> None:
    """It is not said to be missing: its run says what is wrong with it."""
    a_run(tmp_path)
    records = tmp_path / "20261123-090141-3f9c" / "records.jsonl"
    records.write_text(records.read_text().replace('"harness_version":', '"harness_version": 1, "_":'))
    with pytest.raises(UsageError, match=r"the record of answer\[default-t1\] is no whole one"):
        shown(tmp_path)
    assert "left out: harness_version: Input should be a valid string" in shown(tmp_path, None)


def test_json_is_the_record(tmp_path: Path) -> None:
    """For those who read with a program."""
    a_run(tmp_path, num_turns=7)
    assert json.loads(shown(tmp_path, as_json=True))["num_turns"] == 7


def test_a_missing_transcript_is_said(tmp_path: Path) -> None:
    """The rest is still shown."""
    a_run(tmp_path, [says("gone")])
    (tmp_path / "20261123-090141-3f9c" / "trials/answer/default-t1/transcript.jsonl").unlink()
    page = shown(tmp_path)
    assert "transcript.jsonl cannot be read: No such file" in page
    assert "+42" in page


def test_a_huge_diff_is_cut_short(tmp_path: Path) -> None:
    """So is a line of it, and each says how much more there is; --full has it all."""
    a_run(tmp_path, notes=("n" * 5_000,))
    diff = tmp_path / "20261123-090141-3f9c" / "trials/answer/default-t1/diff.patch"
    diff.write_text("+" + "x" * 9_999 + "\n" + "+y\n" * 9_999)
    page = shown(tmp_path)
    assert len(page) < 10_000
    assert re.findall(r"… (\d+) more (\w+)", page) == [
        ("3000", "characters"),
        ("8000", "characters"),
        ("9600", "lines"),
    ]
    assert len(shown(tmp_path, full=True)) > 40_000


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """Also where the output goes to one; what was not written is not tried again at the process's end."""
    command = "from harness.cli import program; program()"
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", command, "ls", "--results", tmp_path],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("harness: No space left on device\n")
    assert "Traceback" not in ended.stderr
