"""Templates through the `e2b` SDK: what a file asks for, its build on the platform, and what is built there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from e2b import AsyncTemplate, Template, exceptions
from e2b.api import encode_path_param, handle_api_exception
from e2b.api.client.api.templates import delete_templates_template_id, get_templates
from e2b.api.client_async import get_api_client
from e2b.connection_config import ConnectionConfig
from e2b.template.main import TemplateBuilder, TemplateFinal

from harness.errors import TaskFault
from harness.sandboxes.dockerfile import template_of_dockerfile
from harness.sandboxes.faults import raising_faults
from harness.sandboxes.npm import PACKAGE
from harness.tasks.templatefile import TemplateFile
from harness.text import keep_end

PREFIX = "harness-"
"""The prefix of the names of templates that harness has built."""
_HASH_DIGITS = 12
_SAID = 2000
_LAST_LINES = 3
_OUTPUT = re.compile(r"\[\d+\] (.*\S.*)", re.DOTALL)


@dataclass(frozen=True)
class TemplateBuild:
    """A template to build, and its name: the file's own and a hash of all that goes into it."""

    file: TemplateFile
    name: str
    template: Any


@dataclass(frozen=True)
class BuiltTemplate:
    """A template that is on the platform."""

    name: str
    id: str
    created_at: datetime


def read_template_build(file: TemplateFile) -> TemplateBuild:
    """Read a file, and hash what it and the files that it copies say. A Python file is run for it.

    Raises:
        TaskFault: when it cannot be read, or has no template.
    """
    try:
        template = _of_python(file) if file.name else template_of_dockerfile(file.path, file.context)
        content = Template.to_json(template)
    except TaskFault:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or "nothing"
        raise TaskFault(
            "template_file", f"{file.shown} cannot be used: {type(error).__name__}: {words}"
        ) from error
    digest = hashlib.sha256(content.encode()).hexdigest()[:_HASH_DIGITS]
    return TemplateBuild(file, f"{PREFIX}{_stem(file)}-{digest}", template)


def claude_template_build(template: str, version: str) -> TemplateBuild:
    """A template with another version of Claude Code in it, from npm."""
    install = (
        f"npm install -g {PACKAGE}@{version} && claude --version | grep -F {version}"
        # The command's own place may be before npm's on PATH.
        ' || { ln -sf "$(npm prefix -g)/bin/claude" "$(command -v claude)" '
        f"&& claude --version | grep -F {version}; }}"
    )
    made = Template().from_template(template).run_cmd(install, user="root")
    digest = hashlib.sha256(Template.to_json(made).encode()).hexdigest()[:_HASH_DIGITS]
    file = TemplateFile(Path(f"{template} with Claude Code {version}"))
    return TemplateBuild(file, f"{PREFIX}claude-{version.replace('.', '-')}-{digest}", made)


def _of_python(file: TemplateFile) -> Any:
    spec = importlib.util.spec_from_file_location(f"harness_template_{secrets.token_hex(4)}", file.path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, file.name or "", None)
    if not isinstance(found, TemplateBuilder | TemplateFinal):
        what = "has no" if found is None else f"has {type(found).__name__}, not a template, in"
        raise TaskFault(
            "template_file",
            f"{file.path} {what} {file.name!r}",
            remedy=f'write {file.name} = Template().from_template("claude")... with e2b\'s Template',
        )
    return found


def _stem(file: TemplateFile) -> str:
    name = file.path.stem if file.name else file.path.parent.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "template"


async def is_built(name: str, params: Mapping[str, Any]) -> bool:
    """True if the platform has a template of this name. Raises SandboxFault."""
    with raising_faults(f"ask for template {name}"):
        return await AsyncTemplate.exists(name, **params)


async def build(template_build: TemplateBuild, params: Mapping[str, Any], log: Callable[[str], None]) -> None:
    """Build a template, with each line of the platform's log as it comes. What failed leaves no name behind.

    Raises:
        TaskFault: when a step fails, or asks for what the platform cannot do.
        SandboxFault: when the platform cannot be reached.
    """
    lines: list[str] = []

    def take(entry: Any) -> None:
        lines.append(entry.message)
        log(entry.message)

    with raising_faults(f"build {template_build.file.shown}"):
        try:
            await AsyncTemplate.build(
                template_build.template, template_build.name, on_build_logs=take, **params
            )
        except exceptions.BuildException as error:
            with contextlib.suppress(Exception):
                await remove(template_build.name, params)
            words = keep_end(" ".join(f"{error} {_output_of_last_step(lines)}".split()), _SAID)
            raise TaskFault(
                "template_build", f"{template_build.file.shown} could not be built: {words}"
            ) from error


def _output_of_last_step(lines: Sequence[str]) -> str:
    """The last lines that the last step of a build's log has written, in brackets; nothing if it wrote nothing."""
    said: list[str] = []
    for line in lines:
        if line.startswith("[builder "):
            said = []
        elif found := _OUTPUT.fullmatch(line):
            said.append(found[1])
    return f"({' / '.join(said[-_LAST_LINES:])})" if said else ""


async def list_built_templates(params: Mapping[str, Any]) -> list[BuiltTemplate]:
    """The templates that harness has built on the platform. Raises SandboxFault."""
    with raising_faults("list templates"):
        reply = await get_templates.asyncio_detailed(client=get_api_client(ConnectionConfig(**params)))
        if reply.status_code >= 300:
            raise handle_api_exception(reply)
        found = reply.parsed if isinstance(reply.parsed, list) else []
        names = [(template, name) for template in found for name in (template.names or template.aliases)]
        return [
            BuiltTemplate(name.rpartition("/")[2], template.template_id, template.created_at)
            for template, name in names
            if name.rpartition("/")[2].startswith(PREFIX)
        ]


async def remove(name: str, params: Mapping[str, Any]) -> bool:
    """Remove a template; False when there is none of this name. Raises SandboxFault."""
    with raising_faults(f"remove template {name}"):
        client = get_api_client(ConnectionConfig(**params))
        reply = await delete_templates_template_id.asyncio_detailed(encode_path_param(name), client=client)
        if reply.status_code == 404:
            return False
        if reply.status_code >= 300:
            raise handle_api_exception(reply)
        return True
