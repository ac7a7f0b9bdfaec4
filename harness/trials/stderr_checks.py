"""Claude Code's stderr: what it refused of the variant's, and warnings that a reader should know."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.variants.variant import Variant

_WARNING = re.compile(r"^(?:warning|error)\b", re.IGNORECASE)
_MOST, _CHARS = 5, 300


def differences_in_stderr(variant: Variant, stderr: str) -> tuple[str, ...]:
    """The parts of the variant that Claude Code says it does not take, in sentences."""
    return tuple(
        f"Claude Code said on stderr: {line}"
        for line in _warnings(stderr)
        if (variant.effort is not None and "--effort" in line)
        or any(f"'{beta}'" in line for beta in variant.betas)
    )


def stderr_notes(stderr: str) -> Iterator[str]:
    """Its warnings."""
    for line in list(_warnings(stderr))[:_MOST]:
        yield f"Claude Code said on stderr: {line}"


def _warnings(stderr: str) -> Iterator[str]:
    yield from dict.fromkeys(
        line.strip()[:_CHARS] for line in stderr.splitlines() if _WARNING.match(line.strip())
    )
