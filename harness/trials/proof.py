"""The proof that a trial's session is what its variant asks for, from the evidence as it comes.

At a session's start there is the session's own word. When the model answers first, the hooks have told: which
instructions were loaded, how the CLI was started, and, by having run, that the variant's settings were taken. At the
end there are stderr and what the proxy saw. The first difference ends the trial, so that no more money is spent on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.errors import NotAppliedError, SandboxFault
from harness.records.session import Session
from harness.trials.attempt import Attempt
from harness.trials.cli_starts import differences_in_starts, read_cli_starts, start_records, unseen_notes
from harness.trials.evidence import evidence_of
from harness.trials.hook_checks import differences_in_hooks, hook_notes
from harness.trials.init_checks import differences_in_init, differences_without_init
from harness.trials.request_checks import differences_in_request
from harness.trials.stderr_checks import differences_in_stderr, stderr_notes
from harness.trials.verification import (
    differences_in_instructions,
    missing_evidence_notes,
    read_loaded_instructions,
    require_evidence,
    untold_notes,
)
from harness.variants.apply import has_hooks
from harness.variants.variant import Variant

SETTINGS_NOT_TAKEN = (
    "Claude Code passed over the variant's settings, hooks included: a value in them has a wrong type"
)
_LATE = "in a prompt after the agent's first tool call, and perhaps of its own doing: {}"
_BLOCKED = ("UserPromptSubmit operation blocked by hook", "Operation stopped by hook")


@dataclass
class Proof:
    """Holds what is seen of a trial against its variant.

    Args:
        variant: what was asked for.
        attempt: is filled in with what was seen.
        env: the variant's variables that there must be, with their values.
        home: the sandbox's home as its processes see it.
        version: the version of Claude Code that there must be; None: the variant does not say.
        trusts_stderr: whether nobody in the sandbox can write into Claude Code's stderr.
    """

    variant: Variant
    attempt: Attempt
    env: Mapping[str, str]
    home: str
    version: str | None
    trusts_stderr: bool

    def look(self, session: Session, *, has_answer: bool, tells_hooks: bool) -> None:
        """Look at a session that has started; with `has_answer` the model has answered, and the hooks have told.

        A run that starts after the agent's first tool call starts with what the agent has made of its sandbox. What is
        otherwise then is noted, and the work is judged.

        Raises:
            NotAppliedError: when it is something else than the variant asks for.
            SandboxFault: when that cannot be seen.
        """
        if session.is_late:
            self._note(map(_LATE.format, self._late_differences(session, has_answer and tells_hooks)))
            return
        _require(differences_in_init(self.variant, session, self.version))
        if has_answer and tells_hooks:
            _require(self._look_at_hooks(session))

    def _late_differences(self, session: Session, with_hooks: bool) -> Iterator[str]:
        yield from differences_in_init(self.variant, session, self.version)
        if with_hooks:
            evidence = evidence_of(session, late=True)
            with contextlib.suppress(SandboxFault):  # what is missing now is missing later
                yield from differences_in_instructions(
                    self.variant, read_loaded_instructions(evidence, self.home)
                )
            yield from differences_in_starts(self.variant, self.env, read_cli_starts(self.variant, evidence))

    def look_at_end(self, *, tells_hooks: bool) -> None:
        """Look at what there is when the agent has ended. Raises as `look` does."""
        attempt, variant = self.attempt, self.variant
        session = attempt.session
        _require(differences_without_init(variant, session))
        if tells_hooks:
            _require(self._look_at_hooks(session))
            self._note(hook_notes(variant, session))
            if session.session_id:
                self._note(unseen_notes(variant, read_cli_starts(variant, evidence_of(session))))
        else:
            self._note(untold_notes(variant))
        refused = differences_in_stderr(variant, attempt.early_stderr)
        if self.trusts_stderr:
            _require(refused)
        self._note(stderr_notes(attempt.stderr))
        if attempt.api and attempt.api.first:
            _require(differences_in_request(variant, attempt.api.first))
        self._note(self._answer_notes(session))

    def _look_at_hooks(self, session: Session) -> tuple[str, ...]:
        attempt, variant = self.attempt, self.variant
        if broken := differences_in_hooks(variant, session):
            return broken  # one that blocks a prompt may have cut off the evidence
        if session.turns and not any(turn.asked_model for turn in session.turns):
            return ()  # no model was told anything; so is one that blocks it as it should
        evidence = evidence_of(session)
        if variant.settings and has_hooks(variant) and session.answered and not evidence.is_there:
            return (SETTINGS_NOT_TAKEN,)
        require_evidence(variant, session, evidence)
        loaded = read_loaded_instructions(evidence, self.home)
        self._note(missing_evidence_notes(loaded))
        starts = read_cli_starts(variant, evidence)
        whole = evidence_of(session, late=True)
        attempt.instructions = read_loaded_instructions(whole, self.home).loaded
        attempt.starts = start_records(variant, self.env, read_cli_starts(variant, whole))
        return (
            *differences_in_instructions(variant, loaded),
            *differences_in_starts(variant, self.env, starts),
        )

    def _note(self, sentences: Iterable[str]) -> None:
        """Add what a reader of the record must know, once."""
        self.attempt.notes += tuple(one for one in sentences if one not in self.attempt.notes)

    def _answer_notes(self, session: Session) -> tuple[str, ...]:
        """Notes for a reader on prompts that no model answered."""
        return tuple(
            f"{_who_answered(turn.text, number)}, and no model was asked: {_short(turn.text)}"
            for number, turn in enumerate(session.turns, 1)
            if not turn.asked_model and not turn.is_error
        )


def _require(differences: tuple[str, ...]) -> None:
    if differences:
        raise NotAppliedError(differences)


def _who_answered(text: str | None, number: int) -> str:
    if text and text.startswith(_BLOCKED):
        return f"a hook blocked prompt {number}"
    return f"Claude Code answered prompt {number} by itself"


def _short(text: str | None) -> str:
    words = " ".join((text or "it said nothing").split())
    return words if len(words) <= 200 else f"{words[:200]}..."
