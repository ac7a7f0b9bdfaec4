"""One build step, done in a box."""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.local.boxes.box import Box
from harness.local.boxes.types import UnknownUser
from harness.local.builds.build_request import Step
from harness.local.builds.store import Layer
from harness.local.control.startup import forward_lines

_COPY_SCRIPT = Path(__file__).with_name("copy.sh")
_APT = re.compile(
    r"apt-get update && DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -y "
    r"((?:--[a-z-]+ )*)(?P<packages>[a-z0-9][a-z0-9.+\- ]*)"
)
_INSTALLER = re.compile(r"\b(apt-get|apt|dpkg|yum|dnf|apk|pacman)\b")

OnLine = Callable[[str], None]


class StepFailed(Exception):
    """A step cannot be run, or its command failed. The message is for the author of the template."""


@dataclass(frozen=True)
class StepContext:
    """The box, the log and the archives that a step uses."""

    box: Box
    on_line: OnLine
    archives: Callable[[str], Path]
    """Returns the path of the uploaded archive with this hash."""


async def run_step(context: StepContext, step: Step, layer: Layer) -> Layer:
    """Run a step in the box. Returns the layer with the changes that are not files. Raises StepFailed, BoxError."""
    match step.kind:
        case "RUN":
            await _run(context, step, layer)
            return layer
        case "COPY":
            await _copy(context, step, layer)
            return layer
        case "ENV":
            return replace(layer, env={**layer.env, **await _expand_env(context, step, layer)})
        case "WORKDIR":
            workdir = posixpath.join(layer.workdir, await _expand(context, step.args[0], layer))
            await _make_workdir(context.box, workdir, layer.user)
            return replace(layer, workdir=posixpath.normpath(workdir))
        case "USER":
            await _check_user(context.box, step.args[0])
            return replace(layer, user=step.args[0])


async def _check_user(box: Box, user: str) -> None:
    try:
        await box.learn_user(user)
    except UnknownUser as error:
        raise StepFailed(str(error)) from error


async def _run(context: StepContext, step: Step, layer: Layer) -> None:
    command = step.args[0]
    user = step.args[1] if len(step.args) > 1 else layer.user
    await _check_user(context.box, user)
    if installed := _installed_apt_packages(command):
        context.on_line(f"this machine has {installed}: nothing to install")
        return
    code = await _run_bash(context, [command], layer, user)
    if code != 0:
        message = f"failed to run command '{command}': exit status {code}"
        if context.box.tier != "namespaces" and (tool := _INSTALLER.search(command)):
            message += (
                f". {tool[1]} cannot install packages in the {context.box.tier} tier of isolation, whose sandboxes "
                "share this machine's /usr and may not write to it: install them on this machine, or build on E2B"
            )
        raise StepFailed(message)


async def _run_bash(context: StepContext, script: list[str], layer: Layer, user: str) -> int:
    """Run `bash -l -c SCRIPT ARGS...` and pass on its lines. Returns the exit code."""
    argv = ["/bin/bash", "-l", "-c", *script]
    process = await context.box.spawn(argv, env=layer.env, cwd=layer.workdir, user=user)
    await forward_lines(process, context.on_line)
    return (await process.wait()).exit_code


def _installed_apt_packages(command: str) -> str:
    """Return the packages of the SDK's apt_install command if all of them are installed on this machine, else ""."""
    match = _APT.fullmatch(command.strip())
    if match is None:
        return ""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", "--", *match["packages"].split()]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return match["packages"] if set(done.stdout.split()) == {"installed"} else ""


async def _copy(context: StepContext, step: Step, layer: Layer) -> None:
    """Upload the archive and unpack it inside the box, so that links in it lead nowhere outside."""
    source, target, owner, mode = (*step.args, "", "")[:4]
    archive = context.archives(step.files_hash or "")
    staging = f"/tmp/.harness-copy-{secrets.token_hex(8)}"
    try:
        await _upload(context.box, archive, f"{staging}/archive")
    except FileNotFoundError as error:
        raise StepFailed(f"the files of {step.text} have not been uploaded") from error
    target = await _expand(context, target, layer)
    script = [_COPY_SCRIPT.read_text(), "copy", context.box.paths.outside(staging), source, target, mode]
    # As on E2B root copies, and gives the files to the user of the step.
    owner = (owner or layer.user) if context.box.has_accounts else ""
    user = "root" if context.box.has_accounts else layer.user
    if await _run_bash(context, [*script, owner], layer, user) != 0:
        raise StepFailed(f"failed to {step.text}")


async def _upload(box: Box, source: Path, path: str) -> None:
    with source.open("rb") as file:
        fd = await box.files.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, parents=True)
        with os.fdopen(fd, "wb") as target:
            await asyncio.to_thread(shutil.copyfileobj, file, target)


async def _expand_env(context: StepContext, step: Step, layer: Layer) -> Mapping[str, str]:
    names, values = step.args[::2], step.args[1::2]
    if bad := next((name for name in names if not name or "=" in name), None):
        raise StepFailed(f"{bad!r} cannot be the name of a variable")
    return {name: await _expand(context, value, layer) for name, value in zip(names, values, strict=True)}


async def _expand(context: StepContext, text: str, layer: Layer) -> str:
    """Expand the build's variables in a text, as the shell does."""
    if "$" not in text:
        return text
    output: list[str] = []
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
    code = await _run_bash(
        replace(context, on_line=output.append), [f'printf %s "{quoted}"'], layer, layer.user
    )
    if code != 0:
        raise StepFailed(f"{text!r} cannot be expanded: {' '.join(output)}")
    return "\n".join(output)


async def _make_workdir(box: Box, path: str, user: str) -> None:
    try:
        await box.files.make_dir(path, user)
    except OSError as error:
        raise StepFailed(f"the folder {path} cannot be made: {error}") from error
