"""A trial in a few words, for the head of its page in the terminal and in HTML."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult, StartRecord
from harness.report.formatting import cost, seconds


def summary_facts(record: TrialRecord) -> Iterator[tuple[str, str]]:
    """Names and values, in the order in which a reader asks for them."""
    source: str = record.model_source
    if source == "replay":
        source = "replayed session, written by hand" if record.replay_by_hand else "replayed session"
    yield "agent", f"{record.agent}, {record.model or 'no model'} ({source})"
    tier = f" ({record.sandbox.isolation})" if record.sandbox.isolation else ""
    open_ = ", network not enforced" if record.sandbox.network_enforced is False else ""
    yield "sandbox", f"{record.sandbox.kind}{tier}{open_}, template {record.template}"
    if record.asked:
        yield "variant", f"{record.variant}, which sets {', '.join(record.asked)}"
    for loaded in record.instructions:
        yield "loaded", f"{loaded.path} (sha256 {(loaded.sha256 or 'unknown')[:12]})"
    for start in record.starts[:1]:
        yield "started", f"{_started(record, start)} (as a hook of the session saw it)"
    for name, server in record.mcp.items():
        calls = sum(tool.calls for tool in server.tools.values())
        yield "mcp", f"{name}: {server.status}, {len(server.offered)} tools, {calls} calls"
    phases = record.phases_ms
    yield "time", f"{seconds(phases.own)}: agent {seconds(phases.agent)}, checks {seconds(phases.checks)}"
    if record.tokens.total is not None:
        tokens = record.tokens
        bound = " (at least: the run was cut off)" if record.tokens_partial else ""
        yield (
            "tokens",
            f"{tokens.input:,} in, {tokens.output:,} out, {tokens.cache_read:,} from cache, "
            f"{tokens.cache_creation:,} into cache{bound}",
        )
        yield "cost", cost(record.cost_usd)
    if record.stop and record.stop != "completed":
        yield "stopped", record.stop


def _started(record: TrialRecord, start: StartRecord) -> str:
    prompts = [f"{name} (sha256 {digest[:12]})" for name, digest in start.files.items()]
    asked = record.asked.get("args")
    arguments = [" ".join(map(str, asked))] if isinstance(asked, list | tuple) and start.arguments else []
    return f"with {', '.join((*prompts, *arguments, *start.env)) or 'none of what was asked for'}"


def check_verdict(check: CheckResult) -> str:
    """The end of a check in a word or two."""
    if check.timed_out:
        return "timed out"
    return "passed" if check.passed else f"failed ({check.tests_passed or check.exit_code})"
