"""A variant: a named treatment, the same for every trial that it is applied to."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

SETTINGS = ("home/.claude/settings.json", "repo/.claude/settings.json", "repo/.claude/settings.local.json")
"""Files of settings; each goes over those before it."""
_SECRET = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Text:
    """The text of a file when the variant was read, or the text that was given in its place."""

    text: str

    @property
    def sha256(self) -> str:
        """Of its UTF-8 bytes, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def as_record(self) -> dict[str, Any]:
        """As a record tells it."""
        return {"sha256": self.sha256, "chars": len(self.text)}


@dataclass(frozen=True)
class ClaudeMd(Text):
    """A CLAUDE.md for the root of the repo: in place of the repo's own, or (`append`) after what that says."""

    append: bool = False
    sham_of: str | None = None
    """The SHA-256 of the text that this one, which says nothing, stands in for as a control."""

    def as_record(self) -> dict[str, Any]:
        """As a record tells it."""
        sham = {"sham_of": self.sham_of} if self.sham_of else {}
        return {**super().as_record(), "mode": "append" if self.append else "replace", **sham}


@dataclass(frozen=True)
class Removed:
    """The repo's own file is taken away, and nothing comes in its place."""

    def as_record(self) -> bool:
        """As a record tells it."""
        return False


@dataclass(frozen=True)
class TemplateSource:
    """A file that a template is built from: `path` leads to it (and to the object in it) from anywhere.

    `object` is the name after the colon; `sha256` is over the file itself.
    """

    path: str
    object: str | None
    sha256: str

    def as_record(self) -> dict[str, Any]:
        """As a record tells it."""
        return {"sha256": self.sha256, **({"object": self.object} if self.object else {})}


@dataclass(frozen=True)
class Overlay:
    """A folder whose `repo/` and `home/` are laid over the sandbox's, as it was when the variant was read.

    `hash` is over all of its content; `files` has each file's own SHA-256, by its path in the folder; `names` what a
    session should have of it: `skill`, `agent`, `command` and `server` (of `.mcp.json`), each with the names that
    Claude Code gives them. `rules` are the rules that are loaded at once, by their paths in the folder. `says` is what
    its files of settings say together. `described` are the skills, agents and commands of which the model is told at
    the start: kind, name, description.
    """

    path: Path
    hash: str
    files: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    says: Mapping[str, Any] = field(default_factory=dict)
    described: tuple[tuple[str, str, str], ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """Its files of settings."""
        return tuple(name for name in self.files if name in SETTINGS)

    def as_record(self) -> dict[str, Any]:
        """As a record tells it."""
        return {"sha256": self.hash, "files": len(self.files)}


@dataclass(frozen=True)
class Plugin:
    """A plugin's folder, as it was when the variant was read. `name` is its own, `hash` over all of its content.

    `commands` and `agents` are those that a session should have of it, by the names that Claude Code gives them;
    `described` as in an overlay. `hooks` are its hooks by their events.
    """

    path: Path
    name: str
    hash: str
    commands: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    described: tuple[tuple[str, str, str], ...] = ()
    hooks: Mapping[str, Any] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """As a record tells it."""
        return {"name": self.name, "sha256": self.hash}


@dataclass(frozen=True)
class McpServer:
    """An MCP server: a command that speaks it over stdio, or a URL.

    `tools` are those that it must offer; None: at least one, whichever.
    """

    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[str, ...] | None = None

    def as_record(self) -> dict[str, Any]:
        """As a record tells it."""
        return _as_record(self)


@dataclass(frozen=True)
class Variant:
    """The differences from running `claude` plainly. None or empty: no difference.

    `args` are appended to the CLI's argument vector; `env` is laid over the task's; `template` replaces the
    task's; `network` has hosts to reach beside the task's; `mcp` has exactly the servers to use, and `mcp_gateway`
    those that E2B's gateway runs, in its own terms. With `permission_mode` or `allowed_tools` Claude Code asks for
    permissions, and nobody gives them.

    `position` is its place among those that are run, from 0: the first is the baseline. `prices` are those that its
    file gives for models: US dollars for a million tokens by kind. Neither of them, nor the name, is a part of the
    treatment.

    A string of `env`, `mcp` or `mcp_gateway` may hold `${env:NAME}`: a secret of the harness's own environment,
    which is put in on the way into the sandbox and stands in no hash and no record.
    """

    name: str = "default"
    model: str | None = None
    claude_version: str | None = None
    template: str | TemplateSource | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    claude_md: ClaudeMd | Removed | None = None
    agents_md: Text | Removed | None = None
    system_prompt: Text | None = None
    append_system_prompt: Text | None = None
    settings: Mapping[str, Any] | None = None
    output_style: str | None = None
    permission_mode: str | None = None
    allowed_tools: tuple[str, ...] | None = None
    effort: str | None = None
    betas: tuple[str, ...] = ()
    fallback_model: str | None = None
    json_schema: Mapping[str, Any] | None = None
    plugins: tuple[Plugin, ...] = ()
    overlay: Overlay | None = None
    mcp: Mapping[str, McpServer] | None = None
    mcp_gateway: Mapping[str, Any] | None = None
    network: tuple[str, ...] = ()
    position: int = 0
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """The values that it sets, for a record: texts and folders by their hashes, secrets by their names."""
        return {name: value for name, value in _as_record(self).items() if name not in _NO_TREATMENT}

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over all that it sets, in hexadecimal: by the content of files, whatever they are called."""
        return hashlib.sha256(json.dumps(self.as_record(), sort_keys=True).encode()).hexdigest()

    @property
    def asks_permissions(self) -> bool:
        """True if Claude Code's permissions are on."""
        return self.permission_mode is not None or self.allowed_tools is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the environment's variables that it refers to."""
        strings = _strings(
            (self.env, self.mcp and [server.as_record() for server in self.mcp.values()], self.mcp_gateway)
        )
        return tuple(sorted({name for string in strings for name in _SECRET.findall(string)}))


_NO_TREATMENT = ("name", "position", "prices")


def _as_record(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults, so that a hash outlives fields yet to come."""
    given = ((part.name, getattr(value, part.name)) for part in fields(value))
    plain = type(value)()
    return {name: _plain(content) for name, content in given if content != getattr(plain, name)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(content) for content in value]
    return value.as_record() if hasattr(value, "as_record") else value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for content in value.values():
            yield from _strings(content)
    elif isinstance(value, list | tuple):
        for content in value:
            yield from _strings(content)


def with_secrets(value: Any, environ: Mapping[str, str]) -> Any:
    """A value with the secrets that its strings refer to put in.

    Raises:
        KeyError: for a variable that `environ` has not.
    """
    if isinstance(value, str):
        return _SECRET.sub(lambda found: environ[found[1]], value)
    if isinstance(value, Mapping):
        return {name: with_secrets(content, environ) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [with_secrets(content, environ) for content in value]
    return value


DEFAULT = Variant()
