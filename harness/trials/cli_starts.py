"""The start of Claude Code, as a hook of its own session saw it: no event of the session tells it.

The system prompt, the CLI's arguments and the environment leave no trace in the events. So where a variant sets one of
them, a SessionStart hook tells, before the first message, the arguments of the very process that it runs under,
the hashes of the files that they name, and the hashes of the variant's variables. It catches a wrapper that drops
arguments, a template without the flag, a profile or a repo's settings that put another value in a variable's place. It
does not show what the CLI made of them: that a file was given as system prompt, not that the model was sent it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.records.record_parts import StartRecord
from harness.trials.evidence import Evidence
from harness.variants.apply import (
    APPEND_SYSTEM_PROMPT,
    EFFORT_VARIABLE,
    FOLDER,
    SYSTEM_PROMPT,
    flags,
    needs_start_evidence,
)
from harness.variants.variant import Variant

_PROMPTS = {SYSTEM_PROMPT: "--system-prompt-file", APPEND_SYSTEM_PROMPT: "--append-system-prompt-file"}
_UNSEEN, _UNKNOWN = "-", "?"
_NOT_SEEN = (
    "how Claude Code was started could not be seen: the variant's system prompt, arguments and environment are what "
    "was asked for, and nothing shows that they took hold"
)


@dataclass(frozen=True)
class CliStart:
    """One start of the CLI. Hashes are SHA-256; of a variable what the hook had, and what the process began with
    (`?`: a program that may not be read does not show it).

    Without `arguments` the process itself was not seen.
    """

    arguments: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str, str], ...] = ()


def read_cli_starts(variant: Variant, evidence: Evidence) -> tuple[CliStart, ...]:
    """Each start that the hook told of; nothing where the variant sets nothing to be seen there."""
    return tuple(parse_cli_starts(evidence.starts)) if needs_start_evidence(variant) else ()


def parse_cli_starts(text: str) -> Iterator[CliStart]:
    """The starts in what the hook wrote; a line that is none of its own is passed over."""
    start: CliStart | None = None
    for line in text.splitlines():
        match line.split(" "):
            case ["arguments", encoded]:
                if start is not None:
                    yield start
                start = CliStart(_arguments(encoded))
            case ["file", name, digest] if start is not None:
                start = CliStart(start.arguments, (*start.files, (name, digest)), start.env)
            case ["env", name, seen, began] if start is not None:
                start = CliStart(start.arguments, start.files, (*start.env, (name, seen, began)))
    if start is not None:
        yield start


def _arguments(encoded: str) -> tuple[str, ...]:
    try:
        text = base64.b64decode(encoded, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return ()
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def unseen_notes(variant: Variant, starts: Sequence[CliStart]) -> tuple[str, ...]:
    """Notes for the record's reader where the starts leave something open."""
    whole = starts and all(
        start.arguments
        and (_UNSEEN, _UNKNOWN)
        not in {(seen, began) for name, seen, began in start.env if name in variant.env}
        for start in starts
    )
    return (_NOT_SEEN,) if needs_start_evidence(variant) and not whole else ()


def differences_in_starts(
    variant: Variant, env: Mapping[str, str], starts: Sequence[CliStart]
) -> tuple[str, ...]:
    """The differences of the starts from what the variant asks for, in sentences. `env` has its variables' values."""
    found = (
        sentence
        for start in starts
        for sentence in (
            *_args(variant, start),
            *_prompts(variant, start),
            *_variables(env, start),
            *_effort(variant, start),
        )
    )
    return tuple(dict.fromkeys(found))


def _args(variant: Variant, start: CliStart) -> Iterator[str]:
    wanted, given = (*flags(variant), *variant.args), start.arguments
    if not given:
        return
    places = range(len(given) - len(wanted) + 1)
    if not any(given[place : place + len(wanted)] == wanted for place in places):
        yield f"Claude Code was not started with the arguments {' '.join(wanted)}"


def _prompts(variant: Variant, start: CliStart) -> Iterator[str]:
    for name, digest in _wanted_files(variant).items():
        flag, seen = _PROMPTS[name], dict(start.files).get(name)
        if start.arguments and not _names(start.arguments, flag, name):
            yield f"Claude Code was not started with {flag}"
        elif seen != digest:
            yield f"{name} was another (sha256 {(seen or 'unknown')[:12]}) than was put there ({digest[:12]})"


def _wanted_files(variant: Variant) -> dict[str, str]:
    texts = {SYSTEM_PROMPT: variant.system_prompt, APPEND_SYSTEM_PROMPT: variant.append_system_prompt}
    return {name: text.sha256 for name, text in texts.items() if text}


def _names(arguments: Sequence[str], flag: str, name: str) -> bool:
    """True if the arguments have the flag with the variant's file behind it."""
    places = [place for place, argument in enumerate(arguments[:-1]) if argument == flag]
    return any(arguments[place + 1].endswith(f"/{FOLDER}/{name}") for place in places)


def _variables(env: Mapping[str, str], start: CliStart) -> Iterator[str]:
    for name, seen, began in start.env:
        if name not in env or _holds(env[name], seen, began):
            continue
        if seen == began == _UNSEEN and not start.arguments:
            continue
        if began == _UNKNOWN:
            if seen != _UNSEEN:
                yield f"{name} has another value than asked for"
        elif began == _hash(env[name]):
            yield f"{name} has another value than asked for: settings of Claude Code put it there"
        elif began == _UNSEEN:
            yield f"{name} was not in Claude Code's environment"
        else:
            yield f"{name} had another value than asked for when Claude Code was started"


def _effort(variant: Variant, start: CliStart) -> Iterator[str]:
    for name, seen, _ in start.env:
        if variant.effort is not None and name == EFFORT_VARIABLE and seen != _UNSEEN:
            yield f"{name} is set, which goes over the variant's `effort`"


def _holds(value: str, seen: str, began: str) -> bool:
    """Claude Code may keep a variable from its hooks: then it is what the process began with that counts."""
    return (began if seen == _UNSEEN else seen) == _hash(value)


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def start_records(
    variant: Variant, env: Mapping[str, str], starts: Sequence[CliStart]
) -> tuple[StartRecord, ...]:
    """The starts as a record tells them: no value of a variable, and no hash of one, since it may be a secret."""
    wanted = _wanted_files(variant)
    return tuple(
        StartRecord(
            arguments=start.arguments,
            files={
                name: digest
                for name, digest in start.files
                if name in wanted and re.fullmatch("[0-9a-f]{64}", digest)
            },
            env=tuple(
                name for name, seen, began in start.env if name in env and _holds(env[name], seen, began)
            ),
        )
        for start in starts
    )
