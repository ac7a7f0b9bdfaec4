"""What a client wants built: where to start, and the steps from there, checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from harness.local.api_errors import bad_body, bad_request
from harness.local.control.body import Body
from harness.local.template import StartCommand

StepKind = Literal["RUN", "COPY", "ENV", "WORKDIR", "USER"]

_ARGUMENT_COUNTS: Mapping[StepKind, range] = {
    "RUN": range(1, 3),
    "COPY": range(2, 5),
    "ENV": range(2, 1000, 2),
    "WORKDIR": range(1, 2),
    "USER": range(1, 2),
}
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Step:
    """One instruction."""

    kind: StepKind
    args: tuple[str, ...]
    files_hash: str | None = None
    """For COPY: names the uploaded archive."""
    force: bool = False
    """Do it anew, though the same has been done before."""

    @property
    def text(self) -> str:
        """As a Dockerfile would say it."""
        return f"{self.kind} {' '.join(filter(None, self.args))}"

    def cache_key(self, before: str) -> str:
        """The hash of everything up to and with this step, given that of everything before."""
        said = json.dumps([before, self.kind, self.args, self.files_hash])
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True)
class BuildRequest:
    """All of a template."""

    image: str | None
    template: str | None
    """Exactly one of the two is given."""
    steps: tuple[Step, ...]
    start: StartCommand | None
    force: bool


def parse_build_request(body: Body) -> BuildRequest:
    """What the body of a build request says. Raises `ApiError` 400."""
    image, template = body.string("fromImage") or None, body.string("fromTemplate") or None
    if (image is None) == (template is None):
        raise bad_request("exactly one of fromImage and fromTemplate must be given")
    command, ready = body.string("startCmd") or None, body.string("readyCmd") or None
    return BuildRequest(
        image,
        template,
        tuple(_steps(body)),
        StartCommand(command, ready) if command or ready else None,
        bool(body.boolean("force")),
    )


def _steps(body: Body) -> Iterator[Step]:
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
