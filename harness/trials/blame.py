"""Faults that the environment brings about which the user sets for a sandbox: told as that, with where it is set."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

from harness.errors import Fault, TaskFault
from harness.sandboxes.layout import HOME
from harness.variants.variant import Variant

_NO_PLACE = ("no such file or directory", "not a directory", "permission denied", "read-only file system")
"""Words of programs that find no folder where a variable says that there is one; in lower case."""
_LOGINS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_REMEDIES: Mapping[str, str] = {
    "HOME": "leave it out, or name a folder of the template that the sandbox's account may write to",
    "PATH": "leave it out, or name the template's own folders of programs too, such as /usr/local/bin:/usr/bin:/bin",
    **dict.fromkeys(_LOGINS, "leave it out, or give a key that the model's API takes"),
}
_REMEDY = "leave it out, or give a value with which Claude Code starts in the template"


@contextlib.contextmanager
def blaming_env(env: Mapping[str, str], variant: Variant) -> Iterator[None]:
    """Raise in a fault's place the one of the environment that brought it about. `env` is the task's.

    Raises:
        TaskFault: where a sandbox does not work with what the user sets for it.
    """
    try:
        yield
    except Fault as fault:
        name = _blamed({**env, **variant.env}, fault)
        if name is None:
            raise
        where = f"variant {variant.name!r}: env" if name in variant.env else "task.toml: sandbox.env"
        value = variant.env.get(name, env.get(name, ""))
        is_said = not value or name not in _LOGINS  # a key would be in the message for all to read
        said = f"{value!r}, with which" if is_said else "a value with which"
        message = f"{where}.{name} is {said} the sandbox does not work: {fault.message}"
        raise TaskFault("env", message, remedy=_REMEDIES.get(name, _REMEDY)) from fault


def _blamed(env: Mapping[str, str], fault: Fault) -> str | None:
    if (fault.cause, fault.kind) == ("sandbox", "seed"):
        if "command not found" in fault.message or "(exit 127)" in fault.message:
            return "PATH" if "PATH" in env else None
        if env.get("HOME", HOME) != HOME and _has_no_place(fault.message):
            return "HOME"
        return _quoted(env, fault.message)
    if (fault.cause, fault.kind) == ("agent", "not_installed"):
        return "PATH" if "PATH" in env else None
    if (fault.cause, fault.kind) == ("agent", "did_not_start"):
        return _quoted(env, fault.message)
    if fault.cause == "provider" and fault.message.startswith("Not logged in"):
        return next((name for name in _LOGINS if name in env), None)
    return None


def _has_no_place(words: str) -> bool:
    return any(said in words.lower() for said in _NO_PLACE)


def _quoted(env: Mapping[str, str], words: str) -> str | None:
    """The variable of which a program speaks: by its name, an option in it, or a folder in it that is none."""
    for name, value in env.items():
        parts = re.split(r"[\s=:,]+", value)
        options = [part for part in parts if part.startswith("-") and part.strip("-")]
        folders = (
            [part for part in parts if part.startswith("/") and part != "/"] if _has_no_place(words) else []
        )
        parents = [f"'/{folder.split('/')[1]}'" for folder in folders]
        is_named = re.search(rf"\b{re.escape(name)}\b", words)
        if is_named or any(part in words for part in (*options, *folders, *parents)):
            return name
    return None
