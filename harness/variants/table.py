"""One variant's table: its keys and their types, as a user writes them, before any file was looked at."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.tasks.hosts import Host

_OWN_FLAGS = {
    "--model": "use the key `model`",
    "--system-prompt": "use the key `system_prompt`",
    "--system-prompt-file": "use the key `system_prompt`",
    "--append-system-prompt": "use the key `append_system_prompt`",
    "--append-system-prompt-file": "use the key `append_system_prompt`",
    "--settings": "use the key `settings`",
    "--permission-mode": "use the key `permission_mode`",
    "--allowedTools": "use the key `allowed_tools`",
    "--allowed-tools": "use the key `allowed_tools`",
    "--dangerously-skip-permissions": "harness sets it, unless there is `permission_mode` or `allowed_tools`",
    "--effort": "use the key `effort`",
    "--betas": "use the key `betas`",
    "--fallback-model": "use the key `fallback_model`",
    "--json-schema": "use the key `json_schema`",
    "--plugin-dir": "use the key `plugins`",
    "--mcp-config": "use the key `mcp`",
    "--strict-mcp-config": "use the key `mcp`",
    "-p": "harness sets it",
    "--print": "harness sets it",
    "--output-format": "harness sets it",
    "--input-format": "harness sets it",
    "--verbose": "harness sets it",
    "--include-hook-events": "harness sets it",
    "--max-turns": "it is the task's: [limits] max_turns",
    "--max-budget-usd": "it is the task's: [limits] max_cost_usd",
    "--session-id": "harness sets it",
    "-r": "harness sets it",
    "--resume": "harness sets it",
    "-c": "harness sets it",
    "--continue": "harness sets it",
    "--worktree": "the work would be done where no check looks",
    "-w": "the work would be done where no check looks",
    "--": "what follows would be taken for a prompt",
}
"""Flags of the CLI that have another place, and which."""

_WITH_VALUE = (
    "--add-dir",
    "--tools",
    "--disallowedTools",
    "--disallowed-tools",
    "--agent",
    "--agents",
    "--setting-sources",
    "--plugin-url",
)
"""Flags that take what follows them for their value, whatever it is."""

LATEST = "latest"
LOWEST_CLAUDE = "2.1.228"
"""The lowest version of Claude Code that is tested: it tells all that a variant is proven by."""


_Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PriceTable(BaseModel):
    """One model's price, in US dollars for a million tokens. A kind without a price leaves its cost unknown."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: _Usd = Field(description="input tokens that were neither read from nor put into a cache")
    output: _Usd = Field(description="output tokens, thinking included")
    cache_read: _Usd | None = Field(None, description="input tokens read from a cache")
    cache_creation: _Usd | None = Field(None, description="input tokens put into a cache")


@dataclass(frozen=True)
class Source:
    """The source of a text: a file, or the text itself. Exactly one of the two is set."""

    file: str | None
    text: str | None
    append: bool = False


def _source(value: object) -> Source:
    """A file's name, `{file = "..."}` or `{text = "..."}`."""
    if isinstance(value, str):
        return Source(value, None)
    if isinstance(value, dict) and len(value) == 1:
        ((key, content),) = value.items()
        if key in ("file", "text") and isinstance(content, str):
            return Source(content if key == "file" else None, content if key == "text" else None)
    raise ValueError('is neither the name of a file nor {file = "..."} nor {text = "..."}')


def _claude_md(value: object) -> Source | bool:
    if value is False:
        return False
    mode = "replace"
    if isinstance(value, dict) and "mode" in value:
        mode = value["mode"]
        value = {key: content for key, content in value.items() if key != "mode"}
    if mode not in ("replace", "append"):
        raise ValueError(f'has mode = {mode!r}, which is neither "replace" nor "append"')
    source = _source(value)
    return Source(source.file, source.text, append=mode == "append")


def _agents_md(value: object) -> Source | bool:
    return False if value is False else _source(value)


def _sham(value: object) -> Source:
    source = _claude_md(value)
    if isinstance(source, bool):
        raise ValueError("is no text to stand in for")
    return source


def _claude_version(version: str) -> str:
    if version == LATEST:
        return version
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f'is neither a version such as "{LOWEST_CLAUDE}" nor "{LATEST}"')
    if _parts(version) < _parts(LOWEST_CLAUDE):
        raise ValueError(f"is not supported: the lowest version that is, is {LOWEST_CLAUDE}")
    return version


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _settings(value: object) -> str | Mapping[str, Any]:
    if isinstance(value, str | dict):
        return value
    raise ValueError("is neither the name of a JSON file nor a table")


def _args(args: list[str]) -> list[str]:
    for argument in args:
        flag = argument.partition("=")[0]
        if flag in _OWN_FLAGS:
            raise ValueError(f"holds {flag}: {_OWN_FLAGS[flag]}")
    if args and not args[0].startswith("-"):
        raise ValueError(f"begins with {args[0]!r}, which would be taken for a prompt")
    for flag, value in itertools.pairwise([*args, "-"]):
        if flag in _WITH_VALUE and value.startswith("-"):
            raise ValueError(f"has no value for {flag}")
    return args


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not a URL such as https://mcp.example.com/mcp")
    return url


_ENV_NAME = "^[A-Za-z_][A-Za-z0-9_]*$"
_NO_NUL = r"^[^\x00]*$"
# The part of a server's name that Claude Code keeps in the names of its tools, with which it is found again.
_SERVER_NAME = "^[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*$"

PermissionMode = Literal["default", "manual", "acceptEdits", "plan", "dontAsk", "auto", "bypassPermissions"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]
Env = dict[Annotated[str, Field(pattern=_ENV_NAME)], Annotated[str, Field(pattern=_NO_NUL)]]


class _PartTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerTable(_PartTable):
    """`[NAME.mcp.SERVER]`."""

    command: str | None = Field(None, min_length=1, description='a program, such as "npx"')
    args: list[str] = Field([], description='a list of its arguments, such as ["-y", "my-server"]')
    env: Env = Field({}, description='strings by the names of variables, such as {TOKEN = "${env:MY_TOKEN}"}')
    url: Annotated[str, AfterValidator(_url)] | None = Field(
        None, description='a URL, such as "https://mcp.example.com/mcp"'
    )
    headers: dict[str, Annotated[str, Field(pattern=r"^[^\x00\r\n]*$")]] = Field(
        {}, description='strings by name, such as {Authorization = "Bearer ${env:MY_TOKEN}"}'
    )
    tools: list[str] | None = Field(
        None, description='a list of the tools that must be there, such as ["search"]'
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("needs either `command` (a server on stdio) or `url` (one on HTTP)")
        if self.url is not None and (self.args or self.env):
            raise ValueError("has a `url`, to which `args` and `env` mean nothing")
        if self.command is not None and self.headers:
            raise ValueError("has a `command`, to which `headers` mean nothing")
        return self


class VariantTable(_PartTable):
    """`[NAME]`. A field's description says what to give, and is the remedy for what is wrong there."""

    extends: str | None = Field(None, description="the name of another variant of this file")
    model: str | None = Field(
        None,
        min_length=1,
        description='a model\'s name or alias, such as "sonnet"; a list of them in [matrix]',
    )
    claude_version: Annotated[str, AfterValidator(_claude_version)] | None = Field(
        None, description=f'a version of Claude Code on npm, such as "{LOWEST_CLAUDE}", or "{LATEST}"'
    )
    template: str | None = Field(
        None,
        min_length=1,
        description='a template\'s name, such as "claude", FILE.py:NAME or a path to a Dockerfile',
    )
    args: Annotated[list[Annotated[str, Field(pattern=_NO_NUL)]], AfterValidator(_args)] = Field(
        [], description='a list of arguments for the CLI, such as ["--disallowedTools", "WebFetch"]'
    )
    env: Env = Field(
        {}, description='strings by the names of variables, such as {MAX_THINKING_TOKENS = "8000"}'
    )
    claude_md: Annotated[Any, BeforeValidator(_claude_md)] = Field(
        None,
        description='a file such as "terse.md", {file = "terse.md", mode = "append"}, {text = "..."}, or false',
    )
    sham: Annotated[Any, BeforeValidator(_sham)] = Field(
        None, description="the file that another variant has as claude_md, in the same form"
    )
    agents_md: Annotated[Any, BeforeValidator(_agents_md)] = Field(
        None, description='a file such as "agents.md", {text = "..."}, or false'
    )
    system_prompt: Annotated[Any, BeforeValidator(_source)] = Field(
        None, description='a file such as "system.md", or {text = "..."}'
    )
    append_system_prompt: Annotated[Any, BeforeValidator(_source)] = Field(
        None, description='a file such as "system.md", or {text = "..."}'
    )
    settings: Annotated[Any, BeforeValidator(_settings)] = Field(
        None, description='a JSON file such as "settings.json", or a table'
    )
    output_style: str | None = Field(None, min_length=1, description='a style\'s name, such as "Explanatory"')
    permission_mode: PermissionMode | None = Field(
        None, description="one of " + ", ".join(f'"{mode}"' for mode in get_args(PermissionMode))
    )
    allowed_tools: list[Annotated[str, Field(min_length=1, pattern=_NO_NUL)]] | None = Field(
        None, description='a list of tools or rules, such as ["Read", "Bash(npm test:*)"]'
    )
    effort: Effort | None = Field(
        None, description="one of " + ", ".join(f'"{level}"' for level in get_args(Effort))
    )
    betas: list[Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$")]] = Field(
        [], description='a list of the API\'s betas, such as ["context-1m-2025-08-07"]'
    )
    fallback_model: str | None = Field(
        None, min_length=1, description='the model to take when the first is overloaded, such as "haiku"'
    )
    json_schema: Annotated[Any, BeforeValidator(_settings)] = Field(
        None, description='a JSON Schema: a file such as "answer.schema.json", or a table'
    )
    plugins: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description='a list of plugins\' folders, such as ["my-plugin"]'
    )
    overlay: str | None = Field(None, min_length=1, description="a folder with repo/ or home/ in it")
    mcp: dict[Annotated[str, Field(pattern=_SERVER_NAME)], ServerTable] | None = Field(
        None,
        description='servers by name, such as {docs = {command = "docs-server"}}; names of letters, digits, - _',
    )
    mcp_gateway: dict[str, dict[str, Any]] | None = Field(
        None, description="servers as E2B's gateway has them, such as {duckduckgo = {}}"
    )
    network: list[Host] = Field([], description='a list of hosts, such as ["api.example.com"]')


def label(key: str, value: Any, number: int) -> str:
    """A short name for a value of a grid's axis: what it is where that can be read, else its place."""
    if value is False:
        return f"no-{key.replace('_', '-')}"
    if isinstance(value, dict) and isinstance(value.get("file"), str):
        value = value["file"]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "-".join(value)
    elif isinstance(value, str) and key not in ("model", "template", "extends"):
        value = re.sub(r"\.[A-Za-z0-9]+$", "", value.rstrip("/").rpartition("/")[2])
    text = re.sub(r"[^A-Za-z0-9_.]+", "-", value).strip("-._") if isinstance(value, str) else ""
    return text or f"{key.replace('_', '-')}-{number}"
