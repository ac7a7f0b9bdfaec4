"""The source of the model's replies: the API that the environment names, or a recorded session."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from harness.errors import ProviderFault, UsageError
from harness.models import replay_server
from harness.records.record import KeyPlace, ModelSource
from harness.sandboxes.platform import Network
from harness.tasks.contents import MAX_RECORDING_BYTES, open_regular
from harness.tasks.hosts import is_loopback
from harness.tasks.recording import BadRecording, parse_recording
from harness.tasks.task import Task

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_BEDROCK = "CLAUDE_CODE_USE_BEDROCK"
_VERTEX = "CLAUDE_CODE_USE_VERTEX"
_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
_BASE_URLS = ("ANTHROPIC_BASE_URL", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL")
PASSED_ON = (
    *_KEYS,
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    _HEADERS,
    _BEDROCK,
    "ANTHROPIC_BEDROCK_BASE_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
    _VERTEX,
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "CLOUD_ML_REGION",
)
_SECRETS = (
    *_KEYS,
    _HEADERS,
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
)


# -I -S: Python finds nothing there but its standard library and the program itself, whatever the task, the repo or the
# template have.
REPLAY_COMMAND = 'python3 -I -S ~/.harness/replay --transcript ~/.harness/replay.jsonl --cwd "$PWD"'
"""Runs, in a sandbox, the server that plays a recording. Its `files` have to be there. Its first line is its URL."""
_REPLAY_MAIN = b"""import sys

from harness.models.replay_server import main

sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class TaskRecording:
    """A session to play: its file, the model that it was recorded with, and whether somebody wrote it by hand."""

    path: Path
    model: str | None
    by_hand: bool

    def files(self) -> dict[str, bytes]:
        """The server and the recording, by their paths below a sandbox's home. Modules have the same names as here."""
        package = Path(replay_server.__file__).parents[1]
        modules = ("tasks/recording.py", "models/replay_server.py")
        return {
            ".harness/replay/__main__.py": _REPLAY_MAIN,
            **{f".harness/replay/harness/{name}": (package / name).read_bytes() for name in modules},
            ".harness/replay.jsonl": self.path.read_bytes(),
        }


@dataclass(frozen=True)
class EarlierTranscript:
    """A trial's transcript from an earlier run, and whether what it played had been written by hand."""

    transcript: Path
    by_hand: bool


@functools.lru_cache(maxsize=1024)
def load_recording(path: Path) -> TaskRecording:
    """Read a recording.

    Raises:
        ProviderFault: when it cannot be played.
    """
    try:
        with open_regular(path, MAX_RECORDING_BYTES) as lines:
            recording = parse_recording(lines)
    except (OSError, BadRecording) as error:
        raise ProviderFault("bad_recording", f"{path} cannot be replayed: {error}") from error
    return TaskRecording(path, recording.model, recording.written_by is not None)


@dataclass(frozen=True)
class Model:
    """The source of the replies for Claude Code in a sandbox.

    `env` is the CLI's; `hosts` what it must reach; `secrets` the values that must never be stored. `headers` are those
    that the platform puts on requests to a host, for what is not in `env` then. With `replay`, `recording(task)` is
    played inside the sandbox instead.
    """

    source: ModelSource
    description: str
    env: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    recordings: Mapping[str, EarlierTranscript] = field(default_factory=dict)

    def recording(self, task: Task) -> TaskRecording | None:
        """The session to play for a task: from the run named by --replay, else the task's own.

        None where nothing is replayed, or the task has none.

        Raises:
            ProviderFault: when it cannot be played.
        """
        earlier = self.recordings.get(task.name)
        if self.source != "replay" or not (earlier or task.replay):
            return None
        if earlier:
            found = load_recording(earlier.transcript)
            return replace(found, by_hand=found.by_hand or earlier.by_hand)
        return load_recording(task.replay) if task.replay else None

    def require_recording(self, task: Task) -> None:
        """Make sure that the agent will get replies.

        Raises:
            ProviderFault: when they are to be replayed, and there is no recording that can be played.
        """
        if self.source == "replay" and self.recording(task) is None:
            raise ProviderFault("no_recording", f"task {task.name!r} has no recorded session to replay")

    def network(self, task: Task, hosts: Sequence[str] = ()) -> Network:
        """The network of a task's sandbox, given where the model is, and the `hosts` that a variant needs.

        Raises:
            ProviderFault: when the task leaves no way to the model.
        """
        wanted = task.sandbox.network
        if wanted == "open":
            return Network(open=True, allow=tuple(dict.fromkeys((*self.hosts, *hosts))), headers=self.headers)
        if wanted == "none" and self.hosts:
            raise ProviderFault(
                "no_way", f'task {task.name!r}: network = "none" leaves no way to the model\'s API'
            )
        own = wanted if isinstance(wanted, tuple) else ()
        allowed = tuple(dict.fromkeys((*self.hosts, *own, *hosts)))
        return Network(allow=allowed, headers=self.headers)

    def is_signed(self, env: Mapping[str, str]) -> bool:
        """True if Claude Code, with `env`, signs its requests itself (Bedrock, Vertex AI)."""
        return _is_on(env, _BEDROCK) or _is_on(env, _VERTEX)

    @property
    def key_place(self) -> KeyPlace | None:
        """The place of the key; None where no API is asked."""
        if self.source != "api":
            return None
        return "platform" if self.headers else "sandbox"


NO_MODEL = Model("none", "no model")


def has_key(environ: Mapping[str, str] = os.environ) -> bool:
    """True if the environment names a model API to pay for."""
    return any(environ.get(name) for name in _KEYS) or _is_on(environ, _BEDROCK) or _is_on(environ, _VERTEX)


def _is_on(environ: Mapping[str, str], switch: str) -> bool:
    """True if Claude Code takes a variable for set. `0` and `false` are not."""
    return environ.get(switch, "").strip().lower() in ("1", "true", "yes", "on")


def api_model(environ: Mapping[str, str] = os.environ, *, loopback: bool) -> Model:
    """The API as the environment's variables say.

    Args:
        environ: the variables.
        loopback: whether the sandbox can be given a way to this machine's loopback.

    Raises:
        UsageError: when there is no key, or a variable cannot be used.
    """
    if not has_key(environ):
        raise UsageError(
            "--model-source api needs a key",
            remedy=f"set {', '.join(_KEYS)}, or {_BEDROCK}=1 or {_VERTEX}=1 with their credentials",
        )
    env = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    env |= {name: _at_loopback(env[name]) for name in _BASE_URLS if name in env}
    hosts = _hosts(environ, loopback=loopback)
    return Model(
        source="api",
        description=_provider(environ),
        env=env,
        hosts=hosts,
        secrets=dict(_secrets(env)),
    )


LOOPBACK = "127.0.0.1"
_API_HOST = "api.anthropic.com"

KEY_PLACEHOLDER = "kept-outside-the-sandbox"
"""Placeholder of a key. The platform injects the real one, but Claude Code expects a key to be set."""


def move_key_to_platform(model: Model, *, asked: bool = False, by_origin: bool = True) -> Model:
    """The same API with its key not in the sandbox: the platform puts it on requests to the API's host.

    Where that cannot be (Bedrock and Vertex AI sign requests themselves; a platform that does not add keys `by_origin`,
    for an API at another port or without TLS) the key stays in the sandbox.

    Raises:
        UsageError: when it was `asked` for in so many words, and cannot be.
    """
    headers = dict(key_headers(model.env))
    env = {
        name: KEY_PLACEHOLDER if name in _KEYS else value
        for name, value in model.env.items()
        if name != _HEADERS
    }
    left = [name for name, value in _secrets(env) if value != KEY_PLACEHOLDER]
    if not headers or left or _is_on(env, _BEDROCK) or _is_on(env, _VERTEX):
        if asked:
            raise UsageError(
                "--model-key platform: this API's credentials cannot be put on requests by the platform",
                remedy="use ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, or --model-key sandbox",
            )
        return model
    origin = _origin(env.get("ANTHROPIC_BASE_URL") or f"https://{_API_HOST}")
    if "://" in origin and not by_origin:
        if asked:
            raise UsageError(
                f"--model-key platform: this platform adds keys to https://HOST alone, not to {origin}",
                remedy="use --model-key sandbox",
            )
        return model
    return replace(model, env=env, headers={origin: headers})


def _origin(url: str) -> str:
    """The origin that gets a key: one scheme, host and port. A host alone is https on its own port, as E2B has it."""
    parts = _split(url)
    host = parts.hostname or ""
    host = LOOPBACK if is_loopback(host) and host != "localhost" else host
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if (parts.scheme, port) == ("https", 443) and not is_loopback(host):
        return host
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def key_headers(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The headers that Claude Code makes of its variables."""
    if env.get("ANTHROPIC_API_KEY", KEY_PLACEHOLDER) != KEY_PLACEHOLDER:
        yield "X-Api-Key", env["ANTHROPIC_API_KEY"]
    for name in ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"):
        if env.get(name, KEY_PLACEHOLDER) != KEY_PLACEHOLDER:
            yield "Authorization", f"Bearer {env[name]}"
    for line in env.get(_HEADERS, "").splitlines():
        header, _, value = line.partition(":")
        if header.strip():
            yield header.strip(), value.strip()


def keys_in(environ: Mapping[str, str]) -> dict[str, str]:
    """The values of this machine's that let one into a provider, also where this run's model needs none of them."""
    return dict(_secrets({name: environ[name] for name in PASSED_ON if environ.get(name)}))


def _secrets(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The values that must never be stored: credentials, whole and in the parts by which they may show up."""
    for name in _SECRETS:
        if name in env:
            yield name, env[name]
    for line in env.get(_HEADERS, "").splitlines():
        header, _, value = line.partition(":")
        yield f"{_HEADERS}:{header.strip()}", value.strip()
    for name in _BASE_URLS:
        password = _split(env.get(name, "")).password
        if password:
            yield f"{name}:password", password


def _provider(environ: Mapping[str, str]) -> str:
    if _is_on(environ, _BEDROCK):
        return "api (Bedrock)"
    if _is_on(environ, _VERTEX):
        return "api (Vertex AI)"
    base = _split(environ.get("ANTHROPIC_BASE_URL", ""))
    # Without the user and the password that a URL may have.
    return f"api ({base.netloc.rpartition('@')[2]})" if base.netloc else "api"


def _hosts(environ: Mapping[str, str], *, loopback: bool) -> tuple[str, ...]:
    if _is_on(environ, _BEDROCK):
        region = environ.get("AWS_REGION", "us-east-1")
        default = (f"bedrock-runtime.{region}.amazonaws.com", f"bedrock.{region}.amazonaws.com")
        return _base_url(environ, "ANTHROPIC_BEDROCK_BASE_URL", loopback=loopback) or default
    if _is_on(environ, _VERTEX):
        region = environ.get("CLOUD_ML_REGION", "us-east5")
        service = "aiplatform.googleapis.com" if region == "global" else f"{region}-aiplatform.googleapis.com"
        return _base_url(environ, "ANTHROPIC_VERTEX_BASE_URL", loopback=loopback) or (
            service,
            "oauth2.googleapis.com",
        )
    return _base_url(environ, "ANTHROPIC_BASE_URL", loopback=loopback) or (_API_HOST,)


def _base_url(environ: Mapping[str, str], name: str, *, loopback: bool) -> tuple[str, ...]:
    url = environ.get(name)
    if not url:
        return ()
    parts = _split(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in {"http", "https"}:
        raise UsageError(f"{name}={url!r} is not a URL", remedy="give http://HOST[:PORT] or https://HOST")
    if not is_loopback(host):
        return (host,)
    if not loopback:
        raise UsageError(
            f"{name}={url!r} is on this machine, where an E2B sandbox cannot reach it",
            remedy="use --sandbox local, or an address that the sandbox can reach",
        )
    return (f"127.0.0.1:{port or (443 if parts.scheme == 'https' else 80)}",)


def _at_loopback(url: str) -> str:
    """A URL whose host is another of loopback's addresses (::1) as the sandbox reaches it."""
    parts = _split(url)
    if parts.hostname in (None, "localhost", LOOPBACK) or not is_loopback(parts.hostname or ""):
        return url
    return url.replace(parts.netloc, parts.netloc.replace(f"[{parts.hostname}]", LOOPBACK), 1)


def _split(url: str) -> SplitResult:
    """A URL's parts; none of one that cannot be read."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def replay_model(recordings: Mapping[str, EarlierTranscript] | None = None) -> Model:
    """Recorded sessions: those given by task name, else each task's own `replay.jsonl`."""
    return Model(
        source="replay",
        description="replay",
        env={"ANTHROPIC_API_KEY": "replay"},
        recordings=recordings or {},
    )
