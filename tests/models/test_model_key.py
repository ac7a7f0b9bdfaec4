"""The model's key stays outside the sandbox where the platform can add it; the record says where it was."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.local.launch import LocalServer
from harness.models.model import KEY_PLACEHOLDER, api_model, move_key_to_platform
from harness.records.reading import list_runs, read_records
from harness.records.record import TrialRecord
from harness.runs.resources import can_inject_headers, local_platform
from harness.sandboxes.platform import Platform
from tests.support.folders import task_folder
from tests.support.messages_api import MessagesApi, Say, Use

SECRET = "sk-ant-0123456789abcdef"
LOOK = "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; echo 42 >answer.txt"


def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *options: str, network: str = '"model"'
) -> tuple[TrialRecord, MessagesApi]:
    """A trial of an agent that looks for the key wherever it can."""
    task_folder(pytester.path / "tasks", toml=f"[sandbox]\nnetwork = {network}\n")
    with MessagesApi([Use("Bash", {"command": LOOK}), Say("Done.")], keys=[SECRET]) as api:
        for name, value in api.env(SECRET).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway-Token: gateway-0123456789")
        pytester.runpytest("tasks", *options).assert_outcomes(passed=1)
    (found,) = list_runs(pytester.path / "results")
    (record,) = read_records(found.path).records
    left = [path for path in found.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert left == []
    return record, api


def seen(api: MessagesApi) -> str:
    """What the agent's tool has shown it."""
    return "\n".join(str(result["content"]) for e in api.exchanges for result in e.request.tool_results)


@pytest.mark.usefixtures("as_e2b")
@pytest.mark.parametrize("network", ['"model"', '["example.com"]'])
def test_the_platform_adds_the_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """To the requests for the API, whatever else the sandbox may reach; an agent that looks for it finds none."""
    record, api = run(pytester, monkeypatch, "--model-key", "platform", network=network)
    assert record.model_key == "platform"
    assert KEY_PLACEHOLDER in seen(api)
    assert SECRET not in seen(api)
    assert "gateway-0123456789" not in seen(api)
    assert {e.request.headers.get("x-gateway-token") for e in api.exchanges} == {"gateway-0123456789"}


@pytest.mark.usefixtures("as_e2b")
def test_a_platform_that_is_not_known_to_gets_the_key_inside(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A self-hosted E2B, unless one says so; and the record tells."""
    record, api = run(pytester, monkeypatch)
    assert record.model_key == "sandbox"
    assert SECRET in seen(api)


def test_this_machine_adds_it_by_itself(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server: LocalServer
) -> None:
    """Where its sandboxes have networks of their own."""
    if not can_inject_headers(local_platform(server)):
        pytest.skip(f"not in the tier {server.isolation}")
    record, api = run(pytester, monkeypatch, "--sandbox", "local")
    assert record.model_key == "platform"
    assert SECRET not in seen(api)


def test_the_cloud_is_known_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """And others are not."""
    assert can_inject_headers(Platform("e2b"))
    monkeypatch.setenv("E2B_DOMAIN", "e2b.example.com")
    assert not can_inject_headers(Platform("e2b"))
    monkeypatch.delenv("E2B_DOMAIN")
    monkeypatch.setenv("E2B_API_URL", "https://e2b.example.com")
    assert not can_inject_headers(Platform("e2b"))
    assert not can_inject_headers(Platform("local", isolation="landlock"))


@pytest.mark.parametrize(
    ("environ", "host", "headers"),
    [
        ({"ANTHROPIC_API_KEY": SECRET}, "api.anthropic.com", {"X-Api-Key": SECRET}),
        ({"ANTHROPIC_AUTH_TOKEN": SECRET}, "api.anthropic.com", {"Authorization": f"Bearer {SECRET}"}),
        ({"CLAUDE_CODE_OAUTH_TOKEN": SECRET}, "api.anthropic.com", {"Authorization": f"Bearer {SECRET}"}),
        (
            {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "https://llm.example.com/v1"},
            "llm.example.com",
            {"X-Api-Key": SECRET},
        ),
        (
            {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "https://llm.example.com:8443/v1"},
            "https://llm.example.com:8443",
            {"X-Api-Key": SECRET},
        ),
        (
            {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "http://llm.example.com"},
            "http://llm.example.com:80",
            {"X-Api-Key": SECRET},
        ),
        (
            {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "http://[::1]:4000"},
            "http://127.0.0.1:4000",
            {"X-Api-Key": SECRET},
        ),
        (
            {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "https://localhost"},
            "https://localhost:443",
            {"X-Api-Key": SECRET},
        ),
    ],
)
def test_each_key_has_its_header(environ: dict[str, str], host: str, headers: dict[str, str]) -> None:
    model = move_key_to_platform(api_model(environ, loopback=True))
    assert model.headers == {host: headers}
    assert SECRET not in model.env.values()
    assert SECRET in model.secrets.values()
    assert model.key_place == "platform"


def test_a_platform_that_knows_hosts_alone_gets_no_key_for_less() -> None:
    """It would put the key on other ports, and on what is not encrypted; so it stays in the sandbox."""
    environ = {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "http://llm.example.com:8080"}
    model = api_model(environ, loopback=True)
    assert move_key_to_platform(model, by_origin=False) == model
    with pytest.raises(UsageError, match=r"adds keys to https://HOST alone"):
        move_key_to_platform(model, asked=True, by_origin=False)
    usual = api_model({"ANTHROPIC_API_KEY": SECRET}, loopback=False)
    assert move_key_to_platform(usual, by_origin=False).key_place == "platform"


@pytest.mark.parametrize(
    "environ",
    [
        {
            "CLAUDE_CODE_USE_BEDROCK": "1",
            "AWS_ACCESS_KEY_ID": "AKIA0123456789",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        },
        {"CLAUDE_CODE_USE_VERTEX": "1"},
        {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "https://me:hunter22@llm.example.com"},
    ],
)
def test_what_cannot_be_outside_stays_inside(environ: dict[str, str]) -> None:
    """Unless it was asked for in so many words."""
    model = api_model(environ, loopback=True)
    assert move_key_to_platform(model) == model
    assert model.key_place == "sandbox"
    with pytest.raises(UsageError, match="cannot be put on requests"):
        move_key_to_platform(model, asked=True)
