"""The parts that Claude Code should find in a variant's folders, by the names that it gives them."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.tasks.contents import read_text
from harness.variants.variant import SETTINGS

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)^---", re.DOTALL | re.MULTILINE)
_KINDS = {"agent": "agent", "style": "output style", "server": "server"}

Part = tuple[str, str, Path]
"""A kind (`skill`, `agent`, `command`, `style`, `server`), the name that Claude Code gives it, and its file."""


def parts_in_overlay(folder: Path, files: Collection[str]) -> Iterator[Part]:
    """The skills, agents, commands, output styles and MCP servers of an overlay."""
    in_plugin = _holds_plugin(files)
    for name in sorted(files):
        parts, file = Path(name).parts[1:], folder / name
        if name == "repo/.mcp.json":
            yield from (("server", server, file) for server in _servers(file))
        if parts[:1] not in ((".claude",), ("skills",)) or not name.endswith(".md"):
            continue
        if parts[-1].upper() == "SKILL.MD" and len(parts) > 2:
            # Also one where Claude Code does not look: it will be missed. A plugin's skills have other names.
            inside = len(parts) > 4 and str(Path(*Path(name).parts[:4], "SKILL.md")) in files
            is_later = _value(front_matter(file) or "", "paths")
            if not (inside or in_plugin or is_later or parts[1] == "plugins"):
                yield "skill", parts[-2], file
        elif parts[0] == "skills":
            continue
        elif parts[1] == "commands":
            yield "command", ":".join(parts[2:]).removesuffix(".md"), file
        elif parts[1] == "agents":
            yield from (("agent", agent, file) for agent in agent_names(file))
        elif parts[1] == "output-styles" and len(parts) == 3:
            yield "style", style_name(file), file


def _holds_plugin(files: Collection[str]) -> bool:
    return any(".claude-plugin" in Path(name).parts for name in files)


def names_of(parts: Iterable[Part]) -> dict[str, tuple[str, ...]]:
    """The names of parts by their kinds, each once."""
    found: dict[str, list[str]] = {"skill": [], "agent": [], "command": [], "server": []}
    for kind, name, file in parts:
        if kind in found and is_listed(kind, file):
            found[kind].append(name)
    return {kind: tuple(dict.fromkeys(names)) for kind, names in found.items() if names}


def is_listed(kind: str, file: Path) -> bool:
    """True if a session's start lists it. A skill that no user can call is told to the model alone."""
    return kind != "skill" or _value(front_matter(file) or "", "user-invocable") != "false"


def agent_names(file: Path) -> list[str]:
    """The name of the agent in a file; none in one without front matter.

    Claude Code passes over an agent that has no name. It is told by its file's, under which it will be missed.
    """
    front = front_matter(file)
    return [] if front is None else [_value(front, "name") or file.stem]


def style_name(file: Path) -> str:
    """The name of the output style in a file."""
    return _value(front_matter(file) or "", "name") or file.stem


def described_in_overlay(parts: Iterable[Part], files: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """The parts of an overlay that the model may be told of, as `described` has them."""
    if not _holds_plugin(files):
        for part in parts:
            if part[0] != "server":
                yield from described(*part)


def described(kind: str, name: str, file: Path) -> Iterator[tuple[str, str, str]]:
    """A file's kind, name and description; nothing where it has none, or where the model is told of it later or never.

    An output style is told as a whole: its text stands there. Claude Code takes some front matter that is no YAML, as a
    colon within a description.
    """
    import yaml  # late: a variant without such files does not wait for it

    if kind == "style":
        yield kind, name, _FRONT_MATTER.sub("", read_text(file, errors="replace")).removeprefix("---").strip()
        return
    front = front_matter(file) or ""
    try:
        told = yaml.safe_load(front)
    except yaml.YAMLError:
        told = {"description": _value(front, "description")}
    told = told if isinstance(told, dict) else {}
    lines = str(told.get("description") or "").replace("\\n", "\n").strip().split("\n")
    if lines[0] and not told.get("disable-model-invocation") and "paths" not in told:
        yield kind, name, " ".join(lines[0].split())


def ambiguous_names(parts: Iterable[Part]) -> tuple[str, ...]:
    """The names that several have, of which Claude Code would take one: skills and commands are of one kind to it."""
    counts = Counter((_KINDS.get(kind, "skill"), name) for kind, name, _ in parts)
    return tuple(f"{kind}s called {name!r}" for (kind, name), count in counts.items() if count > 1)


def rules_in_overlay(folder: Path, files: Collection[str]) -> Iterator[str]:
    """The rules that are loaded at a session's start: those that are not for some paths alone."""
    for name in sorted(files):
        parts = Path(name).parts
        # Also one of another kind, which Claude Code passes over: it will be missed.
        if parts[1:3] == (".claude", "rules") and not parts[-1].startswith("."):
            front = front_matter(folder / name)
            if front is None or _value(front, "paths") is None:
                yield name


def front_matter(file: Path) -> str | None:
    """The lines between a Markdown file's first `---` and the next."""
    found = _FRONT_MATTER.match(read_text(file, errors="replace"))
    return found[1] if found else None


def _value(front: str, key: str) -> str | None:
    found = re.search(rf"^{key}:[ \t]*(.*?)[ \t]*\r?$", front, re.MULTILINE)
    return found[1].strip("\"'") if found else None


def _servers(file: Path) -> list[str]:
    try:
        content = json.loads(read_text(file, errors="replace"))
    except (ValueError, RecursionError):
        return [".mcp.json"]
    servers = content.get("mcpServers") if isinstance(content, dict) else None
    return list(servers) if isinstance(servers, dict) else [".mcp.json"]


def settings_in_overlay(folder: Path, files: Collection[str]) -> dict[str, Any]:
    """The settings of all files together. One that is no JSON gives nothing: Claude Code tells of it."""
    found: dict[str, Any] = {}
    for name in SETTINGS:
        if name in files:
            with contextlib.suppress(OSError, ValueError):
                content = json.loads((folder / name).read_text(encoding="utf-8"))
                found |= content if isinstance(content, dict) else {}
    return found
