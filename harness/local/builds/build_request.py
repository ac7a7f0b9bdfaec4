"""The request to build a template: the base and the steps. All of it is checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from harness.local.api_errors import bad_body, bad_request
from harness.local.control.body import Body
from harness.local.images.registry import Credentials
from harness.local.network.policy import NetworkPolicy, NetworkPolicyError
from harness.local.template import StartCommand

StepKind = Literal["RUN", "COPY", "ENV", "WORKDIR", "USER"]

_ARGUMENT_COUNTS: Mapping[StepKind, range] = {
    "RUN": range(1, 3),
    "COPY": range(2, 5),
    "ENV": range(2, 1000, 2),
    "WORKDIR": range(1, 2),
    "USER": range(1, 2),
}
HOSTS_FIELD = "Harness-Network"
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Step:
    """One instruction."""

    kind: StepKind
    args: tuple[str, ...]
    files_hash: str | None = None
    """The hash of the uploaded archive, for COPY only."""
    force: bool = False
    """Run the step even if its result is cached."""

    @property
    def text(self) -> str:
        """The step as a line of a Dockerfile."""
        return f"{self.kind} {' '.join(filter(None, self.args))}"

    def cache_key(self, before: str) -> str:
        """Return the hash of all steps up to this one, given the hash of those before it."""
        content = json.dumps([before, self.kind, self.args, self.files_hash])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class BuildRequest:
    """A client's request to build a template."""

    image: str | None
    template: str | None
    """Exactly one of `image` and `template` is given."""
    steps: tuple[Step, ...]
    start: StartCommand | None
    force: bool
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    ca: Path | None = None
    credentials: Credentials | None = None
    """For the image's registry."""


def parse_build_request(body: Body, hosts: str = "") -> BuildRequest:
    """Parse the body of a build request. Raises `ApiError` 400.

    `hosts` (with commas) are reached beside the internet: an extension, the header field of HOSTS_FIELD.
    """
    image, template = body.string("fromImage") or None, body.string("fromTemplate") or None
    if (image is None) == (template is None):
        raise bad_request("exactly one of fromImage and fromTemplate must be given")
    command, ready = body.string("startCmd") or None, body.string("readyCmd") or None
    return BuildRequest(
        image,
        template,
        tuple(_parse_steps(body)),
        StartCommand(command, ready) if command or ready else None,
        bool(body.boolean("force")),
        _parse_policy(hosts),
        credentials=_parse_credentials(body.raw().get("fromImageRegistry")),
    )


def _parse_policy(hosts: str) -> NetworkPolicy:
    try:
        return NetworkPolicy.open_with(tuple(filter(None, hosts.split(","))))
    except NetworkPolicyError as error:
        raise bad_request(str(error)) from error


def _parse_credentials(given: Any) -> Credentials | None:
    if not given:
        return None
    if not isinstance(given, dict) or given.get("type") != "registry":
        raise bad_request(
            "of the registries that need credentials, those with a user name and a password can be used"
        )
    return Credentials(str(given.get("username", "")), str(given.get("password", "")))


def _parse_steps(body: Body) -> Iterator[Step]:
    steps: Any = body.raw().get("steps") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise bad_body("steps must be a list of objects")
    for number, step in enumerate(map(Body, steps), 1):
        kind, args = step.string("type"), tuple(step.strings("args") or ())
        if kind not in get_args(StepKind):
            raise bad_body(f"step {number}: unknown type {kind!r}")
        checked: StepKind = kind  # type: ignore[assignment]  # one of StepKind's, as just checked
        if len(args) not in _ARGUMENT_COUNTS[checked] or any("\0" in arg for arg in args):
            raise bad_body(f"step {number}: {kind} cannot have the arguments {list(args)}")
        files_hash = step.string("filesHash")
        if (kind == "COPY") != bool(files_hash and HASH.fullmatch(files_hash)):
            raise bad_body(f"step {number}: COPY, and nothing else, has a filesHash of 64 hexadecimal digits")
        yield Step(checked, args, files_hash, bool(step.boolean("force")))
