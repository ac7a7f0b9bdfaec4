"""What the variant's hooks wrote down in the agent's sandbox."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import SandboxFault
from harness.sandboxes.sandbox import CommandTimeoutError, Sandbox
from harness.sandboxes.shell import call, decode_bytes, read_answers, run_without_profile
from harness.trials import scripts
from harness.variants.apply import FOLDER

_MAX_BYTES = 1_000_000
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Evidence:
    """The texts of the hooks: which CLAUDE.md was put in place, what was loaded, how the CLI was started."""

    applied: str = ""
    instructions: str = ""
    starts: str = ""


async def read_evidence(sandbox: Sandbox) -> Evidence:
    """Read what the hooks have told. What an agent has done away with is not told.

    Raises:
        SandboxFault: when the sandbox is lost, or does not answer.
    """
    script = call(scripts.EVIDENCE, FOLDER, str(_MAX_BYTES))
    try:
        done = await run_without_profile(sandbox, script, timeout=_TIMEOUT_S)
    except CommandTimeoutError as error:
        raise SandboxFault("prove", f"the variant's evidence could not be read: {error}") from error
    answers = read_answers(done.stdout)
    return Evidence(*(_text(answers.get(name, "")) for name in ("applied", "instructions", "starts")))


def _text(value: str) -> str:
    try:
        return decode_bytes(value).decode("utf-8", "replace")
    except ValueError:
        return ""
