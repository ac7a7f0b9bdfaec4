"""The proxy's view of the Messages API: requests, what they carried, and what the API answered.

It sees the requests to which it adds header fields, and no others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from harness.local.network.api_answer import MAX_BODY, ApiAnswer
from harness.local.network.sent import SentRequests

UNREACHABLE, CUT, LEFT = "unreachable", "cut", "left"
"""In the place of a status: no connection; the API's answer broke off; the sandbox did not wait for its end."""


class ApiMeter:
    """Counts for one sandbox. `trouble` is what the API last failed with, None once it has answered well again.

    That, and silence, are of requests for the model that was asked first: an agent may ask for one whose use is limited
    or forbidden, or have Claude Code do so.
    """

    def __init__(self) -> None:
        self._requests = 0
        self._others = 0
        self._endings: Counter[str] = Counter()
        self._models: dict[str, Counter[str]] = {}
        self._broken: Counter[str] = Counter()
        self._untold = 0
        self._left_silent_s = 0.0
        self._open: set[Exchange] = set()
        self._sent = SentRequests()
        self.trouble: dict[str, Any] | None = None

    def begin(self, method: str, target: str, headers: Mapping[str, str]) -> Exchange | None:
        """Count a request; return what follows it, if it is one for a message."""
        if method != "POST" or not urlsplit(target).path.endswith("/v1/messages"):
            self._others += 1
            return None
        self._requests += 1
        exchange = Exchange(self, headers)
        self._open.add(exchange)
        return exchange

    def note_unreachable(self, words: str) -> None:
        """A connection for a request could not be made."""
        self._requests += 1
        self._endings[UNREACHABLE] += 1
        self.trouble = {"status": None, "words": words}

    def report(self) -> dict[str, Any]:
        """All counts, as JSON values."""
        return {
            "requests": self._requests,
            "other_requests": self._others,
            "endings": dict(self._endings),
            "open": len(self._open),
            "silent_s": max((self._left_silent_s, *map(self._silent_s, self._open))),
            "models": {model: dict(tokens) for model, tokens in self._models.items()},
            "broken": dict(self._broken),
            "untold": self._untold,
            "trouble": self.trouble,
            "sent": self._sent.report(),
        }

    def close(self, exchange: Exchange, ending: str) -> None:
        """Add up an exchange that has ended, as a status or one of the words above."""
        if exchange not in self._open:
            return
        self._open.discard(exchange)
        # Whoever lost patience with a silent API has left it.
        self._left_silent_s = self._silent_s(exchange) if ending == LEFT else 0.0
        self._endings[ending] += 1
        answer = exchange.answer
        if answer and answer.usage is not None:
            whole = answer.is_whole and ending == "200"
            tally = self._models.setdefault(answer.model or "", Counter()) if whole else self._broken
            tally.update(answer.usage)
        elif ending == "200":
            self._untold += 1
        if ending != LEFT and exchange.is_sent and self._is_of_first(exchange):
            self.trouble = _trouble(ending, answer)  # the API need not wait for the rest of a request

    def _is_of_first(self, exchange: Exchange) -> bool:
        return exchange.model == self._sent.first_model

    def _silent_s(self, exchange: Exchange) -> float:
        return exchange.silent_s if self._is_of_first(exchange) else 0.0

    def take_body(self, headers: Mapping[str, str], body: bytes) -> tuple[str | None, bool]:
        """Take what a request carried into account; its model, and whether it asks for a stream."""
        return self._sent.add(headers, body)


def _trouble(ending: str, answer: ApiAnswer | None) -> dict[str, Any] | None:
    """The API's failure, if it had one, by how an exchange ended. An answer from elsewhere has no message."""
    if ending == CUT or answer is None:
        return {"status": None, "words": "the API's answer broke off"}
    if answer.status >= 400:
        return {"status": answer.status, "words": answer.error}
    if answer.is_whole or not answer.is_legible:
        return None
    return {"status": None, "words": f"HTTP {answer.status} without a message"}


class Exchange:
    """One request for a message, and its answer."""

    def __init__(self, meter: ApiMeter, headers: Mapping[str, str]) -> None:
        self._meter = meter
        self._headers = headers
        self._body = bytearray()
        self._streams = False
        self.model: str | None = None
        self.is_sent = False
        self._waits_since: float | None = None
        self.answer: ApiAnswer | None = None

    @property
    def silent_s(self) -> float:
        """For how long the API, which has the whole request for a stream, has sent nothing of what it owes.

        What is asked for at once may take its time, and an agent can ask so.
        """
        return (
            time.monotonic() - self._waits_since if self._streams and self._waits_since is not None else 0.0
        )

    def on_body(self, data: bytes) -> None:
        """The next bytes of the request."""
        self._body += data[: MAX_BODY - len(self._body)]

    def on_sent(self) -> None:
        """The request is with the API."""
        self.is_sent = True
        self.model, self._streams = self._meter.take_body(self._headers, bytes(self._body))
        self._body.clear()
        if self._waits_since is not None:
            self._waits_since = time.monotonic()

    def on_waiting(self) -> None:
        """It is the API's turn to send something."""
        self._waits_since = time.monotonic()

    def on_response(self, status: int, headers: Mapping[str, str]) -> None:
        """The answer begins."""
        self._waits_since = None
        self.answer = ApiAnswer(status, headers)

    def on_data(self, data: bytes) -> None:
        """The next bytes of the answer."""
        self._waits_since = None
        if self.answer:
            self.answer.feed(data)

    def on_end(self) -> None:
        """The answer has ended as HTTP says. A stream without its last event was cut off all the same."""
        if self.answer:
            self.answer.end()
            self._close(CUT if self.answer.is_cut else str(self.answer.status))

    def on_cut(self, *, by_client: bool) -> None:
        """Nothing more comes: the API's connection broke, or the sandbox left."""
        if self.answer and (self.answer.is_whole or self.answer.status >= 400):
            self._close(str(self.answer.status))
        else:
            self._close(LEFT if by_client else CUT)

    def _close(self, ending: str) -> None:
        self._meter.close(self, ending)
