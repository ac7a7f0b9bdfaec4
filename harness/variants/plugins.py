"""A plugin's folder, read as Claude Code reads it: what it would pass over in silence is told before anything runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.tasks.contents import escapes_folder, files_in, folder_hash, read_text
from harness.tasks.manifest import is_name
from harness.variants.contents import agent_names, ambiguous_names, described, is_listed, style_name
from harness.variants.variant import Plugin

MANIFEST = ".claude-plugin/plugin.json"
_PARTS = ("skills", "commands", "agents", "hooks", ".mcp.json")
_EVENTS = (
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "UserPromptSubmit",
    "Notification",
    "Stop",
    "SubagentStart",
    "SubagentStop",
    "SessionStart",
    "SessionEnd",
    "PreCompact",
    "InstructionsLoaded",
)
"""Events of hooks. Newer versions have others, so only what is nearly one of these is taken for a mistake."""


class PluginError(Exception):
    """A folder that is no plugin, or one of which Claude Code would pass over a part."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def read_plugin(folder: Path) -> Plugin:
    """A plugin. Raises PluginError, and OSError for a folder that cannot be read."""
    manifest = _json(folder, MANIFEST)
    if manifest is None:
        raise PluginError(f"has no {MANIFEST}", 'write one, such as {"name": "my-plugin"}')
    name = manifest.get("name")
    if not isinstance(name, str) or not is_name(name):
        raise PluginError(f"has no usable name in {MANIFEST}", 'write one, such as {"name": "my-plugin"}')
    hooks = _json(folder, "hooks/hooks.json")
    if hooks is not None and (problem := _problem_in_hooks(hooks.get("hooks"))):
        raise PluginError(f"has hooks that Claude Code passes over: {problem}", "mend hooks/hooks.json")
    _json(folder, ".mcp.json")
    for part in _PARTS:
        if (folder / ".claude-plugin" / part).exists():
            raise PluginError(
                f"has {part} in .claude-plugin, where Claude Code does not look", "move it one up"
            )
    for path in files_in(folder):
        if path.is_symlink() and escapes_folder(path, folder):
            raise PluginError(
                f"has a link that leads out: {path.relative_to(folder)}", "copy what it leads to"
            )
    parts = [(kind, f"{name}:{part}", file) for kind, part, file in _parts(folder, manifest)]
    if several := ambiguous_names(parts):
        raise PluginError(f"has several {several[0]}, and Claude Code takes one", "give them other names")
    return Plugin(
        folder.resolve(),
        name,
        folder_hash(folder),
        tuple(part for kind, part, file in parts if kind in ("skill", "command") and is_listed(kind, file)),
        tuple(part for kind, part, _ in parts if kind == "agent"),
        tuple(one for part in parts for one in described(*part)),
        hooks.get("hooks", {}) if hooks else _own_hooks(manifest),
    )


def _own_hooks(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hooks that a manifest has in it, in either of its forms."""
    hooks = manifest.get("hooks")
    hooks = hooks.get("hooks", hooks) if isinstance(hooks, dict) else {}
    return hooks if isinstance(hooks, dict) else {}


def _parts(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, Path]]:
    """Skills, commands, agents and styles where a plugin has them by default: kind, name, file."""
    if "skills" not in manifest:
        # Also one in small letters, which Claude Code passes over: it will be missed.
        found = (path for path in sorted(folder.glob("skills/*/*.*")) if path.name.upper() == "SKILL.MD")
        yield from (("skill", path.parent.name, path) for path in found)
    if "commands" not in manifest:
        for path in sorted(folder.glob("commands/**/*.md")):
            yield "command", ":".join(path.relative_to(folder / "commands").with_suffix("").parts), path
    if "agents" not in manifest:
        for path in sorted(folder.glob("agents/*.md")):
            yield from (("agent", name, path) for name in agent_names(path))
    if "outputStyles" not in manifest:
        yield from (("style", style_name(path), path) for path in sorted(folder.glob("output-styles/*.md")))


def _json(folder: Path, name: str) -> Mapping[str, Any] | None:
    """The object in a file; None where there is no such file."""
    try:
        content = json.loads(read_text(folder / name))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise PluginError(f"has a {name} that is not valid JSON: {error}", "mend it") from error
    if not isinstance(content, dict):
        raise PluginError(f"has a {name} that is not a JSON object", "mend it")
    return content


def _problem_in_hooks(hooks: object) -> str | None:
    if not isinstance(hooks, dict):
        return '"hooks" is not an object'
    for event, groups in hooks.items():
        near = difflib.get_close_matches(event, _EVENTS, 1, 0.9)
        if near and event not in _EVENTS:
            return f"there is no event {event}, but {near[0]}"
        if not isinstance(groups, list):
            return f"{event} is not a list"
        for group in groups:
            inner = group.get("hooks") if isinstance(group, dict) else None
            if not isinstance(inner, list) or not all(isinstance(hook, dict) for hook in inner):
                return f'{event} has an entry without a list "hooks"'
            if any(
                hook.get("type") == "command" and not isinstance(hook.get("command"), str) for hook in inner
            ):
                return f"{event} has a hook without a command"
    return None
