"""Where replies come from: what the environment says, and what of it may never be stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ProviderFault, UsageError
from harness.local.network.policy import NetworkPolicy
from harness.models.model import (
    NO_MODEL,
    PASSED_ON,
    EarlierTranscript,
    Model,
    api_model,
    has_key,
    replay_model,
)
from harness.sandboxes.platform import Network
from harness.tasks.manifest import SandboxSpec
from harness.tasks.task import Task
from tests.support.folders import by_hand, says

KEY = {"ANTHROPIC_API_KEY": "sk-ant-0123456789"}
ANYWHERE: dict[str, Any] = {"loopback": True}


def task(network: Any = "model", **fields: Any) -> Task:
    return Task("answer", None, "", sandbox=SandboxSpec(network=network), **fields)


def recording(path: Path) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in by_hand([says("Done.")])))
    return path


# Keys


@pytest.mark.parametrize(
    ("environ", "has"),
    [
        ({}, False),
        ({"ANTHROPIC_API_KEY": ""}, False),
        (KEY, True),
        ({"ANTHROPIC_AUTH_TOKEN": "x"}, True),
        ({"CLAUDE_CODE_OAUTH_TOKEN": "x"}, True),
        ({"CLAUDE_CODE_USE_BEDROCK": "1"}, True),
        ({"CLAUDE_CODE_USE_VERTEX": "true"}, True),
        ({"CLAUDE_CODE_USE_BEDROCK": "0"}, False),
        ({"CLAUDE_CODE_USE_VERTEX": "false"}, False),
    ],
)
def test_a_key_is_seen(environ: dict[str, str], has: bool) -> None:
    """As Claude Code sees it: a switch that is off names no API."""
    assert has_key(environ) == has
    if not has:
        with pytest.raises(UsageError, match="needs a key") as caught:
            api_model(environ, loopback=True)
        assert "ANTHROPIC_API_KEY" in str(caught.value)


def test_only_what_the_model_needs_is_passed_on() -> None:
    """The rest of the environment stays here."""
    model = api_model({**KEY, "PATH": "/bin", "SECRET": "x", "ANTHROPIC_MODEL": "opus"}, **ANYWHERE)
    assert model.env == {**KEY, "ANTHROPIC_MODEL": "opus"}
    assert set(model.env) <= set(PASSED_ON)


# Hosts


@pytest.mark.parametrize(
    ("environ", "hosts", "description"),
    [
        (KEY, ("api.anthropic.com",), "api"),
        (
            {**KEY, "ANTHROPIC_BASE_URL": "https://proxy.example/v1"},
            ("proxy.example",),
            "api (proxy.example)",
        ),
        ({**KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080"}, ("127.0.0.1:8080",), "api (127.0.0.1:8080)"),
        ({**KEY, "ANTHROPIC_BASE_URL": "http://localhost"}, ("127.0.0.1:80",), "api (localhost)"),
        ({**KEY, "ANTHROPIC_BASE_URL": "https://localhost"}, ("127.0.0.1:443",), "api (localhost)"),
        (
            {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "eu-west-1"},
            ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock.eu-west-1.amazonaws.com"),
            "api (Bedrock)",
        ),
        (
            {"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_BEDROCK_BASE_URL": "https://gateway.example"},
            ("gateway.example",),
            "api (Bedrock)",
        ),
        (
            {"CLAUDE_CODE_USE_VERTEX": "1", "CLOUD_ML_REGION": "global"},
            ("aiplatform.googleapis.com", "oauth2.googleapis.com"),
            "api (Vertex AI)",
        ),
        (
            {"CLAUDE_CODE_USE_VERTEX": "1"},
            ("us-east5-aiplatform.googleapis.com", "oauth2.googleapis.com"),
            "api (Vertex AI)",
        ),
        ({**KEY, "CLAUDE_CODE_USE_BEDROCK": "0"}, ("api.anthropic.com",), "api"),
    ],
)
def test_the_sandbox_must_reach_the_api(
    environ: dict[str, str], hosts: tuple[str, ...], description: str
) -> None:
    """The hosts that the variables lead to, and the words for the header."""
    model = api_model(environ, **ANYWHERE)
    assert (model.source, model.hosts, model.description) == ("api", hosts, description)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "http://[bad", "http://x:port"])
def test_a_base_url_must_be_one(url: str) -> None:
    """Told with the variable's name, before anything starts."""
    with pytest.raises(UsageError, match=r"ANTHROPIC_BASE_URL=.* is not a URL"):
        api_model({**KEY, "ANTHROPIC_BASE_URL": url}, **ANYWHERE)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:1"])
def test_the_cloud_cannot_reach_this_machine(url: str) -> None:
    """A loopback address is of no use to a sandbox elsewhere."""
    with pytest.raises(UsageError, match="is on this machine") as caught:
        api_model({**KEY, "ANTHROPIC_BASE_URL": url}, loopback=False)
    assert "--sandbox local" in str(caught.value)


# Secrets


def test_every_credential_is_a_secret() -> None:
    """Whole, and in the parts by which it may show up."""
    environ = {
        **KEY,
        "ANTHROPIC_CUSTOM_HEADERS": "X-Team: search-team\nAuthorization: Bearer 0123456789",
        "ANTHROPIC_BASE_URL": "https://user:pass-word-1@proxy.example",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
    }
    model = api_model(environ, **ANYWHERE)
    secrets = set(model.secrets.values())
    assert {"sk-ant-0123456789", "aws-secret", "Bearer 0123456789", "pass-word-1"} <= secrets
    assert environ["ANTHROPIC_CUSTOM_HEADERS"] in secrets
    assert model.description == "api (proxy.example)"
    assert not any(secret in model.description for secret in secrets)


# Networks


@pytest.mark.parametrize(
    ("wanted", "network"),
    [
        ("model", Network(allow=("api.anthropic.com",))),
        ("open", Network(open=True, allow=("api.anthropic.com",))),
        (("pypi.org",), Network(allow=("api.anthropic.com", "pypi.org"))),
    ],
)
def test_a_task_adds_to_the_models_network(wanted: Any, network: Network) -> None:
    """The API can be reached, and what the task names."""
    assert api_model(KEY, **ANYWHERE).network(task(wanted)) == network


def test_an_open_network_reaches_what_is_named_in_this_machines_surroundings() -> None:
    """A gateway for the model, say: the internet alone would not. E2B refuses names there, our server does not."""
    network = Network(open=True, allow=("127.0.0.1:4000", "10.1.2.3", "fd00::1", "api.anthropic.com"))
    assert network.options() == {"network": {"allow_out": ["127.0.0.1:4000", "10.1.2.3", "fd00::1"]}}
    assert Network(open=True, allow=("api.anthropic.com",)).options() == {}
    options = network.options(is_own_server=True)["network"]
    policy = NetworkPolicy(allow_out=tuple(options["allow_out"]), deny_out=tuple(options["deny_out"]))
    assert policy.names("api.anthropic.com", 443)
    assert not policy.names("example.org", 443)
    assert policy.refusal("example.org", 443) is None


def test_without_a_way_to_the_model_it_is_told() -> None:
    """Nobody's failed task; with a replay or without a model nothing is missing."""
    with pytest.raises(ProviderFault, match="leaves no way to the model") as caught:
        api_model(KEY, **ANYWHERE).network(task("none"))
    assert (caught.value.kind, caught.value.retry) == ("no_way", False)
    assert "--model-source replay" in (caught.value.remedy or "")
    assert replay_model().network(task("none")) == Network() == NO_MODEL.network(task("model"))


# Recordings


def test_a_recording_comes_from_the_named_run_or_the_task(tmp_path: Path) -> None:
    """In that order; a task without one has none."""
    own, other = recording(tmp_path / "own.jsonl"), recording(tmp_path / "other.jsonl")
    plain, named = replay_model(), replay_model({"answer": EarlierTranscript(other, by_hand=False)})
    with_own = replace(task(), replay=own)
    assert found(plain, with_own) == own
    assert found(named, with_own) == other
    assert found(named, task()) == other
    assert plain.recording(task()) is None


def found(model: Model, wanted: Task) -> Path | None:
    recorded = model.recording(wanted)
    return recorded.path if recorded else None


def test_a_recording_tells_who_wrote_it(tmp_path: Path) -> None:
    """And for which model, so that the same is asked for."""
    recorded = replay_model(
        {"answer": EarlierTranscript(recording(tmp_path / "a.jsonl"), by_hand=False)}
    ).recording(task())
    assert recorded
    assert (recorded.by_hand, recorded.model) == (True, "claude-sonnet-4-5")
    stream = Path(__file__).parents[1] / "data" / "streams" / "success.jsonl"
    recorded = replay_model({"answer": EarlierTranscript(stream, by_hand=False)}).recording(task())
    assert recorded
    assert (recorded.by_hand, recorded.model) == (False, "claude-opus-5-5")
    recorded = replay_model({"answer": EarlierTranscript(stream, by_hand=True)}).recording(task())
    assert recorded
    assert recorded.by_hand, "the run that wrote it had played one written by hand"


@pytest.mark.parametrize("content", [None, "hello\n"])
def test_a_recording_that_cannot_be_played_is_told(tmp_path: Path, content: str | None) -> None:
    """Gone since, or broken: the trial is an error, with what to do."""
    path = tmp_path / "a.jsonl"
    if content:
        path.write_text(content)
    with pytest.raises(ProviderFault, match=r"a\.jsonl cannot be replayed") as caught:
        replay_model({"answer": EarlierTranscript(path, by_hand=False)}).recording(task())
    assert (caught.value.kind, caught.value.retry, caught.value.fatal) == ("bad_recording", False, False)
