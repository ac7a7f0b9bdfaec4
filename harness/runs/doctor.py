"""`harness doctor`: what the environment names, tried, as a table that a person can paste into an issue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping

from harness import __version__
from harness.errors import UsageError
from harness.models.model import has_key
from harness.models.provider import check_key
from harness.runs.options import Options, SandboxChoice
from harness.runs.resources import platform_of
from harness.sandboxes.doctor import Examination, ProbeResult, examine
from harness.sandboxes.platform import Platform

_MODEL = "claude-sonnet-4-5"
_OPTIONAL = frozenset({"fork", "snapshot", "pause and resume", "key added on the way out", "the model's key"})
"""What harness can do without: a no there does not make the exit code 1."""


def doctor(sandbox: SandboxChoice, template: str) -> tuple[str, bool]:
    """Examine the engine and the model's key; the table, and whether all that is needed works.

    Raises:
        UsageError: when there is nothing to examine.
    """
    try:
        with platform_of(Options(sandbox=sandbox)) as platform:
            findings, of = asyncio.run(_examine(platform, template))
            header = f"harness {__version__} doctor: {platform.description}, template {template}"
    except UsageError as error:
        return f"harness {__version__} doctor\n\nno   {error}\n", False
    is_well = all(one.answer is not False for one in findings if one.name not in _OPTIONAL)
    return "\n".join([header, "", *_table(findings), "", _cost(of), ""]), is_well


async def _examine(platform: Platform, template: str) -> tuple[list[ProbeResult], Examination]:
    findings, of = await examine(platform, template, is_here=platform.is_here)
    return [*findings, await _key(os.environ)], of


async def _key(env: Mapping[str, str]) -> ProbeResult:
    name = "the model's key"
    if not has_key(env):
        return ProbeResult(name, None, "there is none here: trials replay recorded sessions")
    if env.get("CLAUDE_CODE_USE_BEDROCK") or env.get("CLAUDE_CODE_USE_VERTEX"):
        return ProbeResult(name, None, "not tried: requests of Bedrock and Vertex AI are signed")
    state = await check_key(env, env.get("ANTHROPIC_MODEL", _MODEL))
    if state.is_well:
        return ProbeResult(name, True, "one count_tokens call")
    said = f"{state.status or 'no answer'}: {state.words}"
    return ProbeResult(name, False, said, "check ANTHROPIC_API_KEY (or its kin) and ANTHROPIC_BASE_URL")


def _table(findings: list[ProbeResult]) -> Iterator[str]:
    width = max(len(one.name) for one in findings)
    for one in findings:
        word = {True: "yes", False: "NO", None: "?"}[one.answer]
        yield f"{one.name:<{width}}  {word:<3}  {' '.join(one.said.split())[:300]}".rstrip()
        if one.answer is False and one.remedy:
            yield f"{'':<{width}}       -> {one.remedy}"


def _cost(of: Examination) -> str:
    return f"{of.made} sandboxes were made, which were there for {of.seconds:.0f} s together; no model was asked."
