"""Hooks that could not be run: a treatment that the session did not have, or the agent's own doing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.records.session import BrokenHook, Session
from harness.records.stream import TELLING
from harness.trials.init_checks import asked_settings
from harness.variants.variant import Variant

_MISSING = re.compile(
    r"([^\s:]+): (?:command not found|not found|No such file|[Pp]ermission denied)"
    r"|[Cc]an't open (?:file '|perl script \")([^'\"]+)|Cannot find module '([^']+)"
)
_SHOWN = 500


def differences_in_hooks(variant: Variant, session: Session) -> tuple[str, ...]:
    """The variant's hooks that could not be run before the agent did anything, in sentences."""
    return tuple(
        f"the variant's {hook.event} hook could not be run, or failed: {hook.words[:_SHOWN]}"
        for hook in session.broken_hooks
        if not hook.is_late and _is_asked(variant, hook)
    )


def hook_notes(variant: Variant, session: Session) -> Iterator[str]:
    """Notes for a reader on other hooks: the repo's, or those that ran after the agent."""
    for hook in session.broken_hooks:
        if hook.is_late or not _is_asked(variant, hook):
            yield f"a {hook.event} hook could not be run, or failed: {hook.words[:_SHOWN]}"


def _is_asked(variant: Variant, hook: BrokenHook) -> bool:
    """True if the variant has a hook for this event that names what is missing. The event tells not whose."""
    names = {name for found in _MISSING.findall(hook.words) for name in found if name}
    missing = {name.rpartition("/")[2] for name in names}
    asked = (asked_settings(variant).get("hooks"), *(plugin.hooks for plugin in variant.plugins))
    commands = tuple(command for hooks in asked for command in _commands(hooks, hook.event))
    if not missing and hook.event in TELLING:
        return bool(commands)
    return any(name in command for name in missing for command in commands)


def _commands(hooks: object, event: str) -> Iterator[str]:
    """The commands that end before the agent's first call does anything."""
    for matched in _list(hooks.get(event) if isinstance(hooks, Mapping) else None):
        for hook in _list(matched.get("hooks")):
            is_awaited = event in TELLING or not hook.get("async")
            if is_awaited and isinstance(command := hook.get("command"), str):
                yield command


def _list(value: object) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else ()
