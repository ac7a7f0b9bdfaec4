"""The first request to the model compared with what the variant asks for.

The proxy outside of the sandbox sees it, where it adds the key. It is the proof for all others: what Claude Code made
of an argument, a setting or a file once it had it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from harness.records.egress import SentRequest
from harness.trials.init_checks import asked_settings, asked_style, described_parts, following, is_model
from harness.trials.verification import imported_path, own_instructions
from harness.variants.imports import imports_in
from harness.variants.variant import ClaudeMd, Removed, Text, Variant

_CLAUDE_MD = ("/repo/CLAUDE.md", "/repo/.claude/CLAUDE.md", "/repo/CLAUDE.local.md")
_AGENTS_MD = "/repo/AGENTS.md"
_NO_STYLE = "default"
_LISTED = {
    "skill": "skills are available for use with the Skill tool",
    "command": "skills are available for use with the Skill tool",
    "agent": "Available agent types for the Agent tool",
}
"""What stands above the list of each kind. Older versions have it in a tool's definition, and it is not seen."""
_SHOWN = 60
"""The characters of a description that are compared: long ones are cut off, in several ways."""


def differences_in_request(variant: Variant, sent: SentRequest) -> tuple[str, ...]:
    """The differences of the model's first request from what the variant asks for, in sentences."""
    return (
        *_model(variant, sent),
        *_effort(variant, sent),
        *_betas(variant, sent),
        *_prompts(variant, sent),
        *_instructions(variant, sent),
        *_imports(variant, sent),
        *_listings(variant, sent),
        *_output_style(variant, sent),
        *_folders(variant, sent),
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
    """Compare the instructions in the request with the variant's. A hook proves the text of those that it tells of."""
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
    laid = variant.overlay.files if variant.overlay else {}
    if _AGENTS_MD[1:] in laid and whole and not _has(paths, _AGENTS_MD):
        yield "the request did not have the overlay's AGENTS.md"
    if isinstance(variant.agents_md, Text) and sent.carries(variant.agents_md.text.strip()) is False:
        yield "the request did not have the AGENTS.md" + (
            ": Claude Code reads it only where the repo has no CLAUDE.md" if _has(paths, *_CLAUDE_MD) else ""
        )


def _imports(variant: Variant, sent: SentRequest) -> Iterator[str]:
    """The imports of the variant's instructions, and theirs: Claude Code follows so far and no further."""
    if not all(part.is_whole for part in sent.context):
        return
    texts = {entry.path: entry.text for entry in sent.instructions}
    own = own_instructions(variant)
    left = [path for path in texts if path.endswith(own)] if own else []
    seen = set(left)
    for file in left:
        home = file.partition("/repo/")[0] if "/repo/" in file else file.partition("/.claude/")[0]
        for path in (imported_path(file, name, home) for name in imports_in(texts[file])):
            if path not in texts:
                yield f"{_below(home, file)} imports {_below(home, path)}, and the request did not have it"
            elif path not in seen:
                seen.add(path)
                left.append(path)


def _below(home: str, path: str) -> str:
    return path.removeprefix(f"{home}/")


def _listings(variant: Variant, sent: SentRequest) -> Iterator[str]:
    """The skills, commands and agents that the variant brings, by what the model was told of each.

    Claude Code takes one of two with the same name, and of a front matter that it cannot read it takes the text below.
    """
    context = "\n".join(part.text for part in sent.context)
    for kind, name, description in described_parts(variant):
        if kind not in _LISTED or _LISTED[kind] not in context:
            continue
        shown = re.findall(rf"^- {re.escape(name)}(?: \([^)\n]*\))?(?::[ \t]*(.*))?$", context, re.MULTILINE)
        if not shown:
            yield f"the request did not tell of the {kind} {name!r}"
        elif not any(_tells(text, description) for text in shown):
            yield (
                f"the request told of another {kind} {name!r} than the variant's: {shown[0][:_SHOWN]!r}, "
                f"not {description[:_SHOWN]!r}"
            )


def _tells(shown: str, description: str) -> bool:
    """True if a list's line tells a description. It may tell the name alone, where there are many."""
    return not shown or " ".join(shown.split()).startswith(description[:_SHOWN].rstrip())


def _folders(variant: Variant, sent: SentRequest) -> Iterator[str]:
    """The folders beside the repo. Claude Code passes over one that is not there."""
    told = "\n".join(part.text for part in (*sent.system, *sent.context))
    repo = re.search(r"^ - Primary working directory: (.+)$", told, re.MULTILINE)
    listed = re.search(r"^ - Additional working directories:\n((?:  - .+\n?)*)", told, re.MULTILINE)
    folders = re.findall(r"^  - (.+)$", listed[1], re.MULTILINE) if listed else []
    for asked in following(variant.args, "--add-dir"):
        if repo and posixpath.normpath(posixpath.join(repo[1], asked)) not in folders:
            yield f"the request did not tell of the folder {asked!r} of `--add-dir`: there is none, or it is the repo's"


def _has(paths: list[str], *ends: str) -> bool:
    return any(path.endswith(ends) for path in paths)


def _output_style(variant: Variant, sent: SentRequest) -> Iterator[str]:
    style = asked_style(variant)
    if style is None or style == _NO_STYLE:
        return
    if sent.carries(f"# Output Style: {style}") is False:
        yield f"the request did not have the output style {style!r}: there is none of that name"
        return
    for kind, name, text in described_parts(variant):
        # Claude Code puts in the variable by which a plugin's text names its folder.
        if (kind, name) == ("style", style) and sent.carries(text.partition("${")[0]) is False:
            yield f"the request had another output style {style!r} than the variant's"
