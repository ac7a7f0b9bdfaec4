"""Reasons why a variant's part was not there: the sandbox is asked once a difference was seen, before it goes.

An MCP server is started once more by itself, and Claude Code's own `doctor` is asked about settings. What they say is
put behind the difference; where they say nothing, nothing is added.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from harness.sandboxes.layout import HOME, REPO
from harness.sandboxes.sandbox import CommandTimeoutError, Sandbox
from harness.variants.apply import FOLDER
from harness.variants.variant import McpServer, Variant, with_secrets

_HELLO = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    '"clientInfo":{"name":"harness","version":"1"}}}'
)
_PATIENCE_S = 5
_TIMEOUT_S = 30.0
_SAID = 400
_SETTINGS = ".claude/settings.json"
_OF_HOME = f"home/{_SETTINGS}"
_QUIET = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 DISABLE_AUTOUPDATER=1"
_INVALID = re.compile(r"^Invalid settings\n(.*?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)
_PROBLEM = re.compile(r"^- (?P<file>/.*?)(?: \u203a (?P<key>[^:\n]*))?: (?P<what>.*)$", re.MULTILINE)


async def explain(
    sandbox: Sandbox, variant: Variant, secrets: Mapping[str, str], differences: Sequence[str]
) -> tuple[str, ...]:
    """The differences, those about a server that did not start with the reason."""
    found = list(differences)
    for name, server in (variant.mcp or {}).items():
        places = [
            number
            for number, sentence in enumerate(found)
            if sentence.startswith(f"the MCP server {name!r} is ") and sentence.endswith("not connected")
        ]
        reason = await _why_not_connected(sandbox, server, secrets) if places else None
        for place in places if reason else ():
            found[place] = f"{found[place]}: {reason}"
    return tuple(found)


async def _why_not_connected(sandbox: Sandbox, server: McpServer, secrets: Mapping[str, str]) -> str | None:
    revealed_server: dict[str, Any] = with_secrets(
        {"args": server.args, "env": server.env, "url": server.url, "headers": server.headers}, secrets
    )
    if server.url is not None:
        return await _why_unreachable(sandbox, revealed_server)
    words = shlex.join([server.command or "", *revealed_server["args"]])
    # Its stdout is the protocol, or the reason why it is none.
    script = (
        f"timeout -k 1 {_PATIENCE_S} {words} >/tmp/.harness-mcp-out "
        f"< <(printf '%s\\n' {shlex.quote(_HELLO)}; exec sleep {_PATIENCE_S - 1}); code=$?; "
        "head -c 200 /tmp/.harness-mcp-out; rm -f /tmp/.harness-mcp-out; exit $code"
    )
    try:
        result = await sandbox.run(script, cwd=REPO, env=revealed_server["env"], timeout=_TIMEOUT_S)
    except CommandTimeoutError:
        return f"started by itself, it did not end within {_TIMEOUT_S:g} s"
    stderr = _tail(result.stderr)
    if result.exit_code == 127:
        return (
            f"{server.command!r} was not found in the sandbox ({stderr or 'it said nothing'}); bring it with "
            "`overlay`, have it in the template, or let `network` reach the place from which it is fetched"
        )
    if result.exit_code == 124:
        return f"started by itself, it runs, but does not answer{f'; it said: {stderr}' if stderr else ''}"
    said = stderr or _tail(result.stdout) or "it said nothing on stderr"
    return f"started by itself, it ended with exit code {result.exit_code}: {said}"


async def _why_unreachable(sandbox: Sandbox, server: Mapping[str, Any]) -> str | None:
    headers = " ".join(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in server["headers"].items())
    script = (
        f"curl -sS -m {_PATIENCE_S} -o /dev/null -w '%{{http_code}}' -X POST {headers} "
        "-H 'content-type: application/json' -H 'accept: application/json, text/event-stream' "
        f"--data {shlex.quote(_HELLO)} {shlex.quote(server['url'])}"
    )
    try:
        result = await sandbox.run(script, cwd=REPO, timeout=_TIMEOUT_S)
    except CommandTimeoutError:
        return None
    if result.exit_code == 127:
        return None
    if result.exit_code:
        return (
            f"{_tail(result.stderr)}; is something listening there, and may the sandbox reach it (`network`)?"
        )
    return f"it answers with HTTP {result.stdout.strip()}"


async def invalid_settings(sandbox: Sandbox, variant: Variant) -> tuple[str, ...]:
    """The complaints of Claude Code's doctor about the settings that a variant brings, in sentences.

    It validates files in their usual places alone, so the variant's own are put into one beside.
    """
    own = bool(variant.settings)
    brought = variant.overlay.settings if variant.overlay else ()
    if not own and not brought:
        return ()
    folder = f"{HOME}/{FOLDER}/doctor"
    lay = [f"mkdir -p {folder}/own/.claude {folder}/home/.claude"]
    lay += [f"cp {HOME}/{FOLDER}/settings.json {folder}/own/.claude/"] if own else []
    lay += [f"cp {HOME}/.claude/settings.json {folder}/home/.claude/"] if _OF_HOME in brought else []
    # A home of its own: the session is to start in one in which Claude Code has never run.
    ask = f"HOME={folder}/home {_QUIET} timeout 20 claude doctor </dev/null"
    places = [f"{folder}/own"] if own else []
    places += [REPO] if brought else []
    asked = [f"cd {place} && {ask}" for place in places]
    script = f"{'; '.join(lay)}; {{ {'; '.join(asked)}; }} 2>&1; rm -rf {folder}; true"
    try:
        result = await sandbox.run(script, timeout=60.0)
    except CommandTimeoutError:
        return ()
    names = {name: name for name in brought if name != _OF_HOME}
    names |= {f"doctor/own/{_SETTINGS}": "settings", f"doctor/home/{_SETTINGS}": _OF_HOME}
    return tuple(dict.fromkeys(_sentences(result.stdout, names)))


def _sentences(said: str, places: Mapping[str, str]) -> list[str]:
    found = []
    for section in _INVALID.findall(said):
        for problem in _PROBLEM.finditer(section):
            name = next((name for end, name in places.items() if problem["file"].endswith(f"/{end}")), None)
            if name is not None:
                key = f" {problem['key'].strip()}:" if problem["key"] else ""
                found.append(f"Claude Code does not take {name} as it is:{key} {problem['what'][:_SAID]}")
    return found


def _tail(text: str) -> str:
    return " ".join(text.split())[-_SAID:]
