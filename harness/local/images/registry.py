"""Images of a registry, by its HTTP API: tokens, credentials, mirrors, redirects, indexes."""

from __future__ import annotations

import base64
import functools
import ipaddress
import json
import os
import re
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from harness.local.images.errors import ImageError
from harness.local.images.manifest import (
    INDEXES,
    MANIFESTS,
    MAX_JSON_BYTES,
    ImageConfig,
    ImageManifest,
    check_digest,
    choose,
    config_of,
    is_index,
    manifest_of,
    read_json,
)
from harness.local.images.reference import RegistryImage

MIRRORS = "HARNESS_REGISTRY_MIRRORS"
"""The variable with mirrors: `docker.io=https://mirror.example,ghcr.io=http://10.0.0.5:5000`."""
CREDENTIALS = "HARNESS_REGISTRY_AUTH"
"""The variable with credentials: `registry.example=USER:PASSWORD`, separated by spaces."""
_TIMEOUT_S = 60.0
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_HUB_KEYS = ("https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Credentials:
    """A user's name and password (or token) for one registry."""

    user: str
    password: str

    @property
    def basic(self) -> str:
        """As a header has it."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class RegistryClient:
    """An image of a registry, or of one of its mirrors, whichever has it first."""

    def __init__(
        self, image: RegistryImage, given: Credentials | None = None, env: Mapping[str, str] = os.environ
    ) -> None:
        self._image = image
        self._given = given
        self._env = env
        self._tokens: dict[str, str] = {}

    def manifest(self) -> tuple[ImageManifest, ImageConfig]:
        """Return the image's manifest. Raises ImageError."""
        found, config, _ = self._read
        return found, config

    def open_layer(self, number: int) -> IO[bytes]:
        """A layer as it is stored. Raises ImageError."""
        found, _, base = self._read
        path = f"/v2/{self._image.name}/blobs/{found.layers[number].digest}"
        return self._get(base, path, "application/octet-stream")

    @functools.cached_property
    def _read(self) -> tuple[ImageManifest, ImageConfig, str]:
        """The manifest, the configuration, and the server that has it."""
        wrong: list[str] = []
        for base in self._servers():
            try:
                return *self._read_from(base), base
            except ImageError as error:
                wrong.append(str(error))
        raise ImageError(f"the image {self._image} cannot be had: {'; '.join(wrong)}")

    def _servers(self) -> list[str]:
        """The mirrors' URLs, then the registry's own."""
        pairs = (pair.partition("=") for pair in re.split(r"[,\s]+", self._env.get(MIRRORS, "")) if pair)
        mirrors = [url.rstrip("/") for name, _, url in pairs if name == self._image.registry]
        host = _HUB_HOST if self._image.registry == _HUB else self._image.registry
        return [*mirrors, f"{'http' if _is_loopback(host) else 'https'}://{host}"]

    def _read_from(self, base: str) -> tuple[ImageManifest, ImageConfig]:
        reference, what = self._image.reference, str(self._image)
        value = self._manifest(base, reference)
        for _ in range(4):
            if not is_index(value):
                break
            value = self._manifest(base, choose(value, what).digest)
        found = manifest_of(value, what)
        data = self._read_all(base, f"/v2/{self._image.name}/blobs/{found.config.digest}", "*/*")
        check_digest(data, found.config.digest, f"the configuration of {what}")
        config = config_of(read_json(data, f"the configuration of {what}"), what)
        if len(config.diff_ids) != len(found.layers):
            raise ImageError(
                f"{what} has {len(found.layers)} layers, and its configuration {len(config.diff_ids)}"
            )
        return found, config

    def _manifest(self, base: str, reference: str) -> Mapping[str, Any]:
        path, kinds = f"/v2/{self._image.name}/manifests/{reference}", ", ".join((*MANIFESTS, *INDEXES))
        data = self._read_all(base, path, kinds)
        if ":" in reference:
            check_digest(data, reference, f"the manifest of {self._image}")
        return read_json(data, f"the manifest of {self._image}")

    def _read_all(self, base: str, path: str, accept: str) -> bytes:
        with self._get(base, path, accept) as reply:
            data = reply.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise ImageError(f"{base} answers with more than {MAX_JSON_BYTES // 2**20} MiB")
        return data

    def _get(self, base: str, path: str, accept: str) -> IO[bytes]:
        """A reply's body; asked again with what the registry wants to see, once."""
        reply = self._ask(base + path, accept, self._tokens.get(base))
        if isinstance(reply, urllib.error.HTTPError) and reply.code == 401:
            challenge = reply.headers.get("WWW-Authenticate", "")
            self._tokens[base] = self._authorize(base, challenge)
            reply = self._ask(base + path, accept, self._tokens[base])
        if isinstance(reply, urllib.error.HTTPError):
            raise ImageError(f"{base}: {self._refusal(reply, self._credentials(_host(base)))}")
        return reply

    def _refusal(self, reply: urllib.error.HTTPError, known: Credentials | None) -> str:
        if reply.code == 404:
            return f"there is no {self._image.name}:{self._image.reference}"
        if reply.code in (401, 403):
            remedy = "the credentials do not do" if known else f"`docker login`, or set {CREDENTIALS}"
            return f"it refuses {self._image.name} ({reply.code}): {remedy}"
        if reply.code == 429:
            return f"too many requests ({reply.code}): log in, or name a mirror in {MIRRORS}"
        return f"it answered {reply.code} {reply.reason}"

    def _ask(self, url: str, accept: str, token: str | None) -> IO[bytes] | urllib.error.HTTPError:
        request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "harness"})
        if token:
            # Not sent on to where a redirect leads.
            request.add_unredirected_header("Authorization", token)
        try:
            return cast(IO[bytes], _opener().open(request, timeout=_TIMEOUT_S))
        except urllib.error.HTTPError as error:
            return error
        except urllib.error.URLError as error:
            raise ImageError(f"{_origin(url)} cannot be reached: {error.reason}") from error
        except (OSError, ValueError) as error:
            raise ImageError(f"{_origin(url)} cannot be reached: {error}") from error

    def _authorize(self, base: str, challenge: str) -> str:
        """The header that the registry wants: the user's own, or a token for it."""
        known = self._credentials(_host(base))
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if known is None:
                raise ImageError(f"{base} wants credentials: `docker login`, or set {CREDENTIALS}")
            return known.basic
        fields = dict(_CHALLENGE.findall(rest))
        realm = fields.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("http://", "https://")):
            raise ImageError(f"{base} asks for a kind of login that is not known: {challenge[:100]!r}")
        if known and realm.startswith("http://") and not _is_loopback(_host(realm)):
            raise ImageError(f"{base} wants the password sent over http:// to {_host(realm)}")
        query = {"scope": f"repository:{self._image.name}:pull"}
        query |= {"service": fields["service"]} if "service" in fields else {}
        reply = self._ask(
            f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(query)}",
            "application/json",
            known.basic if known else None,
        )
        if isinstance(reply, urllib.error.HTTPError):
            raise ImageError(f"{_origin(realm)}: {self._refusal(reply, known)}")
        with reply:
            value = read_json(reply.read(MAX_JSON_BYTES + 1), f"the token of {_origin(realm)}")
        token = value.get("token") or value.get("access_token")
        if not isinstance(token, str):
            raise ImageError(f"{_origin(realm)} answers without a token")
        return f"Bearer {token}"

    def _credentials(self, host: str) -> Credentials | None:
        registry = _HUB if host == _HUB_HOST else host
        if self._given and registry == self._image.registry:
            return self._given
        return find_credentials(registry, self._env)


def find_credentials(registry: str, env: Mapping[str, str] = os.environ) -> Credentials | None:
    """Return this machine's credentials for a registry: the variable's, else those of Docker's configuration.

    Raises:
        ImageError: when the configuration cannot be read.
    """
    for pair in env.get(CREDENTIALS, "").split():
        name, _, secret = pair.partition("=")
        if name == registry:
            user, _, password = secret.partition(":")
            return Credentials(user, password)
    home = env.get("HOME") or str(Path.home())
    file = Path(env.get("DOCKER_CONFIG") or Path(home, ".docker")) / "config.json"
    try:
        return _in_config(json.loads(file.read_text(encoding="utf-8")), registry)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ImageError(f"{file} cannot be read as Docker writes it: {error}") from error


def _in_config(config: Any, registry: str) -> Credentials | None:
    """Return the credentials in Docker's configuration. One that Docker has not written raises what Python raises."""
    keys = _HUB_KEYS if registry == _HUB else (registry, f"https://{registry}", f"http://{registry}")
    helpers, store = config.get("credHelpers") or {}, config.get("credsStore")
    auths = config.get("auths") or {}
    for key in keys:
        if helper := helpers.get(key):
            return _ask_helper(str(helper), key)
        if (entry := auths.get(key)) is None:
            continue
        if entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"]).decode("utf-8", "replace").partition(":")
            return Credentials(user, password)
        if entry.get("username"):
            return Credentials(str(entry["username"]), str(entry.get("password", "")))
        if store:
            return _ask_helper(str(store), key)
    return None


def _ask_helper(helper: str, key: str) -> Credentials | None:
    command = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [command, "get"], input=key, capture_output=True, text=True, timeout=30, check=False
        )
        value = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{command}, which Docker's config.json names, does not answer: {error}") from error
    return Credentials(str(value["Username"]), str(value["Secret"])) if value.get("Secret") else None


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """This machine's proxy and certificate authorities count (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE)."""
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context()))


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def _origin(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
