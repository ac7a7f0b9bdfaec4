"""The session's start compared with what the variant asks for: model, servers, tools, permissions, plugins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.records.session import Session
from harness.variants.apply import expected_mcp_servers, plugin_folder
from harness.variants.variant import Text, Variant

_VAGUE_MODELS = ("default", "best", "opusplan")
"""Names that leave the choice to Claude Code."""
_MODES = {"manual": "default"}
"""Claude Code's own word for a permission mode, where it has another."""
_AGENTS_PLUGIN = "cc-plugin-agents-md"
"""The built-in plugin by which Claude Code reads AGENTS.md."""
_SCHEMA_TOOL = "StructuredOutput"
_TELLERS = {"Skill": ("skill", "command"), "Task": ("agent",)}
"""The tools whose presence has the model told of a kind of thing."""
_NAMES_OF_TASK = {"Agent": "Task"}
"""A tool's name in a session's start, where it is not the one that the model knows."""


def differences_in_init(variant: Variant, session: Session, version: str | None = None) -> tuple[str, ...]:
    """The differences of a session's start from what the variant asks for, in sentences.

    `version` is the one of Claude Code that there is to be; None: the variant does not say.
    """
    return (
        *_model(variant, session),
        *_version(version, session),
        *_servers(variant, session),
        *_overlay(variant, session),
        *_plugins(variant, session),
        *_plugins_in_settings(variant, session),
        *_agents_md(variant, session),
        *_agent(variant, session),
        *_output_style(variant, session),
        *_permission_mode(variant, session),
        *_tools_taken_away(variant, session),
        *_tools_named(variant, session),
        *_tellers(variant, session),
        *_schema(variant, session),
    )


def differences_without_init(variant: Variant, session: Session) -> tuple[str, ...]:
    """Differences that only the end shows: a server that keeps the session from starting, as by flooding the CLI."""
    if session.session_id is None and expected_mcp_servers(variant):
        return ("the session had not started when the time was up, waiting for its MCP servers",)
    return ()


def _model(variant: Variant, session: Session) -> Iterator[str]:
    asked, seen = variant.model or asked_settings(variant).get("model"), session.model
    if isinstance(asked, str) and seen is not None and not is_model(variant, asked, seen):
        yield f"the model is {seen}, not {asked}"


def is_model(variant: Variant, asked: str, seen: str) -> bool:
    """True if a model may be the one that was asked for, by its name or by an alias that variables may have set."""
    return asked in _VAGUE_MODELS or _plain(asked) in _plain(seen) or seen in variant.env.values()


def _version(version: str | None, session: Session) -> Iterator[str]:
    if version is not None and session.claude_version != version:
        yield f"Claude Code is {session.claude_version}, not {version}"


def _plain(model: str) -> str:
    """A model's name without its date and its window."""
    return re.sub(r"(-\d{8})?(\[.*\])?$", "", model.lower())


def _servers(variant: Variant, session: Session) -> Iterator[str]:
    wanted = expected_mcp_servers(variant)
    if wanted is None:
        brought = variant.overlay.names.get("server", ()) if variant.overlay else ()
        for name in brought:
            yield from _connected(name, session)
        return
    for name, tools in wanted.items():
        missing = tuple(_connected(name, session))
        # A server whose tools the variant itself denies may be what is tried.
        is_denied = tools is None and any(_owner(f"{tool}__")[0] == name for tool in _denied(variant))
        yield from missing or (() if is_denied else _tools(name, tools, session))
    # A plugin's servers have a colon in their names; they come with the plugin.
    for name in session.mcp_servers:
        if name not in wanted and ":" not in name:
            yield f"the MCP server {name!r} is there, and was not asked for"


def _connected(name: str, session: Session) -> Iterator[str]:
    status = session.mcp_servers.get(name)
    if status is None:
        yield f"the MCP server {name!r} is not there"
    elif status != "connected":
        yield f"the MCP server {name!r} is {status}, not connected"


def _tools(server: str, wanted: tuple[str, ...] | None, session: Session) -> Iterator[str]:
    offered = {tool for owner, tool in map(_owner, session.tools_offered) if owner == server}
    if wanted is None and not offered:
        yield f"the MCP server {server!r} is connected and offers no tools"
    missing = [tool for tool in wanted or () if tool not in offered]
    if missing:
        yield f"the MCP server {server!r} does not offer {', '.join(map(repr, missing))}"


def _owner(tool: str) -> tuple[str, str]:
    kind, _, rest = tool.partition("__")
    server, _, name = rest.partition("__")
    return (server, name) if kind == "mcp" else ("", tool)


def _overlay(variant: Variant, session: Session) -> Iterator[str]:
    names = {**variant.overlay.names} if variant.overlay else {}
    names.pop("server", None)
    seen = {"skill": session.commands, "agent": session.agents, "command": session.commands}
    for kind, wanted in names.items():
        missing = [name for name in wanted if name not in seen[kind]]
        if missing:
            yield f"the overlay's {kind} {', '.join(map(repr, missing))} is not there"


def _plugins(variant: Variant, session: Session) -> Iterator[str]:
    if variant.plugins or variant.overlay or variant.settings or variant.args:
        yield from (f"a plugin was not loaded: {error}" for error in session.plugin_errors)
    for plugin in variant.plugins:
        path = session.plugins.get(plugin.name)
        if path is None or not path.endswith(f"/{plugin_folder(plugin)}"):
            yield f"the plugin {plugin.name!r} is not there"
            continue
        for kind, wanted, seen in (
            ("skill or command", plugin.commands, session.commands),
            ("agent", plugin.agents, session.agents),
        ):
            missing = [name for name in wanted if name not in seen]
            if missing:
                yield f"the plugin's {kind} {', '.join(map(repr, missing))} is not there"
        for name in session.mcp_servers:
            if name.startswith(f"plugin:{plugin.name}:"):
                yield from _connected(name, session)


def _plugins_in_settings(variant: Variant, session: Session) -> Iterator[str]:
    """Claude Code passes over a plugin that it does not know."""
    asked = asked_settings(variant).get("enabledPlugins")
    for key, value in asked.items() if isinstance(asked, Mapping) else ():
        is_there = key.rpartition("@")[0] in session.plugins
        if value is not False and not is_there:
            yield f"the plugin {key!r} of enabledPlugins is not there"


def _agents_md(variant: Variant, session: Session) -> Iterator[str]:
    """An AGENTS.md that is not imported is read by a plugin, which older versions do not have."""
    is_imported = variant.claude_md is not None and "@AGENTS.md" in getattr(variant.claude_md, "text", "")
    if isinstance(variant.agents_md, Text) and not is_imported and _AGENTS_PLUGIN not in session.plugins:
        yield f"AGENTS.md is not read: Claude Code {session.claude_version} has no {_AGENTS_PLUGIN}, or it is off"


def asked_settings(variant: Variant) -> Mapping[str, Any]:
    """The variant's settings, over those of its overlay."""
    return {**(variant.overlay.says if variant.overlay else {}), **(variant.settings or {})}


def _agent(variant: Variant, session: Session) -> Iterator[str]:
    """Claude Code passes over an agent of the settings that it does not know; one of `--agent` it refuses."""
    asked = asked_settings(variant).get("agent")
    if asked is not None and asked not in session.agents:
        yield f"the agent {asked!r} of the settings is not there"


def described_parts(variant: Variant) -> tuple[tuple[str, str, str], ...]:
    """The parts of the variant that the model is told of: kind, name, description."""
    brought = variant.overlay.described if variant.overlay else ()
    return (*brought, *(one for plugin in variant.plugins for one in plugin.described))


def asked_style(variant: Variant) -> str | None:
    """The output style that a variant asks for."""
    asked = variant.output_style or asked_settings(variant).get("outputStyle")
    return asked if isinstance(asked, str) else None


def _output_style(variant: Variant, session: Session) -> Iterator[str]:
    asked, seen = asked_style(variant), session.output_style
    if asked is not None and seen is not None and asked != seen:
        yield f"the output style is {seen!r}, not {asked!r}"


def _permission_mode(variant: Variant, session: Session) -> Iterator[str]:
    asked, seen = variant.permission_mode, session.permission_mode
    if asked is not None and seen is not None and _MODES.get(asked, asked) != seen:
        yield f"the permission mode is {seen}, not {asked}"
    if variant.allowed_tools is not None and asked is None and seen == "bypassPermissions":
        yield "permissions are bypassed, and `allowed_tools` restricts nothing"


def _schema(variant: Variant, session: Session) -> Iterator[str]:
    if variant.json_schema is not None and _SCHEMA_TOOL not in session.tools_offered:
        yield f"the tool {_SCHEMA_TOOL!r}, by which an answer in the form of `json_schema` is given, is not there"


def _tools_taken_away(variant: Variant, session: Session) -> Iterator[str]:
    """Tools that are denied altogether are not offered; rules about a tool's input leave no trace at the start."""
    for tool in _denied(variant):
        if _NAMES_OF_TASK.get(tool, tool) in session.tools_offered:
            yield f"the tool {tool!r} is offered, and was to be taken away"


def _denied(variant: Variant) -> tuple[str, ...]:
    """The tools that the variant's rules deny."""
    permissions = asked_settings(variant).get("permissions")
    rules = permissions.get("deny") if isinstance(permissions, Mapping) else ()
    denied = values_of(variant.args, "--disallowedTools", "--disallowed-tools")
    return tuple(dict.fromkeys((*denied, *(map(str, rules) if isinstance(rules, list | tuple) else ()))))


def _tellers(variant: Variant, session: Session) -> Iterator[str]:
    """The tools with which the model is told of what the variant brings: without one it hears nothing of it."""
    kinds = {kind for kind, _, _ in described_parts(variant)}
    for tool, told in _TELLERS.items():
        if kinds & set(told) and tool not in session.tools_offered:
            yield f"the tool {tool!r} is not there, and without it the model is told of no {' or '.join(told)}"


def _tools_named(variant: Variant, session: Session) -> Iterator[str]:
    """The only tools that there are to be: each of them must be there."""
    for tool in dict.fromkeys(values_of(variant.args, "--tools")):
        if tool != "default" and _NAMES_OF_TASK.get(tool, tool) not in session.tools_offered:
            yield f"the tool {tool!r} was asked for, and is not there"


def values_of(args: Sequence[str], *flags: str) -> Iterator[str]:
    """The names that follow a flag, which may come several times."""
    for value in following(args, *flags):
        yield from re.split(r"[,\s]+", value)


def following(args: Sequence[str], *flags: str) -> Iterator[str]:
    """The arguments that follow a flag, which may come several times."""
    inside = False
    for argument in args:
        flag, _, value = argument.partition("=")
        if argument.startswith("-"):
            inside, argument = flag in flags, value
        if inside and argument:
            yield argument
