"""A sandbox's network use as the proxy of this machine saw it: the model's API, and what was refused.

The proxy is outside of the sandbox: nothing that an agent does changes what it saw. It sees the model's API where it
adds the key, and only there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.records.usage import Tokens

_INSTRUCTIONS = re.compile(r"^Contents of (?P<path>/[^\n]*?)(?: \([^\n]*\))?:\n\n", re.MULTILINE)
_END_OF_REMINDER = "\n</system-reminder>"


@dataclass(frozen=True)
class SentText:
    """A text of a request. `text` is its beginning where it is long: all of it if it has `chars` characters."""

    sha256: str
    chars: int
    text: str

    @property
    def is_whole(self) -> bool:
        """True if `text` is all of it."""
        return len(self.text) == self.chars


@dataclass(frozen=True)
class SentInstructions:
    """A file of instructions (a CLAUDE.md, a rule, an import) as it stood in the request."""

    path: str
    text: str


@dataclass(frozen=True)
class SentRequest:
    """The content of the main agent's first request.

    `system` is the system prompt by its blocks. `context` has the texts before the model's first answer: what Claude
    Code puts around the prompt, CLAUDE.md's text included, and the prompt. `tools` are the SHA-256 of the tools'
    definitions (as JSON with sorted keys) by their names; those that are loaded on demand (MCP servers') are not among
    them.
    """

    model: str
    system: tuple[SentText, ...] = ()
    context: tuple[SentText, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    effort: str | None = None
    thinking: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    betas: tuple[str, ...] = ()

    def carries(self, text: str) -> bool | None:
        """True if the system prompt or the context has this text in it; None where a text was too long to be kept."""
        parts = (*self.system, *self.context)
        if any(text in part.text for part in parts):
            return True
        return False if all(part.is_whole for part in parts) else None

    @property
    def instructions(self) -> tuple[SentInstructions, ...]:
        """The files of instructions in the context, as Claude Code announces each."""
        found = []
        for part in self.context:
            starts = list(_INSTRUCTIONS.finditer(part.text))
            ends = [*(start.start() for start in starts[1:]), len(part.text)]
            for start, end in zip(starts, ends, strict=False):
                text = part.text[start.end() : end].partition(_END_OF_REMINDER)[0]
                found.append(SentInstructions(start["path"], text.rstrip("\n")))
        return tuple(found)


@dataclass(frozen=True)
class ApiTrouble:
    """The API's last failure: an HTTP status (None: no answer at all), and its words."""

    status: int | None
    words: str


@dataclass(frozen=True)
class ApiSight:
    """The use of the model's API that was seen.

    `requests` are those for messages, whoever made them. `endings` has how often each ended in what: an HTTP status, or
    `unreachable`, `cut` (the answer broke off), `left` (the sandbox did not wait for its end). `models` are the tokens
    by the model that answered, of whole answers alone; `broken` is what the others had told before. `untold` answers
    told no usage; `open` ones are still to come. `trouble` is None when the last answer was well. `silent_s`: for how
    long the API has owed an answer without a word.

    `first` is the main agent's first request. The rest is of all requests together: `hashes` has the SHA-256 of each
    text of the system prompt, of each before the model's first answer, and of each tool's definition.
    """

    requests: int = 0
    endings: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, Tokens] = field(default_factory=dict)
    broken: Tokens = field(default_factory=Tokens)
    untold: int = 0
    open: int = 0
    trouble: ApiTrouble | None = None
    silent_s: float = 0.0
    first: SentRequest | None = None
    hashes: frozenset[str] = frozenset()
    asked_models: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    efforts: frozenset[str] = frozenset()
    betas: frozenset[str] = frozenset()

    @property
    def tokens(self) -> Tokens:
        """The tokens of all whole answers."""
        return sum(self.models.values(), Tokens())

    def beyond(self, told: Tokens) -> int | None:
        """The number of tokens that were answered beyond those that somebody tells of; negative where there were fewer.

        Tokens of answers that broke off may be told or not. None where an answer did not tell its tokens.
        """
        if self.untold:
            return None
        least, most = self.tokens, self.tokens + self.broken
        more = sum(max(0, low - one) for low, one in zip(_parts(least), _parts(told), strict=True))
        fewer = sum(max(0, one - high) for high, one in zip(_parts(most), _parts(told), strict=True))
        return more if more >= fewer else -fewer


@dataclass(frozen=True)
class Refusal:
    """A place that the network rules refused, or that they allow and that could not be reached: why, and how often."""

    target: str
    reason: str
    count: int
    by_rules: bool = True


@dataclass(frozen=True)
class EgressSight:
    """All that the proxy saw. `api` is None where it adds no key."""

    api: ApiSight | None = None
    refused: tuple[Refusal, ...] = ()


def parse_egress(report: Mapping[str, Any]) -> EgressSight:
    """Read the local server's answer to `GET /sandboxes/ID/egress`."""
    api = report["api"]
    return EgressSight(
        None if api is None else _parse_api(api),
        tuple(
            Refusal(one["target"], one["reason"], one["count"], one.get("by_rules", True))
            for one in report["refused"]
        ),
    )


def _parse_api(api: Mapping[str, Any]) -> ApiSight:
    sent, trouble = api["sent"], api["trouble"]
    return ApiSight(
        requests=api["requests"],
        endings=api["endings"],
        models={model: Tokens(**counts) for model, counts in api["models"].items()},
        broken=Tokens(**api["broken"]),
        untold=api["untold"],
        open=api["open"],
        trouble=trouble and ApiTrouble(trouble["status"], trouble["words"]),
        silent_s=api["silent_s"],
        first=sent["first"] and _parse_request(sent["first"]),
        hashes=frozenset(sent["hashes"]),
        asked_models=frozenset(sent["models"]),
        tools=frozenset(sent["tools"]),
        efforts=frozenset(sent["efforts"]),
        betas=frozenset(sent["betas"]),
    )


def _parse_request(first: Mapping[str, Any]) -> SentRequest:
    return SentRequest(
        model=first["model"],
        system=_parse_texts(first["system"]),
        context=_parse_texts(first["context"]),
        tools=first["tools"],
        effort=first["effort"],
        thinking=first["thinking"],
        max_tokens=first["max_tokens"],
        betas=tuple(first["betas"]),
    )


def _parse_texts(texts: Iterable[Mapping[str, Any]]) -> tuple[SentText, ...]:
    return tuple(SentText(text["sha256"], text["chars"], text["text"]) for text in texts)


def _parts(tokens: Tokens) -> tuple[int, int, int, int]:
    return tokens.input, tokens.output, tokens.cache_read, tokens.cache_creation
