"""Made-up runs on disk, as the harness writes them: records with transcripts and diffs beside them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.records.record import TrialRecord
from harness.records.record_parts import (
    CheckResult,
    ErrorRecord,
    McpServerRecord,
    Phases,
    Tampering,
    TokenCounts,
    ToolCounts,
)
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from tests.support.records import a_record

VERBS = ("fix", "add", "speed-up", "refactor", "test", "secure", "document", "port")
NOUNS = (
    "booking-overlap",
    "async-cache",
    "monthly-report",
    "file-server",
    "contacts",
    "matching",
    "snapshots",
)
TOOLS = ("Bash", "Read", "Edit", "Write", "Grep", "mcp__docs__search", "mcp__docs__fetch")
DIFF = """\
diff --git a/rooms/calendar.py b/rooms/calendar.py
index 3d1f0a2..9a7b0c1 100644
--- a/rooms/calendar.py
+++ b/rooms/calendar.py
@@ -12,7 +12,7 @@ class Calendar:
     def free(self, wanted):
-        return all(not booked.touches(wanted) for booked in self.bookings)
+        return all(not booked.overlaps(wanted) for booked in self.bookings)

     def book(self, wanted):
"""


def made_up_run(
    results: Path,
    *,
    tasks: int,
    variants: Sequence[str] = ("default", "with-docs"),
    trials: int = 3,
    steps: int = 12,
    run_id: str = "20261123-090141-3f9c",
    **fields: Any,
) -> Path:
    """A run's folder with plausible trials, the same at every call: the later a variant, the better and dearer."""
    run = RunFolder.create(results, run_id, {"agent": "claude", "model_source": "api"}, NO_REDACTION)
    lines = [
        json.dumps(record.line())
        for place in range(tasks)
        for rank, variant in enumerate(variants)
        for index in range(1, trials + 1)
        for record in [a_trial(run, f"{_task(place)}", variant, rank, index, steps, fields)]
    ]
    run.records_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return run.path


def _task(place: int) -> str:
    verb, noun = VERBS[place % len(VERBS)], NOUNS[place % len(NOUNS)]
    around = place // (len(VERBS) * len(NOUNS))
    return f"{verb}-{noun}" + (f"-{around + 1}" if around else "")


def a_trial(
    run: RunFolder, task: str, variant: str, rank: int, index: int, steps: int, fields: dict[str, Any]
) -> TrialRecord:
    chance = random.Random(f"{task} {variant} {index}")
    hard = random.Random(task).random()
    folder = run.trial(task, variant, index)
    outcome = _outcome(chance, 0.95 - 0.75 * hard + 0.16 * rank)
    size = chance.lognormvariate(0, 0.35) * (0.6 + hard) * (1 + 0.25 * rank)
    tools = _tools(chance, rank, size)
    whole: dict[str, Any] = {
        "run_id": run.id,
        "outcome": outcome,
        "score": None if outcome in ("error", "invalid") else 1.0 if outcome == "passed" else 0.5,
        "checks": _checks(outcome),
        "stop": "completed",
        "duration_ms": round(95_000 * size),
        "phases_ms": Phases(
            create=900, seed=400, agent=round(96_000 * size), checks=2_100, total=round(99_000 * size)
        ),
        "tokens": TokenCounts(
            input=round(40 * size),
            output=round(4_100 * size),
            cache_read=round(310_000 * size),
            cache_creation=round(32_000 * size),
        ),
        "cost_usd": round(0.41 * size, 6),
        "num_turns": round(14 * size) + 1,
        "tools": tools,
        "mcp_servers": {"docs": "connected"} if rank else {},
        "mcp": {
            "docs": McpServerRecord(
                status="connected", offered=("search", "fetch", "index"), tools=_docs(tools)
            )
        }
        if rank
        else {},
        "model": "claude-sonnet-4-5",
        "model_source": "api",
        "claude_version": "2.1.330",
        "template": "claude",
        "error": ErrorRecord(
            cause="provider", type="rate_limit", message="E2B answered 429", remedy="lower --concurrency"
        )
        if outcome == "error"
        else None,
        "transcript": folder.write("transcript.jsonl", b"".join(transcript(task, chance, steps))),
        "diff": folder.write("diff.patch", DIFF.encode()),
        **fields,
    }
    if chance.random() < 0.03:
        whole["tampering"] = (Tampering(path="tests/test_calendar.py", change="modified"),)
    return a_record(task, variant, index, **whole)


def _outcome(chance: random.Random, rate: float) -> str:
    if chance.random() < 0.02:
        return chance.choice(("error", "error", "invalid"))
    return "passed" if chance.random() < rate else "failed"


def _checks(outcome: str) -> tuple[CheckResult, ...]:
    if outcome in ("error", "invalid"):
        return ()
    good = outcome == "passed"
    told = "" if good else "AssertionError: 10:00-11:00 and 11:00-12:00 do not overlap\n"
    return (
        CheckResult(name="still_works", passed=True, score=1, exit_code=0, duration_ms=310, output_tail=""),
        CheckResult(
            name="back_to_back",
            passed=good,
            score=float(good),
            exit_code=0 if good else 1,
            duration_ms=420,
            output_tail=told,
        ),
    )


def _tools(chance: random.Random, rank: int, size: float) -> dict[str, ToolCounts]:
    found = {}
    for tool in TOOLS:
        calls = round(chance.expovariate(1 / (4 * size))) if rank or not tool.startswith("mcp__") else 0
        if calls:
            found[tool] = ToolCounts(calls=calls, errors=sum(chance.random() < 0.07 for _ in range(calls)))
    return found


def _docs(tools: dict[str, ToolCounts]) -> dict[str, ToolCounts]:
    return {
        name.removeprefix("mcp__docs__"): use for name, use in tools.items() if name.startswith("mcp__docs__")
    }


def transcript(task: str, chance: random.Random, steps: int) -> Iterator[bytes]:
    """A session's lines: each step a message, a call and its result."""
    yield line(
        type="system",
        subtype="init",
        cwd="/home/user/repo",
        model="claude-sonnet-4-5",
        claude_code_version="2.1.330",
        mcp_servers=[],
    )
    for step in range(steps):
        call = f"toolu_{step}"
        words = " ".join(
            chance.choices([*task.split("-"), "the", "overlap", "`free`", "test", "because"], k=30)
        )
        yield message([{"type": "text", "text": f"Step {step}: {words}."}])
        yield message([call_of(step, call, chance)])
        output = "\n".join(f"{chance.getrandbits(40):010x} rooms/calendar.py:{n} ok" for n in range(40))
        content = {
            "type": "tool_result",
            "tool_use_id": call,
            "content": output,
            "is_error": chance.random() < 0.05,
        }
        yield line(type="user", message={"role": "user", "content": [content]})
    yield line(type="result", subtype="success", terminal_reason="completed", is_error=False)


def call_of(step: int, call: str, chance: random.Random) -> dict[str, Any]:
    edit = {
        "file_path": "rooms/calendar.py",
        "old_string": "touches(wanted)",
        "new_string": "overlaps(wanted)",
    }
    name, given = (
        ("Edit", edit) if step % 4 == 3 else ("Bash", {"command": f"pytest -q -k {chance.random():.4f}"})
    )
    return {"type": "tool_use", "id": call, "name": name, "input": given}


def message(content: list[dict[str, Any]]) -> bytes:
    """A message of the model's."""
    return line(
        type="assistant", message={"role": "assistant", "model": "claude-sonnet-4-5", "content": content}
    )


def line(**fields: Any) -> bytes:
    """A line of a stream."""
    return json.dumps(fields).encode() + b"\n"
