"""Contradictions: parts of a variant that Claude Code would pass over in silence because of another part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.variants.apply import has_hooks
from harness.variants.variant import ClaudeMd, Text, Variant


def contradictions(variant: Variant) -> Iterator[tuple[str, str, str]]:
    """Yield the parts of a variant that Claude Code would pass over because of another: key, what, remedy."""
    settings = variant.settings or {}
    permissions = settings.get("permissions")
    if isinstance(permissions, Mapping) and "defaultMode" in permissions:
        yield (
            "settings",
            "permissions.defaultMode is overruled by the command line",
            "use the key `permission_mode`",
        )
    for key, says in (("settings", settings), ("overlay", variant.overlay.says if variant.overlay else {})):
        if "mcpServers" in says:
            yield key, "Claude Code takes no mcpServers from settings", "use the key `mcp`"
        if says.get("hooks") and not has_hooks(variant):
            yield (
                key,
                "has hooks, which `--bare`, `--safe-mode` and CLAUDE_CODE_SIMPLE switch off",
                "keep one of them",
            )
    for key, setting in (("model", "model"), ("output_style", "outputStyle"), ("effort", "effortLevel")):
        if getattr(variant, key) is not None and setting in settings:
            yield "settings", f"{setting} is overruled by the key `{key}`", "keep one of them"
    for key, name in (("model", "ANTHROPIC_MODEL"), ("effort", "CLAUDE_CODE_EFFORT_LEVEL")):
        for place, variables in (("env", variant.env), ("settings", settings.get("env"))):
            if getattr(variant, key) is not None and isinstance(variables, Mapping) and name in variables:
                yield place, f"{name} and the key `{key}` say the same thing", "keep one of them"
    agents, own = variant.agents_md, variant.claude_md
    if isinstance(agents, Text) and isinstance(own, ClaudeMd) and "@AGENTS.md" not in own.text:
        yield (
            "agents_md",
            "Claude Code reads AGENTS.md only where there is no CLAUDE.md, and `claude_md` puts one there",
            "give one of them, or have the CLAUDE.md import it: @AGENTS.md",
        )
    if variant.fallback_model is not None and variant.fallback_model == variant.model:
        yield "fallback_model", "is the model itself, which Claude Code passes over", "give another"
