"""The evidence of the variant's hooks in the session's own stream, before the agent could do anything to it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.session import Session
from harness.sandboxes.shell import decode_bytes, read_answers
from harness.variants.apply import EVIDENCE


@dataclass(frozen=True)
class Evidence:
    """The texts of the hooks: which CLAUDE.md was put in place, what was loaded, how the CLI was started.

    `is_there`: the hook that tells of instructions, even of none, did so.
    """

    applied: str = ""
    instructions: str = ""
    starts: str = ""
    is_there: bool = False


def evidence_of(session: Session, *, late: bool = False) -> Evidence:
    """All that the harness's own hooks told, turn after turn, until the agent's first tool call; or `late` ones too."""
    found = {"applied": "", "instructions": "", "starts": ""}
    is_there = False
    for hook in session.hooks:
        before, mark, told = hook.stderr.partition(f"{EVIDENCE}\n")
        is_counted = late or not hook.is_late
        if not is_counted or not mark or (before and not before.endswith("\n")):
            continue
        answers = read_answers(told)
        is_there |= "instructions" in answers
        for name, value in answers.items():
            if name in found:
                found[name] += _text(value)
    return Evidence(**found, is_there=is_there)


def _text(value: str) -> str:
    try:
        return decode_bytes(value).decode("utf-8", "replace")
    except ValueError:
        return ""
