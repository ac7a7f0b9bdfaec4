"""The view of a trial from outside of its sandboxes, as its record says it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.models.model import Model
from harness.records.egress import ApiSight, EgressSight, Refusal, SentText
from harness.records.record_parts import ApiRecord, SentRecord, TokenCounts
from harness.records.session import Session

SENT = "sent.json"
"""In a trial's folder: what the requests to the model's API really carried."""
_MAX_REFUSALS = 10


def why_unseen(model: Model, egress: EgressSight | None) -> str | None:
    """The reason for which nobody saw the model's API; None where it was seen."""
    if egress and egress.api:
        return None
    if model.source == "replay":
        return "a recorded session was played inside the sandbox"
    if model.source == "none":
        return "no model was asked"
    if not model.headers:
        return "the key was in the sandbox: only a proxy that adds the key sees the requests"
    return "the platform that added the key does not tell what it saw"


def api_record(api: ApiSight, session: Session, sent: str | None) -> ApiRecord:
    """The record's form of what was seen of the API; `sent` is the file with what was sent."""
    first = api.first
    return ApiRecord(
        requests=api.requests,
        endings=api.endings,
        models={model: TokenCounts.of(tokens) for model, tokens in api.models.items()},
        tokens_broken=TokenCounts.of(api.broken),
        untold=api.untold,
        open=api.open,
        beyond_stream=beyond_stream(api, session),
        sent=first
        and SentRecord(
            model=first.model,
            system=tuple(text.sha256 for text in first.system),
            context=tuple(text.sha256 for text in first.context),
            tools=tuple(first.tools),
            effort=first.effort,
            betas=first.betas,
            file=sent,
        ),
    )


def beyond_stream(api: ApiSight, session: Session) -> int | None:
    """The tokens that the API answered and the stream does not tell of; None where the stream does not tell all."""
    return None if session.partial else api.beyond(session.tokens)


def sight_notes(api: ApiSight | None, session: Session) -> Iterator[str]:
    """The difference between the API's answers and the stream, in a sentence."""
    beyond = beyond_stream(api, session) if api else None
    if api and beyond:
        told, answered = session.tokens.total, api.tokens.total
        yield (
            f"the model's API answered {answered} tokens, and Claude Code's stream tells of {told}: "
            + (
                f"{beyond} were asked for by something else in the sandbox"
                if beyond > 0
                else f"{-beyond} were not the API's"
            )
        )


def refused_since(now: Sequence[Refusal], before: Sequence[Refusal]) -> tuple[Refusal, ...]:
    """The refusals that came since."""
    counts = {replace(one, count=0): one.count for one in before}
    more = (replace(one, count=one.count - counts.get(replace(one, count=0), 0)) for one in now)
    return tuple(one for one in more if one.count > 0)


def refusal_notes(refused: Sequence[Refusal], when: str = "") -> Iterator[str]:
    """Notes on what the network rules refused, or could not be reached, a sentence each."""
    for refusal in refused[:_MAX_REFUSALS]:
        times = f" ({refusal.count} times)" if refusal.count > 1 else ""
        what = "harness refused a request to" if refusal.by_rules else "there was no way to"
        yield f"{when}{what} {refusal.target}{times}: {refusal.reason}"
    if len(refused) > _MAX_REFUSALS:
        yield f"{when}requests to {len(refused) - _MAX_REFUSALS} more places went nowhere"


def sent_file(api: ApiSight) -> bytes:
    """The requests as JSON: the first request's texts, and the hashes of all."""
    first = api.first
    content = {
        "first": first
        and {
            "model": first.model,
            "system": [_text(text) for text in first.system],
            "context": [_text(text) for text in first.context],
            "tools": dict(first.tools),
            "effort": first.effort,
            "thinking": first.thinking,
            "max_tokens": first.max_tokens,
            "betas": first.betas,
        },
        "hashes": sorted(api.hashes),
        "models": sorted(api.asked_models),
        "tools": sorted(api.tools),
        "efforts": sorted(api.efforts),
        "betas": sorted(api.betas),
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "replace") + b"\n"


def _text(text: SentText) -> dict[str, object]:
    return {"sha256": text.sha256, "chars": text.chars, "text": text.text}
