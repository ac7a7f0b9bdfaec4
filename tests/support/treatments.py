"""Treatments of every kind that Claude Code takes, refuses, or passes over in silence; each with what becomes of it.

`told` is where it must be told: `collection` (refused before anything runs), `invalid`, or nowhere, where it is really
applied; `failed` is applied too, and keeps the agent from its work. `shows` is what the model must then have been
sent, and `hidden` what it must not have been sent otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support import mcp_echo

Told = Literal["nowhere", "collection", "invalid", "error", "failed"]
RULES = "Prefer small functions; name things plainly.\n"


@dataclass(frozen=True)
class Treatment:
    """A variant as a user writes it, and what must become of a trial with it.

    `words` stand in what is told. `shows` and `hides` are texts that the first request has, and has not. `unprovable`
    names the kind in docs/variants.md for one that counts as applied, and was not.
    """

    name: str
    toml: str
    told: Told = "nowhere"
    words: str = ""
    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    repo: Mapping[str, str] = field(default_factory=dict)
    unprovable: str | None = None


def skill(name: str, front: str = "description: Writes notes.") -> str:
    return f"---\nname: {name}\n{front}\n---\nWrite notes.\n"


def style(text: str) -> str:
    return f"---\nname: Calm\ndescription: d\n---\n{text}\n"


def settings(**content: object) -> str:
    return json.dumps(content)


OLD = {"CLAUDE.md": "Old rules of the repo.\n"}
AGENTS = {"AGENTS.md": "Rules for agents of any make.\n"}
STYLE = {"o/repo/.claude/output-styles/calm.md": style("Be very calm.")}
PLUGIN = {"p/.claude-plugin/plugin.json": '{"name": "notes"}', "p/skills/write/SKILL.md": skill("write")}

INSTRUCTIONS = (
    Treatment(
        "claude-md", 'claude_md = {text = "Be kind."}', shows=("Be kind.",), hides=("Old rules",), repo=OLD
    ),
    Treatment("claude-md-false", "claude_md = false", hides=("Old rules",), repo=OLD),
    Treatment("claude-md-false-agents", "claude_md = false", hides=("Rules for agents",), repo=AGENTS),
    Treatment("agents-md-false", "agents_md = false", hides=("Rules for agents",), repo=AGENTS),
    Treatment("agents-md", 'agents_md = {text = "Be brave."}', shows=("Be brave.",)),
    Treatment(
        "agents-md-shadowed",
        'agents_md = {text = "Be brave."}',
        "invalid",
        "AGENTS.md",
        hides=("Be brave.",),
        repo=OLD,
    ),
    Treatment(
        "agents-md-in-its-place",
        'agents_md = {text = "Be brave."}\nclaude_md = false',
        shows=("Be brave.",),
        repo=OLD,
    ),
    Treatment(
        "agents-and-claude", 'agents_md = {text = "A"}\nclaude_md = {text = "B"}', "collection", "only where"
    ),
    Treatment(
        "agents-imported",
        'agents_md = {text = "Be brave."}\nclaude_md = {text = "See @AGENTS.md"}',
        shows=("Be brave.",),
    ),
    Treatment(
        "agents-plugin-off",
        'agents_md = {text = "Be brave."}\nsettings = {enabledPlugins = {"cc-plugin-agents-md@builtin" = false}}',
        "invalid",
        "AGENTS.md is not read",
    ),
    Treatment(
        "sham",
        f"sham = {{text = {json.dumps(RULES)}}}",
        hides=("small functions",),
        shows=("The river bends",),
    ),
    Treatment(
        "sham-and-claude-md", 'sham = {text = "A"}\nclaude_md = {text = "B"}', "collection", "stands in for"
    ),
    Treatment(
        "import",
        'claude_md = {text = "See @more.md"}',
        shows=("More of it.",),
        repo={"more.md": "More of it.\n"},
    ),
    Treatment("import-missing", 'claude_md = {text = "See @more.md"}', "invalid", "imports repo/more.md"),
    Treatment(
        "import-of-json-missing", 'claude_md = {text = "See @more.json"}', "invalid", "imports repo/more.json"
    ),
    Treatment(
        "overlay-import-missing",
        'overlay = "o"',
        "invalid",
        "imports repo/gone.md",
        files={"o/repo/CLAUDE.md": "See @gone.md\n"},
    ),
    Treatment(
        "rule-of-text",
        'overlay = "o"',
        "invalid",
        "rules/a.txt",
        hides=("Rule of tests",),
        files={"o/repo/.claude/rules/a.txt": "Rule of tests.\n"},
    ),
    Treatment("import-outside", 'claude_md = {text = "See @~/more.md"}', "invalid", "imports more.md"),
    Treatment(
        "no-import",
        'claude_md = {text = "Use @types/node, ask @alice, mail a@b.md, not `@code.md` and ``@code.md``."}',
        shows=("@types/node",),
    ),
    Treatment(
        "no-import-in-code",
        'claude_md = {text = "Be kind.\\n~~~\\n@a.md\\n~~~\\n<!-- @b.md -->\\nSo:\\n\\n    @c.md\\n"}',
        shows=("Be kind.",),
    ),
    Treatment(
        "import-without-extension", 'claude_md = {text = "See @docs/more"}', "invalid", "repo/docs/more"
    ),
    Treatment(
        "import-with-a-full-stop",
        'claude_md = {text = "See @more.md."}',
        "invalid",
        "imports repo/more.md",
        repo={"more.md": "More of it.\n"},
    ),
    Treatment(
        "import-of-an-import-missing",
        'claude_md = {text = "See @more.md"}',
        "invalid",
        "repo/more.md imports repo/gone.md",
        repo={"more.md": "See @gone.md\n"},
    ),
    Treatment(
        "imports-too-deep",
        'claude_md = {text = "See @a1.md"}',
        "invalid",
        "repo/a4.md imports repo/a5.md",
        repo={f"a{depth}.md": f"See @a{depth + 1}.md\n" for depth in range(1, 6)} | {"a6.md": "Leaf.\n"},
    ),
    Treatment(
        "imports-in-a-circle",
        'claude_md = {text = "See **@a.md**"}',
        shows=("Circle a", "Circle b"),
        repo={"a.md": "Circle a @b.md\n", "b.md": "Circle b @a.md\n"},
    ),
    Treatment(
        "rule",
        'overlay = "o"',
        files={"o/repo/.claude/rules/a.md": "Rule of tests.\n"},
        shows=("Rule of tests.",),
    ),
    Treatment(
        "rule-excluded",
        'overlay = "o"\nsettings = {claudeMdExcludes = ["**/rules/**"]}',
        "invalid",
        "rules/a.md",
        files={"o/repo/.claude/rules/a.md": "Rule of tests.\n"},
    ),
    Treatment(
        "rule-for-paths",
        'overlay = "o"',
        files={"o/repo/.claude/rules/a.md": '---\npaths: ["src/**"]\n---\nRule of sources.\n'},
        hides=("Rule of sources",),
        unprovable="loaded later",
    ),
    Treatment(
        "empty-claude-md", 'claude_md = "empty.md"', "collection", "is empty", files={"empty.md": "\n"}
    ),
    Treatment(
        "overlay-agents-md-shadowed",
        'overlay = "o"',
        "invalid",
        "the overlay's AGENTS.md",
        files={"o/repo/AGENTS.md": "Be brave.\n"},
        repo=OLD,
    ),
    Treatment("no-such-file", 'claude_md = "none.md"', "collection", "does not exist"),
)

PROMPTS_AND_MODELS = (
    Treatment(
        "append-by-args", 'args = ["--append-system-prompt", "x"]', "collection", "append_system_prompt"
    ),
    Treatment("model-in-settings", 'settings = {model = "haiku"}', shows=("haiku",)),
    Treatment("model-twice", 'model = "haiku"\nsettings = {model = "opus"}', "collection", "overruled"),
    Treatment(
        "model-in-env", 'model = "haiku"\nenv = {ANTHROPIC_MODEL = "opus"}', "collection", "same thing"
    ),
    Treatment("effort", 'effort = "low"', shows=('"effort": "low"',)),
    Treatment("effort-unknown", 'effort = "lowest"', "collection", "low"),
    Treatment("effort-of-a-model-without", 'effort = "low"\nmodel = "claude-haiku-4-5"', "invalid", "effort"),
    Treatment(
        "effort-in-env-of-settings",
        'effort = "low"\nsettings = {env = {CLAUDE_CODE_EFFORT_LEVEL = "high"}}',
        "collection",
        "say the same thing",
    ),
    Treatment("effort-in-settings", 'settings = {effortLevel = "low"}', shows=('"effort": "low"',)),
    Treatment("effort-in-settings-unknown", 'settings = {effortLevel = "lowest"}', "invalid", "effort"),
    Treatment("betas", 'betas = ["context-1m-2025-08-07"]\nmodel = "claude-sonnet-4-5"'),
    Treatment("betas-refused", 'betas = ["no-such-beta"]', "invalid", "no-such-beta"),
    Treatment("fallback", 'fallback_model = "claude-haiku-4-5"'),
    Treatment("fallback-itself", 'model = "haiku"\nfallback_model = "haiku"', "collection", "itself"),
    Treatment(
        "style",
        'output_style = "Calm"\noverlay = "o"',
        files=STYLE,
        shows=("# Output Style: Calm", "Be very calm."),
    ),
    Treatment("style-built-in", 'output_style = "Explanatory"', shows=("# Output Style: Explanatory",)),
    Treatment(
        "style-of-its-file",
        'output_style = "calm"\noverlay = "o"',
        "invalid",
        "none of that name",
        files=STYLE,
    ),
    Treatment(
        "styles-of-one-name",
        'output_style = "Calm"\noverlay = "o"',
        "collection",
        "several output styles called 'Calm'",
        files={**STYLE, "o/home/.claude/output-styles/b.md": style("Be wild.")},
    ),
    Treatment(
        "styles-of-one-name-in-a-plugin",
        'output_style = "notes:Calm"\nplugins = ["p"]',
        "collection",
        "several output styles called 'notes:Calm'",
        files={**PLUGIN, **{f"p/output-styles/{name}.md": style("Be calm.") for name in "ab"}},
    ),
    Treatment(
        "style-of-a-plugin",
        'output_style = "notes:Calm"\nplugins = ["p"]',
        files={**PLUGIN, "p/output-styles/a.md": style("Be very calm.")},
        shows=("# Output Style: notes:Calm", "Be very calm."),
    ),
    Treatment(
        "style-that-the-repo-has",
        'output_style = "Calm"\noverlay = "o"',
        "invalid",
        "another output style 'Calm'",
        files={"o/home/.claude/output-styles/a.md": style("Be very calm.")},
        repo={".claude/output-styles/b.md": style("Be wild.")},
    ),
    Treatment("style-unknown", 'settings = {outputStyle = "Nope"}', "invalid", "none of that name"),
    Treatment("schema", 'json_schema = {type = "object"}', shows=("StructuredOutput",)),
    Treatment("schema-of-no-type", 'json_schema = {type = "objekt"}', "error", "not a valid JSON Schema"),
)

SETTINGS_AND_TOOLS = (
    Treatment(
        "settings-wrong-type", 'settings = {permissions = {deny = "Bash"}}', "invalid", "permissions.deny"
    ),
    Treatment("settings-wrong-model", "settings = {model = 3}", "invalid", "model"),
    Treatment("settings-hook-event", "settings = {hooks = {PreTolUse = []}}", "invalid", "PreTolUse"),
    Treatment("settings-rule", 'settings = {permissions = {deny = ["Bash("]}}', "invalid", "Bash("),
    Treatment(
        "settings-mode", 'settings = {permissions = {defaultMode = "plan"}}', "collection", "permission_mode"
    ),
    Treatment("settings-key", 'settings = {modle = "haiku"}', unprovable="settings"),
    Treatment(
        "settings-matcher",
        'settings = {hooks = {PreToolUse = [{matcher = "B[ash", hooks = [{type = "command", command = "true"}]}]}}',
        unprovable="rules",
    ),
    Treatment(
        "start-hook-fails",
        'settings = {hooks = {SessionStart = [{hooks = [{type = "command", command = "echo Be kind.; exit 2"}]}]}}',
        "invalid",
        "SessionStart hook could not be run, or failed: error, exit code 2",
        hides=("Be kind.",),
    ),
    Treatment(
        "prompt-hook-fails",
        'settings = {hooks = {UserPromptSubmit = [{hooks = [{type = "command", command = "echo Be kind.; exit 1"}]}]}}',
        "invalid",
        "UserPromptSubmit hook could not be run, or failed: error, exit code 1",
        hides=("Be kind.",),
    ),
    Treatment(
        "start-hook",
        'settings = {hooks = {SessionStart = [{hooks = [{type = "command", command = "echo Be kind."}]}]}}',
        shows=("Be kind.",),
    ),
    Treatment("settings-no-json", 'settings = "s.json"', "collection", "JSON", files={"s.json": "{"}),
    Treatment(
        "repo-switches-hooks-off",
        'claude_md = {text = "Be kind."}',
        repo={".claude/settings.json": settings(disableAllHooks=True)},
        shows=("Be kind.",),
    ),
    Treatment(
        "overlay-settings",
        'overlay = "o"',
        files={"o/repo/.claude/settings.json": settings(model="haiku")},
        shows=("haiku",),
    ),
    Treatment(
        "overlay-settings-wrong",
        'overlay = "o"',
        "invalid",
        "model",
        files={"o/repo/.claude/settings.json": settings(model=3)},
    ),
    Treatment(
        "overlay-settings-no-json",
        'overlay = "o"',
        "invalid",
        "malformed",
        files={"o/home/.claude/settings.json": "{"},
    ),
    Treatment(
        "overlay-settings-overruled",
        'overlay = "o"',
        "invalid",
        "effort high, not low",
        files={"o/repo/.claude/settings.json": settings(effortLevel="low")},
        repo={".claude/settings.local.json": settings(effortLevel="high")},
    ),
    Treatment(
        "overlay-style-overruled",
        'overlay = "o"',
        "invalid",
        "'Learning', not 'Explanatory'",
        files={"o/repo/.claude/settings.json": settings(outputStyle="Explanatory")},
        repo={".claude/settings.local.json": settings(outputStyle="Learning")},
    ),
    Treatment("tools", 'args = ["--tools", "Bash,Read"]', hides=('"name": "Edit"',)),
    Treatment("settings-servers", "settings = {mcpServers = {}}", "collection", "the key `mcp`"),
    Treatment(
        "settings-plugin-unknown",
        'settings = {enabledPlugins = {"none@nowhere" = true}}',
        "invalid",
        "'none@nowhere' of enabledPlugins is not there",
    ),
    Treatment(
        "prompt-blocked",
        'claude_md = {text = "Be kind."}\nsettings = {hooks = {UserPromptSubmit = '
        '[{hooks = [{type = "command", command = "echo not now >&2; exit 2"}]}]}}',
        "failed",
        "a hook blocked prompt 1, and no model was asked",
    ),
    Treatment(
        "folder",
        'args = ["--add-dir", "../other"]\noverlay = "o"',
        shows=("/other",),
        files={"o/home/other/a": "x"},
    ),
    Treatment(
        "settings-agent-unknown", 'settings = {agent = "none"}', "invalid", "agent 'none' of the settings"
    ),
    Treatment(
        "settings-hooks-switched-off",
        'args = ["--bare"]\nsettings = {hooks = {Stop = [{}]}}',
        "collection",
        "switch off",
    ),
    Treatment(
        "hooks-switched-off",
        'env = {CLAUDE_CODE_SIMPLE = "1"}\nclaude_md = {text = "A"}',
        "invalid",
        "not load it",
    ),
    Treatment(
        "start-hook-of-another-event",
        "settings = {hooks = {SessionStart = [{hooks = [{type = 'command', command = '"
        'echo "{\\"hookSpecificOutput\\": {\\"hookEventName\\": \\"Stop\\"}}"'
        "'}]}]}}",
        "invalid",
        "SessionStart hook could not be run, or failed: Failed to run",
    ),
    Treatment("args-a-prompt", 'args = ["Be kind"]', "collection", "taken for a prompt"),
    Treatment("args-after-a-dash", 'args = ["--ide", "--", "Be kind"]', "collection", "taken for a prompt"),
    Treatment("args-without-a-value", 'args = ["--add-dir"]', "collection", "no value for --add-dir"),
    Treatment("args-worktree", 'args = ["--worktree", "x"]', "collection", "where no check looks"),
    Treatment("folder-not-there", 'args = ["--add-dir", "nothing"]', "invalid", "'nothing' of `--add-dir`"),
    Treatment("tools-of-a-rule", 'args = ["--tools", "Bash(git:*)"]', "invalid", "is not there"),
    Treatment("tools-misspelt", 'args = ["--tools", "Bsh"]', "invalid", "Bsh"),
    Treatment("deny-misspelt", 'args = ["--disallowedTools", "Bsh"]', unprovable="rules"),
    Treatment("mode", 'permission_mode = "acceptEdits"\nallowed_tools = ["Bash"]'),
    Treatment("mode-manual", 'permission_mode = "manual"\nallowed_tools = ["Bash"]'),
    Treatment("mode-unknown", 'permission_mode = "bypass"', "collection", "bypassPermissions"),
    Treatment("mode-by-args", 'args = ["--permission-mode", "plan"]', "collection", "permission_mode"),
    Treatment("unknown-option", 'args = ["--no-such-option"]', "error", "unknown option"),
    Treatment(
        "env-overridden",
        'env = {MY_MODE = "fast"}',
        "invalid",
        "MY_MODE",
        repo={".claude/settings.json": settings(env={"MY_MODE": "slow"})},
    ),
    Treatment("unknown-key", 'modle = "haiku"', "collection", "model"),
)

FOLDERS_AND_SERVERS = (
    Treatment(
        "skills-of-one-name",
        'overlay = "o"',
        "collection",
        "several skills called 'notes'",
        files={f"o/{part}/.claude/skills/notes/SKILL.md": skill("notes") for part in ("repo", "home")},
    ),
    Treatment(
        "agents-of-one-name",
        'overlay = "o"',
        "collection",
        "several agents called 'checker'",
        files={f"o/repo/.claude/agents/{name}.md": skill("checker") for name in "ab"},
    ),
    Treatment(
        "agents-of-one-name-in-a-plugin",
        'plugins = ["p"]',
        "collection",
        "several agents called 'notes:checker'",
        files={**PLUGIN, **{f"p/agents/{name}.md": skill("checker") for name in "ab"}},
    ),
    Treatment(
        "agent-that-the-repo-has",
        'overlay = "o"',
        "invalid",
        "another agent 'checker'",
        files={"o/home/.claude/agents/a.md": skill("checker")},
        repo={".claude/agents/a.md": skill("checker", "description: The repo's.")},
    ),
    Treatment(
        "skill-broken",
        'overlay = "o"',
        "invalid",
        "another skill 'notes'",
        files={"o/repo/.claude/skills/notes/SKILL.md": skill("notes", 'description: "Writes\n bad: [')},
    ),
    Treatment(
        "skill-broken-in-a-plugin",
        'plugins = ["p"]',
        "invalid",
        "the skill 'notes:write'",
        files={**PLUGIN, "p/skills/write/SKILL.md": skill("write", 'description: "Writes\n bad: [')},
    ),
    Treatment(
        "command-broken",
        'overlay = "o"',
        "invalid",
        "another command 'ship'",
        files={"o/repo/.claude/commands/ship.md": skill("ship", 'description: "Ships\n bad: [')},
    ),
    Treatment(
        "skill-with-a-colon",
        'overlay = "o"',
        files={"o/repo/.claude/skills/notes/SKILL.md": skill("notes", "description: When: now.")},
        shows=("- notes: When: now.",),
    ),
    Treatment(
        "skill-of-several-lines",
        'overlay = "o"',
        files={"o/repo/.claude/skills/notes/SKILL.md": skill("notes", "description: >\n  One\n  two.")},
        shows=("- notes: One two.",),
    ),
    Treatment(
        "skill",
        'overlay = "o"',
        files={"o/repo/.claude/skills/notes/SKILL.md": skill("notes")},
        shows=("- notes: Writes notes.",),
    ),
    Treatment(
        "skill-of-the-model-alone",
        'overlay = "o"',
        files={
            "o/repo/.claude/skills/notes/SKILL.md": skill(
                "notes", "description: Writes.\nuser-invocable: false"
            )
        },
        shows=("- notes: Writes.",),
    ),
    Treatment(
        "skill-without-its-tool",
        'overlay = "o"\nsettings = {permissions = {deny = ["Skill"]}}',
        "invalid",
        "without it the model is told of no skill",
        files={"o/repo/.claude/skills/notes/SKILL.md": skill("notes")},
    ),
    Treatment(
        "skill-in-small-letters",
        'overlay = "o"',
        "invalid",
        "'notes'",
        files={"o/repo/.claude/skills/notes/skill.md": skill("notes")},
    ),
    Treatment(
        "agent", 'overlay = "o"', files={"o/repo/.claude/agents/a.md": skill("checker")}, shows=("checker",)
    ),
    Treatment(
        "agent-nameless",
        'overlay = "o"',
        "invalid",
        "'a'",
        files={"o/repo/.claude/agents/a.md": "---\ndescription: d\n---\nx\n"},
    ),
    Treatment(
        "agent-undescribed",
        'overlay = "o"',
        "invalid",
        "checker",
        files={"o/repo/.claude/agents/a.md": skill("checker", "model: haiku")},
    ),
    Treatment("plugin", 'plugins = ["p"]', files=PLUGIN, shows=("notes:write",)),
    Treatment(
        "plugin-without-manifest",
        'plugins = ["p"]',
        "collection",
        "plugin.json",
        files={"p/skills/write/SKILL.md": skill("write")},
    ),
    Treatment(
        "plugin-bad-manifest",
        'plugins = ["p"]',
        "invalid",
        "version",
        files={**PLUGIN, "p/.claude-plugin/plugin.json": '{"name": "notes", "version": 3}'},
    ),
    Treatment(
        "plugin-bad-hooks",
        'plugins = ["p"]',
        "collection",
        "hooks",
        files={**PLUGIN, "p/hooks/hooks.json": '{"hooks": {"SessionStart": 3}}'},
    ),
    Treatment(
        "plugin-hook-misspelt",
        'plugins = ["p"]',
        "collection",
        "SesionStart, but SessionStart",
        files={**PLUGIN, "p/hooks/hooks.json": '{"hooks": {"SesionStart": []}}'},
    ),
    Treatment(
        "plugin-hook-not-found",
        'plugins = ["p"]',
        "invalid",
        "SessionStart hook could not be run",
        files={
            **PLUGIN,
            "p/hooks/hooks.json": settings(
                hooks={"SessionStart": [{"hooks": [{"type": "command", "command": "/no/hook"}]}]}
            ),
        },
    ),
    Treatment(
        "plugin-hook-in-its-manifest",
        'plugins = ["p"]',
        "invalid",
        "SessionStart hook could not be run",
        files={
            **PLUGIN,
            "p/.claude-plugin/plugin.json": settings(
                name="notes",
                hooks={"SessionStart": [{"hooks": [{"type": "command", "command": "/no/hook"}]}]},
            ),
        },
    ),
    Treatment(
        "plugin-skill-in-small-letters",
        'plugins = ["p"]',
        "invalid",
        "'notes:tell'",
        files={**PLUGIN, "p/skills/tell/skill.md": skill("tell")},
    ),
    Treatment(
        "plugin-parts-beside-the-manifest",
        'plugins = ["p"]',
        "collection",
        "where Claude Code does not look",
        files={**PLUGIN, "p/.claude-plugin/agents/a.md": skill("a")},
    ),
    Treatment(
        "plugin-dead-server",
        'plugins = ["p"]',
        "invalid",
        "plugin:notes:z",
        files={**PLUGIN, "p/.mcp.json": '{"mcpServers": {"z": {"command": "no-such-program"}}}'},
    ),
    Treatment("plugin-not-there", 'plugins = ["none"]', "collection", "does not exist"),
    Treatment(
        "server-dies",
        'mcp = {e = {command = "bash", args = ["-c", "echo no key >&2; exit 3"]}}',
        "invalid",
        "exit code 3: no key",
    ),
    Treatment(
        "server-not-found",
        'mcp = {e = {command = "no-such-program"}}',
        "invalid",
        "was not found in the sandbox",
    ),
    Treatment(
        "server-denied",
        'overlay = "o"\nmcp = {e = {command = "python3", args = ["/home/user/e.py"]}}\n'
        'settings = {permissions = {deny = ["mcp__e"]}}',
        files={"o/home/e.py": Path(mcp_echo.__file__).read_text()},
    ),
    Treatment("server-of-http", 'mcp = {e = {url = "http://127.0.0.1:9/mcp"}}', "invalid", "listening"),
    Treatment(
        "overlay-server-dies",
        'overlay = "o"',
        "invalid",
        "'z'",
        files={"o/repo/.mcp.json": '{"mcpServers": {"z": {"command": "no-such-program"}}}'},
    ),
)

TREATMENTS = (*INSTRUCTIONS, *PROMPTS_AND_MODELS, *SETTINGS_AND_TOOLS, *FOLDERS_AND_SERVERS)
