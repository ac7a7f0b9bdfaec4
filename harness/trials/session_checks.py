"""Checks of what the agent said and used, and the files by which other checks can see that.

All of it is the agent's own words: they are compared here, and never run or believed for anything else.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records.record_parts import CheckResult
from harness.records.session import Session, ToolCall
from harness.records.session_fields import session_fields
from harness.tasks.globs import fits_stars
from harness.tasks.manifest import AnswerSpec, ToolsSpec
from harness.tasks.task import Check, Task
from harness.trials.bounded import TakesTooLongError, schema_problem, search_all, short

VARIABLES = {
    "HARNESS_TRANSCRIPT": "transcript.jsonl",
    "HARNESS_ANSWER": "answer.txt",
    "HARNESS_RECORD": "record.json",
}
"""The variables of a check's environment, and the files that they name."""
_IN_RECORD = (
    "tools",
    "mcp_servers",
    "tokens",
    "tokens_partial",
    "models",
    "cost_usd",
    "num_turns",
    "duration_ms",
    "model",
)
_MAX_ANSWER = 200_000


@dataclass(frozen=True)
class Told:
    """An agent's session for its checks: the raw stream, the session that it comes to, and an answer in its place.

    The stream may be large, and is read where a check wants it. Only Claude Code has a session; `is_known` is False for
    the agents that have none.
    """

    read_transcript: Callable[[], bytes]
    session: Session
    given_answer: str | None = None
    is_known: bool = True

    def answer(self, turn: int | None = None) -> str | None:
        """The last message, or that of a turn (from 1)."""
        if self.given_answer is not None:
            return self.given_answer
        turns = self.session.turns
        if not turns or (turn is not None and turn > len(turns)):
            return None
        return turns[-1 if turn is None else turn - 1].text

    def files(self, turn: int | None = None) -> dict[str, bytes]:
        """The files that checks can read, by their names."""
        fields = session_fields(self.session)
        about = {name: _plain(fields[name]) for name in _IN_RECORD}
        answer = (self.answer(turn) or "").encode("utf-8", "replace")
        record = json.dumps(about, indent=2).encode()
        return {"transcript.jsonl": self.read_transcript(), "answer.txt": answer, "record.json": record}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def session_files(task: Task, told: Told, turn: int | None = None) -> dict[str, bytes] | None:
    """The files that the task's checks can read, by their names; None where no check names one of the variables."""
    commands = tuple(check.command for check in task.checks if check.command)
    return told.files(turn) if _names_a_variable(task.hash, commands, task.checks_folder) else None


@functools.cache
def _names_a_variable(task_hash: str, commands: tuple[str, ...], folder: Path | None) -> bool:
    """Looked up once for each content: the hash changes when a file of `checks/` does."""
    named = [name.encode() for name in VARIABLES]
    files = (path.read_bytes() for path in folder.rglob("*") if path.is_file()) if folder else ()
    return any(name in text for text in (*map(os.fsencode, commands), *files) for name in named)


async def judge_session(checks: Sequence[Check], told: Told) -> tuple[CheckResult, ...]:
    """The results of those checks that are about the session; without one, those that need it are left out.

    They are judged in a thread: a pattern may take seconds over an agent's text.
    """
    return await asyncio.to_thread(_judge, checks, told)


def _judge(checks: Sequence[Check], told: Told) -> tuple[CheckResult, ...]:
    results = []
    for check in checks:
        if check.answer and (told.is_known or told.given_answer is not None):
            results.append(_result(check, list(_of_answer(check.answer, told.answer(check.turn)))))
        elif check.tools and told.is_known:
            results.append(_result(check, list(_of_tools(check.tools, told.session.calls))))
    return tuple(results)


def _result(check: Check, demands: Sequence[tuple[bool, str]]) -> CheckResult:
    met = sum(is_met for is_met, _ in demands)
    words = [f"{'met' if is_met else 'not met'}: {what}" for is_met, what in demands]
    return CheckResult(
        name=check.name,
        passed=met == len(demands),
        score=met / len(demands),
        exit_code=None,
        duration_ms=None,
        output_tail="\n".join(words),
        turn=check.turn,
    )


def _of_answer(spec: AnswerSpec, answer: str | None) -> Iterator[tuple[bool, str]]:
    """Each demand, whether it is met, and what it is."""
    text = (answer or "")[:_MAX_ANSWER].strip()
    said = f"the answer is {short(text)}" if answer is not None else "there is no answer"
    if spec.equals is not None:
        yield answer is not None and text == spec.equals.strip(), f"equals {short(spec.equals)}; {said}"
    for part in spec.contains:
        yield part in text, f"contains {short(part)}; {said}"
    if spec.regex is not None:
        is_met, why = _searched([(spec.regex, text)], lambda found: all(found))
        yield is_met, f"matches {spec.regex}; {why or said}"
    if spec.json_ is not None:
        problem = schema_problem(spec.json_, text)
        yield problem is None, f"is JSON as the schema says; {problem or said}"


def _of_tools(spec: ToolsSpec, calls: Sequence[ToolCall]) -> Iterator[tuple[bool, str]]:
    counts = {name: sum(_is_call_of(call, name) for call in calls) for name in _names(spec)}
    for name in spec.used:
        yield counts[name] > 0, f"{name} is used; {counts[name]} calls"
    for name in spec.not_used:
        yield counts[name] == 0, f"{name} is not used; {counts[name]} calls"
    for name, most in spec.at_most.items():
        yield counts[name] <= most, f"{name} is used at most {most} times; {counts[name]} calls"
    if spec.order:
        yield _in_order(spec.order, calls), f"{', then '.join(spec.order)}"
    for name, patterns in spec.arguments.items():
        fitting = [call for call in calls if _is_call_of(call, name) and patterns.keys() <= call.input.keys()]
        pairs = [(pattern, _argument(call, key)) for call in fitting for key, pattern in patterns.items()]
        is_met, why = _searched(pairs, functools.partial(_has_whole, size=len(patterns)))
        wanted = ", ".join(f"{key} ~ {pattern}" for key, pattern in patterns.items())
        yield is_met, f"a call of {name} with {wanted}" + (f"; {why}" if why else "")


def _names(spec: ToolsSpec) -> list[str]:
    return [*spec.used, *spec.not_used, *spec.at_most]


def _is_call_of(call: ToolCall, name: str) -> bool:
    """`Skill:NAME` is a skill; `*` in a name is any text, as in `mcp__github__*`."""
    names = {call.name}
    if call.name == "Skill":
        skill = call.input.get("skill") or call.input.get("command")
        names.add(f"Skill:{skill}")
    return any(fits_stars(name, one) for one in names)


def _in_order(order: Sequence[str], calls: Sequence[ToolCall]) -> bool:
    left = iter(calls)
    return all(any(_is_call_of(call, name) for call in left) for name in order)


def _argument(call: ToolCall, key: str) -> str:
    value = call.input[key]
    return (value if isinstance(value, str) else json.dumps(value))[:_MAX_ANSWER]


def _has_whole(found: Sequence[bool], size: int) -> bool:
    """True if one call, of `size` patterns each, fits them all."""
    return any(all(found[start : start + size]) for start in range(0, len(found), size))


def _searched(
    pairs: Sequence[tuple[str, str]], is_met: Callable[[Sequence[bool]], bool]
) -> tuple[bool, str | None]:
    """True if what the patterns find is enough; a text says why that is not known."""
    try:
        return is_met(search_all(pairs)), None
    except TakesTooLongError as error:
        return False, str(error)
