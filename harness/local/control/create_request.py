"""The request to create a sandbox, parsed from its JSON body. All of its fields are checked here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.local.api_errors import bad_body, bad_request, not_on_this_server
from harness.local.control.body import Body
from harness.local.control.catalog import Catalog
from harness.local.limits import BoxLimits
from harness.local.network.policy import Injection, NetworkPolicy, NetworkPolicyError
from harness.local.template import Template, with_mcp_gateway

CA_FIELD = "Harness-CA"
DEFAULT_TIMEOUT_S = 300
LIMIT_PREFIX = "harness_"
MAX_TIMEOUT_HOURS = 24
"""The longest lifetime of a sandbox on E2B's larger plan."""

_UNSUPPORTED = {
    "iam": ("Workload identity (iam)", "have a rule of `network` add a key of yours to requests"),
    "volumeMounts": (
        "Mounting a volume (volume_mounts)",
        "put files into a template (Template().copy), or write and read them with sandbox.files",
    ),
}
_UNSUPPORTED_NETWORK = {
    "maskRequestHost": (
        "Another host name for a sandbox's ports (mask_request_host)",
        "requests have the name under which they came, or the Host header that their client sends",
    ),
    "httpsPorts": ("TLS towards a sandbox's ports (https_ports)", "serve plain HTTP there"),
    "dnsServers": (
        "Name servers of a sandbox's own (dns_servers)",
        "this machine looks up the names of hosts that the sandbox may reach; name those hosts in allow_out",
    ),
    "egressProxy": (
        "Tunnelling a sandbox's traffic through a proxy (egress_proxy)",
        "name the hosts that it may reach in allow_out",
    ),
}


@dataclass(frozen=True)
class CreateRequest:
    """The client's request for a sandbox. It is kept for resume, fork and info."""

    template: Template
    ca: Path | None = None
    """A file of this machine with certificates that programs in the sandbox trust too."""
    seed: Path | None = None
    """The folder of a snapshot whose files the sandbox starts with."""
    timeout: int = DEFAULT_TIMEOUT_S
    metadata: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    limits: BoxLimits = field(default_factory=BoxLimits)
    network: Mapping[str, Any] | None = None
    """The unchanged network part of the request, for replies."""
    allow_internet_access: bool | None = None
    public_traffic: bool = True
    """True if every client that knows the sandbox's id may connect to its ports."""
    secure: bool = True
    pause_on_timeout: bool = False
    keep_memory: bool = True
    """True if the pause on timeout keeps the processes, frozen; False if it keeps only the files."""
    auto_resume: bool = False


def parse_create_request(body: Body, catalog: Catalog, secure: bool) -> CreateRequest:
    """Parse a create request.

    Raises `ApiError`: 400 for a bad field, 404 for an unknown template, 501 for a feature that this server lacks.
    """
    template_id = body.string("templateID")
    if not template_id:
        raise bad_body("templateID is required")
    _reject_unsupported(body, _UNSUPPORTED)
    pause_on_timeout = bool(body.boolean("autoPause"))
    auto_resume = body.object("autoResume")
    metadata = body.string_map("metadata")
    network = body.object("network")
    allow_internet_access = body.boolean("allow_internet_access")
    source = catalog.find_source(template_id)
    return CreateRequest(
        template=with_mcp_gateway(source.template) if body.object("mcp") else source.template,
        seed=source.seed,
        timeout=parse_timeout(body),
        metadata=metadata,
        limits=parse_limits(metadata).within(source.template.limits),
        env=_parse_env(body),
        policy=parse_network_policy(network or Body({}), allow_internet_access),
        network=None if network is None else network.raw(),
        allow_internet_access=allow_internet_access,
        public_traffic=network is None or network.boolean("allowPublicTraffic") is not False,
        secure=secure,
        pause_on_timeout=pause_on_timeout,
        keep_memory=body.boolean("autoPauseMemory") is not False,
        auto_resume=bool(auto_resume and auto_resume.boolean("enabled")),
    )


def parse_ca(path: str | None) -> Path | None:
    """Check the header field that names a file with certificates. Raises `ApiError` 400."""
    if not path:
        return None
    try:
        Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise bad_request(f"{CA_FIELD}: {path} cannot be read: {error}") from error
    return Path(path)


def parse_limits(metadata: Mapping[str, str]) -> BoxLimits:
    """Parse the bounds that a sandbox's metadata asks for. Raises `ApiError` 400.

    E2B's protocol has bounds of templates alone. As an extension these keys bound one sandbox; E2B keeps them as tags.
    """
    given: dict[str, float] = {}
    for name in ("cpus", "memory_mb", "disk_mb"):
        text = metadata.get(LIMIT_PREFIX + name)
        if text is None:
            continue
        number = float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,3})?", text) else 0
        if number <= 0 or (name != "cpus" and number < 16):
            raise bad_request(
                f"metadata {LIMIT_PREFIX}{name}: {text!r} is no bound: a number, in MiB from 16 on"
            )
        given[name] = number
    memory, disk = given.get("memory_mb"), given.get("disk_mb")
    return BoxLimits(
        memory_mb=int(memory) if memory else None, cpus=given.get("cpus"), disk_mb=int(disk) if disk else None
    )


def parse_timeout(body: Body) -> int:
    """Parse the sandbox's lifetime in seconds. Raises `ApiError` 400."""
    seconds = body.integer("timeout", minimum=0)
    if seconds is None:
        return DEFAULT_TIMEOUT_S
    if seconds > MAX_TIMEOUT_HOURS * 3600:
        raise bad_request(f"Timeout cannot be greater than {MAX_TIMEOUT_HOURS} hours")
    return seconds


def parse_network_policy(network: Body, allow_internet_access: bool | None) -> NetworkPolicy:
    """Parse the network rules. Raises `ApiError`: 400 for a bad rule, 501 for an unsupported kind."""
    _reject_unsupported(network, _UNSUPPORTED_NETWORK)
    try:
        return NetworkPolicy(
            allow_internet_access=allow_internet_access is not False,
            allow_out=tuple(network.strings("allowOut") or ()),
            deny_out=tuple(network.strings("denyOut") or ()),
            injections=tuple(_parse_injections(network)),
        )
    except NetworkPolicyError as error:
        raise bad_request(str(error)) from error


def _reject_unsupported(body: Body, known: Mapping[str, tuple[str, str]]) -> None:
    for name, (what, instead) in known.items():
        if body.raw().get(name):
            raise not_on_this_server(what, instead)


def _parse_injections(network: Body) -> Iterator[Injection]:
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


def _parse_env(body: Body) -> dict[str, str]:
    env = body.string_map("envVars")
    if bad := next((name for name in env if not name or "=" in name), None):
        raise bad_body(f"envVars: {bad!r} cannot be the name of a variable")
    return env
