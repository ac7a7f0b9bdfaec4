"""Whether a variant was really applied: what it asks for, held against what the session and its hook tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import SandboxFault
from harness.records.record import InstructionsRecord
from harness.records.stream import Session
from harness.trials.evidence import Evidence
from harness.variants.apply import expected_mcp_servers, has_hooks, needs_start_evidence
from harness.variants.variant import ClaudeMd, Removed, Variant

_CUT_OFF = "cut off"
_CUT_OFF_NOTE = (
    "not all instructions that Claude Code loaded could be seen: the hook that tells of them had not come to its end "
    "when Claude Code did"
)
_MISSING = (
    "the hooks that tell what Claude Code started with told nothing before the first tool call: they were cut off, or "
    "Claude Code did not take up the settings that have them"
)
_TOO_OLD = (
    "this version of Claude Code does not tell what hooks say: the variant's CLAUDE.md, system prompt, arguments and "
    "environment are what was asked for, and nothing shows that they took hold"
)
_APPLIED = re.compile(r"^([0-9a-f]{64})  (.+)$", re.MULTILINE)
_CLAUDE_MD = ("repo/CLAUDE.md", "repo/.claude/CLAUDE.md")
_VAGUE_MODELS = ("default", "best", "opusplan")
"""Names that leave the choice to Claude Code."""


@dataclass(frozen=True)
class Instructions:
    """What is known of the instructions of a trial. Paths are below the home where they can be.

    `applied` is the CLAUDE.md that was put in place, its hash by its path; `loaded` all that Claude Code told of. With
    `cut_off` it told of more: the hook for it did not come to its end before Claude Code did.
    """

    applied: Mapping[str, str]
    loaded: tuple[InstructionsRecord, ...]
    cut_off: bool = False


def read_loaded_instructions(evidence: Evidence, home: str) -> Instructions:
    """The instructions that the hook told of."""
    lines = evidence.instructions.split("\n")
    applied = _APPLIED.match(evidence.applied)
    found = dict.fromkeys(_instructions(lines, home))
    put_there = {f"repo/{applied[2]}": applied[1]} if applied else {}
    return Instructions(put_there, tuple(found), cut_off=_CUT_OFF in lines)


def _instructions(lines: Sequence[str], home: str) -> Iterator[InstructionsRecord]:
    digest: str | None = None
    for line in lines:
        if re.fullmatch("[0-9a-f]{64}", line):
            digest = line
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("file_path"), str):
            yield InstructionsRecord(
                path=event["file_path"].removeprefix(f"{home}/"),
                memory_type=_word(event.get("memory_type")),
                load_reason=_word(event.get("load_reason")),
                sha256=digest,
            )
        digest = None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def differences_in_init(variant: Variant, session: Session) -> tuple[str, ...]:
    """What a session's start shows to be otherwise than the variant asks for, in sentences."""
    return (
        *_model(variant, session),
        *_servers(variant, session),
        *_overlay(variant, session),
        *_output_style(variant, session),
        *_tools_taken_away(variant, session),
    )


def differences_without_init(variant: Variant, session: Session) -> tuple[str, ...]:
    """What only the end shows: a server that does not let the session start, as one does that floods the CLI."""
    if session.session_id is None and expected_mcp_servers(variant):
        return ("the session had not started when the time was up, waiting for its MCP servers",)
    return ()


def _model(variant: Variant, session: Session) -> Iterator[str]:
    asked, seen = variant.model, session.model
    if asked is None or seen is None or asked in _VAGUE_MODELS:
        return
    if _plain(asked) != _plain(seen) and _plain(asked) not in _plain(seen):
        yield f"the model is {seen}, not {asked}"


def _plain(model: str) -> str:
    """A model's name without its date and its window."""
    return re.sub(r"(-\d{8})?(\[.*\])?$", "", model.lower())


def _servers(variant: Variant, session: Session) -> Iterator[str]:
    wanted = expected_mcp_servers(variant)
    if wanted is None:
        return
    for name, tools in wanted.items():
        status = session.mcp_servers.get(name)
        if status is None:
            yield f"the MCP server {name!r} is not there"
        elif status != "connected":
            yield f"the MCP server {name!r} is {status}, not connected"
        else:
            yield from _tools(name, tools, session)
    # A plugin's servers have a colon in their names; they come with the plugin.
    for name in session.mcp_servers:
        if name not in wanted and ":" not in name:
            yield f"the MCP server {name!r} is there, and was not asked for"


def _tools(server: str, wanted: tuple[str, ...] | None, session: Session) -> Iterator[str]:
    offered = {tool for owner, tool in map(_owner, session.tools_offered) if owner == server}
    if wanted is None and not offered:
        yield f"the MCP server {server!r} is connected and offers no tools"
    missing = [tool for tool in wanted or () if tool not in offered]
    if missing:
        yield f"the MCP server {server!r} does not offer {', '.join(map(repr, missing))}"


def _owner(tool: str) -> tuple[str, str]:
    kind, _, rest = tool.partition("__")
    server, _, name = rest.partition("__")
    return (server, name) if kind == "mcp" else ("", tool)


def _overlay(variant: Variant, session: Session) -> Iterator[str]:
    names = variant.overlay.names if variant.overlay else {}
    seen = {"skill": session.commands, "agent": session.agents, "command": session.commands}
    for kind, wanted in names.items():
        missing = [name for name in wanted if name not in seen[kind]]
        if missing:
            yield f"the overlay's {kind} {', '.join(map(repr, missing))} is not there"


def _output_style(variant: Variant, session: Session) -> Iterator[str]:
    asked, seen = (variant.settings or {}).get("outputStyle"), session.output_style
    if isinstance(asked, str) and seen is not None and asked.lower() != seen.lower():
        yield f"the output style is {seen!r}, not {asked!r}"


def _tools_taken_away(variant: Variant, session: Session) -> Iterator[str]:
    """Tools that are denied altogether are not offered; rules about a tool's input leave no trace at the start."""
    permissions = (variant.settings or {}).get("permissions")
    rules = permissions.get("deny") if isinstance(permissions, Mapping) else ()
    denied = [*_disallowed(variant.args), *(rules if isinstance(rules, list | tuple) else ())]
    for tool in dict.fromkeys(denied):
        if tool in session.tools_offered:
            yield f"the tool {tool!r} is offered, and was to be taken away"


def _disallowed(args: Sequence[str]) -> Iterator[str]:
    inside = False
    for argument in args:
        flag, _, value = argument.partition("=")
        if argument.startswith("-"):
            inside, argument = flag in ("--disallowedTools", "--disallowed-tools"), value
        if inside:
            yield from re.split(r"[,\s]+", argument)


def differences_in_instructions(variant: Variant, told: Instructions) -> tuple[str, ...]:
    """Which CLAUDE.md was not loaded as the variant asks for it, in sentences.

    Raises:
        SandboxFault: when a hook that was cut off leaves that open.
    """
    seen = {entry.path: entry.sha256 for entry in told.loaded}
    if isinstance(variant.claude_md, Removed):
        found = tuple(f"{path} was to be taken away, and was loaded" for path in _CLAUDE_MD if path in seen)
        is_open = not found
    else:
        wanted = _wanted(variant, told.applied)
        found = tuple(
            _sentence(path, digest, seen) for path, digest in wanted.items() if seen.get(path) != digest
        )
        is_open = not wanted.keys() <= seen.keys()
    if is_open and told.cut_off:
        raise SandboxFault("prove", _CUT_OFF_NOTE)
    return found


def untold_notes(variant: Variant) -> tuple[str, ...]:
    """What a reader of the record must know where Claude Code is too old to tell what hooks say."""
    return (_TOO_OLD,) if _needs_evidence(variant) else ()


def _needs_evidence(variant: Variant) -> bool:
    return variant.claude_md is not None or bool(_merged(variant)) or needs_start_evidence(variant)


def require_evidence(variant: Variant, session: Session, evidence: Evidence) -> None:
    """Make sure that the hooks have told, where they must.

    Raises:
        SandboxFault: when they have not: nobody knows what the session started with.
    """
    is_asked = _needs_evidence(variant) and has_hooks(variant)
    if session.session_id and is_asked and not evidence.is_there:
        raise SandboxFault("prove", _MISSING)


def missing_evidence_notes(told: Instructions) -> tuple[str, ...]:
    """What a reader of the record must know where the hook was cut off."""
    return (_CUT_OFF_NOTE,) if told.cut_off else ()


def _wanted(variant: Variant, applied: Mapping[str, str]) -> dict[str, str]:
    """The hashes that there must be of each CLAUDE.md that the variant brings."""
    wanted = {**_merged(variant), **applied}
    if isinstance(variant.claude_md, ClaudeMd) and not applied:
        wanted["repo/CLAUDE.md"] = variant.claude_md.sha256
    return wanted


def _merged(variant: Variant) -> dict[str, str]:
    """The CLAUDE.md of an overlay, by their places below the home."""
    files = variant.overlay.files if variant.overlay else {}
    repo = {path: files[path] for path in _CLAUDE_MD if path in files and not variant.claude_md}
    user = files.get("home/.claude/CLAUDE.md")
    return {**repo, ".claude/CLAUDE.md": user} if user else repo


def _sentence(path: str, digest: str, seen: dict[str, str | None]) -> str:
    if path not in seen:
        return f"{path} was put there, and Claude Code did not load it"
    other = (seen[path] or "unknown")[:12]
    return f"Claude Code loaded another {path} (sha256 {other}) than was put there ({digest[:12]})"
