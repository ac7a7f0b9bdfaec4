"""Who decides that the API was to blame after an agent's first tool call: those who see it from outside."""

from __future__ import annotations

import asyncio

import pytest

from harness.agents.endings import Ending, Outside, Run, judge_result
from harness.errors import ProviderFault
from harness.models.provider import ProviderState
from harness.records.session import Session, TurnResult
from harness.records.usage import Tokens


def failed_with(status: int | None, text: str = "API Error", *, has_acted: bool = True) -> Run:
    """A run whose result is Claude Code's word on the API's trouble."""
    result = TurnResult(None, None, None, Tokens(), None, "api_error", True, status, text)
    return Run(Session(turns=(result,)), has_acted=has_acted, has_result=True)


def judge(told: int | None, proxy: ProviderState | None, own: ProviderState | None) -> Ending:
    async def main() -> Ending:
        async def ask_proxy() -> ProviderState | None:
            return proxy

        async def ask_own() -> ProviderState | None:
            return own

        return await judge_result(failed_with(told), Outside(ask_own, ask_proxy))

    return asyncio.run(main())


WELL = ProviderState(200)


@pytest.mark.parametrize(
    ("told", "proxy", "own", "kind", "is_fatal"),
    [
        (529, ProviderState(529), WELL, "overloaded", False),
        (429, ProviderState(529), WELL, "rate_limit", False),
        (None, ProviderState(None, "no way"), WELL, "api_error", False),
        (401, ProviderState(401), WELL, "auth", False),
        (403, ProviderState(403), ProviderState(403), "auth", True),
        (401, None, ProviderState(401), "auth", True),
        (529, None, ProviderState(503), "overloaded", False),
        *((status, ProviderState(529), WELL, "api_error", False) for status in (408, 409)),
        *((status, None, ProviderState(503), "api_error", False) for status in (408, 409)),
    ],
)
def test_what_one_of_them_saw_is_the_providers(
    told: int, proxy: ProviderState | None, own: ProviderState, kind: str, is_fatal: bool
) -> None:
    """The proxy is enough; the run ends only by what the harness's own request meets."""
    with pytest.raises(ProviderFault) as raised:
        judge(told, proxy, own)
    assert (raised.value.kind, raised.value.fatal) == (kind, is_fatal)


@pytest.mark.parametrize(
    ("told", "proxy"),
    [
        (529, None),
        (529, ProviderState(401)),
        (529, ProviderState(400)),
        *((status, ProviderState(status)) for status in (400, 403, 404, 413)),
        *((status, ProviderState(400)) for status in (408, 409)),
    ],
)
@pytest.mark.parametrize("own", [None, WELL])
def test_what_none_of_them_saw_is_judged(
    told: int, proxy: ProviderState | None, own: ProviderState | None
) -> None:
    """Trouble of another kind is none of it; an agent can make requests that are refused, and let a fake API say it."""
    assert judge(told, proxy, own).stop == "api_error"


def test_a_way_to_the_model_that_the_networks_rules_close_is_no_wrong_key() -> None:
    """It is told as that, with what opens it."""

    async def nobody() -> ProviderState | None:
        return None

    words = "API Error: 403 harness refused it: gw.corp:80 (127.0.0.2) is not allowed by the sandbox's network rules"
    with pytest.raises(ProviderFault, match="not allowed by the sandbox's network rules") as raised:
        asyncio.run(judge_result(failed_with(403, words, has_acted=False), Outside(nobody, nobody)))
    assert (raised.value.kind, raised.value.fatal) == ("no_way", False)
    assert "[sandbox] network" in str(raised.value.remedy)
