"""A test of an engine that speaks E2B's protocol: each thing that harness needs of it is tried."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from e2b import AsyncSandbox, AsyncTemplate, Template, exceptions
from e2b.sandbox.sandbox_api import SandboxQuery

from harness.errors import SandboxFault
from harness.sandboxes.building import PREFIX, remove
from harness.sandboxes.canary import Canary, Run, reaches, try_network
from harness.sandboxes.creating import create_error
from harness.sandboxes.faults import raising_faults, to_fault
from harness.sandboxes.platform import Network, Platform

_PROBE_S, _BUILD_S, _LIFETIME_S = 90.0, 600.0, 300
_BIG = 10 * 1024 * 1024
_TAG = "harness_doctor"


@dataclass(frozen=True)
class ProbeResult:
    """One thing that was tried. `answer` is None where it could not be told."""

    name: str
    answer: bool | None
    said: str = ""
    remedy: str = ""


@dataclass
class Examination:
    """An engine under examination: what was made there, and for how long it was there."""

    platform: Platform
    template: str
    is_here: bool
    """True if it runs on this machine, and can be given a way to this machine's loopback."""
    tag: str = field(default_factory=lambda: secrets.token_hex(6))
    sandbox: AsyncSandbox | None = None
    made: int = 0
    seconds: float = 0.0
    _born: dict[str, float] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of each call of the SDK."""
        return dict(self.platform.params)

    async def create(self, template: str | None = None, network: Network | None = None) -> AsyncSandbox:
        """A sandbox of this examination's."""
        options = network.options() if network else {}
        made = await AsyncSandbox.create(
            template or self.template,
            timeout=_LIFETIME_S,
            metadata={_TAG: self.tag},
            **options,
            **self.params,
        )
        self.took(made)
        return made

    @contextlib.asynccontextmanager
    async def opened(self, network: Network) -> AsyncIterator[Run]:
        """A sandbox that may reach what it is given, for commands."""
        sandbox = await self.create(network=network)

        async def run(command: str) -> str:
            return (await sandbox.commands.run(command, timeout=30)).stdout

        try:
            yield run
        finally:
            await self.kill(sandbox)

    def took(self, sandbox: AsyncSandbox) -> None:
        """Count a sandbox that is there."""
        self.made += 1
        self._born[sandbox.sandbox_id] = time.monotonic()

    async def kill(self, sandbox: AsyncSandbox) -> None:
        """End a sandbox, whatever comes of it: it ends with its lifetime at the latest."""
        self.seconds += time.monotonic() - self._born.pop(sandbox.sandbox_id, time.monotonic())
        with contextlib.suppress(Exception):
            async with asyncio.timeout(30):
                await sandbox.kill()


async def examine(
    platform: Platform, template: str, *, is_here: bool
) -> tuple[list[ProbeResult], Examination]:
    """Try everything, one after another. What stands on something that does not work is not tried."""
    of = Examination(platform, template, is_here)
    findings = [*await _reach(of)]
    if not findings[-1].answer:
        return findings, of
    findings += await _create(of)
    try:
        for name, probe, remedy in _PROBES:
            if of.sandbox is None and name not in _WITHOUT_SANDBOX:
                findings.append(ProbeResult(name, None, "not tried: there is no sandbox"))
            else:
                findings.append(await _tried(name, probe, of, remedy))
    finally:
        if of.sandbox:
            await of.kill(of.sandbox)
    return findings, of


Probe = Callable[[Examination], Awaitable[str | ProbeResult]]


async def _tried(name: str, probe: Probe, of: Examination, remedy: str) -> ProbeResult:
    """A probe's finding: what it says, or the error that ended it."""
    seconds = _BUILD_S if name == "template build" else _PROBE_S
    start = time.monotonic()
    try:
        with raising_faults(name):
            async with asyncio.timeout(seconds):
                said = await probe(of)
    except (SandboxFault, _Wrong) as error:
        return ProbeResult(
            name, False, error.message if isinstance(error, SandboxFault) else str(error), remedy
        )
    if isinstance(said, ProbeResult):
        return said
    return ProbeResult(name, True, f"{time.monotonic() - start:.1f} s{', ' if said else ''}{said}")


class _Wrong(Exception):
    """The engine did it, and did it wrong."""


def _expect(condition: bool, words: str) -> None:
    if not condition:
        raise _Wrong(words)


async def _reach(of: Examination) -> list[ProbeResult]:
    try:
        async with asyncio.timeout(20):
            await AsyncSandbox.list(limit=1, **of.params).next_items()
    except Exception as error:
        fault = to_fault(error, "list sandboxes")
        if fault is None:
            raise
        if isinstance(error, exceptions.AuthenticationException):
            return [
                ProbeResult("reachable", True),
                ProbeResult("key valid", False, fault.message, "check E2B_API_KEY"),
            ]
        if fault.kind in ("connection", "timeout", "unreachable"):
            remedy = "check E2B_API_URL, E2B_SANDBOX_URL and E2B_DOMAIN"
            return [ProbeResult("reachable", False, fault.message, remedy)]
        words = f"listing sandboxes fails: {fault.message}"
        return [ProbeResult("reachable", True), ProbeResult("key valid", True, words)]
    return [ProbeResult("reachable", True), ProbeResult("key valid", True)]


async def _create(of: Examination) -> list[ProbeResult]:
    """Create a sandbox. If there is none to be had, tell whether the engine lacks the route, or the template."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(_PROBE_S):
            of.sandbox = await of.create()
    except Exception as error:
        fault = create_error(error, of.template) or to_fault(error, "create")
        if fault is None:
            raise
        if fault.kind == "api_level":
            return [
                ProbeResult("API level", False, fault.message, fault.remedy or ""),
                ProbeResult("create", False, "see API level"),
            ]
        return [
            ProbeResult("API level", None),
            ProbeResult("create", False, fault.message, fault.remedy or ""),
        ]
    took = f"{time.monotonic() - start:.1f} s"
    return [ProbeResult("API level", True, "POST /v2/sandboxes"), ProbeResult("create", True, took)]


async def _exec(of: Examination) -> str:
    done = await _the(of).commands.run("echo out; echo err >&2; exit 0")
    _expect(
        (done.stdout, done.stderr) == ("out\n", "err\n"), f"it printed {done.stdout!r} and {done.stderr!r}"
    )
    return ""


async def _stream(of: Examination) -> str:
    heard: list[str] = []
    first = asyncio.Event()

    def hear(text: str) -> None:
        heard.append(text)
        first.set()

    script = "echo first; while [ ! -e $HOME/harness-doctor-go ]; do sleep 0.05; done; echo second"
    handle = await _the(of).commands.run(script, background=True, on_stdout=hear, timeout=60)
    try:
        async with asyncio.timeout(20):
            await first.wait()
    except TimeoutError as error:
        raise _Wrong("output comes only when the command has ended") from error
    await _the(of).commands.run("touch $HOME/harness-doctor-go")
    await handle.wait()
    _expect("".join(heard) == "first\nsecond\n", f"it was {''.join(heard)!r}")
    return ""


async def _file(of: Examination) -> str:
    data = os.urandom(_BIG)
    await _the(of).files.write("/tmp/harness-doctor-file", data)
    back = await _the(of).files.read("/tmp/harness-doctor-file", format="bytes")
    _expect(bytes(back) == data, "another content came back")
    return ""


async def _root(of: Examination) -> str:
    done = await _the(of).commands.run("id -u", user="root")
    _expect(done.stdout.strip() == "0", f"root has the id {done.stdout.strip()}")
    done = await _the(of).commands.run("id -un")
    return f"the default account is {done.stdout.strip()}"


async def _pause(of: Examination) -> str:
    sandbox = _the(of)
    await sandbox.files.write("/tmp/harness-doctor-kept", b"kept")
    await sandbox.pause()
    await sandbox.connect(timeout=_LIFETIME_S)
    _expect(await sandbox.files.read("/tmp/harness-doctor-kept") == "kept", "a file is gone after it")
    return ""


async def _snapshot(of: Examination) -> str:
    sandbox = _the(of)
    await sandbox.files.write("/home/user/harness-doctor-snap", b"snap")
    made = await sandbox.create_snapshot(f"harness-doctor-{of.tag}")
    try:
        copy = await of.create(made.snapshot_id)
        try:
            found = await copy.files.read("/home/user/harness-doctor-snap")
            _expect(found == "snap", "a sandbox made from it lacks its files")
        finally:
            await of.kill(copy)
    finally:
        await AsyncSandbox.delete_snapshot(made.snapshot_id, **of.params)
    return ""


async def _fork(of: Examination) -> str:
    (copy,) = await _the(of).fork(timeout=_LIFETIME_S, count=1)
    if isinstance(copy, Exception):
        raise copy
    of.took(copy)
    await of.kill(copy)
    return ""


async def _list(of: Examination) -> str:
    query = SandboxQuery(metadata={_TAG: of.tag})
    found = await AsyncSandbox.list(query=query, **of.params).next_items()
    ids = [one.sandbox_id.partition("-")[0] for one in found]
    others = [one for one in found if (one.metadata or {}).get(_TAG) != of.tag]
    _expect(not others, f"{len(others)} sandboxes that are not asked for came too: the filter is ignored")
    _expect(_the(of).sandbox_id.partition("-")[0] in ids, "the sandbox is not among those with its metadata")
    return ""


async def _build(of: Examination) -> str:
    name = f"{PREFIX}doctor-{of.tag}"
    template = Template().from_template(of.template).run_cmd("echo built >$HOME/harness-doctor")
    try:
        await AsyncTemplate.build(template, name, **of.params)
    finally:
        with contextlib.suppress(SandboxFault):
            await remove(name, of.params)
    return ""


async def _network(of: Examination) -> ProbeResult:
    found = await try_network(of.opened, is_here=of.is_here)
    remedy = (
        "" if found.answer else "give the engine a network of its own; records say that it is not enforced"
    )
    return ProbeResult("network enforced", found.answer, found.said, remedy)


async def _injection(of: Examination) -> str | ProbeResult:
    """A header that the platform adds outside of the sandbox."""
    if not of.is_here:
        return ProbeResult(
            "key added on the way out", None, "not tried: it takes a server that the engine can reach"
        )
    async with Canary().listening() as canary:
        where, value = canary.where, secrets.token_hex(8)
        network = Network(allow=(where,), headers={where: {"x-harness-doctor": value}})
        async with of.opened(network) as run:
            await reaches(run, where, canary)
        heard = any(value in one for one in canary.heard)
    _expect(
        heard, "the header did not come: run with --model-key sandbox" if canary.heard else "no request came"
    )
    return ""


async def _claude(of: Examination) -> str:
    done = await _the(of).commands.run("claude --version || true")
    _expect(bool(done.stdout.strip()), f"there is no claude in {of.template}: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()


def _the(of: Examination) -> AsyncSandbox:
    assert of.sandbox, "probes without one are not called"
    return of.sandbox


_OLD = "without it, harness goes another way that is slower"
_PROBES: tuple[tuple[str, Probe, str], ...] = (
    ("exec", _exec, "the engine's envd has to speak process.Process/Start"),
    ("stream", _stream, "a proxy in between may buffer: have it stream"),
    ("10 MB file", _file, "a proxy in between may bound the size of bodies"),
    ("root", _root, "checks need the account root in the template"),
    ("pause and resume", _pause, "--keep does not work without it"),
    ("snapshot", _snapshot, f"[setup] {_OLD}"),
    ("fork", _fork, "harness does not need it"),
    ("list by metadata", _list, "harness gc finds leftovers by it"),
    (
        "template build",
        _build,
        "templates that are files cannot be built: build them by the engine's own means",
    ),
    ("network enforced", _network, ""),
    ("key added on the way out", _injection, "--model-key sandbox puts the key into the sandbox"),
    (
        "Claude Code",
        _claude,
        "use a template that has it, or with_claude() of harness.sandboxes.claude_template",
    ),
)
_WITHOUT_SANDBOX = frozenset({"template build"})
