"""The values of a variant's keys, with what the files that they name hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import Problem
from harness.tasks.contents import escapes_folder, file_hash, files_in, folder_hash, read_text
from harness.tasks.templatefile import names_no_template, template_file
from harness.tasks.tomlfile import TomlFile, abbreviate, display_path
from harness.variants.contents import (
    ambiguous_names,
    described_in_overlay,
    names_of,
    parts_in_overlay,
    rules_in_overlay,
    settings_in_overlay,
)
from harness.variants.plugins import PluginError, read_plugin
from harness.variants.sham import sham_of
from harness.variants.table import ServerTable, Source
from harness.variants.variant import ClaudeMd, McpServer, Overlay, Plugin, Removed, TemplateSource, Text

_OVERLAY_PARTS = ("repo", "home")
_BASE_URL = "ANTHROPIC_BASE_URL"


@dataclass
class PartReader:
    """Reads the values of a file of variants, and collects problems."""

    file: TomlFile
    prefix: tuple[str, ...]
    problems: list[Problem] = field(default_factory=list)

    def complain(self, location: Sequence[str], what: str, remedy: str | None = None) -> None:
        """Add a problem of a key."""
        place = self.file.place((*self.prefix, *location))
        self.problems.append(Problem(place, ".".join(location) or None, what, remedy))

    def part(self, location: tuple[str, ...], name: str, value: Any) -> Any:
        """A field's value, with what its files hold; None, and a complaint, where they are not as they should be."""
        match name:
            case "template":
                return self.template(location, value)
            case "args" | "network" | "betas" | "allowed_tools":
                return tuple(value)
            case "claude_md" | "agents_md" if value is False:
                return Removed()
            case "sham":
                text = self.text(location, value)
                return None if text is None else _sham(text, append=value.append)
            case "claude_md":
                text = self.text(location, value)
                return None if text is None else ClaudeMd(text, append=value.append)
            case "system_prompt" | "append_system_prompt" | "agents_md":
                text = self.text(location, value)
                return None if text is None else Text(text)
            case "settings":
                return self.settings(location, value)
            case "json_schema":
                return self.json_object(location, value, "a schema", '{type = "object"}')
            case "plugins":
                return self.plugins(location, value)
            case "overlay":
                return self.overlay(location, value)
            case "mcp":
                return {key: _server(server) for key, server in value.items()}
        return value

    def text(self, location: tuple[str, ...], source: Source) -> str | None:
        """Return a key's text, its own or its file's."""
        if source.file is None:
            return source.text
        path = self.existing(location, source.file, "file")
        try:
            text = read_text(path) if path else None
        except OSError as error:
            self.complain(
                location, f"{source.file!r} cannot be read: {error.strerror}", "give a file of text"
            )
            return None
        except UnicodeDecodeError as error:
            self.complain(location, f"{source.file!r} is not UTF-8 text: {error}", "save it as UTF-8")
            return None
        if text is not None and not text.strip():
            self.complain(location, f"{source.file!r} is empty", "write something into it")
        return text

    def existing(self, location: tuple[str, ...], name: str, kind: str) -> Path | None:
        """The path that a name stands for, relative to the file in which it is given."""
        path = self.file.path.parent / name
        if "\0" not in name and (path.is_file() if kind == "file" else path.is_dir()):
            return path
        there = "\0" not in name and path.exists()
        remedy = "names are relative to the file in which they stand"
        self.complain(location, f"{name!r} {f'is not a {kind}' if there else 'does not exist'}", remedy)
        return None

    def template(self, location: tuple[str, ...], name: str) -> str | TemplateSource | None:
        """Return a template's name, or its file."""
        file = template_file(name)
        if incomplete := names_no_template(name):
            self.complain(location, f"{name!r} names a file alone", incomplete)
            return None
        if file is None:
            return name
        path = self.existing(location, str(file.path), "file")
        if path is None:
            return None
        whole = f"{path.resolve()}:{file.name}" if file.name else str(path.resolve())
        return TemplateSource(whole, file.name, file_hash(path) or "")

    def settings(self, location: tuple[str, ...], given: str | Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return settings that do not switch off what the trial needs."""
        content = self.json_object(location, given, "settings", '{model = "opus"}')
        if content and content.get("disableAllHooks"):
            what = "disableAllHooks would switch off the hook that tells which CLAUDE.md was loaded"
            self.complain(location, what, "leave it out")
        env = content.get("env") if content else None
        if isinstance(env, dict) and _BASE_URL in env:
            # It stands above the process's own: no replay is asked, and a dead address is tried for three minutes.
            what = f"env.{_BASE_URL} would lead Claude Code away from the API, or the replay, that the run has for it"
            self.complain(location, what, "put it into the variant's `env`, or set it where pytest runs")
        return content

    def json_object(
        self, location: tuple[str, ...], given: str | Mapping[str, Any], what: str, example: str
    ) -> Mapping[str, Any] | None:
        """A table, or the object in a JSON file."""
        content: Any = given
        if isinstance(given, str):
            text = self.text(location, Source(given, None))
            if text is None:
                return None
            try:
                content = json.loads(text)
            except (ValueError, RecursionError) as error:
                remedy = f"{what} {'is' if what.startswith('a ') else 'are'} a JSON object"
                self.complain(location, f"{given!r} is not valid JSON: {error}", remedy)
                return None
        if not isinstance(content, dict) or not _is_json(content):
            self.complain(
                location, f"{abbreviate(given)} is not a JSON object", f"give something such as {example}"
            )
            return None
        return content

    def plugins(self, location: tuple[str, ...], names: Sequence[str]) -> tuple[Plugin, ...]:
        """Read the plugins."""
        found: list[Plugin] = []
        for name in names:
            folder = self.existing(location, name, "folder")
            try:
                plugin = read_plugin(folder) if folder else None
            except PluginError as error:
                self.complain(location, f"{name!r} {error.what}", error.remedy)
                continue
            if plugin and plugin.name in {one.name for one in found}:
                self.complain(
                    location, f"two plugins are called {plugin.name!r}", "give one of them another name"
                )
            found += [plugin] if plugin else []
        return tuple(found)

    def overlay(self, location: tuple[str, ...], name: str) -> Overlay | None:
        """Read the folder of files that are laid over the sandbox's."""
        folder = self.existing(location, name, "folder")
        if folder is None:
            return None
        beside = sorted(path.name for path in folder.iterdir() if path.name not in _OVERLAY_PARTS)
        files = list(files_in(folder))
        if beside:
            what = f"{name!r} holds {', '.join(beside[:5])}, which would be laid nowhere"
            self.complain(
                location, what, "put what goes into the repo into repo/, and into the home into home/"
            )
        elif not files:
            self.complain(location, f"{name!r} is empty", "put files into its repo/ or home/")
        for path in files:
            if path.is_symlink() and escapes_folder(path, folder / path.relative_to(folder).parts[0]):
                self.complain(
                    location, f"{display_path(path)} is a link that leads out", "copy what it leads to"
                )
        hashes = {str(path.relative_to(folder)): file_hash(path) or "" for path in files if path.is_file()}
        parts = list(parts_in_overlay(folder, hashes))
        for several in ambiguous_names(parts):
            self.complain(
                location,
                f"{name!r} has several {several}, and Claude Code takes one",
                "give them other names",
            )
        return Overlay(
            folder.resolve(),
            folder_hash(folder),
            hashes,
            names_of(parts),
            tuple(rules_in_overlay(folder, hashes)),
            settings_in_overlay(folder, hashes),
            tuple(described_in_overlay(parts, hashes)),
        )


def _sham(text: str, *, append: bool) -> ClaudeMd:
    return ClaudeMd(sham_of(text), append=append, sham_of=Text(text).sha256)


def _server(table: ServerTable) -> McpServer:
    return McpServer(
        command=table.command,
        args=tuple(table.args),
        env=table.env,
        url=table.url,
        headers=table.headers,
        tools=None if table.tools is None else tuple(table.tools),
    )


def _is_json(content: Any) -> bool:
    """True if JSON can hold it. TOML has dates too."""
    try:
        json.dumps(content, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
