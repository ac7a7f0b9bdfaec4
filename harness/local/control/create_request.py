"""From the body of a create request to a `CreateRequest`: everything a client may ask for is checked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.local.api_errors import bad_body, bad_request, not_on_this_server
from harness.local.control.body import Body
from harness.local.control.catalog import Catalog
from harness.local.network.policy import Injection, NetworkPolicy, NetworkPolicyError
from harness.local.template import Template, with_mcp_gateway

DEFAULT_TIMEOUT = 300
MAX_TIMEOUT_HOURS = 24
"""As long as a sandbox may live on E2B's larger plan."""

_NOT_HERE = {
    "iam": ("Workload identity (iam)", "have a rule of `network` add a key of yours to requests"),
    "volumeMounts": (
        "Mounting a volume (volume_mounts)",
        "put files into a template (Template().copy), or write and read them with sandbox.files",
    ),
}
_NO_NETWORK_HERE = {
    "maskRequestHost": (
        "Another host name for a sandbox's ports (mask_request_host)",
        "requests have the name under which they came, or the Host header that their client sends",
    ),
    "httpsPorts": ("TLS towards a sandbox's ports (https_ports)", "serve plain HTTP there"),
    "egressProxy": (
        "Tunnelling a sandbox's traffic through a proxy (egress_proxy)",
        "name the hosts that it may reach in allow_out",
    ),
}


@dataclass(frozen=True)
class CreateRequest:
    """What a client asked for when it created a sandbox; kept for resume, fork and info."""

    template: Template
    seed: Path | None = None
    """The files of a snapshot that it starts from."""
    timeout: int = DEFAULT_TIMEOUT
    metadata: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    network: Mapping[str, Any] | None = None
    """The network part of the request as it came, to be shown again."""
    allow_internet_access: bool | None = None
    public_traffic: bool = True
    """Whether its ports are open to whoever knows its id."""
    secure: bool = True
    pause_on_timeout: bool = False
    keep_memory: bool = True
    """Whether the pause on timeout keeps the processes, frozen, or only the files."""
    auto_resume: bool = False


def parse_create_request(body: Body, catalog: Catalog, secure: bool) -> CreateRequest:
    """What the client asks for. Raises `ApiError`: 400, 404 for an unknown template, 501 for what is not here."""
    template_id = body.string("templateID")
    if not template_id:
        raise bad_body("templateID is required")
    _refuse(body, _NOT_HERE)
    pause_on_timeout = bool(body.boolean("autoPause"))
    auto_resume = body.object("autoResume")
    network = body.object("network")
    allow_internet_access = body.boolean("allow_internet_access")
    source = catalog.find(template_id)
    return CreateRequest(
        template=with_mcp_gateway(source.template) if body.object("mcp") else source.template,
        seed=source.seed,
        timeout=parse_timeout(body),
        metadata=body.string_map("metadata"),
        env=_environment(body),
        policy=parse_network_policy(network or Body({}), allow_internet_access),
        network=None if network is None else network.raw(),
        allow_internet_access=allow_internet_access,
        public_traffic=network is None or network.boolean("allowPublicTraffic") is not False,
        secure=secure,
        pause_on_timeout=pause_on_timeout,
        keep_memory=body.boolean("autoPauseMemory") is not False,
        auto_resume=bool(auto_resume and auto_resume.boolean("enabled")),
    )


def parse_timeout(body: Body) -> int:
    """How long the sandbox may live, in seconds. Raises `ApiError` 400."""
    seconds = body.integer("timeout", minimum=0)
    if seconds is None:
        return DEFAULT_TIMEOUT
    if seconds > MAX_TIMEOUT_HOURS * 3600:
        raise bad_request(f"Timeout cannot be greater than {MAX_TIMEOUT_HOURS} hours")
    return seconds


def parse_network_policy(network: Body, allow_internet_access: bool | None) -> NetworkPolicy:
    """What the sandbox may reach. Raises `ApiError`: 400 for a rule that says nothing, 501 for an unknown kind."""
    _refuse(network, _NO_NETWORK_HERE)
    try:
        return NetworkPolicy(
            allow_internet_access=allow_internet_access is not False,
            allow_out=tuple(network.strings("allowOut") or ()),
            deny_out=tuple(network.strings("denyOut") or ()),
            injections=tuple(_injections(network)),
        )
    except NetworkPolicyError as error:
        raise bad_request(str(error)) from error


def _refuse(body: Body, known: Mapping[str, tuple[str, str]]) -> None:
    for name, (what, instead) in known.items():
        if body.raw().get(name):
            raise not_on_this_server(what, instead)


def _injections(network: Body) -> Iterator[Injection]:
    listed = network.object("rules") or Body({})
    for host, rules in listed.raw().items():
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise bad_body(f"network.rules: {host!r} must have a list of rules")
        for rule in map(Body, rules):
            transform = rule.object("transform") or Body({})
            if unknown := sorted({*rule.raw()} - {"transform"} | {*transform.raw()} - {"headers"}):
                what = f"The network rule {unknown[0]!r} (of {host!r})"
                raise not_on_this_server(what, 'rules add header fields: {"transform": {"headers": {...}}}')
            headers = transform.string_map("headers")
            if any("${e2b." in value for value in headers.values()):
                raise not_on_this_server("Workload identity in network rules (iam)", "add a key of yours")
            if headers:
                yield Injection(host, tuple(headers.items()))


def _environment(body: Body) -> dict[str, str]:
    env = body.string_map("envVars")
    if bad := next((name for name in env if not name or "=" in name), None):
        raise bad_body(f"envVars: {bad!r} cannot be the name of a variable")
    return env
