"""The instructions (CLAUDE.md, rules, imports) that were really loaded, as a hook of the session tells it."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import SandboxFault
from harness.records.record_parts import InstructionsRecord
from harness.records.session import Session
from harness.sandboxes.layout import HOME
from harness.trials.evidence import Evidence
from harness.variants.apply import has_hooks, needs_start_evidence
from harness.variants.imports import imports_in
from harness.variants.variant import ClaudeMd, Removed, Text, Variant

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
_AGENTS_MD = "repo/AGENTS.md"
_CLAUDE_MD = ("repo/CLAUDE.md", "repo/.claude/CLAUDE.md")
_LOCAL = "repo/CLAUDE.local.md"


@dataclass(frozen=True)
class Instructions:
    """The known instructions of a trial. Paths are below the home where they can be.

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


def differences_in_instructions(variant: Variant, told: Instructions) -> tuple[str, ...]:
    """The instructions that were not loaded as the variant asks for them, in sentences.

    Raises:
        SandboxFault: when a hook that was cut off leaves that open.
    """
    seen = {entry.path: entry.sha256 for entry in told.loaded}
    wanted = _wanted(variant, told.applied)
    found = [_sentence(path, digest, seen) for path, digest in wanted.items() if seen.get(path) != digest]
    missing = [path for path in _imports(variant, told.applied) if path not in seen]
    found += [f"the CLAUDE.md imports {path}, and Claude Code did not load it" for path in missing]
    removed = [path for path in _removed(variant) if path in seen]
    found += [f"{path} was to be taken away, and was loaded" for path in removed]
    is_open = missing or not wanted.keys() <= seen.keys() or (_removed(variant) and not removed)
    if is_open and told.cut_off:
        raise SandboxFault("prove", _CUT_OFF_NOTE)
    return tuple(found)


def _removed(variant: Variant) -> tuple[str, ...]:
    agents = (_AGENTS_MD,) if isinstance(variant.agents_md, Removed) else ()
    if not isinstance(variant.claude_md, Removed):
        return agents
    return (*_CLAUDE_MD, _LOCAL, *(agents or (() if variant.agents_md else (_AGENTS_MD,))))


def _imports(variant: Variant, applied: Mapping[str, str]) -> Iterator[str]:
    """The files that the variant's CLAUDE.md and those of its overlay import, by their places below the home.

    Those that what they import imports in turn are seen in the request alone.
    """
    texts: dict[str, str] = {}
    if isinstance(variant.claude_md, ClaudeMd):
        texts[next(iter(applied), "repo/CLAUDE.md")] = variant.claude_md.text
    for path in _merged(variant) if variant.overlay else ():
        file = path if path.startswith("repo/") else f"home/{path}"
        texts[path] = (variant.overlay.path / file).read_text("utf-8", "replace") if variant.overlay else ""
    for place, text in texts.items():
        for name in imports_in(text):
            yield imported_path(f"{HOME}/{place}", name, HOME).removeprefix(f"{HOME}/")


def imported_path(file: str, name: str, home: str) -> str:
    """The path that a file's import leads to."""
    path = f"{home}/{name[2:]}" if name.startswith("~/") else posixpath.join(posixpath.dirname(file), name)
    return posixpath.normpath(path)


def untold_notes(variant: Variant) -> tuple[str, ...]:
    """A note for the reader of the record where Claude Code is too old to tell what hooks say."""
    return (_TOO_OLD,) if _needs_evidence(variant) else ()


def _needs_evidence(variant: Variant) -> bool:
    return (
        variant.claude_md is not None
        or isinstance(variant.agents_md, Removed)
        or bool(_merged(variant))
        or needs_start_evidence(variant)
    )


def require_evidence(variant: Variant, session: Session, evidence: Evidence) -> None:
    """Make sure that the hooks have told, where they must.

    Raises:
        SandboxFault: when they have not: nobody knows what the session started with.
    """
    is_asked = (_needs_evidence(variant) or bool(variant.settings)) and has_hooks(variant)
    if session.session_id and is_asked and not evidence.is_there:
        raise SandboxFault("prove", _MISSING)


def missing_evidence_notes(told: Instructions) -> tuple[str, ...]:
    """A note for the reader of the record where the hook was cut off."""
    return (_CUT_OFF_NOTE,) if told.cut_off else ()


def _wanted(variant: Variant, applied: Mapping[str, str]) -> dict[str, str]:
    """The hashes that there must be of each CLAUDE.md that the variant brings."""
    wanted = {**_merged(variant), **applied}
    if isinstance(variant.claude_md, ClaudeMd) and not applied:
        wanted["repo/CLAUDE.md"] = variant.claude_md.sha256
    return wanted


def _merged(variant: Variant) -> dict[str, str]:
    """The CLAUDE.md and the rules of an overlay, by their places below the home."""
    files = variant.overlay.files if variant.overlay else {}
    repo = {path: files[path] for path in _CLAUDE_MD if path in files and not variant.claude_md}
    if _LOCAL in files and not isinstance(variant.claude_md, Removed):
        repo[_LOCAL] = files[_LOCAL]
    rules = {
        path.removeprefix("home/"): files[path] for path in (variant.overlay.rules if variant.overlay else ())
    }
    user = files.get("home/.claude/CLAUDE.md")
    return {**repo, **rules, **({".claude/CLAUDE.md": user} if user else {})}


def own_instructions(variant: Variant) -> tuple[str, ...]:
    """The ends of the paths of the instructions that a variant brings itself."""
    own = _CLAUDE_MD if isinstance(variant.claude_md, ClaudeMd) else ()
    agents = (_AGENTS_MD,) if isinstance(variant.agents_md, Text) else ()
    return tuple(f"/{path}" for path in (*own, *agents, *_merged(variant)))


def _sentence(path: str, digest: str, seen: dict[str, str | None]) -> str:
    if path not in seen:
        return f"{path} was put there, and Claude Code did not load it"
    other = (seen[path] or "unknown")[:12]
    return f"Claude Code loaded another {path} (sha256 {other}) than was put there ({digest[:12]})"
