"""From options to the context that a run's trials share: sandbox platform, model, results folder."""

from __future__ import annotations

import contextlib
import os
import platform as machine
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import __version__
from harness.agents.registry import agent_class
from harness.errors import UsageError
from harness.local import shared_server
from harness.local.launch import LocalServer, LocalServerError, StartingServer
from harness.local.shared_files import claude_versions_folder
from harness.local.shared_server import SharedServer
from harness.local.state import StartError, default_root, remove_built
from harness.local.tier import probe_tier
from harness.models.model import (
    NO_MODEL,
    EarlierTranscript,
    Model,
    api_model,
    has_key,
    move_key_to_platform,
    replay_model,
)
from harness.records.files import file_below
from harness.records.reading import find_run, read_records
from harness.records.store import RunFolder
from harness.runs.client import RunAddress
from harness.runs.options import Options, uses_local
from harness.runs.request import RunRequest
from harness.runs.secrets import SECRETS, redactor_of_machine
from harness.sandboxes.platform import FULL_TIERS, Platform, e2b_platform, names_this_machine
from harness.sandboxes.templates import Templates
from harness.tasks.gitcommand import local_git
from harness.tasks.gitrepo import Repos
from harness.tasks.hosts import is_loopback
from harness.trials.context import RunContext
from harness.variants.texts import texts_of


@dataclass(frozen=True)
class RunResources:
    """The context of a run's trials, and the local server when this process started one."""

    context: RunContext
    server: LocalServer | SharedServer | None

    def close(self) -> None:
        """Stop the server, which ends its sandboxes, and remove clones that no other process uses."""
        self.context.repos.close()
        if self.server:
            self.server.stop()


def join_run_resources(options: Options, address: RunAddress, request: RunRequest) -> RunResources:
    """Open the resources of a run again, in another process than the one that has started it."""
    options = replace(options, results=address.results)
    return open_run_resources(options, address.run_id, request, platform=address.platform)


def open_run_resources(
    options: Options,
    run_id: str,
    request: RunRequest,
    *,
    platform: Platform | None = None,
    starting: StartingServer | None = None,
) -> RunResources:
    """Start what is needed, on `platform` where it is there already, or with the server that is `starting`.

    Raises:
        UsageError: when something asked for cannot be had.
    """
    secrets = request.secrets(os.environ)
    server = None
    if platform is None and uses_local(options):
        server = _local_server(options, starting)
        platform = local_platform(server)
    platform = platform or remote_platform()
    try:
        model = choose_model(options, loopback=platform.is_here, can_inject=can_inject_headers(platform))
        hidden = sorted({*secrets, *request.task_secrets})
        redact = redactor_of_machine(os.environ, hidden).knowing(model.secrets)
        folder = RunFolder.create(options.results, run_id, _about(options, request, platform, model), redact)
    except BaseException:
        if server:
            server.stop()
        raise
    repos = Repos(folder.path / "repos")
    templates = templates_of(platform, folder)
    return RunResources(
        RunContext(
            platform,
            model,
            folder,
            repos,
            templates,
            _git_commit(),
            secrets=secrets,
            keep=options.keep,
            keep_work=options.keep_work,
        ),
        server,
    )


def templates_of(platform: Platform, folder: RunFolder) -> Templates:
    """The templates of a run."""
    logs, cache = folder.path / "templates", claude_versions_folder()
    return Templates(platform, logs, claude_cache=cache, redact=folder.redact)


def remote_platform() -> Platform:
    """The server that E2B's own variables name; with its tier, where it is a local server of the harness.

    Raises:
        UsageError: without a key.
    """
    platform = e2b_platform()
    # Local servers listen on loopback alone, and one elsewhere may let whoever asks it wait.
    tier = probe_tier(os.environ["E2B_API_URL"]) if names_this_machine() else None
    if tier is None:
        return platform
    return replace(platform, isolation=tier.name, enforces=tier.enforces, shortcoming=tier.shortcoming)


def local_platform(server: LocalServer | SharedServer) -> Platform:
    """The platform of a server on this machine."""
    return Platform(
        "local",
        {"api_url": server.url, "sandbox_url": server.url, "api_key": server.api_key},
        server.isolation,
        tuple(server.enforces),
        server.shortcoming,
    )


@contextlib.contextmanager
def platform_of(options: Options) -> Iterator[Platform]:
    """The platform that options ask for, while this is open.

    Raises:
        UsageError: when it cannot be had.
    """
    if not uses_local(options):
        yield remote_platform()
        return
    server = _local_server(options)
    try:
        yield local_platform(server)
    finally:
        server.stop()


def shared_platform() -> Platform:
    """The local server that keeps sandboxes.

    Raises:
        UsageError: when there is none any more.
    """
    server = shared_server.find()
    if server is None:
        raise UsageError(
            "the local server that kept this sandbox has ended, and with it the sandbox",
            remedy="run the trial again with --keep",
        )
    return local_platform(server)


def acquire_shared_server() -> SharedServer | None:
    """The local server that keeps sandboxes, if there is one; to be stopped by the caller.

    Raises:
        UsageError: when the user's folder for it cannot be used.
    """
    try:
        return shared_server.acquire()
    except LocalServerError as error:
        raise UsageError(error.message, remedy=error.remedy) from error


def remove_built_images() -> list[Path]:
    """Remove the images and templates of this user's servers, and return their folders.

    Raises:
        UsageError: while one of them runs.
    """
    try:
        return remove_built(default_root())
    except StartError as error:
        raise UsageError(error.message, remedy=error.remedy) from error


def _local_server(options: Options, starting: StartingServer | None = None) -> LocalServer | SharedServer:
    try:
        if options.keep != "none":
            return shared_server.acquire_or_start(options.isolation)
        return (starting or StartingServer(options.isolation)).ready()
    except LocalServerError as error:
        raise UsageError(f"the local sandbox server did not start: {error}", remedy=error.remedy) from error


def default_concurrency(*, local: bool) -> int:
    """The sandboxes that E2B's smallest plan allows at once; on this machine, one a core."""
    return os.cpu_count() or 1 if local else 20


def can_inject_headers(platform: Platform) -> bool:
    """Tell whether a platform is known to put keys on requests outside its sandboxes.

    E2B's cloud does, and this machine where sandboxes have networks of their own. A self-hosted E2B may.
    """
    if platform.kind == "local":
        return platform.isolation in FULL_TIERS
    return not os.environ.get("E2B_API_URL") and os.environ.get("E2B_DOMAIN", "e2b.app") == "e2b.app"


def choose_model(options: Options, *, loopback: bool, can_inject: bool = False) -> Model:
    """The model's source: what was asked for, else the API where there is a key, else recorded sessions.

    Raises:
        UsageError: when it cannot be had.
    """
    if not agent_class(options.agent).needs_model:
        return NO_MODEL
    if options.model_source == "api" or (options.model_source == "auto" and has_key() and not options.replay):
        if options.replay:
            raise UsageError("--replay does not go with --model-source api", remedy="leave one of them out")
        model = api_model(loopback=loopback)
        _require_listener(model)
        if options.model_key == "platform" or (options.model_key == "auto" and can_inject):
            return move_key_to_platform(model, asked=options.model_key == "platform", by_origin=loopback)
        return model
    return replay_model(_recordings(options) if options.replay else None)


def _require_listener(model: Model) -> None:
    """Make sure that a model's API on this machine is there: no trial could do anything without.

    Raises:
        UsageError: when nothing listens at its address.
    """
    for host in model.hosts:
        address, _, port = host.rpartition(":")
        if not is_loopback(address) or any(_is_listening(here, int(port)) for here in ("127.0.0.1", "::1")):
            continue
        raise UsageError(
            f"nothing listens on port {port} of this machine's loopback, where the model's API should be",
            remedy="start it, or correct ANTHROPIC_BASE_URL",
        )


def _is_listening(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def _recordings(options: Options) -> Mapping[str, EarlierTranscript]:
    """A transcript for each task of an earlier run: of a passed trial where there is one."""
    run = find_run(options.results, options.replay)
    records = sorted(
        read_records(run.path).records, key=lambda record: (record.outcome != "passed", record.index)
    )
    transcripts: dict[str, EarlierTranscript] = {}
    for record in records:
        transcript = file_below(run.path, record.transcript) if record.transcript else None
        if transcript and transcript.is_file():
            transcripts.setdefault(
                record.task, EarlierTranscript(transcript, by_hand=bool(record.replay_by_hand))
            )
    if not transcripts:
        raise UsageError(
            f"run {run.id} has no transcripts to replay", remedy="name a run of the agent `claude`"
        )
    return transcripts


def _about(options: Options, request: RunRequest, platform: Platform, model: Model) -> dict[str, Any]:
    return {
        "harness_version": __version__,
        "agent": options.agent,
        "model_source": model.source,
        "sandbox": platform.description,
        "trials": options.trials,
        **({"until_decided": {"max_trials": options.max_trials}} if options.until_decided else {}),
        SECRETS: sorted(
            {name for variant in request.variants for name in variant.secrets} | {*request.task_secrets}
        ),
        "command": request.command,
        "variants": {variant.name: variant.as_record() for variant in request.variants},
        "texts": {variant.name: texts for variant in request.variants if (texts := texts_of(variant))},
        "tasks": {
            name: {"description": task.description, "tags": list(task.tags)}
            for name, task in request.tasks.items()
        },
        "seed": request.seed,
        "python": machine.python_version(),
        "machine": f"{machine.system()} {machine.release()} {machine.machine()}",
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this is run in; None outside of one."""
    with contextlib.suppress(UsageError):
        done = local_git(Path(), "rev-parse", "HEAD")
        return done.stdout.decode().strip() if done.returncode == 0 else None
    return None
