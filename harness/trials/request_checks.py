"""What the first request to the model really carried, held against what the variant asks for.

The proxy outside of the sandbox sees it, where it adds the key. It is the proof for all others: what Claude Code made
of an argument, a setting or a file once it had it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.records.egress import SentRequest
from harness.trials.init_checks import asked_settings, asked_style, is_model
from harness.variants.variant import ClaudeMd, Removed, Text, Variant

_CLAUDE_MD = ("/repo/CLAUDE.md", "/repo/.claude/CLAUDE.md", "/repo/CLAUDE.local.md")
_AGENTS_MD = "/repo/AGENTS.md"
_NO_STYLE = "default"


def differences_in_request(variant: Variant, sent: SentRequest) -> tuple[str, ...]:
    """What the model was sent otherwise than the variant asks for, in sentences."""
    return (
        *_model(variant, sent),
        *_effort(variant, sent),
        *_betas(variant, sent),
        *_prompts(variant, sent),
        *_instructions(variant, sent),
        *_output_style(variant, sent),
    )


def _model(variant: Variant, sent: SentRequest) -> Iterator[str]:
    if variant.model is not None and not is_model(variant, variant.model, sent.model):
        yield f"the model that was asked is {sent.model}, not {variant.model}"


def _effort(variant: Variant, sent: SentRequest) -> Iterator[str]:
    asked = variant.effort or asked_settings(variant).get("effortLevel")
    if isinstance(asked, str) and sent.effort != asked:
        seen = f"effort {sent.effort}" if sent.effort else "no effort, as where a model takes none"
        yield f"the request to {sent.model} had {seen}, not {asked}"


def _betas(variant: Variant, sent: SentRequest) -> Iterator[str]:
    missing = [beta for beta in variant.betas if beta not in sent.betas]
    if missing:
        yield f"the request did not have the beta {', '.join(missing)}"


def _prompts(variant: Variant, sent: SentRequest) -> Iterator[str]:
    for name, text in (
        ("system_prompt", variant.system_prompt),
        ("append_system_prompt", variant.append_system_prompt),
    ):
        if text is not None and sent.carries(text.text.strip()) is False:
            yield f"the request did not have the text of `{name}`"


def _instructions(variant: Variant, sent: SentRequest) -> Iterator[str]:
    """Which files of instructions the request had. A hook proves the text of those that it tells of."""
    paths = [entry.path for entry in sent.instructions]
    whole = all(part.is_whole for part in sent.context)
    if isinstance(variant.claude_md, ClaudeMd) and whole and not _has(paths, *_CLAUDE_MD):
        yield "the request did not have the CLAUDE.md"
    if isinstance(variant.claude_md, Removed):
        yield from (
            f"{path} was to be taken away, and was in the request"
            for path in paths
            if _has([path], *_CLAUDE_MD) or (variant.agents_md is None and _has([path], _AGENTS_MD))
        )
    if isinstance(variant.agents_md, Removed) and _has(paths, _AGENTS_MD):
        yield "AGENTS.md was to be taken away, and was in the request"
    if isinstance(variant.agents_md, Text) and sent.carries(variant.agents_md.text.strip()) is False:
        yield "the request did not have the AGENTS.md" + (
            ": Claude Code reads it only where the repo has no CLAUDE.md" if _has(paths, *_CLAUDE_MD) else ""
        )


def _has(paths: list[str], *ends: str) -> bool:
    return any(path.endswith(ends) for path in paths)


def _output_style(variant: Variant, sent: SentRequest) -> Iterator[str]:
    style = asked_style(variant)
    if style is not None and style != _NO_STYLE and sent.carries(f"# Output Style: {style}") is False:
        yield f"the request did not have the output style {style!r}: there is none of that name"
