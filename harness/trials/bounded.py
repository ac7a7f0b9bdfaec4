"""Patterns and schemas held against an agent's text, in a process of their own.

Some texts keep an innocent pattern (`(a+)+$`) busy for ever, and Python's `re` cannot be interrupted: nothing else
would go on meanwhile. This file is also the script of that process, which imports nothing of the harness.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

CPU_S = 2
"""The CPU time that one check's patterns, or its schema, have for an agent's text; waiting does not count."""
_SHOWN = 300


class TakesTooLongError(Exception):
    """The text could not be judged within the time."""


def search_all(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """For each pattern, as Python reads it: true if it is found in its text.

    Raises:
        TakesTooLongError: when that is not known in time.
    """
    return cast(list[bool], _ask("patterns", pairs, "-S")) if pairs else []


def schema_problem(schema: Any, text: str) -> str | None:
    """The reason why a text is not JSON that keeps to a schema; a fence around it is no part of it.

    Python's NaN and Infinity are no JSON. What has no end to its depth or size cannot be held against a schema.
    """
    try:
        return cast(str | None, _ask("schema", [schema, text]))
    except TakesTooLongError as error:
        return str(error)


def _ask(kind: str, about: object, *flags: str) -> object:
    done = subprocess.run(
        [sys.executable, "-I", *flags, __file__, kind], input=json.dumps(about).encode(), capture_output=True
    )
    if done.returncode == 0:
        return json.loads(done.stdout)
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise TakesTooLongError(f"the agent's text took more than {CPU_S} s of CPU time")
    words = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    raise TakesTooLongError(f"the agent's text could not be judged: {words[:_SHOWN]}")


def _found(pairs: Sequence[tuple[str, str]]) -> Iterator[bool]:
    return (re.search(pattern, text) is not None for pattern, text in pairs)


def _problem(schema: Any, text: str) -> str | None:
    import jsonschema

    fenced = re.fullmatch(r"```(?:json)?[ \t\r]*\n(.*)\n```", text, re.DOTALL)
    try:
        value = json.loads(fenced.group(1) if fenced else text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {error}"
    try:
        first = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(value)), None)
    except (RecursionError, OverflowError) as error:
        return f"it is too deep, or has too large a number: {error}"
    # A name in it may have half a surrogate pair, which no record can hold.
    return f"{ascii(first.json_path)[1:-1]}: {short(first.message)}" if first else None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def short(text: str) -> str:
    """A text as a reader is shown it, in quotes."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    about = json.load(sys.stdin)
    json.dump(list(_found(about)) if sys.argv[1] == "patterns" else _problem(*about), sys.stdout)


if __name__ == "__main__":
    _main()
