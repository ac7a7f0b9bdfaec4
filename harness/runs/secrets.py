"""The secrets of this machine, which are taken out of all that a run or a command writes and prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from harness.models.model import keys_in
from harness.records.reading import read_about
from harness.records.redaction import Redactor
from harness.records.store import RunFolder

SECRETS = "secrets"
"""In run.json: the names of the variables whose values the run has kept out of its files."""
_REGISTRIES = "HARNESS_REGISTRY_AUTH"
_TOKENS = ("E2B_API_KEY", "E2B_ACCESS_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_URLS = (
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
    "NPM_CONFIG_REGISTRY",
)


def redactor_of_machine(environ: Mapping[str, str], names: Iterable[str] = ()) -> Redactor:
    """One that knows what lets this machine in elsewhere, and those of further variables that are set."""
    named = {name: environ[name] for name in names if environ.get(name)}
    return Redactor({**named, **dict(_own(environ)), **keys_in(environ)})


def redactor_of_run(environ: Mapping[str, str], run: RunFolder) -> Redactor:
    """The same for a run of another process: it knows what variables that one hid, where they are set here too."""
    names = read_about(run.path).get(SECRETS)
    named = names if isinstance(names, list) else []
    return redactor_of_machine(environ, (name for name in named if isinstance(name, str)))


def _own(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The tokens of platforms, and the passwords in the URLs of proxies and registries."""
    yield from ((name, environ[name]) for name in _TOKENS if environ.get(name))
    for name in _URLS:
        yield f"{name}:password", _password(environ.get(name, ""))
    for pair in environ.get(_REGISTRIES, "").split():
        registry, _, secret = pair.partition("=")
        yield f"{_REGISTRIES}:{registry}", secret.partition(":")[2]


def _password(url: str) -> str:
    try:
        return urlsplit(url if "://" in url else f"//{url}").password or ""
    except ValueError:
        return ""
