"""A variant on its way into a sandbox: the files that it brings, how they are put in place, the CLI's arguments.

```
~/.harness/variant/            what the variant brings, as it is given
  overlay/repo, overlay/home   laid over the repo and the home
  plugins/NAME                 each of its plugins
  CLAUDE.md, AGENTS.md, system-prompt.md, append-system-prompt.md, mcp.json, schema.json
  settings.json                the variant's settings, with the hooks that tell what was loaded
  instructions/                what that hook has told, a file each: the hash of what was loaded, and the event
  applied                      the CLAUDE.md that was put in place, and its hash
```
What the hooks find leaves the sandbox in the session's own stream, before the agent's first tool call. They say it on
stderr, which Claude Code tells in its stream, and does not show to the model.

All is in place before the repo's first commit, so that no diff shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.variants.variant import ClaudeMd, McpServer, Plugin, Removed, Text, Variant, with_secrets

FOLDER = ".harness/variant"
SYSTEM_PROMPT, APPEND_SYSTEM_PROMPT = "system-prompt.md", "append-system-prompt.md"
EVIDENCE = "harness-evidence"
"""The line after which a hook of the harness tells what it has found, as `key=value` lines."""
_WAIT_S = 3
_MAX_BYTES = 1_000_000
GATEWAY = "e2b-mcp-gateway"
"""The name that E2B's page gives to its gateway."""

_SHELLS_OWN = frozenset(("PWD", "OLDPWD", "SHLVL", "_"))
"""Variables that each shell sets anew, the one of a hook too."""

SIMPLE = "CLAUDE_CODE_SIMPLE"
"""A variable that does what `--bare` does."""
EFFORT_VARIABLE = "CLAUDE_CODE_EFFORT_LEVEL"
"""A variable that goes over `--effort`."""

_GATEWAY_URL = "http://localhost:50005/mcp"
"""The gateway's address inside the sandbox. The sandbox's network rules do not apply to it."""

# Claude Code tells no event of these hooks. So each is kept in a file of its own, since several run at once, until the
# next one tells them; one that stays empty says that its hook was cut off. The hook's event comes on stdin.
_HOOK = f"""
cd ~/{FOLDER} && mkdir -p instructions && told=instructions/$$-$RANDOM && >"$told" || exit 0
IFS= read -r -d '' event
path=${{event#*'"file_path":"'}}
digest=$(sha256sum <"${{path%%'"'*}}")
printf '%s\\n%s\\n' "${{digest%% *}}" "$event" >"$told"
"""

# The CLI is the nearest process above that was started with the variant's settings; where it has overwritten its
# arguments, as Node's programs can, there is none, and they stay unknown. Values are told by their hashes: they may be
# secrets.
_START_HOOK = f"""
cd ~/{FOLDER} || exit 0
value() {{
  if [ ! -r "/proc/$1/environ" ]; then echo '?'; return; fi
  while IFS= read -r -d '' pair; do
    if [ "${{pair%%=*}}" = "$2" ]; then printf %s "${{pair#*=}}" | sha256sum | cut -c1-64; return; fi
  done <"/proc/$1/environ"
  echo -
}}
cli=$PPID
while [ "${{cli:-0}}" -gt 1 ] && ! tr '\\0' '\\n' <"/proc/$cli/cmdline" | grep -qxF "$PWD/settings.json"; do
  cli=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$cli/status")
done
told=$({{
  if [ "${{cli:-0}}" -gt 1 ]; then arguments=$(base64 <"/proc/$cli/cmdline" | tr -d '\\n'); else cli=none; fi
  echo "arguments $arguments"
  for file in *.md; do
    if [ -f "$file" ]; then echo "file $file $(sha256sum <"$file" | cut -c1-64)"; fi
  done
  while IFS= read -r name; do echo "env $name $(value $$ "$name") $(value "$cli" "$name")"; done <variables
}} 2>/dev/null | base64 | tr -d '\\n')
printf '%s\\n' {EVIDENCE} "starts=$told" >&2
"""

# Instructions are loaded before the first prompt; the hooks that tell of them may still run then.
_TELL_HOOK = f"""
cd ~/{FOLDER} || exit 0
end=$((SECONDS + {_WAIT_S}))
while [ $SECONDS -lt $end ]; do
  if ! grep -qsa 'variant/hook[.]sh' /proc/[0-9]*/cmdline && {{ [ ! -f expected ] || [ -d instructions ]; }}; then
    break
  fi
  sleep 0.02
done
{{
  echo {EVIDENCE}
  if [ -f applied ]; then echo "applied=$(head -c 5000 applied | base64 -w0)"; fi
  echo "instructions=$(for told in instructions/*; do
    if [ -s "$told" ]; then head -c 10000 "$told"; echo; elif [ -f "$told" ]; then echo "cut off"; fi
  done | head -c {_MAX_BYTES} | base64 -w0)"
}} >&2
"""

_OVERLAY = f"""
for part in repo home; do
  if [ -d ~/{FOLDER}/overlay/$part ]; then
    into=~; [ $part = repo ] && into=~/repo
    cp -a ~/{FOLDER}/overlay/$part/. "$into"/
  fi
done
"""
# The repo's own may be a link, to AGENTS.md for one: what it leads to stays as it is.
_REPLACE = f"""
cd ~/repo && rm -rf CLAUDE.md .claude/CLAUDE.md && cp ~/{FOLDER}/CLAUDE.md CLAUDE.md && target=CLAUDE.md
"""
_APPEND = f"""
cd ~/repo && target=CLAUDE.md
if [ ! -e CLAUDE.md ] && [ -e .claude/CLAUDE.md ]; then target=.claude/CLAUDE.md; fi
{{ if [ -e "$target" ]; then cat "$target"; echo; fi; cat ~/{FOLDER}/CLAUDE.md; }} >~/{FOLDER}/merged.md
rm -f "$target" && mv ~/{FOLDER}/merged.md "$target"
"""
# Claude Code reads AGENTS.md if there is no CLAUDE.md.
_TAKE_AWAY = "cd ~/repo && rm -rf CLAUDE.md .claude/CLAUDE.md CLAUDE.local.md AGENTS.md\n"
_TAKE_AGENTS_AWAY = "rm -rf ~/repo/AGENTS.md\n"
_LAY_AGENTS = f"rm -rf ~/repo/AGENTS.md && cp ~/{FOLDER}/AGENTS.md ~/repo/AGENTS.md\n"
_NOTE = f'sha256sum "$target" >~/{FOLDER}/applied\n'


@dataclass(frozen=True)
class VariantFiles:
    """The content of a sandbox beside the repo: `files` and `paths` by their places below the home, and a bash
    `script` that puts them where they belong, before the repo's first commit. `secret`: some hold a secret.
    `version` changes with what is in the paths."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    paths: Mapping[str, Path] = field(default_factory=dict)
    script: str = ""
    secret: bool = False
    version: str = ""


NO_VARIANT_FILES = VariantFiles()


def variant_files(
    variant: Variant, secrets: Mapping[str, str], gateway_token: str | None = None
) -> VariantFiles:
    """All that a variant brings.

    Args:
        variant: the variant.
        secrets: the values that it refers to.
        gateway_token: lets one into the sandbox's MCP gateway, where there is one.
    """
    files = {f"{FOLDER}/{name}": text.encode() for name, text in _files(variant, secrets, gateway_token)}
    paths = {f"{FOLDER}/overlay": variant.overlay.path} if variant.overlay else {}
    paths |= {plugin_folder(plugin): plugin.path for plugin in variant.plugins}
    secret = bool(variant.secrets or gateway_token)
    return VariantFiles(files, paths, "".join(_steps(variant)), secret, variant.hash)


def repo_names(variant: Variant) -> frozenset[str]:
    """The files of the repo that a variant lays down, replaces or takes away."""
    files = variant.overlay.files if variant.overlay else {}
    laid = {name.removeprefix("repo/") for name in files if name.startswith("repo/")}
    if variant.claude_md:
        laid |= {"CLAUDE.md", ".claude/CLAUDE.md"}
    if isinstance(variant.claude_md, Removed):
        laid |= {"CLAUDE.local.md", "AGENTS.md"}
    return frozenset(laid | ({"AGENTS.md"} if variant.agents_md else set()))


def repo_files(variant: Variant) -> VariantFiles:
    """The files that a variant lays into the repo, and nothing else: for where its work is judged."""
    files = {}
    if isinstance(variant.claude_md, ClaudeMd):
        files[f"{FOLDER}/CLAUDE.md"] = variant.claude_md.text.encode()
    if isinstance(variant.agents_md, Text):
        files[f"{FOLDER}/AGENTS.md"] = variant.agents_md.text.encode()
    overlay = variant.overlay.path / "repo" if variant.overlay else None
    paths = {f"{FOLDER}/overlay/repo": overlay} if overlay and overlay.is_dir() else {}
    script = "".join(_steps(variant)) if files or paths or variant.claude_md or variant.agents_md else ""
    return VariantFiles(
        files, paths, script and f"mkdir -p ~/{FOLDER}\n{script}", False, f"repo-{variant.hash}"
    )


def _files(variant: Variant, secrets: Mapping[str, str], token: str | None) -> Iterator[tuple[str, str]]:
    yield "settings.json", json.dumps(_settings(variant))
    yield "hook.sh", _HOOK
    yield "tell.sh", _TELL_HOOK
    if isinstance(variant.claude_md, ClaudeMd):
        yield "CLAUDE.md", variant.claude_md.text
    if isinstance(variant.agents_md, Text):
        yield "AGENTS.md", variant.agents_md.text
    if variant.json_schema is not None:
        yield "schema.json", json.dumps(variant.json_schema)
    if isinstance(variant.claude_md, ClaudeMd) or any(
        path.endswith("CLAUDE.md") for path in (variant.overlay.files if variant.overlay else ())
    ):
        yield "expected", ""
    if variant.system_prompt:
        yield SYSTEM_PROMPT, variant.system_prompt.text
    if variant.append_system_prompt:
        yield APPEND_SYSTEM_PROMPT, variant.append_system_prompt.text
    if needs_start_evidence(variant):
        yield "start-hook.sh", _START_HOOK
        yield "variables", "".join(f"{name}\n" for name in _variables(variant))
    if sets_mcp_servers(variant):
        yield "mcp.json", json.dumps({"mcpServers": _servers(variant, secrets, token)})


def _variables(variant: Variant) -> Iterator[str]:
    """The variables of which the start's hook tells."""
    yield from (name for name in variant.env if name not in _SHELLS_OWN)
    if variant.effort is not None:
        yield EFFORT_VARIABLE


def _steps(variant: Variant) -> Iterator[str]:
    if variant.overlay:
        yield _OVERLAY
    if isinstance(variant.claude_md, Removed):
        yield _TAKE_AWAY
    elif variant.claude_md:
        yield _APPEND if variant.claude_md.append else _REPLACE
        yield _NOTE
    if isinstance(variant.agents_md, Removed):
        yield _TAKE_AGENTS_AWAY
    elif variant.agents_md:
        yield _LAY_AGENTS


def _settings(variant: Variant) -> dict[str, Any]:
    """The variant's own settings; its hooks, and ours beside them."""
    # The repo's own settings would switch off our hooks too.
    settings = {"disableAllHooks": False, **(variant.settings or {})}
    if variant.output_style is not None:
        settings["outputStyle"] = variant.output_style
    hooks = dict(settings.get("hooks") or {})
    scripts = {"InstructionsLoaded": "hook.sh", "UserPromptSubmit": "tell.sh"}
    if needs_start_evidence(variant):
        scripts["SessionStart"] = "start-hook.sh"
    for event, script in scripts.items():
        # Claude Code does not wait for what tells of instructions: when it exits, it ends that with SIGTERM, and
        # a second or two later with SIGKILL.
        command = f"trap '' TERM; bash ~/{FOLDER}/{script}"
        ours = {"hooks": [{"type": "command", "command": command}]}
        hooks[event] = [*hooks.get(event, []), ours]
    return {**settings, "hooks": hooks}


def has_hooks(variant: Variant) -> bool:
    """True if the variant leaves hooks on."""
    is_simple = variant.env.get(SIMPLE, "").lower() in ("1", "true", "yes", "on")
    return not (is_simple or {"--bare", "--safe-mode"} & set(variant.args))


def needs_start_evidence(variant: Variant) -> bool:
    """True if the variant sets something that only the CLI's start shows, and no event of the session."""
    return bool(
        flags(variant) or variant.args or variant.env or variant.system_prompt or variant.append_system_prompt
    )


def flags(variant: Variant) -> list[str]:
    """The CLI's arguments that hold a variant's values themselves."""
    found: list[str] = []
    if variant.permission_mode is not None:
        found += ["--permission-mode", variant.permission_mode]
    if variant.allowed_tools:
        found += ["--allowedTools", *variant.allowed_tools]
    if variant.effort is not None:
        found += ["--effort", variant.effort]
    if variant.betas:
        found += ["--betas", *variant.betas]
    if variant.fallback_model is not None:
        found += ["--fallback-model", variant.fallback_model]
    return found


def plugin_folder(plugin: Plugin) -> str:
    """The path of a plugin, below the home."""
    return f"{FOLDER}/plugins/{plugin.name}"


def sets_mcp_servers(variant: Variant) -> bool:
    """True if the variant says which MCP servers there are."""
    return variant.mcp is not None or variant.mcp_gateway is not None


def expected_mcp_servers(variant: Variant) -> dict[str, tuple[str, ...] | None] | None:
    """The MCP servers that there must be, each with the tools that it must offer; None: the variant says nothing."""
    if not sets_mcp_servers(variant):
        return None
    servers = {name: server.tools for name, server in (variant.mcp or {}).items()}
    return servers if variant.mcp_gateway is None else {**servers, GATEWAY: None}


def hosts(variant: Variant) -> tuple[str, ...]:
    """The hosts that the sandbox must reach for the variant: those that it names, and those of its HTTP servers."""
    urls = [urlsplit(server.url) for server in (variant.mcp or {}).values() if server.url is not None]
    return tuple(
        dict.fromkeys((*variant.network, *(url.hostname or "" for url in urls if not _is_own(url.hostname))))
    )


def _is_own(host: str | None) -> bool:
    """True if a name means the sandbox itself, which can always reach itself."""
    return host == "localhost" or str(host).startswith("127.") or host == "::1"


def _servers(variant: Variant, secrets: Mapping[str, str], token: str | None) -> dict[str, Any]:
    """As `--mcp-config` takes them."""
    servers = {name: _server(server, secrets) for name, server in (variant.mcp or {}).items()}
    if variant.mcp_gateway is not None:
        headers = {"Authorization": f"Bearer {token}"}
        servers[GATEWAY] = {"type": "http", "url": _GATEWAY_URL, "headers": headers}
    return servers


def _server(server: McpServer, secrets: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any]
    if server.url is not None:
        given = {"type": "http", "url": server.url, "headers": server.headers}
    else:
        given = {"type": "stdio", "command": server.command, "args": server.args, "env": server.env}
    found: dict[str, Any] = with_secrets(given, secrets)
    return found


def arguments(variant: Variant) -> str:
    """The CLI's arguments that lead to the variant's files, as bash reads them."""
    found = [f"--settings ~/{FOLDER}/settings.json"]
    if variant.system_prompt:
        found.append(f"--system-prompt-file ~/{FOLDER}/{SYSTEM_PROMPT}")
    if variant.append_system_prompt:
        found.append(f"--append-system-prompt-file ~/{FOLDER}/{APPEND_SYSTEM_PROMPT}")
    if sets_mcp_servers(variant):
        found.append(f"--mcp-config ~/{FOLDER}/mcp.json --strict-mcp-config")
    if variant.json_schema is not None:
        found.append(f'--json-schema "$(<~/{FOLDER}/schema.json)"')
    found += [f"--plugin-dir ~/{plugin_folder(plugin)}" for plugin in variant.plugins]
    return " ".join(found)
